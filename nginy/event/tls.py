"""TLS behind `Connection.recv` and `Connection.send`: code that moves bytes need not know of it.

`start_tls` turns a connected `Connection` into a `TlsConnection`, in place: same object, same
descriptor, same registration, but its methods encrypt and decrypt. nginx puts `ngx_ssl_recv` into
`c->recv`; here the class changes, so a plain connection pays nothing for what it does not use.
Outcomes stay those of `event/connection.py`, and no method raises anything for what goes wrong:
`errno` is EPROTO for a violation of TLS, and `tls.failure` says which.

This module begins and ends such a connection: the handshake, close_notify, the order of both with
what TCP does. `event/records.py` moves the bytes in between.

The caller's `SSLContext` says which certificates to use and to trust. It should refuse
renegotiation (`OP_NO_RENEGOTIATION`), so that reading never waits for writing.

nginx: `ngx_ssl_create_connection`, `ngx_ssl_handshake`, `ngx_ssl_recv`, `ngx_ssl_write` and
`ngx_ssl_shutdown` in `ngx_event_openssl.c`.
"""

import contextlib
from ssl import MemoryBIO, SSLContext, SSLError, SSLSession, SSLWantReadError

from nginy.event.connection import AGAIN, EOF, Connection
from nginy.event.event import Event
from nginy.event.records import BATCH_BYTES, DONE, RECORD_BYTES, RecordConnection, TlsState

__all__ = ["DONE", "TlsConnection", "start_tls"]


class TlsConnection(RecordConnection):
    """A connection that encrypts; made by `start_tls`, closed by its owner as any other."""

    __slots__ = ()

    def handshake(self) -> int:
        """Go on with the handshake; return DONE, AGAIN or ERROR (nginx `ngx_ssl_handshake`).

        After AGAIN, call it again when the connection has become readable or writable.
        """
        tls, rev = self.tls, self.read
        while True:
            try:
                tls.object.do_handshake()
                tls.is_established = True
            except SSLWantReadError:
                pass
            except SSLError as error:
                self.flush_records()  # the alert that tells the peer
                return self.violated(rev, error)
            outcome = self.flush_records()
            if outcome != DONE:
                return outcome
            if tls.is_established:
                # What came with the peer's last message is for the owner.
                tls.has_more = tls.incoming.pending > 0
                rev.ready = rev.ready or tls.has_more
                return DONE
            if not rev.ready:
                return AGAIN
            outcome = self.receive_records(BATCH_BYTES)
            if outcome <= 0:
                return self.ended_by_fin() if outcome == EOF else outcome

    def pause_write(self) -> None:
        """Stop calling the owner's write handler; a goodbye that waits for room goes on
        waiting."""
        if not (self.write.eof and self.tls.unsent):
            super().pause_write()

    # The end.

    def shutdown(self) -> None:
        """Send close_notify and FIN after the bytes already sent; receiving goes on.

        Without room for them now, the connection takes over its write handler and sends them when
        there is room.
        """
        if self.write.eof:
            return
        self.write.eof = True
        self._notify()
        if self.flush_records() == AGAIN:
            self.write.handler = self._shutdown_handler
            self.resume_write()
        else:
            super().shutdown()

    def _shutdown_handler(self, _event: Event) -> None:
        if self.flush_records() != AGAIN:
            self.pause_write()
            super().shutdown()

    def say_goodbye(self) -> bool:
        """Send close_notify; return False if it waits for room, with FIN behind it.

        With room, the FIN of the close follows, which saves a call.
        """
        if not self.write.eof:
            self._notify()
            if self.flush_records() == AGAIN:
                self.shutdown()
            self.write.eof = True
        return not self.tls.unsent

    def close(self, reset: bool = False) -> None:
        """Close, after a close_notify if there is room for it, unless `reset`."""
        if self.fd >= 0:
            if not reset:
                self._drop_unread()
            if not (reset or self.errno):
                if not self.write.eof:
                    self._notify()
                self.flush_records()
            self._keep(b"")
        super().close(reset)

    def _drop_unread(self) -> None:
        """Take from the kernel what nobody will read, such as session tickets.

        A close with unread bytes makes the kernel send a reset (RFC 2525 §2.17), which may reach
        the peer before it has read what we sent.
        """
        if not self.read.eof:
            with contextlib.suppress(OSError):
                self.socket.recv_into(self.loop.records)

    def _notify(self) -> None:
        """Let OpenSSL say close_notify, if there is a session to end."""
        tls = self.tls
        if not tls.is_established or tls.failure:
            return
        if tls.incoming.pending or tls.object.pending():
            # It looks for the peer's close_notify at once, and would drop what it finds instead.
            self._read_early()
        try:
            tls.object.unwrap()
        except (SSLError, ValueError):
            # We have said it, and the peer's has not come yet; or the connection is broken anyway.
            return

    def _read_early(self) -> None:
        tls = self.tls
        pieces = [tls.early]
        try:
            while piece := tls.object.read(RECORD_BYTES):
                pieces.append(piece)
        except SSLError:
            # It has no whole record any more, or will say again what is wrong.
            pass
        tls.early = b"".join(pieces)
        tls.has_more = True


def start_tls(
    c: Connection,
    context: SSLContext,
    server_name: str | None = None,
    *,
    is_server: bool = False,
    received: "bytes | memoryview" = b"",
    session: SSLSession | None = None,
) -> TlsConnection:
    """Make a connected connection one that encrypts, and return it; call `handshake` next.

    A client sends `server_name` (SNI), if not None, and has the certificate checked for it if
    `context` says so; it offers to resume `session`. `received` was read from the connection
    before, and belongs to TLS. Raises ValueError for a name that cannot be one.
    """
    incoming, outgoing = MemoryBIO(), MemoryBIO()
    ssl_object = context.wrap_bio(incoming, outgoing, is_server, server_name, session)
    if received:
        incoming.write(received)
    c.__class__ = TlsConnection
    assert isinstance(c, TlsConnection)
    c.tls = TlsState(incoming, outgoing, ssl_object)
    c.tls.server_name = server_name or ""
    return c
