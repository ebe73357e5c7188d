"""Starts that cannot work: one clear line, status 1, no traceback.

How a wrong configuration is reported is in tests/config and tests/test_cli.py; here the file is
right, and the machine is not.
"""

import getpass
import grp
import os
import pathlib
import pwd
import signal
import socket
import stat
import tempfile
from collections.abc import Iterator

import pytest
from nginy import __version__

from kit.configs import write
from kit.program import Nginy, free_port, needs, own_host, run_once

FIRST_UNPRIVILEGED = int(
    pathlib.Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text()
)  # ip(7)
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def refusals(directory: pathlib.Path, config: str) -> list[str]:
    """What nginy says as it refuses to start, paths counted from `directory`."""
    status, out, lines = run_once(write(directory, config))
    assert (status, out) == (1, ""), lines
    return [line.replace(f"{directory}/", "") for line in lines]


def listeners(address: str) -> str:
    return f"listeners: {{listen: '{address}', return: hello}}\n"


def in_use(address: str, pid: int) -> str:
    name = pathlib.Path(f"/proc/{pid}/comm").read_text().strip()
    reason = "(98: Address already in use)"
    return f"nginy: [emerg] bind() to {address} failed {reason}, held by {name}, PID {pid}"


@pytest.fixture
def here() -> str:
    """An address that is free."""
    host = own_host()
    return f"{host}:{free_port(host)}"


@pytest.fixture
def unprivileged() -> list[str]:
    """The beginning of a command line that runs a program without root's powers over files and
    ports."""
    if os.geteuid() != 0:
        return []
    powers = "-net_bind_service,-dac_override,-dac_read_search"
    return [needs("setpriv", "util-linux"), f"--bounding-set={powers}"]


# Addresses.


def test_who_holds_an_address_is_named(tmp_path: pathlib.Path) -> None:
    with socket.create_server((own_host(), 0)) as taken:
        address = "{}:{}".format(*taken.getsockname())
        assert refusals(tmp_path, listeners(address)) == [in_use(address, os.getpid())]


def test_who_receives_datagrams_is_named(tmp_path: pathlib.Path) -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as taken:
        taken.bind((own_host(), 0))
        address = "{}:{}".format(*taken.getsockname())
        config = f"listeners: {{listen: '{address}', protocol: udp, return: hello}}"
        assert refusals(tmp_path, config) == [in_use(address, os.getpid())]


def test_who_listens_on_a_unix_socket_is_named(tmp_path: pathlib.Path) -> None:
    with socket.socket(socket.AF_UNIX) as taken:
        taken.bind(f"{tmp_path}/front")
        taken.listen()
        assert refusals(tmp_path, listeners(f"unix:{tmp_path}/front")) == [
            in_use("unix:front", os.getpid())
        ]


def test_a_file_in_the_place_of_a_unix_socket_is_held_by_nobody(tmp_path: pathlib.Path) -> None:
    (tmp_path / "front").write_text("precious")
    assert refusals(tmp_path, listeners(f"unix:{tmp_path}/front")) == [
        "nginy: [emerg] bind() to unix:front failed (98: Address already in use)"
    ]
    assert (tmp_path / "front").read_text() == "precious"


def test_what_a_killed_nginy_leaves_behind_is_not_in_the_way(tmp_path: pathlib.Path) -> None:
    config = listeners(f"unix:{tmp_path}/front")
    with Nginy(tmp_path, config) as first:
        pass
    assert stat.S_ISSOCK((tmp_path / "front").stat().st_mode)
    first.pid_path.unlink()
    with Nginy(tmp_path, config) as second:
        second.stop()
    assert not (tmp_path / "front").exists()


def test_a_group_that_nginy_has_not_is_named(tmp_path: pathlib.Path, here: str) -> None:
    own = {os.getegid(), *os.getgroups()}
    other = next(each.gr_name for each in grp.getgrall() if each.gr_gid not in own)
    admin = f"admin: {{listen: 'unix:{tmp_path}/admin', mode: 0660, group: {other}}}\n"
    prefix = [needs("setpriv", "util-linux"), "--bounding-set=-chown"] if os.geteuid() == 0 else []
    status, _, lines = run_once(write(tmp_path, f"{admin}{listeners(here)}"), prefix=prefix)
    assert status == 1
    assert lines[-1] == (
        f"nginy: [emerg] unix:{tmp_path}/admin: Operation not permitted; "
        f'nginy has to run with the group "{other}"'
    )


