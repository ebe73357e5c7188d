"""Listener: a bound socket, and the connections that it accepts.

A listener is opened (bound, so that an address in use is known before anything changes), then
started on a loop, paused and resumed, and closed. It hands each accepted connection to its
`handler`, which belongs to the layer above. nginx: `ngx_listening_t`, and `ngx_event_accept` in
`ngx_event_accept.c`.

Four rules of accepting:
- Each turn has a quota: a crowd of new clients must not keep the others waiting.
- If the connection of the first client in the queue has failed, accept(2) reports that error; the
  listener skips the client.
- A client is accepted only if its backend can have a descriptor as well (`event/reserve.py`).
  All others wait in the kernel's queue. As that keeps the socket readable, the listener pauses and
  looks again a little later.
- After any other error it pauses for half a second, for the same reason (nginx `ngx_event_accept`:
  it disables accept events for 500 ms).

`event/bind.py` opens the socket itself. UDP has no connections to accept;
`event/datagram.py::DatagramReceiver` receives what arrives on its listeners.
"""

import errno
import logging
import os
import sys
from _socket import SOCK_STREAM, socket
from collections.abc import Callable
from typing import Final

from nginy.event.bind import ListenOptions, bind_listener, set_options
from nginy.event.connection import Connection
from nginy.event.datagram import DatagramHandler, DatagramReceiver
from nginy.event.event import Event
from nginy.event.loop import Loop
from nginy.event.reserve import OUT_OF_DESCRIPTORS
from nginy.event.timer import Timer
from nginy.event.unix_path import remove_socket
from nginy.log.limit import similar
from nginy.text.address import Address, SockAddr

logger = logging.getLogger("nginy.event")

ACCEPT_QUOTA: Final = 8
"""Connections accepted in one turn: 6 % less CPU time a connection than one at a time, and not yet
unfair."""
ACCEPT_PAUSE_MS: Final = 500
"""How long to stop accepting after an error (nginx `ngx_event_accept`)."""
SHORTAGE_PAUSE_MS: Final = 20
"""How long to stop without descriptors. Any session that ends frees two, and no event says so.

Looking costs a few µs, so 50 looks a second cost next to nothing."""
CLIENT_GONE: Final = frozenset(
    (
        errno.ECONNABORTED,
        errno.EHOSTDOWN,
        errno.EHOSTUNREACH,
        errno.ENETDOWN,
        errno.ENETUNREACH,
        errno.ENOPROTOOPT,
        errno.EOPNOTSUPP,
        errno.EPROTO,
    )
)
"""Errors of accept() that belong to the client at the head of the queue (accept(2), "Error
handling")."""


