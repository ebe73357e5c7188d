"""The keys of health: checks, load checks, ejection.

The records here are keys of an upstream (schema.py), with the names of nginx Plus and HAProxy where
those have the key. build_health.py turns them into the settings of backend/checks/settings.py and
its neighbors. check_health() does for these keys what check.py does for the others.

The functions of wire/ that will use a text also check it here, so a text that they refuse is an
error of the file, with its place, and not a failure of the first check.
"""

# ruff: noqa: RUF009 - key() makes a field, as dataclasses.field() does

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from nginy.config.addresses import IpAddress
from nginy.config.command import Command, CommandLine
from nginy.config.node import Findings, Mark, quote
from nginy.config.record import Entry, MapOf, Origin, Record, Switch, key
from nginy.config.secrets import Secret, SecretFile
from nginy.config.steps import BYTES, EXPECT, STEPS, Step, WireText, check_steps
from nginy.config.types import (
    Choice,
    Duration,
    Integer,
    OrOff,
    Plain,
    ScalarKind,
    Text,
    alternatives,
)
from nginy.errors import InvalidValueError
from nginy.text.address import Address
from nginy.text.units import format_duration
from nginy.wire.dns_names import is_host_name
from nginy.wire.errors import WireError
from nginy.wire.expect import unescape
from nginy.wire.http import build_request, parse_statuses

DURATION: Final = Duration()
PORT: Final = Integer(1, 65535)
POSITIVE: Final = Integer(1)

# Their tables keep each key at its backend even if weights change.
HASH_METHODS: Final = frozenset({"hash", "maglev", "rendezvous"})

