"""The files by which others find a running nginy: its process id, and what it says of itself.

`-s reload` and the other signals read the id from the pid file. `nginy plan` compares a new
configuration with the running one, and the file on disk may have changed since. So the server keeps
the text of what it runs (that of `nginy -T`) in a second file beside the first, PATH.conf. Two
more, PATH.reload and PATH.reopen, have the outcome of the last reload and of the last reopening of
the logs (`report.py`). Only nginy's own user can read these three.

nginy opens the files once, before it drops privileges, and rewrites them in place: the user that it
becomes may have no right to create files there. If it may not even remove them in the end, it
empties them. Their first line names the process they belong to, so that no reader takes the words
of a killed nginy for those of the next one.

nginx: `ngx_create_pidfile`, `ngx_delete_pidfile` in `ngx_cycle.c`.
"""

import contextlib
import logging
import os
import re
from pathlib import Path
from typing import Final

from nginy.errors import NginyError
from nginy.log.levels import NOTICE

logger = logging.getLogger("nginy.server")

PID_MAX_CHARACTERS: Final = 64
"""Of a pid file; more than that is something else."""


class _Companion:
    """A file beside the pid file: opened once, and rewritten in place."""

    __slots__ = ("_fd", "path")

    def __init__(self, path: str) -> None:
        """Open the file, for its owner alone; raises OSError."""
        self.path = path
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        self._fd = os.open(path, flags, 0o600)

    def rewrite(self, text: str) -> None:
        """Replace the content with `text`; raises OSError if the disk is full."""
        data = f"{_first_line(os.getpid(), text)}{text}".encode(errors="surrogateescape")
        os.ftruncate(self._fd, 0)
        os.pwrite(self._fd, data, 0)

    def rename(self, path: str) -> None:
        """Rename the file, if possible."""
        with contextlib.suppress(OSError):
            os.rename(self.path, path)
        self.path = path

    def remove(self) -> None:
        """Remove the file, or empty it if the system does not permit that."""
        try:
            os.unlink(self.path)
        except OSError:
            os.ftruncate(self._fd, 0)
        os.close(self._fd)


class PidFile:
    """The files of this process. Created and removed by the server."""

    __slots__ = ("_outcome", "_reopening", "_text", "path")

    def __init__(self, path: str, text: str) -> None:
        """Write all files, or none of them and raise NginyError."""
        self.path = path
        self._text: _Companion | None = None
        self._outcome: _Companion | None = None
        self._reopening: _Companion | None = None
        try:
            with open(path, "w", encoding="ascii") as file:
                file.write(f"{os.getpid()}\n")
        except OSError as error:
            raise _cannot_open(path, error) from error
        try:
            # In this order: the text tells others that the process is ready.
            self._outcome = _Companion(outcome_path(path))
            self._outcome.rewrite("")
            self._reopening = _Companion(reopening_path(path))
            self._reopening.rewrite("")
            self._text = _Companion(text_path(path))
            self._text.rewrite(text)
        except OSError as error:
            self.remove()
            raise _cannot_open(error.filename or path, error) from error

    def rewrite(self, text: str) -> None:
        """Note another configuration; raises OSError if the disk is full."""
        if self._text is not None:
            self._text.rewrite(text)

    def note_outcome(self, text: str) -> None:
        """Note the outcome of the last reload; raises OSError if the disk is full."""
        if self._outcome is not None:
            self._outcome.rewrite(text)

    def note_reopening(self, text: str) -> None:
        """Note the outcome of reopening the logs; raises OSError if the disk is full."""
        if self._reopening is not None:
            self._reopening.rewrite(text)

    def rename(self, path: str) -> None:
        """Rename the files, since a successor takes this name; raises OSError."""
        os.rename(self.path, path)
        self.path = path
        if self._text is not None:
            self._text.rename(text_path(path))
        if self._outcome is not None:
            self._outcome.rename(outcome_path(path))
        if self._reopening is not None:
            self._reopening.rename(reopening_path(path))

    def give_to(self, uid: int, gid: int) -> None:
        """Make the files the property of the user that nginy becomes, so it can empty them."""
        own = self.path
        for path in (own, text_path(own), outcome_path(own), reopening_path(own)):
            os.chown(path, uid, gid)

    def remove(self) -> None:
        """Remove all files, or empty them if the system does not permit that."""
        try:
            os.unlink(self.path)
        except OSError:
            with contextlib.suppress(OSError):
                os.truncate(self.path, 0)
        for companion in (self._text, self._outcome, self._reopening):
            if companion is not None:
                companion.remove()
        self._text = self._outcome = self._reopening = None