def test_a_second_nginy_leaves_the_first_alone(tmp_path: pathlib.Path, here: str) -> None:
    with Nginy(tmp_path, listeners(here)) as first:
        before = first.pid_path.read_text()
        status, _, lines = run_once(str(first.path))
        assert (status, lines) == (1, [in_use(here, first.pid)])
        assert first.pid_path.read_text() == before
        first.stop()


def test_an_address_of_another_machine_is_named(tmp_path: pathlib.Path) -> None:
    # 192.0.2.0/24 is for documentation (RFC 5737): nobody has it.
    assert refusals(tmp_path, listeners("192.0.2.1:80")) == [
        (
            "nginy: [emerg] bind() to 192.0.2.1:80 failed (99: Cannot assign requested address);"
            " this machine does not have the address; freebind: on binds it anyway"
        )
    ]


@pytest.mark.skipif(FIRST_UNPRIVILEGED <= 81, reason="no port is privileged here")
def test_a_privileged_port_is_named(tmp_path: pathlib.Path, unprivileged: list[str]) -> None:
    path = write(tmp_path, listeners(f"{own_host()}:81"))
    status, _, lines = run_once(path, prefix=unprivileged)
    assert status == 1
    assert len(lines) == 1
    assert ":81 failed (13: Permission denied); ports below 1024 need root," in lines[0]


# Files.


def test_a_configuration_that_is_missing_is_named(tmp_path: pathlib.Path) -> None:
    status, _, lines = run_once(f"{tmp_path}/no.yml")
    message = f"nginy: [emerg] {tmp_path}/no.yml: cannot be read: No such file or directory"
    assert (status, lines) == (1, [message])


def test_a_configuration_that_may_not_be_read_is_named(
    tmp_path: pathlib.Path, unprivileged: list[str]
) -> None:
    path = write(tmp_path, listeners("127.0.0.1:1"))
    pathlib.Path(path).chmod(0)
    status, _, lines = run_once(path, prefix=unprivileged)
    assert (status, lines) == (1, [f"nginy: [emerg] {path}: cannot be read: Permission denied"])


def test_an_empty_file_says_what_belongs_there(tmp_path: pathlib.Path) -> None:
    assert refusals(tmp_path, "") == [
        "nginy: [emerg] nginy.yml: the file is empty, expected at least listeners"
    ]


@pytest.mark.parametrize(
    ("lines", "messages"),
    [
        (
            (
                "pid: no/nginy.pid",
                "error_log: no/error.log",
                "access_log: no/access.log",
                "user: no-such-user",
            ),
            (
                '1:6: pid: the directory "no" does not exist',
                '2:12: error_log: the directory "no" does not exist',
                '3:13: access_log: the directory "no" does not exist',
                '4:7: user: there is no user "no-such-user"',
            ),
        ),
        (("pid: .",), ('1:6: pid: "." is a directory, expected a file',)),
    ],
)
def test_what_the_system_does_not_have_is_found_before_anything_is_opened(
    tmp_path: pathlib.Path, here: str, lines: tuple[str, ...], messages: tuple[str, ...]
) -> None:
    said = refusals(tmp_path, "\n".join((*lines, listeners(here))))
    assert sorted(text.replace(str(tmp_path), ".") for text in said) == [
        f"nginy: [emerg] nginy.yml:{message}" for message in messages
    ]


def test_a_log_that_may_not_be_written_is_named(
    tmp_path: pathlib.Path, here: str, unprivileged: list[str]
) -> None:
    (tmp_path / "error.log").touch(mode=0o400)
    path = write(tmp_path, f"error_log: error.log\n{listeners(here)}")
    status, _, lines = run_once(path, prefix=unprivileged)
    reason = f'"{tmp_path}/error.log" cannot be written: Permission denied'
    assert (status, lines) == (1, [f"nginy: [emerg] {path}:1:12: error_log: {reason}"])


# What comes before the first client.


