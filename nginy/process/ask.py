"""What `nginy -s` asks of a running nginy: a signal, and for a reload an answer.

The pid file leads to the process, which answers a reload with a file beside it (`report.py`). We
read that file until it tells of a reload that began after the signal: an earlier one, still under
way, may not have seen the configuration as it is now. Where nginy has an admin interface that may
change things, a request takes the place of signal and file.

nginx: `ngx_signal_process` in `ngx_cycle.c`, which does not wait.

Tested in tests/run/test_ask.py.
"""

import json
import os
import signal
import time
from collections.abc import Mapping
from typing import Any, Final

from nginy.commands.asking import Message, NoAnswerError, ask
from nginy.config.schema import Config
from nginy.errors import NginyError
from nginy.process.pidfile import read_outcome, read_pid
from nginy.process.report import LISTS, ReloadOutcome, monotonic_ms, outcome_of

ANSWER_MS: Final = 60_000
"""How long to wait for the end of a reload, which takes 20 s at most with several workers."""
LOOK_S: Final = 0.02


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
    """Have the process reload by a request to its admin interface, or else by a signal.

    Raises NginyError if there is no answer.
    """
    asked_ms = monotonic_ms()
    pid_path = config.pid or ""
    pid = read_pid(pid_path)
    try:
        message = Message("POST", "/api/v1/reload", wait_s=ANSWER_MS / 1000, pid=pid)
        _, text = ask(config, config_path, message)
    except NoAnswerError:
        # It has begun, and has moved the interface elsewhere: the file tells the rest.
        return _await_outcome(pid_path, pid, asked_ms, ANSWER_MS)
    except NginyError:
        return reload(pid_path)
    try:
        outcome = _outcome(json.loads(text))
    except (ValueError, TypeError, KeyError):
        outcome = None  # refused: a reload is under way, or the interface is read-only
    return outcome or reload(pid_path)


def _outcome(fields: Mapping[str, Any]) -> ReloadOutcome:
    """Return the outcome that the admin interface has answered."""
    changes = tuple(f"{each['op']} {each['text']}" for each in fields["changes"])
    texts = {name: tuple(map(str, fields[name])) for name in LISTS if name != "changes"}
    return ReloadOutcome(0, int(fields["took_s"] * 1000), changes=changes, **texts)


def reload(path: str, answer_ms: int = ANSWER_MS) -> ReloadOutcome:
    """Have the process of the pid file `path` reload, and wait for what comes of it.

    Raises NginyError if there is no answer.
    """
    asked_ms = monotonic_ms()
    pid = send_signal(path, signal.SIGHUP)
    return _await_outcome(path, pid, asked_ms, answer_ms)


def _await_outcome(path: str, pid: int, asked_ms: int, answer_ms: int) -> ReloadOutcome:
    while monotonic_ms() < asked_ms + answer_ms:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            raise NginyError(f"nginy, PID {pid}, has ended instead of reloading") from None
        try:
            outcome = outcome_of(read_outcome(path, pid))
        except NginyError:
            if not os.path.exists(path):
                text = f"nginy, PID {pid}, is about to end and does not reload"
                raise NginyError(text) from None
            outcome = None  # it has only just begun
        if outcome is not None and outcome.began_ms >= asked_ms:
            return outcome
        time.sleep(LOOK_S)
    raise NginyError(f"no answer from PID {pid} in {answer_ms // 1000}s; its log may say why")