def open_pid_file(current: PidFile | None, path: str | None, text: str) -> PidFile | None:
    """Return the pid file to go over to: `current` if it has that path, a new one, or none.

    Raises NginyError if nginy cannot write a new one, or another nginy owns it.
    """
    if path is None or (current is not None and current.path == path):
        return None if path is None else current
    refuse_owned(path)
    return PidFile(path, text)


def refuse_owned(path: str) -> None:
    """Raise NginyError if a running nginy has written this pid file; note a stale one."""
    try:
        pid = read_pid(path)
    except NginyError:
        return
    if pid == os.getpid():
        return
    if _is_nginy(pid):
        raise NginyError(f'nginy is already running, PID {pid} of "{path}"')
    logger.log(NOTICE, 'overwriting stale pid file "%s", no nginy runs as PID %d', path, pid)


def _is_nginy(pid: int) -> bool:
    """Whether the process is an nginy; after a reboot the id may be any program's."""
    try:
        arguments = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(os.path.basename(argument) == b"nginy" for argument in arguments)


def replace_pid_file(
    current: PidFile | None, pid_file: PidFile | None, text: str = ""
) -> PidFile | None:
    """Go over to what `open_pid_file` has returned, with the configuration that runs now."""
    if current is not None and current is not pid_file:
        current.remove()
    elif current is not None:
        try:
            current.rewrite(text)
        except OSError as error:
            logger.warning("write() failed (%s: %s)", error.errno, error.strerror)
    return pid_file


def text_path(path: str) -> str:
    """Return the path of the configuration that belongs to a pid file."""
    return f"{path}.conf"


def outcome_path(path: str) -> str:
    """Return the path of the last reload's outcome that belongs to a pid file."""
    return f"{path}.reload"


def reopening_path(path: str) -> str:
    """Return the path of the last reopening's outcome that belongs to a pid file."""
    return f"{path}.reopen"


def read_pid(path: str) -> int:
    """Return the process id in a pid file; raises NginyError."""
    text = _read(path, PID_MAX_CHARACTERS).strip()
    if not re.fullmatch("[1-9][0-9]{0,8}", text):
        shown = text if text.isprintable() else ascii(text)
        raise NginyError(f'invalid PID number "{shown}" in "{path}"')
    return int(text)


def read_running(path: str) -> str:
    """Return the configuration that the process of a pid file runs, as text; raises NginyError."""
    pid = read_pid(path)
    try:
        os.kill(pid, 0)
    except OSError as error:
        reason = f"({error.errno}: {error.strerror})"
        raise NginyError(f'nothing runs as PID {pid} of "{path}" {reason}') from error
    text = _read_companion(text_path(path), pid)
    if text is None:
        raise NginyError(f'"{text_path(path)}" is not what PID {pid} runs')
    return text


def read_outcome(path: str, pid: int) -> str:
    """Return the outcome of the last reload of process `pid` as text; raises NginyError.

    "" if there was none, or while the process is writing it.
    """
    return _read_companion(outcome_path(path), pid) or ""


def read_reopening(path: str, pid: int) -> str:
    """Return the outcome of the last reopening of process `pid`, as `read_outcome` does."""
    return _read_companion(reopening_path(path), pid) or ""


def _read_companion(path: str, pid: int) -> str | None:
    """Return the text that process `pid` has written; None if it is another's or not whole."""
    whole = _read(path, -1)
    first, _, text = whole.partition("\n")
    return text if f"{first}\n" == _first_line(pid, text) else None


def _first_line(pid: int, text: str) -> str:
    """Return the line that tells whose text it is, and whether it is whole."""
    return f"# written by nginy, PID {pid}, {len(text)} characters\n"


def _read(path: str, max_characters: int) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read(max_characters)
    except OSError as error:
        raise _cannot_open(path, error) from error


def _cannot_open(path: str, error: OSError) -> NginyError:
    return NginyError(f'open() "{path}" failed ({error.errno}: {error.strerror})')
