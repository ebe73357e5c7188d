"""The pump: what comes from one side of a TCP session goes to the other.

Both directions are one function, told its direction, as in nginx (`ngx_stream_proxy_process`). It
reads into a buffer that the whole loop shares and sends at once; most of the time that is all:
receive, send, done. If the other side does not take everything, the rest is kept in the buffer of
the connection it was read from, nothing more is read from there, and the write handler goes on
when there is room. So a session at rest owns no memory, and one that is stuck owns at most one
read each way.

How much is read at a time grows with the transfer: `proxy_buffer_size` at first, doubling for a
connection that has filled several reads in a row, as long as the budget for unsent bytes of the
whole process lasts (`event/buffer.py`). Large pieces stay in the kernel, on their way through a
pipe (`event/pipe.py`); where that cannot be had, reads grow up to 1 MiB.

The end of a stream is forwarded as such. EOF from one side, once its bytes are delivered, shuts
the other down for writing, and the session is complete when both sides are done (RFC 9293 §3.6). A
reset is forwarded as a reset. A side that can no longer be written to is still read to its end,
since a server may answer and close without reading everything that it was sent.

One timer serves both directions: whoever moves bytes notes the time, and the timer, when it fires,
goes back to sleep for what is left.
"""

from typing import Final

from nginy.backend.pool import BackendPool
from nginy.event.buffer import Buffer
from nginy.event.connection import AGAIN, EOF, ERROR, Connection
from nginy.event.event import Event
from nginy.event.loop import Loop
from nginy.event.pipe import UNSUPPORTED, Pipe
from nginy.event.timer import Timer
from nginy.proxy.handler import ProxyHandler, ProxySettings
from nginy.proxy.session import Reason
from nginy.proxy.upstream import UpstreamSession
from nginy.text.address import Address

FULL_READS_BEFORE_BULK: Final = 3
"""Reads in a row that must have been full before they grow: short exchanges never get there."""
QUOTA_BYTES: Final = 1024 * 1024
"""Bytes moved for one event; then the others have their turn."""
SPLICE_FROM_BYTES: Final = 128 * 1024
"""Where reads have grown to this, a pipe takes over; when less comes for an event, it gives back.

Bulk transfers cost a quarter to a half less CPU time so than with reads of 1 MiB."""
DELIVERY_MS: Final = 5000
"""How long a reset waits for the other side to take what was sent before it."""
DELIVERY_STEP_MS: Final = 20
"""How often it looks; no event tells that a send queue is empty."""


def read_sizes(memory: memoryview, buffer_size: int) -> tuple[memoryview, ...]:
    """Return the views to read into after 0, 1, 2 ... full reads in a row.

    They are made once, as a slice costs 50 ns and a message has two of them otherwise.
    """
    first = memory[: min(buffer_size, len(memory))]
    views = [first] * (FULL_READS_BEFORE_BULK + 1)
    while len(views[-1]) < len(memory):
        views.append(memory[: min(2 * len(views[-1]), len(memory))])
    return tuple(views)


class TcpHandler(ProxyHandler):
    """Makes TCP sessions of a listener's clients."""

    __slots__ = ("read_sizes",)

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

    def apply(self, pool: BackendPool, settings: ProxySettings) -> None:
        """Take over what a reload has changed; sessions that have begun go on as they are."""
        super().apply(pool, settings)
        self.read_sizes = read_sizes(self.loop.memory, settings.buffer_size)

    def accept_handler(self, client: Connection) -> None:
        """Begin the session of a client that was just accepted."""
        session = TcpSession(self, client, self.new_context("TCP", client))
        session.read_sizes = self.read_sizes
        session.start()


