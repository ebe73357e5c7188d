"""Certificates, made when they are needed, and ends of a conversation that speak TLS."""

import contextlib
import pathlib
import socket
import ssl
import subprocess
import time

from kit.ends import End
from kit.program import needs

CUT = -1
"""Stands for an errno: the stream has ended without close_notify."""

RECORD_BYTES = 65536


def make_certificate(
    directory: pathlib.Path,
    name: str = "example.test",
    *options: str,
    days: int = 1,
    key: str = "ec",
    names: str = "",
) -> pathlib.Path:
    """Return a file with a new key and its self-signed certificate for `name`.

    `options` are more of `openssl req`, such as -passout; without a password the key has none.
    """
    path = directory / f"{name}.pem"
    kind = ("-pkeyopt", "ec_paramgen_curve:prime256v1") if key == "ec" else ()
    subprocess.run(
        [
            *(needs("openssl", "openssl"), "req", "-x509", "-newkey", key, *kind),
            *(() if "-passout" in options else ("-nodes",)),
            *("-days", str(days), "-subj", f"/CN={name}"),
            *("-addext", names or f"subjectAltName=DNS:{name}", *options),
            *("-keyout", str(path), "-out", f"{path}.crt"),
        ],
        check=True,
        capture_output=True,
    )
    path.write_text(path.read_text() + pathlib.Path(f"{path}.crt").read_text())
    return path


def trusting(certificate: pathlib.Path) -> ssl.SSLContext:
    """Return a client's context that trusts nothing but this certificate."""
    return ssl.create_default_context(cafile=str(certificate))


def serving(certificate: pathlib.Path) -> ssl.SSLContext:
    """Return a server's context that shows this certificate."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


class TlsEnd(End):
    """A server's end: shakes hands, then does as every end does."""

    def __init__(self, sock: socket.socket, context: ssl.SSLContext) -> None:
        super().__init__(sock)
        self.tls = self.socket = context.wrap_socket(
            self.socket, server_side=True, do_handshake_on_connect=False
        )
        self.is_established = False
        self.is_finishing_last = True

    def step(self) -> bool:
        """Go on with the handshake, or do what can be done now."""
        if self.is_closed:
            return False
        try:
            if not self.is_established:
                self.tls.do_handshake()
                self.is_established = True
            return super().step()
        except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
            return False


CA_CONFIG = """
[ca]
default_ca = own
[own]
new_certs_dir = {0}
database = {0}/index
serial = {0}/serial
default_md = sha256
policy = any
copy_extensions = copy
unique_subject = no
[any]
commonName = supplied
"""


