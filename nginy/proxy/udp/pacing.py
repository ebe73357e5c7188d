"""Pacing of datagrams: UDP sessions that may move a number of bytes a second, each way.

What a backend sends too fast waits in the session's own socket: reading pauses, and a timer resumes
it. What a client sends too fast cannot wait: all clients share the listener's socket, and a queue
for each would be theirs to fill. So the session drops it, which UDP permits, and counts it as
`limit`. A datagram passes whole as soon as anything may pass, and those behind it pay for it by
waiting; nothing ever splits one.

The idle timeout rests while answers wait. The arithmetic is in `proxy/limits.py::ByteRate`; TCP's
sessions with a pace are in `proxy/pacing.py`.

nginx: the parts about `limit_rate` of `ngx_stream_proxy_process` in `ngx_stream_proxy_module.c`.
"""

from nginy.event.datagram import SharedConnection
from nginy.event.event import Event
from nginy.event.timer import Timer
from nginy.proxy.limits import ByteRate
from nginy.proxy.session import Reason
from nginy.proxy.udp.announcing import AnnouncingSession
from nginy.proxy.udp.base import UdpHandlerBase


class PacedUdpSession(AnnouncingSession):
    """A UDP session with a rate for one direction or both; its header may be empty."""

    __slots__ = ("_download", "_pause", "_upload")

    def __init__(self, handler: UdpHandlerBase, client: SharedConnection) -> None:
        super().__init__(handler, client)
        settings, now_ms = handler.settings, handler.loop.clock.now_ms
        upload, download = settings.upload_rate, settings.download_rate
        self._upload = ByteRate(upload, now_ms) if upload else None
        self._download = ByteRate(download, now_ms) if download else None
        self._pause: Timer | None = None
        """Runs while answers wait."""
        self.header = b""
        self.can_run = False

    def forward(self, data: memoryview) -> bool:
        """Send a datagram of the client on, or drop it if it comes too fast."""
        pace = self._upload
        if pace is not None:
            client = self.client
            now_ms = client.loop.clock.now_ms
            if pace.allowance(now_ms) <= 0:
                client.received += len(data)
                client.active_at_ms = now_ms
                self.handler.drops.count("limit")
                return True
            pace.spend(len(data))
        return super().forward(data)

    def _upstream_read_handler(self, event: Event) -> None:
        """Pass on one answer if the pace allows it, or wait until it does."""
        pace, upstream = self._download, self.upstream
        if pace is None or upstream is None:
            super()._upstream_read_handler(event)
            return
        timers, now_ms = upstream.loop.timers, upstream.loop.clock.now_ms
        if pace.allowance(now_ms) > 0:
            before = upstream.received
            super()._upstream_read_handler(event)
            pace.spend(upstream.received - before)
            return
        upstream.rest()
        if self._pause is None:
            self._pause = Timer(self._pause_timer_handler, self)
        timers.start(self._pause, now_ms + pace.delay_ms(now_ms))

    def _pause_timer_handler(self, _timer: Timer) -> None:
        if self.upstream is not None:
            self.client.active_at_ms = self.client.loop.clock.now_ms
            self.upstream.wake()

    def _idle_timer_handler(self, timer: Timer) -> None:
        """End the session if it is idle, which it is not while answers wait."""
        if self.upstream is not None and not self.upstream.read.active:
            self.client.active_at_ms = self.client.loop.clock.now_ms
        super()._idle_timer_handler(timer)

    def finalize(self, reason: Reason, detail: str = "", reset: bool = False) -> None:
        """End the session, and its pause."""
        if self.end is None and self._pause is not None:
            self.handler.loop.timers.cancel(self._pause)
            self._pause = None
        super().finalize(reason, detail, reset)
