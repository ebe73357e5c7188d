"""Totals: how a worker's counts reach its supervisor, so that they outlive the worker.

A worker sends them at every second ping of its supervisor, and when it ends. A ping wakes it
anyway, so an idle worker has no timer and no wakeup for this, and clients pay nothing. What has
grown since the last time leaves in messages, slice by slice, like answers of the admin interface.

The supervisor adds the last totals of a dead worker to those of all dead workers (`reports.py`).

Tested in tests/run/test_admin_totals.py.
"""

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Final

from nginy.admin.facts.totals import Totals
from nginy.admin.subject import Front, Subject
from nginy.event.timer import Timer
from nginy.process.workers.channel import Channel

PINGS: Final = 2
"""Pings from one report of totals to the next: 10 s."""
SEND_AGAIN_MS: Final = 100
"""When to go on if the supervisor has not read the last message yet."""
LAST_MS: Final = 500
"""How long the end of a worker may wait for its supervisor to read."""


class Teller:
    """The worker's side. Closed by the worker."""

    def __init__(self, subject: Subject, channel: Channel) -> None:
        self._subject = subject
        self._channel = channel
        self._totals = Totals(subject)
        self._pings = 0
        self._news: Iterator[str | None] | None = None
        """The totals that are being sent."""
        self._unsent = ""
        self._timer = Timer(self._timer_handler, self)
        self._fronts: Sequence[Front] | None = None

    def pinged(self) -> None:
        """Begin to send, at every second ping."""
        self._pings += 1
        if self._pings % PINGS == 0 and self._news is None:
            self._news = self._totals.news(self._known_fronts())
            self._subject.loop.soon(self._work, self)

    def ends(self) -> None:
        """Remember the listeners: they close before the worker ends."""
        if self._fronts is None:
            self._fronts = self._subject.fronts()

    def _known_fronts(self) -> Sequence[Front]:
        return self._subject.fronts() if self._fronts is None else self._fronts

    def _work(self) -> None:
        """Do one slice."""
        if self._news is None or not self._has_sent(self._unsent):
            return
        for text in self._news:
            if text is None:
                self._subject.loop.soon(self._work, self)
                return
            if not self._has_sent(text):
                return
        self._news = None

    def _has_sent(self, text: str) -> bool:
        """Send a message, now or later; return whether it was now."""
        self._unsent = text if text and not self._channel.send("totals", text) else ""
        if self._unsent:
            loop = self._subject.loop
            loop.timers.start(self._timer, loop.clock.now_ms + SEND_AGAIN_MS)
        return not self._unsent

    def _timer_handler(self, _timer: Timer) -> None:
        self._work()

    def __str__(self) -> str:
        """Return what log lines call it."""
        return "the totals for the supervisor"

    def abort(self) -> None:
        """Go on after a bug, with the next ping."""
        self._news, self._unsent = None, ""

    def close(self) -> None:
        """Send the rest, as this process is ending, unless the supervisor does not read."""
        self._subject.loop.timers.cancel(self._timer)
        last = self._totals.news(self._known_fronts())
        for text in chain([self._unsent], self._news or (), last):
            if text and not self._channel.send_last("totals", text, LAST_MS):
                return
