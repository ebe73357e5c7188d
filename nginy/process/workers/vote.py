"""Vote: a reload of several workers on its way, and who has not answered yet.

It is the two-phase commit of the textbooks, with the supervisor as coordinator: first each worker
opens what the new configuration needs and says whether that worked, then all of them change or none
does. Nothing is written down for a crash: a worker that dies simply starts again with what was
decided.

This is the state alone, with the stages of a supervisor and its patience. `supervisor.py` asks and
counts, `worker.py` answers.

Tested in tests/run/test_workers.py.
"""

import enum
from dataclasses import dataclass

from nginy.config import schema
from nginy.process.admin import PreparedAdmin
from nginy.process.workers.crew import PING_MS
from nginy.process.workers.ports import Ports


@dataclass(frozen=True, slots=True)
class Patience:
    """How long the supervisor waits for workers before it kills them."""

    ping_ms: int = PING_MS
    """Three times this to say anything at all."""
    vote_ms: int = 10_000
    """To answer in a vote, which a worker does between two turns of its loop."""
    stop_ms: int = 5_000
    """To end at once."""


class Stage(enum.Enum):
    """What the supervisor is doing."""

    STARTING = "starting"
    """Not all of the first workers serve yet; if one of them dies, so does nginy."""
    SERVING = "serving"
    VOTING = "voting"
    """The workers have been asked whether they can change to a new configuration."""
    CHANGING = "changing"
    """All can, and have been told to."""
    ENDING = "ending"


class Vote:
    """A reload that the workers are asked about, and are then told to do."""

    __slots__ = ("admin", "config", "number", "ports", "text", "waiting")

    def __init__(self, number: int, config: schema.Config, text: str) -> None:
        self.number = str(number)
        """Tells its answers from late ones to an earlier vote."""
        self.config = config
        self.text = text
        self.ports: Ports = {}
        self.admin = PreparedAdmin(config)
        self.waiting: set[int] = set()
        """The workers that have not answered yet."""
