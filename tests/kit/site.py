"""A balancer in front of backends that say who they are (`kit/answering.py`), and its clients.

Two sites, the original and what was imported from its configuration, are asked the same questions.
"""

import contextlib
import pathlib
import socket
import ssl
from dataclasses import dataclass

from kit.answering import said
from kit.program import PATIENCE_S, wait_until

FRIEND, FOE, STRANGER = "127.0.0.8", "127.0.0.9", "127.200.0.9"
"""Clients."""


@dataclass
class Site:
    """A balancer with all cases: one address, and a port for each."""

    host: str
    ports: dict[str, int]
    pem: pathlib.Path
    """The certificate that its clients trust."""

    def client(self, name: str, source: str = "") -> socket.socket:
        """Connect to the port of a case, from an address of its own if `source` is one."""
        local = (source, 0) if source else None
        return socket.create_connection(
            (self.host, self.ports[name]), PATIENCE_S, source_address=local
        )

    def backend(self, name: str, source: str = "", first: bytes = b"") -> str:
        """Return the backend that a client gets, "" if it is turned away."""
        with contextlib.suppress(ConnectionError), self.client(name, source) as sock:
            sock.sendall(first)
            return said(sock)
        return ""

    def named(self, case: str, server_name: str, source: str = "", alpn: str = "") -> str:
        """Return the backend to which a client is led whose first bytes are a ClientHello."""
        context = ssl.create_default_context()
        if alpn:
            context.set_alpn_protocols([alpn])
        sent = ssl.MemoryBIO()
        tls = context.wrap_bio(ssl.MemoryBIO(), sent, server_hostname=server_name or None)
        with contextlib.suppress(ssl.SSLWantReadError):
            tls.do_handshake()
        return self.backend(case, source, sent.read())


# Questions for the sites of every original.


def sources(site: Site) -> object:
    return [site.backend("guarded", source) for source in (FRIEND, FOE, STRANGER)]


def counted(site: Site) -> object:
    with site.client("counted", FRIEND) as first, site.client("counted", FRIEND) as second:
        got = [said(first), said(second)]
        got += [site.backend("counted", FRIEND), site.backend("counted", STRANGER)]
    wait_until(lambda: site.backend("counted", FRIEND) == "a", "a client to be let in again")
    return got


def announced(site: Site) -> object:
    with site.client("announcing", FRIEND) as sock:
        port = sock.getsockname()[1]
        direct = said(sock) == f"header {FRIEND}:{port}"
    header = b"PROXY TCP4 192.0.2.7 10.0.0.1 4711 80\r\n"
    other = header.replace(b"192.0.2", b"198.51.100")
    got = [site.backend("announced", first=each) for each in (header, other, b"no header\r\n")]
    return direct, got
