"""Sockets that somebody else has bound: told apart by their addresses, taken once, or closed."""

import os
import pathlib
import socket

import pytest
from nginy.config.schema import Config
from nginy.errors import NginyError
from nginy.process.inherited import Inherited, adopt, key_of
from nginy.process.workers.ports import PortSet
from nginy.text.address import Address, parse_address

from kit.configs import loaded
from kit.program import free_port, own_host


def test_a_socket_says_itself_what_it_listens_on(tmp_path: pathlib.Path) -> None:
    path = str(tmp_path / "s")
    with (
        socket.create_server(("127.0.0.1", 0)) as tcp,
        socket.create_server(("::1", 0), family=socket.AF_INET6) as tcp6,
        socket.socket(type=socket.SOCK_DGRAM) as udp,
        socket.socket(socket.AF_UNIX) as unix,
    ):
        udp.bind(("127.0.0.1", 0))
        unix.bind(path)
        unix.listen()
        assert key_of(tcp) == (parse_address(f"127.0.0.1:{tcp.getsockname()[1]}"), False)
        assert key_of(tcp6) == (parse_address(f"[::1]:{tcp6.getsockname()[1]}"), False)
        assert key_of(udp) == (parse_address(f"127.0.0.1:{udp.getsockname()[1]}"), True)
        assert key_of(unix) == (Address(socket.AF_UNIX, path=path), False)


def test_a_socket_that_does_not_listen_is_of_no_use() -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        assert key_of(sock) is None
    left, right = socket.socketpair()
    with left, right:
        assert key_of(left) is None


def test_each_socket_is_taken_once_in_the_order_they_came() -> None:
    inherited = Inherited()
    with (
        socket.create_server(("127.0.0.1", 0), reuse_port=True) as first,
        socket.create_server(first.getsockname(), reuse_port=True) as second,
    ):
        inherited.add([first, second])
        key = key_of(first)
        assert key is not None
        assert inherited.take(key) is first
        assert inherited.take(key) is second
        assert inherited.take(key) is None


def test_what_nobody_takes_is_closed_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    inherited = Inherited()
    sock = socket.create_server(("127.0.0.1", 0))
    inherited.add([sock])
    address = sock.getsockname()
    inherited.warn_and_close()
    assert sock.fileno() == -1
    assert f"closed inherited socket {address}, no listener has this address" in caplog.text


def test_a_descriptor_that_is_no_socket_is_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    reader, writer = os.pipe()
    try:
        assert adopt([reader]) == []
        assert "is not a socket (88" in caplog.text
        os.fstat(reader)
    finally:
        os.close(reader)
        os.close(writer)


def test_adopted_sockets_do_not_wait_and_are_not_inherited_further() -> None:
    with socket.create_server(("127.0.0.1", 0)) as ours:
        fd = os.dup(ours.fileno())
        os.set_inheritable(fd, True)
        (sock,) = adopt([fd])
        assert not os.get_inheritable(fd)
        assert not os.get_blocking(fd)
        sock.close()


# What the supervisor makes of them.


def listening(tmp_path: pathlib.Path, *listeners: str) -> Config:
    items = "".join(f"  - {{listen: '{each}', return: hello}}\n" for each in listeners)
    return loaded(tmp_path, f"listeners:\n{items}")


def here() -> str:
    host = own_host()
    return f"{host}:{free_port(host)}"


def test_each_worker_has_a_socket_of_its_own(tmp_path: pathlib.Path) -> None:
    address, path = here(), f"unix:{tmp_path}/s"
    ports = PortSet(3)
    config = listening(tmp_path, address, path)
    opened = ports.open(config)
    ports.apply(config, opened)
    tcp = {ports.sockets_of(worker, opened)[0].fileno() for worker in range(3)}
    unix = {ports.sockets_of(worker, opened)[1].fileno() for worker in range(3)}
    assert (len(tcp), len(unix)) == (3, 1)
    ports.close()
    assert not (tmp_path / "s").exists()


def test_an_inherited_socket_that_lets_others_in_gets_company(tmp_path: pathlib.Path) -> None:
    host = own_host()
    given = socket.create_server((host, 0), reuse_port=True)
    config = listening(tmp_path, f"{host}:{given.getsockname()[1]}")
    ports = PortSet(3)
    ports.inherited.add([given])
    opened = ports.open(config)
    sockets = [ports.sockets_of(worker, opened)[0] for worker in range(3)]
    assert sockets[0] is given
    assert len({sock.fileno() for sock in sockets}) == 3
    ports.undo(opened)
    assert given.fileno() == -1


def test_an_inherited_socket_that_lets_nobody_in_is_shared(tmp_path: pathlib.Path) -> None:
    host = own_host()
    given = socket.create_server((host, 0))
    config = listening(tmp_path, f"{host}:{given.getsockname()[1]}")
    ports = PortSet(3)
    ports.inherited.add([given])
    opened = ports.open(config)
    assert {ports.sockets_of(worker, opened)[0] for worker in range(3)} == {given}
    ports.undo(opened)


def test_datagrams_of_one_client_must_not_go_to_several_workers(tmp_path: pathlib.Path) -> None:
    host = own_host()
    with socket.socket(type=socket.SOCK_DGRAM) as given:
        given.bind((host, 0))
        address = f"{host}:{given.getsockname()[1]}"
        text = f"listeners: {{listen: '{address}', protocol: udp, return: hello}}\n"
        ports = PortSet(3)
        ports.inherited.add([given])
        with pytest.raises(NginyError, match="bound without SO_REUSEPORT"):
            ports.open(loaded(tmp_path, text))


def test_an_address_that_is_taken_leaves_nothing_open(tmp_path: pathlib.Path) -> None:
    free = here()
    with socket.create_server((own_host(), 0), reuse_port=True) as taken:
        host, port = taken.getsockname()
        ports = PortSet(2)
        with pytest.raises(NginyError, match="Address already in use"):
            ports.open(listening(tmp_path, free, f"{host}:{port}"))
    address = parse_address(free)
    socket.create_server((address.host, address.port)).close()
