"""Thrift: how often a walk over everything may be repeated.

With 20,000 connections, a look at each takes 8 ms. If each answer took that look, two readers that
ask once a second would cost 2 % of what nginy can move. So an answer shows what an earlier walk has
found if that was a moment ago. A walk over 100 connections is repeated after 8 ms, one over 20,000
after 1.6 s. Like `pace.py`, this reckons with the costs of steps as measured.

Pure.
"""

import contextlib
from collections.abc import Iterator
from typing import Final

SHARE: Final = 0.005
"""What walks of one kind may take of the time."""


class Thrift:
    """Allows the walks of one kind. The first one is due at once."""

    __slots__ = ("_due_at_ms",)

    def __init__(self) -> None:
        self._due_at_ms = 0

    def allows(self, cost_us: float, now_ms: int) -> bool:
        """Return whether a walk is due; if so, it begins now, and the next one has to wait."""
        if now_ms < self._due_at_ms:
            return False
        self._due_at_ms = now_ms + int(cost_us / 1000 / SHARE)
        return True

    @contextlib.contextmanager
    def refund(self) -> Iterator[None]:
        """Let the next walk begin at once if the block, which is a walk, is cut short: its reader
        may leave, and nobody has what it found.
        """
        try:
            yield
        except BaseException:
            self._due_at_ms = 0
            raise
