"""Records: what TLS makes of the bytes of a connection, both ways.

OpenSSL never sees the socket. Received bytes go into one memory BIO, and the bytes to send come out
of another. Python's `SSLSocket`, which gives OpenSSL the descriptor, reads the head and the body of
each record apart, and takes no bytes that somebody has read already, such as those behind a PROXY
header. With BIOs four records leave in one call, and bulk transfers cost 11 % less.

Three things differ from a plain socket. Bytes may wait inside when the kernel has none left:
`read.ready` stays set until a read ends in AGAIN, and `resume_read` looks for them. Encrypted bytes
that the kernel does not take cannot be taken back: see `RecordConnection.send`. And a stream that
ends without close_notify was cut, perhaps by an attacker (RFC 8446 §6.1): that is an ERROR, not
EOF, unless `tls.is_ragged`.

`event/tls.py` begins and ends such a connection. nginx: `ngx_ssl_recv` and `ngx_ssl_write` in
`ngx_event_openssl.c`.

Tested in tests/event/test_tls_live.py.
"""

import errno
import re
from _socket import MSG_PEEK
from ssl import MemoryBIO, SSLError, SSLObject, SSLWantReadError, SSLZeroReturnError
from typing import Final

from nginy.event.connection import AGAIN, EOF, ERROR, Connection
from nginy.event.event import Event

DONE: Final = 1
"""Outcome of a step of TLS: nothing of it is left to do."""

RECORD_BYTES: Final = 16384
"""The most that one record carries (RFC 8446 §5.1)."""
BATCH_BYTES: Final = 4 * RECORD_BYTES
"""What is encrypted for one call of the kernel: more saves nothing, and may have to be kept."""
UNSENT_MAX_BYTES: Final = 4 * BATCH_BYTES
"""One batch is the most that is kept of the owner's. The rest is answers of TLS itself, such as the
alert that refuses a renegotiation, and a peer may ask for any number without reading one."""
UNREAD: Final = "it asks for answers that it does not read"

CUT: Final = "UNEXPECTED_EOF_WHILE_READING"
"""OpenSSL's word for a stream that ended without close_notify."""


class TlsState:
    """What TLS keeps for a connection (nginx `ngx_ssl_connection_t`)."""

    __slots__ = (
        "credit",
        "early",
        "failure",
        "has_more",
        "incoming",
        "is_established",
        "is_ragged",
        "object",
        "outgoing",
        "server_name",
        "unsent",
        "verify_code",
        "verify_message",
    )

    def __init__(self, incoming: MemoryBIO, outgoing: MemoryBIO, ssl_object: SSLObject) -> None:
        self.incoming = incoming
        """What was received and OpenSSL has not read."""
        self.outgoing = outgoing
        """What OpenSSL wants to be sent."""
        self.object = ssl_object
        """Knows certificates, ciphers and the rest of what was agreed."""
        self.server_name = ""
        """The name that the client has asked for (SNI), "" for none."""
        self.unsent = b""
        """Encrypted bytes that the kernel did not take."""
        self.credit = 0
        """How many bytes of the owner's are in `unsent`, or were in it and have not been reported
        as sent."""
        self.early = b""
        """What was decrypted before anybody asked for it."""
        self.has_more = False
        """There may be bytes to read in here, whatever the kernel has."""
        self.is_established = False
        """The handshake is done."""
        self.is_ragged = False
        """Take the peer's FIN for the end of its stream, even without close_notify."""
        self.failure = ""
        """The violation of TLS that has broken the connection, in OpenSSL's words."""
        self.verify_code = 0
        """Why the peer's certificate was refused (X509_V_ERR_…), 0 if it was not."""
        self.verify_message = ""
        """The same in OpenSSL's words."""


