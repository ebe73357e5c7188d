"""The files that come before a name server: /etc/hosts (hosts(5)) and resolv.conf (resolver(5)).

This module knows only their contents; `backend/names/files.py` reads the files. `dns` has the
messages to the name servers.

The one idea: do as the C library does, so that a name means the same to nginy as to `ping` on the
same machine. It skips lines that make no sense instead of raising an error: the files are not
nginy's own, and the C library skips them too.
"""

import socket
from dataclasses import dataclass
from typing import Final

from nginy.wire.dns_names import is_host_name

MAX_NAMESERVERS: Final = 3  # resolv.h MAXNS
MAX_TIMEOUT_S: Final = 30  # resolv.h RES_MAXRETRANS
MAX_NDOTS: Final = 15  # resolv.h RES_MAXNDOTS


@dataclass(frozen=True, slots=True)
class ResolvConf:
    """What resolv.conf says; the defaults are those of an absent file."""

    nameservers: tuple[str, ...] = ("127.0.0.1",)
    search: tuple[str, ...] = ()
    timeout_s: int = 5  # resolv.h RES_TIMEOUT
    ndots: int = 1


def parse_hosts(content: bytes) -> dict[str, tuple[str, ...]]:
    """Return each name of a hosts file, in lower case and without a final dot, with its addresses.

    A name may stand on several lines; its addresses are in the file's order, each once and in its
    shortest form.
    """
    found: dict[str, dict[str, None]] = {}
    for word, *names in _lines(content, comment_marks="#"):
        address = _address(word)
        if address:
            for name in names:
                found.setdefault(name.lower().removesuffix("."), {})[address] = None
    return {name: tuple(addresses) for name, addresses in found.items()}


def parse_resolv_conf(content: bytes) -> ResolvConf:
    """Return the keys that matter: nameserver, search or domain, options timeout and ndots.

    Of several search or domain lines the last counts; of nameservers the first three.
    """
    nameservers: list[str] = []
    search: tuple[str, ...] = ()
    options: dict[str, int] = {}
    for keyword, *values in _lines(content, comment_marks="#;"):
        if keyword == "nameserver" and values and (address := _address(values[0])):
            nameservers.append(address)
        elif keyword in ("search", "domain"):
            search = tuple(value.lower().removesuffix(".") for value in values if value != ".")
        elif keyword == "options":
            options.update(_numeric_options(values))
    default = ResolvConf()
    return ResolvConf(
        tuple(nameservers[:MAX_NAMESERVERS]) or default.nameservers,
        search,
        min(max(options.get("timeout", default.timeout_s), 1), MAX_TIMEOUT_S),
        min(options.get("ndots", default.ndots), MAX_NDOTS),
    )


def candidates(name: str, conf: ResolvConf) -> tuple[str, ...]:
    """Return the full names to ask for, in order, until one exists.

    A final dot means that the name is full already. One with at least `ndots` dots comes first
    as it is; one with fewer only after the search domains. Search domains that make no name, or
    one too long, do not count. Source: resolv.conf(5), glibc's `__res_context_search`.
    """
    if name.endswith("."):
        return (name.removesuffix("."),)
    searched = tuple(full for domain in conf.search if is_host_name(full := f"{name}.{domain}"))
    return (name, *searched) if name.count(".") >= conf.ndots else (*searched, name)


def _lines(content: bytes, comment_marks: str) -> list[list[str]]:
    """Return the words of each line that has any, without comments."""
    lines: list[list[str]] = []
    for line in content.decode("utf-8", "replace").splitlines():
        kept = line
        for mark in comment_marks:
            kept = kept.partition(mark)[0]
        words = kept.split()
        if words:
            lines.append(words)
    return lines


def _address(text: str) -> str:
    """Return an IP address in its shortest form, with its zone; "" for any other text."""
    host, percent, zone = text.partition("%")
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    if percent and (not zone or family == socket.AF_INET):
        return ""
    try:
        return f"{socket.inet_ntop(family, socket.inet_pton(family, host))}{percent}{zone}"
    except (OSError, ValueError):  # ValueError: a zero byte in the text
        return ""


def _numeric_options(values: list[str]) -> dict[str, int]:
    """Return the options of the form name:number."""
    parts = (value.partition(":") for value in values)
    return {
        name: int(number) for name, _, number in parts if number.isdecimal() and len(number) < 10
    }
