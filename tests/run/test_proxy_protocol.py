"""The PROXY protocol with those that speak it: nginx and HAProxy in front of nginy, and behind it.

A program that is not installed skips its test. The client has an address of its own, by which it
is found on the other side of two proxies.
"""

import pathlib
import socket
from collections.abc import Iterator

import pytest

from kit.others import load_stream, running_nginx, serving
from kit.program import PATIENCE_S, Nginy, free_port, needs, wait_until

CLIENT = "127.0.0.77"

NGINX_SENDS = """
{load}
daemon off; master_process off; error_log stderr; pid nginx.pid;
events {{ worker_connections 64; }}
stream {{
    server {{ listen {front}; proxy_pass {back}; proxy_protocol on; }}
}}
"""
HAPROXY_SENDS = """
defaults
    mode tcp
    timeout client 9s
    timeout server 9s
    timeout connect 9s
listen front
    bind {front}
    server nginy {back} {option}
"""


NGINX_ACCEPTS = """
daemon off; master_process off; error_log stderr; pid nginx.pid;
events {{ worker_connections 64; }}
http {{
    log_format seen "$proxy_protocol_addr:$proxy_protocol_port $request";
    access_log seen.log seen;
    client_body_temp_path t; proxy_temp_path t; fastcgi_temp_path t;
    uwsgi_temp_path t; scgi_temp_path t;
    server {{
        listen {back} proxy_protocol;
        return 200 "$proxy_protocol_addr:$proxy_protocol_port [$proxy_protocol_server_port]";
    }}
}}
"""
NGINX_STREAM_ACCEPTS = """
{load}
daemon off; master_process off; error_log stderr; pid nginx.pid;
events {{ worker_connections 64; }}
stream {{
    log_format seen "$proxy_protocol_addr:$proxy_protocol_port $protocol";
    access_log seen.log seen;
    server {{
        listen {back} proxy_protocol;
        return "$proxy_protocol_addr:$proxy_protocol_port [$proxy_protocol_server_port]";
    }}
}}
"""
HAPROXY_ACCEPTS = """
global
    log stdout format raw local0
defaults
    mode http
    log global
    option httplog
    timeout client 9s
    timeout server 9s
    timeout connect 9s
listen back
    bind {back} accept-proxy
    http-request return status 200 content-type text/plain lf-string {seen}
"""
HAPROXY_SEES = '"%[src]:%[src_port] [%[dst_port]]"'


@pytest.fixture
def nginy(tmp_path: pathlib.Path, host: str) -> Iterator[tuple[Nginy, str]]:
    """nginy behind proxies, telling its client who it is; and its address."""
    address = f"{host}:{free_port(host)}"
    config = f"""
        listeners:
        - listen: {address}
          accept_proxy_protocol: {{from: 127.0.0.0/8}}
          return: "$remote_addr:$remote_port $realip_remote_addr"
    """
    directory = tmp_path / "nginy"
    directory.mkdir()
    with Nginy(directory, config) as running:
        yield running, address


def ask(address: tuple[str, int]) -> tuple[str, str]:
    """Return what a client gets, and its own address.

    It says nothing: a proxy that closes before it has read everything resets the connection, and
    the reset may overtake the answer.
    """
    sock = socket.create_connection(address, PATIENCE_S, source_address=(CLIENT, 0))
    with sock, sock.makefile() as file:
        return file.read(), "{}:{}".format(*sock.getsockname())


@pytest.mark.slow
def test_a_client_is_seen_through_nginx(
    nginy: tuple[Nginy, str], host: str, tmp_path: pathlib.Path
) -> None:
    front = (host, free_port(host))
    text = NGINX_SENDS.format(load=load_stream(), front="{}:{}".format(*front), back=nginy[1])
    with running_nginx(text, front, tmp_path):
        answer, own = ask(front)
    assert answer == f"{own} 127.0.0.1"


@pytest.mark.slow
@pytest.mark.parametrize("option", ["send-proxy", "send-proxy-v2"])
def test_a_client_is_seen_through_haproxy(
    nginy: tuple[Nginy, str], host: str, tmp_path: pathlib.Path, option: str
) -> None:
    program = needs("haproxy", "haproxy")
    front = (host, free_port(host))
    text = HAPROXY_SENDS.format(front="{}:{}".format(*front), back=nginy[1], option=option)
    (tmp_path / "haproxy.cfg").write_text(text)
    with serving((program, "-db", "-f", "haproxy.cfg"), front, tmp_path):
        answer, own = ask(front)
    assert answer == f"{own} 127.0.0.1"


def seen_behind(
    back: str,
    version: str,
    directory: pathlib.Path,
    host: str,
    check: str = "{type: http, interval: 100ms}",
    request: bytes = b"GET / HTTP/1.0\r\n\r\n",
) -> tuple[str, str]:
    """Return what a server behind nginy says about its client, and the truth."""
    front = (host, free_port(host))
    config = f"""
        listeners:
        - {{listen: "{front[0]}:{front[1]}", proxy_pass: web, proxy_protocol: {version}}}
        upstreams: {{web: {{backends: "{back}", health_check: {check}}}}}
    """
    with (
        Nginy(directory, config),
        socket.create_connection(front, PATIENCE_S, source_address=(CLIENT, 0)) as sock,
    ):
        sock.sendall(request)
        with sock.makefile() as file:
            answer = file.read().rpartition("\n")[2]
        return answer, "{}:{} [{}]".format(*sock.getsockname(), front[1])


@pytest.mark.slow
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_nginx_behind_nginy_sees_the_client(
    host: str, tmp_path: pathlib.Path, version: str
) -> None:
    address = (host, free_port(host))
    back = "{}:{}".format(*address)
    with running_nginx(NGINX_ACCEPTS.format(back=back), address, tmp_path):
        answer, true = seen_behind(back, version, tmp_path, host)
        assert answer == true
        client = true.partition(" ")[0]
        wait_until(lambda: f"{client} GET" in (tmp_path / "seen.log").read_text(), "nginx's log")


@pytest.mark.slow
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_nginxs_stream_behind_nginy_sees_the_client(
    host: str, tmp_path: pathlib.Path, version: str
) -> None:
    address = (host, free_port(host))
    back = "{}:{}".format(*address)
    text = NGINX_STREAM_ACCEPTS.format(load=load_stream(), back=back)
    with running_nginx(text, address, tmp_path):
        answer, true = seen_behind(back, version, tmp_path, host, "off", b"")
        assert answer == true
        client = true.partition(" ")[0]
        wait_until(lambda: f"{client} TCP" in (tmp_path / "seen.log").read_text(), "nginx's log")


@pytest.mark.slow
@pytest.mark.parametrize("version", ["v1", "v2"])
def test_haproxy_behind_nginy_sees_the_client(
    host: str, tmp_path: pathlib.Path, version: str
) -> None:
    program = needs("haproxy", "haproxy")
    address = (host, free_port(host))
    back = "{}:{}".format(*address)
    (tmp_path / "haproxy.cfg").write_text(HAPROXY_ACCEPTS.format(back=back, seen=HAPROXY_SEES))
    with serving((program, "-db", "-f", "haproxy.cfg"), address, tmp_path):
        answer, true = seen_behind(back, version, tmp_path, host)
        assert answer == true
        client = true.partition(" ")[0]
        log = tmp_path / "server.out"
        wait_until(lambda: f"{client} [" in log.read_text(), "HAProxy's log")
