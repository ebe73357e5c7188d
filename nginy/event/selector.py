"""What is registered with the selector, and what a change of it costs.

The loop is written against `selectors.BaseSelector`. This module adds one selector to the standard
library's, and the two ways of keeping a selector in step with what the connections want.

**Level-triggered** selectors (`select`, `poll`, and epoll as `selectors.EpollSelector` uses it)
report a descriptor in every turn for as long as it is ready. Whoever does not want to hear of it
has to say so to the kernel, and must say so fully: with `modify(fd, 0)` the descriptor stays
registered, and as errors and hang-ups cannot be masked, a reset then wakes the loop in every turn,
at 100 % CPU. So no interest means unregister.

**Edge-triggered** epoll reports a change of readiness once. A connection is registered for both
directions when it is opened and never again; to want, or not to want, is a flag in its `Event`,
and free. This saves every `epoll_ctl` but the first (9 % of the CPU time of a short connection)
and has a price: what was reported is not reported again, so `Event.ready` has to be remembered,
and a handler that stops before "not now" has to post its event. An epoll registration belongs to
the open file description, not to the number: the kernel removes it with the last descriptor that
refers to it, which is why `unregister` before `close` costs nothing here.

A descriptor number may be closed and given out again within one batch of events. Each entry of a
batch carries the object it was registered with, so the loop tests that object and never looks up a
number.

**select()** takes no descriptor from 1,024 on: one alone makes each call fail, and with it the
loop. So the process is allowed no more (`process/privileges.py::cap_descriptors`), and a
connection beyond is refused (`LevelInterest.add`).

nginx: `ngx_epoll_module.c` (`ngx_epoll_add_connection`, `ngx_epoll_process_events`). Next:
`event/loop.py`.
"""

import contextlib
import errno
import os
import select
import selectors
from collections.abc import Mapping
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector, SelectorKey
from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

    from nginy.event.connection import Connection
    from nginy.event.event import Event

EVENT_EOF: Final = 4
"""Beside EVENT_READ: the peer has sent FIN, so reading has to go on until EOF. Only
`EpollSelector` knows."""
EVENT_ERROR: Final = 8
"""Beside EVENT_READ and EVENT_WRITE: the socket has a pending error. Only `EpollSelector`
knows."""
EVENT_LEVEL: Final = 16
"""Beside EVENT_READ, to register: report it as long as it lasts. For sockets of which one read an
event is the rule, so that none has to be tried in vain; they must not be paused."""

BATCH: Final = 512
"""Events taken from the kernel in one turn (nginx `epoll_events`)."""


def _translated(mask: int) -> int:
    """Return an epoll mask in the bits of `selectors`, and our two.

    nginx: `ngx_epoll_process_events`.
    """
    events = 0
    if mask & select.EPOLLIN:
        events |= EVENT_READ
    if mask & select.EPOLLOUT:
        events |= EVENT_WRITE
    if mask & select.EPOLLRDHUP:
        events |= EVENT_READ | EVENT_EOF
    if mask & select.EPOLLHUP:
        # Both directions are shut down: a normal end, or the company of an error.
        events |= EVENT_READ | EVENT_WRITE | EVENT_EOF
    if mask & select.EPOLLERR:
        events |= EVENT_READ | EVENT_WRITE | EVENT_EOF | EVENT_ERROR
    return events


