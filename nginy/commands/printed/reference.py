"""The configuration language for people: `nginy --help-config` prints every key and variable.

The page is Markdown, 100 columns wide, so a terminal shows it as well. It comes from the table of
config/schema.py, so a new key appears here by itself: the page shows all records below that of the
whole file. The table of variables has functions only, so their sentences are here; a test checks
that none is missing.
"""

import re
import textwrap
from collections.abc import Iterator
from typing import Final

from nginy.config.logs import LOG_FORMATS
from nginy.config.record import Entry, Key, Record, records_of
from nginy.config.schema import CONFIG, NOT_FOR_DEFAULTS
from nginy.proxy.variables import KEY_VARIABLES

WIDTH: Final = 100
"""Columns of the page, as of the project's own texts."""

INTRODUCTION: Final = f"""# The configuration of nginy

A YAML file. Durations are `500ms`, `10s`, `1m30s`, `2h` or `7d`; sizes `512`, `16k` or `1m`. A key
that takes a list also takes a single item. `${{NAME}}` and `${{NAME:-default}}` stand for variables
of the environment, in values only. A relative path starts at the directory of its file.

Two more keys may be at the top of a file. `include` is a path, a pattern such as `conf.d/*.yml`, or
a list of these; nginy joins those files with this one. `defaults` holds keys of listeners and
upstreams, for those that do not set them: any key except
{", ".join(f"`{name}`" for name in sorted(NOT_FOR_DEFAULTS))}.
"""

VARIABLES_ABOUT: Final = {
    "binary_remote_addr": "The client's address as 4 or 16 bytes, for keys, as in nginx.",
    "bytes_received": "Bytes received from the client.",
    "bytes_sent": "Bytes sent to the client.",
    "connection": "The session's number, counted from the start of the process.",
    "hostname": "The name of this machine.",
    "limit_conn_status": "PASSED, REJECTED or REJECTED_DRY_RUN; empty without limit_conn.",
    "listener": "The listener's name, or its address.",
    "msec": "The time in seconds, with milliseconds.",
    "nginy_version": "The version of nginy.",
    "pid": "The id of the process that served the session.",
    "protocol": "TCP or UDP.",
    "proxy_protocol_addr": "The client's address in a PROXY header, which has the next ones, too.",
    "proxy_protocol_port": "The client's port in it.",
    "proxy_protocol_server_addr": "The address in it that the client connected to.",
    "proxy_protocol_server_port": "The port in it that the client connected to.",
    "proxy_protocol_tlv_alpn": "A TLV of it by nginx's name, or by number as in ..._tlv_0xE0.",
    "proxy_protocol_tlv_authority": "The host name that the client asked the proxy for.",
    "proxy_protocol_tlv_netns": "The network namespace that the client came from.",
    "proxy_protocol_tlv_ssl": "What the proxy says about the client's TLS, as bytes.",
    "proxy_protocol_tlv_ssl_cipher": "The client's cipher.",
    "proxy_protocol_tlv_ssl_cn": "The common name in the client's certificate.",
    "proxy_protocol_tlv_ssl_key_alg": "The algorithm of the certificate's key.",
    "proxy_protocol_tlv_ssl_sig_alg": "The algorithm of the certificate's signature.",
    "proxy_protocol_tlv_ssl_verify": "0 if the client's certificate is valid.",
    "proxy_protocol_tlv_ssl_version": "The version of TLS.",
    "proxy_protocol_tlv_unique_id": "The proxy's id of the connection.",
    "realip_remote_addr": "The peer's address, even if remote_addr is an announced client's.",
    "realip_remote_port": "The peer's port, likewise.",
    "reason": "Why the session ended, in a sentence.",
    "remote_addr": "The client's address.",
    "remote_net": "The client's network: /32 with IPv4, /64 with IPv6.",
    "remote_port": "The client's port.",
    "requests": "The client's datagrams; 1 with TCP.",
    "responses": "The backend's datagrams; with TCP 1 if it answered, else 0.",
    "server_addr": "The address that the client connected to.",
    "server_port": "The port that the client connected to.",
    "session_id": "The same as $connection.",
    "session_time": "How long the session took, in seconds with milliseconds.",
    "ssl_alpn_protocol": "The protocol that client and nginy agreed on (ALPN).",
    "ssl_cipher": "The cipher of the client's TLS.",
    "ssl_client_fingerprint": "The client certificate's SHA1 fingerprint.",
    "ssl_client_i_dn": "The issuer of the client's certificate.",
    "ssl_client_s_dn": "The subject of the client's certificate.",
    "ssl_client_serial": "The serial number of the client's certificate.",
    "ssl_client_v_end": "When the client's certificate expires.",
    "ssl_client_v_remain": "The days until then.",
    "ssl_client_v_start": "When the client's certificate became valid.",
    "ssl_client_verify": "SUCCESS, or NONE without a client certificate.",
    "ssl_preread_alpn_protocols": "Protocols it offers (ALPN), as a,b; only if a route needs it.",
    "ssl_preread_protocol": "The highest version of TLS that the client offers, likewise.",
    "ssl_preread_server_name": "The server that it asks for (SNI); only if its route needs it.",
    "ssl_protocol": "The version of the client's TLS.",
    "ssl_server_name": "The server that the client asked for (SNI).",
    "ssl_session_reused": "r if the client resumed a session, otherwise a dot.",
    "status": "200 for a normal end, 400, 403, 500, 502 or 503, as in nginx.",
    "termination": "Two letters that say who ended the session and when, as in HAProxy.",
    "time_iso8601": "The local time as 2026-01-31T12:00:00+01:00.",
    "time_local": "The local time as 31/Jan/2026:12:00:00 +0100.",
    "upstream_addr": "The backends tried, separated by commas, as are the next values.",
    "upstream_bytes_received": "Bytes received from each backend.",
    "upstream_bytes_sent": "Bytes sent to each backend.",
    "upstream_connect_time": "Seconds until each backend accepted; - if it did not.",
    "upstream_first_byte_time": "Seconds until the first byte of each backend.",
    "upstream_session_time": "Seconds that each backend had the session.",
    "upstream_ssl_alpn_protocol": "The protocol that backend and nginy agreed on (ALPN).",
    "upstream_ssl_cipher": "The cipher of the backend's TLS.",
    "upstream_ssl_protocol": "The version of TLS.",
    "upstream_ssl_server_fingerprint": "The SHA1 fingerprint of the backend's certificate.",
    "upstream_ssl_server_i_dn": "The certificate's issuer.",
    "upstream_ssl_server_name": "The name that nginy sent to the backend (SNI).",
    "upstream_ssl_server_s_dn": "The certificate's subject.",
    "upstream_ssl_server_serial": "Its serial number.",
    "upstream_ssl_session_reused": "r if a session was resumed, otherwise a dot.",
}

