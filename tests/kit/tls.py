"""Certificates, made when they are needed, and an end of a conversation that speaks TLS."""

import pathlib
import socket
import ssl
import subprocess
import time

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
    """Issues certificates that are valid from and until what days it is told."""

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
