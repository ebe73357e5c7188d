"""The holder of an address: for sockets of this process, and in a made-up /proc."""

import os
import pathlib
import socket
import sys

import pytest
from nginy.process.holder import Holders, name_of
from nginy.text.address import Address, parse_address

from kit.program import free_port, own_host

# The holder is searched among the descriptors of all processes, and there may be many.
pytestmark = pytest.mark.slow


def holder_of(address: Address, *, udp: bool = False) -> list[int]:
    return Holders().of(address, udp)


def ourselves() -> list[int]:
    return [os.getpid()]


def test_the_process_that_listens_is_named() -> None:
    with socket.create_server((own_host(), 0)) as taken:
        address = Address(socket.AF_INET, *taken.getsockname())
        assert holder_of(address) == ourselves()


def test_the_process_that_receives_datagrams_is_named() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as taken:
        taken.bind((own_host(), 0))
        address = Address(socket.AF_INET, *taken.getsockname())
        assert holder_of(address, udp=True) == ourselves()
        assert holder_of(address) == []


def test_ipv6_is_no_exception() -> None:
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
        address = Address(socket.AF_INET6, "::1", taken.getsockname()[1])
        assert holder_of(address) == ourselves()


def test_the_holder_of_every_address_is_in_the_way_of_one() -> None:
    with socket.create_server(("0.0.0.0", 0)) as taken:
        address = Address(socket.AF_INET, own_host(), taken.getsockname()[1])
        assert holder_of(address) == ourselves()


def test_the_holder_of_one_address_is_in_the_way_of_every() -> None:
    with socket.create_server((own_host(), 0)) as taken:
        port = taken.getsockname()[1]
        assert holder_of(Address(socket.AF_INET, "0.0.0.0", port)) == ourselves()


def test_the_address_that_is_in_the_way_is_named() -> None:
    host = own_host()
    with socket.create_server((host, 0)) as taken:
        port = taken.getsockname()[1]
        assert Holders().address(Address(socket.AF_INET, "0.0.0.0", port)) == f"{host}:{port}"
        assert Holders().address(Address(socket.AF_INET, host, port)) == ""
        assert Holders().address(parse_address("unix:/run/x")) == ""
    with socket.create_server(("::1", 0), family=socket.AF_INET6) as taken:
        port = taken.getsockname()[1]
        assert Holders().address(Address(socket.AF_INET6, "::", port)) == f"[::1]:{port}"


def test_another_address_of_the_same_port_is_not_in_the_way() -> None:
    host = own_host()
    with socket.create_server((host, 0)) as taken:
        other = parse_address(f"127.0.0.1:{taken.getsockname()[1]}")
        assert holder_of(other) == []


def test_nobody_holds_a_free_address() -> None:
    host = own_host()
    assert holder_of(Address(socket.AF_INET, host, free_port(host))) == []


def test_the_process_behind_a_unix_socket_is_named(tmp_path: pathlib.Path) -> None:
    path = f"{tmp_path}/a socket"
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(path)
        taken.listen()
        assert holder_of(parse_address(f"unix:{path}")) == ourselves()


TCP_TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F90 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 4242 1
"""


@pytest.fixture
def proc(tmp_path: pathlib.Path) -> pathlib.Path:
    """A machine where two processes, 9 and 10, have inherited the socket of 127.0.0.1:8080."""
    (tmp_path / "self" / "net").mkdir(parents=True)
    (tmp_path / "self" / "net" / "tcp").write_text(TCP_TABLE)
    for pid in (10, 9):
        (tmp_path / str(pid) / "fd").mkdir(parents=True)
        (tmp_path / str(pid) / "fd" / "3").symlink_to("socket:[4242]")
        (tmp_path / str(pid) / "comm").write_text("nginx\n")
    return tmp_path


@pytest.mark.skipif(sys.byteorder != "little", reason="the table is little-endian")
def test_of_several_holders_the_oldest_comes_first(proc: pathlib.Path) -> None:
    assert Holders(str(proc)).of(parse_address("127.0.0.1:8080")) == [9, 10]
    assert name_of(9, str(proc)) == "nginx, PID 9"


def test_a_holder_that_cannot_be_seen_is_not_named(proc: pathlib.Path) -> None:
    for pid in (9, 10):
        (proc / str(pid) / "fd" / "3").unlink()
    assert Holders(str(proc)).of(parse_address("127.0.0.1:8080")) == []


def test_a_machine_without_proc_names_nobody(tmp_path: pathlib.Path) -> None:
    assert Holders(f"{tmp_path}/none").of(parse_address("127.0.0.1:8080")) == []


@pytest.mark.skipif(sys.byteorder != "little", reason="the table is little-endian")
def test_what_has_been_read_once_is_not_read_again(proc: pathlib.Path) -> None:
    holders = Holders(str(proc))
    assert holders.of(parse_address("127.0.0.1:8080")) == [9, 10]
    (proc / "self" / "net" / "tcp").unlink()
    (proc / "9" / "fd" / "3").unlink()
    assert holders.of(parse_address("127.0.0.1:8080")) == [9, 10]
    assert holders.of(parse_address("127.0.0.1:8081")) == []
