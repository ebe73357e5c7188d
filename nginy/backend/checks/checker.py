"""Active health checks: what each kind asks a backend, and when the answer will do.

`Checker` makes checks on one loop. A check is a small session: it begins with an address and a
deadline, has one `Result`, and cleans up after itself. Checks by stream connections are dialogs
(`dialog`) with a judge from here, the check by datagrams is here, and `program` runs programs.
`health/schedule.py` and `watch` decide when to check, `health/health.py` what a result means.

The one idea: checks share only the loop. Each has its own descriptor and its own timer, none waits
for another, and none ever blocks, so one backend's trouble never delays another's check.

What to send and to expect is nginx Plus's `match` (ngx_stream_upstream_hc_module).
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from ssl import CERT_NONE, OP_NO_RENEGOTIATION, PROTOCOL_TLS_CLIENT, SSLContext

from nginy.backend.checks.dialog import (
    PASSED,
    PASSED_IN_SILENCE,
    Check,
    Dialog,
    Ended,
    Inquiry,
    Judge,
    OpenChecks,
    Result,
    call_failed,
    what_came,
)
from nginy.backend.checks.program import ProgramCheck
from nginy.event.connect import ConnectFailure, connect_datagram
from nginy.event.connection import AGAIN
from nginy.event.datagram import DatagramConnection
from nginy.event.event import Event
from nginy.event.loop import Loop
from nginy.event.timer import Timer
from nginy.text.address import Address
from nginy.wire.errors import WireError
from nginy.wire.expect import Expect, Verdict
from nginy.wire.http import build_request, format_statuses, parse_status


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """What a check asks: the part of `health_check` that is not policy.

    `kind` is "tcp", "udp", "http", "tls" or "exec". `port` takes the place of the backend's own.
    `send` and `expect` are for tcp, tls and udp; `path`, `host` and `statuses` for http; `name`,
    sent as SNI, for tls; `command` for exec.
    """

    kind: str = "tcp"
    port: int | None = None
    send: bytes = b""
    expect: Expect | None = None
    path: str = "/"
    host: str = ""
    statuses: frozenset[int] = frozenset(range(200, 400))
    name: str | None = None
    command: tuple[str, ...] = ()


class Checker:
    """Makes checks on one loop and knows the open ones. Created and closed by the server."""

    __slots__ = ("_kinds", "_tls", "loop", "open")

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.open: OpenChecks = set()
        self._tls = handshake_context()
        self._kinds: dict[str, Callable[[ProbeSettings, Address, int, Ended], Check]] = {
            "tcp": self._check_stream,
            "tls": self._check_stream,
            "http": self._check_http,
            "udp": self._check_datagram,
            "exec": self._check_program,
        }

    def start(
        self, probe: ProbeSettings, address: Address, deadline_ms: int, ended: Ended
    ) -> Check:
        """Start a check of the backend at `address`, to end by `deadline_ms`.

        `ended` is called once, maybe before this returns, unless the check is closed before.
        """
        if probe.port is not None:
            address = replace(address, port=probe.port)
        return self._kinds[probe.kind](probe, address, deadline_ms, ended)

    def ask(self, inquiry: Inquiry, address: Address, deadline_ms: int, ended: Ended) -> Check:
        """Make an inquiry that is no health check, such as the load check."""
        dialog = Dialog(self.loop, self.open, inquiry, ended)
        dialog.start(address, deadline_ms)
        return dialog

    def close(self) -> None:
        """Give up all checks, without results."""
        for check in tuple(self.open):
            check.close()

    def _check_stream(
        self, probe: ProbeSettings, address: Address, deadline_ms: int, ended: Ended
    ) -> Check:
        judge = None if probe.expect is None else partial(judge_expected, probe.expect)
        tls = self._tls if probe.kind == "tls" else None
        inquiry = Inquiry(probe.send, judge, str(probe.expect or ""), tls, probe.name)
        return self.ask(inquiry, address, deadline_ms, ended)

    def _check_http(
        self, probe: ProbeSettings, address: Address, deadline_ms: int, ended: Ended
    ) -> Check:
        host = probe.host or ("localhost" if address.is_unix else str(address))
        judge: Judge = partial(judge_status, probe.statuses)
        expected = f"status {format_statuses(probe.statuses)}"
        inquiry = Inquiry(build_request(probe.path, host), judge, expected)
        return self.ask(inquiry, address, deadline_ms, ended)

    def _check_datagram(
        self, probe: ProbeSettings, address: Address, deadline_ms: int, ended: Ended
    ) -> Check:
        check = DatagramCheck(self.loop, self.open, probe, ended)
        check.start(address, deadline_ms)
        return check

    def _check_program(
        self, probe: ProbeSettings, address: Address, deadline_ms: int, ended: Ended
    ) -> Check:
        check = ProgramCheck(self.loop, self.open, ended)
        check.start(probe.command, address, deadline_ms)
        return check


def handshake_context() -> SSLContext:
    """Return a context that trusts every certificate: a check asks whether TLS works."""
    context = SSLContext(PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = CERT_NONE
    context.options |= OP_NO_RENEGOTIATION
    return context


def judge_expected(expect: Expect, received: bytes, is_eof: bool) -> Result | None:
    """Judge an answer by the key `expect`."""
    came = what_came(received, str(expect))
    if is_eof and not received:
        return Result(f"the connection was closed without an answer: {came}")
    verdict = expect.judge(received, is_complete=is_eof)
    if verdict is Verdict.MORE:
        return None
    return PASSED if verdict is Verdict.YES else Result(f"the answer is not as expected: {came}")


def judge_status(statuses: frozenset[int], received: bytes, is_eof: bool) -> Result | None:
    """Judge an HTTP answer by its status."""
    try:
        status = parse_status(received, is_eof=is_eof)
    except WireError as error:
        return Result(f"{error}: {what_came(received, '')}")
    if status is None:
        return None
    if status in statuses:
        return PASSED
    return Result(f"status {status} came, {format_statuses(statuses)} was expected")


class DatagramCheck:
    """The udp check: it passes with the expected answer.

    If no answer is expected, any will do, and so will silence, unless an ICMP message comes by the
    deadline. Created by `Checker`; closes its socket itself.
    """

    __slots__ = ("_c", "_ended", "_loop", "_open", "_probe")

    def __init__(self, loop: Loop, open_checks: OpenChecks, probe: ProbeSettings, ended: Ended):
        self._loop = loop
        self._open = open_checks
        self._probe = probe
        self._ended: Ended | None = ended
        self._c: DatagramConnection | None = None

    def start(self, address: Address, deadline_ms: int) -> None:
        """Send the datagram; the owner may be told before this returns."""
        c = connect_datagram(self._loop, address)
        if isinstance(c, ConnectFailure):
            self._finish(Result(c.text, c.is_ours))
            return
        self._c = c
        c.data = self
        c.action = "checking a backend"
        c.read.timer = Timer(self._deadline_handler, self)
        self._loop.timers.start(c.read.timer, deadline_ms)
        self._open.add(self)
        c.read.handler = self._answer_handler
        c.resume_read()
        if c.send(self._probe.send) < 0:
            self._finish(call_failed("send", c.errno))

    def _answer_handler(self, event: Event) -> None:
        c, expect = event.data, self._probe.expect
        count = c.recv(self._loop.memory)
        if count == AGAIN:
            return
        if count < 0:
            self._finish(call_failed("recv", c.errno))
            return
        answer = bytes(self._loop.memory[:count])
        if expect is None or expect.judge(answer, is_complete=True) is Verdict.YES:
            self._finish(PASSED)
        else:
            came = what_came(answer, str(expect))
            self._finish(Result(f"the answer is not as expected: {came}"))

    def _deadline_handler(self, _timer: Timer) -> None:
        expect = self._probe.expect
        late = Result(f"no answer in time: {what_came(b'', str(expect))}")
        self._finish(PASSED_IN_SILENCE if expect is None else late)

    def _finish(self, result: Result) -> None:
        ended = self._ended
        self.close()
        if ended is not None:
            ended(result)

    def cancel(self) -> None:
        """Give up: the owner is not told."""
        self.close()

    def close(self) -> None:
        """Close the socket at once; the owner is not told."""
        self._ended = None
        self._open.discard(self)
        c, self._c = self._c, None
        if c is not None:
            c.close()

    def abort(self) -> None:
        """Give up after a bug in a handler; the backend has neither passed nor failed."""
        self._finish(Result("internal error", is_ours=True))
