"""The entry of nginy, however it is started: what cannot wait until the rest is imported.

- It opens descriptors 0 to 2 where they are closed. Otherwise the next socket would get such a
  number, and lines meant for standard error would go to a client.
- It pauses the cyclic collector until the server runs, since what a start makes stays. A start with
  10,000 backends takes a third less time.
- It blocks HUP, QUIT, USR1 and USR2 until `event/signals.py` hears them, since by default they end
  the process. TERM and INT may end it: nothing has begun yet.

bin/nginy imports this before it looks for a Python that is new enough, so this file and
`__init__.py` have to compile on Python 3.6. bin/installed/nginy, the command of an installed nginy,
enters through `main`, and so does `python -m nginy`. Both commands ignore the signals before they
start Python; `python -m nginy` and `python bin/nginy` cannot, so a signal ends them until Python
gets here, 10 to 20 ms later.

Tested in tests/run/test_first_moments.py.
"""

import _signal  # type: ignore[import-not-found] # what `signal` wraps
import gc
import os
import sys

INTERRUPTED = 130
"""The exit status after Ctrl-C, as a shell reports it."""

HELD_SIGNALS = (_signal.SIGHUP, _signal.SIGQUIT, _signal.SIGUSR1, _signal.SIGUSR2)
"""As in `event/signals.py`. The module `signal` would import others, which take as long as all that
Python does before it gets here: long enough for a signal to come."""


def open_standard_streams() -> None:
    """Open /dev/null in the place of each standard stream that is closed."""
    fd = os.open(os.devnull, os.O_RDWR)
    while fd <= 2:
        # The programs that we start inherit a standard stream, unlike other descriptors.
        os.set_inheritable(fd, True)
        fd = os.open(os.devnull, os.O_RDWR)
    os.close(fd)
    for fd, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:  # Python found it closed
            stream = open(fd, "w" if fd else "r", closefd=False)  # noqa: SIM115 - until the end
            setattr(sys, name, stream)


def hold_signals() -> None:
    """Block the signals that would end a process before it hears them."""
    _signal.pthread_sigmask(_signal.SIG_BLOCK, HELD_SIGNALS)


def begin() -> None:
    """Prepare the process for all that follows."""
    open_standard_streams()
    hold_signals()
    gc.disable()


def run() -> int:
    """Do what was typed, and return the exit status; Ctrl-C ends it without a traceback."""
    try:
        from nginy.cli import main as run_command_line  # noqa: PLC0415 - that is what has to wait

        return run_command_line()
    except KeyboardInterrupt:
        return INTERRUPTED


def main() -> int:
    """Prepare the process, then do what was typed; return the exit status."""
    begin()
    return run()


if __name__ == "__main__":
    sys.exit(main())
