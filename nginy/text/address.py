"""Socket addresses as values: "127.0.0.1:80", "[::1]:80" and "unix:/run/x", parsed and printed.

Addresses compare and hash by meaning: an Address keeps the shortest form of an IPv6 text, so that
[0:0::1]:80 and [::1]:80 are one address. Nothing here looks a name up; that is
backend/names/resolver.py's work, off the loop.

The parse functions take what nginx's `listen`, `server` and `proxy_bind` take (ngx_parse_url in
core/ngx_inet.c) and raise InvalidValueError, whose clause continues a sentence that begins with
the quoted text.
"""

import os
import re
import socket
from dataclasses import dataclass, field, replace
from typing import Final

from nginy.errors import InvalidValueError

PORT_MAX: Final = 65535
# sizeof(sun_path) less the closing zero byte, unix(7). BSD and macOS hold 4 bytes less.
UNIX_PATH_MAX_BYTES: Final = 107
NAME_MAX_CHARACTERS: Final = 253  # RFC 1035 §2.3.4, less what only the wire form has
LABEL_MAX_CHARACTERS: Final = 63

_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?", re.ASCII)

SockAddr = tuple[str, int] | tuple[str, int, int, int] | str
"""What the socket calls take and return: IPv4, IPv6, or the path of a unix socket."""


@dataclass(frozen=True, slots=True)
class Address:
    """One end of a socket: an IPv4 or IPv6 host with a port, or the path of a unix socket.

    `host` is the number in its shortest text form, without brackets; unix sockets have only `path`.
    A host name has the family AF_UNSPEC and can be used only once it has been resolved.
    Port 0 lets the kernel choose; no parse function but parse_bind_address() returns it.
    """

    family: socket.AddressFamily
    host: str = ""
    port: int = 0
    path: str = ""
    written: str = field(default="", compare=False, repr=False)
    offset: int | None = None
    """Of a backend: added to the port that its client asked; None if `port` is its own."""
    sockaddr: SockAddr = field(init=False, compare=False, repr=False)
    """The form that bind(), connect() and sendto() take for this family, made once."""

    def __post_init__(self) -> None:
        """Compute `sockaddr`."""
        sockaddr: SockAddr = (self.host, self.port)
        if self.family is socket.AF_UNIX:
            sockaddr = self.path
        elif self.family is socket.AF_INET6:
            sockaddr = (self.host, self.port, 0, 0)
        object.__setattr__(self, "sockaddr", sockaddr)

    @property
    def name(self) -> str:
        """The text as configured; consistent hashing hashes it, as nginx does."""
        return self.written or str(self)

    @property
    def is_unix(self) -> bool:
        """Whether this is the path of a unix socket."""
        return self.family is socket.AF_UNIX

    @property
    def is_name(self) -> bool:
        """Whether the host is a name. No socket call may get one: it would resolve it and block."""
        return self.family is socket.AF_UNSPEC

    @property
    def is_wildcard(self) -> bool:
        """Whether this is every address of the machine: 0.0.0.0 or [::]."""
        return self.host in ("0.0.0.0", "::")

    @property
    def wildcard(self) -> "Address":
        """Every address of the machine, of this family and on this port; a unix socket itself."""
        if self.is_unix:
            return self
        host = "::" if self.family is socket.AF_INET6 else "0.0.0.0"
        return Address(self.family, host, self.port)

    @property
    def host_text(self) -> str:
        """The host as it stands in a URL: [::1] in brackets."""
        return f"[{self.host}]" if self.family is socket.AF_INET6 else self.host

    def __str__(self) -> str:
        if self.family is socket.AF_UNIX:
            return f"unix:{self.path}"
        if self.offset is not None and not self.port:
            return f"{self.host_text}:+{self.offset}"
        return f"{self.host_text}:{self.port}"

    def for_port(self, port: int) -> "Address":
        """Return the address that one with an offset stands for if the client has asked `port`."""
        return Address(self.family, self.host, port + (self.offset or 0))


@dataclass(frozen=True, slots=True)
class TransparentAddress(Address):
    """An address to connect from that need not be this machine's, such as the client's own."""


def sockaddr_text(sockaddr: SockAddr) -> str:
    """Return an address as logs and the configuration write it: 127.0.0.1:80, [::1]:80,
    unix:/path."""
    if isinstance(sockaddr, tuple):
        host = sockaddr[0]
        return f"[{host}]:{sockaddr[1]}" if ":" in host else f"{host}:{sockaddr[1]}"
    # The kernel gives abstract unix addresses as bytes with a leading zero byte.
    return f"unix:{sockaddr}" if isinstance(sockaddr, str) else "unix:"


def parse_address(text: str) -> Address:
    """Return the address to connect to: IPv4:port, [IPv6]:port or unix:/path."""
    if text.startswith("unix:"):
        return _unix(text)
    host, port = _split(text)
    if port is None:
        raise InvalidValueError("has no port")
    return replace(_ip(host, _port(port)), written=text)


