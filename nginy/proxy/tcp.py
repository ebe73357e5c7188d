"""The pump: it passes the bytes of each side of a TCP session to the other.

One function serves both directions, as in nginx (`ngx_stream_proxy_process`). It reads into a
buffer that the whole loop shares and sends at once; most of the time that is all: receive, send,
done. If the other side does not take everything, the connection that the bytes came from keeps the
rest, and nginy stops reading it; the write handler goes on when there is room. So a session at rest
owns no memory, and one that is stuck owns at most one read each way.

The size of a read grows with the transfer: `proxy_buffer_size` at first, doubling for a connection
that has filled several reads in a row, as long as the budget for unsent bytes of the whole process
lasts (`event/budget.py`). Large pieces stay in the kernel, on their way through a pipe
(`event/pipe.py`); without pipes, reads grow up to 1 MiB. Once the budget is spent, nginy keeps
nothing at all: bytes stay in the kernel until the other side takes them.

`proxy/ending.py` ends a direction or the session (EOF, a reset, idleness); `proxy/upstream.py` gets
the connection to a backend.
"""

from _socket import MSG_PEEK
from typing import Final

from nginy.backend.pool import BackendPool
from nginy.event.buffer import Buffer
from nginy.event.connection import AGAIN, EOF, ERROR, Connection
from nginy.event.event import Event
from nginy.event.loop import Loop
from nginy.event.pipe import UNSUPPORTED, Pipe
from nginy.proxy.announcing import header_for, version_for
from nginy.proxy.handler import ProxyHandler, ProxySettings
from nginy.proxy.movable import MovableSession
from nginy.text.address import Address

FULL_READS_BEFORE_BULK: Final = 3
"""After this many full reads in a row, reads grow: short exchanges never get there."""
QUOTA_BYTES: Final = 1024 * 1024
"""Bytes moved for one event; then the others get their turn."""
SPLICE_FROM_BYTES: Final = 128 * 1024
"""Once reads have grown to this, a pipe takes over; when an event brings less, reading goes on.

That saves a quarter to a half of the CPU time of a bulk transfer with reads of 1 MiB."""


def read_sizes(memory: memoryview, buffer_size: int) -> tuple[memoryview, ...]:
    """Return the views to read into after 0, 1, 2 ... full reads in a row.

    The handler makes them once, as a slice costs 50 ns, and each message would need two.
    """
    first = memory[: min(buffer_size, len(memory))]
    views = [first] * (FULL_READS_BEFORE_BULK + 1)
    while len(views[-1]) < len(memory):
        views.append(memory[: min(2 * len(views[-1]), len(memory))])
    return tuple(views)


class TcpHandler(ProxyHandler):
    """Makes TCP sessions of a listener's clients."""

    __slots__ = ("read_sizes", "session_class")

    kind = "tcp"

    def __init__(
        self,
        loop: Loop,
        name: str,
        address: Address,
        pool: BackendPool,
        settings: ProxySettings,
    ) -> None:
        super().__init__(loop, name, address, pool, settings)
        self.read_sizes = read_sizes(loop.memory, settings.buffer_size)
        self.session_class = TcpSession
        """What it makes of its clients; for listeners with a rate, `pacing.PacedSession`."""

    def accept_handler(self, client: Connection) -> None:
        """Begin the session of a client that was just accepted."""
        self.begin(self.session_of(client))

    def session_of(self, client: Connection) -> "TcpSession":
        """Return a session of a client, not yet begun."""
        session = self.session_class(self, client)
        session.read_sizes = self.read_sizes
        return session


