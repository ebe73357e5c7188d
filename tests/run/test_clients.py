"""TCP in real use: bin/nginy between clients and servers that others have written.

A program that is not installed skips its test, naming Debian's package. Everything listens on an
address of 127.0.0.0/8 that is drawn for the run.
"""

import json
import pathlib
import re
from collections.abc import Iterator

import pytest

from kit.faults import Site
from kit.others import output_of, running_nginx, serving
from kit.program import Nginy, free_port, needs, own_host

NGINX_CONF = """
daemon off;
master_process off;
error_log stderr;
pid nginx.pid;
events {{ worker_connections 512; }}
http {{
    access_log off;
    client_body_temp_path t; proxy_temp_path t; fastcgi_temp_path t;
    uwsgi_temp_path t; scgi_temp_path t;
    server {{ listen {0}; return 200 "one\\n"; }}
    server {{ listen {1}; return 200 "two\\n"; }}
}}
"""
BULK_BYTES = 32 << 20


@pytest.fixture
def addresses() -> list[tuple[str, int]]:
    """Two addresses for servers."""
    host = own_host()
    return [(host, free_port(host)), (host, free_port(host))]


def all_ended_well(nginy: Nginy) -> int:
    """Stop nginy, check the reasons of all sessions, and return how many there were."""
    nginy.wait_idle()
    nginy.stop()
    sessions = [json.loads(line) for line in nginy.access_lines()]
    assert {session["termination"] for session in sessions} == {"--"}
    return len(sessions)


@pytest.fixture
def web(site: Site, addresses: list[tuple[str, int]], tmp_path: pathlib.Path) -> Iterator[Nginy]:
    """nginy in front of nginx on two addresses, which answer "one" and "two"."""
    one, two = ("{}:{}".format(*address) for address in addresses)
    with running_nginx(NGINX_CONF.format(one, two), addresses[1], tmp_path):
        yield site.start([one, two])


@pytest.mark.slow
def test_curl_is_given_to_each_backend_in_turn(site: Site, web: Nginy) -> None:
    curl = needs("curl", "curl")
    answers = [output_of(curl, "-sS", f"http://{site.address}/") for _ in range(4)]
    assert answers == ["one\n", "two\n", "one\n", "two\n"]
    # Two requests on one connection are one session, with one backend.
    assert output_of(curl, "-sS", *[f"http://{site.address}/"] * 2) == "one\none\n"
    assert all_ended_well(web) == 5


@pytest.mark.slow
def test_wrk_finds_no_error(site: Site, web: Nginy) -> None:
    wrk = needs("wrk", "wrk")
    said = output_of(wrk, "-t1", "-c32", "-d1s", f"http://{site.address}/")
    requests = re.search(r"(\d+) requests in", said)
    assert requests is not None
    assert int(requests[1]) > 100
    assert "Socket errors" not in said
    assert "Non-2xx" not in said
    web.wait_idle()
    web.stop()
    # wrk leaves in the middle of what it has asked for.
    codes = {json.loads(line)["termination"] for line in web.access_lines()}
    assert codes <= {"--", "CD"}
    served = [json.loads(line)["upstream_addr"] for line in web.access_lines()]
    assert len(set(served)) == 2


@pytest.mark.slow
def test_redis_benchmark_and_redis_cli_notice_nothing(
    site: Site, addresses: list[tuple[str, int]], tmp_path: pathlib.Path
) -> None:
    host, port = addresses[0]
    argv = [needs("redis-server", "redis-server"), "--bind", host, "--port", str(port)]
    argv += ["--save", "", "--appendonly", "no", "--dir", str(tmp_path)]
    via = ("-h", site.host, "-p", str(site.port))
    with serving(argv, addresses[0], tmp_path) as name:
        nginy = site.start([name])
        cli = needs("redis-cli", "redis-tools")
        assert output_of(cli, *via, "SET", "key", "x" * 100_000) == "OK\n"
        assert output_of(cli, *via, "GET", "key") == "x" * 100_000 + "\n"
        for pipeline in ("1", "16"):
            load = ("-n", "5000", "-c", "20", "-P", pipeline, "-t", "set,get", "--csv")
            said = output_of(needs("redis-benchmark", "redis-tools"), *via, *load)
            assert '"SET"' in said
            assert '"GET"' in said
            assert "rror" not in said
        nginy.wait_idle()
        nginy.stop()
    codes = {json.loads(line)["termination"] for line in nginy.access_lines()}
    assert codes <= {"--", "CD"}


@pytest.mark.slow
@pytest.mark.parametrize("direction", ["upload", "download"])
def test_iperf3_measures_either_direction(
    site: Site, addresses: list[tuple[str, int]], tmp_path: pathlib.Path, direction: str
) -> None:
    host, port = addresses[0]
    iperf3 = needs("iperf3", "iperf3")
    argv = (iperf3, "-s", "-B", host, "-p", str(port), "--forceflush")
    with serving(argv, addresses[0], tmp_path) as name:
        nginy = site.start([name])
        options = ["-R"] if direction == "download" else []
        client = (iperf3, "-c", site.host, "-p", str(site.port), "-n", str(BULK_BYTES), "-J")
        total = json.loads(output_of(*client, *options))["end"]
        assert total["sum_sent"]["bytes"] >= BULK_BYTES
        # Its receiver stops counting when the sender is done, whatever is under way then: more than
        # half of it, now and then.
        assert total["sum_received"]["bytes"] >= BULK_BYTES / 8
        nginy.stop()
    moved = [json.loads(line) for line in nginy.access_lines()]
    key = "bytes_sent" if direction == "download" else "bytes_received"
    assert max(session[key] for session in moved) >= BULK_BYTES / 2


@pytest.mark.slow
def test_tls_goes_through_to_openssl_s_server(
    site: Site, addresses: list[tuple[str, int]], tmp_path: pathlib.Path
) -> None:
    openssl = needs("openssl", "openssl")
    output_of(
        *(openssl, "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
        *("-nodes", "-days", "1", "-subj", "/CN=nginy.test"),
        *("-keyout", f"{tmp_path}/key.pem", "-out", f"{tmp_path}/cert.pem"),
    )
    address = "{}:{}".format(*addresses[0])
    server = (openssl, "s_server", "-accept", address, "-cert", "cert.pem", "-key", "key.pem")
    with serving((*server, "-WWW"), addresses[0], tmp_path) as name:
        payload = "over TLS\n" * 20_000
        (tmp_path / "file.txt").write_text(payload)
        nginy = site.start([name])
        said = output_of(
            *(openssl, "s_client", "-connect", site.address, "-quiet", "-verify_return_error"),
            *("-CAfile", f"{tmp_path}/cert.pem", "-verify_hostname", "nginy.test"),
            given="GET /file.txt HTTP/1.0\r\n\r\n",
        )
        assert payload in said
        assert nginy.session()["termination"] in ("--", "CD")
        nginy.stop()
