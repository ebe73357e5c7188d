"""How an established TCP session ends: half-close, resets, idleness, and nginy's own decision.

nginy forwards the end of a stream as such. EOF from one side, once its bytes are delivered, shuts
the other down for writing, and the session is complete when both sides are done (RFC 9293 §3.6).

It forwards a reset as a reset, but only after the bytes that came before it. A reset throws away
whatever waits in the send queue, so the other side first takes all of it, however slowly. Meanwhile
nginy reads nothing from that side, as there is nowhere to send it. nginx closes both at once
(`ngx_stream_proxy_process`).

Where nginy itself ends a session, an end in mid-stream must not look like the end of the stream:
`is_cut` says which side sees a reset instead of EOF.

One timer serves both directions. The pump (`proxy/tcp.py`) notes the time when it moves bytes; when
the timer fires, it goes back to sleep for what is left. Bytes in the send queues count as well: as
long as a peer takes some of them, the session is not idle.
"""

import errno
from typing import Final

from nginy.event.connect import failure_text
from nginy.event.connection import AGAIN, ERROR, Connection
from nginy.event.event import Event
from nginy.event.timer import Timer
from nginy.event.tls import TlsConnection
from nginy.proxy.session import Reason
from nginy.proxy.upstream import UpstreamSession
from nginy.wire.tls_failure import tls_failure

DELIVERY_STEP_MS: Final = 20
"""After this time a delivery looks at the send queue; no event tells that it is empty."""
DELIVERY_STEP_MAX_MS: Final = 320
"""The time between two looks doubles up to this; a look costs 3 µs."""

RESETS: Final = frozenset((errno.ECONNRESET, errno.EPIPE))
"""Errors of a reset. The log names any other one, such as keep-alive's ETIMEDOUT."""
PAUSE_MS: Final = 1000
"""A stream may pause this long and still count as going on."""
MESSAGE_MS: Final = 100
"""A message comes in within this time; bytes that keep coming for longer are a stream."""

IDLE: Final = frozenset((Reason.CLIENT_IDLE, Reason.BACKEND_IDLE))
CUTS: Final = IDLE | {Reason.BACKEND_DOWN, Reason.TOO_LONG, Reason.KILLED}
"""Reasons by which nginy itself ends a session, whatever the two sides were about to send."""


def is_cut(src: Connection, dst: Connection, is_awaited: bool, now_ms: int) -> bool:
    """Whether an end now cuts short what `src` sends to `dst`, with no EOF from `src` so far.

    It does if bytes are still on their way; if `dst` waits for more, as the caller knows
    (`is_awaited`) or because `dst` has ended its own stream or never began one; and if bytes kept
    coming until `PAUSE_MS` ago. Otherwise `src` seems to have finished its message; only the
    protocol could tell for certain.
    """
    if dst.write.eof:
        return False
    if src.buffer is not None or dst.unsent_bytes() or src.peek() > 0:
        return True
    if is_awaited or dst.read.eof:
        return True
    if not dst.received:
        return src.received > 0
    is_stream = src.full_reads > 0 or src.active_at_ms - dst.active_at_ms > MESSAGE_MS
    return is_stream and now_ms - src.active_at_ms < PAUSE_MS


class Delivery:
    """An end that waits until one side has taken all bytes; belongs to the session's timer."""

    __slots__ = (
        "_progress_at_ms",
        "_session",
        "_unsent",
        "detail",
        "dst",
        "is_reset",
        "reason",
        "step_ms",
    )

    def __init__(
        self,
        session: "EndingSession",
        dst: Connection,
        reason: Reason,
        detail: str,
        *,
        reset: bool,
    ) -> None:
        self._session = session
        self.dst = dst
        self.reason = reason
        self.detail = detail
        self.is_reset = reset
        self._unsent = dst.unsent_bytes()
        self._progress_at_ms = dst.loop.clock.now_ms
        self.step_ms = DELIVERY_STEP_MS

    def delivery_timer_handler(self, timer: Timer) -> None:
        """End the session if `dst` has all, or takes nothing; else look again later."""
        loop, timeout_ms = self.dst.loop, self._session.handler.settings.timeout_ms
        now_ms = loop.clock.now_ms
        before, self._unsent = self._unsent, self.dst.unsent_bytes()
        if self._unsent < before:
            self._progress_at_ms = now_ms
        is_over = timeout_ms is not None and now_ms - self._progress_at_ms >= timeout_ms
        if not self._unsent or is_over or self.dst.take_error():
            self._session.finalize(self.reason, self.detail, self.is_reset or is_over)
            return
        loop.timers.start(timer, now_ms + self.step_ms)
        self.step_ms = min(2 * self.step_ms, DELIVERY_STEP_MAX_MS)


