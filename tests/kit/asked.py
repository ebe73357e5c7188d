"""Servers as Debian packages them, and the health checks that ask them.

    with RealServer(argv, host, port, tmp_path) as server:
        repeat(checks, server, RedisCheck())
        assert not server.lines("error")
        go_through(checks, server, RedisCheck())

A server is asked a hundred times before its log is read, so a complaint about a client that leaves
without a word would show; then it hears what the checks of all other protocols say, is frozen, and
at last it is stopped.
"""

import contextlib
import os
import pathlib
import pwd
import re
import signal
import subprocess
from collections.abc import Iterator, Sequence
from functools import partial

import pytest
from nginy.backend.checks.checker import Checker, ProbeSettings
from nginy.backend.checks.dialog import PASSED, Result
from nginy.event.tls_client import ClientTls
from nginy.text.address import parse_address
from nginy.wire.checks.dns import DnsCheck
from nginy.wire.checks.http import HttpCheck
from nginy.wire.checks.ldap import LdapCheck
from nginy.wire.checks.mail import ImapCheck, Pop3Check, SmtpCheck
from nginy.wire.checks.mqtt import MqttCheck
from nginy.wire.checks.mysql import MysqlCheck
from nginy.wire.checks.ntp import NtpCheck
from nginy.wire.checks.postgres import PostgresCheck
from nginy.wire.checks.radius import RadiusCheck
from nginy.wire.checks.redis import RedisCheck
from nginy.wire.checks.sip import SipCheck
from nginy.wire.checks.ssh import SshCheck
from nginy.wire.checks.talk import Question

from kit.harness import Harness
from kit.others import is_bound
from kit.program import needs, wait_until

TIMES = 100
TIMEOUT_MS = 8000  # a server that has just started on a busy machine takes its time
FROZEN_MS = 300

TLS = ClientTls(verify=False)
QUESTIONS = {
    "tcp": (
        *(RedisCheck(), MysqlCheck("nginy"), PostgresCheck(), SmtpCheck(), Pop3Check()),
        *(ImapCheck(), LdapCheck(), MqttCheck(), SshCheck(), DnsCheck("a.test")),
        *(HttpCheck(name="http"), HttpCheck(name="https")),
    ),
    "udp": (DnsCheck("a.test"), NtpCheck(), SipCheck(), RadiusCheck(b"s3cret")),
}
"""One of each protocol, by what carries it."""


class Checks:
    """Makes checks, and waits for their results."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.checker = Checker(harness.loop)

    def begin(
        self,
        question: Question,
        address: str,
        timeout_ms: int = TIMEOUT_MS,
        transport: str = "tcp",
        tls: ClientTls | None = None,
        name: str | None = None,
    ) -> list[Result]:
        """Begin a check, and return where its result will be."""
        results: list[Result] = []
        deadline_ms = self.harness.loop.clock.now_ms + timeout_ms
        target = parse_address(address)
        probe = ProbeSettings(question, transport, tls=tls, name=name)
        self.checker.start(probe, target, deadline_ms, results.append, name=address)
        return results

    def ask(
        self,
        question: Question,
        address: str,
        timeout_ms: int = TIMEOUT_MS,
        transport: str = "tcp",
        tls: ClientTls | None = None,
        name: str | None = None,
    ) -> Result:
        """Make a check, and return its result."""
        results = self.begin(question, address, timeout_ms, transport, tls, name)
        self.harness.turn_until(lambda: results)
        return results[0]

    def rest(self) -> None:
        """Wait until the last check has closed its connection."""
        self.harness.turn_until(lambda: not self.checker.open)


class RealServer:
    """A server that runs until the block ends. Its output is its log."""

    def __init__(
        self,
        argv: Sequence[str],
        host: str,
        port: int,
        directory: pathlib.Path,
        transport: str = "tcp",
    ) -> None:
        self.name = f"{host}:{port}"
        self.log = directory / "server.out"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                argv,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        is_over = self.process.poll
        wait_until(lambda: is_bound(host, port, transport) or is_over() is not None, argv[0])
        assert self.process.poll() is None, self.log.read_text()
        self.begin = 0

    def __enter__(self) -> "RealServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def signal(self, number: int) -> None:
        """Send a signal to all processes of the server."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def freeze(self) -> None:
        """Stop all its threads, and wait until none runs."""
        self.signal(signal.SIGSTOP)
        wait_until(lambda: set(self._states()) <= {"T", "Z"}, "the server to stop")

    def _states(self) -> Iterator[str]:
        """Yield the state of each thread, as /proc/PID/stat has it."""
        threads: list[str] = []
        for pid in filter(str.isdecimal, os.listdir("/proc")):
            with contextlib.suppress(OSError):  # it has ended, as any may below
                threads += (f"/proc/{pid}/task/{each}" for each in os.listdir(f"/proc/{pid}/task"))
        for path in threads:
            with contextlib.suppress(OSError):
                text = pathlib.Path(f"{path}/stat").read_text()
                state, _, group = text.rpartition(")")[2].split()[:3]
                if group == str(self.process.pid):
                    yield state

    def kill(self) -> None:
        """End all its processes at once; then the address is free."""
        self.signal(signal.SIGKILL)
        self.process.wait()
        wait_until(lambda: set(self._states()) <= {"Z"}, "the end of the server")

    def lines(self, pattern: str) -> list[str]:
        """The lines of the log that match a pattern, in any case."""
        lines = self.log.read_text(errors="replace")[self.begin :].splitlines()
        return [line for line in lines if re.search(pattern, line, re.IGNORECASE)]


