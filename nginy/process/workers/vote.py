"""Vote: a reload of several workers on its way, and who has not answered yet.

It is the two-phase commit of the textbooks, with the supervisor as coordinator: first each worker
opens what the new configuration needs and says whether that worked, then all of them change or none
does. Nothing is written down for a crash: a worker that dies simply starts again with what was
decided.

This is the state alone. `supervisor.py` asks and counts, `worker.py` answers.

Tested in tests/run/test_workers.py.
"""

from nginy.config import schema
from nginy.process.workers.ports import Ports


class Vote:
    """A reload that the workers are asked about, and are then told to do."""

    __slots__ = ("config", "number", "ports", "text", "waiting")

    def __init__(self, number: int, config: schema.Config, text: str) -> None:
        self.number = str(number)
        """Tells its answers from late ones to an earlier vote."""
        self.config = config
        self.text = text
        self.ports: Ports = {}
        self.waiting: set[int] = set()
        """The workers that have not answered yet."""
