"""Event: what is known about one direction of a connection, and which handler hears of a change.

A connection has two of them, `read` and `write`. An event is not something that happened; it is a
small record that lives as long as its connection. The kernel's report sets `ready`. The handler
then reads or writes until the kernel says "not now", which clears `ready`. nginx: `struct
ngx_event_s` in `ngx_event.h`.

nginx's other flags have no counterpart here: `instance` (Python keeps a stale object alive, so the
object itself tells), `accept` (a listener has its own handler), `timer_set` (a `Timer` knows
whether it runs), `timedout` (a `Timer` has its own handler), `oneshot`, `complete`,
`deferred_accept` and the like (kqueue, IOCP, and options that nginy does not use).

`event/loop.py` calls the handlers, in its order. `event/selector.py` knows which changes of
interest cost a system call.
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
        """The connection. Closing it deletes this attribute."""
        self.handler = handler
        """Called with this event when it is both ready and active."""
        self.active = False
        """The owner waits for this direction. While False, the loop notes readiness, and does not
        call the handler."""
        self.ready = False
        """As far as we know, a call would succeed now."""
        self.eof = False
        """read: EOF was read; write: our own end is shut down."""
        self.pending_eof = False
        """read: the peer's FIN has been reported; a short read does not mean "drained" before EOF
        is read."""
        self.error = False
        """The kernel reported an error or a hang-up, or a call failed."""
        self.posted = False
        """In the loop's list: the handler runs later in this turn, or in the next."""
        self.timer: Timer | None = None
        """A deadline of this direction; cancelled when the connection closes."""

    def close(self, timers: TimerWheel) -> None:
        """Stop the timer and all calls, as the connection closes."""
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
    """Do nothing: the handler of a direction that has none."""
