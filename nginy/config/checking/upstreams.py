"""Rules that span keys of an upstream and its backends.

Tested in tests/config/checking/test_check.py.
"""

from typing import Final

from nginy.config.balance import METHODS
from nginy.config.checking.health import check_health
from nginy.config.health import HASH_METHODS
from nginy.config.node import Findings, quote
from nginy.config.upstream import Upstream

# All weights of a consistent hash; 160 points each make ten million, 40 MB and seconds of work.
RING_WEIGHT_MAX: Final = 65_536


def check_upstream(upstream: Upstream, findings: Findings) -> None:
    """Report mistakes of one upstream and its backends."""
    _check_names_of_backends(upstream, findings)
    _check_backups(upstream, findings)
    _check_ring(upstream, findings)
    _check_slow_start(upstream, findings)
    addresses = [backend.address for backend in upstream.backends]
    check_health(upstream.health_check, upstream.agent_check, upstream.eject, addresses, findings)


def _check_names_of_backends(upstream: Upstream, findings: Findings) -> None:
    """Report host names without a port, and services of addresses."""
    for backend in upstream.backends:
        address, origin = backend.address, backend.origin
        if not origin.has("address", "service"):
            continue
        name = quote(address.name)
        if backend.service is not None and not address.is_name:
            text = f"service: {name} is an address, expected a host name with service"
            findings.report(origin.of("service"), text)
        elif backend.service is None and address.is_name and not address.port:
            text = f"address: {name} has no port, expected one, or service"
            findings.report(origin.of("address"), text)


def _check_backups(upstream: Upstream, findings: Findings) -> None:
    """Report backups that the method cannot use, and groups of only backups (nginx's rules)."""
    origin = upstream.origin
    method = upstream.balance.method
    backups = [backend for backend in upstream.backends if backend.backup]
    if origin.has("balance") and not METHODS[method].allows_backup:
        for backend in backups:
            text = f"backup: a backend of balance {quote(method)} cannot be a backup"
            findings.report(backend.origin.of("backup"), text)
    elif origin.has("backends") and backups and len(backups) == len(upstream.backends):
        findings.report(
            origin.of("backends"), "backends: all are backups, expected one that is not"
        )


def _check_ring(upstream: Upstream, findings: Findings) -> None:
    weight = sum(backend.weight for backend in upstream.backends)
    if upstream.balance.consistent and weight > RING_WEIGHT_MAX:
        text = f"backends: weights add up to {weight}, expected {RING_WEIGHT_MAX} or less"
        findings.report(upstream.origin.of("backends"), f"{text} with consistent: on")


def _check_slow_start(upstream: Upstream, findings: Findings) -> None:
    """Report slow_start with a method whose table must not move (nginx's rule)."""
    method = upstream.balance.method
    for backend in upstream.backends:
        if backend.slow_start_ms is not None and method in HASH_METHODS:
            text = f"slow_start: cannot be combined with balance {quote(method)}"
            findings.report(backend.origin.of("slow_start"), text)
