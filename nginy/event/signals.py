"""A signal becomes a readable byte, so that the loop hears of it like of anything else.

Python runs signal handlers between two bytecodes of whatever is running, which is no place to
change state. So the handlers do nothing; `signal.set_wakeup_fd` makes the C-level handler write
the signal's number into a socket pair whose other end the loop watches. The loop reads the bytes in
one of its turns, and hands each number to the one function that its owner has given. nginx does the
same with flags that its cycle tests after each wakeup (`ngx_signal_handler`,
`ngx_process_cycle.c`).

`process/control.py` decides what a signal means.
"""

import signal
import socket
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Final

from nginy.event.connection import Connection
from nginy.event.event import Event

if TYPE_CHECKING:
    from nginy.event.loop import Loop

HELD_SIGNALS: Final = (signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2)
"""Signals that are blocked from the first moment of a program (`__main__.py`) until a
`SignalReceiver` hears them, since their default is to end the process."""


class SignalReceiver:
    """The process's signals as events of one loop; created and closed by the server, in the main
    thread."""

    __slots__ = ("_buffer", "_connection", "_previous", "_received", "_wakeup", "last")

    def __init__(
        self,
        loop: "Loop",
        signals: Iterable[signal.Signals],
        received: Callable[[signal.Signals], None],
    ) -> None:
        """Call `received` for each of `signals`; raises ValueError outside the main thread."""
        self._received = received
        self.last: signal.Signals | None = None
        """The last one received, for traces of the loop."""
        ours, self._wakeup = socket.socketpair()
        self._wakeup.setblocking(False)
        ours.setblocking(False)
        self._connection = Connection(loop, ours, "")
        self._connection.data = self
        self._connection.read.handler = self._read_handler
        self._connection.resume_read()
        self._buffer = memoryview(bytearray(64))
        signal.set_wakeup_fd(self._wakeup.fileno(), warn_on_full_buffer=False)
        self._previous = {number: signal.signal(number, _ignore) for number in signals}
        # The kernel now delivers the signals that came while they were blocked.
        signal.pthread_sigmask(signal.SIG_UNBLOCK, self._previous)

    def _read_handler(self, _event: Event) -> None:
        while (count := self._connection.recv(self._buffer)) > 0:
            for number in bytes(self._buffer[:count]):
                if number in self._previous:
                    self.last = signal.Signals(number)
                    self._received(self.last)

    def abort(self) -> None:
        """Go on: a bug in handling one signal must not make the process deaf to the next."""

    def close(self) -> None:
        """Give the signals back to their previous handlers."""
        signal.set_wakeup_fd(-1)
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._connection.close()
        self._wakeup.close()


def _ignore(_number: int, _frame: object) -> None:
    """Let the wakeup descriptor do the work."""
