"""Variables: what "$remote_addr" and the like stand for, in log formats, hash keys and built-in
answers.

One table, from a name to a Python expression about the session `s`. Names and meanings are nginx's
(`ngx_stream_variables.c`, `ngx_stream_upstream.c`), except for nginy's own `$termination`,
`$reason`, `$session_id`, `$requests` and `$responses`.

`proxy/texts.py` compiles texts with variables. A configuration may define variables of its own
(`proxy/lookups.py`).
"""

import os
import re
import socket
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Final

from nginy import __version__
from nginy.proxy.context import host_of, net_of, packed_of, port_of
from nginy.proxy.lookups import Definition
from nginy.proxy.phases.arrival import NO_HEADER
from nginy.proxy.session import Session
from nginy.proxy.tls_facts import OF_BACKENDS, OF_CLIENTS, fact_of
from nginy.text.address import SockAddr
from nginy.wire.client_hello import NOT_TLS, Hello
from nginy.wire.proxy_protocol import Header, HeaderAddress
from nginy.wire.proxy_tlv import SslType, Type, parse_ssl, value_of

Render = Callable[[Session], str]
"""Fills in a text's variables for a session."""

REFERENCE: Final = re.compile(r"\$(?:(\w+)|\{(\w+)\})", re.ASCII)
_NAMES: Final = re.compile(r"\$(?:(\w*)|\{(\w+)\})", re.ASCII)
NUMBERED: Final = re.compile(r"proxy_protocol_tlv_(0x[0-9A-Fa-f]{2})", re.ASCII)

TLV_NAMES: Final[Mapping[str, int]] = {
    "alpn": Type.ALPN,
    "authority": Type.AUTHORITY,
    "unique_id": Type.UNIQUE_ID,
    "ssl": Type.SSL,
    "netns": Type.NETNS,
    "ssl_verify": 0,
    "ssl_version": SslType.VERSION,
    "ssl_cn": SslType.CN,
    "ssl_cipher": SslType.CIPHER,
    "ssl_sig_alg": SslType.SIG_ALG,
    "ssl_key_alg": SslType.KEY_ALG,
}
"""nginx's names of TLVs (`ngx_proxy_protocol.c`), those with ssl_ from within the TLV ssl."""


@dataclass(frozen=True, slots=True)
class Variable:
    """How to compute a value: an expression about the session `s`, of any type."""

    expression: str
    is_foreign: bool = False
    """Whether strangers choose its letters, which then must be escaped."""
    may_be_empty: bool = False


def seconds(duration_ms: int) -> str:
    """Return a duration as nginx's variables have it: 0.005."""
    return f"{duration_ms // 1000}.{duration_ms % 1000:03}"


def _since(start_ms: int, end_ms: int | None) -> str:
    return "-" if end_ms is None else seconds(end_ms - start_ms)


def _listed(value: str) -> Variable:
    """Make a variable that is a comma-separated list of `value`, over the attempts `a`.

    Nearly always there is one attempt; the loop is for the others.
    """
    first = f"(lambda a: {value})(s.attempts[0])"
    every = f"', '.join([str({value}) for a in s.attempts])"
    return Variable(f"{first} if len(s.attempts) == 1 else {every}", may_be_empty=True)


def _header_of(session: Session) -> Header:
    """Return the PROXY header of a session's client, an empty one if it sent none."""
    return NO_HEADER if session.arrival is None else session.arrival.header


def _peer_of(session: Session) -> SockAddr:
    """Return the address of the socket's peer, which may be a proxy in front of the client."""
    arrival = session.arrival
    return session.client.sockaddr if arrival is None else arrival.real_sockaddr


def _addr_of(place: HeaderAddress | None) -> str:
    """Return the IP address that a PROXY header names, "" if it names none."""
    return "" if place is None else host_of(place)


