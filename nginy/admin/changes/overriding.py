"""Overriding: how changes by operators reach the backends, here or in every worker.

The process that operators talk to keeps the book (`book.py`). Each message carries everything that
holds, so a worker that starts later, or misses a message, is right again after the next one. A
message also carries what to do once: forgive failures, close sessions.

Tested in tests/run/test_admin_changes.py.
"""

from collections.abc import Iterator, Mapping
from typing import Any, Final

from nginy.admin.answer import Facts, Slices
from nginy.admin.changes.book import Book
from nginy.admin.facts.shape import flag, row
from nginy.admin.facts.source import Details, Source
from nginy.admin.subject import Subject
from nginy.backend.backend import Backend
from nginy.backend.checks.monitor import PoolMonitor
from nginy.backend.listing import Listing, parse_listing
from nginy.backend.override import Override, parse

OverridesByUpstream = dict[str, dict[tuple[str, str], Override]]
Listings = dict[str, Listing]


def details(book: Book, act: Mapping[str, object] | None = None) -> dict[str, Any]:
    """Return all that holds as JSON, and what to do once: see `_act_on`."""
    found = [
        {"upstream": upstream, "name": name, "address": address, **override.to_json()}
        for upstream, group in book.overrides().items()
        for (name, address), override in group.items()
    ]
    return {
        "overrides": found,
        "listings": {name: each.to_json() for name, each in book.listings().items()},
        "level": None if book.level is None else book.level[0],
        "act": None if act is None else dict(act),
    }


def parse_listings(wanted: Details) -> Listings:
    """Return the listings that `details` has made; raises ValueError or KeyError."""
    return {str(name): parse_listing(each) for name, each in wanted["listings"].items()}


def parse_overrides(wanted: Details) -> OverridesByUpstream:
    """Return the overrides that `details` has made; raises ValueError or KeyError."""
    found: OverridesByUpstream = {}
    for each in wanted["overrides"]:
        key = str(each["name"]), str(each["address"])
        found.setdefault(str(each["upstream"]), {})[key] = parse(each)
    return found


def _collect(subject: Subject, wanted: Details) -> Slices[Facts]:
    subject.override(parse_overrides(wanted), parse_listings(wanted))
    subject.set_level(wanted["level"])
    yield None
    act = wanted.get("act")
    if act is not None:
        monitor = subject.monitor(act["upstream"])
        if monitor is not None:
            for backend in _named(monitor, act):
                _act_on(monitor, backend, act)
    return {"is_done": True}


def _named(monitor: PoolMonitor, act: Details) -> Iterator[Backend]:
    for backend in (*monitor.pool.backends, *monitor.pool.left):
        if backend.name == act["name"] and act["address"] in ("", backend.addr_text):
            yield backend


def _act_on(monitor: PoolMonitor, backend: Backend, act: Details) -> None:
    """Forgive failures of a backend (`forgive`), and close its sessions (`sessions`)."""
    if act.get("forgive"):
        monitor.check_passed(backend)
    if act.get("sessions") in ("close", "reset"):
        monitor.end_sessions(backend, reset=act["sessions"] == "reset")


OVERRIDING: Final = Source(
    "overriding",
    _collect,
    row(is_done=flag),
    lambda reports: {"is_done": bool(reports) and all(each["is_done"] for each in reports)},
)
