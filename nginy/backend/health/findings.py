"""What checks and agents have found out about a backend, as one worker tells it to another.

Here are the values. `health` decides what follows from them, `checks/relay.py` carries them.

The one idea: a finding says what is, not what has changed, so it may be lost or come twice.

Tested in tests/backend/checks/test_relay.py.
"""

from dataclasses import dataclass
from typing import Final

from nginy.backend.health.states import State
from nginy.wire.agent import AgentAnswer


@dataclass(frozen=True, slots=True)
class CheckFinding:
    """What an active check has found: its `word`, after `in_row` equal results.

    `failure` is the clause on the last result, "" if it passed; `is_passing` if it did so by an
    answer, and not by silence.
    """

    word: State
    in_row: int
    failure: str
    is_passing: bool = False


NOTHING_SAID: Final = AgentAnswer()
"""What an agent has said that was never heard."""

Finding = CheckFinding | AgentAnswer
"""What the check has found, or all that the backend's agent has said so far."""


def merge(before: AgentAnswer, answer: AgentAnswer) -> AgentAnswer:
    """Add an agent's new answer to all that it has said before."""
    return AgentAnswer(
        before.weight_percent if answer.weight_percent is None else answer.weight_percent,
        before.max_conns if answer.max_conns is None else answer.max_conns,
        answer.mode or before.mode,
        answer.condition or before.condition,
        before.reason if answer.condition is None else answer.reason,
    )


def result_text(in_row: int, failure: str | None) -> str:
    """Return the clause on the last of `in_row` results: "3 checks in a row failed: refused"."""
    result = "passed" if failure is None else "failed"
    text = f"check {result}" if in_row == 1 else f"{in_row} checks in a row {result}"
    return text if failure is None else f"{text}: {failure}"
