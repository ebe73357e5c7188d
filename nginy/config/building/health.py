"""From the keys of health (`config/health.py`) to the settings of the modules that check it.

`build.py` does the same for the rest of an upstream. Each function turns one record of a checked
configuration into the settings of one module of backend/, and starts nothing.

Tested in tests/config/test_health.py.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Final

from nginy.backend.checks.agent import AgentSettings
from nginy.backend.checks.checker import ProbeSettings
from nginy.backend.checks.settings import MonitorSettings, OnDown
from nginy.backend.health.eject import EjectSettings
from nginy.backend.health.schedule import CheckSettings
from nginy.config import schema
from nginy.config.building.tls import client_tls
from nginy.config.health import (
    HASH_METHODS,
    AgentCheck,
    Eject,
    HealthCheck,
    record_of,
    server_name_of,
    timeout_of,
    tls_of,
    transport_of,
)
from nginy.config.steps import Step
from nginy.config.tls import ProxyTls
from nginy.config.upstream import Upstream
from nginy.wire.checks.dns import DnsCheck
from nginy.wire.checks.http import HttpCheck
from nginy.wire.checks.ldap import LdapCheck
from nginy.wire.checks.mail import ImapCheck, Pop3Check, SmtpCheck
from nginy.wire.checks.mqtt import MqttCheck
from nginy.wire.checks.mysql import MysqlCheck
from nginy.wire.checks.ntp import NtpCheck
from nginy.wire.checks.postgres import PostgresCheck
from nginy.wire.checks.radius import RadiusCheck
from nginy.wire.checks.redis import RedisCheck
from nginy.wire.checks.sip import SipCheck
from nginy.wire.checks.ssh import SshCheck
from nginy.wire.checks.steps import CheckStep, StepsCheck, parse_template, single
from nginy.wire.checks.talk import Question
from nginy.wire.expect import parse_expect, unescape
from nginy.wire.http import parse_statuses


def http_check(check: HealthCheck) -> HttpCheck:
    """Return the question of an http check."""
    return HttpCheck(
        check.path,
        check.host or "",
        parse_statuses(check.status),
        check.method,
        tuple(check.headers.items()),
        unescape(check.body),
        None if check.expect is None else parse_expect(check.expect),
    )


TLS_KEYS: Final = frozenset({"name", "verify", "ca", "certificate", "key"})
"""Of a check: with one of them, it does not ask as listeners do."""

QUESTIONS: Final[dict[str, Callable[[HealthCheck], Question]]] = {
    "http": http_check,
    "https": lambda check: replace(http_check(check), name="https"),
    "redis": lambda check: RedisCheck(check.role or "", check.user or "", password_of(check)),
    "mysql": lambda check: MysqlCheck(check.user or "", password_of(check), check.role or ""),
    "postgres": lambda check: PostgresCheck(
        check.user or "nginy", check.database or "", password_of(check), check.role or ""
    ),
    "smtp": lambda _check: SmtpCheck(),
    "pop3": lambda _check: Pop3Check(),
    "imap": lambda _check: ImapCheck(),
    "ldap": lambda _check: LdapCheck(),
    "mqtt": lambda check: MqttCheck(check.user or "", password_of(check)),
    "ssh": lambda _check: SshCheck(),
    "dns": lambda check: DnsCheck(
        check.name or "", record_of(check), check.rcode, check.address or ""
    ),
    "ntp": lambda _check: NtpCheck(),
    "sip": lambda check: SipCheck(parse_statuses(check.status)),
    "radius": lambda check: RadiusCheck(password_of(check)),
}
"""By type; the others have steps, or send and expect."""


def monitor_settings(
    upstream: Upstream, proxy_protocol: str = "off", tls: ProxyTls | None = None
) -> MonitorSettings:
    """Return the settings that an upstream's monitor needs.

    `proxy_protocol` is the header that listeners send to its backends, `tls` how they speak TLS.
    """
    check, agent, eject = upstream.health_check, upstream.agent_check, upstream.eject
    return MonitorSettings(
        check=None if check is None else check_settings(check),
        probe=None if check is None else probe_settings(check, proxy_protocol, tls),
        agent=None if agent is None else agent_settings(agent),
        eject=None if eject is None else eject_settings(eject),
        fail_open=upstream.fail_open or 0.0,
        on_down=OnDown(upstream.on_down),
        has_weights=upstream.balance.method not in HASH_METHODS,
    )


def proxy_protocols_of(leading: Sequence[schema.Listener], check: HealthCheck | None) -> set[str]:
    """Return the PROXY headers that the listeners of an upstream send to it: those of the protocol
    in which its checks ask, if it has listeners of that one."""
    protocol = "udp" if check is not None and transport_of(check) == "udp" else "tcp"
    same = [each for each in leading if each.protocol == protocol]
    return {each.proxy_protocol for each in same or leading}


def tls_towards(leading: Sequence[schema.Listener]) -> ProxyTls | None:
    """Return how all listeners of an upstream speak TLS to it; None if they do not, or differ."""
    found = [each.proxy_tls for each in leading]
    return found[0] if found and all(each == found[0] for each in found) else None


def check_settings(check: HealthCheck) -> CheckSettings:
    """Return when to check, and how many results in a row count."""
    return CheckSettings(
        interval_ms=check.interval_ms,
        interval_down_ms=check.interval_down_ms or check.interval_ms,
        interval_changing_ms=check.interval_changing_ms,
        timeout_ms=timeout_of(check),
        jitter_ms=check.jitter_ms or 0,
        fails=check.fails,
        passes=check.passes,
        is_initially_up=check.initial == "up",
    )


def probe_settings(
    check: HealthCheck, proxy_protocol: str = "off", tls: ProxyTls | None = None
) -> ProbeSettings:
    """Return what a check sends and expects.

    `tls` is how listeners speak to the backends. So do checks that could be a client's, but for
    those that ask another port, or have keys of TLS themselves.
    """
    probe = ProbeSettings(
        question=question_of(check),
        transport=transport_of(check),
        port=check.port,
        tls=tls_of(check),
        name=server_name_of(check),
        command=check.command or (),
        proxy_protocol=proxy_protocol,
    )
    own = TLS_KEYS & check.origin.keys.keys()
    if tls is None or own or check.port is not None or check.type not in ("tcp", "http", "tls"):
        return probe
    return replace(probe, tls=client_tls(tls), name=tls.name)


def question_of(check: HealthCheck) -> Question:
    """Return what a check asks, by its type."""
    if check.type in QUESTIONS:
        return QUESTIONS[check.type](check)
    if check.steps:
        return StepsCheck(steps_of(check.steps))
    expect = None if check.expect is None else parse_expect(check.expect)
    return single(unescape(check.send), expect)


def password_of(check: HealthCheck) -> bytes:
    """Return the password, b"" for none."""
    return b"" if check.password_file is None else check.password_file.content


def steps_of(steps: tuple[Step, ...]) -> tuple[CheckStep, ...]:
    """Return the steps of a check."""
    return tuple(
        CheckStep(
            parse_template(step.send),
            None if step.expect is None else parse_expect(step.expect),
            step.timeout_ms,
            step.label,
            has_variables=True,
        )
        for step in steps
    )


def agent_settings(agent: AgentCheck) -> AgentSettings:
    """Return how to ask the agents."""
    return AgentSettings(agent.port, agent.interval_ms, timeout_of(agent), unescape(agent.send))


def eject_settings(eject: Eject) -> EjectSettings:
    """Return how long backends stay out, and how many at once."""
    return EjectSettings(eject.base_ms, eject.max_ms, eject.max_percent)
