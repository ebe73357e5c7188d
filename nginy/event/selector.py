"""What the loop registers with its selector, and what a change costs.

The loop is written against `selectors.BaseSelector`. Here are the two ways of keeping a selector in
step with what connections want; `event/epoll.py` has the selector that the standard library lacks.

**Level-triggered** selectors (`select`, `poll`, and epoll as `selectors.EpollSelector` uses it)
report a descriptor in every turn for as long as it is ready. To hear no more of it, tell the kernel
so, and tell it fully: `modify(fd, 0)` leaves the descriptor registered, and as errors and hang-ups
cannot be masked, a reset then wakes the loop in every turn, at 100 % CPU. So no interest means
unregister.

**Edge-triggered** epoll reports a change of readiness once. A connection is registered for both
directions when it is opened, and never again; interest is a flag in its `Event`, and free. This
saves every `epoll_ctl` but the first (9 % of the CPU time of a short connection), and has a price.
The kernel does not repeat a report, so `Event.ready` has to remember it, and a handler that stops
before "not now" has to post its event. An epoll registration belongs to the open file description,
not to the number. The kernel removes it with the last descriptor that refers to it, so `unregister`
before `close` costs nothing here.

A descriptor number may be closed and reused within one batch of events. Each entry of a batch
carries the object it was registered with, so the loop tests that object and never looks up a
number.

**select()** takes no descriptor from 1,024 on: a single one makes every call fail, and would end
the loop. So the process may open no such descriptor (`process/privileges.py::cap_descriptors`), and
`LevelInterest.add` refuses one that was opened before. The limit of poll() can fall below what is
open already: see `event/poll.py`.

nginx: `ngx_epoll_module.c` (`ngx_epoll_add_connection`), `ngx_select_module.c`. Next:
`event/loop.py`.
"""

import errno
import os
import select
import selectors
from collections.abc import Callable
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector
from typing import TYPE_CHECKING, Final, Protocol

from nginy.event.epoll import EpollSelector
from nginy.event.poll import PollSelector

if TYPE_CHECKING:
    from nginy.event.connection import Connection
    from nginy.event.event import Event


class Interest(Protocol):
    """How a connection's flags `active` reach the selector."""

    @property
    def is_edge_triggered(self) -> bool:
        """Whether the selector reports readiness once, so that the event has to remember it."""

    @property
    def descriptors_max(self) -> int | None:
        """Every descriptor must be below this number; None: no such limit."""

    def wait(self, timeout: float | None) -> list[tuple["Connection", int]]:
        """Wait at most `timeout` seconds (None: for ever) until a connection is ready.

        Returns connections, each with the bits of `selectors` that say for what. An entry may be of
        a connection that an earlier one's handler closes.
        """

    def connections(self) -> list["Connection"]:
        """Return the connections that the selector knows now."""

    def add(self, c: "Connection") -> None:
        """Begin to watch a connection that was just opened; raises OSError if there is no room.

        Epoll limits the descriptors of a user (ENOSPC, `max_user_watches` of epoll(7)), select()
        takes small numbers only (EMFILE).
        """

    def change(self, event: "Event") -> None:
        """Tell the selector that an event's `active` has changed."""

    def remove(self, c: "Connection") -> None:
        """Stop watching a connection that is about to be closed."""

    def forget(self, c: "Connection") -> None:
        """Do what `remove` leaves to closing, as the socket stays open in another process."""

    def remind(self) -> None:
        """Make the selector report again all that is ready, as a report may be lost."""


class EdgeInterest:
    """Interest as flags: one registration at first, no system call after that."""

    __slots__ = ("_selector", "connections", "wait")

    is_edge_triggered = True
    descriptors_max = None

    wait: Callable[[float | None], list[tuple["Connection", int]]]
    connections: Callable[[], list["Connection"]]

    def __init__(self, selector: EpollSelector) -> None:
        self._selector = selector
        # Nothing but connections is ever registered.
        self.wait = selector.ready  # type: ignore[assignment]
        self.connections = selector.registered  # type: ignore[assignment]

    def add(self, c: "Connection") -> None:
        """Register all that the connection may ever want, once."""
        self._selector.add(c.fd, c.directions, c)

    def change(self, event: "Event") -> None:
        """Post an event that was reported before it became active: no other report will come."""
        if event.active and event.ready:
            event.data.loop.post(event)

    def remove(self, c: "Connection") -> None:
        """Unregister."""
        self._selector.drop(c.fd)

    def forget(self, c: "Connection") -> None:
        """Unregister in the kernel."""
        self._selector.forget(c.fd)

    def remind(self) -> None:
        """Arm all edges again."""
        self._selector.remind()


class LevelInterest:
    """Interest that the kernel hears of with each change; without any, not registered."""

    __slots__ = ("_selector", "descriptors_max")

    is_edge_triggered = False

    def __init__(self, selector: BaseSelector, descriptors_max: int | None = None) -> None:
        self._selector = selector
        self.descriptors_max = descriptors_max

    def wait(self, timeout: float | None) -> list[tuple["Connection", int]]:
        """Select."""
        return [(key.data, mask) for key, mask in self._selector.select(timeout)]

    def connections(self) -> list["Connection"]:
        """Return those that wait for something."""
        return [key.data for key in self._selector.get_map().values()]

    def add(self, c: "Connection") -> None:
        """Register what is wanted, which may be nothing yet."""
        if self.descriptors_max is not None and c.fd >= self.descriptors_max:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self._update(c)

    def change(self, event: "Event") -> None:
        """Register, modify or unregister, as the change demands."""
        self._update(event.data)

    def _update(self, c: "Connection") -> None:
        wanted = (EVENT_READ if c.read.active else 0) | (EVENT_WRITE if c.write.active else 0)
        if wanted == c.registered:
            return
        if not c.registered:
            self._selector.register(c.fd, wanted, c)
        elif not wanted:
            self._selector.unregister(c.fd)
        else:
            self._selector.modify(c.fd, wanted, c)
        c.registered = wanted

    def remove(self, c: "Connection") -> None:
        """Unregister, if registered."""
        if c.registered:
            self._selector.unregister(c.fd)
            c.registered = 0

    def forget(self, c: "Connection") -> None:
        """Do nothing: `remove` leaves nothing to closing."""

    def remind(self) -> None:
        """Do nothing: the next turn reports again all that is ready."""


FD_SETSIZE: Final = 1024
"""Descriptors that fit into the sets of select(), the C library's constant (select(2), "BUGS")."""


def open_selector(method: str) -> tuple[BaseSelector, Interest]:
    """Return a new selector of that `event_method`, and the interest that fits it; `auto` takes the
    best one.

    Raises ValueError if this system lacks the method.
    """
    if method in ("auto", "epoll") and hasattr(select, "epoll"):
        edge = EpollSelector()
        return edge, EdgeInterest(edge)
    if method == "auto":
        selector: BaseSelector = selectors.DefaultSelector()
    elif method == "poll":
        selector = PollSelector()
    elif method == "select":
        selector = selectors.SelectSelector()
    else:
        raise ValueError(f'event_method "{method}" is not available on this system')
    is_select = isinstance(selector, selectors.SelectSelector)
    return selector, LevelInterest(selector, FD_SETSIZE if is_select else None)
