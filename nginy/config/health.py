"""The keys of health: checks, load checks, ejection.

The records here are keys of an upstream (schema.py), with the names of nginx Plus and HAProxy where
those have the key. building/health.py turns them into the settings of backend/checks/settings.py
and its neighbors. checking/health.py checks the rules that span these keys.

The functions of wire/ that will use a text also check it here, so a text that they refuse is an
error of the file, with its place, and not a failure of the first check.
"""

# ruff: noqa: RUF009 - key() makes a field, as dataclasses.field() does

import re
from dataclasses import dataclass
from typing import Final

from nginy.config.addresses import IpAddress
from nginy.config.command import Command
from nginy.config.node import Mark
from nginy.config.pem import CERTIFICATE, PRIVATE_KEY, Pem, PemFile
from nginy.config.record import Entry, MapOf, Record, Switch, key
from nginy.config.secrets import (
    Secret,
    SecretFile,
    hide_arguments,
    hide_query,
    secret,
    secret_in_part,
)
from nginy.config.steps import BYTES, EXPECT, STEPS, Step, WireText
from nginy.config.types import (
    Choice,
    Duration,
    Flag,
    Integer,
    OrOff,
    Plain,
    ScalarKind,
    Text,
)
from nginy.errors import InvalidValueError
from nginy.event.tls_client import ClientTls
from nginy.wire.dns_names import is_host_name
from nginy.wire.expect import unescape
from nginy.wire.http import build_request, parse_statuses

DURATION: Final = Duration()
PORT: Final = Integer(1, 65535)
POSITIVE: Final = Integer(1)

# Their tables keep each key at its backend even if weights change.
HASH_METHODS: Final = frozenset({"hash", "maglev", "rendezvous"})

CHECK_TYPES: Final = (
    *("tcp", "udp", "http", "https", "tls", "exec"),
    *("redis", "mysql", "postgres", "smtp", "pop3", "imap", "ldap", "mqtt", "ssh"),
    *("dns", "ntp", "sip", "radius"),
)
RECORDS: Final = ("A", "AAAA", "SRV", "NS", "SOA", "MX", "TXT")
UDP_TYPES: Final = ("udp", "ntp", "sip", "radius")
HTTP_TYPES: Final = ("http", "https")
TLS_TYPES: Final = ("tls", "https")
# Keys that mean something to some types only.
KEYS_OF_TYPES: Final = {
    "port": tuple(name for name in CHECK_TYPES if name != "exec"),
    "send": ("tcp", "udp", "tls"),
    "expect": ("tcp", "udp", "tls", *HTTP_TYPES),
    "steps": ("tcp", "udp", "tls"),
    "path": HTTP_TYPES,
    "host": HTTP_TYPES,
    "method": HTTP_TYPES,
    "headers": HTTP_TYPES,
    "body": HTTP_TYPES,
    "status": (*HTTP_TYPES, "sip"),
    "name": (*TLS_TYPES, "dns"),
    "verify": TLS_TYPES,
    "ca": TLS_TYPES,
    "certificate": TLS_TYPES,
    "key": TLS_TYPES,
    "record": ("dns",),
    "rcode": ("dns",),
    "address": ("dns",),
    "transport": ("dns",),
    "command": ("exec",),
    "role": ("redis", "mysql", "postgres"),
    "user": ("redis", "mysql", "postgres", "mqtt"),
    "password_file": ("redis", "mysql", "postgres", "mqtt", "radius"),
    "database": ("postgres",),
}


class Share(ScalarKind[float]):
    """A share of a group."""

    expected = "a number above 0 and up to 1, such as 0.3"

    def parse(self, text: str, mark: Mark) -> float:
        """Return the number."""
        if not re.fullmatch(r"[0-9]?\.?[0-9]{1,9}", text, re.ASCII):
            raise InvalidValueError("is not valid")
        share = float(text)
        if share > 1:
            raise InvalidValueError("is too large")
        if not share:
            raise InvalidValueError("would never apply", "off")
        return share

    def write(self, value: float) -> Plain:
        """Return the shortest text."""
        return f"{value:.9f}".rstrip("0").rstrip(".")


TIMEOUT_MS: Final = 1000
PORT_OF_HOST: Final = re.compile(r":[0-9]+\Z")


