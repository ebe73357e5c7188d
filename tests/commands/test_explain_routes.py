"""The route that a client would take, and why no other, in words."""

import pathlib

import pytest
from nginy.commands.explain import explain
from nginy.commands.explain_routes import FirstBytes, parse_first_bytes
from nginy.errors import NginyError
from nginy.wire.client_hello import NOT_TLS, Hello

from kit.configs import loaded

TEXT = """
upstreams: {web: {backends: 10.0.0.1:80}, ssh: {backends: 10.0.0.2:22}}
variables: {zone: {geo: $remote_addr, values: {10.0.0.0/8: inside}, default: outside}}
listeners:
- listen: [127.0.0.1:80, 127.0.0.1:1000-1004]
  routes:
  - {from: 192.0.2.0/24, deny: on}
  - {port: 1000-1004, when: {$zone: inside}, return: "in\\n"}
  - {sni: [a.example, "*.b.example"], alpn: h2, proxy_pass: web}
  - {starts: SSH-, proxy_pass: ssh}
  - {share: 0.01%, key: fixed, proxy_pass: ssh}
  - {is_tls: off, when: {$ssl_preread_protocol: ""}, proxy_pass: web}
- {listen: 127.0.0.1:80, protocol: udp, routes: {starts: x, proxy_pass: web}}
- {listen: 127.0.0.1:81, routes: {from: 192.0.2.1, deny: on}, return: other}
"""


def told(
    directory: pathlib.Path, client: str, *words: str, listener: str = "127.0.0.1:80/tcp"
) -> list[str]:
    text = explain(loaded(directory, TEXT), listener, client, words)
    lines = text.replace(f"{directory}/", "").splitlines()[2:]
    return lines[: next((n for n, line in enumerate(lines) if line == "backends"), len(lines))]


def test_the_route_that_is_taken_and_those_that_are_not(tmp_path: pathlib.Path) -> None:
    assert told(tmp_path, "10.1.2.3", "sni=x.B.example", "alpn=http/1.1,h2") == [
        "preread   a ClientHello for x.b.example, offering http/1.1, h2",
        "route 1   no: from 192.0.2.0/24, but 10.1.2.3",
        "route 2   no: port 1000-1004, but port 80",
        "route 3   taken: sni [a.example, *.b.example], alpn h2, at nginy.yml:9:5",
        "rules     proxy_pass: the session goes to upstream web",
        "balance   round_robin",
    ]


def test_a_client_that_waits_for_the_server_is_told_so(tmp_path: pathlib.Path) -> None:
    assert told(tmp_path, "10.1.2.3") == [
        "preread   nothing: the client waits for the server",
        "route 1   no: from 192.0.2.0/24, but 10.1.2.3",
        "route 2   no: port 1000-1004, but port 80",
        "route 3   no: sni [a.example, *.b.example], but no name",
        "route 4   no: starts SSH-, but first bytes nothing",
        'route 5   no: share 0.01%, but key "fixed" is at 83.45%',
        'route 6   taken: is_tls off, when {$ssl_preread_protocol: ""}, at nginy.yml:12:5',
        "rules     proxy_pass: the session goes to upstream web",
        "balance   round_robin",
    ]


def test_first_bytes_decide(tmp_path: pathlib.Path) -> None:
    lines = told(tmp_path, "10.1.2.3", r"starts=SSH-2.0-x\r\n")
    assert lines[0] == r'preread   "SSH-2.0-x\r\n"'
    assert lines[4] == "route 4   taken: starts SSH-, at nginy.yml:10:5"


def test_a_port_and_a_variable_decide(tmp_path: pathlib.Path) -> None:
    lines = told(tmp_path, "10.1.2.3", listener="127.0.0.1:1003")
    assert lines[-2:] == [
        "route 2   taken: port 1000-1004, when {$zone: inside}, at nginy.yml:8:5",
        'rules     return: the answer is "in\\n", then the session ends',
    ]
    lines = told(tmp_path, "11.1.2.3", listener="127.0.0.1:1003")
    assert lines[2] == 'route 2   no: when {$zone: inside}, but $zone "outside"'


def test_who_is_turned_away_is_told_by_what(tmp_path: pathlib.Path) -> None:
    assert told(tmp_path, "192.0.2.9")[1:] == [
        "route 1   taken: from 192.0.2.0/24, at nginy.yml:7:5",
        "choice    none: status 403, denied by this route",
    ]
    assert (
        told(tmp_path, "10.1.2.3", "is_tls=on")[-1]
        == "choice    none: status 403, no route matches"
    )
    assert told(tmp_path, "10.1.2.3", listener="127.0.0.1:80/udp") == [
        "route 1   no: starts x, but first bytes nothing",
        "choice    none: its datagrams are dropped, no route matches",
    ]
    assert told(tmp_path, "10.1.2.3", listener="127.0.0.1:81") == [
        "route 1   no: from 192.0.2.1, but 10.1.2.3",
        'rules     return: the answer is "other", then the session ends',
    ]


def test_a_datagram_is_told_by_how_it_starts(tmp_path: pathlib.Path) -> None:
    lines = told(tmp_path, "10.1.2.3", "starts=xy", listener="127.0.0.1:80/udp")
    assert lines[0] == "route 1   taken: starts x, at nginy.yml:13:49"


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ((), FirstBytes()),
        (("is_tls=off",), FirstBytes()),
        (("is_tls=on",), FirstBytes(b"\x16\x03\x01", Hello(True))),
        (("alpn=a,b",), FirstBytes(b"\x16\x03\x01", Hello(True, "", ("a", "b")))),
        ((r"starts=\x00a",), FirstBytes(b"\0a", NOT_TLS)),
    ],
)
def test_words_say_what_a_client_sends(words: tuple[str, ...], expected: FirstBytes) -> None:
    assert parse_first_bytes(words) == expected


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("snl=a",), '"snl=a" does not describe a client (did you mean "sni"?), expected sni=...,'),
        (("sni",), '"sni" does not describe a client'),
        (("is_tls=maybe",), 'is_tls: "maybe" is not valid, expected on or off'),
        (("sni=a", "starts=x"), "starts cannot be combined with sni, alpn or is_tls=on"),
        (("sni=a", "is_tls=off"), "is_tls=off cannot be combined with sni, alpn or is_tls=on"),
        ((r"starts=\q",), r'starts: "\\q": an escape is one of'),
    ],
)
def test_words_that_say_nothing_are_refused(words: tuple[str, ...], message: str) -> None:
    with pytest.raises(NginyError) as caught:
        parse_first_bytes(words)
    assert message.replace(r"\\q", r"\q") in str(caught.value)
