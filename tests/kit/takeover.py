"""Upgrades of a running nginy, one after the other: what serves, what is gone, what the files say.

    with Succession(nginy, crowd) as line:
        outcome = line.upgrade()
        assert outcome.status == 0
        line.settled()

`line.pid` is the process that serves now; the first one is `nginy.process`. While the crowd steps,
the pid file is read again and again: at every moment it names a process that runs.

Not here: clients and backends (`kit.crowd`).
"""

import collections
import contextlib
import json
import os
import pathlib
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass

from kit.crowd import Crowd, Session
from kit.faults import resident_bytes
from kit.program import ENVIRONMENT, PROGRAM, Fields, Nginy, free_port, open_paths, own_host

CLOCK_S = 3.0
"""By how much a session's time differs from what its client has measured, on a busy machine."""
DRAIN_S = 10.0
"""How long a client that has not read so far may take to empty the kernel's buffers."""
GONE_S = 4.5
"""An old process without sessions is gone after this long."""


@dataclass(frozen=True)
class Upgraded:
    """What `nginy -s upgrade` has said."""

    status: int
    lines: tuple[str, ...]
    took_s: float

    def says(self, pattern: str) -> bool:
        """Whether a line has a match of a pattern."""
        return any(re.search(pattern, line) for line in self.lines)

    def __str__(self) -> str:
        return f"status {self.status} after {self.took_s:.2f} s:\n" + "\n".join(self.lines)


@dataclass(frozen=True)
class Held:
    """What a process holds: descriptors by kind, and memory."""

    descriptors: collections.Counter[str]
    resident_bytes: int


def held_by(pid: int) -> Held:
    """Look at what a process holds."""
    kinds = (path.rpartition("/")[2].partition(":")[0] for path in open_paths(pid))
    return Held(collections.Counter(kinds), resident_bytes(pid))


def runs(pid: int) -> bool:
    """Tell whether a process runs; one that has ended, and whose end nobody has read, does not."""
    try:
        text = pathlib.Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return False
    return text.rpartition(")")[2].split()[0] not in "ZX"


def processes_of(path: pathlib.Path) -> set[int]:
    """Return the processes that run with this configuration file: the one that serves, its workers.

    A crowd asks with each of its steps, so this makes no more of each process than it has to.
    """
    found = set()
    named = os.fsencode(path)
    for name in filter(str.isdecimal, os.listdir("/proc")):
        with contextlib.suppress(OSError), open(f"/proc/{name}/cmdline", "rb") as file:
            arguments = file.read().split(b"\0")
            if named in arguments and b"-s" not in arguments and runs(int(name)):
                found.add(int(name))
    return found


@dataclass(frozen=True)
class Place:
    """A TCP and a UDP listener in front of a crowd's backends."""

    tcp: tuple[str, int]
    udp: tuple[str, int]
    config: str


def place_of(crowd: Crowd, head: str = "") -> Place:
    host = own_host()
    tcp = host, free_port(host)
    udp = host, free_port(host, socket.SOCK_DGRAM)
    text = (
        f"{head}\nworker_connections: 10000\nlisteners:\n"
        f"- {{listen: '{host}:{tcp[1]}', proxy_pass: '{crowd.tcp_backend()}'}}\n"
        f"- {{listen: '{host}:{udp[1]}', protocol: udp, proxy_pass: '{crowd.udp_backend()}',"
        " proxy_timeout: 10m}\n"
    )
    return Place(tcp, udp, text)


