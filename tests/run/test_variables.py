"""Variables that the configuration defines, in a whole nginy, compared with those of nginx."""

import contextlib
import pathlib
import signal
import socket
import ssl
from collections.abc import Sequence

import pytest

from kit.faults import Listening, receive_all
from kit.others import load_stream, running_nginx
from kit.program import Nginy, free_port, own_host, wait_until

NGINX = """
{load}
daemon off; master_process off; error_log stderr; pid nginx.pid;
events {{ worker_connections 64; }}
stream {{
    map $remote_addr $by_name {{
        127.0.0.1 one;
        ~^127\\.9\\.(?<third>\\d+)\\.([02468])$ "even $third $2";
        ~*^127\\.9\\. odd;
        default none;
    }}
    map $kind $host {{
        hostnames;
        a.example.com exact;
        *.example.com suffix;
        www.* prefix;
        .org org;
        default none;
    }}
    map $remote_addr $kind {{
        127.9.0.1 a.example.com; 127.9.0.2 X.Example.Com.; 127.9.0.3 www.example.com;
        127.9.0.4 www.net; 127.9.0.5 org; 127.9.0.6 x.org; 127.9.0.7 example.com;
    }}
    geo $zone {{
        default out;
        127.0.0.0/8 loop;
        127.9.0.0/30 few;
        127.9.0.2 one;
    }}
    split_clients "${{remote_addr}}-salt" $group {{ 33.33% a; 0.5% b; 12% c; * d; }}
    split_clients $remote_addr $all {{ 50% low; 50% high; }}
    server {{
        listen {front};
        return "$by_name|$host|$zone|$group|$all|$hostname|$protocol";
    }}
}}
"""
NGINY = """
variables:
  by_name:
    map: $remote_addr
    values:
      127.0.0.1: one
      '~^127\\.9\\.(?<third>\\d+)\\.([02468])$': even $third $2
      '~*^127\\.9\\.': odd
    default: none
  host:
    map: $kind
    hostnames: on
    values:
      {{a.example.com: exact, '*.example.com': suffix, www.*: prefix, .org: org}}
    default: none
  kind:
    map: $remote_addr
    values:
      127.9.0.1: a.example.com
      127.9.0.2: X.Example.Com.
      127.9.0.3: www.example.com
      127.9.0.4: www.net
      127.9.0.5: org
      127.9.0.6: x.org
      127.9.0.7: example.com
  zone: {{geo: $remote_addr, values: {{127.0.0.0/8: loop, 127.9.0.0/30: few, 127.9.0.2: one}}}}
  group: {{split: $remote_addr-salt, values: {{33.33%: a, 0.5%: b, 12%: c}}, default: d}}
  all: {{split: $remote_addr, values: {{50%: low, 50.00%: high}}}}
listeners:
- {{listen: "{front}", return: $by_name|$host|$zone|$group|$all|$hostname|$protocol}}
"""
CLIENTS = ["127.0.0.1", *(f"127.9.{n >> 4}.{n & 15}" for n in range(1, 150))]


def answers(address: tuple[str, int], clients: Sequence[str]) -> list[str]:
    found = []
    for client in clients:
        with socket.create_connection(address, source_address=(client, 0)) as sock:
            found.append(receive_all(sock).decode())
    return found


@pytest.mark.real
def test_map_geo_and_split_give_each_client_what_nginx_gives_it(tmp_path: pathlib.Path) -> None:
    host = own_host()
    theirs, ours = (host, free_port(host)), (host, free_port(host))
    text = NGINX.format(load=load_stream(), front="{}:{}".format(*theirs))
    with running_nginx(text, theirs, tmp_path):
        expected = answers(theirs, CLIENTS)
    with Nginy(tmp_path, NGINY.format(front="{}:{}".format(*ours))):
        assert answers(ours, CLIENTS) == expected
    # The clients meet every value, or the comparison says little.
    fields = list(zip(*(line.split("|") for line in expected), strict=True))
    assert {"one", "odd", "none"} | {f"even 0 {n}" for n in (2, 4, 6, 8)} >= set(fields[0][:10])
    assert set(fields[1]) == {"exact", "suffix", "prefix", "org", "none"}
    assert set(fields[2]) == {"loop", "few", "one"}
    assert set(fields[3]) >= {"a", "c", "d"}
    assert set(fields[4]) == {"low", "high"}