class EpollSelector(BaseSelector):
    """Edge-triggered epoll. Like every selector it is owned, and closed, by the loop."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._keys: dict[FileDescriptorLike, SelectorKey] = {}
        edge = select.EPOLLET | select.EPOLLRDHUP
        self._masks = {
            EVENT_READ: edge | select.EPOLLIN,
            EVENT_READ | EVENT_LEVEL: select.EPOLLIN,
            EVENT_WRITE: edge | select.EPOLLOUT,
            EVENT_READ | EVENT_WRITE: edge | select.EPOLLIN | select.EPOLLOUT,
        }
        # All masks there can be, so that an event costs one lookup.
        self._events = {
            mask | hang_up: _translated(mask | hang_up)
            for mask in range(2 * select.EPOLLHUP)
            for hang_up in (0, select.EPOLLRDHUP)
        }

    def register(
        self,
        fileobj: "FileDescriptorLike",
        events: int,
        data: object = None,
    ) -> SelectorKey:
        """Register a descriptor; a second registration raises KeyError, a bad one ValueError or
        OSError."""
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        mask = self._masks.get(events)
        if mask is None:
            raise ValueError(f"Invalid events: {events!r}")
        try:
            self._epoll.register(fd, mask)
        except FileExistsError:
            raise KeyError(f"{fileobj!r} (FD {fd}) is already registered") from None
        # Not SelectorKey(...), whose __new__ is a Python function.
        key = self._keys[fd] = tuple.__new__(SelectorKey, (fileobj, fd, events, data))
        return key

    def unregister(self, fileobj: "FileDescriptorLike") -> SelectorKey:
        """Forget a descriptor that is about to be closed; the kernel's part is done by `close`."""
        fd = fileobj if isinstance(fileobj, int) else fileobj.fileno()
        return self._keys.pop(fd)

    def forget(self, fd: int) -> None:
        """Have the kernel forget a registered descriptor that another process has open as well.

        It would go on reporting it after `close`, under a number that may be somebody else's then.
        """
        with contextlib.suppress(FileNotFoundError):  # it was told before
            self._epoll.unregister(fd)

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Wait at most `timeout` seconds (None: for ever); return what became ready since the last
        call."""
        ready = self._epoll.poll(timeout, BATCH)
        keys, events = self._keys, self._events
        try:
            return [(keys[fd], events[mask]) for fd, mask in ready]
        except KeyError:
            # A child between fork and exec can keep a closed description alive.
            return [(keys[fd], events[mask]) for fd, mask in ready if fd in keys]

    def close(self) -> None:
        """Close the epoll descriptor."""
        self._epoll.close()
        self._keys.clear()

    def get_map(self) -> Mapping["FileDescriptorLike", SelectorKey]:
        """Return the registered keys by descriptor."""
        return self._keys


class Interest(Protocol):
    """How a connection's flags `active` reach the selector."""

    @property
    def is_edge_triggered(self) -> bool:
        """Whether readiness is reported once, so that it has to be remembered."""

    @property
    def descriptors_max(self) -> int | None:
        """The number that every descriptor has to stay below; None: no limit of its own."""

    def add(self, c: "Connection") -> None:
        """Begin to watch a connection that was just opened; raises OSError if there is no room.

        Epoll's room is a user's (ENOSPC, `max_user_watches` of epoll(7)), that of select() a set of
        descriptors (EMFILE).
        """

    def change(self, event: "Event") -> None:
        """Tell the selector that an event's `active` has changed."""

    def remove(self, c: "Connection") -> None:
        """Stop watching a connection that is about to be closed."""

    def forget(self, c: "Connection") -> None:
        """Do what `remove` leaves to the close, as the socket stays open in another process."""


class EdgeInterest:
    """Interest as flags: one registration at the start, no system call after it."""

    __slots__ = ("_selector",)

    is_edge_triggered = True
    descriptors_max = None

    def __init__(self, selector: EpollSelector) -> None:
        self._selector = selector

    def add(self, c: "Connection") -> None:
        """Register what the connection may ever want, for good."""
        self._selector.register(c.fd, c.directions, c)

    def change(self, event: "Event") -> None:
        """Post what became wanted and was reported before: the kernel will not report it again."""
        if event.active and event.ready:
            event.data.loop.post(event)

    def remove(self, c: "Connection") -> None:
        """Unregister."""
        self._selector.unregister(c.fd)

    def forget(self, c: "Connection") -> None:
        """Unregister in the kernel."""
        self._selector.forget(c.fd)


class LevelInterest:
    """Interest told to the kernel with each change; none at all means not registered."""

    __slots__ = ("_selector", "descriptors_max")

    is_edge_triggered = False

    def __init__(self, selector: BaseSelector, descriptors_max: int | None = None) -> None:
        self._selector = selector
        self.descriptors_max = descriptors_max

    def add(self, c: "Connection") -> None:
        """Register what is wanted, which may be nothing yet."""
        if self.descriptors_max is not None and c.fd >= self.descriptors_max:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        self._update(c)

    def change(self, event: "Event") -> None:
        """Register, modify or unregister, whichever brings the selector in step."""
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
        """Do nothing: `remove` leaves nothing to the close."""


FD_SETSIZE: Final = 1024
"""Descriptors that fit into the sets of select(), the C library's constant (select(2), "BUGS")."""

METHODS: Final = ("epoll", "poll", "select")
"""Values of `event_method`, best first (nginx `use`)."""


def open_selector(method: str) -> tuple[BaseSelector, Interest]:
    """Return a new selector of that `event_method` and the interest that fits; `auto` is the best
    there is.

    Raises ValueError if this system lacks the method.
    """
    if method in ("auto", "epoll") and hasattr(select, "epoll"):
        edge = EpollSelector()
        return edge, EdgeInterest(edge)
    names = {"auto": "DefaultSelector", "poll": "PollSelector", "select": "SelectSelector"}
    selector_class = getattr(selectors, names.get(method, ""), None)
    if selector_class is None:
        raise ValueError(f'event_method "{method}" is not available on this system')
    selector: BaseSelector = selector_class()
    is_select = selector_class is selectors.SelectSelector
    return selector, LevelInterest(selector, FD_SETSIZE if is_select else None)
