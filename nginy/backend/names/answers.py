"""What the answers about one name mean together: pure rules, no socket and no clock.

A host takes up to two questions, A and AAAA; a service takes one for its SRV records and two more
for each of their targets. `merge` and `join` make one `Resolution` of what came back. They decide
what one failing part may do to the rest: it keeps its earlier answer, it never hides an answer
about another part, and nginy asks for it again soon.

`queries` asks and remembers; `watch` knows what a resolution means to an upstream.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from nginy.wire.dns import Answer, Outcome, RecordType, Srv

MAX_NEGATIVE_S: Final = 1
"""How long "there is none" holds at most. A zone may say a day, but an upstream without backends
waits for the name to appear."""
MAX_PARTIAL_MS: Final = 10_000
"""How long an answer holds at most when a part of it has failed: that part is asked again then."""
MAX_ENDPOINTS: Final = 1000
"""Addresses of a name, and records of a service, that are used. A message over TCP holds 4,000, and
making backends of them would hold the loop for 100 ms."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a name leads: an address of a host, or of a SRV record's target, and a port."""

    host: str
    """The host's or the target's name, for logs and hashes."""
    address: str
    port: int
    priority: int = 0
    weight: int = 0


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a name stands for.

    With FAILED, addresses and endpoints are those known all the same, mostly from before.
    """

    outcome: Outcome
    addresses: tuple[str, ...] = ()
    endpoints: tuple[Endpoint, ...] = ()
    ttl_ms: int | None = None
    """How long it holds; None where nothing says so."""
    reason: str = ""
    """Why there is nothing, in a few words."""
    is_silent: bool = False
    """Whether no name server answered at all, which says nothing of any name."""
    left_out: tuple[str, ...] = ()
    """What of the answer cannot be used, and why: a clause for each."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What nginy knows about one question now.

    `is_stale`: no server answered it this time, so `answer` is from before, or None.
    """

    type: RecordType
    answer: Answer | None
    is_stale: bool = False
    reason: str = ""
    is_silent: bool = False


def merge(replies: Sequence[Reply], valid_ms: int | None) -> Resolution:
    """Return what the replies about one name, of different types, say together.

    One type is enough to be found. Where no server answered about the other, its known addresses
    stay. "No such name" should hold for all types (RFC 8020), but many servers say so of the one
    type that they do not know (RFC 4074 §4.2). So it says nothing of an unanswered type that had
    addresses, nor of A, which most hosts have.
    """
    fresh = [reply.answer for reply in replies if reply.answer and not reply.is_stale]
    failed = [reply for reply in replies if reply.is_stale]
    addresses = _addresses(replies)
    found = [answer for answer in fresh if answer.outcome is Outcome.FOUND]
    if found:
        ttl_ms = answers_ttl_ms(found, valid_ms)
        if failed:
            ttl_ms = min(ttl_ms, MAX_PARTIAL_MS)
        return Resolution(Outcome.FOUND, addresses, ttl_ms=ttl_ms)
    if not fresh or any(_is_missed(reply) for reply in failed):
        is_silent = all(reply.is_silent for reply in failed)
        reason = failed[0].reason
        return Resolution(Outcome.FAILED, addresses, reason=reason, is_silent=is_silent)
    has_no_name = any(answer.outcome is Outcome.NO_NAME for answer in fresh)
    outcome = Outcome.NO_NAME if has_no_name else Outcome.EMPTY
    ttl_ms = answers_ttl_ms(fresh, valid_ms)
    return Resolution(outcome, ttl_ms=ttl_ms, reason=str(outcome.value))


def _is_missed(reply: Reply) -> bool:
    """Return whether an answer to this question could have brought addresses."""
    has_known = reply.answer is not None and reply.answer.outcome is Outcome.FOUND
    return has_known or reply.type is not RecordType.AAAA


def _addresses(replies: Iterable[Reply]) -> tuple[str, ...]:
    found = {a for reply in replies if reply.answer for a in reply.answer.addresses}
    return tuple(sorted(found)[:MAX_ENDPOINTS])


def answers_ttl_ms(answers: Sequence[Answer], valid_ms: int | None) -> int:
    """Return how long the answers hold together: as long as the one that ends first.

    `valid_ms` overrides the TTL of answers that found something.
    """
    if valid_ms is not None and all(a.outcome is Outcome.FOUND for a in answers):
        return valid_ms
    return 1000 * min(
        a.ttl_s if a.outcome is Outcome.FOUND else min(a.ttl_s, MAX_NEGATIVE_S) for a in answers
    )


def preferred(services: Iterable[Srv]) -> list[Srv]:
    """Return the SRV records to use, in a stable order, the preferred first."""
    return sorted(services, key=_preference)[:MAX_ENDPOINTS]


def _preference(srv: Srv) -> tuple[int, str, int, int]:
    return srv.priority, srv.target, srv.port, srv.weight


def join(
    services: Sequence[Srv], listing: Resolution, found: Mapping[str, Resolution], port: int = 0
) -> Resolution:
    """Return the endpoints of a service, from its SRV records and the addresses of their targets.

    `listing` is the outcome of the query for the records. `port` takes the place of the ports of
    the records; 0 leaves those. It leaves out a record with port 0: registries list a service like
    that if it has registered no port.
    """
    usable = [srv for srv in services if port or srv.port]
    left_out = tuple(
        f"the SRV record of {srv.target} has port 0" for srv in services if not (port or srv.port)
    )
    endpoints = tuple(
        Endpoint(srv.target, address, port or srv.port, srv.priority, srv.weight)
        for srv in usable
        for address in found[srv.target].addresses
    )[:MAX_ENDPOINTS]
    parts = (listing, *found.values())
    failed = [r for r in parts if r.outcome is Outcome.FAILED]
    if listing.outcome is Outcome.FAILED or (failed and not endpoints):
        return Resolution(
            Outcome.FAILED, endpoints=endpoints, reason=failed[0].reason, left_out=left_out
        )
    ttls_ms = [r.ttl_ms for r in parts if r.ttl_ms is not None and r.outcome is Outcome.FOUND]
    if not endpoints:
        reason = "no SRV record has a port" if not usable else NO_TARGET
        return Resolution(Outcome.EMPTY, reason=reason, left_out=left_out)
    if len(ttls_ms) < len(parts):
        ttls_ms.append(MAX_PARTIAL_MS)
    ttl_ms = min(ttls_ms)
    return Resolution(Outcome.FOUND, endpoints=endpoints, ttl_ms=ttl_ms, left_out=left_out)


NO_TARGET: Final = "no target of its SRV records has an address"