class RecordConnection(Connection):
    """A connection whose bytes travel in records; see `event/tls.py::TlsConnection`."""

    __slots__ = ()

    is_plain = False

    tls: TlsState
    """What TLS keeps (nginx `ssl`); a plain connection has no such attribute."""

    def resume_read(self) -> None:
        """Call the read handler from now on, also for bytes that the kernel has given already."""
        super().resume_read()
        if self.tls.has_more:
            self.loop.post(self.read)

    def recv(self, memory: memoryview) -> int:
        """Receive and decrypt into `memory`; return a count, EOF, AGAIN or ERROR.

        Asks the kernel once, and again only for the rest of an incomplete record.
        """
        tls, rev = self.tls, self.read
        if tls.early:
            return self._take_early(memory)
        size = len(memory)
        if tls.has_more:
            rev.ready = True  # nobody knows what the kernel has by now
            count = self._decrypt(memory, size)
            if count != AGAIN:
                return count
        quota = BATCH_BYTES
        while True:
            outcome = self.receive_records(size)
            if outcome <= 0:
                return self.ended_by_fin() if outcome == EOF else outcome
            count = self._decrypt(memory, size)
            if count != AGAIN:
                return count
            if not rev.ready:
                return AGAIN
            quota -= outcome
            if quota <= 0:
                # Messages of TLS's own, which a peer may send as fast as they are read.
                self.loop.post(rev)
                return AGAIN

    def _decrypt(self, memory: memoryview, size: int) -> int:
        """Decrypt what is whole into `memory`; return a count, EOF, AGAIN or ERROR."""
        tls, rev = self.tls, self.read
        incoming, read = tls.incoming, tls.object.read
        count = 0
        tls.has_more = False
        try:
            while count < size:
                # With a buffer, it returns a count (https://docs.python.org/3/library/ssl.html).
                got: int = read(size - count, memory[count:] if count else memory)  # type: ignore[assignment]
                if not got:
                    return self._read_ended(count)
                count += got
                if not incoming.pending:
                    break
        except SSLWantReadError:
            pass
        except SSLZeroReturnError:
            return self._read_ended(count)
        except SSLError as error:
            return self._read_failed(error, count)
        if tls.outgoing.pending and not self._may_answer():
            return ERROR
        if not count:
            return AGAIN
        if count == size or incoming.pending:
            tls.has_more = rev.ready = True
        self.received += count
        return count

    def _may_answer(self) -> bool:
        """Answer messages of TLS's own; return whether the peer reads the answers."""
        self.flush_records()
        if len(self.tls.unsent) <= UNSENT_MAX_BYTES:
            return True
        self._broken(self.read, UNREAD)
        return False

    def _take_early(self, memory: memoryview) -> int:
        tls = self.tls
        count = min(len(memory), len(tls.early))
        memory[:count] = tls.early[:count]
        tls.early = tls.early[count:]
        tls.has_more = True
        self.read.ready = True
        self.received += count
        return count

    def _read_ended(self, count: int) -> int:
        """Return the outcome of a read that came to close_notify after `count` bytes."""
        rev = self.read
        if count:
            self.tls.has_more = True  # for the call that returns EOF
            rev.ready = True
            self.received += count
            return count
        rev.eof = True
        rev.ready = False
        return EOF

    def _read_failed(self, error: SSLError, count: int) -> int:
        """Return the outcome of a read that found a violation after `count` bytes."""
        self.flush_records()  # the alert that tells the peer
        outcome = self.violated(self.read, error)
        if not count:
            return outcome
        self.read.ready = True  # for the call that returns ERROR
        self.received += count
        return count

    def receive_records(self, size: int) -> int:
        """Give OpenSSL what the kernel has, at most `size` bytes; return a count, EOF, AGAIN or
        ERROR.

        Clears `read.ready` when the kernel has no more.
        """
        rev = self.read
        if self.tls.failure:
            return ERROR
        memory = self.loop.records
        size = min(size, len(memory))
        try:
            count = self.socket.recv_into(memory, size)
        except OSError as error:
            return self.failed(rev, error)
        if not count:
            return EOF
        self.tls.incoming.write(memory[:count])
        if count < size and not rev.pending_eof:
            rev.ready = False
        return count

    def send(self, memory: "bytes | memoryview") -> int:
        """Encrypt and send what the kernel takes; return a count, AGAIN or ERROR.

        Next, send the rest, byte for byte: its beginning may be encrypted already, and counts once
        the kernel has taken it.
        """
        tls = self.tls
        size = len(memory)
        if size <= RECORD_BYTES and not tls.unsent and not tls.credit:
            return self._send_message(memory, size)
        if tls.unsent and self.flush_records() != DONE:
            return ERROR if self.errno else AGAIN
        count = 0
        if tls.credit:
            count = min(tls.credit, size)
            tls.credit -= count
        view = memoryview(memory)
        while count < size:
            end = min(count + BATCH_BYTES, size)
            outcome = self._encrypt(view[count:end])
            if outcome == ERROR:
                return ERROR
            if outcome == AGAIN:
                break
            count = end
        self.sent += count
        return count or AGAIN

    def _send_message(self, memory: "bytes | memoryview", size: int) -> int:
        """Do as `send` for what fits into a record: the ordinary message, in few steps."""
        tls = self.tls
        try:
            tls.object.write(memory)
            data = tls.outgoing.read()
            sent = self.socket.send(data)
        except SSLError as error:
            return self.violated(self.write, error)
        except OSError as error:
            if self.failed(self.write, error) == ERROR:
                return ERROR
            sent = 0
        if sent == len(data):
            self.sent += size
            return size
        self.write.ready = False
        tls.credit = size
        self._keep(data[sent:])
        return AGAIN

    def _encrypt(self, view: memoryview) -> int:
        """Encrypt all of `view` and send it; return DONE, ERROR, or AGAIN if the kernel has not
        taken all."""
        tls = self.tls
        records = []
        try:
            # A BIO never shrinks: one record at a time, it stays small.
            for start in range(0, len(view), RECORD_BYTES):
                tls.object.write(view[start : start + RECORD_BYTES])
                records.append(tls.outgoing.read())
        except SSLError as error:
            return self.violated(self.write, error)
        try:
            if len(records) == 1:
                sent = self.socket.send(records[0])
            else:
                sent = self.socket.sendmsg(records)
        except OSError as error:
            if self.failed(self.write, error) == ERROR:
                return ERROR
            sent = 0
        data = records[0] if len(records) == 1 else b"".join(records)
        if sent == len(data):
            return DONE
        self.write.ready = False
        tls.credit = len(view)
        self._keep(data[sent:])
        return AGAIN

    def flush_records(self) -> int:
        """Send what is still to be sent; return DONE, AGAIN or ERROR."""
        tls = self.tls
        data = tls.unsent
        if tls.outgoing.pending:
            data += tls.outgoing.read()
        if not data:
            return DONE
        try:
            sent = self.socket.send(data)
        except OSError as error:
            if self.failed(self.write, error) == ERROR:
                return ERROR
            sent = 0
        self._keep(data[sent:])
        if not tls.unsent:
            return DONE
        self.write.ready = False
        return AGAIN

    def _keep(self, rest: bytes) -> None:
        """Keep what the kernel did not take."""
        tls, loop = self.tls, self.loop
        loop.budget.give_back(len(tls.unsent))
        tls.unsent = rest
        if rest:
            loop.budget.hold(len(rest), loop.clock.now_ms)

    def peek(self) -> int:
        """Return 1 if something, even encrypted, waits to be received, else EOF, AGAIN or ERROR."""
        tls = self.tls
        if tls.early or tls.incoming.pending or tls.object.pending():
            return 1
        if self.errno:
            return ERROR
        try:
            return len(self.socket.recv(1, MSG_PEEK))
        except BlockingIOError:
            self.read.ready = False
            return AGAIN
        except OSError as error:
            return self.failed(self.read, error)

    def unsent_bytes(self) -> int:
        """Return how many bytes the peer has not acknowledged, or the kernel has not taken."""
        return super().unsent_bytes() + len(self.tls.unsent)

    def ended_by_fin(self) -> int:
        """Return the outcome of a FIN: an end, or a stream cut short."""
        rev, tls = self.read, self.tls
        rev.ready = False
        if self.errno:  # it broke before, and the kernel says so only once
            return ERROR
        if tls.is_ragged and tls.is_established:
            rev.eof = True
            return EOF
        return self._broken(rev, CUT)

    def violated(self, event: Event, error: SSLError) -> int:
        """Note in OpenSSL's words why the connection is broken."""
        tls = self.tls
        tls.verify_code = getattr(error, "verify_code", 0)
        tls.verify_message = getattr(error, "verify_message", "")
        return self._broken(event, error.reason or name_of(str(error)))

    def _broken(self, event: Event, failure: str) -> int:
        self.tls.failure = failure
        event.error = True
        event.ready = False
        self.errno = errno.EPROTO
        return ERROR


def name_of(text: str) -> str:
    """Return OpenSSL's name of a reason that Python does not know by name, from its text:
    "[SSL] tlsv1 alert no application protocol (_ssl.c:992)"."""
    words = re.sub(r"^\[\w*\] ?|\s*\(_ssl\.c:\d+\)$", "", text)
    return words.upper().replace(" ", "_")
