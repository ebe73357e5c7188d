"""What is in the way of binding: all of it, at a start, at a reload, and with -t beforehand."""

import contextlib
import os
import pathlib
import socket
from collections.abc import Iterator

import pytest

from kit.configs import write
from kit.program import PATIENCE_S, Nginy, free_port, needs, own_host, run_once

FOREIGN = "192.0.2.1"
"""For documentation (RFC 5737): nobody has it."""

WORKERS = pytest.mark.parametrize("workers", [1, 2])


@pytest.fixture
def taken() -> Iterator[list[str]]:
    """A TCP address and one of UDP that this process holds."""
    with contextlib.ExitStack() as stack:
        tcp = stack.enter_context(socket.create_server((own_host(), 0)))
        udp = stack.enter_context(socket.socket(type=socket.SOCK_DGRAM))
        udp.bind((own_host(), 0))
        yield ["{}:{}".format(*sock.getsockname()) for sock in (tcp, udp)]


@pytest.fixture
def here() -> str:
    host = own_host()
    return f"{host}:{free_port(host)}"


def config(tcp: list[str], udp: list[str], more: str = "") -> str:
    return (
        f"{more}listeners:\n  - {{listen: {tcp}, return: hi}}\n"
        + f"  - {{listen: {udp}, protocol: udp, return: hi}}\n" * bool(udp)
    )


def expected(taken: list[str]) -> list[str]:
    holder = f"{pathlib.Path('/proc/self/comm').read_text().strip()}, PID {os.getpid()}"
    in_use = "failed (98: Address already in use), held by"
    return [f"nginy: [emerg] bind() to {address} {in_use} {holder}" for address in taken]


def is_foreign(line: str) -> bool:
    return f"bind() to {FOREIGN}:81 failed (99: Cannot assign requested address)" in line


@WORKERS
def test_a_start_names_every_address_that_it_cannot_have(
    tmp_path: pathlib.Path, taken: list[str], here: str, workers: int
) -> None:
    text = config([here, taken[0], f"{FOREIGN}:81"], [taken[1]], f"workers: {workers}\n")
    status, _, errors = run_once(write(tmp_path, text))
    assert status == 1
    errors = [line for line in errors if line.startswith("nginy:")]
    foreign = [line for line in errors if is_foreign(line)]
    assert len(foreign) == 1
    assert sorted(line for line in errors if line not in foreign) == sorted(expected(taken))


@WORKERS
def test_a_reload_names_every_address_that_it_cannot_have(
    tmp_path: pathlib.Path, taken: list[str], here: str, workers: int
) -> None:
    more = f"workers: {workers}\n"
    with Nginy(tmp_path, config([here], [], more)) as nginy:
        nginy.write(config([here, taken[0], f"{FOREIGN}:81"], [taken[1]], more))
        status, _, errors = run_once("-s", "reload", str(nginy.path))
        assert status == 1
        assert len(errors) == 4
        assert set(expected(taken)) <= set(errors)


def test_t_finds_what_a_start_would_find(
    tmp_path: pathlib.Path, taken: list[str], here: str
) -> None:
    more = f"access_log: {tmp_path}/nowhere/log\n"
    path = write(tmp_path, config([here, taken[0], f"{FOREIGN}:81"], [taken[1]], more))
    status, _, errors = run_once("-t", path)
    assert status == 1
    # Who mends the file need not come back for the addresses.
    assert f'the directory "{tmp_path}/nowhere" does not exist' in errors.pop(1)
    assert errors[0] == f"nginy: the configuration file {path} syntax is ok"
    assert errors[-1] == f"nginy: configuration file {path} test failed"
    assert len([line for line in errors if is_foreign(line)]) == 1
    assert set(expected(taken)) <= set(errors)
    assert len(errors) == 5


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give its rights up")
def test_t_finds_a_port_that_takes_more_rights(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path, config([f"{own_host()}:81"], []))
    prefix = [needs("setpriv", "util-linux"), "--bounding-set=-net_bind_service"]
    status, _, errors = run_once("-t", path, prefix=prefix)
    assert status == 1
    assert "failed (13: Permission denied); ports below 1024 need" in errors[1]


@WORKERS
@pytest.mark.parametrize("has_pid_file", [True, False])
def test_what_the_running_nginy_holds_is_not_in_the_way(
    tmp_path: pathlib.Path, here: str, workers: int, has_pid_file: bool
) -> None:
    host, port = here.split(":")
    udp = f"{host}:{free_port(host, socket.SOCK_DGRAM)}"
    text = config([here, f"unix:{tmp_path}/front"], [udp], f"workers: {workers}\n")
    with Nginy(tmp_path, text) as nginy:
        if not has_pid_file:
            nginy.path.write_text(text)
        status, _, errors = run_once("-t", str(nginy.path))
        assert (status, errors[-1]) == (
            0,
            f"nginy: configuration file {nginy.path} test is successful",
        )
        assert nginy.access_lines() == []
        with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as client:
            assert client.recv(10) == b"hi"
        assert (tmp_path / "front").exists()


def test_what_another_nginy_holds_is_in_the_way(tmp_path: pathlib.Path, here: str) -> None:
    (tmp_path / "other").mkdir()
    path = write(tmp_path / "other", config([here], []))
    with Nginy(tmp_path, config([here], [])) as nginy:
        status, _, errors = run_once("-t", path)
        assert status == 1
        assert errors[1].endswith(f"PID {nginy.process.pid}")


def test_t_leaves_nothing_behind(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path, config([f"unix:{tmp_path}/front"], []))
    assert run_once("-t", path)[0] == 0
    assert not (tmp_path / "front").exists()