def _tlv_of(session: Session, name: str) -> str:
    """Return what a TLV says, "" if there is none; bytes that are not UTF-8 as \\xNN.

    nginx: `ngx_proxy_protocol_get_tlv` in `ngx_proxy_protocol.c`.
    """
    tlvs = _header_of(session).tlvs
    if name.startswith("0x"):
        value = value_of(tlvs, int(name, 16))
    else:
        kind = TLV_NAMES[name]
        if name.startswith("ssl_"):
            block = value_of(tlvs, Type.SSL)
            info = None if block is None else parse_ssl(block)
            if info is not None and name == "ssl_verify":
                return str(info.verify)
            value = None if info is None else info.value(kind)
        else:
            value = value_of(tlvs, kind)
    return "" if value is None else value.decode(errors="backslashreplace")


def _hello_of(session: Session) -> Hello:
    """Return what the client's first bytes say, an empty hello if nobody has looked."""
    arrival = session.arrival
    return NOT_TLS if arrival is None or arrival.hello is None else arrival.hello


def _limit_status_of(session: Session) -> str:
    return "" if session.arrival is None else session.arrival.limit_status


def tlv(argument: str) -> Variable:
    """Return the variable of a TLV whose name, or number, is a Python expression."""
    return Variable(f"tlv_of(s, {argument})", is_foreign=True, may_be_empty=True)


def _fact(expression: str) -> Variable:
    return Variable(f"fact_of({expression})", is_foreign=True, may_be_empty=True)


TLS_FACTS: Final[Mapping[str, Variable]] = {
    f"ssl_{name}": _fact(f"s.client, of_clients[{name!r}]") for name in OF_CLIENTS
}
"""Of a client's TLS: known once the handshake is over, and "" before."""

UPSTREAM_TLS_FACTS: Final[Mapping[str, Variable]] = {
    f"upstream_ssl_{name}": _fact(f"s.upstream, of_backends[{name!r}]") for name in OF_BACKENDS
}

FIXED: Final[Mapping[str, Variable]] = {
    "binary_remote_addr": Variable("packed_of(s.client.sockaddr)", is_foreign=True),
    "bytes_received": Variable("s.bytes_received"),
    "bytes_sent": Variable("s.bytes_sent"),
    "connection": Variable("s.number"),
    "hostname": Variable("hostname", is_foreign=True),
    "listener": Variable("s.handler.name", is_foreign=True),
    "nginy_version": Variable(repr(__version__)),
    "pid": Variable("getpid()"),
    "proxy_protocol_addr": Variable("addr_of(header_of(s).source)", may_be_empty=True),
    "proxy_protocol_port": Variable("port_of(header_of(s).source)", may_be_empty=True),
    "proxy_protocol_server_addr": Variable("addr_of(header_of(s).destination)", may_be_empty=True),
    "proxy_protocol_server_port": Variable("port_of(header_of(s).destination)", may_be_empty=True),
    **{f"proxy_protocol_tlv_{name}": tlv(repr(name)) for name in TLV_NAMES},
    "protocol": Variable("s.handler.protocol"),
    "limit_conn_status": Variable("limit_status_of(s)", may_be_empty=True),
    "realip_remote_addr": Variable("host_of(peer_of(s))"),
    "realip_remote_port": Variable("port_of(peer_of(s))", may_be_empty=True),
    "reason": Variable("s.reason", is_foreign=True, may_be_empty=True),
    "remote_addr": Variable("host_of(s.client.sockaddr)"),
    "remote_net": Variable("net_of(s.client.sockaddr)"),
    "remote_port": Variable("port_of(s.client.sockaddr)", may_be_empty=True),
    "requests": Variable("s.requests"),
    "responses": Variable("s.responses"),
    "server_addr": Variable("s.context.server_addr", is_foreign=True),
    "server_port": Variable("s.context.server_port", may_be_empty=True),
    "session_id": Variable("s.number"),
    "session_time": Variable("seconds(s.client.loop.clock.now_ms - s.client.start_time_ms)"),
    "ssl_preread_alpn_protocols": Variable(
        "','.join(hello_of(s).alpn)", is_foreign=True, may_be_empty=True
    ),
    "ssl_preread_protocol": Variable("hello_of(s).version", may_be_empty=True),
    "ssl_preread_server_name": Variable(
        "hello_of(s).server_name", is_foreign=True, may_be_empty=True
    ),
    "status": Variable("f'{s.status:03}'"),
    "termination": Variable("s.termination", may_be_empty=True),
    "upstream_addr": Variable(
        "', '.join([a.address for a in s.attempts])", is_foreign=True, may_be_empty=True
    ),
    "upstream_bytes_received": _listed("a.bytes_received"),
    "upstream_bytes_sent": _listed("a.bytes_sent"),
    "upstream_connect_time": _listed("since(a.started_at_ms, a.connected_at_ms)"),
    "upstream_first_byte_time": _listed("since(a.started_at_ms, a.first_byte_at_ms)"),
    "upstream_session_time": _listed("since(a.started_at_ms, a.ended_at_ms)"),
    **TLS_FACTS,
    **UPSTREAM_TLS_FACTS,
}
"""Variables that need nothing but the session."""

