"""The local end of connections to backends, where it depends on the client (`proxy_bind`).

A text with variables says from which address a session connects: its client's own, say, so that
backends see that one, if the routes bring their answers back here (`transparent`). An empty text
leaves the choice to the system. So does one that is not an address, and the log says so.

nginx: `ngx_stream_proxy_set_local` in `ngx_stream_proxy_module.c`.
"""

import dataclasses
import logging

from nginy.errors import InvalidValueError
from nginy.log.limit import RateLimited, similar
from nginy.proxy.session import Session
from nginy.proxy.variables import Render
from nginy.text.address import Address, TransparentAddress, parse_bind_address


def transparent(address: Address) -> TransparentAddress:
    """Return an address that need not be this machine's."""
    return TransparentAddress(address.family, address.host, address.port)


class LocalEnd:
    """Works out the address from which a session connects to its backend."""

    __slots__ = ("_is_transparent", "_limited", "_render")

    def __init__(self, render: Render, *, is_transparent: bool = False) -> None:
        self._render = render
        self._is_transparent = is_transparent
        self._limited = RateLimited()

    def __call__(self, session: Session) -> Address | None:
        """Return the address, without a port if the system is to choose one; None for any."""
        text = self._render(session)
        if not text:
            return None
        try:
            address = parse_local_end(text)
        except InvalidValueError as error:
            suppressed = self._limited.admit("no address", session.client.loop.clock.now_ms)
            if suppressed is not None:
                message = f'proxy_bind: "{text}" {error.clause}, the system chooses an address'
                session.log(logging.WARNING, f"{message}{similar(suppressed)}")
            return None
        return transparent(address) if self._is_transparent else address


def parse_local_end(text: str) -> Address:
    """Return the address of "192.0.2.1", "2001:db8::1" or either with a port, as in "[...]:80".

    Both families may have brackets here, as one text has to do for all clients.
    """
    host, bracket, port = text.removeprefix("[").partition("]")
    if bracket and ":" not in host:
        text = f"{host}{port}"
    address = parse_bind_address(text)
    return dataclasses.replace(address, written="")