class TcpSession(UpstreamSession):
    """A TCP client and its backend, exchanging bytes."""

    __slots__ = ("read_sizes",)

    read_sizes: tuple[memoryview, ...]
    """What to read into, by full reads in a row; the handler's at the time of the accept."""

    def established(self) -> None:
        """Begin to pump, with what the client has sent while it waited."""
        client, upstream = self.client, self.upstream
        if upstream is None:
            return
        client.action = "proxying connection"
        self._start_idle_timer()
        if self.handler.pool.max_session_time_ms is not None:
            self._start_end_timer(self.handler.pool.max_session_time_ms)
        # One bound method for both: an idle pair is to take little memory.
        upstream.read.handler = client.read.handler = self._read_handler
        upstream.resume_read()
        client.resume_read()
        if client.read.ready:
            self._read_handler(client.read)

    # The handlers of the two connections: each only says which way.

    def _read_handler(self, event: Event) -> None:
        """Pass on what one side has sent; both directions are this one function.

        This is the ordinary message, in as few steps as there can be: it fits into the buffer, the
        other side takes all of it, nothing else is in sight. The calls of the socket stand here and
        not in `Connection.recv` and `send`, which saves a sixth of the Python work for a message.
        Whatever is out of the ordinary goes on in `_pump` and the functions below it.
        """
        src = event.data
        # There is an upstream: this became the handler when it was connected.
        dst: Connection = self.upstream if src is self.client else self.client  # type: ignore[assignment]
        if src.full_reads:
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
        now_ms = src.active_at_ms = src.loop.clock.now_ms
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
        while True:
            # -- read
            full_reads = src.full_reads
            if full_reads and loop.budget.is_spent:
                full_reads = 0
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

    def _splice(self, src: Connection, dst: Connection) -> bool:
        """Do as `_pump` does, but leave the bytes in the kernel; False if that cannot be had."""
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
        dst.write.ready = False
        src.buffer = rest
        src.loop.budget.used_bytes += len(rest)
        src.pause_read()
        dst.write.handler = (
            self._client_write_handler if dst is self.client else self._upstream_write_handler
        )
        dst.resume_write()

    def _flush(self, src: Connection, dst: Connection) -> None:
        """Send the rest that was read from `src`; when all is sent, read on."""
        rest = src.buffer
        if rest is None:
            return
        held = len(rest)
        sent = rest.send_to(dst)
        # Not by `sent`: a pipe may have sent a part before it failed.
        src.loop.budget.used_bytes -= held - len(rest)
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

    # How a direction ends.

    def _read_ended(self, src: Connection, dst: Connection, outcome: int) -> None:
        """Deal with a read that brought no byte."""
        if outcome == AGAIN:
            return
        if outcome == ERROR or src.errno:
            # With `errno` set, sending to this side has failed before: its EOF is no clean end.
            self._reset(src)
        else:
            self._end_of_stream(src, dst)

    def _end_of_stream(self, src: Connection, dst: Connection) -> None:
        """Forward EOF, or end the session if it was the second one."""
        if dst.read.eof or not self.handler.settings.half_close:
            self.finalize(Reason.COMPLETED)
        else:
            dst.shutdown()
            src.read.handler = self._after_eof_handler
            if not src.loop.interest.is_edge_triggered:
                src.pause_read()

    def _after_eof_handler(self, event: Event) -> None:
        """After its EOF a side has nothing to say but that it has gone altogether."""
        if event.error and event.data.take_error():
            self._reset(event.data)

    def _cannot_send(self, src: Connection, dst: Connection) -> None:
        """Give up the direction from `src` to `dst`, but deliver what `dst` has sent before it
        left."""
        src.drop_buffer()
        dst.pause_write()
        src.pause_read()
        if dst.read.eof:
            self._reset(dst)
        elif dst.buffer is None:
            dst.read.ready = True
            dst.loop.post(dst.read)

    def _reset(self, side: Connection) -> None:
        """End the session because `side` has broken the connection; the other gets a reset too.

        A reset throws away what the kernel has not sent yet. The backend's answer was received in
        good order before it, so the client is to have it first, for a few seconds at most.
        """
        client = self.client
        if side is client:
            self.finalize(Reason.CLIENT_RESET, reset=True)
        elif not client.unsent_bytes():
            self.finalize(Reason.BACKEND_RESET, reset=True)
        else:
            self._deliver(side, client)

    def _deliver(self, side: Connection, client: Connection) -> None:
        """Wait until the client has taken what was sent to it, then reset the connection."""
        for c in (side, client):
            c.pause_read()
            c.pause_write()
        loop = side.loop
        give_up_at_ms = loop.clock.now_ms + DELIVERY_MS

        def delivery_timer_handler(timer: Timer) -> None:
            if client.unsent_bytes() and loop.clock.now_ms < give_up_at_ms:
                loop.timers.start(timer, loop.clock.now_ms + DELIVERY_STEP_MS)
            else:
                self.finalize(Reason.BACKEND_RESET, reset=True)

        self._timer.handler = delivery_timer_handler
        loop.timers.start(self._timer, loop.clock.now_ms + DELIVERY_STEP_MS)

    # Idleness.

    def _start_idle_timer(self) -> None:
        settings, timers = self.handler.settings, self.handler.loop.timers
        timeout_ms, connect_timeout_ms = settings.timeout_ms, settings.connect_timeout_ms
        if timeout_ms is None:
            timers.cancel(self._timer)
            return
        self._timer.handler = self._idle_timer_handler
        # Where connecting may take longer than idleness, the deadline moves up. The usual case is
        # the other one: the timer stays where it is, fires early once, and goes back to sleep for
        # the rest.
        if connect_timeout_ms is None or timeout_ms < connect_timeout_ms:
            timers.start(self._timer, self.handler.loop.clock.now_ms + timeout_ms)

    def _start_end_timer(self, max_ms: int) -> None:
        loop = self.handler.loop
        timer = self.client.write.timer = Timer(self._end_timer_handler, self)
        loop.timers.start(timer, loop.clock.now_ms + self.handler.jittered(max_ms))

    def _end_timer_handler(self, _timer: Timer) -> None:
        self.finalize(Reason.TOO_LONG)

    def _idle_timer_handler(self, timer: Timer) -> None:
        client, upstream = self.client, self.upstream
        timeout_ms = self.handler.settings.timeout_ms
        if upstream is None or timeout_ms is None:
            return
        deadline_ms = max(client.active_at_ms, upstream.active_at_ms) + timeout_ms
        if deadline_ms > self.handler.loop.clock.now_ms:
            self.handler.loop.timers.start(timer, deadline_ms)
        else:
            self.finalize(self._idle_reason(client, upstream))

    def _idle_reason(self, client: Connection, upstream: Connection) -> Reason:
        """Say who was to act: who has bytes to take, else who has not ended, else who spoke
        first."""
        if upstream.buffer is not None or upstream.read.eof:
            return Reason.CLIENT_IDLE
        if client.buffer is not None or client.read.eof:
            return Reason.BACKEND_IDLE
        backend_spoke_last = upstream.received and upstream.active_at_ms >= client.active_at_ms
        return (
            Reason.CLIENT_IDLE if backend_spoke_last or not client.received else Reason.BACKEND_IDLE
        )