TIMES: Final[Mapping[str, Variable]] = {
    "msec": Variable("seconds(wall_ms())"),
    "time_iso8601": Variable("now().iso8601"),
    "time_local": Variable("now().local"),
}
"""Variables that need the time of day."""

VARIABLES: Final = frozenset((*FIXED, *TIMES))
"""All names that a text may use, except those of TLVs by number."""

PREREAD_VARIABLES: Final = frozenset(
    ("ssl_preread_alpn_protocols", "ssl_preread_protocol", "ssl_preread_server_name")
)
"""Names whose values come from the first bytes of clients; empty where nobody looks at those."""

KEY_VARIABLES: Final = frozenset(
    (
        *("protocol", "remote_addr", "remote_port", "server_addr", "server_port", "listener"),
        *("binary_remote_addr", "realip_remote_addr", "realip_remote_port", "remote_net"),
        *("connection", "hostname", "nginy_version", "pid", "session_id"),
        *(name for name in FIXED if name.startswith("proxy_protocol_")),
        *TLS_FACTS,
        *TIMES,
        *PREREAD_VARIABLES,
    )
)
"""Names that a hash key or an answer may use: those that are known when a session begins."""

NONE_DEFINED: Final[Mapping[str, Definition]] = {}


FUNCTIONS: Final = {
    "addr_of": _addr_of,
    "fact_of": fact_of,
    "getpid": os.getpid,
    "header_of": _header_of,
    "hello_of": _hello_of,
    "host_of": host_of,
    # In lower case, as in nginx.
    "hostname": socket.gethostname().lower(),
    "limit_status_of": _limit_status_of,
    "net_of": net_of,
    "of_backends": OF_BACKENDS,
    "of_clients": OF_CLIENTS,
    "packed_of": packed_of,
    "peer_of": _peer_of,
    "port_of": port_of,
    "seconds": seconds,
    "since": _since,
    "tlv_of": _tlv_of,
}
"""What the expressions call."""


def names_in(text: str) -> list[str]:
    """Return the names of the variables in a text, in their order; "" after a "$" alone."""
    return [match[1] or match[2] or "" for match in _NAMES.finditer(text)]


def needs_preread(text: str, definitions: Mapping[str, Definition]) -> bool:
    """Whether a variable in `text`, or one that it depends on, comes from the client's first
    bytes."""
    return bool(needed(text, PREREAD_VARIABLES, definitions))


def needed(text: str, names: Collection[str], definitions: Mapping[str, Definition]) -> str:
    """Return the first of `names` that `text` needs, itself or by others; "" if it needs none."""
    for name in names_in(text):
        if name in names:
            return name
        defined = definitions.get(name)
        texts = () if defined is None else (defined.source, *defined.values)
        # Without this one, as a configuration that nginy still checks may lead in a circle.
        others = {key: each for key, each in definitions.items() if key != name}
        found = next(filter(None, (needed(each, names, others) for each in texts)), "")
        if found:
            return found
    return ""


def is_variable(name: str, names: frozenset[str]) -> bool:
    """Tell whether a text that may use `names` may use this one: a TLV's number goes anywhere."""
    return name in names or NUMBERED.fullmatch(name) is not None
