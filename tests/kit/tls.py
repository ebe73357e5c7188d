"""Certificates, made when they are needed, and an end of a conversation that speaks TLS."""

import pathlib
import socket
import ssl
import subprocess

from kit.ends import End
from kit.program import needs


def make_certificate(directory: pathlib.Path, name: str = "example.test") -> pathlib.Path:
    """Return a file with a new key and its self-signed certificate for `name`."""
    path = directory / f"{name}.pem"
    subprocess.run(
        [
            *(needs("openssl", "openssl"), "req", "-x509", "-newkey", "ec"),
            *("-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"),
            *("-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name}"),
            *("-keyout", str(path), "-out", f"{path}.crt"),
        ],
        check=True,
        capture_output=True,
    )
    path.write_text(path.read_text() + pathlib.Path(f"{path}.crt").read_text())
    return path


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
