"""Whether a start can use the files that it needs: logs, pid file, check programs.

`nginy -t` and a start call this before anything is open. It opens no log, since a test must leave
no file behind, so only a start finds out about a full disk.

Not here: the files of the configuration itself (files.py), and addresses, which a start binds.
"""

import grp
import os
import pwd
import re
import stat
from collections.abc import Callable
from socket import AF_INET, SOCK_DGRAM, socket
from typing import NamedTuple

from nginy.config.admin import TOKEN_MIN_CHARACTERS
from nginy.config.checking.check import access_logs
from nginy.config.logs import SILENT
from nginy.config.node import Findings, quote, quote_path
from nginy.config.paths import at_once
from nginy.config.schema import Config
from nginy.errors import NginyError, Problem
from nginy.event.connect import set_transparent

HEAD_BYTES = 256
"""How much of a program to read for its first line; Linux reads as much (BINPRM_BUF_SIZE)."""
TOKEN_MAX_BYTES = 1024
TOKEN = re.compile(rb"[!-~]+")


class Rights(NamedTuple):
    """What a process may do: only the kernel knows."""

    set_transparent: Callable[[socket], None] = set_transparent
    """Lets a socket use addresses of others, or raises OSError."""
    euid: Callable[[], int] = os.geteuid


def check_files(config: Config, rights: Rights | None = None) -> list[Problem]:
    """Return what would keep a start from writing files, changing its user or running checks."""
    findings = Findings()
    error_logs = [config.error_log, *(each.error_log for each in config.listeners)]
    files = {
        log.path: ("error_log", log.origin.of("path"))
        for log in error_logs
        if log is not None and log != SILENT
    }
    files.update({log.path: ("access_log", log.origin.of("path")) for log in access_logs(config)})
    if config.pid is not None:
        files[config.pid] = ("pid", config.origin.of("pid"))
    for path, (key, mark) in files.items():
        problem = _unwritable(path)
        if problem is not None:
            findings.report(mark, f"{key}: {problem}")
    if config.user is not None:
        try:
            pwd.getpwnam(config.user)
        except KeyError:
            findings.report(
                config.origin.of("user"), f"user: there is no user {quote(config.user)}"
            )
    for upstream in config.upstreams.values():
        check = upstream.health_check
        if check is not None and check.command is not None:
            problem = _unstartable(check.command[0], config.user)
            if problem is not None:
                findings.report(check.origin.of("command"), f"command: {problem}")
    _check_admin(config, findings)
    _check_transparent(config, rights or Rights(), findings)
    return sorted(findings.problems)


def _check_transparent(config: Config, rights: Rights, findings: Findings) -> None:
    """Report `transparent` where nginy may not use other addresses; only the kernel knows."""
    binds = [each.proxy_bind for each in config.listeners if each.proxy_bind is not None]
    marks = [bind.origin.of("transparent") for bind in binds if bind.transparent]
    if not marks:
        return
    what, way_out = "", "expected the capability CAP_NET_ADMIN (systemd: AmbientCapabilities=)"
    try:
        with socket(AF_INET, SOCK_DGRAM) as sock:
            rights.set_transparent(sock)
    except OSError as error:
        what = f"transparent: needs a right that this process lacks ({error.strerror})"
    if not what and rights.euid() == 0 and _drops_root(config.user):
        what = f"transparent: needs a right that user {quote(config.user or '')} lacks"
    if what:
        findings.report(marks[0], f"{what}, {way_out}")


def _drops_root(user: str | None) -> bool:
    """Return whether the change of user costs the rights of root."""
    try:
        return user is not None and pwd.getpwnam(user).pw_uid != 0
    except KeyError:  # reported as such
        return False


def _check_admin(config: Config, findings: Findings) -> None:
    for entry in config.admin or ():
        if entry.group is not None:
            try:
                grp.getgrnam(entry.group)
            except KeyError:
                text = f"group: there is no group {quote(entry.group)}"
                findings.report(entry.origin.of("group"), text)
        if entry.token_file is not None:
            try:
                read_token(entry.token_file)
            except NginyError as error:
                findings.report(entry.origin.of("token_file"), f"token_file: {error}")


def read_token(path: str) -> bytes:
    """Return the token of an admin listener, or raise NginyError."""
    try:
        with open(path, "rb", opener=at_once) as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(TOKEN_MAX_BYTES + 1).strip()
    except OSError as error:
        raise NginyError(f"{quote_path(path)} cannot be read: {error.strerror}") from None
    if not stat.S_ISREG(mode) or mode & 0o037:
        what = f"{quote_path(path)} is open to others, expected a file with mode 0600 or 0640"
        raise NginyError(what)
    if not TOKEN_MIN_CHARACTERS <= len(text) <= TOKEN_MAX_BYTES or not TOKEN.fullmatch(text):
        expected = f"expected one of {TOKEN_MIN_CHARACTERS} characters or more, without blanks"
        raise NginyError(f"{quote_path(path)} holds no token, {expected}")
    return text


def _unwritable(path: str) -> str | None:
    """Return why a file cannot be written; None if it can, or is no file (stderr, syslog:)."""
    if not path.startswith("/"):
        return None
    # Of a path with variables, the directory before the first of them has to be there.
    is_one = "$" not in path
    directory = os.path.dirname(path.partition("$")[0])
    if is_one and os.path.isdir(path):
        return f"{quote_path(path)} is a directory, expected a file"
    if not os.path.isdir(directory):
        return f"the directory {quote_path(directory)} does not exist"
    effective = os.access in os.supports_effective_ids
    target = path if is_one and os.path.exists(path) else directory
    if not os.access(target, os.W_OK, effective_ids=effective):
        return f"{quote_path(path)} cannot be written: Permission denied"
    return None


def _unstartable(path: str, user: str | None) -> str | None:
    """Return why `user` cannot start a check program; None if it probably can."""
    name = quote_path(path)
    try:
        status = os.stat(path)
    except OSError as error:
        return f"{name} cannot be started: {error.strerror}"
    if not stat.S_ISREG(status.st_mode):
        return f"{name} is not a file, expected a program"
    if not _may_execute(path, status, user):
        return f"{name} cannot be started: Permission denied"
    problem = _bad_first_line(path)
    return None if problem is None else f"{name} {problem}"


def _bad_first_line(path: str) -> str | None:
    """Return why the kernel would refuse a script's first line; None for a program that is fine."""
    try:
        with open(path, "rb") as file:
            head = file.read(HEAD_BYTES)
    except OSError:  # a program may be run and yet not read
        return None
    interpreter = head.removeprefix(b"#!").split(b"\n")[0].split()[:1]
    if head.startswith(b"#!") and interpreter and not os.path.exists(interpreter[0]):
        program = quote_path(os.fsdecode(interpreter[0]))
        return f"cannot be started: its first line names {program}, which does not exist"
    if not head.startswith(b"#!") and head.isascii() and b"\0" not in head:
        return "is a text without a first line such as #!/bin/sh"
    return None


def _may_execute(path: str, status: os.stat_result, user: str | None) -> bool:
    """Return whether the user that nginy becomes, or else is, may run a file."""
    if user is None or os.geteuid() != 0:
        effective = os.access in os.supports_effective_ids
        return os.access(path, os.X_OK, effective_ids=effective)
    try:
        entry = pwd.getpwnam(user)
    except KeyError:  # reported as such
        return True
    if entry.pw_uid == 0:
        return bool(status.st_mode & 0o111)
    if status.st_uid == entry.pw_uid:
        return bool(status.st_mode & stat.S_IXUSR)
    if status.st_gid in os.getgrouplist(user, entry.pw_gid):
        return bool(status.st_mode & stat.S_IXGRP)
    return bool(status.st_mode & stat.S_IXOTH)
