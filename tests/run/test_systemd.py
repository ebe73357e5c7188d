"""bin/nginy under a service manager: it reports its states, gets its sockets, has a unit."""

import contextlib
import grp
import os
import pathlib
import re
import resource
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator

import pytest

from kit.program import (
    CHECKOUT,
    PATIENCE_S,
    PROGRAM,
    Nginy,
    free_port,
    needs,
    own_host,
    run_once,
    wait_until,
)

WATCHDOG_S = 0.15
WORKERS = pytest.mark.parametrize("workers", [1, 2])


@pytest.fixture
def manager(tmp_path: pathlib.Path) -> Iterator[socket.socket]:
    """What systemd listens on for notifications."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.settimeout(PATIENCE_S)
        sock.bind(str(tmp_path / "notify"))
        yield sock


@pytest.fixture
def notify(manager: socket.socket) -> list[str]:
    """The beginning of a command line for a program that notifies."""
    return ["env", f"NOTIFY_SOCKET={manager.getsockname()}"]


def heard(manager: socket.socket) -> dict[str, str]:
    """The next notification."""
    lines = manager.recv(4096).decode().split("\n")
    return dict(line.split("=", 1) for line in lines)


def config(workers: int, address: str) -> str:
    return f"workers: {workers}\nlisteners: {{listen: '{address}', return: hello}}\n"


def ask(address: str) -> bytes:
    host, _, port = address.rpartition(":")
    with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as client:
        return b"".join(iter(lambda: client.recv(100), b""))


@WORKERS
def test_every_state_is_told_in_its_turn(
    tmp_path: pathlib.Path, manager: socket.socket, notify: list[str], workers: int
) -> None:
    host = own_host()
    address = f"{host}:{free_port(host)}"
    with Nginy(tmp_path, config(workers, address), prefix=notify) as nginy:
        ready = heard(manager)
        assert (ready["READY"], ready["MAINPID"]) == ("1", str(nginy.process.pid))
        assert ask(address) == b"hello"
        nginy.send_signal(signal.SIGHUP)
        reloading = heard(manager)
        assert reloading["RELOADING"] == "1"
        assert int(reloading["MONOTONIC_USEC"]) > 0
        assert heard(manager)["READY"] == "1"
        nginy.write("listeners: nonsense\n")
        nginy.send_signal(signal.SIGHUP)
        assert heard(manager)["RELOADING"] == "1"
        refused = heard(manager)
        assert refused["READY"] == "1"
        assert re.search(
            "^serving with . workers?; reload refused: .*nginy.yml:[0-9]", refused["STATUS"]
        )
        nginy.said("configuration not changed")
        nginy.stop(signal.SIGQUIT)
        stopping = heard(manager)
        assert stopping["STOPPING"] == "1"
        assert stopping["STATUS"] == (
            "no sessions are left"
            if workers == 1
            else "waiting for the sessions of 2 workers to end"
        )


@WORKERS
def test_a_graceful_end_tells_how_many_sessions_it_waits_for(
    tmp_path: pathlib.Path, manager: socket.socket, notify: list[str], workers: int
) -> None:
    host = own_host()
    port = free_port(host)
    with socket.create_server((host, 0)) as backend:
        to = "{}:{}".format(*backend.getsockname())
        listener = f"listeners: {{listen: '{host}:{port}', proxy_pass: '{to}'}}"
        with Nginy(tmp_path, f"workers: {workers}\n{listener}\n", prefix=notify) as nginy:
            heard(manager)
            with socket.create_connection((host, port), timeout=PATIENCE_S):
                backend.settimeout(PATIENCE_S)
                accepted, _ = backend.accept()
                with accepted:
                    nginy.send_signal(signal.SIGQUIT)
                    told = [heard(manager)["STATUS"] for _ in range(workers)]
            assert re.fullmatch("waiting for 1 session to end, until ..:..:.. at most", told[-1])
            nginy.wait()


@WORKERS
def test_term_is_told_as_an_end_too(
    tmp_path: pathlib.Path, manager: socket.socket, notify: list[str], workers: int
) -> None:
    host = own_host()
    with Nginy(tmp_path, config(workers, f"{host}:{free_port(host)}"), prefix=notify) as nginy:
        assert heard(manager)["READY"] == "1"
        nginy.stop()
        assert heard(manager)["STOPPING"] == "1"


@WORKERS
def test_at_an_upgrade_no_process_tells_that_the_service_ends(
    tmp_path: pathlib.Path, manager: socket.socket, notify: list[str], workers: int
) -> None:
    """With NotifyAccess=all the manager would stop the new process, which serves, too."""
    host = own_host()
    address = f"{host}:{free_port(host)}"
    with Nginy(tmp_path, config(workers, address), prefix=notify) as nginy:
        assert heard(manager)["READY"] == "1"
        assert run_once("-s", "upgrade", str(nginy.path))[0] == 0
        nginy.process.wait(PATIENCE_S)
        told = [heard(manager)]
        manager.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                told.append(heard(manager))
        successor = nginy.pid
        os.kill(successor, signal.SIGTERM)
        nginy.wait()
    assert [each.get("MAINPID") for each in told] == [str(successor)]


@WORKERS
def test_a_loop_that_is_stuck_gives_no_sign_of_life(
    tmp_path: pathlib.Path, manager: socket.socket, notify: list[str], workers: int
) -> None:
    host = own_host()
    prefix = [*notify, f"WATCHDOG_USEC={WATCHDOG_S * 1e6:.0f}", "PYTHONFAULTHANDLER=1"]
    with Nginy(tmp_path, config(workers, f"{host}:{free_port(host)}"), prefix=prefix) as nginy:
        nginy.limit(resource.RLIMIT_CORE, 0)
        assert heard(manager)["READY"] == "1"
        for _ in range(3):
            assert heard(manager) == {"WATCHDOG": "1"}
        nginy.send_signal(signal.SIGSTOP)
        os.waitid(os.P_PID, nginy.process.pid, os.WSTOPPED)
        manager.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while heard(manager):
                pass  # sent before it stopped
        manager.settimeout(WATCHDOG_S)
        with pytest.raises(TimeoutError):
            heard(manager)
        # what systemd does then
        nginy.send_signal(signal.SIGABRT)
        nginy.send_signal(signal.SIGCONT)
        nginy.process.wait(PATIENCE_S)
        assert nginy.process.returncode == -signal.SIGABRT
        assert nginy.said("Fatal Python error: Aborted")
        assert nginy.said(r"event/loop.py.* in turn")


@WORKERS
def test_passed_sockets_are_served_or_closed(tmp_path: pathlib.Path, workers: int) -> None:
    addresses = []
    for _ in range(2):
        host = own_host()
        addresses.append(f"{host}:{free_port(host)}")
    served, unwanted = addresses
    prefix = [sys.executable, "-c", MANAGER, *addresses, "--"]
    with Nginy(tmp_path, config(workers, served), prefix=prefix) as nginy:
        (line,) = nginy.said("inherited socket")
        assert f"('{unwanted.partition(':')[0]}', " in line
        assert ask(served) == b"hello"
        with pytest.raises(ConnectionRefusedError):
            ask(unwanted)
        nginy.stop()


MANAGER = """
import os, socket, sys
end = sys.argv.index("--")
sockets = [socket.create_server((host, int(port))) for host, port in
           (text.split(":") for text in sys.argv[1:end])]