class Listener:
    """A bound socket (nginx `ngx_listening_t`). Created and closed by the server."""

    __slots__ = (
        "_accept",
        "_client",
        "address",
        "connection",
        "handler",
        "is_inherited",
        "options",
        "paused_until_ms",
        "pauses",
        "socket",
        "timer",
    )

    def __init__(self, options: ListenOptions, sock: socket | None = None) -> None:
        """Bind and listen, or take over the inherited `sock`; raises ListenError."""
        self.options = options
        self.is_inherited = sock is not None
        """Whether another process has bound it, and removes the path of a unix socket."""
        self.socket = sock or bind_listener(options)
        self.address = options.address
        if not self.address.is_unix and not self.address.port:
            # Port 0 asks the kernel for a free one.
            self.address = Address(self.address.family, *self.socket.getsockname()[:2])
        self.connection: Connection | None = None
        """The socket as the loop sees it; None before `start` (nginx `ls->connection`)."""
        self.handler: Callable[[Connection], None] = Connection.close
        """Takes over each accepted connection."""
        self.timer: Timer | None = None
        self.pauses = self.paused_until_ms = 0
        """How often it had to stop accepting, and when the last pause ends."""
        self._client: Connection | None = None
        # The C method below socket.accept(), which would make a socket.socket.
        self._accept = self.socket._accept  # type: ignore[attr-defined]  # noqa: SLF001

    def __repr__(self) -> str:
        """Show the address."""
        return f"<Listener {self}>"

    def __str__(self) -> str:
        """Return the address, with "udp" for a UDP listener."""
        return f"{self.address}{' udp' if self.options.udp else ''}"

    def start(self, loop: Loop, handler: Callable[[Connection], None]) -> None:
        """Accept connections on `loop` from now on, and hand each to `handler`."""
        self.handler = handler
        loop.reserve.refill()
        c = Connection(loop, self.socket, self.address.sockaddr)
        c.read.handler = self._post_handler
        self._start(c, "accepting connections")

    def start_datagrams(self, loop: Loop, handler: DatagramHandler) -> DatagramReceiver:
        """Call `handler` on `loop` with each datagram from now on."""
        c = DatagramReceiver(loop, self.socket, self.address, handler)
        self._start(c, "receiving datagrams")
        return c

    def _start(self, c: Connection, action: str) -> None:
        c.data = self
        c.action = action
        self.connection = c
        c.resume_read()

    def _post_handler(self, event: Event) -> None:
        """Accept later in this turn, after the clients that are connected already."""
        event.handler = self._accept_handler
        event.data.loop.post(event)

    def _accept_handler(self, event: Event) -> None:
        if event.posted:  # a new client has come: step 6 will accept it, after those that wait
            return
        loop = event.data.loop
        reserve = loop.reserve
        for _ in range(ACCEPT_QUOTA):
            if reserve.is_short and not reserve.refill():
                self._wait_for_descriptors(event.data, errno.EMFILE)
                return
            try:
                fd, sockaddr = self._accept()
            except BlockingIOError:
                event.ready = False
                event.handler = self._post_handler
                return
            except OSError as error:
                if error.errno in CLIENT_GONE:
                    continue
                self._accept_failed(event.data, "accept", error)
                return
            try:
                c = self._client = self._connection(loop, fd, sockaddr)
            except OSError as error:
                # The selector takes no more: epoll has a limit for each user, select() its own.
                self._accept_failed(event.data, "register", error)
                return
            self.handler(c)
            self._client = None
            if not event.active:  # the handler has closed or paused us
                return
        loop.post(event)

    def _connection(self, loop: "Loop", fd: int, sockaddr: SockAddr) -> Connection:
        """Return a connection for an accepted descriptor, or close it and raise."""
        sock = None
        try:
            sock = socket(self.options.address.family, SOCK_STREAM, 0, fd)
            sock.setblocking(False)
            return Connection(loop, sock, sockaddr)
        except (OSError, MemoryError):
            if sock is None:
                os.close(fd)
            else:
                sock.close()
            raise

    def _accept_failed(self, c: Connection, call: str, error: OSError) -> None:
        if call == "accept" and error.errno in OUT_OF_DESCRIPTORS:
            self._wait_for_descriptors(c, error.errno)
            return
        logger.critical(
            "%s() failed (%s: %s) on %s", call, error.errno, error.strerror, self.address
        )
        self._pause_for(c, ACCEPT_PAUSE_MS)

    def _wait_for_descriptors(self, c: Connection, code: int) -> None:
        """Leave clients in the kernel's queue until ending sessions have freed descriptors."""
        loop = c.loop
        loop.reserve.is_short = True
        if loop.pipes.trim():
            loop.post(c.read)
            return
        suppressed = loop.reserve.limited.admit(code, loop.clock.now_ms)
        if suppressed is not None:
            logger.critical(
                "out of descriptors (%s: %s), new clients of %s wait%s",
                code,
                os.strerror(code),
                self.address,
                similar(suppressed),
            )
        self._pause_for(c, SHORTAGE_PAUSE_MS)

    def _pause_for(self, c: Connection, duration_ms: int) -> None:
        self.pause()
        self.pauses += 1
        self.paused_until_ms = c.loop.clock.now_ms + duration_ms
        self.timer = c.read.timer = self.timer or Timer(self._resume_handler, self)
        c.loop.timers.start(self.timer, self.paused_until_ms)

    def _resume_handler(self, _timer: Timer) -> None:
        self.resume()

    def apply(self, options: ListenOptions) -> None:
        """Adopt the options that a reload has changed; they hold for clients accepted later."""
        if options == self.options:
            return
        self.options = options
        try:
            set_options(self.socket, options)
            if not options.udp:
                self.socket.listen(options.backlog)
        except OSError as error:
            logger.critical(
                "setsockopt() failed (%s: %s) on %s", error.errno, error.strerror, self.address
            )

    def pause(self) -> None:
        """Accept no client until `resume`; new ones wait in the kernel's queue."""
        if self.connection is not None:
            self.connection.pause_read()

    def resume(self) -> None:
        """Accept again, first the clients that wait."""
        if self.connection is not None:
            self.connection.read.ready = True
            self.connection.resume_read()

    def close(self) -> None:
        """Close the socket; remove the path of a unix socket that we have bound, as nginx does."""
        if self.connection is not None:
            # The supervisor, or a successor, may have a copy.
            self.connection.loop.interest.forget(self.connection)
            self.connection.close()
            self.connection = None
        self.socket.close()
        self.timer = None
        self.handler = Connection.close
        if self.address.is_unix and not self.is_inherited:
            remove_socket(self.address.path)

    def abort(self) -> None:
        """End the client whose accept failed, after a bug, and go on with the next."""
        client, self._client = self._client, None
        if client is not None:
            client.abort()
        c = self.connection
        if c is not None and isinstance(sys.exc_info()[1], MemoryError):
            self._pause_for(c, ACCEPT_PAUSE_MS)
        elif c is not None:
            c.loop.post(c.read)
