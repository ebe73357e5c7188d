"""`nginy import` from FILE to OUT: the one module of this package that touches files.

It recognizes the program that FILE is for, calls that reader, and checks the result with nginy's
own loader, so it always reports a document that does not load. At the end it replaces OUT by a
rename: OUT is the old file or the whole new one. It writes into a device or a pipe.
"""

import codecs
import contextlib
import glob
import os
import stat
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from nginy.commands.importing import haproxy, nginx
from nginy.commands.importing.model import Files, Imported, refuse
from nginy.commands.importing.report import DIFFERENT, Fate, render_report, status
from nginy.commands.importing.tidy import tidy
from nginy.commands.importing.writer import render
from nginy.config.files import NO_MAPPING
from nginy.config.load import load
from nginy.config.node import quote_path
from nginy.config.paths import at_once
from nginy.errors import ConfigError, InvalidValueError, NginyError

FILE_MAX_BYTES: Final = 16 << 20
LISTENING: Final = ("proxy_pass", "pass", "listen", "bind", "frontend", "server")
"""Directives without which nothing listens, those that know the reason best first."""
MODE: Final = 0o666
"""The mode of a new OUT, less the umask."""


@dataclass(frozen=True, slots=True)
class Kind:
    """A program whose configurations can be read."""

    recognizes: Callable[[str], bool]
    read: Callable[[str, Files], Imported]
    expected: str
    """What one looks like, for a message."""


READERS: Final[Mapping[str, Kind]] = {
    "nginx": Kind(nginx.recognizes, nginx.read, "an nginx.conf with stream { ... }"),
    "haproxy": Kind(haproxy.recognizes, haproxy.read, "a haproxy.cfg with mode tcp"),
}


@dataclass(frozen=True, slots=True)
class Outcome:
    """The result of an import."""

    status: int
    text: str
    """The configuration; "" if it has gone to OUT, or nowhere."""
    report: tuple[str, ...]


class Disk:
    """The files of this machine, for the configuration `path`."""

    def __init__(self, path: str) -> None:
        path = os.path.abspath(path)
        self.directory = path if os.path.isdir(path) else os.path.dirname(path)
        self._read: set[tuple[int, int]] = set()
        """The device and inode of each file that was read."""

    def read(self, path: str) -> str:
        """Return the text of a regular file."""
        try:
            with open(path, "rb", opener=at_once) as file:
                found = os.fstat(file.fileno())
                if not stat.S_ISREG(found.st_mode):
                    raise InvalidValueError("is not a file")
                self._read.add((found.st_dev, found.st_ino))
                data = file.read(FILE_MAX_BYTES + 1)
        except OSError as error:
            raise InvalidValueError(f"cannot be read: {error.strerror}") from None
        except ValueError as error:
            if isinstance(error, InvalidValueError):
                raise
            raise InvalidValueError("is not a path") from None
        if len(data) > FILE_MAX_BYTES:
            raise InvalidValueError("is larger than 16m")
        return data.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogateescape")

    def match(self, pattern: str) -> Sequence[str]:
        """Return the paths that a pattern matches."""
        try:
            return sorted(glob.glob(pattern))
        except ValueError:  # a zero byte
            return []

    def has_read(self, path: str) -> bool:
        """Whether a path names a file that was read."""
        try:
            found = os.stat(path)
        except OSError:
            return False
        return (found.st_dev, found.st_ino) in self._read


def import_file(path: str, out: str | None, kind: str | None, *, is_strict: bool) -> Outcome:
    """Import the configuration `path`; write the result to `out`, or return it.

    `kind` is a key of READERS, None to recognize it. With `is_strict`, write nothing unless
    everything is the same. Raise NginyError if the configuration cannot be read.
    """
    reader = _reader(path, kind)
    if out is not None:
        _check_out(out, path)
    files = Disk(path)
    imported = reader.read(path, files)
    if out is not None and files.has_read(out):
        text = "is one of the files to import, expected another one"
        raise NginyError(f"{quote_path(out)} {text}")
    if not imported.document.listeners:
        raise _empty(path, imported)
    text = render(tidy(imported.document))
    problems = _problems(text, out)
    lines = [*render_report(imported.entries), *problems]
    code = max(status(imported.entries), DIFFERENT if problems else 0)
    if is_strict and code:
        return Outcome(code, "", (*lines, "nothing is written, because not everything is the same"))
    if out is not None:
        _replace(out, text)
        text = ""
    return Outcome(code, text, tuple(lines))


