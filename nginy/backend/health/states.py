"""The states of a backend, their causes, and the one table of transitions.

`voices` holds what the causes say about one backend at the moment, `health` its counters and its
weight. This module has no state of its own.

The one idea: **each cause has a voice, and the worst word counts.** Seven causes speak about a
backend, each for itself: an operator's "ready" does not undo an agent's "drain", and the end of an
ejection does not bring back a backend that a check has found down. The table says how each voice
changes. The backend's state is the worst word; `State` is in that order:

    up < checking < ejected < draining < down < unresolved < maintenance

The order follows the effect on sessions. Draining is worse than ejected: somebody wants it, and
it does not end by itself. Down is worse than draining: a draining backend that dies must not keep
its old sessions. Without an address and in maintenance nginy makes no checks, so it knows nothing
below those.

The diagram in README.md is `diagram()`; a test compares them.

Read next: `voices`, `health`.
"""

from dataclasses import dataclass
from enum import Enum, IntEnum
from typing import Final


class State(IntEnum):
    """The state of a backend, and what one cause says about it; the worse, the greater."""

    UP = 0  # gets new sessions; as one cause's word: no objection
    CHECKING = 1  # no new sessions until a check has passed: nothing is known yet
    EJECTED = 2  # no new sessions for a while: too many have failed
    DRAINING = 3  # no new sessions, old ones finish: an operator or the agent wants it
    DOWN = 4  # a check or the agent says that it does not work
    UNRESOLVED = 5  # its name has no address
    MAINTENANCE = 6  # out, and not checked: an operator or the agent wants it

    def __str__(self) -> str:
        """Return the word for logs and pages."""
        return self.name.lower()


class Cause(Enum):
    """What speaks about a backend. The agent has three voices, as its words are independent."""

    OPERATOR = "operator"  # runtime changes, and `down` in the configuration
    AGENT_MODE = "agent mode"  # ready, drain, maint
    AGENT_CONDITION = "agent condition"  # up, down, fail, stopped
    AGENT_WEIGHT = "agent weight"  # 0 % is a way to say drain
    NAME = "name"  # whether the backend stands for a name without an address
    CHECK = "check"  # the active health check
    PASSIVE = "passive"  # failures of sessions


@dataclass(frozen=True, slots=True)
class StateChange:
    """A change of a backend's state. `cause` has spoken, and gives the reason in one clause."""

    before: State
    after: State
    cause: Cause
    reason: str

    def __str__(self) -> str:
        """Return the end of a log line: "up -> down: 3 checks in a row failed: refused"."""
        return f"{self.before} -> {self.after}: {self.reason}"


class Trigger(Enum):
    """What moves a voice."""

    READY = "ready"
    DRAIN = "drain"
    MAINT = "maint"
    AGENT_UP = "agent says up"
    AGENT_DOWN = "agent says down"
    WEIGHT_ZERO = "weight 0%"
    WEIGHT_SOME = "weight above 0%"
    CHECK_PASSED = "check passed"
    CHECK_FAILED = "check failed"
    CHECKS_PAUSED = "checks paused"
    TOO_MANY_FAILURES = "too many failures"
    EJECTION_OVER = "ejection over"


class Needs(Enum):
    """How many results of one kind in a row a transition needs."""

    ONE = ""
    FAILS = " x fails"  # the setting `fails`
    PASSES = " x passes"  # the setting `passes`


@dataclass(frozen=True, slots=True)
class Transition:
    """One line of the table: `cause` says `before`, and after `trigger` it says `after`."""

    cause: Cause
    before: State
    trigger: Trigger
    after: State
    needs: Needs = Needs.ONE


def _modes(cause: Cause) -> tuple[Transition, ...]:
    """Return the transitions between ready, drain and maint: each word leads to its state."""
    words = {
        Trigger.READY: State.UP,
        Trigger.DRAIN: State.DRAINING,
        Trigger.MAINT: State.MAINTENANCE,
    }
    return tuple(
        Transition(cause, before, trigger, after)
        for before in words.values()
        for trigger, after in words.items()
        if before is not after
    )