@dataclass(frozen=True, slots=True, kw_only=True)
class HealthCheck(Entry):
    """How nginy asks the backends of an upstream whether they work."""

    type: str = key(
        Choice(*CHECK_TYPES),
        "tcp",
        "What nginy asks; tcp and tls only connect, unless send or expect is set.",
    )
    interval_ms: int = key(DURATION, "5s", "The time between two checks of a backend.")
    interval_down_ms: int | None = key(
        OrOff(DURATION, "auto"), "auto", "The same while the backend is not up; auto is `interval`."
    )
    interval_changing_ms: int | None = key(
        OrOff(DURATION, "auto"),
        "auto",
        "The same while results in a row count towards a change; auto changes nothing.",
    )
    timeout_ms: int | None = key(
        OrOff(DURATION, "auto"),
        "auto",
        "A check may take this long; auto is 1s, or the time between two checks if that is less.",
    )
    jitter_ms: int | None = key(
        OrOff(DURATION), "off", "Each check is late by up to this much, at random."
    )
    fails: int = key(POSITIVE, "3", "This many failed checks in a row take a backend down.")
    passes: int = key(POSITIVE, "2", "This many passed checks in a row bring it back.")
    initial: str = key(
        Choice("up", "down"), "up", "The state of a new backend until checks have decided."
    )
    port: int | None = key(
        OrOff(PORT, "auto"), "auto", "The port to ask; auto is the backend's own."
    )
    send: str = key(secret(WireText(BYTES, unescape)), "", "nginy sends this once it is connected.")
    expect: str | None = key(
        EXPECT,
        "off",
        "The answer (with http, its body) must begin with this text or match it; off accepts any.",
    )
    steps: tuple[Step, ...] = key(
        STEPS,
        "off",
        "Several exchanges, in place of send and expect.",
        blank=tuple,
    )
    path: str = key(
        secret_in_part(
            WireText("a path such as /health", lambda text: build_request(text, "host")),
            hide_query,
        ),
        "/",
        "nginy requests this path.",
    )
    host: str | None = key(
        OrOff(WireText("a host's name", lambda text: build_request("/", text)), "auto"),
        "auto",
        "The Host header; auto is the backend's address.",
    )
    method: str = key(
        Choice("GET", "HEAD", "OPTIONS", "POST", "PUT"), "GET", "The method of the request."
    )
    headers: dict[str, str] = key(
        secret(MapOf(Text("the value of a header", r"[\t -~]*"), "headers", str)),
        "{}",
        "nginy also sends these headers.",
        blank=dict,
    )
    body: str = key(secret(WireText(BYTES, unescape)), "", "nginy sends this after the headers.")
    status: str = key(
        WireText("statuses such as 200 or 200-399", parse_statuses),
        "200-399",
        "An answer passes with one of these statuses.",
    )
    name: str | None = key(
        OrOff(Text("a host's name", r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,252}")),
        "off",
        "The server to ask for (SNI), off is the backend; with dns, the owner of the records.",
    )
    verify: bool | None = key(
        OrOff(Flag(), "auto"),
        "auto",
        "The certificate must be valid, and name `name`; auto is on with https.",
    )
    ca: Pem | None = key(
        OrOff(PemFile(CERTIFICATE), "system"),
        "system",
        "nginy trusts the certificates in this file; system means those that the system trusts.",
    )
    certificate: Pem | None = key(
        OrOff(PemFile(CERTIFICATE)), "off", "nginy shows this certificate, with its chain."
    )
    key_: Pem | None = key(OrOff(PemFile(PRIVATE_KEY)), "off", "The key of the certificate.")
    record: str | None = key(
        OrOff(Choice(*RECORDS), "auto"),
        "auto",
        "nginy asks for this type of record; auto is A, or AAAA with an IPv6 address.",
    )
    rcode: str = key(
        Choice("NOERROR", "NXDOMAIN", "REFUSED", "SERVFAIL"),
        "NOERROR",
        "An answer passes with this response code.",
    )
    address: str | None = key(
        OrOff(IpAddress()), "off", "The answer must have this address; off accepts any, or none."
    )
    transport: str = key(Choice("udp", "tcp"), "udp", "nginy asks the name server this way.")
    command: tuple[str, ...] | None = key(
        secret_in_part(Command(), hide_arguments),
        "off",
        "nginy runs this program, without a shell, with NGINY_NAME, NGINY_ADDRESS, NGINY_HOST and"
        " NGINY_PORT in its environment; exit status 0 passes.",
    )
    role: str | None = key(
        OrOff(Choice("master", "slave")), "off", "The server must have this role; off accepts any."
    )
    user: str | None = key(
        OrOff(Text("the name of a user", r"[^\x00-\x1f]{1,255}")),
        "off",
        "nginy logs in as this user; with postgres, off means the user nginy.",
    )
    password_file: Secret | None = key(
        OrOff(SecretFile()),
        "off",
        "nginy logs in with the password in this file; with radius it is the shared secret.",
    )
    database: str | None = key(
        OrOff(Text("the name of a database", r"[^\x00-\x1f]{1,255}"), "auto"),
        "auto",
        "nginy opens this database; auto is the one named after the user.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class AgentCheck(Entry):
    """How nginy asks the agent of each backend for its load."""

    port: int = key(PORT, None, "The agent listens on this port of the backend's host.")
    interval_ms: int = key(DURATION, "5s", "The time between two questions.")
    timeout_ms: int | None = key(
        OrOff(DURATION, "auto"),
        "auto",
        "An answer may take this long; auto is 1s, or `interval` if that is less.",
    )
    send: str = key(secret(WireText(BYTES, unescape)), "", "nginy sends this once it is connected.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Eject(Entry):
    """How long a backend stays out after its sessions have failed."""

    base_ms: int = key(
        DURATION, "30s", "A backend stays out this long the first time; each repeat adds as much."
    )
    max_ms: int = key(DURATION, "5m", "A backend stays out for at most this long.")
    max_percent: int = key(
        Integer(1, 100), "50", "At most this percentage of the group is out at once."
    )


class HealthCheckRecord(Record[HealthCheck]):
    """The kind of a health check; write() leaves out keys that its type does not use."""

    def write(self, value: HealthCheck) -> Plain:
        """Return all keys that the type has, and their values."""
        return {
            name: row.kind.write(getattr(value, row.field))
            for name, row in self.keys.items()
            if value.type in KEYS_OF_TYPES.get(name, CHECK_TYPES)
        }


HEALTH_CHECK: Final = Switch(HealthCheckRecord(HealthCheck, "health_check", shorthand="type"))
AGENT_CHECK: Final = Switch(Record(AgentCheck, "agent_check", shorthand="port"))
EJECT: Final = Switch(Record(Eject, "eject", shorthand="base"))
FAIL_OPEN: Final = OrOff(Share())
ON_DOWN: Final = Choice("keep", "close", "reset")


def transport_of(check: HealthCheck) -> str:
    """Return what carries a check: "tcp", "udp" or "exec"."""
    if check.type == "dns":
        return check.transport
    if check.type in UDP_TYPES:
        return "udp"
    return "exec" if check.type == "exec" else "tcp"


def is_verifying(check: HealthCheck) -> bool:
    """Return whether a check looks at the server's certificate."""
    return check.type == "https" if check.verify is None else check.verify


def timeout_of(check: HealthCheck | AgentCheck) -> int:
    """Return how long a check may take; it ends before the next one begins."""
    if check.timeout_ms is not None:
        return check.timeout_ms
    shortest_ms = check.interval_ms
    if isinstance(check, HealthCheck):
        shortest_ms = min(intervals_of(check).values())
    return min(TIMEOUT_MS, shortest_ms)


def intervals_of(check: HealthCheck) -> dict[str, int]:
    """Return the times between two checks that are set, by their keys."""
    times = {
        "interval": check.interval_ms,
        "interval_down": check.interval_down_ms,
        "interval_changing": check.interval_changing_ms,
    }
    return {name: time_ms for name, time_ms in times.items() if time_ms is not None}


def record_of(check: HealthCheck) -> str:
    """Return the type of record that a dns check asks for."""
    return check.record or ("AAAA" if ":" in (check.address or "") else "A")


def tls_of(check: HealthCheck) -> ClientTls | None:
    """Return how a check speaks TLS, None if it does not."""
    if check.type not in TLS_TYPES:
        return None
    return ClientTls(
        verify=is_verifying(check),
        authorities=None if check.ca is None else check.ca.content,
        certificate=b"" if check.certificate is None else check.certificate.content,
        key=b"" if check.key_ is None else check.key_.content,
        alpn=("http/1.1",) if check.type == "https" else (),
    )


def server_name_of(check: HealthCheck) -> str | None:
    """Return whom TLS is to reach, None for the host that is asked."""
    if check.type not in TLS_TYPES:
        return None
    if check.name is not None:
        return check.name
    host = PORT_OF_HOST.sub("", check.host or "").strip("[]")
    return host if host and is_host_name(host) else None
