"""A configuration that proxies to itself, directly or over several listeners."""

import pathlib
import socket

import pytest
from nginy.config.checking.loops import OwnListeners, check_loops, is_local
from nginy.config.node import Findings
from nginy.text.address import Address, parse_address

from kit.configs import loaded, refusals


def listening(listen: str, target: str, more: str = "") -> str:
    return f"{{listen: '{listen}', proxy_pass: '{target}'{more}}}"


def config(*listeners: str) -> str:
    return f"listeners: [{', '.join(listeners)}]\n"


@pytest.mark.parametrize(
    ("listen", "target"),
    [
        ("127.0.0.1:80", "127.0.0.1:80"),
        ("0.0.0.0:80", "127.0.0.1:80"),
        ("0.0.0.0:80", "127.9.9.9:80"),
        ("127.0.0.1:80", "0.0.0.0:80"),
        ("0.0.0.0:80", "0.0.0.0:80"),
        ("0.0.0.0:80", "localhost:80"),
        ("127.0.0.1:70-90", "127.0.0.1:80"),
        ("[::]:80", "[::1]:80"),
        ("[::1]:80", "localhost:80"),
        ("0.0.0.0:80", "[::ffff:127.0.0.1]:80"),
        ("unix:/run/x", "unix:/run/x"),
    ],
)
def test_a_listener_that_leads_to_itself_is_refused(
    tmp_path: pathlib.Path, listen: str, target: str
) -> None:
    (message,) = refusals(tmp_path, config(listening(listen, target)))
    assert "leads back to the listener at nginy.yml:1:22" in message


def test_a_loop_over_several_listeners_is_refused_where_it_can_be_cut(
    tmp_path: pathlib.Path,
) -> None:
    a, b = listening("127.0.0.1:1", "127.0.0.1:2"), listening("127.0.0.1:2", "127.0.0.1:3")
    c = listening("127.0.0.1:3", "127.0.0.1:1")
    assert len(refusals(tmp_path, config(a, b, c))) == 3
    loaded(tmp_path, config(a, b))


@pytest.mark.parametrize(
    "listeners",
    [
        [listening("127.0.0.1:80", "127.0.0.1:81")],
        [listening("127.0.0.1:80", "127.0.0.2:80")],
        [listening("127.0.0.1:80", "[::1]:80")],
        [listening("0.0.0.0:80", "192.0.2.1:80")],
        [listening("127.0.0.1:53", "127.0.0.1:54", ", protocol: udp")],
        [listening("127.0.0.1:80", "127.0.0.1:81"), "{listen: 127.0.0.1:81, return: hello}"],
        [listening("0.0.0.0:80", "127.0.0.1:81"), "{listen: 127.0.0.1:81, return: hello}"],
    ],
)
def test_what_leads_elsewhere_is_fine(tmp_path: pathlib.Path, listeners: list[str]) -> None:
    loaded(tmp_path, config(*listeners))


def test_protocols_do_not_meet(tmp_path: pathlib.Path) -> None:
    tcp = listening("127.0.0.1:1", "127.0.0.1:2")
    udp = listening("127.0.0.1:2", "127.0.0.1:1", ", protocol: udp")
    loaded(tmp_path, config(tcp, udp))


def test_the_kernel_is_asked_only_about_ports_of_wildcards(tmp_path: pathlib.Path) -> None:
    asked: list[str] = []

    def local(address: Address) -> bool:
        asked.append(address.host)
        return True

    text = config(
        listening("0.0.0.0:80", "192.0.2.1:80"), listening("127.0.0.1:81", "192.0.2.2:81")
    )
    made = loaded(tmp_path, text)
    findings = Findings()
    check_loops(made, findings, local)
    assert asked == ["192.0.2.1"]
    assert len(findings.problems) == 1
    assert OwnListeners(made, local).find("tcp", parse_address("192.0.2.9:80")) == 0
    assert OwnListeners(made, local).find("udp", parse_address("192.0.2.9:80")) is None


def test_addresses_of_this_machine_are_told_from_others() -> None:
    assert is_local(parse_address("127.0.0.3:80"))
    assert not is_local(parse_address("192.0.2.1:80"))
    if socket.has_ipv6:
        assert not is_local(parse_address("[2001:db8::1]:80"))