def repeat(
    checks: Checks,
    server: RealServer,
    question: Question,
    sign: str = "",
    tls: ClientTls | None = None,
    transport: str = "tcp",
) -> None:
    """Ask a hundred times, from here on to be read in the log, where each leaves a `sign`."""
    ask = partial(checks.ask, question, server.name, transport=transport, tls=tls)
    assert ask() == PASSED
    checks.rest()
    if sign:
        wait_until(lambda: server.lines(sign), sign)
    server.begin = len(server.log.read_text(errors="replace"))
    for _ in range(TIMES):
        assert ask() == PASSED
        checks.rest()
    if sign:
        wait_until(lambda: len(server.lines(sign)) >= TIMES, sign)


def go_through(
    checks: Checks,
    server: RealServer,
    question: Question,
    tls: ClientTls | None = None,
    transport: str = "tcp",
) -> None:
    """Speak everything else to a server that is up, then ask it while it is frozen and stopped."""
    ask = partial(checks.ask, address=server.name, transport=transport)
    speak_otherwise(checks, server, question, transport)
    assert ask(question, tls=tls) == PASSED
    server.freeze()
    frozen = ask(question, timeout_ms=FROZEN_MS, tls=tls)
    server.signal(signal.SIGCONT)
    assert ("no answer in time" if transport == "udp" else "timed out") in frozen.failure
    checks.rest()
    assert ask(question, tls=tls) == PASSED
    server.kill()
    # The last of its processes may end a moment later, with a datagram that it has not read.
    stopped = partial(ask, question, timeout_ms=FROZEN_MS, tls=tls)
    wait_until(lambda: "Connection refused" in stopped().failure, "a refusal")


def speak_otherwise(
    checks: Checks, server: RealServer, question: Question, transport: str = "tcp"
) -> None:
    """See the checks of all other protocols fail, each with its reason, and none hang."""
    others = [other for other in QUESTIONS[transport] if other.name != question.name]
    begun = {
        other.name: checks.begin(
            other, server.name, FROZEN_MS, transport, TLS if other.name == "https" else None
        )
        for other in others
    }
    checks.harness.turn_until(lambda: all(begun.values()))
    for name, (result,) in begun.items():
        assert not result.is_ours
        assert re.match(rf"{name}: .", result.failure), result
    checks.rest()


def as_user(name: str, directory: pathlib.Path) -> list[str]:
    """Return the beginning of a command line that runs as a user, who gets the directory."""
    if os.geteuid():
        return []
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        pytest.skip(f"there is no user {name}")
    os.chown(directory, user.pw_uid, user.pw_gid)
    for parent in directory.parents[:-1]:
        if not os.stat(parent).st_mode & 0o001:
            pytest.skip(f"the user {name} cannot get to {directory}")
    return [needs("setpriv", "util-linux"), f"--reuid={name}", f"--regid={name}", "--clear-groups"]
