"""HAProxy's values in nginy's form: times, sizes, addresses.

Source: HAProxy's configuration manual, 2.5 "Time format", 2.6 "Size format", 2.9 "Address formats".
"""

import ipaddress
import re
from dataclasses import dataclass
from typing import Final

from nginy.errors import InvalidValueError
from nginy.text.address import PORT_MAX
from nginy.text.units import format_duration

MS: Final = {"ms": 1, "s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_TIME: Final = re.compile(r"([0-9]{1,18})(us|ms|s|m|h|d)?")
_TEN_YEARS_MS: Final = 3650 * MS["d"]

FAMILIES: Final = ("ipv4", "ipv6", "tcp", "tcp4", "tcp6", "stream+ipv4", "stream+ipv6", "mptcp")
UNIX: Final = ("unix", "uxst", "stream+unix")
UNKNOWN_FAMILIES: Final = {
    "fd": "is a descriptor that HAProxy inherits",
    "sockpair": "is a descriptor that HAProxy inherits",
    "abns": "is an abstract unix socket",
    "abnsz": "is an abstract unix socket",
    "rhttp": "is reverse HTTP",
    **dict.fromkeys(("quic", "quic4", "quic6"), "is QUIC"),
    **dict.fromkeys(("udp", "udp4", "udp6", "dgram+ipv4", "dgram+ipv6"), "is UDP in mode log"),
}


def time_ms(text: str) -> int:
    """Return a time in milliseconds; 0 is never. Raise InvalidValueError."""
    match = _TIME.fullmatch(text)
    if match is None:
        if "${" in text:
            raise InvalidValueError("comes from the environment, and nginy needs a unit")
        raise InvalidValueError("is not a time")
    number, unit = int(match[1]), match[2] or "ms"
    duration_ms = -(-number // 1000) if unit == "us" else number * MS[unit]
    if duration_ms > _TEN_YEARS_MS:
        raise InvalidValueError("is more than ten years")
    return duration_ms


def duration(text: str) -> str:
    """Return a time as nginy writes it; `off` for 0. Raise InvalidValueError."""
    return written(time_ms(text))


def written(duration_ms: int) -> str:
    """Return milliseconds as nginy writes them; `off` for 0, which is never."""
    return format_duration(duration_ms) if duration_ms else "off"


def in_seconds(text: str) -> str:
    """Return a time in whole seconds, at least one. Raise InvalidValueError."""
    return format_duration(max(1, -(-time_ms(text) // 1000)) * 1000)


def number(text: str, low: int = 0, high: int = 2**31) -> int:
    """Return a whole number. Raise InvalidValueError."""
    if not text.isascii() or not text.isdecimal() or len(text) > 10:
        what = "comes from the environment" if "${" in text else "is not a number"
        raise InvalidValueError(what)
    if not low <= int(text) <= high:
        raise InvalidValueError(f"is not between {low} and {high}")
    return int(text)


@dataclass(frozen=True, slots=True)
class HostOrPath:
    """An address: a host with a port, or the path of a unix socket.

    `host` is "" for any; IPv6 has no brackets. `port` is as written: a number, a range, an offset
    (+100), or "" for none.
    """

    host: str = ""
    port: str = ""
    path: str = ""

    @property
    def is_ipv6(self) -> bool:
        """Whether the host is an IPv6 address."""
        return ":" in self.host and "${" not in self.host

    @property
    def is_name(self) -> bool:
        """Whether the host is a name."""
        if "${" in self.host or not self.host:
            return False
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return True
        return False

    @property
    def host_text(self) -> str:
        """The host, IPv6 in brackets."""
        return f"[{self.host}]" if self.is_ipv6 else self.host


def parse_place(text: str) -> HostOrPath:
    """Return an address of bind, server or nameserver. Raise InvalidValueError."""
    family, at, rest = text.rpartition("@")
    if at and "${" in family:
        raise InvalidValueError("has a family from the environment")
    if family in UNKNOWN_FAMILIES or family.startswith(("fd", "abns")):
        raise InvalidValueError(UNKNOWN_FAMILIES.get(family, "is not supported by nginy"))
    if at and family not in (*FAMILIES, *UNIX):
        raise InvalidValueError("has an unknown family of addresses")
    if rest.startswith("/") or family in UNIX:
        if not rest.startswith("/"):
            raise InvalidValueError("is not an absolute path")
        return HostOrPath(path=rest)
    host, port = _host_and_port(rest)
    if host == "*":
        host = "::" if family in ("ipv6", "tcp6") else ""
    if not host and family in ("ipv6", "tcp6"):
        host = "::"
    _check_host(host)
    return HostOrPath(host, port)


def _host_and_port(text: str) -> tuple[str, str]:
    """Cut at the last colon outside ${...} and brackets, as HAProxy does."""
    if text.startswith("["):
        host, bracket, rest = text[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise InvalidValueError("has a bracket that is not closed")
        return host, rest[1:]
    masked = re.sub(r"\$\{[^}]*\}", lambda match: "_" * len(match[0]), text)
    at = masked.rfind(":")
    return (text, "") if at < 0 else (text[:at], text[at + 1 :])


def _check_host(host: str) -> None:
    if not host or "${" in host:
        return
    if ":" in host or not host.strip("0123456789."):
        try:
            ipaddress.ip_address(host.partition("%")[0])
        except ValueError:
            raise InvalidValueError("is not an IP address") from None
        if "%" in host:
            raise InvalidValueError("has a scope, which nginy does not support")
    elif not re.fullmatch(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?", host):
        raise InvalidValueError("is not an address")


def check_port(text: str) -> str:
    """Return the text of one port. Raise InvalidValueError."""
    if "${" in text:
        return text
    if not text.isascii() or not text.isdecimal() or not 1 <= int(text[:9]) <= PORT_MAX:
        raise InvalidValueError(f'has "{text}" for a port')
    return str(int(text))


def network(text: str) -> str:
    """Return a network as nginy writes it, without bits beyond its prefix.

    A mask may also be an address: 10.0.0.0/255.0.0.0. Raise InvalidValueError.
    """
    try:
        return str(ipaddress.ip_network(text, strict=False)).removesuffix(
            "/32" if "." in text else "/128"
        )
    except ValueError:
        raise InvalidValueError("is not a network") from None
