"""`option httpchk` and `http-check` as a check of the type http.

Source: HAProxy's configuration manual, "option httpchk", "http-check expect", "http-check send".

Tested in tests/commands/importing/haproxy/test_reader.py.
"""

import re
from collections.abc import Iterable
from typing import Final

from nginy.commands.importing.haproxy.acls import escaped
from nginy.commands.importing.haproxy.ledger import Ledger
from nginy.commands.importing.haproxy.scripts import pattern_of
from nginy.commands.importing.haproxy.sections import Line, Proxy
from nginy.commands.importing.haproxy.values import number
from nginy.commands.importing.model import Block
from nginy.errors import InvalidValueError
from nginy.wire.errors import WireError
from nginy.wire.expect import parse_expect
from nginy.wire.http import format_statuses

METHODS: Final = ("GET", "HEAD", "OPTIONS", "POST", "PUT")
STATUSES: Final = range(100, 600)


def http_check(proxy: Proxy, line: Line, health: Block, ledger: Ledger) -> None:
    """Write a check of HTTP."""
    health.set("type", "http")
    ledger.exact(line)
    words = list(line.bare[2:])
    method, path = "OPTIONS", "/"
    if len(words) == 1:
        path = words[0]
    elif words:
        method, path = words[0], words[1]
    _request(health, line, ledger, method, path)
    if len(words) > 2:
        _old_headers(health, " ".join(words[2:]), line, ledger)
    for each in proxy.own_or_inherited("http-check send"):
        _send(health, each, ledger)
    for each in proxy.own_or_inherited("http-check expect"):
        try:
            _expect(health, each, ledger)
        except (InvalidValueError, WireError) as error:
            reason = error.clause if isinstance(error, InvalidValueError) else str(error)
            ledger.left_out(each, f"{reason}; statuses from 200 to 399 pass")


def _request(health: Block, line: Line, ledger: Ledger, method: str, path: str) -> None:
    if method not in METHODS:
        ledger.close(line, f"nginy asks with GET, not with {method}")
        method = "GET"
    health.set("method", method)
    if path.startswith("/"):
        health.set("path", path)
    else:
        ledger.close(line, "nginy asks for /")


def _old_headers(health: Block, text: str, line: Line, ledger: Ledger) -> None:
    r"""Write headers after the version, which were once smuggled in: `HTTP/1.1\r\nHost:\ www`."""
    _, *lines = re.split(r"\r\n|\\r\\n", text)
    pairs = [each.partition(":") for each in lines if each.strip()]
    _headers(health, [(name.strip(), value.strip()) for name, _, value in pairs])
    version, _, host = text.partition(" ")
    if host and not pairs and re.fullmatch(r"[\w.:\[\]-]+", host):
        health.set("host", host)
    elif not version.startswith("HTTP/"):
        ledger.close(line, "nginy sends its own request")


def _headers(health: Block, pairs: Iterable[tuple[str, str]]) -> None:
    others = Block()
    for name, value in pairs:
        if name.lower() == "host":
            health.set("host", value)
        elif name and name.lower() != "connection":
            others.set(name, value)
    if others.values:
        health.set("headers", others)


def _send(health: Block, line: Line, ledger: Ledger) -> None:
    """Write the request of `http-check send`."""
    rest = list(line.words[2:])
    pairs = []
    while rest:
        word = rest.pop(0)
        value = rest.pop(0) if rest else ""
        if word == "meth":
            _request(health, line, ledger, value, health.text("path") or "/")
        elif word == "uri":
            _request(health, line, ledger, health.text("method"), value)
        elif word == "hdr":
            pairs.append((value, rest.pop(0) if rest else ""))
        elif word == "body":
            health.set("body", escaped(value))
        elif word not in ("ver", "comment"):
            ledger.left_out(line, f"{word}: nginy sends the request without it")
    if any("%[" in value for _, value in pairs):
        ledger.left_out(line, "a header depends on HAProxy's variables")
        pairs = [pair for pair in pairs if "%[" not in pair[1]]
    _headers(health, pairs)
    ledger.exact(line, health, "path")


def _expect(health: Block, line: Line, ledger: Ledger) -> None:
    """Write which answers pass."""
    words = list(line.words[2:])
    while words and words[0] in (
        "min-recv",
        "comment",
        "ok-status",
        "error-status",
        "tout-status",
        "on-success",
        "on-error",
        "status-code",
    ):
        del words[:2]
    is_negative = bool(words) and words[0].startswith("!")
    if is_negative:
        words[0] = words[0][1:]
        words = words if words[0] else words[1:]
    if len(words) < 2:
        raise InvalidValueError("expects nothing")
    kind, pattern = words[0], " ".join(words[1:])
    if kind in ("status", "rstatus"):
        good = _statuses(kind, pattern)
        found = [code for code in STATUSES if (code in good) is not is_negative]
        if not found:
            raise InvalidValueError("lets no status pass")
        health.set("status", format_statuses(frozenset(found)))
    elif kind in ("string", "rstring") and not is_negative:
        expect = "~" + (pattern if kind == "rstring" else pattern_of(pattern))
        parse_expect(expect)
        health.set("expect", expect)
        health.set("status", "100-599")
    else:
        raise InvalidValueError(f"nginy has no expect {'! ' * is_negative}{kind}")
    ledger.exact(line, health, "status")


def _statuses(kind: str, pattern: str) -> set[int]:
    """Return the statuses of a list with ranges, or those that a regular expression finds."""
    if kind == "rstatus":
        try:
            compiled = re.compile(pattern)
        except (re.error, RecursionError, OverflowError) as error:
            raise InvalidValueError(f"has an invalid regular expression ({error})") from None
        return {code for code in STATUSES if compiled.search(str(code))}
    found: set[int] = set()
    for part in re.split(r"[, ]+", pattern):
        low, dash, high = part.partition("-")
        first = number(low, 100, 599)
        found.update(range(first, (number(high, first, 599) if dash else first) + 1))
    return found