class TcpSession(MovableSession):
    """A TCP client and its backend, exchanging bytes."""

    __slots__ = ("read_sizes",)

    read_sizes: tuple[memoryview, ...]
    """What to read into, by full reads in a row; the handler's at the time of the accept."""

    def established(self) -> None:
        """Begin to pump, with what the client has sent while it waited."""
        client, upstream = self.client, self.upstream
        if upstream is None:
            return
        self._start_idle_timer()
        if self.handler.pool.max_session_time_ms is not None:
            self._start_end_timer(self.handler.pool.max_session_time_ms)
        # One bound method for both, so that an idle pair takes little memory.
        is_plain = client.is_plain and upstream.is_plain
        handler = self._read_handler if is_plain else self._tls_read_handler
        upstream.read.handler = client.read.handler = handler
        upstream.resume_read()
        client.resume_read()
        backend = self.attempt.backend
        version = "off" if backend is None else version_for(self.handler.settings, backend)
        if version != "off" and upstream.is_plain:
            self._send_header(upstream, version)
        if client.read.ready and client.read.active:
            handler(client.read)

    def _send_header(self, upstream: Connection, version: str) -> None:
        """Send the PROXY header, in one write with what the client has sent so far."""
        client, settings = self.client, self.handler.settings
        header = header_for(self, version, settings.pass_tlvs)
        memory = client.loop.memory
        end = len(header)
        memory[:end] = header
        count = client.recv(memory[end : end + settings.buffer_size])
        if count == ERROR:
            self._read_ended(client, upstream, ERROR)
            return
        if count == EOF:
            client.read.ready = True  # for the next reader, who passes it on
        elif count > 0:
            end += count
        sent = upstream.send(memory[:end])
        if sent < end:
            self._keep_rest(client, upstream, memory[:end], sent)

    # The handlers of the two connections: each only says which way.

    def _read_handler(self, event: Event) -> None:
        """Pass on what one side has sent; both directions are this one function.

        This is the ordinary message, in as few steps as possible: it fits into the buffer, the
        other side takes all of it, and nothing else is pending. The calls of the socket stand here
        and not in `Connection.recv` and `send`, which saves a sixth of the Python work for a
        message. Everything else goes on in `_pump` and the functions below it.
        """
        src = event.data
        # There is an upstream: this became the handler when it was connected.
        dst: Connection = self.upstream if src is self.client else self.client  # type: ignore[assignment]
        loop = src.loop
        if src.full_reads or loop.budget.is_spent:
            self._pump(src, dst)
            return
        memory = self.read_sizes[0]
        try:
            count = src.socket.recv_into(memory)
        except OSError as error:
            self._read_ended(src, dst, src.failed(event, error))
            return
        if not count:
            event.eof = True
            self._read_ended(src, dst, EOF)
            return
        now_ms = src.active_at_ms = loop.clock.now_ms
        if not src.received and dst is self.client:
            self.attempt.first_byte_at_ms = now_ms
        src.received += count
        data = memory[:count]
        try:
            sent = dst.socket.send(data)
        except OSError as error:
            self._keep_rest(src, dst, data, dst.failed(dst.write, error))
            return
        dst.sent += sent
        if sent < count:
            self._keep_rest(src, dst, data, sent)
        elif count == len(memory):
            src.full_reads = 1
            self._pump(src, dst)
        elif event.pending_eof:
            self._pump(src, dst)
        else:
            event.ready = False

    def _tls_read_handler(self, event: Event) -> None:
        """Do as `_read_handler`, with calls that encrypt and decrypt."""
        src = event.data
        dst: Connection = self.upstream if src is self.client else self.client  # type: ignore[assignment]
        loop = src.loop
        if src.full_reads or loop.budget.is_spent:
            self._pump(src, dst)
            return
        is_first = not src.received
        memory = self.read_sizes[0]
        count = src.recv(memory)
        if count <= 0:
            self._read_ended(src, dst, count)
            return
        now_ms = src.active_at_ms = loop.clock.now_ms
        if is_first and dst is self.client:
            self.attempt.first_byte_at_ms = now_ms
        data = memory[:count]
        sent = dst.send(data)
        if sent < count:
            self._keep_rest(src, dst, data, sent)
        elif event.ready:
            if count == len(memory):
                src.full_reads = 1
            self._pump(src, dst)

    def _client_write_handler(self, event: Event) -> None:
        if self.upstream is not None:
            self._flush(self.upstream, event.data)

    def _upstream_write_handler(self, event: Event) -> None:
        self._flush(self.client, event.data)

    # The pump.

    def _pump(self, src: Connection, dst: Connection) -> None:
        """Move bytes from `src` to `dst` until one of them would block or ends, or the quota is
        used.

        nginx: `ngx_stream_proxy_process`.
        """
        loop = src.loop
        sizes = self.read_sizes
        quota = QUOTA_BYTES
        if loop.budget.is_spent and self._trickle(src, dst):
            return
        while True:
            # -- read
            full_reads = 0 if loop.budget.is_spent else src.full_reads
            memory = sizes[full_reads]
            if len(memory) >= SPLICE_FROM_BYTES and self._splice(src, dst):
                return
            count = src.recv(memory)
            if count <= 0:
                self._read_ended(src, dst, count)
                return
            # -- send
            src.active_at_ms = loop.clock.now_ms
            sent = dst.send(memory[:count])
            if sent < count:
                self._keep_rest(src, dst, memory[:count], sent)
                return
            # -- again?
            if count == len(memory):
                src.full_reads = min(full_reads + 1, len(sizes) - 1)
            elif count < len(memory) // 2:
                # One step down, not all of them: a bulk transfer has short reads too, and climbing
                # again after each cost uploads a fifth.
                src.full_reads = max(full_reads - 1, 0)
            if not src.read.ready:
                return
            quota -= count
            if quota <= 0:
                loop.post(src.read)
                return

    def _trickle(self, src: Connection, dst: Connection, quota: int = QUOTA_BYTES) -> bool:
        """Do as `_pump` does, but keep nothing: look at the bytes, send them, and take from the
        kernel only those that were sent.

        This costs a call and a copy more, and no memory whatever the other side takes. Returns
        False if that is impossible, as the bytes are encrypted.
        """
        if not src.is_plain:
            return False
        loop, memory = src.loop, self.read_sizes[0]
        loop.budget.measure(loop.clock.now_ms)
        while quota > 0:
            count = self._look(src, memory[:quota])
            if count <= 0:
                self._read_ended(src, dst, count)
                return True
            if not src.received and dst is self.client:
                self.attempt.first_byte_at_ms = loop.clock.now_ms
            sent = dst.send(memory[:count])
            if sent == ERROR:
                self._cannot_send(src, dst)
                return True
            if sent > 0:
                src.recv(memory[:sent])
                src.active_at_ms = loop.clock.now_ms
            if sent < count:
                self._wait_for_room(src, dst)
                return True
            quota -= count
        loop.post(src.read)
        return True

    @staticmethod
    def _look(src: Connection, memory: memoryview) -> int:
        """Copy what waits to be received without taking it; return a count, EOF, AGAIN or ERROR."""
        try:
            count = src.socket.recv_into(memory, 0, MSG_PEEK)
        except OSError as error:
            return src.failed(src.read, error)
        return count or src.recv(memory)

    def _splice(self, src: Connection, dst: Connection) -> bool:
        """Do as `_pump` does, but leave the bytes in the kernel; return False if that is
        impossible."""
        if not (self.handler.settings.splice and src.is_plain and dst.is_plain):
            return False
        loop = src.loop
        pipe = loop.pipes.take()
        if pipe is None:
            return False
        moved = 0
        while moved < QUOTA_BYTES:
            count = pipe.receive(src)
            if count <= 0:
                pipe.release()
                if count == UNSUPPORTED:
                    return False
                if moved < SPLICE_FROM_BYTES:
                    src.full_reads = max(src.full_reads - 1, 0)
                self._read_ended(src, dst, count)
                return True
            moved += count
            src.active_at_ms = loop.clock.now_ms
            sent = pipe.send_to(dst)
            if sent < count:
                if sent == ERROR:
                    pipe.release()
                    self._cannot_send(src, dst)
                else:
                    self._keep(src, dst, pipe)
                return True
        pipe.release()
        loop.post(src.read)
        return True

    def _keep_rest(self, src: Connection, dst: Connection, memory: memoryview, sent: int) -> None:
        """Keep what `dst` did not take, and read nothing more from `src` until it has."""
        if sent == ERROR:
            self._cannot_send(src, dst)
            return
        self._keep(src, dst, Buffer(memory[max(sent, 0) :]))

    def _keep(self, src: Connection, dst: Connection, rest: Buffer | Pipe) -> None:
        src.buffer = rest
        src.loop.budget.hold(len(rest), src.loop.clock.now_ms)
        self._wait_for_room(src, dst)

    def _wait_for_room(self, src: Connection, dst: Connection) -> None:
        dst.write.ready = False
        src.pause_read()
        dst.write.handler = (
            self._client_write_handler if dst is self.client else self._upstream_write_handler
        )
        dst.resume_write()

    def _flush(self, src: Connection, dst: Connection) -> None:
        """Send the rest that was read from `src`; when all is sent, read on."""
        rest = src.buffer
        if rest is None:
            # It stayed in the kernel.
            dst.pause_write()
            src.resume_read()
            return
        held = len(rest)
        sent = rest.send_to(dst)
        # Not by `sent`: a pipe may have sent a part before it failed.
        src.loop.budget.give_back(held - len(rest))
        if sent == AGAIN:
            return
        if sent == ERROR:
            self._cannot_send(src, dst)
            return
        src.active_at_ms = src.loop.clock.now_ms
        if rest:
            return
        src.drop_buffer()
        dst.pause_write()
        src.resume_read()
