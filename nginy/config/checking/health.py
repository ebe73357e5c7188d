"""Conflicts among the keys of health; check.py finds the others.

The records are in health.py, and the keys of steps in steps.py.

Tested in tests/config/test_health.py.
"""

from collections.abc import Sequence
from dataclasses import replace

from nginy.config.command import CommandLine
from nginy.config.health import (
    HTTP_TYPES,
    KEYS_OF_TYPES,
    TLS_TYPES,
    AgentCheck,
    Eject,
    HealthCheck,
    intervals_of,
    is_verifying,
    record_of,
    timeout_of,
    tls_of,
    transport_of,
)
from nginy.config.node import Findings, quote, quote_path
from nginy.config.pem import Pem
from nginy.config.record import Origin
from nginy.config.secrets import SecretFile
from nginy.config.steps import check_steps
from nginy.config.types import alternatives
from nginy.event.tls_client import ClientTls, client_context
from nginy.text.address import Address
from nginy.text.units import format_duration
from nginy.wire.dns_names import is_host_name
from nginy.wire.errors import WireError
from nginy.wire.http import build_request


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
        _check_type(check, findings)
        # `nginy -T` writes both, empty; only what is set is a mistake.
        texts = {"send": check.send, "expect": check.expect}
        beside = {name: check.origin.of(name) for name, text in texts.items() if text}
        check_steps(check.steps, beside, timeout_of(check), findings)
        if has_unix and transport_of(check) == "udp":
            text = f"type: {check.type} cannot check a backend on a unix socket"
            findings.report(check.origin.of("type"), text)
        relative = next((each for each in addresses if each.offset is not None), None)
        if relative is not None and check.port is None and check.origin.has("port"):
            text = f"{quote(relative.name)} has the listener's port, expected the port to check"
            findings.report(check.origin.of("port"), f"port: {text}")
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
    intervals = intervals_of(check)
    bound, shortest_ms = min(intervals.items(), key=lambda each: each[1])
    origin, jitter_ms = check.origin, check.jitter_ms or 0
    if not origin.has("interval", "interval_down", "interval_changing", "jitter", "timeout"):
        return
    if jitter_ms >= shortest_ms:
        _report_time(origin, "jitter", jitter_ms, "less than an interval", shortest_ms, findings)
    elif check.timeout_ms is not None:
        _check_timeout(origin, check.timeout_ms, shortest_ms, bound, findings)


def _check_timeout(
    origin: Origin, timeout_ms: int, bound_ms: int, bound: str, findings: Findings
) -> None:
    if timeout_ms > bound_ms:
        _report_time(origin, "timeout", timeout_ms, f"at most {bound}", bound_ms, findings)


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
        findings.report(origin.of("role"), "role: needs a login, and user is not set")
    is_for_user = check.type not in ("redis", "radius")
    if check.password_file is not None and check.user is None and is_for_user:
        findings.report(origin.of("password_file"), "password_file: needs a user, and none is set")
    if check.type == "radius" and check.password_file is None and origin.has("password_file"):
        text = f'health_check: "password_file" is missing, expected {SecretFile.expected}'
        findings.report(origin.mark, text)
    if check.type == "exec" and check.command is None and origin.has("command"):
        findings.report(
            origin.mark, f'health_check: "command" is missing, expected {CommandLine.expected}'
        )


def _check_type(check: HealthCheck, findings: Findings) -> None:
    """Report mistakes that depend on the type."""
    if not check.origin.has("type"):
        return
    if check.type == "dns":
        _check_dns(check, findings)
    if check.type in HTTP_TYPES:
        _check_http(check, findings)
    if check.type in TLS_TYPES:
        _check_tls(check, findings)


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


def _check_http(check: HealthCheck, findings: Findings) -> None:
    """Report headers that no request can have, and a body that no answer can have."""
    try:
        build_request("/", "host", headers=check.headers.items())
    except WireError as error:
        findings.report(check.origin.of("headers"), f"headers: {error}")
    if check.method == "HEAD" and check.expect is not None:
        findings.report(check.origin.of("expect"), "expect: an answer to HEAD has no body")


def _check_tls(check: HealthCheck, findings: Findings) -> None:
    """Report a name that nobody has, files of no use, and keys of what is not verified."""
    origin = check.origin
    if check.name is not None and not is_host_name(check.name):
        findings.report(origin.of("name"), f"name: {quote(check.name)}, expected a host's name")
    if not origin.has("verify", "ca", "certificate", "key"):
        return
    if check.ca is not None and not is_verifying(check):
        findings.report(origin.of("ca"), "ca: is for verify: on")
    elif check.ca is not None:
        _try_tls(ClientTls(authorities=check.ca.content), "ca", check.ca, check, findings)
    if check.certificate is None and check.key_ is not None:
        findings.report(origin.of("key"), "key: needs a certificate, and none is set")
    tls = tls_of(check)
    if check.certificate is not None and tls is not None:
        name, file = "certificate", check.key_ or check.certificate
        name = name if check.key_ is None else "key"
        _try_tls(replace(tls, verify=False), name, file, check, findings)


def _try_tls(tls: ClientTls, name: str, file: Pem, check: HealthCheck, findings: Findings) -> None:
    try:
        client_context(tls)
    except ValueError as error:
        findings.report(check.origin.of(name), f"{name}: {quote_path(file.path)} {error}")