CHECK_TYPES: Final = (
    *("tcp", "udp", "http", "tls", "exec"),
    *("redis", "mysql", "postgres", "smtp", "pop3", "imap", "ldap", "mqtt", "ssh"),
    *("dns", "ntp", "sip", "radius"),
)
RECORDS: Final = ("A", "AAAA", "SRV", "NS", "SOA", "MX", "TXT")
UDP_TYPES: Final = ("udp", "ntp", "sip", "radius")
# Keys that mean something to some types only.
KEYS_OF_TYPES: Final = {
    "port": tuple(name for name in CHECK_TYPES if name != "exec"),
    "send": ("tcp", "udp", "tls"),
    "expect": ("tcp", "udp", "tls", "http"),
    "steps": ("tcp", "udp", "tls"),
    "path": ("http",),
    "host": ("http",),
    "method": ("http",),
    "headers": ("http",),
    "body": ("http",),
    "status": ("http", "sip"),
    "name": ("tls", "dns"),
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
    timeout_ms: int | None = key(
        OrOff(DURATION, "auto"),
        "auto",
        "A check may take this long; auto is 1s, or the time between two checks if that is less.",
    )
    jitter_ms: int | None = key(
        OrOff(DURATION), "off", "Each check comes up to this much later, at random."
    )
    fails: int = key(POSITIVE, "3", "This many failed checks in a row take a backend down.")
    passes: int = key(POSITIVE, "2", "This many passed checks in a row bring it back.")
    initial: str = key(
        Choice("up", "down"), "up", "What a new backend is until checks have decided."
    )
    port: int | None = key(
        OrOff(PORT, "auto"), "auto", "The port to ask; auto is the backend's own."
    )
    send: str = key(WireText(BYTES, unescape), "", "nginy sends this once it is connected.")
    expect: str | None = key(
        EXPECT,
        "off",
        "The answer, with http its body, begins with this text, or matches it; off takes any.",
    )
    steps: tuple[Step, ...] = key(
        STEPS,
        "off",
        "nginy sends and expects several times, instead of send and expect.",
        blank=tuple,
    )
    path: str = key(
        WireText("a path such as /health", lambda text: build_request(text, "host")),
        "/",
        "nginy asks for this path.",
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
        MapOf(Text("the value of a header", r"[\t -~]*"), "headers", str),
        "{}",
        "nginy sends these headers, too.",
        blank=dict,
    )
    body: str = key(WireText(BYTES, unescape), "", "nginy sends this behind the headers.")
    status: str = key(
        WireText("statuses such as 200 or 200-399", parse_statuses),
        "200-399",
        "An answer passes with one of these statuses.",
    )
    name: str | None = key(
        OrOff(Text("a host's name", r"[A-Za-z0-9_-][A-Za-z0-9_.-]{0,252}")),
        "off",
        "nginy asks for this server name (SNI), with dns for the records of this name.",
    )
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
        OrOff(IpAddress()), "off", "The answer must have this address; off takes any, or none."
    )
    transport: str = key(Choice("udp", "tcp"), "udp", "nginy asks the name server this way.")
    command: tuple[str, ...] | None = key(
        Command(), "off", "nginy runs this program, without a shell; exit status 0 passes."
    )
    role: str | None = key(
        OrOff(Choice("master", "slave")), "off", "The server has this role; off takes any."
    )
    user: str | None = key(
        OrOff(Text("the name of a user", r"[^\x00-\x1f]{1,255}")),
        "off",
        "nginy begins its session as this user; postgres without one as nginy.",
    )
    password_file: Secret | None = key(
        OrOff(SecretFile()),
        "off",
        "nginy logs in with the password in this file; with radius it is the shared secret.",
    )
    database: str | None = key(
        OrOff(Text("the name of a database", r"[^\x00-\x1f]{1,255}"), "auto"),
        "auto",
        "nginy begins its session with this database; auto is that of the user's name.",
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
    send: str = key(WireText(BYTES, unescape), "", "nginy sends this once it is connected.")


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
    """Return what carries a check: "tcp", "tls", "udp" or "exec"."""
    if check.type == "dns":
        return check.transport
    if check.type in UDP_TYPES:
        return "udp"
    return check.type if check.type in ("tls", "exec") else "tcp"


def check_health(
    check: HealthCheck | None,
    agent: AgentCheck | None,
    eject: Eject | None,
    addresses: Sequence[Address],
    findings: Findings,
) -> None:
    """Report conflicts among the health keys of one upstream with these backends."""
    has_unix = any(address.is_unix for address in addresses)
    if check is not None:
        _check_times(check, findings)
        _check_keys(check, findings)
        # `nginy -T` writes both, empty; only what is set is a mistake.
        texts = {"send": check.send, "expect": check.expect}
        beside = {name: check.origin.of(name) for name, text in texts.items() if text}
        check_steps(check.steps, beside, timeout_of(check), findings)
        if has_unix and transport_of(check) == "udp":
            text = f"type: {check.type} cannot check a backend on a unix socket"
            findings.report(check.origin.of("type"), text)
        if has_unix and check.port is not None:
            findings.report(check.origin.of("port"), "port: a backend on a unix socket has none")
    if agent is not None and agent.timeout_ms is not None and agent.origin.has("interval"):
        _check_timeout(agent.origin, agent.timeout_ms, agent.interval_ms, "interval", findings)
    if agent is not None and has_unix:
        findings.report(agent.origin.mark, "agent_check: a backend on a unix socket has no agent")
    if eject is not None and eject.origin.has("base", "max") and eject.max_ms < eject.base_ms:
        _report_time(eject.origin, "max", eject.max_ms, "at least base", eject.base_ms, findings)


def _check_times(check: HealthCheck, findings: Findings) -> None:
    """Report times that would start a check before the last one has ended."""
    shortest_ms = min(check.interval_ms, check.interval_down_ms or check.interval_ms)
    origin, jitter_ms = check.origin, check.jitter_ms or 0
    if not origin.has("interval", "interval_down", "jitter", "timeout"):
        return
    if jitter_ms >= shortest_ms:
        _report_time(origin, "jitter", jitter_ms, "less than an interval", shortest_ms, findings)
    elif check.timeout_ms is not None:
        bound = "interval" if shortest_ms == check.interval_ms else "interval_down"
        _check_timeout(origin, check.timeout_ms, shortest_ms, bound, findings)


def _check_timeout(
    origin: Origin, timeout_ms: int, bound_ms: int, bound: str, findings: Findings
) -> None:
    if timeout_ms > bound_ms:
        _report_time(origin, "timeout", timeout_ms, f"at most {bound}", bound_ms, findings)


def timeout_of(check: HealthCheck | AgentCheck) -> int:
    """Return how long a check may take; it ends before the next one begins."""
    if check.timeout_ms is not None:
        return check.timeout_ms
    shortest_ms = check.interval_ms
    if isinstance(check, HealthCheck):
        shortest_ms = min(shortest_ms, check.interval_down_ms or shortest_ms)
    return min(TIMEOUT_MS, shortest_ms)


def _report_time(
    origin: Origin, name: str, value_ms: int, expected: str, bound_ms: int, findings: Findings
) -> None:
    text = f"{name}: {format_duration(value_ms)}, expected {expected} ({format_duration(bound_ms)})"
    findings.report(origin.of(name), text)


def _check_keys(check: HealthCheck, findings: Findings) -> None:
    """Report keys that the type does not use, and the one that it needs."""
    origin = check.origin
    if not origin.has("type"):
        return
    for name, mark in origin.keys.items():
        types = KEYS_OF_TYPES.get(name)
        if types is not None and check.type not in types:
            findings.report(mark, f"{name}: is for type {alternatives(*types)}, not {check.type}")
    if check.role is not None and check.user is None and check.type == "mysql":
        findings.report(origin.of("role"), "role: takes a login, and there is no user")
    is_for_user = check.type not in ("redis", "radius")
    if check.password_file is not None and check.user is None and is_for_user:
        findings.report(
            origin.of("password_file"), "password_file: is for a user, and there is none"
        )
    if check.type == "radius" and check.password_file is None and origin.has("password_file"):
        text = f'health_check: "password_file" is missing, expected {SecretFile.expected}'
        findings.report(origin.mark, text)
    if check.type == "dns":
        _check_dns(check, findings)
    if check.type == "http":
        _check_http(check, findings)
    if check.type == "exec" and check.command is None and origin.has("command"):
        findings.report(
            origin.mark, f'health_check: "command" is missing, expected {CommandLine.expected}'
        )


def _check_dns(check: HealthCheck, findings: Findings) -> None:
    """Report a name that no query can have, and an address that the record cannot have."""
    origin = check.origin
    if check.name is None and origin.has("name"):
        findings.report(origin.mark, 'health_check: "name" is missing, expected a host\'s name')
    elif check.name is not None and not is_host_name(check.name):
        findings.report(origin.of("name"), f"name: {quote(check.name)}, expected a host's name")
    if check.address is not None and record_of(check) != ("AAAA" if ":" in check.address else "A"):
        text = f"address: {check.address} cannot be in a record of type {check.record}"
        findings.report(origin.of("address"), text)


def record_of(check: HealthCheck) -> str:
    """Return the type of record that a dns check asks for."""
    return check.record or ("AAAA" if ":" in (check.address or "") else "A")


def _check_http(check: HealthCheck, findings: Findings) -> None:
    """Report headers that no request can have, and a body that no answer can have."""
    try:
        build_request("/", "host", headers=check.headers.items())
    except WireError as error:
        findings.report(check.origin.of("headers"), f"headers: {error}")
    if check.method == "HEAD" and check.expect is not None:
        findings.report(check.origin.of("expect"), "expect: an answer to HEAD has no body")
