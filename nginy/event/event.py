"""Event: what is known about one direction of a connection, and who is to be told when it changes.

A connection has two of them, `read` and `write`. An event is not something that happened; it is a
small record that stays as long as its connection. The kernel's report sets `ready`, the handler
that then runs reads or writes until the kernel says "not now", which clears it. nginx: `struct
ngx_event_s` in `ngx_event.h`.

nginx's remaining flags have no counterpart here: `instance` (a stale event is recognized by the
object itself, which Python keeps alive), `accept` (a listener has a handler of its own),
`timer_set` (a `Timer` knows whether it runs), `timedout` (a `Timer` has its own handler),
`oneshot`, `complete`, `deferred_accept` and the like (kqueue, IOCP and options that are not used).

Who calls handlers, and in which order, is in `event/loop.py`; which changes of interest cost a
system call is in `event/selector.py`.
"""

from collections.abc import Callable
from typing import TYPE_CHECKING

from nginy.event.timer import Timer, TimerWheel

if TYPE_CHECKING:
    from nginy.event.connection import Connection


class Event:
    """One direction of a connection (nginx `ngx_event_t`); created and released with its
    `Connection`."""

    __slots__ = (
        "active",
        "data",
        "eof",
        "error",
        "handler",
        "pending_eof",
        "posted",
        "ready",
        "timer",
    )

    def __init__(self, data: "Connection", handler: "Callable[[Event], None]") -> None:
        self.data = data
        """The connection; there is no such attribute any more once it is closed."""
        self.handler = handler
        """Called with this event when it became ready while active."""
        self.active = False
        """Someone waits for this direction; while False, readiness is noted but nobody is
        called."""
        self.ready = False
        """The kernel would, as far as we know, accept a call now."""
        self.eof = False
        """read: EOF was read; write: our own end is shut down."""
        self.pending_eof = False
        """read: the peer's FIN has been reported; a short read does not mean "drained" before EOF
        is read."""
        self.error = False
        """The kernel reported an error or a hang-up, or a call failed."""
        self.posted = False
        """In the loop's list of events to be run later in this turn or the next."""
        self.timer: Timer | None = None
        """A deadline of this direction; cancelled when the connection closes."""

    def close(self, timers: TimerWheel) -> None:
        """Have nothing called any more; the connection is being closed."""
        if self.timer is not None:
            timers.cancel(self.timer)
            self.timer = None
        self.posted = self.active = False
        self.handler = ignore
        # Each refers to the other, which only the cyclic garbage collector could undo.
        del self.data

    def __repr__(self) -> str:
        """Show the flags that are set, as in `active,ready`; `-` if none is."""
        names = ("active", "ready", "eof", "pending_eof", "error", "posted")
        return ",".join(name for name in names if getattr(self, name)) or "-"


def ignore(_event: Event) -> None:
    """Do nothing: the handler of an event that nobody waits for."""
