"""Pacing: sessions that may move a number of bytes a second, each way (`proxy_upload_rate` and
`proxy_download_rate`).

A `PacedSession` is a TCP session that reads no more than its pace allows. What has to wait stays in
the kernel, whose window slows the sender down. Reading pauses, and a timer resumes it, some twenty
times a second while there is more to move than allowed. Listeners without a rate have plain TCP
sessions, which pay nothing.

The arithmetic is in `proxy/limits.py::ByteRate`. A paced direction takes no pipe: a pipe would take
more at once than a slow pace allows.

nginx: the parts about `limit_rate` of `ngx_stream_proxy_process` in `ngx_stream_proxy_module.c`.
"""

from nginy.event.connection import Connection
from nginy.event.event import Event
from nginy.event.timer import Timer
from nginy.proxy.limits import ByteRate
from nginy.proxy.session import Reason
from nginy.proxy.tcp import TcpSession


class PacedSession(TcpSession):
    """A TCP session with a rate for one direction or both."""

    __slots__ = ("_download", "_upload")

    _upload: ByteRate | None
    """From the client to the backend; the timer of its pauses is `upstream.write.timer`."""
    _download: ByteRate | None
    """From the backend to the client; the timer of its pauses is `upstream.read.timer`."""

    def established(self) -> None:
        """Begin to pump, at the pace that the listener sets."""
        self.settle()
        super().established()

    def settle(self) -> None:
        """Set the pace, also for a session that has come from another process."""
        settings, now_ms = self.handler.settings, self.handler.loop.clock.now_ms
        upload, download = settings.upload_rate, settings.download_rate
        self._upload = ByteRate(upload, now_ms) if upload else None
        self._download = ByteRate(download, now_ms) if download else None

    def _send_header(self, upstream: Connection, version: str) -> None:
        """Send the PROXY header; the client's bytes that go with it count."""
        super()._send_header(upstream, version)
        if self._upload is not None:
            self._upload.spend(self.client.received)

    def _read_handler(self, event: Event) -> None:
        """Pass on as much as the pace allows now, and come back for the rest."""
        src, upstream = event.data, self.upstream
        is_upload = src is self.client
        pace = self._upload if is_upload else self._download
        if upstream is None:
            return
        if pace is None:
            self._unpaced(event)
            return
        dst = upstream if is_upload else self.client
        loop = src.loop
        now_ms = loop.clock.now_ms
        timer_event = upstream.write if is_upload else upstream.read
        allowance = pace.allowance(now_ms)
        if allowance <= 0:
            self._pause(src, timer_event, pace)
            return
        before = src.received
        if loop.budget.is_spent and self._trickle(src, dst, allowance):
            pace.spend(src.received - before)
            return
        memory = self.read_sizes[0][:allowance]
        count = src.recv(memory)
        if count <= 0:
            self._read_ended(src, dst, count)
            return
        pace.spend(count)
        src.active_at_ms = now_ms
        if not before and not is_upload:
            self.attempt.first_byte_at_ms = now_ms
        sent = dst.send(memory[:count])
        if sent < count:
            self._keep_rest(src, dst, memory[:count], sent)
        elif event.ready:
            if pace.is_short(now_ms):
                self._pause(src, timer_event, pace)
            else:
                loop.post(event)

    def _unpaced(self, event: Event) -> None:
        upstream = self.upstream
        if upstream is None or not (self.client.is_plain and upstream.is_plain):
            super()._tls_read_handler(event)
        else:
            super()._read_handler(event)

    def _tls_read_handler(self, event: Event) -> None:
        """Do the same: the methods that it calls encrypt and decrypt."""
        self._read_handler(event)

    def _pause(self, src: Connection, event: Event, pace: ByteRate) -> None:
        """Read nothing from `src` until its pace allows something; `event` has the timer."""
        src.pause_read()
        loop = src.loop
        if event.timer is None:
            event.timer = Timer(self._resume_handler, self)
        now_ms = loop.clock.now_ms
        loop.timers.start(event.timer, now_ms + pace.delay_ms(now_ms))

    def _resume_handler(self, timer: Timer) -> None:
        upstream = self.upstream
        if upstream is not None:
            (self.client if timer is upstream.write.timer else upstream).resume_read()

    def _deliver(
        self,
        src: Connection,
        dst: Connection,
        reason: Reason,
        detail: str = "",
        reset: bool = False,
    ) -> None:
        """End the session once `dst` has all bytes; cancel the pauses, whose ends would resume
        reading."""
        if self.upstream is not None:
            for event in (self.upstream.read, self.upstream.write):
                if event.timer is not None:
                    event.data.loop.timers.cancel(event.timer)
        super()._deliver(src, dst, reason, detail, reset)