def parse_peer(text: str) -> Address:
    """Return an address as parse_address() does, or a host name; without a port, that has port 0.

    "10.0.0.5:+0" has the port that a client asked, plus the number after the plus sign.

    Names are those of RFC 1123 §2.1 with underscores: labels of up to 63 characters, 253 in all.
    """
    if ":+" in text:
        return _relative(text)
    host, colon, port = text.partition(":")
    is_name = host.strip("0123456789.") and _HOST_NAME.fullmatch(host) and host != "unix"
    if not is_name or ":" in port:
        return parse_address(text)
    lengths = [len(label) for label in host.removesuffix(".").split(".")]
    if len(host) > NAME_MAX_CHARACTERS:
        raise InvalidValueError(f"has a host name above {NAME_MAX_CHARACTERS} characters")
    if max(lengths) > LABEL_MAX_CHARACTERS:
        raise InvalidValueError(f"has a name between dots above {LABEL_MAX_CHARACTERS} characters")
    if not min(lengths):
        raise InvalidValueError("has two dots in a row")
    number = _port(port) if colon else 0
    return Address(socket.AF_UNSPEC, host.lower(), number, written=text)


def _relative(text: str) -> Address:
    host, _, offset = text.rpartition(":+")
    if not re.fullmatch("[0-9]{1,5}", offset) or int(offset) >= PORT_MAX:
        raise InvalidValueError(f'has "+{offset}" for a port', f"{host}:+0")
    try:
        address = _ip(host, 0)
    except InvalidValueError as error:
        if not (host.strip("0123456789.") and _HOST_NAME.fullmatch(host)):
            raise
        clause = "is a host name, and only an IP address can have the listener's port"
        raise InvalidValueError(clause) from error
    return replace(address, written=text, offset=int(offset))


def parse_listen(text: str) -> tuple[Address, ...]:
    """Return the addresses of a `listen` text, in ascending order.

    Besides one address it may be a range of ports (127.0.0.1:10000-10010), *:port or a port
    alone, which stand for all IPv4 addresses as in nginx.
    """
    if text.startswith("unix:"):
        return (_unix(text),)
    if re.fullmatch(r"[0-9-]+", text):
        text = f"*:{text}"
    host, port = _split(text)
    if port is None:
        raise InvalidValueError("has no port")
    first, dash, last = port.partition("-")
    low = _port(first)
    address = _ip("0.0.0.0" if host == "*" else host, low)
    high = _port(last) if dash else low
    if high < low:
        raise InvalidValueError(
            "is a range that runs backwards", f"{text[: -len(port)]}{high}-{low}"
        )
    return tuple(Address(address.family, address.host, number) for number in range(low, high + 1))


def parse_bind_address(text: str) -> Address:
    """Return the local address of `proxy_bind`: an IP address; without a port, the port is 0."""
    if text.startswith("unix:"):
        raise InvalidValueError("is not an IP address")
    if ":" in text and "[" not in text and _is_ip(socket.AF_INET6, text):
        return _ip(f"[{text}]", 0)
    host, port = _split(text)
    return _ip(host, _port(port) if port is not None else 0)


def _unix(text: str) -> Address:
    path = text.removeprefix("unix:")
    if not path.startswith("/"):
        raise InvalidValueError("is not an absolute path")
    if "\0" in path:
        raise InvalidValueError("has a zero byte in its path")
    if len(os.fsencode(path)) > UNIX_PATH_MAX_BYTES:
        raise InvalidValueError(
            f"is longer than the {UNIX_PATH_MAX_BYTES} bytes of a unix socket's path"
        )
    return Address(socket.AF_UNIX, path=path)


def _split(text: str) -> tuple[str, str | None]:
    """Cut host (IPv6 with its brackets) and port; no port is None."""
    if text.startswith("["):
        host, bracket, rest = text.partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise InvalidValueError("is not an IPv6 address")
        return host + bracket, rest[1:] if rest else None
    if text.count(":") > 1:
        raise InvalidValueError("has an IPv6 address without brackets", _bracketed(text))
    host, colon, port = text.partition(":")
    return host, port if colon else None


def _bracketed(text: str) -> str | None:
    """Guess the meaning of a bare IPv6 text: take the last group for the port."""
    host, _, port = text.rpartition(":")
    return f"[{host}]:{port}" if _is_ip(socket.AF_INET6, host) and port.isdigit() else None


def _port(text: str) -> int:
    if not re.fullmatch("[0-9]{1,9}", text):
        raise InvalidValueError(f'has "{text}" for a port' if text else "has no port")
    port = int(text)
    if not 1 <= port <= PORT_MAX:
        raise InvalidValueError(f"has port {port}, outside 1 to {PORT_MAX}")
    return port


def _ip(host: str, port: int) -> Address:
    if host.startswith("["):
        if not _is_ip(socket.AF_INET6, host[1:-1]):
            raise InvalidValueError("is not an IPv6 address")
        packed = socket.inet_pton(socket.AF_INET6, host[1:-1])
        return Address(socket.AF_INET6, socket.inet_ntop(socket.AF_INET6, packed), port)
    if _is_ip(socket.AF_INET, host):
        return Address(socket.AF_INET, host, port)
    if not host.strip("0123456789."):
        raise InvalidValueError("is not an IPv4 address" if host else "has no host")
    if host == "localhost":
        hint = f"127.0.0.1:{port}" if port else "127.0.0.1"
        raise InvalidValueError("is a host name, and names are not supported", hint)
    if _HOST_NAME.fullmatch(host):
        raise InvalidValueError("is a host name, and names are not supported")
    raise InvalidValueError("is not an address")


def _is_ip(family: socket.AddressFamily, text: str) -> bool:
    try:
        socket.inet_pton(family, text)
    except (OSError, ValueError):  # ValueError: a zero byte in the text
        return False
    return True
