"""What each cause says about one backend at the moment, and why.

`states` defines the words and how they may change; `health` lets a cause speak.

The one idea: seven words stand side by side, and none knows of the others. `state` is the worst of
them, and `worst` is its cause.

Read first: `states`. Next: `health`.

Tested in tests/backend/health/test_states.py.
"""

from collections.abc import Collection, Iterable
from typing import Final

from nginy.backend.health.states import DELIBERATE, LOOKUP, Cause, Needs, State, Trigger
from nginy.wire.agent import AgentAnswer, Mode, OperatingWord

MODE_TRIGGERS: Final = {
    Mode.READY: Trigger.READY,
    Mode.DRAIN: Trigger.DRAIN,
    Mode.MAINT: Trigger.MAINT,
}

# Iterating over an enum takes longer than making all the rest of a backend.
_NO_OBJECTION: Final = dict.fromkeys(Cause, State.UP)
_NO_REASONS: Final = dict.fromkeys(Cause, "")


class Voices:
    """The seven voices about one backend; held by its `Health`. At first none has an objection."""

    __slots__ = ("_reasons", "_words")

    def __init__(self) -> None:
        self._words = _NO_OBJECTION.copy()
        self._reasons = _NO_REASONS.copy()

    def tell(
        self, cause: Cause, trigger: Trigger, reason: str, met: Collection[Needs] = (Needs.ONE,)
    ) -> bool:
        """Move one voice by the table; return whether it moved.

        `met` are the needs that are met: with too few results in a row nothing moves.
        """
        transition = LOOKUP.get((cause, self._words[cause], trigger))
        if transition is None or transition.needs not in met:
            return False
        self.set(cause, transition.after, reason)
        return True

    def set(self, cause: Cause, word: State, reason: str) -> None:
        """Give a voice its first word, one of `states.FIRST_WORDS`."""
        self._words[cause] = word
        self._reasons[cause] = reason

    def word(self, cause: Cause) -> State:
        """Return what one cause says."""
        return self._words[cause]

    def words(self) -> dict[Cause, State]:
        """Return what each cause says."""
        return dict(self._words)

    @property
    def state(self) -> State:
        """The worst word."""
        return max(self._words.values())

    @property
    def worst(self) -> Cause:
        """The cause with the worst word; of several, the first in the order of `Cause`."""
        return max(Cause, key=self._words.__getitem__)

    @property
    def reason(self) -> str:
        """The reason for the worst word."""
        return self._reasons[self.worst]

    @property
    def are_deliberate(self) -> bool:
        """Whether any of them keeps the backend out on purpose, even behind a worse word."""
        return not DELIBERATE.isdisjoint(self._words.values())


def agent_words(answer: AgentAnswer) -> Iterable[tuple[Cause, Trigger, str]]:
    """Return what an answer says to each of the agent's voices."""
    if answer.mode is not None:
        yield Cause.AGENT_MODE, MODE_TRIGGERS[answer.mode], f"agent says {answer.mode.value}"
    if answer.condition is not None:
        trigger = Trigger.AGENT_UP if answer.condition is OperatingWord.UP else Trigger.AGENT_DOWN
        reason = f" ({answer.reason})" if answer.reason else ""
        yield Cause.AGENT_CONDITION, trigger, f"agent says {answer.condition.value}{reason}"
    if answer.weight_percent is not None:
        trigger = Trigger.WEIGHT_SOME if answer.weight_percent else Trigger.WEIGHT_ZERO
        yield Cause.AGENT_WEIGHT, trigger, f"agent says {answer.weight_percent}%"
