"""The overview in one screenful, and whether clients should come: what `/readyz` answers.

The facts are those of `overview.py`; both answers are made in slices.

Tested in tests/admin/facts/test_overview.py.
"""

import os
import time
from collections.abc import Iterator

from nginy.admin.answer import Facts, Slices
from nginy.admin.facts.overview import LISTS, OVERVIEW, ROWS_MAX, problem
from nginy.admin.facts.sampling import LISTENERS_MAX, Sample
from nginy.admin.facts.source import known, silence, stamp
from nginy.admin.subject import Subject
from nginy.event.histogram import TURN_BOUNDS_MS, quantile_s
from nginy.text.times import utc_text


def overview(subject: Subject) -> Slices[Facts]:
    """Return one screenful."""
    found = yield from known(subject, OVERVIEW)
    yield None
    loop = subject.loop
    samples = subject.samples
    yield from subject.gone.add_to_overview(found)
    age_s = None if found["bytes_age_ms"] is None else found["bytes_age_ms"] / 1000
    if samples.is_due(time.monotonic(), age_s):
        samples.add(_sample(found, subject), age_s)
    yield from subject.zero.add_to_overview(found, -1)
    found["problems"] = [*_problems(subject, found), *found["problems"]]
    if subject.needs_restart:
        sentence = f"needs a restart: {', '.join(subject.needs_restart)}"
        found["problems"].append(problem("notice", sentence, None))
    result, at_ms = subject.last_reload or (None, 0)
    last_reload = None if result is None else {"result": result, "at": utc_text(at_ms)}
    uptime_ms = loop.clock.wall_ms() - subject.started_at_ms
    return {
        **stamp(subject, found),
        "version": subject.version,
        "uptime_s": uptime_ms / 1000,
        "status": subject.status,
        "config": {
            "file": subject.file,
            "file_changed": _has_changed(subject),
            "generation": subject.generation,
            "loaded_at": utc_text(subject.loaded_at_ms),
            "last_reload": last_reload,
            "needs_restart": list(subject.needs_restart),
        },
        "sessions": {**found["sessions"], "rate": samples.rate("total")},
        "connections": found["connections"],
        "bytes": {
            **found["bytes"],
            "age_s": age_s,
            "received_rate": samples.rate("received"),
            "sent_rate": samples.rate("sent"),
        },
        "loop": {
            "busy": samples.rate("busy_s"),
            "lag_p99_s": quantile_s(found["loop"]["lags"], TURN_BOUNDS_MS, 0.99),
        },
        **{name: found[name][:ROWS_MAX] for name in LISTS},
        "more": {name: max(len(found[name]) - ROWS_MAX, 0) for name in LISTS},
        "draining": subject.draining,
        "counters_reset_at": None if subject.zero_at_ms is None else utc_text(subject.zero_at_ms),
    }


def _sample(found: Facts, subject: Subject) -> Sample:
    sessions, connections = found["sessions"], found["connections"]
    listeners: dict[str, int] = {}
    for each in found["listeners"][:LISTENERS_MAX]:
        name = f"{each['name']} {each['protocol']}"
        listeners[name] = listeners.get(name, 0) + each["received"] + each["sent"]
    before, lags = subject.lags, found["loop"]["lags"]
    subject.lags = lags
    recent = [max(a - b, 0) for a, b in zip(lags, before or [0] * len(lags), strict=False)]
    return Sample(
        time.monotonic(),
        sessions["now"],
        sessions["total"],
        found["bytes"]["received"],
        found["bytes"]["sent"],
        connections["now"],
        found["loop"]["busy_s"],
        quantile_s(recent, TURN_BOUNDS_MS, 0.99) or 0.0,
        listeners,
    )


def _has_changed(subject: Subject) -> bool:
    """Whether the configuration file is newer than what runs; False if nobody can tell."""
    try:
        return os.stat(subject.file).st_mtime > subject.loaded_at_ms / 1000
    except OSError:
        return False


def _problems(subject: Subject, found: Facts) -> Iterator[dict[str, object]]:
    """Yield what is worse than a backend that is down."""
    silent = silence(found)
    if silent is not None:
        yield problem("error", silent, None)
    for group in found["upstreams"]:
        if not group["usable"]:
            yield problem("error", _shortage(group, 1), group["since"])
    if subject.last_reload is not None and subject.last_reload[0] == "refused":
        at = utc_text(subject.last_reload[1])
        yield problem("error", "the last reload was refused, the log says why", at)


def _shortage(group: Facts, minimum: int) -> str:
    """Return why an upstream has fewer usable backends than it needs."""
    said = f"{group['name']}: {group['usable']} of {group['backends']} backends usable"
    if minimum > 1:
        said += f", {minimum} needed"
    if not group["usable"]:
        said += f" ({group['why_none']})"
    return said


def unreadiness(
    subject: Subject, upstream: str | None, minimum: int | None
) -> Slices[list[str] | None]:
    """Return why nginy should get no clients: nothing if it should, None if the upstream is
    unknown.

    `upstream` and `minimum` replace what the configuration says.
    """
    if subject.status != "serving":
        return [subject.draining or subject.status]
    found = yield from known(subject, OVERVIEW)
    if "workers" in found and not found["workers"]["answered"]:
        return [str(silence(found))]
    groups = [each for each in found["upstreams"] if upstream in (None, each["name"])]
    if upstream is not None and not groups:
        return None
    reasons = []
    for group in groups:
        least = minimum
        if least is None:
            least = subject.ready.get(group["name"], subject.ready.get("min_up", 1))
        if group["usable"] < least:
            reasons.append(_shortage(group, least))
    return reasons
