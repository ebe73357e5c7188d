"""What a process knows and its successor needs: sent on each lane before the first session.

    backends    place in the round, failures, averages, counters, ejections
    found       what checks and agents have found, and the answers of name servers
    listener    counters and drops
    buckets     the keys of limit_conn_rate, of the zones that have any
    sessions    how many have begun, so that new numbers follow those of sessions that move

`announced.py` has one more kind. Each message is small enough for a short turn. The successor takes
what its own configuration has a place for, and ignores the rest; operators' changes come over the
main link. Counters add up, as several processes may hand over to one; after the sessions have
moved, the old process sends how much they have grown meanwhile.
"""

from collections.abc import Iterator, Mapping
from typing import Final

from nginy.backend.backend import Backend, Counters
from nginy.process.server import Server
from nginy.process.takeover.messages import Message, MessageError, MessageMembers
from nginy.proxy.drops import Drops

SLICE: Final = 50
"""Backends, or keys of a limit, in one message."""
CODES_MAX: Final = 100
"""Termination codes of a counter; there are some thirty."""
PLACES: Final = {"upstream": 2, "backend": 4, "listener": 2}
"""How many names a place of each kind has, the kind itself included."""

FIRST: Final = "first drop "
LAST: Final = "last drop "
"""The names of times among counts; times do not add up."""

Grown = dict[tuple[str, ...], dict[str, int]]
"""Counts by their owner: an upstream, a backend and its address, or a listener."""


def known(server: Server) -> Iterator[Message]:
    """Yield all that a process knows, but for its sessions and counts."""
    skipped_ms = server.loop.clock.skipped_ms
    for text in server.pools.relay.told():
        yield Message("state", {"kind": "found", "text": text})
    for pool in server.pools.pools():
        pool.write_back()
        backends = pool.backends
        for first in range(0, len(backends), SLICE):
            rows = [_backend_row(each, skipped_ms) for each in backends[first : first + SLICE]]
            yield Message("state", {"kind": "backends", "upstream": pool.name, "rows": rows})
    for (zone, rate, burst), rates in server.services.zones.tables():
        buckets = rates.buckets()
        for first in range(0, len(buckets), SLICE):
            rows = [
                {"key": key.hex(), "full_us": full_us + skipped_ms * 1000}
                for key, full_us in buckets[first : first + SLICE]
            ]
            members = {"kind": "buckets", "zone": zone, "rate": rate, "burst": burst}
            yield Message("state", {**members, "rows": rows})
    # This is last: sessions that begin from here on may get the number of one in the successor.
    yield Message("state", {"kind": "sessions", "started": server.loop.sessions_started})


def _backend_row(backend: Backend, skipped_ms: int) -> dict[str, object]:
    health = backend.health
    row: dict[str, object] = {
        "name": backend.name,
        "address": backend.addr_text,
        "current": backend.current_weight,
        "effective": backend.effective_weight,
        "weight": backend.weight,
        "fails": backend.fails,
        "accessed_ms": backend.accessed_s * 1000 + skipped_ms,
        "checked_ms": backend.checked_s * 1000 + skipped_ms,
        "average_ms": backend.average_ms,
        "connect_ms": backend.connect_ms,
    }
    if health.is_ejected:
        row["ejected"] = {
            "until_ms": health.ejection.until_at_ms + skipped_ms,
            "in_row": health.ejection.in_row,
            "reason": health.reason.partition(": ")[2],
        }
    return row


def counts(server: Server) -> Grown:
    """Return the counts, by their owner."""
    found: Grown = {}
    for pool in server.pools.pools():
        found["upstream", pool.name] = {"retries": pool.retries, **pool.turned_away}
        for backend in pool.backends:
            place = "backend", pool.name, backend.name, backend.addr_text
            numbers = {"failures": backend.failures, "missed": backend.missed}
            found[place] = {**numbers, **_numbers_of(backend.counters)}
    for front in server.services.fronts():
        name = f"{front.address} {front.handler.protocol}"
        numbers = _numbers_of(front.handler.counters)
        found["listener", name] = {**numbers, **_numbers_of_drops(front.handler.drops)}
    return found


def _numbers_of(counters: Counters) -> dict[str, int]:
    return {
        "sessions": counters.sessions,
        "received": counters.bytes_received,
        "sent": counters.bytes_sent,
        **{f"end {code}": count for code, count in counters.terminations.items()},
    }


def _numbers_of_drops(drops: Drops) -> dict[str, int]:
    return {
        **{f"drop {why}": count for why, count in drops.items()},
        **{f"{FIRST}{why}": at_ms for why, at_ms in drops.firsts.items()},
        **{f"{LAST}{why}": at_ms for why, at_ms in drops.lasts.items()},
    }