def config(front: str, backend: str, zone: str) -> str:
    return f"""
    variables: {{zone: {{geo: $remote_addr, values: {{127.0.0.0/8: {zone}}}}}}}
    log_formats: {{own: '"$zone"'}}
    access_log: {{path: access.log, format: own}}
    listeners:
    - {{listen: {front}, proxy_pass: {backend}, limit_conn: {{key: "$zone", max: 1, zone: z}}}}
    """


def test_a_session_keeps_the_variables_that_it_began_with(tmp_path: pathlib.Path) -> None:
    """Its line and what it counts as; new sessions have the new ones."""
    host = own_host()
    address = (host, free_port(host))
    front = "{}:{}".format(*address)
    backend = Listening()
    with Nginy(tmp_path, config(front, backend.name, "old")) as nginy:
        first = socket.create_connection(address)
        backend.accept()
        nginy.write(config(front, backend.name, "new"))
        nginy.send_signal(signal.SIGHUP)
        nginy.said("variables changed: zone.values.127.0.0.0/8 old -> new")
        nginy.said("configuration reloaded")
        second = socket.create_connection(address)  # of another key, so it may come in
        backend.accept()
        refused = socket.create_connection(address)
        assert receive_all(refused) == b""
        nginy.said('over limit_conn, 1 session at a time in zone "z"')
        for sock in (first, second, refused, backend):
            sock.close()
        wait_until(lambda: sorted(nginy.access_lines()) == ['"new"', '"new"', '"old"'])


def test_several_workers_know_the_same_variables(tmp_path: pathlib.Path) -> None:
    host = own_host()
    address = (host, free_port(host))
    text = f"""
    workers: 2
    variables: {{group: {{split: "$remote_addr", values: {{50%: a}}, default: b}}}}
    listeners: {{listen: "{address[0]}:{address[1]}", return: "$group $pid "}}
    """
    with Nginy(tmp_path, text):
        found = [answer.split() for answer in answers(address, ["127.9.0.1", "127.9.0.4"] * 20)]
        assert {group for group, _ in found[::2]} == {found[0][0]}
        assert {group for group, _ in found[1::2]} == {found[1][0]}


def test_hash_keys_and_answers_over_udp_know_them(tmp_path: pathlib.Path) -> None:
    host = own_host()
    port = free_port(host, socket.SOCK_DGRAM)
    text = f"""
    variables: {{kind: {{map: $protocol, values: {{udp: datagram}}}}}}
    listeners: {{listen: "{host}:{port}", protocol: udp, return: "a $kind"}}
    """
    with Nginy(tmp_path, text), socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.settimeout(9)
        sock.sendto(b"x", (host, port))
        assert sock.recv(99) == b"a datagram"


# proxy_pass by a variable.


def tls_hello(name: str) -> bytes:
    """Return the ClientHello of a client that asks for a server by name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    outgoing = ssl.MemoryBIO()
    client = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname=name)
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return outgoing.read()


SITES = """
variables:
  site:
    map: $ssl_preread_server_name
    hostnames: on
    values: {{a.example.com: one, "*.example.com": "{host}:{two}"}}
    default: $zone
  zone: {{geo: $remote_addr, values: {{127.0.0.2/32: one}}, default: "{host}:{three}"}}