def hints(error: NginyError, path: str | None) -> list[str]:
    """Return what to type if nginy's own loader has met another program's configuration."""
    if not isinstance(error, ConfigError) or path is None:
        return []
    if path.endswith((".yml", ".yaml")) and NO_MAPPING not in str(error):
        return []
    try:
        text = Disk(path).read(path)
    except InvalidValueError:
        return []
    names = [name for name, each in READERS.items() if each.recognizes(text)]
    return [
        f"{path} looks like a configuration for {name}: try nginy import {path}"
        for name in names[:1]
    ]


def _reader(path: str, kind: str | None) -> Kind:
    """Return the reader for a file, by its name or by the file's text."""
    if kind is not None and kind not in READERS:
        raise NginyError(f'invalid option: "--from {kind}", expected {" or ".join(READERS)}')
    disk = Disk(path)
    try:
        # HAProxy also reads all *.cfg of a directory.
        parts = disk.match(f"{path}/*.cfg") if os.path.isdir(path) else ()
        text = "\n".join(map(disk.read, parts or (path,)))
    except InvalidValueError as error:
        raise refuse(path, 0, error.clause) from None
    if kind is not None:
        return READERS[kind]
    # The order matters: "listen 80" may be a line of either, "stream {" is a line of nginx only.
    found = [each for each in READERS.values() if each.recognizes(text)]
    if not found:
        expected = " or ".join(each.expected for each in READERS.values())
        raise refuse(path, 0, f"nginy does not recognize this configuration, expected {expected}")
    return found[0]


def _empty(path: str, imported: Imported) -> ConfigError:
    """Return the error for a configuration without a listener left, with the first reason."""
    text = "nothing in it listens, so there is nothing to import"
    lost = [each for each in imported.entries if each.fate is Fate.LEFT_OUT]
    for word in LISTENING:
        for entry in lost:
            if entry.directive.split()[:1] == [word]:
                return refuse(entry.file, entry.line, f"{entry.directive}: {entry.text}; {text}")
    return refuse(path, 0, text)


def _check_out(out: str, path: str) -> None:
    """Raise NginyError if OUT cannot be written there."""
    if os.path.isdir(out):
        raise NginyError(f"{quote_path(out)} is a directory, expected a file")
    if os.path.exists(out) and os.path.samefile(out, path):
        raise NginyError(f"{quote_path(out)} is the file to import, expected another one")


def _problems(text: str, out: str | None) -> list[str]:
    """Return what nginy's own loader says about the result; nothing if it loads."""
    with tempfile.TemporaryDirectory(prefix="nginy-import-") as directory:
        path = os.path.join(directory, "nginy.yml")
        with open(path, "wb") as file:
            file.write(text.encode("utf-8", "surrogateescape"))
        try:
            load(path, os.environ)
        except ConfigError as error:
            name = out or "nginy.yml"
            return [
                f"the result does not load: {str(problem).replace(path, name)}"
                for problem in error.problems
            ]
    return []


def _replace(out: str, text: str) -> None:
    """Replace a file by a text, as a whole or not at all."""
    data = text.encode("utf-8", "surrogateescape")
    target = os.path.realpath(out)
    directory = os.path.dirname(target)
    new = ""
    try:
        if os.path.exists(out) and not os.path.isfile(out):
            # A rename would replace /dev/null by a file.
            with open(out, "wb") as file:
                file.write(data)
            return
        mode = os.stat(target).st_mode & 0o777 if os.path.exists(target) else MODE & ~_umask()
        descriptor, new = tempfile.mkstemp(prefix=".nginy-import-", dir=directory)
        with open(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        os.chmod(new, mode)
        os.replace(new, target)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(new)
        raise NginyError(f"{quote_path(out)} cannot be written: {error.strerror}") from None


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask
