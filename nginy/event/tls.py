"""TLS behind `Connection.recv` and `Connection.send`: code that moves bytes need not know of it.

`start_tls` turns a connected `Connection` into a `TlsConnection`, in place: same object, same
descriptor, same registration, but its methods encrypt and decrypt. nginx puts `ngx_ssl_recv` into
`c->recv`; here the class changes, so a plain connection pays nothing for what it does not use.
Outcomes stay those of `event/connection.py`, and nothing is raised for what goes wrong: `errno` is
EPROTO for a violation of TLS, and `tls.failure` says which.

Two things differ from a plain socket. OpenSSL reads whole records, so bytes may wait inside it when
the kernel has none left: `read.ready` stays set until a read ends in AGAIN, and `resume_read` looks
for them. And a stream that ends without close_notify was cut, perhaps by an attacker (RFC 8446
§6.1): that is an ERROR, not EOF.

The caller's `SSLContext` says which certificates to use and to trust. It should refuse
renegotiation (`OP_NO_RENEGOTIATION`), so that reading never waits for writing.

nginx: `ngx_ssl_create_connection`, `ngx_ssl_handshake`, `ngx_ssl_recv`, `ngx_ssl_write` and
`ngx_ssl_shutdown` in `ngx_event_openssl.c`.
"""

import errno
import socket
import ssl
from _socket import MSG_PEEK, SHUT_WR
from _socket import socket as plain_socket
from ssl import (
    SSLContext,
    SSLError,
    SSLSocket,
    SSLWantReadError,
    SSLWantWriteError,
    SSLZeroReturnError,
)
from typing import Final

from nginy.event.connection import AGAIN, EOF, ERROR, Connection
from nginy.event.event import Event

DONE: Final = 1
"""Outcome of `handshake`: both sides agree, and bytes may move."""

IGNORE_UNEXPECTED_EOF: Final = getattr(ssl, "OP_IGNORE_UNEXPECTED_EOF", 0)
"""Makes OpenSSL 3 report a cut stream as a clean end; 0 before OpenSSL 3, which has no such option.

Some releases of Python 3.10 and 3.11 set it in each new context (CPython's gh-95495)."""


class TlsState:
    """What TLS keeps for a connection (nginx `ngx_ssl_connection_t`)."""

    __slots__ = ("failure", "is_established")

    def __init__(self) -> None:
        self.is_established = False
        """The handshake is done, and not both sides have sent close_notify."""
        self.failure = ""
        """The violation of TLS that has broken the connection, in OpenSSL's words."""


