r"""Values of nginx.conf as nginy.yml has them: times, sizes, flags, texts with variables.

Each function returns a text, or raises LeftOutError with the reason why there is none.

nginx: core/ngx_parse.c (ngx_parse_time, ngx_parse_size).

Tested in tests/commands/importing/nginx/test_table.py.
"""

import ipaddress
import re
from collections.abc import Collection
from typing import Final

from nginy.commands.importing.nginx.ledger import LeftOutError
from nginy.config.node import quote
from nginy.errors import InvalidValueError
from nginy.proxy.variables import REFERENCE, is_variable
from nginy.text.address import parse_peer
from nginy.text.units import DURATION_MAX_MS, format_duration, format_size

_WORDS: Final = ("all", "unix:")
_UNITS_MS: Final = {
    "y": 365 * 86_400_000,
    "M": 30 * 86_400_000,
    "w": 7 * 86_400_000,
    "d": 86_400_000,
    "h": 3_600_000,
    "m": 60_000,
    "s": 1000,
    "ms": 1,
    "": 1000,
}
_TIME: Final = re.compile(r"(\d{1,9})(ms|[yMwdhms]?)\s*", re.ASCII)
_SIZE: Final = re.compile(r"(\d{1,15})([kKmMgG]?)", re.ASCII)
_SIZE_UNITS: Final = {"": 1, "k": 1 << 10, "m": 1 << 20, "g": 1 << 30}


def time_ms(text: str) -> int:
    """Return the milliseconds of a time; a plain number counts seconds."""
    total, position = 0, 0
    while position < len(text):
        match = _TIME.match(text, position)
        if match is None:
            raise LeftOutError(f"{quote(text)} is not a time, so nginy's default applies")
        total += int(match[1]) * _UNITS_MS[match[2]]
        position = match.end()
    if not text:
        raise LeftOutError('"" is not a time, so nginy\'s default applies')
    return total


def duration(text: str) -> str:
    """Return a time of more than zero."""
    number = time_ms(text)
    if not number:
        raise LeftOutError("nginx ends sessions at once then, so nginy's default applies")
    return format_duration(min(number, DURATION_MAX_MS))


def duration_or_off(text: str) -> str:
    """Return a time of which zero means never."""
    return duration(text) if time_ms(text) else "off"


def size_bytes(text: str) -> int:
    """Return the bytes of a size."""
    match = _SIZE.fullmatch(text)
    if match is None:
        raise LeftOutError(f"{quote(text)} is not a size, so nginy's default applies")
    return int(match[1]) * _SIZE_UNITS[match[2].lower()]


def size(text: str, low: int, high: int) -> tuple[str, bool]:
    """Return a size within nginy's bounds, and whether it is the size asked for."""
    number = size_bytes(text)
    bounded = min(max(number, low), high)
    return format_size(bounded), number == bounded


def flag(text: str) -> str:
    """Return on or off."""
    word = text.lower()
    if word not in ("on", "off"):
        raise LeftOutError(f"{quote(text)} is neither on nor off, so nginy's default applies")
    return word


def number(text: str, low: int = 0) -> str:
    """Return a whole number."""
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < low:
        raise LeftOutError(f"{quote(text)} is not a number for nginy, so its default applies")
    return str(int(text))


def has_variable(text: str) -> bool:
    """Whether a text names a variable."""
    return "$" in text


def names(text: str) -> list[str]:
    """Return the names of the variables in a text, in their order."""
    return [match[1] or match[2] for match in REFERENCE.finditer(text)]


def variables(text: str, known: Collection[str], allowed: frozenset[str]) -> str:
    """Return a text with variables; `known` are those of the configuration, `allowed` nginy's."""
    unknown = [name for name in names(text) if name not in known and not is_variable(name, allowed)]
    if unknown:
        raise LeftOutError(f"nginy does not know ${unknown[0]} here")
    if "$" in REFERENCE.sub("", text):
        raise LeftOutError('nginy reads each "$" as the start of a variable')
    return writable(REFERENCE.sub(lambda match: f"${match[1] or match[2]}", text))


def writable(text: str) -> str:
    """Return a text that nginy.yml can hold."""
    if "${" in text:
        raise LeftOutError('nginy reads "${" as a variable of the environment')
    return text


def peer(text: str) -> str:
    """Return the address of a backend."""
    try:
        address = parse_peer(text)
    except InvalidValueError as error:
        raise LeftOutError(f"{quote(text)} {error.clause}, so it gets no sessions") from None
    if address.is_name and not address.port:
        raise LeftOutError(f"{quote(text)} has no port, so it gets no sessions")
    return text


def network(text: str) -> str:
    """Return a network in the form that nginy takes."""
    if text in _WORDS:
        return text
    try:
        found = ipaddress.ip_network(text, strict=False)
    except ValueError:
        raise LeftOutError(f"{quote(text)} is not a network, so this rule is missing") from None
    return str(found.network_address) if "/" not in text else str(found)
