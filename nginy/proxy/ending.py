"""How an established TCP session ends: half-close, resets, idleness.

The end of a stream is forwarded as such. EOF from one side, once its bytes are delivered, shuts
the other down for writing, and the session is complete when both sides are done (RFC 9293 §3.6). A
reset is forwarded as a reset. A side that can no longer be written to is still read to its end,
since a server may answer and close without reading everything that it was sent.

One timer serves both directions: the pump (`proxy/tcp.py`) notes the time when it moves bytes, and
the timer, when it fires, goes back to sleep for what is left.
"""

from typing import Final

from nginy.event.connection import AGAIN, ERROR, Connection
from nginy.event.event import Event
from nginy.event.timer import Timer
from nginy.proxy.session import Reason
from nginy.proxy.upstream import UpstreamSession

DELIVERY_MS: Final = 5000
"""How long a reset waits for the other side to take what was sent before it."""
DELIVERY_STEP_MS: Final = 20
"""How often it looks; no event tells that a send queue is empty."""


class EndingSession(UpstreamSession):
    """A TCP session that knows how to end; `proxy/tcp.py::TcpSession` moves its bytes."""

    __slots__ = ()

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
