"""Ports that tests draw stay free until nginy binds them."""

import socket

import pytest

from kit.program import PORTS, free_port, own_host, unchosen_ports


@pytest.mark.parametrize(
    ("chosen", "unchosen"),
    [
        ((32768, 60999), range(10_000, 32_768)),
        ((1024, 60999), range(61_000, 65_536)),
        ((1024, 65535), (0,)),
        ((10_005, 65535), (0,)),
    ],
)
def test_ports_are_those_that_the_kernel_does_not_choose_unless_it_chooses_all(
    chosen: tuple[int, int], unchosen: object
) -> None:
    assert unchosen_ports(*chosen) == unchosen


def test_no_port_is_given_twice_nor_one_that_is_in_use() -> None:
    host = own_host()
    given = [free_port(host) for _ in range(200)]
    assert len(set(given)) == 200
    assert tuple(PORTS) == (0,) or set(given) <= set(PORTS)
    with socket.socket() as sock:
        sock.bind((host, given[0]))
        assert given[0] not in {free_port(host, socket.SOCK_STREAM) for _ in range(200)}