class Authority:
    """Issues certificates that are valid between the days it is told."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.directory = directory
        directory.mkdir(exist_ok=True)
        (directory / "index").touch()
        (directory / "serial").write_text("01\n")
        (directory / "config").write_text(CA_CONFIG.format(directory))
        self.certificate, self.key = directory / "ca.pem", directory / "ca.key"
        self._run(
            *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-days", "99", "-subj", "/CN=an authority"),
            *("-addext", "keyUsage=critical,keyCertSign,cRLSign"),
            *("-keyout", str(self.key), "-out", str(self.certificate)),
        )

    def _run(self, *arguments: str) -> None:
        subprocess.run([needs("openssl", "openssl"), *arguments], check=True, capture_output=True)

    def issue(self, names: str, first_day: int = -1, last_day: int = 30) -> pathlib.Path:
        """Return a file with a new key and a certificate for `names`: "DNS:a.test,IP:127.0.0.1"."""
        path = self.directory / f"{names.replace(',', '-').replace('*', '_')}{last_day}.pem"
        request = f"{path}.req"
        self._run(
            *("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-nodes", "-subj", "/CN=somebody", "-addext", f"subjectAltName={names}"),
            *("-keyout", str(path), "-out", request),
        )
        now_s = time.time()
        days = [
            time.strftime("%Y%m%d%H%M%SZ", time.gmtime(now_s + 86400 * day - 60))
            for day in (first_day, last_day)
        ]
        self._run(
            *("ca", "-batch", "-notext", "-config", str(self.directory / "config")),
            *("-cert", str(self.certificate), "-keyfile", str(self.key)),
            *("-startdate", days[0], "-enddate", days[1], "-in", request, "-out", f"{path}.crt"),
        )
        path.write_text(path.read_text() + pathlib.Path(f"{path}.crt").read_text())
        return path


class HalfClosingEnd(End):
    """An end of either side that forwards half-closes and loses nothing, unlike Python's sockets.

    Its stream has no end but close_notify: FIN alone sets `errno` to CUT.
    """

    def __init__(
        self, sock: socket.socket, context: ssl.SSLContext, server_name: str | None = None
    ) -> None:
        """Be a client that asks for `server_name`, or with None a server."""
        super().__init__(sock)
        self._in, self._out = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self._in, self._out, server_name is None, server_name)
        self.is_established = False
        self.failure = ""
        """OpenSSL's reason if TLS is broken."""
        self._encrypted = b""
        self._early = bytearray()
        self._has_fin = False

    def step(self) -> bool:
        """Do what can be done now."""
        if self.is_closed:
            return False
        if self.failure and not self.is_established:
            return False  # another try would raise whatever errno is left (CPython 3.13)
        try:
            if not self.is_established:
                self.tls.do_handshake()
                self.is_established = True
        except ssl.SSLWantReadError:
            return self._flush() or self._fill()
        except ssl.SSLError as error:
            return self._violated(error)
        return super().step()

    def _violated(self, error: ssl.SSLError) -> bool:
        if self.failure:
            return False
        self._flush()
        self.failure = error.reason or str(error)
        self.errno = CUT
        return True

    def _flush(self) -> bool:
        self._encrypted += self._out.read()
        if not self._encrypted:
            return False
        try:
            count = self.socket.send(self._encrypted)
        except BlockingIOError:
            return False
        except OSError as error:
            self._encrypted = b""
            self._send_errno = error.errno or 0
            return True
        self._encrypted = self._encrypted[count:]
        return True

    def _fill(self) -> bool:
        if self._has_fin:
            return False
        try:
            data = self.socket.recv(RECORD_BYTES)
        except BlockingIOError:
            return False
        except OSError as error:
            self.errno = error.errno or 0
            return True
        self._has_fin = not data
        self._in.write(data)
        if not data and not self.is_over and not self.is_established:
            self.errno = CUT
        return True

    def _send(self) -> bool:
        if self._encrypted or self._out.pending:
            return self._flush()
        if self._send_errno or self._has_ended:
            return False
        if self.unsent:
            count = self.tls.write(bytes(self.unsent[: self.write_bytes]))
            del self.unsent[:count]
            self._flush()
            return True
        if self._is_ending:
            self._has_ended = True
            self._read_early()
            with contextlib.suppress(ssl.SSLError):  # the other side's word may come later
                self.tls.unwrap()
            self._flush()
            return True
        return False

    def _read_early(self) -> None:
        """Read what unwrap() would drop."""
        try:
            while data := self.tls.read(RECORD_BYTES):
                self._early += data
        except ssl.SSLError:
            pass

    def _receive(self) -> bool:
        if not self.is_reading or self.is_over:
            return False
        if self._early:
            self.received += self._early
            self._early.clear()
            return True
        try:
            data = self.tls.read(self.read_bytes)
        except ssl.SSLWantReadError:
            if self._has_fin:
                self.errno = CUT
                return True
            return self._fill()
        except ssl.SSLZeroReturnError:
            data = b""
        except ssl.SSLError as error:
            return self._violated(error)
        self.received += data
        self.has_eof = not data
        if self.has_eof and self.is_finishing_last:
            self.finish()
        return True


class TlsEcho(HalfClosingEnd):
    """Sends back what it receives, and its end when the other side has ended."""

    def __init__(
        self, sock: socket.socket, context: ssl.SSLContext, server_name: str | None = None
    ) -> None:
        super().__init__(sock, context, server_name)
        self.is_finishing_last = True

    def _receive(self) -> bool:
        before = len(self.received)
        has_moved = super()._receive()
        self.send(bytes(self.received[before:]))
        return has_moved