def test_the_pid_file_appears_when_signals_are_heeded_and_goes_with_the_process(
    tmp_path: pathlib.Path, here: str
) -> None:
    with Nginy(tmp_path, listeners(here)) as nginy:
        # At the first sight of the file: SIGHUP would kill a process that does not yet heed it.
        nginy.send_signal(signal.SIGHUP)
        nginy.said("configuration reloaded")
        assert nginy.pid_path.read_text() == f"{nginy.process.pid}\n"
        nginy.stop()
        assert not nginy.pid_path.exists()


@pytest.mark.parametrize("workers", [1, 2])
def test_connections_beyond_the_descriptor_limit_are_one_warning(
    tmp_path: pathlib.Path, here: str, workers: int
) -> None:
    config = f"workers: {workers}\nworker_connections: 100000000\n{listeners(here)}"
    with Nginy(tmp_path, config) as nginy:
        nginy.said("serving with")
        (line,) = nginy.said("worker_connections")
        assert " [warn] " in line
        assert "100000000 worker_connections exceed the limit of " in line
        nginy.stop()


@pytest.mark.parametrize(("workers", "count"), [(1, "1 worker"), (2, "2 workers")])
def test_the_start_says_version_file_and_workers(
    tmp_path: pathlib.Path, here: str, workers: int, count: str
) -> None:
    with Nginy(tmp_path, f"workers: {workers}\n{listeners(here)}") as nginy:
        nginy.said(rf"\[notice\] .* nginy/{__version__}, {nginy.path}, serving with {count}$")
        nginy.stop()


@as_root
def test_logs_that_the_user_cannot_open_again_are_a_warning(
    public_directory: pathlib.Path, here: str
) -> None:
    text = f"user: nobody\nerror_log: {public_directory}/error.log\n{listeners(here)}"
    path = write(public_directory, text)
    warning = (
        f'nginy: [warn] user "nobody" cannot create files in "{public_directory}", so the logs'
        " there cannot be reopened after a rotation: give it the directory, or rotate with"
        " copytruncate"
    )
    assert warning in run_once("-t", path)[2]
    public_directory.chmod(0o777)
    assert warning not in run_once("-t", path)[2]
    public_directory.chmod(0o755)
    write(public_directory, f"workers: 2\n{text}")
    assert warning not in run_once("-t", path)[2]
    own = f"{{listen: '{here}', return: hello, error_log: {public_directory}/own.log}}"
    write(public_directory, f"user: nobody\nlisteners: {own}\n")
    assert warning in run_once("-t", path)[2]


def test_user_is_for_root_alone(tmp_path: pathlib.Path, here: str) -> None:
    config = f"user: {getpass.getuser()}\n{listeners(here)}"
    if os.geteuid() == 0:
        pytest.skip("we are root")
    with Nginy(tmp_path, config) as nginy:
        nginy.said(r'\[warn\] .*"user" has no effect: nginy was not started by root')
        nginy.stop()


@pytest.fixture
def public_directory() -> Iterator[pathlib.Path]:
    """A directory that everybody may enter, and only its owner may write to."""
    with tempfile.TemporaryDirectory() as name:
        pathlib.Path(name).chmod(0o755)
        yield pathlib.Path(name)


@as_root
def test_root_becomes_user_and_keeps_its_port_its_pid_file_and_its_logs(
    public_directory: pathlib.Path,
) -> None:
    host = own_host()
    config = f"user: nobody\nerror_log: error.log\n{listeners(f'{host}:81')}"
    uid = pwd.getpwnam("nobody").pw_uid
    with Nginy(public_directory, config) as nginy:
        with socket.create_connection((host, 81)) as client:
            assert client.recv(100) == b"hello"
        status = pathlib.Path(f"/proc/{nginy.pid}/status").read_text()
        assert f"\nUid:\t{uid}\t{uid}\t{uid}\t" in status
        for name in ("nginy.pid", "error.log", "access.log"):
            assert (public_directory / name).stat().st_uid == uid
        nginy.send_signal(signal.SIGUSR1)
        assert nginy.session()["termination"] == "--"
        nginy.stop()
    errors = (public_directory / "error.log").read_text()
    assert "running as user nobody, group" in errors
    assert "[error]" not in errors
    # It cannot remove the file from a directory of root's, but -s finds no number there any more.
    assert (public_directory / "nginy.pid").read_text() == ""
