"""Phases: what a client passes before its session goes to its content.

    accept -> real address -> limits -> access -> content (`proxy_pass` or `return`) -> log

A handler has a list of phases, in nginx's order (`ngx_stream.h`, `NGX_STREAM_POST_ACCEPT_PHASE` and
the following), and only those that its listener's configuration asks for. Most listeners have none;
their sessions go to their content at once.

A phase lets the session pass to the next one, has it wait, or refuses it. `enter` runs them for a
TCP session, which ends when a phase refuses it. `proxy/udp/stranger.py` runs them for a UDP client:
it drops and counts a refused datagram, and begins no session.

Each phase is a thin layer around a pure module such as `proxy/access.py`, which decides.
`config/phases.py` makes the list from the configuration.

nginx: `ngx_stream_core_run_phases` in `ngx_stream_core_module.c`.

Tested in tests/proxy/test_access_live.py.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TypeAlias

from nginy.proxy.access import Access
from nginy.proxy.context import host_of
from nginy.proxy.session import Reason, Session


class Passage(Enum):
    """How a session goes on after a phase that does not refuse it."""

    PASS = "pass"
    """The next phase runs (NGX_DECLINED)."""
    WAIT = "wait"
    """The phase itself calls `enter` when it knows more (NGX_AGAIN)."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a phase ends a session."""

    reason: Reason
    detail: str
    """Replaces the reason's own sentence."""
    drop: str
    """What the datagram of a UDP client is counted as, one of `proxy/drops.py::DROPS`; for a TCP
    client, `REFUSALS` says it."""


PhaseResult: TypeAlias = Passage | Refusal


class Phase(ABC):
    """One phase of a listener. It holds no state of a session."""

    __slots__ = ()

    @abstractmethod
    def run(self, session: Session, rest: "Phases") -> PhaseResult:
        """Decide on a session whose client is in `session.client`.

        `rest` are the phases after this one, for a phase that waits.
        """


Phases: TypeAlias = Sequence[Phase]


def enter(session: Session, phases: Phases) -> None:
    """Run phases of a TCP session, then start its content; it may have ended when this returns."""
    for number, phase in enumerate(phases, 1):
        verdict = phase.run(session, phases[number:])
        if verdict is Passage.WAIT:
            return
        if isinstance(verdict, Refusal):
            refuse(session, verdict)
            return
    session.start()


def refuse(session: Session, refusal: Refusal) -> None:
    """End a TCP session that a phase has refused."""
    session.finalize(refusal.reason, refusal.detail)


class AccessPhase(Phase):
    """Refuses clients by their address (`access`)."""

    __slots__ = ("_access",)

    def __init__(self, access: Access) -> None:
        self._access = access

    def run(self, session: Session, rest: Phases) -> PhaseResult:
        """Let the first rule that matches decide."""
        rule = self._access.denies(host_of(session.client.sockaddr))
        if rule is None:
            return Passage.PASS
        return Refusal(Reason.DENIED, f'denied by the access rule "{rule}"', "access")
