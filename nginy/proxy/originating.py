"""TLS with backends: how a session that has connected to one shakes hands with it (`proxy_tls`).

A handshake is a part of connecting. It shares the time to connect, and its failure is a failed
connect, which counts against the backend and leads to the next one; the log says what did not
verify. nginy verifies certificates unless told not to (nginx verifies none by default).
`UpstreamTls` holds what all sessions of a listener share, including the TLS sessions to resume.

Each step waits in a queue (`event/handshakes.py`), as it costs so much. `proxy/upstream.py`
connects before the handshake, and goes on after it.

nginx: `ngx_stream_proxy_ssl_init_connection`, `ngx_stream_proxy_ssl_handshake` and
`ngx_stream_proxy_ssl_name` in `ngx_stream_proxy_module.c`.
"""

from collections.abc import Callable
from ssl import SSLContext, SSLSession
from typing import Final

from nginy.backend.backend import Backend
from nginy.event.connection import AGAIN, ERROR, Connection
from nginy.event.event import Event, ignore
from nginy.event.timer import Owner
from nginy.event.tls import DONE, TlsConnection, start_tls
from nginy.wire.dns_names import is_host_name
from nginy.wire.tls_failure import handshake_failure, name_failure

SESSIONS_MAX: Final = 1000
"""Backends whose last session is kept, 1 to 2 KB each."""


class UpstreamTls:
    """How sessions speak TLS to backends; made by `config/building/tls.py`."""

    __slots__ = ("_sessions", "context", "name", "sends_name", "verifies")

    def __init__(
        self,
        context: SSLContext,
        name: str = "",
        *,
        verifies: bool = True,
        sends_name: bool = True,
    ) -> None:
        self.context = context
        """Does not check the name itself unless `sends_name`: OpenSSL ties one to the other."""
        self.name = name
        """The name that the certificate must have; "": that of the backend's configured address."""
        self.verifies = verifies
        self.sends_name = sends_name
        self._sessions: dict[str, SSLSession] = {}

    def name_for(self, backend: Backend) -> str:
        """Return the name that the backend's certificate must have."""
        if self.name or backend.address.is_unix:
            return self.name
        host = backend.name.rpartition(":")[0].strip("[]")
        return host if is_host_name(host) else backend.address.host

    def session_for(self, backend: Backend) -> SSLSession | None:
        """Return the session to resume with a backend, None if there is none."""
        return self._sessions.get(backend.addr_text)

    def remember(self, place: str, session: SSLSession | None) -> None:
        """Keep the last TLS session with the backend at `place`, for the next connection to
        resume."""
        if session is None:
            return
        self._sessions.pop(place, None)
        if len(self._sessions) >= SESSIONS_MAX:
            del self._sessions[next(iter(self._sessions))]
        self._sessions[place] = session


class BackendHandshake:
    """A handshake on its way. Lives as long as the connection's handlers refer to it."""

    __slots__ = ("_c", "_ended", "_is_queued", "_name", "_owner", "_tls")

    def __init__(
        self,
        upstream: Connection,
        tls: UpstreamTls,
        backend: Backend,
        owner: Owner,
        ended: Callable[[str], None],
    ) -> None:
        """Call `ended` at the end with the reason of a failure, or with "" if all is well."""
        self._tls = tls
        self._name = tls.name_for(backend)
        self._owner = owner
        self._ended = ended
        self._is_queued = False
        server_name = self._name if tls.sends_name and self._name else None
        session = tls.session_for(backend)
        self._c = start_tls(upstream, tls.context, server_name, session=session)
        upstream.read.handler = upstream.write.handler = self._handler
        upstream.pause_write()
        upstream.resume_read()
        self._handler(upstream.read)

    def _handler(self, _event: Event) -> None:
        if not self._is_queued:
            self._is_queued = True
            self._c.loop.handshakes.add(self._step, self._owner)

    def _step(self) -> None:
        self._is_queued = False
        c = self._c
        if c.fd < 0:
            return
        outcome = c.handshake()
        if outcome == AGAIN:
            if c.tls.unsent:
                c.resume_write()
            else:
                c.pause_write()
            return
        c.pause_read()
        c.pause_write()
        c.read.handler = c.write.handler = ignore
        if outcome == DONE:
            self._ended(self._refusal(c))
        elif outcome == ERROR:
            self._ended(self._failure(c))

    def _refusal(self, c: TlsConnection) -> str:
        """Return what is wrong with the certificate's name, if OpenSSL did not know which to
        expect."""
        if not self._tls.verifies or self._tls.sends_name:
            return ""
        why = name_failure(c.tls.object.getpeercert() or {}, self._name)
        return f"TLS handshake with upstream failed: {why}" if why else ""

    @staticmethod
    def _failure(c: TlsConnection) -> str:
        tls = c.tls
        why = "backend reset the connection"
        if tls.failure:
            why = handshake_failure(tls.failure, tls.verify_code, tls.verify_message)
        return f"TLS handshake with upstream failed: {why}"
