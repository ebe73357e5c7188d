"""The load check: it asks a backend's agent how the backend is doing, and obeys the answer.

The agent listens on a port of its own beside the backend and answers each connection with one line
(`wire/agent.py`). `health` decides what its words do to a backend, `monitor` applies that, and
`dialog` carries the inquiry.

The one idea: an agent that nginy cannot reach changes nothing. It says more about a backend than a
health check can see; it is not one more way to be down. So the log tells when a failure here begins
and ends, and that is all.

Source: HAProxy configuration manual, `agent-check`.
"""

import logging
import random
from collections.abc import Callable
from dataclasses import dataclass, replace

from nginy.backend.checks.checker import Checker
from nginy.backend.checks.dialog import Result
from nginy.backend.checks.open_checks import Check
from nginy.backend.health.schedule import CheckSchedule
from nginy.event.timer import Timer
from nginy.log.levels import NOTICE
from nginy.text.address import Address
from nginy.wire.agent import AgentAnswer, parse_agent_line
from nginy.wire.checks.talk import CheckFailedError, Script, Talk, Target
from nginy.wire.errors import WireError
from nginy.wire.shown import what_came

logger = logging.getLogger("nginy.backend")


@dataclass(frozen=True, slots=True)
class AgentSettings:
    """The key `agent_check`; `send` goes to the agent first, b"" for nothing."""

    port: int
    interval_ms: int = 5000
    timeout_ms: int = 1000
    send: bytes = b""


class AgentWatch:
    """Asks the agent of one backend at each interval. Created and closed by `watch`."""

    __slots__ = (
        "_address",
        "_answer",
        "_check",
        "_checker",
        "_failure",
        "_heard",
        "_rng",
        "_schedule",
        "_settings",
        "_timer",
        "_unknown",
    )

    def __init__(
        self,
        checker: Checker,
        rng: random.Random,
        address: Address,
        heard: Callable[[AgentAnswer], None],
    ) -> None:
        """Ask nothing yet; `heard` takes each answer."""
        self._checker = checker
        self._rng = rng
        self._address = address
        self._heard = heard
        self._schedule = CheckSchedule()
        self._timer = Timer(self._next_question_handler, self)
        self._check: Check | None = None
        self._answer = AgentAnswer()
        self._failure = self._unknown = ""

    def apply(self, settings: AgentSettings, position: int, total: int) -> None:
        """Begin to ask, for the backend at `position` among `total`, or go on with other
        settings."""
        self._settings = settings
        loop = self._checker.loop
        if self._schedule.next_at_ms is None:
            first_at_ms = loop.clock.now_ms + settings.interval_ms * position // total
            self._schedule.begin(first_at_ms, settings.interval_ms)
        self._schedule.plan(settings.interval_ms, 0, loop.clock.now_ms, self._rng)
        self._start_timer()

    def close(self) -> None:
        """Ask no more."""
        self._checker.open.leave(self)
        self._checker.loop.timers.cancel(self._timer)
        del self._timer  # which refers to this watch as well: see `BackendWatch.close`
        if self._check is not None:
            self._check.cancel()
            self._check = None

    def __str__(self) -> str:
        """Return what log lines call it."""
        return f"agent of {self._address}, port {self._settings.port}"

    def abort(self) -> None:
        """Ask again, one interval later, after a bug."""
        loop = self._checker.loop
        loop.timers.start(self._timer, loop.clock.now_ms + self._settings.interval_ms)

    def _start_timer(self) -> None:
        if self._schedule.next_at_ms is not None:
            self._checker.loop.timers.start(self._timer, self._schedule.next_at_ms)

    def _next_question_handler(self, _timer: Timer) -> None:
        if self._checker.open.admit(self):
            self.turn_has_come()

    def turn_has_come(self) -> None:
        """Ask: the number of open checks permits it."""
        settings, now_ms = self._settings, self._checker.loop.clock.now_ms
        self._schedule.start(settings.interval_ms, now_ms)
        self._schedule.plan(settings.interval_ms, 0, now_ms, self._rng)
        self._start_timer()
        if self._check is not None:
            self._check.cancel()
        address = replace(self._address, port=settings.port)
        deadline_ms = min(now_ms + settings.timeout_ms, self._schedule.next_at_ms or now_ms)
        check = self._checker.ask(self, address, deadline_ms, self._ended)
        self._check = check if check in self._checker.open else None

    @property
    def name(self) -> str:
        """Reasons begin without a name: the log line has it."""
        return ""

    def script(self, talk: Talk, _target: Target) -> Script[None]:
        """Ask the agent, and keep its answer."""
        yield self._settings.send
        while True:
            received = bytes(talk.received)
            try:
                answer = parse_agent_line(received, is_eof=talk.is_eof)
            except WireError as error:
                raise CheckFailedError(f"{error}: {what_came(received, '')}") from None
            if answer is not None:
                self._answer = answer
                return
            yield from talk.more()

    def _ended(self, result: Result) -> None:
        self._check = None
        if bool(result.failure) is not bool(self._failure):
            text = f"does not answer: {result.failure}" if result.failure else "answers again"
            level = logging.WARNING if result.failure else NOTICE
            logger.log(level, "agent of %s, port %d, %s", *self._names, text)
        self._failure = result.failure
        if result.failure:
            return
        unknown = self._answer.unknown
        if unknown and unknown != self._unknown:
            logger.warning(
                'agent of %s, port %d, says "%s", which is unknown', *self._names, unknown
            )
        self._unknown = unknown
        self._heard(self._answer)

    @property
    def _names(self) -> tuple[Address, int]:
        return self._address, self._settings.port
