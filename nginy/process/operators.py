"""OperatorChanges: applies what operators have set, keeps it, and hands it to a successor.

The book of changes is in the subject (`admin/changes/book.py`), and requests write there. This
sends what holds to all processes that serve, ends leases in time, has a reload overrule what it
contradicts, and keeps the file of changes up to date (`state_file.py`). At an upgrade, the book
goes along.

Tested in tests/run/test_admin_state.py.
"""

import logging

from nginy.admin.answer import Poll
from nginy.admin.changes.changing import follow_file, tell
from nginy.admin.changes.kept import lines_of, parse_kept
from nginy.admin.changes.overriding import OVERRIDING, details
from nginy.admin.subject import Subject
from nginy.config import schema
from nginy.event.loop import Loop
from nginy.event.timer import Timer
from nginy.process.newcomers import misfits, settings_of
from nginy.process.state_file import StateFile
from nginy.process.takeover.predecessor import Predecessor

logger = logging.getLogger("nginy.server")


class OperatorChanges:
    """The changes of one process, for all that serve. Created and closed by the `AdminSet`."""

    def __init__(self, loop: Loop, subject: Subject) -> None:
        """Follow the book of `subject`."""
        self._loop = loop
        self._subject = subject
        self._timer = Timer(self._lease_handler, self)
        self._state = StateFile(loop, subject.book)
        self._is_begun = False
        """Whether the first configuration is known."""
        self.overruled: list[str] = []
        """What became of the changes that the last configuration overrules."""
        subject.changed = self._book_changed

    def follow(self, config: schema.Config) -> None:
        """Follow the configuration of a start or a reload, which overrules what contradicts it."""
        subject = self._subject
        if self._is_begun:
            self._state.follow(config.admin_state)
        else:
            self._state.begin(config.admin_state)
        self._is_begun = True
        had_changes = len(subject.book) > 0
        self.overruled = follow_file(subject)
        for change, reason in misfits(config, subject.book):
            subject.book.remove_all_of(change.place)
            text = f"{change} by an operator is dropped: {reason}"
            tell(subject, text, change.place)
            self.overruled += [text, *follow_file(subject)]
        if had_changes:
            self.apply()

    def apply(self) -> None:
        """Send the changes that hold to all processes that serve, without waiting for them."""
        subject = self._subject
        subject.set_level(None if subject.book.level is None else subject.book.level[0])
        if subject.crew is None:
            subject.override(subject.book.overrides(), subject.book.listings())
        else:
            question = Poll(OVERRIDING.name, details(subject.book))
            subject.crew.ask(question, lambda _: None)
        self._book_changed()

    def _book_changed(self) -> None:
        """Set the timer for the end of the next lease, if there is one, and keep the book."""
        self._state.changed()
        next_at_ms = self._subject.book.next_at_ms
        if next_at_ms is None:
            self._loop.timers.cancel(self._timer)
        else:
            self._loop.timers.start(self._timer, next_at_ms)

    def _lease_handler(self, _timer: Timer) -> None:
        for change in self._subject.book.expire(self._loop.clock.now_ms):
            tell(self._subject, f"{change} has expired", change.place)
        if self._subject.book.expire_level(self._loop.clock.now_ms):
            tell(self._subject, "the error log has its configured level again")
        self.apply()

    def __str__(self) -> str:
        """Return what log lines call it."""
        return "changes by operators"

    def abort(self) -> None:
        """Go on after a bug; the leases end with the next change."""

    def book(self) -> bytes:
        """Return what operators have set, for a successor."""
        clock = self._loop.clock
        return "\n".join(lines_of(self._subject.book, clock.now_ms, clock.wall_ms())).encode()

    def succeed(self, predecessor: Predecessor) -> None:
        """Take over what operators have set in the process before this one, and what they set there
        from now on.
        """
        predecessor.book_changed = self._inherit
        if predecessor.book is not None:
            self._inherit(predecessor.book)

    def _inherit(self, book: bytes) -> None:
        clock = self._loop.clock
        try:
            changes = parse_kept(book, clock.now_ms, clock.wall_ms(), settings_of)
        except ValueError as error:
            text = "changes by operators are forgotten: what was handed over %s"
            logger.log(logging.ERROR, text, error)
            return
        self._subject.book.remove(lambda _: True)
        for change in changes:
            self._subject.book.set(change)
        if self._is_begun:
            self.apply()

    def keep(self) -> None:
        """Write down what operators have set: another process is about to read it."""
        self._state.flush()

    def leave(self) -> None:
        """Write nothing: in a child of the process that does."""
        self._state.leave()

    def close(self) -> None:
        """Write what is due, and nothing more."""
        self._state.close()
        self._loop.timers.cancel(self._timer)