high = [os.dup2(sock.fileno(), 100 + i) for i, sock in enumerate(sockets)]
for i, fd in enumerate(high):
    os.dup2(fd, 3 + i)
    os.close(fd)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(high)))
os.execv(sys.argv[end + 1], sys.argv[end + 1:])
"""
"""A service manager in few lines: binds the addresses that it is given, and becomes the service."""


def test_systemd_socket_activate_starts_it(tmp_path: pathlib.Path) -> None:
    activate = needs("systemd-socket-activate", "systemd")
    host = own_host()
    address = f"{host}:{free_port(host)}"
    path = tmp_path / "nginy.yml"
    path.write_text(config(1, address))
    command = [activate, f"--listen={address}", *PROGRAM, str(path)]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        try:
            wait_until(lambda: is_open(address), "systemd-socket-activate to listen")
            assert ask(address) == b"hello"
            process.send_signal(signal.SIGTERM)
            process.communicate(timeout=PATIENCE_S)
            assert process.returncode == 0
        finally:
            process.kill()


def is_open(address: str) -> bool:
    """Whether somebody listens, found out without connecting: that would start it."""
    host, _, port = address.rpartition(":")
    wanted = f"{socket.inet_aton(host)[::-1].hex().upper()}:{int(port):04X}"
    return any(
        line.split()[1] == wanted
        for line in pathlib.Path("/proc/net/tcp").read_text().splitlines()[1:]
    )


def unit(name: str) -> dict[str, list[str]]:
    """The settings of a unit in etc/, each with all its values."""
    settings: dict[str, list[str]] = {}
    for line in (CHECKOUT / "etc" / name).read_text().splitlines():
        key, separator, value = line.partition("=")
        if separator and not line.startswith("#"):
            settings.setdefault(key, []).append(value)
    return settings


def test_the_unit_fits_the_program() -> None:
    service = unit("nginy.service")
    assert service["Type"] == ["notify"]
    assert service["KillSignal"] == ["SIGQUIT"]
    assert service["NotifyAccess"] == ["all"]
    assert service["WatchdogSec"] == ["30s"]
    assert service["Environment"] == ["PYTHONFAULTHANDLER=1"]


def test_stopping_the_unit_lasts_until_the_last_session_has_ended(tmp_path: pathlib.Path) -> None:
    """systemd waits for ExecStop, but not for a process that is not its child, as after USR2."""
    [line] = unit("nginy.service")["ExecStop"]
    host = own_host()
    port = free_port(host)
    with socket.create_server((host, 0)) as backend:
        to = "{}:{}".format(*backend.getsockname())
        text = f"listeners: {{listen: '{host}:{port}', proxy_pass: '{to}'}}\n"
        with (
            Nginy(tmp_path, text) as nginy,
            socket.create_connection((host, port), timeout=PATIENCE_S) as client,
        ):
            backend.settimeout(PATIENCE_S)
            accepted, _ = backend.accept()
            environ = {**os.environ, "MAINPID": str(nginy.process.pid)}
            command = shlex.split(line.removeprefix("-"))
            with subprocess.Popen(command, env=environ) as stopping:
                nginy.said("waiting for 1 session to end")
                assert stopping.poll() is None
                accepted.sendall(b"whole")
                accepted.close()
                assert client.recv(10) == b"whole"
                client.close()
                nginy.wait()
                assert stopping.wait(PATIENCE_S) == 0


EXPOSURE_MAX = 2.0


@pytest.mark.real
def test_the_unit_is_hardened_and_what_remains_is_explained() -> None:
    analyze = needs("systemd-analyze", "systemd")
    path = CHECKOUT / "etc" / "nginy.service"
    done = subprocess.run(
        [analyze, "security", "--offline=true", "--no-pager", str(path)],
        env={**os.environ, "SYSTEMD_COLORS": "0", "LC_ALL": "C.UTF-8"},
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    if "unrecognized option" in done.stderr:
        pytest.skip("this systemd-analyze cannot look at a file (systemd 250 can)")
    (overall,) = re.findall("Overall exposure level for nginy.service: ([0-9.]+)", done.stdout)
    assert float(overall) <= EXPOSURE_MAX
    explained = path.read_text().partition("# What `systemd-analyze")[2]
    assert f"({overall} in all)" in explained
    # "✗ RootDirectory=/RootImage=  Service runs ..."; ~CAP_NET_(BIND_SERVICE|...) has its word, too
    for finding in re.findall(r"^✗ (\S+)", done.stdout, re.MULTILINE):
        word = "CAP_NET_BIND_SERVICE" if "CAP_NET_" in finding else finding.partition("=")[0]
        assert word in explained, finding


SMALL_PROC = """
mount -t proc -o subset=pid,hidepid=invisible proc /proc || exit 77
test ! -e /proc/sys || exit 77
exec "$@"
"""
"""What the unit's ProtectProc and ProcSubset do; the mount is in a namespace of its own."""