class Succession:
    """The processes that serve one after the other; leaving the `with` block ends them all."""

    def __init__(self, nginy: Nginy, crowd: Crowd) -> None:
        self.nginy = nginy
        self.crowd = crowd
        self.pids = [nginy.process.pid]
        """All that the pid file has named."""
        self.may_be_dead = False
        """Whether the pid file may be wrong for a moment, because the process in it has ended."""
        crowd.watch = self._look

    def __enter__(self) -> "Succession":
        return self

    def __exit__(self, *_: object) -> None:
        while left := processes_of(self.nginy.path):
            for pid in left:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)

    @property
    def pid(self) -> int:
        """The process that the pid file names."""
        return self.pids[-1]

    def _look(self) -> None:
        """Read the pid file, which must name a process that runs."""
        try:
            pid = self.nginy.pid
        except (FileNotFoundError, ValueError):
            assert self.may_be_dead, f"the pid file names nobody; {self.crowd.context}"
            return
        if pid != self.pid:
            self.pids.append(pid)
        assert self.may_be_dead or runs(pid), (
            f"the pid file names {pid}, which does not run; {self.crowd.context}"
        )

    # Upgrades.

    def begin(self) -> "subprocess.Popen[str]":
        """Begin `nginy -s upgrade`."""
        return subprocess.Popen(
            [*PROGRAM, "-s", "upgrade", str(self.nginy.path)],
            cwd="/", env=ENVIRONMENT, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def upgrade(self, meanwhile: Callable[[], None] = lambda: None) -> Upgraded:
        """Upgrade, and return what was said; the crowd goes on meanwhile."""
        self.crowd.context = f"upgrade {len(self.pids)}"
        began_s = time.monotonic()
        with self.begin() as asking:
            assert asking.stdout is not None

            def has_ended() -> bool:
                meanwhile()
                return asking.poll() is not None

            try:
                self.crowd.step_until(has_ended, "an answer of -s upgrade")
            except BaseException:
                asking.kill()
                raise
            took_s = time.monotonic() - began_s
            return Upgraded(asking.returncode, tuple(asking.stdout.read().splitlines()), took_s)

    def succeed(self) -> Upgraded:
        """Upgrade, which must succeed; return when the old process is gone."""
        old = self.pid
        outcome = self.upgrade()
        assert outcome.status == 0, f"{outcome}\n{self.nginy.errors}"
        assert self.pid != old, f"{outcome}\nstill {old}"
        self.crowd.step_until(lambda: not runs(old), f"the end of {old}", GONE_S)
        return outcome

    def fail(self) -> Upgraded:
        """Upgrade, which must not succeed: the old process goes on, and nobody else is left."""
        before = self.processes()
        outcome = self.upgrade()
        assert outcome.status != 0, outcome
        self.goes_on(before)
        return outcome

    def processes(self) -> set[int]:
        """The process that serves, and its workers, when no upgrade is under way."""
        return processes_of(self.nginy.path)

    def goes_on(self, before: set[int]) -> None:
        """Wait until these are all that is left, and everybody was heard again."""

        def are_alone() -> bool:
            return self.processes() == before and self.pid in before

        self.crowd.step_until(are_alone, f"{before} to be alone, and in the pid file")
        self.crowd.hear_from_all()

    def end(self, number: signal.Signals = signal.SIGTERM) -> None:
        """End the process that serves; nobody must be left."""
        self.crowd.watch = lambda: None
        os.kill(self.pid, number)
        self.crowd.step_until(lambda: not processes_of(self.nginy.path), "the end of everybody")
        assert not self.nginy.pid_path.exists()
        assert not [line for line in self.nginy.errors if "Traceback" in line], self.nginy.errors


def check_log(nginy: Nginy, ended: list[Session], crowd: Crowd) -> None:
    """One line for each session, with its bytes and its time, however many processes it saw."""
    lines: list[Fields] = [json.loads(text) for text in nginy.access_lines()]
    tcp = [line for line in lines if line["protocol"] == "TCP"]
    logged = collections.Counter(map(summary_of, tcp))
    expected = collections.Counter(map(expected_of, ended))
    assert logged == expected, (logged - expected, expected - logged)
    # A newcomer may get the port of a session before it, but not its bytes.
    times_s = {summary_of(line): float(line["session_time"]) for line in tcp}
    for session in ended:
        lasted_s = session.ended_s - session.began_s
        if session.kind != "newcomer":  # two of them may be alike
            # What nginy has sent is still in the kernel's buffers when a session of bulk is over.
            less_s = DRAIN_S if session.kind == "bulk" else CLOCK_S
            logged_s = times_s[expected_of(session)]
            assert -less_s < logged_s - lasted_s < CLOCK_S, (logged_s, lasted_s, session)
    anew = {caller.address for caller in crowd.callers if caller.name in crowd.anew}
    assert collections.Counter(
        (address_of(line), line["requests"], line["responses"])
        for line in lines
        if line["protocol"] == "UDP" and address_of(line) not in anew
    ) == collections.Counter(
        (c.address, c.calls, c.calls) for c in crowd.callers if c.name not in crowd.anew
    )


def address_of(line: Fields) -> str:
    return f"{line['remote_addr']}:{line['remote_port']}"


def expected_of(session: Session) -> tuple[object, ...]:
    return session.address, "--", session.bytes_received, session.server.sent


def summary_of(line: Fields) -> tuple[object, ...]:
    return address_of(line), line["termination"], line["bytes_received"], line["bytes_sent"]