class EndingSession(UpstreamSession):
    """A TCP session that knows how to end; `proxy/tcp.py::TcpSession` moves its bytes."""

    __slots__ = ("_taken_bytes",)

    _taken_bytes: int
    """How much the two peers had taken when the idle timer last fired; -1 if nothing was unsent."""

    # How a direction ends.

    def _read_ended(self, src: Connection, dst: Connection, outcome: int) -> None:
        """Deal with a read that brought no byte."""
        if outcome == AGAIN:
            return
        if outcome == ERROR or src.errno:
            # With `errno` set, sending to this side has failed before: its EOF is not a clean end.
            self._broken(src, dst)
        else:
            self._end_of_stream(src, dst)

    def _end_of_stream(self, src: Connection, dst: Connection) -> None:
        """Forward EOF, or end the session if it was the second one."""
        if dst.read.eof:
            if not dst.say_goodbye():
                self._deliver(src, dst, Reason.COMPLETED)
            elif not src.say_goodbye():
                self._deliver(dst, src, Reason.COMPLETED)
            else:
                self.finalize(Reason.COMPLETED)
            return
        dst.shutdown()
        if not self.handler.settings.half_close:
            self._deliver(src, dst, Reason.COMPLETED)
            return
        src.read.handler = self._after_eof_handler
        loop, timeout_ms = src.loop, self.handler.settings.half_close_timeout_ms
        if timeout_ms is not None:
            src.active_at_ms = loop.clock.now_ms
            self._timer.handler = self._idle_timer_handler
            loop.timers.start(self._timer, loop.clock.now_ms + timeout_ms)
        if not loop.interest.is_edge_triggered:
            src.pause_read()

    def _after_eof_handler(self, event: Event) -> None:
        """After its EOF a side can only report an error."""
        src = event.data
        if event.error and src.take_error() and self.upstream is not None:
            self._broken(src, self.upstream if src is self.client else self.client)

    def _cannot_send(self, src: Connection, dst: Connection) -> None:
        """Give up the direction from `src` to `dst`, but deliver what `dst` has sent before."""
        src.drop_buffer()
        dst.pause_write()
        src.pause_read()
        if src.errno:
            # It broke first, and the session went on only to deliver what it had sent.
            self._broken(src, dst)
        elif dst.read.eof:
            self._broken(dst, src)
        elif dst.buffer is None:
            dst.read.ready = True
            dst.loop.post(dst.read)

    def _broken(self, src: Connection, dst: Connection) -> None:
        """End the session, as `src` has broken and nginy has read everything it sent."""
        is_client = src is self.client
        reason = Reason.CLIENT_RESET if is_client else Reason.BACKEND_RESET
        detail = "" if src.errno in RESETS else failure_text("recv", src.errno)
        if isinstance(src, TlsConnection) and src.tls.failure:
            why = tls_failure(src.tls.failure)
            detail = f"{'client' if is_client else 'backend'} broke TLS: {why}"
        self._deliver(src, dst, reason, detail, reset=True)

    def _deliver(
        self,
        src: Connection,
        dst: Connection,
        reason: Reason,
        detail: str = "",
        reset: bool = False,
    ) -> None:
        """End the session as soon as `dst` has taken everything that `src` has sent, or has taken
        nothing for the idle timeout.

        nginy reads nothing from `dst` meanwhile. A close with unread bytes makes the kernel send a
        reset (RFC 2525 §2.17), so the close waits as well, even where nobody wants a reset.
        """
        dst.drop_buffer()
        for c in (src, dst):
            c.pause_read()
            c.pause_write()
        if not dst.unsent_bytes() or dst.errno:
            self.finalize(reason, detail, reset)
            return
        delivery = Delivery(self, dst, reason, detail, reset=reset)
        self._timer.handler = delivery.delivery_timer_handler
        src.loop.timers.start(self._timer, src.loop.clock.now_ms + delivery.step_ms)

    # How nginy ends a session.

    def finalize(self, reason: Reason, detail: str = "", reset: bool = False) -> None:
        """End the session; a side whose stream nginy cuts short sees a reset."""
        # Test for the usual end first: hashing a member of an Enum takes a Python call.
        if reason is not Reason.COMPLETED and reason in CUTS and not reset and self.end is None:
            for c in self._cut_off(reason in IDLE):
                c.close(reset=True)
        super().finalize(reason, detail, reset)

    def _cut_off(self, is_idle: bool) -> list[Connection]:
        """Return the sides for which an end now would cut a stream short."""
        client, upstream = self.client, self.upstream
        if upstream is None or self.attempt.connected_at_ms is None:
            return []
        # The client waits for an answer, and its request may not be complete either.
        is_asking = client.received > 0 and not self._backend_spoke_last(client, upstream)
        # A silent backend may be stuck half-way through its answer.
        is_stuck = is_idle and upstream.received > 0
        now_ms = client.loop.clock.now_ms
        cut = []
        if is_cut(upstream, client, is_asking or is_stuck, now_ms):
            cut.append(client)
        if is_cut(client, upstream, is_asking, now_ms):
            cut.append(upstream)
        return cut

    @staticmethod
    def _backend_spoke_last(client: Connection, upstream: Connection) -> bool:
        return upstream.received > 0 and upstream.active_at_ms >= client.active_at_ms

    # Idleness.

    def _start_idle_timer(self) -> None:
        settings, timers = self.handler.settings, self.handler.loop.timers
        timeout_ms, connect_timeout_ms = settings.timeout_ms, settings.connect_timeout_ms
        self._taken_bytes = -1
        if timeout_ms is None:
            timers.cancel(self._timer)
            return
        self._timer.handler = self._idle_timer_handler
        # The timer still limits connecting. Usually that deadline comes first: the timer fires
        # early once, and goes back to sleep for the rest.
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
        if upstream is None:
            return
        is_half_closed = client.read.eof or upstream.read.eof
        settings = self.handler.settings
        timeout_ms = settings.timeout_ms
        if is_half_closed and settings.half_close_timeout_ms is not None:
            timeout_ms = settings.half_close_timeout_ms
        if timeout_ms is None:
            return
        now_ms = self.handler.loop.clock.now_ms
        self._note_progress(client, upstream, now_ms)
        deadline_ms = max(client.active_at_ms, upstream.active_at_ms) + timeout_ms
        if deadline_ms > now_ms:
            self.handler.loop.timers.start(timer, deadline_ms)
        else:
            self.finalize(self._idle_reason(client, upstream))

    def _note_progress(self, client: Connection, upstream: Connection, now_ms: int) -> None:
        """Count bytes that a peer's kernel has taken since the last call as activity.

        Only the timer asks. When it first finds bytes unsent, nobody knows how long they have been
        waiting, so a side that stops taking bytes has one to two timeouts.
        """
        waiting = client.unsent_bytes()
        src = upstream if waiting else client
        waiting += upstream.unsent_bytes()
        before = self._taken_bytes
        taken = client.sent + upstream.sent - waiting
        self._taken_bytes = taken if waiting else -1
        if taken != before and (waiting or before >= 0):
            src.active_at_ms = now_ms

    def _idle_reason(self, client: Connection, upstream: Connection) -> Reason:
        """Return whose turn it was: the side with bytes to take, else the side that has not ended,
        else the side that did not speak last."""
        if upstream.buffer is not None or client.unsent_bytes() or upstream.read.eof:
            return Reason.CLIENT_IDLE
        if client.buffer is not None or upstream.unsent_bytes() or client.read.eof:
            return Reason.BACKEND_IDLE
        if self._backend_spoke_last(client, upstream) or not client.received:
            return Reason.CLIENT_IDLE
        return Reason.BACKEND_IDLE
