"""Announcing: the PROXY header that tells a backend who the client is (`proxy_protocol`).

`header_for` makes it from what a session knows. A TCP session sends it in one write with the
client's first bytes, ahead of everything else (`proxy/tcp.py::TcpSession.established`); a UDP
session in front of each datagram (`proxy/udp/announcing.py`). The checks of such backends announce
nobody (`wire/proxy_protocol.py::ANNOUNCES_NOBODY`).

If a proxy in front has announced the client, nginy announces that client again, with the address
that it asked there: both belong to one connection, the client's.

nginx: `ngx_proxy_protocol_write` in `ngx_proxy_protocol.c`, which writes version 1.
"""

import os
import time
from functools import lru_cache
from typing import Final

from nginy.backend.backend import Backend
from nginy.proxy.handler import ProxySettings
from nginy.proxy.session import Session
from nginy.proxy.tls_facts import tlvs_of
from nginy.wire.errors import WireError
from nginy.wire.proxy_protocol import HeaderAddress, build_v1, build_v2
from nginy.wire.proxy_repeated import AnyHost, RepeatedHeader
from nginy.wire.proxy_tlv import Tlvs, Type, value_of

NODE_MAX_CHARACTERS: Final = 64
"""How much of the host's name goes into a unique id, which has 128 bytes at most."""
REPEATED_MAX: Final = 256
"""At most this many asked addresses keep a header to copy from, which is cheaper than a new one."""


def version_for(settings: ProxySettings, backend: Backend) -> str:
    """Return the header that a backend gets, "off", "v1" or "v2": its own key wins."""
    version = backend.settings.proxy_protocol
    return settings.proxy_protocol if version == "auto" else version


def header_for(session: Session, version: str, pass_tlvs: bool = False) -> bytes:
    """Return the header of a session: "v1", or "v2" with CRC32C, UNIQUE_ID and the client's TLS.

    With `pass_tlvs`, a "v2" also passes on the TLVs of a proxy in front, if a header has room for
    them.
    """
    client, arrival = session.client, session.arrival
    source = client.sockaddr
    destination = session.handler.local_sockaddr or client.local_sockaddr
    received: Tlvs = ()
    if arrival is not None:
        # The address was announced only if it is not the peer's.
        if source != arrival.real_sockaddr:
            destination = arrival.header.destination or destination
        if pass_tlvs:
            received = arrival.header.tlvs
    own = _seen(session)
    if own:
        kinds = {kind for kind, _ in own}
        received = own + tuple(each for each in received if each[0] not in kinds)
    if version == "v1":
        return build_v1(_place(source), _place(destination))
    is_udp = session.handler.protocol == "UDP"
    if not received and isinstance(source, tuple) and isinstance(destination, tuple):
        repeated = _repeated(destination, is_udp, os.getpid())
        if (":" in source[0]) is repeated.is_v6:
            return repeated.header(source, client.number)
    return _built(session, _place(source), _place(destination), received, is_udp)


def _built(
    session: Session,
    source: HeaderAddress,
    destination: HeaderAddress,
    received: Tlvs,
    is_udp: bool,
) -> bytes:
    """Return a header of v2 with a UNIQUE_ID and the TLVs in `received`, as far as there is
    room."""
    passed = tuple(each for each in received if each[0] != Type.CRC32C)
    if value_of(passed, Type.UNIQUE_ID) is None:
        passed += ((int(Type.UNIQUE_ID), unique_id(session)),)
    try:
        return build_v2(source, destination, is_udp=is_udp, tlvs=passed)
    except WireError:
        return build_v2(source, destination, is_udp=is_udp, tlvs=(*_seen(session), *passed[-1:]))


def _seen(session: Session) -> Tlvs:
    """Return what nginy itself knows of the client's TLS: all if it has terminated it, and only the
    name that the client asked for if it has read no more than the first message."""
    own = tlvs_of(session.client)
    hello = None if session.arrival is None else session.arrival.hello
    if own or hello is None or not hello.server_name:
        return own
    return ((int(Type.AUTHORITY), hello.server_name.encode("utf-8", "surrogateescape")),)


def unique_id(session: Session) -> bytes:
    """Return a name that no other session has on any host: host, process, its start and
    `$session_id`."""
    return _identity(os.getpid()) + b"%d" % session.number


@lru_cache(maxsize=1)
def _identity(pid: int) -> bytes:
    """Return the beginning of all unique ids of a process; the time is that of the first one."""
    node = os.uname().nodename[:NODE_MAX_CHARACTERS]
    return f"{node}-{pid:x}-{time.time_ns() // 1_000_000:x}-".encode()


@lru_cache(maxsize=REPEATED_MAX)
def _repeated(destination: AnyHost, is_udp: bool, pid: int) -> RepeatedHeader:
    return RepeatedHeader(destination, _identity(pid), is_udp=is_udp)


def _place(sockaddr: tuple[str, int] | tuple[str, int, int, int] | str) -> HeaderAddress:
    return sockaddr if isinstance(sockaddr, str) else (sockaddr[0], sockaddr[1])
