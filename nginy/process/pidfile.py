"""The files by which others find a running nginy: its process id, and what it says of itself.

`-s reload` and the other signals read the id from the pid file. `nginy plan` compares a new
configuration with the running one, and the file on disk may have changed since. So the server keeps
the text of what it runs (that of `nginy -T`) in a second file beside the first, PATH.conf. Three
more, PATH.reload, PATH.reopen and PATH.upgrade, hold the outcome of the last reload, of the last
reopening of the logs (`report.py`) and of the last upgrade (`takeover/report.py`). Only nginy's own
user can read these four.

nginy opens the files once, before it drops privileges, and rewrites them in place: the user that it
becomes may have no right to create files there. If it may not remove them in the end, it empties
them. Their first line names the process that wrote them, so no reader takes the text of a killed
nginy for that of the next one.

A successor (`upgrade.py`) writes its own id over that of the process before it, by one call, so
that whoever reads the file finds one of the two at any time. The old process then lends the files;
its own id is in PATH.oldbin until it ends, if it may create that.

nginx: `ngx_create_pidfile`, `ngx_delete_pidfile` in `ngx_cycle.c`.
"""

import contextlib
import errno
import logging
import os
import re
from pathlib import Path
from typing import Final

from nginy.errors import NginyError
from nginy.log.levels import NOTICE

logger = logging.getLogger("nginy.server")

PID_MAX_CHARACTERS: Final = 64
"""The longest pid file; a longer file is something else."""
_COMPANION_FLAGS: Final = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


class _Companion:
    """A file beside the pid file: opened once, and rewritten in place."""

    __slots__ = ("_fd", "path")

    def __init__(self, path: str) -> None:
        """Open the file, for its owner alone; raises OSError."""
        self.path = path
        self._fd = os.open(path, _COMPANION_FLAGS, 0o600)

    def rewrite(self, text: str) -> None:
        """Replace the content with `text`; raises OSError if the disk is full."""
        data = f"{_first_line(os.getpid(), text)}{text}".encode(errors="surrogateescape")
        os.ftruncate(self._fd, 0)
        if os.pwrite(self._fd, data, 0) < len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def restore(self, text: str) -> None:
        """Open the file anew, as another process may have removed it; raises OSError."""
        with contextlib.suppress(OSError):
            fd = os.open(self.path, _COMPANION_FLAGS, 0o600)
            os.close(self._fd)
            self._fd = fd
        self.rewrite(text)

    def remove(self) -> None:
        """Remove the file, or empty it if the system does not permit that."""
        try:
            os.unlink(self.path)
        except OSError:
            os.ftruncate(self._fd, 0)
        self.close()

    def close(self) -> None:
        """Leave the file to another process."""
        os.close(self._fd)


class PidFile:
    """The files of this process. Created and removed by the server."""

    __slots__ = ("_is_lent", "_outcome", "_reopening", "_running", "_text", "_upgrade", "path")

    def __init__(self, path: str, text: str) -> None:
        """Write all files, or none of them and raise NginyError."""
        self.path = path
        self._running = text
        self._is_lent = False
        self._text: _Companion | None = None
        self._outcome: _Companion | None = None
        self._reopening: _Companion | None = None
        self._upgrade: _Companion | None = None
        try:
            _write_id(path)
        except OSError as error:
            raise _cannot_open(path, error) from error
        try:
            # In this order: the text tells others that the process is ready.
            self._outcome = _Companion(outcome_path(path))
            self._outcome.rewrite("")
            self._reopening = _Companion(reopening_path(path))
            self._reopening.rewrite("")
            self._upgrade = _Companion(upgrade_path(path))
            self._text = _Companion(text_path(path))
            self._text.rewrite(text)
        except OSError as error:
            self.remove()
            raise _cannot_open(error.filename or path, error) from error

    def rewrite(self, text: str) -> None:
        """Note another configuration; raises OSError if the disk is full."""
        self._running = text
        if self._text is not None and not self._is_lent:
            self._text.rewrite(text)

    def note_outcome(self, text: str) -> None:
        """Note the outcome of the last reload; raises OSError if the disk is full."""
        if self._outcome is not None and not self._is_lent:
            self._outcome.rewrite(text)

    def note_reopening(self, text: str) -> None:
        """Note the outcome of reopening the logs; raises OSError if the disk is full."""
        if self._reopening is not None and not self._is_lent:
            self._reopening.rewrite(text)

    def note_upgrade(self, text: str) -> None:
        """Note the outcome of an upgrade, by the old process; raises OSError if the disk is full.

        The successor does not write there before an upgrade of its own.
        """
        if self._upgrade is not None:
            self._upgrade.rewrite(text)

    def lend(self) -> None:
        """Leave the files to a successor, which has written its own id there."""
        self._is_lent = True
        with contextlib.suppress(OSError):
            _write_id(old_path(self.path))

    def give_back(self, pid: int) -> None:
        """Leave the files to the process that has lent them, which goes on."""
        with contextlib.suppress(OSError):
            _write_id(self.path, pid)

    def take_back(self) -> None:
        """Own the files again, since the successor has ended.

        A successor that failed half-way may have written or removed them before `lend`.
        """
        if not self._is_lent and self._is_whole():
            return
        self._is_lent = False
        _remove_own(old_path(self.path))
        try:
            _write_id(self.path)
            for companion, text in (
                (self._outcome, ""),
                (self._reopening, ""),
                (self._upgrade, ""),
                (self._text, self._running),
            ):
                if companion is not None:
                    companion.restore(text)
        except OSError as error:
            logger.critical("write() failed (%s: %s)", error.errno, error.strerror)

    def _is_whole(self) -> bool:
        """Whether the files still have what this process has written."""
        try:
            text = _read_companion(text_path(self.path), os.getpid())
        except NginyError:
            return False
        return text == self._running and _is_own(self.path)

    def give_to(self, uid: int, gid: int) -> None:
        """Make the files the property of the user that nginy becomes, so it can empty them."""
        own = self.path
        beside = (text_path, outcome_path, reopening_path, upgrade_path)
        for path in (own, *(each(own) for each in beside)):
            os.chown(path, uid, gid)

    def remove(self) -> None:
        """Remove all files, or empty them if the system does not permit that; leave lent ones."""
        is_ours = not self._is_lent and _is_own(self.path)
        if is_ours:
            _remove_own(self.path)
        else:
            _remove_own(old_path(self.path))
        for companion in (self._text, self._outcome, self._reopening, self._upgrade):
            if companion is not None and is_ours:
                companion.remove()
            elif companion is not None:
                companion.close()
        self._text = self._outcome = self._reopening = self._upgrade = None


