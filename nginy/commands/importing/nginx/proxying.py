"""The keys of a listener that need nothing but one directive each, and those of `proxy_…`.

nginx's defaults are set as well. Those that differ from nginy's stay in the file:
`proxy_half_close: off`, `so_keepalive: off`, and for UDP `proxy_timeout: 10m`.

proxy_buffer_size is not among them, though nginx has 16k and nginy 64k: it decides how much memory
a session may take, and no client can tell.

Tested in tests/commands/importing/nginx/test_table.py.
"""

from collections.abc import Callable, Mapping
from typing import Final

from nginy.commands.importing.model import Block
from nginy.commands.importing.nginx.ledger import LeftOutError
from nginy.commands.importing.nginx.reading import ConfReader
from nginy.commands.importing.nginx.scope import Scope, argument
from nginy.commands.importing.nginx.values import (
    duration,
    duration_or_off,
    flag,
    has_variable,
    number,
    size,
    size_bytes,
    time_ms,
)
from nginy.proxy.variables import KEY_VARIABLES

TCP: Final = "tcp"
UDP: Final = "udp"
ANY: Final = ""
RATE_MIN: Final = 1024
RATE_MAX: Final = 1 << 30
BUFFER_MIN: Final = 1024
BUFFER_MAX: Final = 64 << 20

Read = Callable[[str], str]

DIRECT: Final[Mapping[str, tuple[Read, str, str]]] = {
    "tcp_nodelay": (flag, TCP, "on"),
    "proxy_connect_timeout": (duration, TCP, "60s"),
    "proxy_timeout": (duration, ANY, "10m"),
    "proxy_half_close": (flag, TCP, "off"),
    "proxy_socket_keepalive": (flag, TCP, "off"),
    "proxy_requests": (number, UDP, "0"),
    "proxy_responses": (number, UDP, "off"),
}
"""Directives that have nginy's name: how to read them, the protocol that has the key, and nginx's
default. They have no effect on the other protocol, not in nginx either."""


def set_proxy_keys(reading: ConfReader, scope: Scope, listener: Block, protocol: str) -> None:
    """Set the keys of a listener that say how it proxies."""
    for name, (read, only, default) in DIRECT.items():
        if only not in (ANY, protocol):
            continue
        listener.set(name, default)
        directive = scope.one(name)
        if directive is not None:
            with scope.ledger.judging(directive):
                listener.set(name, read(argument(directive)))
    if protocol == TCP:
        _buffer(scope, listener)
    for name in ("proxy_upload_rate", "proxy_download_rate"):
        _rate(scope, listener, name)
    _next_upstream(scope, listener)
    _bind(reading, scope, listener)
    _header(scope, listener, protocol)


def _buffer(scope: Scope, listener: Block) -> None:
    for name in ("proxy_buffer_size", "proxy_downstream_buffer", "proxy_upstream_buffer"):
        directive = scope.one(name)
        if directive is None:
            continue
        with scope.ledger.judging(directive):
            text, is_same = size(argument(directive), BUFFER_MIN, BUFFER_MAX)
            listener.set("proxy_buffer_size", text)
            if not is_same:
                scope.ledger.close(directive, f"nginy takes {text}; no client can tell")


def _rate(scope: Scope, listener: Block, name: str) -> None:
    directive = scope.one(name)
    if directive is None:
        return
    with scope.ledger.judging(directive):
        text = argument(directive)
        if has_variable(text):
            raise LeftOutError(
                "nginy has one rate for all sessions of a listener, so no limit applies"
            )
        if not size_bytes(text):
            return
        rate, is_same = size(text, RATE_MIN, RATE_MAX)
        listener.set(name, rate)
        if not is_same:
            scope.ledger.close(directive, f"nginy takes rates from 1k to 1g, so it is {rate}")


def _next_upstream(scope: Scope, listener: Block) -> None:
    enabled = scope.one("proxy_next_upstream")
    if enabled is not None and argument(enabled) == "off":
        listener.set("proxy_next_upstream", "off")
        return
    settings = Block()
    for name, key, read in (
        ("proxy_next_upstream_tries", "tries", number),
        ("proxy_next_upstream_timeout", "timeout", duration_or_off),
    ):
        directive = scope.one(name)
        if directive is not None:
            with scope.ledger.judging(directive):
                settings.set(key, read(argument(directive)))
    if any(text not in ("0", "off") for text in settings.values.values()):
        listener.set("proxy_next_upstream", settings)


def _bind(reading: ConfReader, scope: Scope, listener: Block) -> None:
    directive = scope.one("proxy_bind")
    if directive is None or argument(directive) == "off":
        return
    with scope.ledger.judging(directive):
        text = reading.definitions.text(argument(directive), KEY_VARIABLES, scope)
        host, colon, port = text.partition(":")
        if host.startswith("$") and colon:
            text = f"[{host}]:{port}"  # an IPv6 address would need the brackets
        if "transparent" in directive.arguments[1:]:
            listener.set("proxy_bind", Block({"address": text, "transparent": "on"}))
        else:
            listener.set("proxy_bind", text)


def _header(scope: Scope, listener: Block, protocol: str) -> None:
    directive = scope.one("proxy_protocol")
    if directive is None:
        return
    with scope.ledger.judging(directive):
        version = {"on": "v1", "v1": "v1", "v2": "v2", "off": "off"}.get(argument(directive))
        if version is None:
            raise LeftOutError("nginy does not know this version, so backends get no header")
        if protocol == UDP and version == "v1":
            raise LeftOutError("over UDP, nginy sends version 2 only, so backends get no header")
        listener.set("proxy_protocol", version)


def preread(scope: Scope, listener: Block) -> None:
    """Set how far nginy looks at first bytes, for a listener that does."""
    settings = Block()
    directive = scope.one("preread_buffer_size")
    if directive is not None:
        with scope.ledger.judging(directive):
            text, is_same = size(argument(directive), 1024, 65536)
            settings.set("size", text)
            if not is_same:
                scope.ledger.close(directive, f"nginy looks at {text}")
    directive = scope.one("preread_timeout")
    if directive is not None:
        with scope.ledger.judging(directive):
            settings.set("timeout", duration(argument(directive)))
    if settings.values:
        listener.set("preread", settings)


def header_timeout(scope: Scope) -> str:
    """Return how long a PROXY header may take to come."""
    directive = scope.one("proxy_protocol_timeout")
    text = "30s"
    if directive is not None:
        with scope.ledger.judging(directive):
            if not time_ms(argument(directive)):
                raise LeftOutError("nginx's default of 30s applies")
            text = duration(argument(directive))
    return text
