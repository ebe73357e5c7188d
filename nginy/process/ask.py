"""What `nginy -s` asks of a running nginy: a signal, and for a reload an answer.

The pid file leads to the process, which answers a reload with a file beside it (`report.py`). We
read that file until it tells of a reload that began after the signal: an earlier one, still under
way, may not have seen the configuration as it is now.

nginx: `ngx_signal_process` in `ngx_cycle.c`, which does not wait.

Tested in tests/run/test_ask.py.
"""

import os
import signal
import time
from typing import Final

from nginy.errors import NginyError
from nginy.process.pidfile import read_outcome, read_pid
from nginy.process.report import ReloadOutcome, monotonic_ms, outcome_of

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


def reload(path: str, answer_ms: int = ANSWER_MS) -> ReloadOutcome:
    """Have the process of the pid file `path` reload, and wait for what comes of it.

    Raises NginyError if there is no answer.
    """
    asked_ms = monotonic_ms()
    pid = send_signal(path, signal.SIGHUP)
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