# What is not in the table changes nothing, such as a repeated word. A name has no row: once it has
# an address, other backends take the place of the unresolved one (names/members.py).
TRANSITIONS: Final = (
    *_modes(Cause.OPERATOR),
    *_modes(Cause.AGENT_MODE),
    Transition(Cause.AGENT_CONDITION, State.UP, Trigger.AGENT_DOWN, State.DOWN),
    Transition(Cause.AGENT_CONDITION, State.DOWN, Trigger.AGENT_UP, State.UP),
    Transition(Cause.AGENT_WEIGHT, State.UP, Trigger.WEIGHT_ZERO, State.DRAINING),
    Transition(Cause.AGENT_WEIGHT, State.DRAINING, Trigger.WEIGHT_SOME, State.UP),
    # One pass is enough for a backend without a bad record (`initial: down`).
    Transition(Cause.CHECK, State.CHECKING, Trigger.CHECK_PASSED, State.UP),
    Transition(Cause.CHECK, State.CHECKING, Trigger.CHECK_FAILED, State.DOWN, Needs.FAILS),
    Transition(Cause.CHECK, State.UP, Trigger.CHECK_FAILED, State.DOWN, Needs.FAILS),
    Transition(Cause.CHECK, State.DOWN, Trigger.CHECK_PASSED, State.UP, Needs.PASSES),
    # A pause makes older findings out of date.
    Transition(Cause.CHECK, State.UP, Trigger.CHECKS_PAUSED, State.CHECKING),
    Transition(Cause.CHECK, State.DOWN, Trigger.CHECKS_PAUSED, State.CHECKING),
    Transition(Cause.PASSIVE, State.UP, Trigger.TOO_MANY_FAILURES, State.EJECTED),
    Transition(Cause.PASSIVE, State.EJECTED, Trigger.EJECTION_OVER, State.UP),
)

LOOKUP: Final = {(t.cause, t.before, t.trigger): t for t in TRANSITIONS}

# `fail_open` does not override these: somebody wants them, or there is no address.
DELIBERATE: Final = frozenset({State.DRAINING, State.UNRESOLVED, State.MAINTENANCE})

# No operator has asked for these: they are bad news.
TROUBLES: Final = frozenset({State.EJECTED, State.DOWN, State.UNRESOLVED})

# No checks in these: there is nowhere to send one, or its failure is expected.
UNCHECKED: Final = frozenset({State.UNRESOLVED, State.MAINTENANCE})

# The first words of each voice; [*] in the diagram.
FIRST_WORDS: Final = dict.fromkeys(Cause, (State.UP,)) | {
    Cause.OPERATOR: (State.UP, State.MAINTENANCE),  # `down: true`
    Cause.CHECK: (State.UP, State.CHECKING),  # `initial: up` and `initial: down`
    Cause.NAME: (State.UP, State.UNRESOLVED),  # an address literal, a host name
}


def diagram() -> str:
    """Return the table as a Mermaid state diagram: one region for each cause."""
    lines = ["stateDiagram-v2"]
    for cause in Cause:
        region = cause.value.replace(" ", "_")
        rows = [t for t in TRANSITIONS if t.cause is cause]
        lines.append(f'    state "{cause.value}" as {region} {{')
        states = {*FIRST_WORDS[cause], *(t.before for t in rows)}
        lines.extend(f"        {region}_{state} : {state}" for state in sorted(states))
        lines.extend(f"        [*] --> {region}_{state}" for state in FIRST_WORDS[cause])
        lines.extend(
            f"        {region}_{t.before} --> {region}_{t.after} : {t.trigger.value}{t.needs.value}"
            for t in rows
        )
        lines.append("    }")
    return "\n".join(lines)