def growth(after: Grown, before: Mapping[tuple[str, ...], Mapping[str, int]]) -> Iterator[Message]:
    """Yield messages about how much counts have grown."""
    rows: list[dict[str, object]] = []
    for place, numbers in after.items():
        old = before.get(place, {})
        grown = {
            name: n if name.startswith((FIRST, LAST)) else n - old.get(name, 0)
            for name, n in numbers.items()
            if n > old.get(name, 0)
        }
        if grown:
            rows.append({"place": list(place), "numbers": grown})
        if len(rows) >= SLICE:
            yield Message("state", {"kind": "counts", "rows": rows})
            rows = []
    if rows:
        yield Message("state", {"kind": "counts", "rows": rows})


# The new side.


def learn(members: MessageMembers, server: Server) -> None:
    """Take over the content of a message; raises MessageError."""
    kind = members.text("kind")
    if kind == "found":
        server.pools.relay.learn(members.text("text"))
    elif kind == "backends":
        _learn_backends(members, server)
    elif kind == "buckets":
        _learn_buckets(members, server)
    elif kind == "sessions":
        server.loop.sessions_started += members.count("started")
    elif kind == "counts":
        for row in members.objects("rows"):
            place = [str(each) for each in row.items("place")]
            if len(place) != PLACES.get(place[0] if place else ""):
                raise MessageError(f"{place!r:.40} is no place")
            _grow(place, row.numbers("numbers"), server)


def _learn_backends(members: MessageMembers, server: Server) -> None:
    monitor = server.pools.monitor(members.text("upstream"))
    if monitor is None:
        return
    pool, skipped_ms = monitor.pool, server.loop.clock.skipped_ms
    places = {(each.name, each.addr_text): each for each in pool.backends}
    pool.write_back()
    for row in members.objects("rows"):
        backend = places.get((row.text("name"), row.text("address")))
        if backend is None:
            continue
        backend.current_weight = row.number("current")
        if row.number("weight") == backend.weight:
            backend.effective_weight = min(row.count("effective"), backend.weight)
        backend.accessed_s = (row.number("accessed_ms") - skipped_ms) // 1000
        backend.checked_s = (row.number("checked_ms") - skipped_ms) // 1000
        backend.average_ms = row.count("average_ms")
        backend.connect_ms = row.maybe_number("connect_ms")
        backend.fails = row.count("fails")
        if backend.fails:
            pool.remember_failures(backend)
        pool.changed(backend)
        ejected = row.maybe_object("ejected")
        if ejected is not None:
            until_ms = ejected.number("until_ms") - skipped_ms
            reason = ejected.text("reason")
            monitor.eject_until(backend, until_ms, ejected.count("in_row"), reason)


def _learn_buckets(members: MessageMembers, server: Server) -> None:
    wanted = members.text("zone"), members.count("rate"), members.count("burst")
    for key, rates in server.services.zones.tables():
        if key == wanted:
            skipped_us = server.loop.clock.skipped_ms * 1000
            for row in members.objects("rows"):
                rates.restore(row.bytes("key"), row.number("full_us") - skipped_us)


def _grow(place: list[str], numbers: dict[str, int], server: Server) -> None:
    """Add to the counts of a place, if this process has it too."""
    kind, *names = place
    if kind == "listener":
        for front in server.services.fronts():
            if f"{front.address} {front.handler.protocol}" == names[0]:
                _add(front.handler.counters, numbers, front.handler.drops)
                return
        return
    monitor = server.pools.monitor(names[0])
    if monitor is None:
        return
    pool = monitor.pool
    if kind == "upstream":
        pool.retries += numbers.pop("retries", 0)
        for why, count in numbers.items():
            if why in pool.turned_away:
                pool.turned_away[why] += count
        return
    for backend in pool.backends:
        if [backend.name, backend.addr_text] == names[1:]:
            backend.failures += numbers.pop("failures", 0)
            backend.missed += numbers.pop("missed", 0)
            _add(backend.counters, numbers, None)


def _add(counters: Counters, numbers: dict[str, int], drops: Drops | None) -> None:
    counters.sessions += numbers.pop("sessions", 0)
    counters.bytes_received += numbers.pop("received", 0)
    counters.bytes_sent += numbers.pop("sent", 0)
    for name, count in numbers.items():
        what, _, why = name.rpartition(" ")
        if what == "end" and len(counters.terminations) < CODES_MAX:
            counters.terminations[why] += count
        elif drops is not None and why in drops:
            if what == "drop":
                drops[why] += count
            elif name.startswith(FIRST):
                drops.firsts[why] = min(count, drops.firsts.get(why, count))
            elif name.startswith(LAST):
                drops.lasts[why] = max(count, drops.lasts.get(why, 0))