VARIABLES_TEXT: Final = """\
A log format may use all of these. Hash keys, keys of limits and `return` may use those with a star,
which are known when a session begins. The key `variables` defines others: a session computes one
when it first needs it, and keeps the value.
"""


def render_reference() -> str:
    """Return the page, each record after the one that holds it, and the variables at the end."""
    sections: dict[str, str] = {}
    for path, record in records_of(CONFIG):
        sections.setdefault(record.noun, _section(path, record))
    return "\n".join([INTRODUCTION, *sections.values(), _formats(), _variables()])


def _section(path: str, record: Record[Entry]) -> str:
    """Return a heading and an item for each key."""
    lines = [f"## {path or 'The whole file'}", ""]
    for row in record.keys.values():
        lines += _item(row)
    return "\n".join(lines) + "\n"


def _item(row: Key[object]) -> Iterator[str]:
    """Yield a key with its values and its default, and a sentence about it."""
    only = f" Only with {row.only}." if row.only is not None else ""
    yield from _wrapped(f"`{row.name}`: {row.kind.expected}. {_default(row)}", "- ")
    yield from _wrapped(f"{row.about}{only}", "  ")


def _default(row: Key[object]) -> str:
    if row.default is None:
        return "Must be set."
    udp = f", with udp `{row.udp_default}`" if row.udp_default is not None else ""
    return f"Default: `{row.default}`{udp}." if row.default else "Default: none."


def _formats() -> str:
    """Return the ready-made log formats."""
    members = ", ".join(re.findall(r'"(\w+)":', LOG_FORMATS["json"].text))
    lines = [
        "## Log formats",
        "",
        *_wrapped(f"`main`: {LOG_FORMATS['main'].text}", "- "),
        *_wrapped(f"`json`: a JSON object with the members {members}", "- "),
    ]
    return "\n".join(lines) + "\n"


def _variables() -> str:
    """Return the variables that texts may use."""
    lines = ["## Variables", "", VARIABLES_TEXT]
    for name, about in VARIABLES_ABOUT.items():
        mark = " *" if name in KEY_VARIABLES else ""
        lines.append(f"- `${name}`{mark}: {about}")
    return "\n".join(lines) + "\n"


def _wrapped(text: str, bullet: str) -> list[str]:
    """Return a paragraph of an item as lines; only the first has the bullet."""
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=bullet,
        subsequent_indent="  ",
        break_long_words=False,
        break_on_hyphens=False,
    )