def open_pid_file(
    current: PidFile | None, path: str | None, text: str, before: int = 0
) -> PidFile | None:
    """Return the pid file to go over to: `current` if it has that path, a new one, or none.

    `before` is the process that this one succeeds. Raises NginyError if nginy cannot write a new
    one, or if another nginy owns it.
    """
    if path is None or (current is not None and current.path == path):
        return None if path is None else current
    refuse_owned(path, before)
    return PidFile(path, text)


def refuse_owned(path: str, before: int = 0) -> None:
    """Raise NginyError if a running nginy, but for `before`, has written this pid file; note a
    stale one.
    """
    try:
        pid = read_pid(path)
    except NginyError:
        return
    if pid in (os.getpid(), before):
        return
    if _is_nginy(pid):
        raise NginyError(f'nginy is already running, PID {pid} of "{path}"')
    logger.log(NOTICE, 'overwriting stale pid file "%s", no nginy runs as PID %d', path, pid)


def _is_nginy(pid: int) -> bool:
    """Whether the process is an nginy; after a reboot the id may be any program's."""
    return any(os.path.basename(argument) == "nginy" for argument in arguments_of(pid))


def arguments_of(pid: int) -> list[str]:
    """Return the command line of a process; empty if there is no such process."""
    try:
        return os.fsdecode(Path(f"/proc/{pid}/cmdline").read_bytes()).split("\0")
    except OSError:
        return []


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


def _write_id(path: str, pid: int = 0) -> None:
    """Write an id, by default ours, over another one, if there is one, without a moment in between;
    raises OSError.
    """
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        line = f"{pid or os.getpid()}\n".encode()
        # The rest of a longer number must not follow ours.
        os.pwrite(fd, line.ljust(min(os.fstat(fd).st_size, PID_MAX_CHARACTERS), b"\n"), 0)
        os.ftruncate(fd, len(line))
    finally:
        os.close(fd)


def _is_own(path: str) -> bool:
    """Whether a file has the id of this process."""
    try:
        return read_pid(path) == os.getpid()
    except NginyError:
        return False


def _remove_own(path: str) -> None:
    """Remove a file with our id, or empty it if the system does not permit that."""
    if not _is_own(path):
        return
    try:
        os.unlink(path)
    except OSError:
        with contextlib.suppress(OSError):
            os.truncate(path, 0)


def old_path(path: str) -> str:
    """Return the path of the id of a process that has lent its pid file."""
    return f"{path}.oldbin"


def text_path(path: str) -> str:
    """Return the path of the configuration that belongs to a pid file."""
    return f"{path}.conf"


def outcome_path(path: str) -> str:
    """Return the path of the last reload's outcome that belongs to a pid file."""
    return f"{path}.reload"


def reopening_path(path: str) -> str:
    """Return the path of the last reopening's outcome that belongs to a pid file."""
    return f"{path}.reopen"


def upgrade_path(path: str) -> str:
    """Return the path of the last upgrade's outcome that belongs to a pid file."""
    return f"{path}.upgrade"


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


def read_upgrade(path: str, pid: int) -> str:
    """Return the outcome of the last upgrade from process `pid`, as `read_outcome` does."""
    return _read_companion(upgrade_path(path), pid) or ""


def _read_companion(path: str, pid: int) -> str | None:
    """Return the text that process `pid` has written; None if it is another's or not whole."""
    whole = _read(path, -1)
    first, _, text = whole.partition("\n")
    return text if f"{first}\n" == _first_line(pid, text) else None


def _first_line(pid: int, text: str) -> str:
    """Return the line that says whose text it is, and whether it is complete."""
    return f"# written by nginy, PID {pid}, {len(text)} characters\n"


def _read(path: str, max_characters: int) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read(max_characters)
    except OSError as error:
        raise _cannot_open(path, error) from error


def _cannot_open(path: str, error: OSError) -> NginyError:
    return NginyError(f'open() "{path}" failed ({error.errno}: {error.strerror})')