@pytest.mark.real
@WORKERS
def test_the_proc_of_the_unit_is_enough(tmp_path: pathlib.Path, workers: int) -> None:
    if os.geteuid():
        pytest.skip("only root can mount")
    inside = [needs("unshare", "util-linux"), "--mount", "--propagation", "private"]
    inside += ["sh", "-c", SMALL_PROC, "-"]
    if subprocess.run([*inside, "true"], capture_output=True, check=False).returncode:
        pytest.skip("this kernel cannot mount a /proc of processes alone (Linux 5.8 can)")
    host = own_host()
    address, taken = (f"{host}:{free_port(host)}" for _ in range(2))
    with Nginy(tmp_path, config(workers, address), prefix=inside) as nginy:
        with socket.create_server((host, int(taken.rpartition(":")[2]))):
            nginy.write(config(workers, taken))
            status, _, errors = run_once("-s", "reload", str(nginy.path), prefix=inside)
        assert status == 1
        assert "Address already in use" in errors[0]
        assert f"PID {os.getpid()}" in errors[0]
        nginy.write(config(workers, address).replace("hello", "again"))
        assert run_once("-s", "reload", str(nginy.path), prefix=inside)[0] == 0
        assert ask(address) == b"again"
        nginy.stop(signal.SIGQUIT)