upstreams: {{one: {{backends: "{host}:{one}"}}}}
listeners:
- {{listen: "{host}:{front}", proxy_pass: $site, preread: {{timeout: 1s}}}}
- {{listen: "{host}:{front}", protocol: udp, proxy_pass: $zone}}
- {{listen: ["{host}:{one}"], return: one, access_log: off}}
- {{listen: ["{host}:{two}"], return: two, access_log: off}}
- {{listen: ["{host}:{three}"], return: three, access_log: off}}
- {{listen: "{host}:{one}", protocol: udp, return: one, access_log: off}}
- {{listen: "{host}:{three}", protocol: udp, return: three, access_log: off}}
"""


def test_each_client_goes_where_its_variable_says(tmp_path: pathlib.Path) -> None:
    host = own_host()
    ports = {name: free_port(host) for name in ("one", "two", "three", "front")}
    address = (host, ports["front"])

    def ask(client: str, first: bytes = b"") -> str:
        with socket.create_connection(address, source_address=(client, 0)) as sock:
            sock.sendall(first)
            return receive_all(sock).decode()

    with Nginy(tmp_path, SITES.format(host=host, **ports)) as nginy:
        assert ask("127.0.0.1", tls_hello("a.example.com")) == "one"
        assert ask("127.0.0.1", tls_hello("b.example.com")) == "two"
        assert ask("127.0.0.1", tls_hello("example.org")) == "three"
        assert ask("127.0.0.2", tls_hello("example.org")) == "one"
        assert ask("127.0.0.1", b"GET / HTTP/1.0\r\n\r\n") == "three"
        # One that waits for the server to speak first does not wait for ever.
        assert ask("127.0.0.2") == "one"
        for client, answer in (("127.0.0.1", b"three"), ("127.0.0.2", b"one")):
            with socket.socket(type=socket.SOCK_DGRAM) as sock:
                sock.bind((client, 0))
                sock.settimeout(9)
                sock.sendto(b"x", address)
                assert sock.recv(99) == answer
        assert {line["termination"] for line in nginy.sessions(6)} == {"--"}


def test_a_hash_key_by_the_name_of_the_server_has_nginy_look_at_it(tmp_path: pathlib.Path) -> None:
    host = own_host()
    one, two, front = (free_port(host) for _ in range(3))
    config = f"""
    upstreams:
      u:
        balance: {{hash: $ssl_preread_server_name}}
        backends: ["{host}:{one}", "{host}:{two}"]
    log_formats: {{main: "$ssl_preread_server_name $upstream_addr"}}
    access_log: {{path: access.log}}
    listeners:
    - {{listen: "{host}:{front}", proxy_pass: u}}
    - {{listen: ["{host}:{one}", "{host}:{two}"], return: "$server_port", access_log: off}}
    """
    with Nginy(tmp_path, config) as nginy:
        for name in ("a", "b", "c", "d", "e", "f") * 2:
            with socket.create_connection((host, front)) as sock:
                sock.sendall(tls_hello(name))
                receive_all(sock)
        wait_until(lambda: len(nginy.access_lines()) == 12)
        lines = nginy.access_lines()
        assert lines[:6] == lines[6:]
        assert [line[0] for line in lines[:6]] == list("abcdef")
        assert len({line.partition(" ")[2] for line in lines}) == 2


def test_a_session_stays_where_it_went_when_a_reload_changes_the_variable(
    tmp_path: pathlib.Path,
) -> None:
    host = own_host()
    address = (host, free_port(host))
    old, new = Listening(), Listening()

    def config(target: str) -> str:
        return f"""
        variables: {{v: {{geo: $remote_addr, values: {{127.0.0.0/8: {target}}}, default: one}}}}
        upstreams: {{one: {{backends: {old.name}}}, two: {{backends: {new.name}}}}}
        listeners: {{listen: "{host}:{address[1]}", proxy_pass: $v}}
        """

    with Nginy(tmp_path, config("one")) as nginy:
        first = socket.create_connection(address)
        behind = old.accept()
        nginy.write(config("two"))
        nginy.send_signal(signal.SIGHUP)
        nginy.said("configuration reloaded")
        second = socket.create_connection(address)
        new.accept()
        behind.sendall(b"still here")
        assert first.recv(99) == b"still here"
        for sock in (first, second, old, new):
            sock.close()
        nginy.wait_idle()
        assert sorted(str(line["upstream_addr"]) for line in nginy.sessions(2)) == sorted(
            [old.name, new.name]
        )
