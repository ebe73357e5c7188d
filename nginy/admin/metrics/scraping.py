"""`/metrics`: which part of all metrics Prometheus asks for, and in which format.

Tested in tests/run/test_admin_metrics.py.
"""

import platform
from collections.abc import Iterator

from nginy.admin.answer import Answer, Facts, Slices, discard
from nginy.admin.asked import Asked, bad
from nginy.admin.facts.source import known
from nginy.admin.metrics.exposition import (
    OPENMETRICS_TYPE,
    TEXT_TYPE,
    Family,
    families,
    labels,
    prepare,
    render,
)
from nginy.admin.metrics.measured import MEASURED, SCOPES, process_row
from nginy.admin.reading import no_upstream
from nginy.admin.subject import Subject


def metrics(subject: Subject, asked: Asked) -> Slices[Answer]:
    """Answer with all metrics, or those of some scopes, or of one upstream."""
    query = asked.request.query
    scopes = query["scope"].split(",") if "scope" in query else list(SCOPES)
    for scope in scopes:
        if scope not in SCOPES:
            raise bad(f"scope is not one of {', '.join(SCOPES)}")
    upstream = query.get("upstream")
    if upstream is not None and upstream not in subject.balances:
        raise (yield from no_upstream(subject, upstream))
    wanted = {
        "scopes": scopes,
        "upstream": upstream,
        "backends_max": subject.metrics_backends,
    }
    facts = yield from known(subject, MEASURED, wanted)
    yield None
    for kind in ("listeners", "upstreams", "backends"):
        yield from subject.gone.add_to(kind, facts[kind])
    if subject.crew is not None and "process" in scopes:
        # The supervisor has no sessions, so only what the system says of it is shown.
        own = {**(yield from process_row(subject)), "worker": "supervisor", "connections_limit": 0}
        facts["processes"].append(own)
    yield from prepare(facts)
    is_open = "application/openmetrics-text" in asked.request.fields.get("accept", "")
    general = list(_general(subject, facts)) if "process" in scopes else []
    pieces = yield from render(families(facts, general), is_openmetrics=is_open)
    yield from discard(facts["backends"], facts["upstreams"], facts["listeners"])
    return Answer(200, b"", OPENMETRICS_TYPE if is_open else TEXT_TYPE, pieces=pieces)


def _general(subject: Subject, facts: Facts) -> Iterator[Family]:
    """Yield the families of nginy as a whole."""
    build = labels(version=subject.version, python=platform.python_version())
    yield Family("nginy_build_info", "gauge", "What runs", [("", build, 1)])
    counts = [("_total", labels(result=r), subject.reloads[r]) for r in ("applied", "refused")]
    yield Family("nginy_reloads", "counter", "Reloads so far", counts)
    result, _ = subject.last_reload or ("applied", 0)
    for name, about, value in (
        (
            "nginy_last_reload_successful",
            "Whether the last reload was applied",
            int(result == "applied"),
        ),
        (
            "nginy_last_reload_success_timestamp_seconds",
            "When the present configuration was loaded",
            subject.loaded_at_ms / 1000,
        ),
        (
            "nginy_config_needs_restart",
            "Keys whose new values wait for a restart",
            len(subject.needs_restart),
        ),
        ("nginy_workers", "Processes that serve", _workers(subject, facts)),
    ):
        yield Family(name, "gauge", about, [("", "", value)])
    exits = [("_total", labels(how=how), subject.worker_exits[how]) for how in ("exit", "signal")]
    yield Family("nginy_worker_exits", "counter", "Workers that have ended", exits)


def _workers(subject: Subject, facts: Facts) -> int:
    return 1 if subject.crew is None else int(facts["workers"]["answered"])
