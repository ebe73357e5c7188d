"""The table of the options after an address, in bind lines and in server lines.

`arguments` says how many words follow each option; the rest is as in table.py. A test compares with
the manual.

Source: HAProxy's configuration manual 3.5, 5.1 "Bind options", 5.2 "Server and default-server
options".

Tested in tests/commands/importing/haproxy/test_table.py.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from nginy.commands.importing.haproxy.table import (
    HTTP,
    NAMES_ONLY,
    OWN_PAGE,
    UNNOTICED,
    Row,
    close,
    key,
    none,
    same,
)
from nginy.errors import InvalidValueError

ALPN_OF_HTTP: Final = "h2 and http/1.1 are offered only if alpn names them"
OPENSSL: Final = "nginy leaves this to OpenSSL"
NO_CRL: Final = "nginy reads no lists of revoked certificates: a revoked one is accepted"
OLD_TLS: Final = "nginy speaks TLS 1.2 and 1.3 only: older peers are refused"
NO_OLD_TLS: Final = "nginy speaks TLS 1.2 and 1.3 only"
THREADS: Final = f"nginy has processes and no threads; {UNNOTICED}"
QUIC: Final = "nginy does not speak QUIC; it passes it on as UDP"
REVERSE: Final = "nginy has no reverse HTTP"
KERNEL: Final = f"the system's setting applies; {UNNOTICED}"


def _words(row: Row, *words: str) -> dict[str, Row]:
    return dict.fromkeys(words, row)


BIND: Final[Mapping[str, Row]] = {
    "accept-netscaler-cip": none("nginy does not read this header; the stream has it", "f", 1),
    "accept-proxy": key("accept_proxy_protocol: {from: all}"),
    "allow-0rtt": none("clients that offer early data make a full handshake"),
    "alpn": key("tls: {alpn: ...}", "f", 1),
    "backlog": key("backlog", "f", 1),
    "ca-file": key("tls: {client_ca: ...}", "f", 1),
    "ca-ignore-err": none("nginy accepts no client certificate with an error", "f", 1),
    "ca-sign-file": none("nginy makes no certificates", "f", 1),
    "ca-sign-pass": none("nginy makes no certificates", "f", 1),
    "ca-verify-file": none("nginy has one file of authorities; put both into it", "f", 1),
    "cc": none(KERNEL, "f", 1),
    "ciphers": key("tls: {ciphers: ...}", "f", 1),
    "ciphersuites": none(f"{OPENSSL}: all ciphers of TLS 1.3 are in use", "f", 1),
    "client-sigalgs": none(OPENSSL, "f", 1),
    "crl-file": none(NO_CRL, "f", 1),
    "crt": key("tls: {certificates: ...}", "f", 1),
    "crt-ignore-err": none("nginy accepts no client certificate with an error", "f", 1),
    "crt-list": none("the certificates in this list are not shown to clients", "f", 1),
    "curves": none(OPENSSL, "f", 1),
    "default-crt": key("tls: {certificates: ...}", "f", 1),
    "defer-accept": none(f"nginy accepts a client at once; {UNNOTICED}"),
    "ecdhe": none(OPENSSL, "f", 1),
    "ech": none("clients that offer ECH get the certificate of the outer name", "f", 1),
    "expose-fd": none(OWN_PAGE, "f", 1),
    "force-sslv3": none(OLD_TLS),
    "force-tlsv10": none(OLD_TLS),
    "force-tlsv11": none(OLD_TLS),
    "force-tlsv12": key("tls: {protocols: TLSv1.2}"),
    "force-tlsv13": key("tls: {protocols: TLSv1.3}"),
    "generate-certificates": none("nginy makes no certificates"),
    "gid": none("a unix socket belongs to nginy's group", "f", 1),
    "group": none("a unix socket belongs to nginy's group", "f", 1),
    "guid-prefix": none(NAMES_ONLY, "f", 1),
    "id": none(NAMES_ONLY, "f", 1),
    "idle-ping": none(HTTP, "f", 1),
    "interface": none("nginy accepts clients on all interfaces; bind to an address", "f", 1),
    "ktls": none(f"nginy encrypts itself; {UNNOTICED}", "f", 1),
    "label": none(NAMES_ONLY, "f", 1),
    "level": none(OWN_PAGE, "f", 1),
    "maxconn": close("limit_conn", "f", 1),
    "mode": none("nginy leaves the permissions of a unix socket to the umask", "f", 1),
    "mss": none(KERNEL, "f", 1),
    "name": key("name", "f", 1),
    "namespace": none("nginy binds in its own network namespace", "f", 1),
    "nbconn": none(REVERSE, "f", 1),
    "nice": none(f"nginy treats all sessions alike; {UNNOTICED}", "f", 1),
    "no-alpn": key("tls, without alpn"),
    "no-ca-names": none(f"nginy tells clients its authorities; {UNNOTICED}"),
    "no-sslv3": same(NO_OLD_TLS),
    "no-strict-sni": key("tls: {unknown_sni: default}"),
    "no-tls-tickets": key("tls: {session_tickets: off}"),
    "no-tlsv10": same(NO_OLD_TLS),
    "no-tlsv11": same(NO_OLD_TLS),
    "no-tlsv12": key("tls: {protocols: TLSv1.3}"),
    "no-tlsv13": key("tls: {protocols: TLSv1.2}"),
    "npn": none("NPN is obsolete; clients use ALPN", "f", 1),
    "prefer-client-ciphers": none(f"{OPENSSL}; {UNNOTICED}"),
    "process": none(THREADS, "f", 1),
    "proto": none(HTTP, "f", 1),
    "quic-cc-algo": none(QUIC, "f", 1),
    "quic-force-retry": none(QUIC),
    "quic-socket": none(QUIC, "f", 1),
    "severity-output": none(OWN_PAGE, "f", 1),
    "shards": none(THREADS, "f", 1),
    "sigalgs": none(OPENSSL, "f", 1),
    "ssl": key("tls"),
    "ssl-max-ver": key("tls: {protocols: ...}", "f", 1),
    "ssl-min-ver": key("tls: {protocols: ...}", "f", 1),
    "strict-sni": close("tls: {unknown_sni: reject}"),
    "tcp-md5sig": none("nginy signs no segments: a peer that demands it fails", "f", 1),
    "tcp-ss": none(f"nginy keeps no SYN packets; {UNNOTICED}", "f", 1),
    "tcp-ut": none("proxy_timeout ends sessions whose client is gone", "f", 1),
    "tfo": none("connecting takes one round trip more than with TCP Fast Open"),
    "thread": none(THREADS, "f", 1),
    "tls-ticket-keys": none("each nginy has its own ticket keys; others resume nothing", "f", 1),
    "tls-tickets": key("tls: {session_tickets: on}"),
    "transparent": key("freebind"),
    "uid": none("a unix socket belongs to nginy's user", "f", 1),
    "user": none("a unix socket belongs to nginy's user", "f", 1),
    "v4v6": key("listen, with the IPv4 address as well"),
    "v6only": key("listen"),
    "verify": key("tls: {verify_client: ...}", "f", 1),
}

SERVER: Final[Mapping[str, Row]] = {
    "addr": none("nginy checks a backend at its own address", "b", 1),
    "agent-addr": none("nginy asks the agent at the backend's own address", "b", 1),
    "agent-check": key("agent_check", "b"),
    "agent-inter": key("agent_check: {interval: ...}", "b", 1),
    "agent-port": key("agent_check: {port: ...}", "b", 1),
    "agent-send": key("agent_check: {send: ...}", "b", 1),
    "allow-0rtt": none("nginy sends no early data", "b"),
    "alpn": key("proxy_tls: {alpn: ...}", "b", 1),
    "backup": key("backup", "b"),
    "ca-file": key("proxy_tls: {ca: ...}", "b", 1),
    "cc": none(KERNEL, "b", 1),
    "check": key("health_check", "b"),
    "check-alpn": none("checks offer no protocols", "b", 1),
    "check-pool-conn-name": none(HTTP, "b", 1),
    "check-proto": none(HTTP, "b", 1),
    "check-reuse-pool": none(HTTP, "b"),
    "check-send-proxy": close("checks of a backend with proxy_protocol send a header", "b"),
    "check-sni": key("health_check: {name: ...}", "b", 1),
    "check-sni-auto": same("checks name the backend's own host", "b"),
    "check-ssl": key("health_check: {type: tls} or {type: https}", "b"),
    "check-via-socks4": none("nginy does not speak SOCKS", "b"),
    "ciphers": key("proxy_tls: {ciphers: ...}", "b", 1),
    "ciphersuites": none(OPENSSL, "b", 1),
    "client-sigalgs": none(OPENSSL, "b", 1),
    "cookie": none(HTTP, "b", 1),
    "crl-file": none(NO_CRL, "b", 1),
    "crt": key("proxy_tls: {certificate: ..., key: ...}", "b", 1),
    "curves": none(OPENSSL, "b", 1),
    "disabled": key("down", "b"),
    "downinter": key("health_check: {interval_down: ...}", "b", 1),
    "enabled": key("down: off", "b"),
    "error-limit": close("max_fails", "b", 1),
    "fall": key("health_check: {fails: ...}", "b", 1),
    "fastinter": key("health_check: {interval_changing: ...}", "b", 1),
    "force-sslv3": none(OLD_TLS, "b"),
    "force-tlsv10": none(OLD_TLS, "b"),
    "force-tlsv11": none(OLD_TLS, "b"),
    "force-tlsv12": key("proxy_tls: {protocols: TLSv1.2}", "b"),
    "force-tlsv13": key("proxy_tls: {protocols: TLSv1.3}", "b"),
    "guid": none(NAMES_ONLY, "b", 1),
    "hash-key": none("nginy hashes the address of a backend", "b", 1),
    "healthcheck": none("nginy has no named checks; the upstream's own check applies", "b", 1),
    "id": none(NAMES_ONLY, "b", 1),
    "idle-ping": none(HTTP, "b", 1),
    "init-addr": close("nginy starts whether names resolve or not, and keeps asking", "b", 1),
    "init-state": key("health_check: {initial: ...}", "b", 1),
    "inter": key("health_check: {interval: ...}", "b", 1),
    "ktls": none(f"nginy encrypts itself; {UNNOTICED}", "b", 1),
    "log-bufsize": none("is for mode log", "b", 1),
    "log-proto": none("is for mode log", "b", 1),
    "max-reuse": none(HTTP, "b", 1),
    "maxconn": key("max_conns", "b", 1),
    "maxqueue": key("queue: {size: ...}", "b", 1),
    "minconn": none("max_conns is fixed, whatever the load", "b", 1),
    "namespace": none("nginy connects from its own network namespace", "b", 1),
    "no-agent-check": key("agent_check: off", "b"),
    "no-backup": key("backup: off", "b"),
    "no-check": key("health_check: off", "b"),
    "no-check-reuse-pool": none(HTTP, "b"),
    "no-check-sni-auto": same("checks name the backend's own host", "b"),
    "no-check-ssl": key("health_check", "b"),
    "no-renegotiate": none(OPENSSL, "b"),
    "no-send-proxy": key("proxy_protocol: off", "b"),
    "no-send-proxy-v2": key("proxy_protocol: off", "b"),
    "no-send-proxy-v2-ssl": key("proxy_protocol: off", "b"),
    "no-send-proxy-v2-ssl-cn": key("proxy_protocol: off", "b"),
    "no-sni-auto": none(HTTP, "b"),
    "no-ssl": key("proxy_tls: off", "b"),
    "no-ssl-reuse": none(f"nginy resumes sessions to the same backend; {UNNOTICED}", "b"),
    "no-sslv3": same(NO_OLD_TLS, "b"),
    "no-tfo": same("nginy does not use TCP Fast Open", "b"),
    "no-tls-tickets": none(f"nginy takes the tickets that a backend offers; {UNNOTICED}", "b"),
    "no-tlsv10": same(NO_OLD_TLS, "b"),
    "no-tlsv11": same(NO_OLD_TLS, "b"),
    "no-tlsv12": key("proxy_tls: {protocols: TLSv1.3}", "b"),
    "no-tlsv13": key("proxy_tls: {protocols: TLSv1.2}", "b"),
    "no-verifyhost": key("proxy_tls, without name", "b"),
    "non-stick": none("a hash sends clients to every backend", "b"),
    "npn": none("NPN is obsolete", "b", 1),
    "observe": close("max_fails", "b", 1),
    "on-error": close("max_fails", "b", 1),
    "on-marked-down": key("on_down: close", "b", 1),
    "on-marked-up": none("sessions of a backup stay there when the others are back", "b", 1),
    "pool-conn-name": none(HTTP, "b", 1),
    "pool-low-conn": none(HTTP, "b", 1),
    "pool-max-conn": none(HTTP, "b", 1),
    "pool-purge-delay": none(HTTP, "b", 1),
    "port": key("health_check: {port: ...}", "b", 1),
    "proto": none(HTTP, "b", 1),
    "proxy-v2-options": close("nginy's header has CRC32C, and TLS and SNI where known", "b", 1),
    "quic-cc-algo": none(QUIC, "b", 1),
    "redir": none(HTTP, "b", 1),
    "renegotiate": none(OPENSSL, "b"),
    "resolve-net": none("nginy uses all addresses of a name", "b", 1),
    "resolve-opts": none("each address of a name is a backend, once", "b", 1),
    "resolve-prefer": none("nginy uses all addresses of a name, of both families", "b", 1),
    "resolvers": key("resolve: on", "b", 1),
    "rise": key("health_check: {passes: ...}", "b", 1),
    "send-proxy": key("proxy_protocol: v1", "b"),
    "send-proxy-v2": key("proxy_protocol: v2", "b"),
    "send-proxy-v2-ssl": key("proxy_protocol: v2", "b"),
    "send-proxy-v2-ssl-cn": key("proxy_protocol: v2", "b"),
    "set-proxy-v2-tlv-fmt": none("nginy's header has no custom TLVs", "b", 1),
    "shard": none("nginy has no peers", "b", 1),
    "sigalgs": none(OPENSSL, "b", 1),
    "slowstart": key("slow_start", "b", 1),
    "sni": key("proxy_tls: {name: ..., sni: on}", "b", 1),
    "sni-auto": none(HTTP, "b"),
    "socks4": none("nginy does not speak SOCKS, and connects directly", "b", 1),
    "source": key("proxy_bind", "b", 1),
    "ssl": key("proxy_tls", "b"),
    "ssl-max-ver": key("proxy_tls: {protocols: ...}", "b", 1),
    "ssl-min-ver": key("proxy_tls: {protocols: ...}", "b", 1),
    "ssl-reuse": same("nginy resumes sessions to the same backend", "b"),
    "stick": same("clients stay with a backend where balance hashes them", "b"),
    "strict-maxconn": same("max_conns counts connections", "b"),
    "tcp-md5sig": none("nginy signs no segments: a peer that demands it refuses nginy", "b", 1),
    "tcp-ut": none("proxy_timeout ends sessions whose backend is gone", "b", 1),
    "tfo": none("connecting takes one round trip more than with TCP Fast Open", "b"),
    "tls-tickets": same("nginy takes the tickets that a backend offers", "b"),
    "track": key("health_check; a server in several upstreams is checked once", "b", 1),
    "verify": key("proxy_tls: {verify: ...}", "b", 1),
    "verifyhost": key("proxy_tls: {name: ...}", "b", 1),
    "weight": key("weight", "b", 1),
    "ws": none(HTTP, "b", 1),
}

OPPOSITES: Final[Mapping[str, tuple[str, ...]]] = {
    "enabled": ("disabled",),
    "no-agent-check": ("agent-check",),
    "no-backup": ("backup",),
    "no-check": ("check",),
    "no-check-ssl": ("check-ssl",),
    "no-send-proxy": ("send-proxy",),
    "no-send-proxy-v2": ("send-proxy-v2",),
    "no-send-proxy-v2-ssl": ("send-proxy-v2-ssl",),
    "no-send-proxy-v2-ssl-cn": ("send-proxy-v2-ssl-cn",),
    "no-ssl": ("ssl",),
    "no-verifyhost": ("verifyhost",),
    "no-alpn": ("alpn",),
    "no-strict-sni": ("strict-sni",),
    "tls-tickets": ("no-tls-tickets",),
}
"""Options that undo others."""


@dataclass(frozen=True, slots=True)
class Option:
    """An option with the words after it."""

    name: str
    values: tuple[str, ...]

    @property
    def value(self) -> str:
        """The first word after it; "" if there is none."""
        return self.values[0] if self.values else ""

    @property
    def text(self) -> str:
        """The option as written."""
        return " ".join((self.name, *self.values))


def parse_options(words: Sequence[str], table: Mapping[str, Row]) -> Iterator[Option]:
    """Yield the options of a line; those that the table lacks have no values.

    Raise InvalidValueError for an option whose value is missing.
    """
    at = 0
    while at < len(words):
        name = words[at].partition("(")[0]
        row = table.get(name)
        count = row.arguments if row is not None else 0
        end = at + 1 + count
        if end > len(words):
            raise InvalidValueError(f'has no value after "{name}"')
        if name == "source" and end < len(words) and words[end] in ("usesrc", "interface"):
            end += 2
        yield Option(name, tuple(words[at + 1 : end]))
        at = end
