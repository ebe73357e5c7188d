"""The two files by which others find a running nginy: its process id, and what it runs.

`-s reload` and its like read the id from the pid file. `nginy plan` compares a new configuration
with the running one, which need not be what the file on disk says by now: so the server keeps the
text of what it runs (that of `nginy -T`) in a second file beside the first, PATH.conf, readable by
its own user only.

Both are opened once, before privileges are dropped, and rewritten in place, since whom nginy has
become may not be allowed to create files there. Where it may not even remove them in the end, they
are emptied. A text belongs to a process: its first line names that, so what a killed nginy has left
behind is not taken for what the next one runs.

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


class PidFile:
    """The files of this process. Created and removed by the server."""

    __slots__ = ("_text_fd", "path")

    def __init__(self, path: str, text: str) -> None:
        """Write both files; raises NginyError, and leaves neither then."""
        self.path = path
        self._text_fd = -1
        try:
            with open(path, "w", encoding="ascii") as file:
                file.write(f"{os.getpid()}\n")
        except OSError as error:
            raise _cannot_open(path, error) from error
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._text_fd = os.open(text_path(path), flags, 0o600)
            self.rewrite(text)
        except OSError as error:
            self.remove()
            raise _cannot_open(text_path(path), error) from error

    def rewrite(self, text: str) -> None:
        """Note another configuration; raises OSError if the disk is full."""
        data = f"{_first_line(os.getpid(), text)}{text}".encode(errors="surrogateescape")
        os.ftruncate(self._text_fd, 0)
        os.pwrite(self._text_fd, data, 0)

    def rename(self, path: str) -> None:
        """Go by another name, since a successor takes this one; raises OSError."""
        os.rename(self.path, path)
        with contextlib.suppress(OSError):
            os.rename(text_path(self.path), text_path(path))
        self.path = path

    def give_to(self, uid: int, gid: int) -> None:
        """Make the files the property of the user that nginy becomes, so it can empty them."""
        for path in (self.path, text_path(self.path)):
            os.chown(path, uid, gid)

    def remove(self) -> None:
        """Remove both files, or empty them where that is not permitted."""
        try:
            os.unlink(self.path)
        except OSError:
            with contextlib.suppress(OSError):
                os.truncate(self.path, 0)
        if self._text_fd < 0:
            return
        try:
            os.unlink(text_path(self.path))
        except OSError:
            os.ftruncate(self._text_fd, 0)
        os.close(self._text_fd)
        self._text_fd = -1


def open_pid_file(current: PidFile | None, path: str | None, text: str) -> PidFile | None:
    """Return the pid file that is to be: `current` if it is there, a new one, or none.

    Raises NginyError if a new one cannot be written, or belongs to another nginy.
    """
    if path is None or (current is not None and current.path == path):
        return None if path is None else current
    refuse_owned(path)
    return PidFile(path, text)


def refuse_owned(path: str) -> None:
    """Raise NginyError if a nginy that runs has written this pid file; note a stale one."""
    try:
        pid = read_pid(path)
    except NginyError:
        return
    if pid == os.getpid():
        return
    if _is_nginy(pid):
        raise NginyError(f'nginy runs already, PID {pid} of "{path}"')
    logger.log(NOTICE, 'stale pid file "%s" is overwritten, no nginy runs as PID %d', path, pid)


def _is_nginy(pid: int) -> bool:
    """Whether the process has been started as nginy; after a reboot it may be anybody."""
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
    """Return where the configuration is kept that belongs to a pid file."""
    return f"{path}.conf"


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
    whole = _read(text_path(path), -1)
    first, _, text = whole.partition("\n")
    if f"{first}\n" != _first_line(pid, text):
        raise NginyError(f'"{text_path(path)}" is not what PID {pid} runs')
    return text


def _first_line(pid: int, text: str) -> str:
    """Return what tells whose text it is, and whether it is whole."""
    return f"# what nginy runs as PID {pid}, {len(text)} characters\n"


def _read(path: str, max_characters: int) -> str:
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            return file.read(max_characters)
    except OSError as error:
        raise _cannot_open(path, error) from error


def _cannot_open(path: str, error: OSError) -> NginyError:
    return NginyError(f'open() "{path}" failed ({error.errno}: {error.strerror})')
