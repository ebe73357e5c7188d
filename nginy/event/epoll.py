"""Edge-triggered epoll as a selector of the standard library's kind.

`selectors.EpollSelector` is level-triggered. This one reports a change of readiness once, and
reports two things more: that the peer has sent FIN, and that the socket has an error.
`event/selector.py` says what follows for reading and writing.

Descriptors are small numbers without gaps, so a list by descriptor holds what was registered: 9
bytes each, where a dict of `SelectorKey`s takes 120. The keys that `BaseSelector` promises are made
on demand; the loop asks `ready`, which returns what was registered.

nginx: `ngx_epoll_process_events` in `ngx_epoll_module.c`.

Tested in tests/event/test_selector.py.
"""

import contextlib
import select
from collections.abc import Mapping
from selectors import EVENT_READ, EVENT_WRITE, BaseSelector, SelectorKey
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from _typeshed import FileDescriptorLike

EVENT_EOF: Final = 4
"""With EVENT_READ: the peer has sent FIN, so reading must go on until EOF. Only `EpollSelector`
reports it."""
EVENT_ERROR: Final = 8
"""With EVENT_READ and EVENT_WRITE: the socket has a pending error. Only `EpollSelector` reports
it."""
EVENT_LEVEL: Final = 16
"""With EVENT_READ, when registering: report it for as long as it lasts. For sockets that are read
once for each event, which saves the read that finds nothing; they must not be paused."""

_NOTHING: Final = object()

BATCH: Final = 512
"""The most events that one call takes from the kernel (nginx `epoll_events`)."""


def _translated(mask: int) -> int:
    """Return an epoll mask in the bits of `selectors` and our two.

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
        # Both directions are shut down: a normal end, or an error comes with it.
        events |= EVENT_READ | EVENT_WRITE | EVENT_EOF
    if mask & select.EPOLLERR:
        events |= EVENT_READ | EVENT_WRITE | EVENT_EOF | EVENT_ERROR
    return events


class EpollSelector(BaseSelector):
    """Edge-triggered epoll. The loop owns it, like every selector, and closes it."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._data: list[object] = []
        """What was registered, by descriptor; `_NOTHING` where nothing was."""
        self._wanted = bytearray()
        """Its events, by descriptor; 0 where nothing was registered."""
        self._fileobjs: dict[int, FileDescriptorLike] = {}
        """What was registered by another name than its descriptor."""
        edge = select.EPOLLET | select.EPOLLRDHUP
        self._masks = {
            EVENT_READ: edge | select.EPOLLIN,
            EVENT_READ | EVENT_LEVEL: select.EPOLLIN,
            EVENT_WRITE: edge | select.EPOLLOUT,
            EVENT_READ | EVENT_WRITE: edge | select.EPOLLIN | select.EPOLLOUT,
        }
        # Every possible mask, so that an event costs one lookup.
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
        if events not in self._masks:
            raise ValueError(f"Invalid events: {events!r}")
        try:
            self.add(fd, events, data)
        except FileExistsError:
            raise KeyError(f"{fileobj!r} (FD {fd}) is already registered") from None
        if fileobj is not fd:
            self._fileobjs[fd] = fileobj
        return SelectorKey(fileobj, fd, events, data)

    def add(self, fd: int, events: int, data: object) -> None:
        """Do as `register`, without the key, which takes 0.3 us to make."""
        self._epoll.register(fd, self._masks[events])
        if fd >= len(self._wanted):
            more = fd + 1 + fd // 8 - len(self._wanted)
            self._data += [_NOTHING] * more
            self._wanted += bytes(more)
        self._data[fd] = data
        self._wanted[fd] = events

    def unregister(self, fileobj: "FileDescriptorLike") -> SelectorKey:
        """Forget a descriptor that is about to be closed; closing it does the kernel's part.

        Raises KeyError if it is not registered.
        """
        key = self._key(fileobj if isinstance(fileobj, int) else fileobj.fileno())
        self.drop(key.fd)
        self._fileobjs.pop(key.fd, None)
        return key

    def drop(self, fd: int) -> None:
        """Forget a descriptor that was registered as such, as `unregister` does."""
        self._data[fd] = _NOTHING
        self._wanted[fd] = 0

    def forget(self, fd: int) -> None:
        """Make the kernel forget a registered descriptor that another process has open as well.

        It would go on reporting it after the close, under a number that may belong to another
        socket by then.
        """
        with contextlib.suppress(FileNotFoundError):  # it has forgotten already
            self._epoll.unregister(fd)

    def select(self, timeout: float | None = None) -> list[tuple[SelectorKey, int]]:
        """Wait at most `timeout` seconds (None: for ever); return what became ready since the last
        call."""
        ready = self._epoll.poll(timeout, BATCH)
        return [(self._key(fd), self._events[mask]) for fd, mask in ready if self._wanted[fd]]

    def ready(self, timeout: float | None) -> list[tuple[object, int]]:
        """Do as `select`, but return what was registered instead of its key."""
        data, events = self._data, self._events
        return [
            (data[fd], events[mask])
            for fd, mask in self._epoll.poll(timeout, BATCH)
            # A child between fork and exec can keep a closed description alive.
            if data[fd] is not _NOTHING
        ]

    def registered(self) -> list[object]:
        """Return all that was registered with a descriptor."""
        return [each for each in self._data if each is not _NOTHING]

    def remind(self) -> None:
        """Make the kernel report again all that is ready, as a report may be lost."""
        for fd, events in enumerate(self._wanted):
            if events:
                with contextlib.suppress(FileNotFoundError):  # forgotten, and about to be closed
                    self._epoll.modify(fd, self._masks[events])

    def close(self) -> None:
        """Close the epoll descriptor."""
        self._epoll.close()
        self._data.clear()
        self._wanted.clear()
        self._fileobjs.clear()

    def get_map(self) -> Mapping["FileDescriptorLike", SelectorKey]:
        """Return the registered keys by descriptor, as they are now."""
        return {fd: self._key(fd) for fd, events in enumerate(self._wanted) if events}

    def _key(self, fd: int) -> SelectorKey:
        if not 0 <= fd < len(self._wanted) or not self._wanted[fd]:
            raise KeyError(f"{fd!r} is not registered")
        return SelectorKey(self._fileobjs.get(fd, fd), fd, self._wanted[fd], self._data[fd])
