"""StateFile: what operators have set, in a file that outlasts the process (`admin_state`).

A start reads the file, and each change writes it anew: a tenth of a second later, so that one write
serves a whole deployment. nginy writes a new file beside the old one and then renames it, so a
reader always finds one of the two, even if nginy ends meanwhile. Like the lines of logs, it goes to
the page cache, since the loop must not wait for the disk. A write that fails, on a full disk for
example, is repeated until it succeeds. After a loss of power the file may be the old one, or torn;
a torn one is an error in the log and never stops a start.

`admin/changes/kept.py` says what is in the file.

Tested in tests/run/test_admin_state.py.
"""

import contextlib
import logging
import os
import stat
from typing import Final

from nginy.admin.changes.book import Book
from nginy.admin.changes.kept import lines_of, parse_kept
from nginy.config.paths import at_once
from nginy.event.loop import Loop
from nginy.event.timer import Timer
from nginy.log.levels import NOTICE
from nginy.process.gradual import Gradual, Steps
from nginy.process.newcomers import settings_of

logger = logging.getLogger("nginy.server")

DELAY_MS: Final = 100
RETRY_MS: Final = 5_000
"""When to try again after a failure; a thousand changes take some 10 ms, in slices."""
FILE_MAX_BYTES: Final = 4 << 20
"""A thousand changes take a tenth of this; a larger file is not ours."""
LINES_A_STEP: Final = 50
SUFFIX: Final = ".new"


class StateFile:
    """The file, or none. Created and closed by the `AdminSet`."""

    def __init__(self, loop: Loop, book: Book) -> None:
        """Read and write nothing."""
        self._loop = loop
        self._book = book
        self._path: str | None = None
        self._timer = Timer(self._timer_handler, self)
        self._saving = Gradual(loop, self)
        self._is_due = False
        """Whether the file lacks a change."""
        self._has_failed = False

    def begin(self, path: str | None) -> None:
        """At a start, put the changes in the file back into the book."""
        self._path = path
        if path is None:
            return
        clock = self._loop.clock
        try:
            data = _read(path)
            if data is None:
                return
            found = parse_kept(data, clock.now_ms, clock.wall_ms(), settings_of)
        except OSError as error:
            self._forget(f"cannot be read ({error.errno}: {error.strerror})")
            return
        except ValueError as error:
            self._forget(str(error))
            return
        for change in found:
            self._book.set(change)
        if found:
            text = "changes by operators of before the start hold again: %d"
            logger.log(NOTICE, text, len(self._book))

    def _forget(self, reason: str) -> None:
        text = 'admin_state "%s" %s, so changes by operators before the start are forgotten'
        logger.error(text, self._path, reason)

    def follow(self, path: str | None) -> None:
        """Go over to the path that a reload sets."""
        if path != self._path:
            self._path = path
            self.changed()

    def changed(self) -> None:
        """Write the file soon."""
        if self._path is not None and not self._is_due:
            self._is_due = True
            self._loop.timers.start(self._timer, self._loop.clock.now_ms + DELAY_MS)

    def flush(self) -> None:
        """Write now what is due: the process is ending, or another one is about to read the
        file.
        """
        if self._timer.is_running:
            self._loop.timers.cancel(self._timer)
            self._timer_handler(self._timer)
        self._saving.finish()

    def close(self) -> None:
        """Write what is due, and nothing more."""
        self.flush()
        self.leave()

    def leave(self) -> None:
        """Write nothing: in a child of the process that does."""
        self._loop.timers.cancel(self._timer)
        self._saving.close()
        self._is_due = False

    def _timer_handler(self, _timer: Timer) -> None:
        self._is_due = False
        if self._path is not None:
            self._saving.start(self._save(self._path))

    def _save(self, path: str) -> Steps[None]:
        clock = self._loop.clock
        lines = []
        for line in lines_of(self._book, clock.now_ms, clock.wall_ms()):
            lines.append(line)
            if len(lines) % LINES_A_STEP == 0:
                yield
        try:
            _replace(path, "\n".join([*lines, ""]).encode())
        except OSError as error:
            self._note(path, f"cannot be written ({error.errno}: {error.strerror})")
            self._loop.timers.start(self._timer, clock.now_ms + RETRY_MS)
        else:
            self._note(path, "")

    def _note(self, path: str, problem: str) -> None:
        """Log, once each, that the file cannot be written, and that it can again."""
        if problem and not self._has_failed:
            logger.error('admin_state "%s" %s, so a restart forgets changes', path, problem)
        elif self._has_failed and not problem:
            logger.log(NOTICE, 'admin_state "%s" is written again', path)
        self._has_failed = bool(problem)

    def __str__(self) -> str:
        """Return what log lines call it."""
        return "the file of changes by operators"

    def abort(self) -> None:
        """Go on after a bug; the next change writes the file."""


def _read(path: str) -> bytes | None:
    """Return what the file has, None if there is none; raises OSError or ValueError."""
    try:
        file = open(path, "rb", opener=at_once)  # noqa: SIM115 - closed below
    except FileNotFoundError:
        return None
    with file:
        if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
            raise ValueError("is no file")
        data = file.read(FILE_MAX_BYTES + 1)
    if len(data) > FILE_MAX_BYTES:
        raise ValueError("is too large to be nginy's")
    return data


def _replace(path: str, data: bytes) -> None:
    """Put a new file in the place of the old one; raises OSError."""
    new = f"{path}{SUFFIX}"
    with contextlib.suppress(FileNotFoundError):
        os.unlink(new)
    fd = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    try:
        with open(fd, "wb") as file:
            file.write(data)
        os.rename(new, path)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise
