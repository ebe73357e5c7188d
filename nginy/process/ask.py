"""What `nginy -s` asks of a running nginy: a signal, and an answer to some of them.

The pid file leads to the process, which answers with a file beside it (`report.py`). We read that
file until it reports a reload that began after the signal: an earlier one, still under way, may not
have read the configuration as it is now. The same holds for reopening the logs. If nginy has an
admin interface that may change things, a request replaces signal and file. The old process reports
an upgrade, and may have ended by the time we read it.

A service has its pid file in a directory that only the service manager tells it. Whoever types a
command is no service, so `service_environ` looks where etc/nginy.service has it.

nginx: `ngx_signal_process` in `ngx_cycle.c`, which does not wait.

Tested in tests/run/test_ask.py.
"""

import contextlib
import json
import os
import signal
import time
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from nginy.commands.plan import ChangeLine
from nginy.commands.running.asking import Message, NoAnswerError, ask, refusal
from nginy.commands.running.interface import Interface, interface_of
from nginy.config.load import service_pid_file
from nginy.config.schema import Config
from nginy.errors import NginyError
from nginy.process.pidfile import (
    arguments_of,
    read_outcome,
    read_pid,
    read_reopening,
    read_upgrade,
)
from nginy.process.report import (
    ReloadOutcome,
    ReopenOutcome,
    monotonic_ms,
    outcome_of,
    reopen_outcome_of,
)
from nginy.process.takeover.report import UpgradeOutcome, upgrade_outcome_of

AnyOutcome = TypeVar("AnyOutcome", ReloadOutcome, ReopenOutcome)

ANSWER_MS: Final = 60_000
"""How long to wait for the end of a reload, which takes 20 s at most with several workers."""
UPGRADE_MS: Final = 90_000
"""How long to wait for the end of an upgrade: a new program may take a minute to say hello."""
LOOK_S: Final = 0.02
SERVICE_DIRECTORY: Final = "/run/nginy"
"""RuntimeDirectory in etc/nginy.service."""


def service_environ(
    environ: Mapping[str, str], config_path: str, directory: str = SERVICE_DIRECTORY
) -> Mapping[str, str]:
    """Return the environment to read a configuration with: that of the service, if it runs it."""
    if "RUNTIME_DIRECTORY" in environ:
        return environ
    own = {**environ, "RUNTIME_DIRECTORY": directory}
    try:
        arguments = arguments_of(read_pid(service_pid_file(own) or ""))
    except NginyError:  # there is no service, or it is none of ours to command
        return environ
    wanted = os.path.realpath(config_path)
    # the unit names the file by its whole path
    runs_it = any(each[:1] == "/" and os.path.realpath(each) == wanted for each in arguments)
    return own if runs_it else environ


def send_signal(path: str, number: signal.Signals) -> int:
    """Send a signal to the process of the pid file `path`; return its id, raise NginyError."""
    pid = read_pid(path)
    try:
        os.kill(pid, number)
    except OSError as error:
        reason = f"({error.errno}: {error.strerror})"
        raise NginyError(f'kill({pid}) of the PID in "{path}" failed {reason}') from error
    return pid


def reload_by_request(config: Config, config_path: str) -> ReloadOutcome:
    """Make the process reload by a request to its admin interface, or else by a signal.

    Raises NginyError if there is no answer.
    """
    asked_ms = monotonic_ms()
    pid_path = config.pid or ""
    pid = read_pid(pid_path)
    try:
        message = Message("POST", "/api/v1/reload", wait_s=ANSWER_MS / 1000, pid=pid)
        _, text = ask(interface_of(config, config_path), message)
    except NoAnswerError:
        # It has begun, and has moved the interface elsewhere: the file tells the rest.
        return _await_reload(pid_path, pid, asked_ms, ANSWER_MS)
    except NginyError:
        return reload(pid_path)
    try:
        outcome = _outcome(json.loads(text))
    except (ValueError, TypeError, KeyError):
        outcome = None  # refused: a reload is under way, or the interface is read-only
    return outcome or reload(pid_path)


def reload_at(interface: Interface, *, is_dry: bool) -> ReloadOutcome:
    """Make a process reload by a request, or ask what a reload would do.

    Raises NginyError if there is no answer.
    """
    message = Message("POST", "/api/v1/reload", {"dry_run": is_dry}, ANSWER_MS / 1000)
    code, text = ask(interface, message)
    try:
        return _outcome(json.loads(text))
    except (ValueError, TypeError, KeyError):
        raise refusal(code, text) from None


def _outcome(fields: Mapping[str, Any]) -> ReloadOutcome:
    """Return the outcome in an answer of the admin interface."""
    changes = tuple(
        ChangeLine(str(each["op"]), str(each.get("subject")), str(each["text"]))
        for each in fields["changes"]
    )
    texts = {name: tuple(map(str, fields[name])) for name in ("warnings", "needs_restart")}
    problems = tuple(map(_problem, fields["problems"]))
    took_ms = int(fields["took_s"] * 1000)
    return ReloadOutcome(0, took_ms, changes=changes, problems=problems, **texts)


def _problem(fields: Mapping[str, Any]) -> str:
    """Return a problem as the log has it."""
    if fields["file"] is None:
        return str(fields["text"])
    return f"{fields['file']}:{fields['line']}:{fields['column']}: {fields['text']}"


def reload(path: str, answer_ms: int = ANSWER_MS) -> ReloadOutcome:
    """Make the process of the pid file `path` reload, and wait for the outcome.

    Raises NginyError if there is no answer.
    """
    asked_ms = monotonic_ms()
    pid = send_signal(path, signal.SIGHUP)
    return _await_reload(path, pid, asked_ms, answer_ms)


def _await_reload(path: str, pid: int, asked_ms: int, answer_ms: int) -> ReloadOutcome:
    def read() -> ReloadOutcome | None:
        return outcome_of(read_outcome(path, pid))

    return _await_outcome(path, pid, read, "reload", asked_ms + answer_ms, asked_ms)


def reopen(path: str, answer_ms: int = ANSWER_MS) -> ReopenOutcome:
    """Make the process of the pid file `path` open its logs again, and wait as `reload` does."""
    asked_ms = monotonic_ms()
    pid = send_signal(path, signal.SIGUSR1)

    def read() -> ReopenOutcome | None:
        return reopen_outcome_of(read_reopening(path, pid))

    return _await_outcome(path, pid, read, "reopen its logs", asked_ms + answer_ms, asked_ms)


def _await_outcome(
    path: str,
    pid: int,
    read: Callable[[], AnyOutcome | None],
    asked_for: str,
    until_ms: int,
    asked_ms: int,
) -> AnyOutcome:
    """Read until the outcome began at `asked_ms` or later, and return it; raises NginyError."""
    while monotonic_ms() < until_ms:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            raise NginyError(f"nginy, PID {pid}, ended and did not {asked_for}") from None
        try:
            outcome = read()
        except NginyError:
            if not os.path.exists(path):
                text = f"nginy, PID {pid}, is about to end and will not {asked_for}"
                raise NginyError(text) from None
            outcome = None  # it has only just begun
        if outcome is not None and outcome.began_ms >= asked_ms:
            return outcome
        time.sleep(LOOK_S)
    waited_s = (until_ms - asked_ms) // 1000
    raise NginyError(f"no answer from PID {pid} in {waited_s}s; its log may say why")


def upgrade(path: str, answer_ms: int = UPGRADE_MS) -> tuple[int, UpgradeOutcome]:
    """Make the process of the pid file `path` start a new program that takes over; return the old
    process's id, and the outcome.

    Raises NginyError if there is no answer.
    """
    asked_ms = monotonic_ms()
    pid = send_signal(path, signal.SIGUSR2)
    while monotonic_ms() < asked_ms + answer_ms:
        is_running = _is_running(pid)  # before reading: its last words come before its end
        with contextlib.suppress(NginyError):
            outcome = upgrade_outcome_of(read_upgrade(path, pid))
            if outcome is not None and outcome.began_ms >= asked_ms:
                return pid, outcome
        if not is_running:
            raise NginyError(f"nginy, PID {pid}, ended and did not upgrade")
        time.sleep(LOOK_S)
    raise NginyError(f"no answer from PID {pid} in {answer_ms // 1000}s; its log may say why")


def _is_running(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def tell_reopening(path: str) -> tuple[int, list[str]]:
    """Do as `reopen`; return the exit status, and the lines to print."""
    problems = reopen(path).problems
    return int(bool(problems)), [f"[error] {problem}" for problem in problems]


def tell_upgrade(path: str) -> tuple[int, list[str]]:
    """Do as `upgrade`; return the exit status, and the lines to print."""
    pid, outcome = upgrade(path)
    return int(not outcome.is_serving), list(outcome.lines(pid))


TOLD: Final[Mapping[str, Callable[[str], tuple[int, list[str]]]]] = {
    "reopen": tell_reopening,
    "upgrade": tell_upgrade,
}
"""By name, the signals whose outcome is printed."""