class TlsConnection(Connection):
    """A connection that encrypts; made by `start_tls`, closed by its owner as any other."""

    __slots__ = ()

    is_plain = False

    socket: SSLSocket
    tls: TlsState
    """What TLS keeps (nginx `ssl`); a plain connection has no such attribute."""

    def handshake(self) -> int:
        """Go on with the handshake; return DONE, AGAIN or ERROR (nginx `ngx_ssl_handshake`).

        After AGAIN, call it again when the connection has become readable or writable.
        """
        try:
            self.socket.do_handshake()
        except SSLWantReadError:
            self.read.ready = False
            return AGAIN
        except SSLWantWriteError:
            self.write.ready = False
            return AGAIN
        except OSError as error:
            return self._violated(self.read, error)
        self.tls.is_established = True
        return DONE

    def resume_read(self) -> None:
        """Call the read handler from now on, also for bytes that OpenSSL has already read."""
        super().resume_read()
        if self.socket.pending():
            self.loop.post(self.read)

    def recv(self, memory: memoryview) -> int:
        """Receive and decrypt into `memory`; return a count, EOF, AGAIN or ERROR."""
        rev = self.read
        try:
            count = self.socket.recv_into(memory) if self.tls.is_established else EOF
        except (SSLWantReadError, SSLWantWriteError):
            rev.ready = False
            return AGAIN
        except SSLZeroReturnError:
            # close_notify, after ours; before ours, the ssl module returns 0.
            count = EOF
        except OSError as error:
            return self._violated(rev, error)
        if not count:
            rev.eof = True
            rev.ready = False
            return EOF
        rev.ready = True
        self.received += count
        return count

    def send(self, memory: "bytes | memoryview") -> int:
        """Encrypt and send what the kernel takes; return a count, AGAIN or ERROR.

        Send next what was not taken: OpenSSL may have encrypted its beginning.
        """
        view = memoryview(memory)
        count = 0
        while count < len(view):
            try:
                count += self.socket.send(view[count:])
            except (SSLWantReadError, SSLWantWriteError):
                self.write.ready = False
                break
            except OSError as error:
                return self._violated(self.write, error)
        self.sent += count
        return count or AGAIN

    def peek(self) -> int:
        """Return 1 if something waits to be received, be it encrypted, else EOF, AGAIN or ERROR."""
        if self.socket.pending():
            return 1
        try:
            return len(plain_socket.recv(self.socket, 1, MSG_PEEK))
        except BlockingIOError:
            self.read.ready = False
            return AGAIN
        except OSError as error:
            return self.failed(self.read, error)

    def shutdown(self) -> None:
        """Send close_notify and FIN after the bytes already sent; receiving goes on.

        Without room for them now, the connection takes over its write handler and sends them when
        there is room. What the peer sends at this very moment may be lost, as OpenSSL looks for the
        peer's close_notify at once.
        """
        if self.write.eof:
            return
        self.write.eof = True
        if self._notify():
            self._finish_sending()
        else:
            self.write.handler = self._shutdown_handler
            self.resume_write()

    def _shutdown_handler(self, _event: Event) -> None:
        if self._notify():
            self.pause_write()
            self._finish_sending()

    def _finish_sending(self) -> None:
        try:
            # SSLSocket.shutdown() would forget the keys, and what is received was ciphertext.
            plain_socket.shutdown(self.socket, SHUT_WR)
        except OSError as error:
            if error.errno != errno.ENOTCONN:
                self.failed(self.write, error)

    def close(self, reset: bool = False) -> None:
        """Close, after a close_notify if there is room for it, unless `reset`."""
        if self.fd >= 0 and not (reset or self.write.eof or self.errno):
            self._notify()
        super().close(reset)

    def _notify(self) -> bool:
        """Send close_notify if there is a session to end; return False if there is no room.

        Does not wait for the peer's close_notify.
        """
        if not self.tls.is_established or self.tls.failure:
            return True
        try:
            self.socket.unwrap()
        except SSLWantWriteError:
            self.write.ready = False
            return False
        except (OSError, ValueError):
            # It was sent, and the peer's has not come yet; or the connection is broken anyway.
            return True
        # Both have said it. The ssl module has let go of the session, and would pass on ciphertext.
        self.tls.is_established = False
        return True

    def _violated(self, event: Event, error: OSError) -> int:
        """Note why the connection is broken: by an errno, or by OpenSSL, whose codes are its
        own."""
        if not isinstance(error, SSLError):
            return self.failed(event, error)
        self.tls.failure = error.reason or str(error)
        event.error = True
        event.ready = False
        self.errno = errno.EPROTO
        return ERROR


def start_tls(
    c: Connection, context: SSLContext, server_name: str | None = None, *, is_server: bool = False
) -> TlsConnection | None:
    """Make a connected connection one that encrypts, and return it; call `handshake` next.

    A client sends `server_name` (SNI), if not None, and has the certificate checked for it if
    `context` says so. Returns None if the peer has broken the connection already: `errno` says
    how, and nothing is left but to close it. Raises ValueError for a name that cannot be one.
    """
    # Set for good, in a context that other connections share: all of them are ours.
    if context.options & IGNORE_UNEXPECTED_EOF:
        context.options &= ~IGNORE_UNEXPECTED_EOF
    plain = c.socket = socket.socket(fileno=c.socket.detach())
    # Or the ssl module takes it for a blocking socket and spins (_ssl.c: a timeout below 0).
    plain.setblocking(False)
    try:
        c.socket = context.wrap_socket(
            plain,
            server_side=is_server,
            server_hostname=server_name,
            do_handshake_on_connect=False,
            suppress_ragged_eofs=False,
        )
    except OSError as error:
        c.errno = error.errno or errno.EPROTO
        return None
    c.__class__ = TlsConnection
    assert isinstance(c, TlsConnection)
    c.tls = TlsState()
    return c