WORK = """
workers: 2
admin: {{listen: 'unix:{directory}/admin.sock', mode: 0660, group: {group}}}
admin_state: ./state
worker_connections: 2000
upstreams: {{web: {{backends: ['{one}'], health_check: {{type: tcp, interval: 50ms}}}}}}
listeners:
- {{listen: '{front}', proxy_pass: web}}
- {{listen: '{one}', return: hello}}
- {{listen: '{front}', protocol: udp, proxy_pass: '{one}', proxy_responses: 1}}
- {{listen: '{one}', protocol: udp, return: hello}}
"""


@pytest.mark.real
def test_the_unit_allows_every_system_call_that_nginy_makes(tmp_path: pathlib.Path) -> None:
    analyze, strace = needs("systemd-analyze", "systemd"), needs("strace", "strace")
    host = own_host()
    front, one = (f"{host}:{free_port(host)}" for _ in range(2))
    prefix = [strace, "-D", "-f", "-qq", "-o", str(tmp_path / "calls"), "--"]
    group = grp.getgrgid(os.getegid()).gr_name  # the unit's Group= in place of chown()
    text = WORK.format(front=front, one=one, group=group, directory=tmp_path)
    with Nginy(tmp_path, text, prefix=prefix) as nginy:
        assert run_once("drain", str(nginy.path), f"web/{one}")[0] == 0
        assert run_once("ready", str(nginy.path), f"web/{one}")[0] == 0
        assert ask(front) == b"hello"
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.settimeout(PATIENCE_S)
            client.connect((host, int(front.rpartition(":")[2])))
            client.send(b"x")
            assert client.recv(10) == b"hello"
        nginy.send_signal(signal.SIGUSR1)
        assert run_once("-s", "reload", str(nginy.path))[0] == 0
        nginy.stop(signal.SIGQUIT)
    calls = (tmp_path / "calls").read_text()
    assert not re.findall(r".*PROT_WRITE\|PROT_EXEC.*", calls)  # MemoryDenyWriteExecute
    made = set(re.findall(r"^\d+ +(\w+)\(", calls, re.MULTILINE))
    assert len(made) > 40
    allowed, *denied = unit("nginy.service")["SystemCallFilter"]
    groups = filter_groups(analyze)
    calls_allowed = expanded(groups, [*allowed.split(), "@default"])
    for line in denied:
        calls_allowed -= expanded(groups, line.removeprefix("~").split())
    assert made <= calls_allowed


def filter_groups(analyze: str) -> dict[str, list[str]]:
    """The names of systemd's groups of system calls, and what is in each."""
    text = subprocess.run(
        [analyze, "--no-pager", "syscall-filter"],
        env={**os.environ, "SYSTEMD_COLORS": "0"},
        capture_output=True,
        text=True,
        check=True,
        timeout=PATIENCE_S,
    ).stdout
    blocks = re.findall(r"^(@[\w-]+)\n((?: +.*\n)*)", text, re.MULTILINE)
    return {name: re.findall(r"^ +([@\w-]+)$", lines, re.MULTILINE) for name, lines in blocks}


def expanded(groups: dict[str, list[str]], names: list[str]) -> set[str]:
    """The system calls that names of calls and of groups stand for."""
    found = set()
    for name in names:
        found |= expanded(groups, groups[name]) if name in groups else {name}
    return found


@pytest.mark.real
@pytest.mark.parametrize("name", ["nginy.service", "nginy.socket"])
def test_systemd_understands_the_unit(tmp_path: pathlib.Path, name: str) -> None:
    analyze = needs("systemd-analyze", "systemd")
    for each in ("nginy.service", "nginy.socket"):
        text = (CHECKOUT / "etc" / each).read_text()
        (tmp_path / each).write_text(text.replace("/usr/local/bin/nginy", PROGRAM[0]))
    done = subprocess.run(
        [analyze, "verify", "--man=no", str(tmp_path / name)],
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )
    assert [line for line in done.stderr.splitlines() if "nginy" in line] == []
    assert done.returncode == 0
