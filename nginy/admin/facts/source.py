"""Source: one kind of facts, how to collect them, and how to merge those of several workers.

The processes that serve clients collect: the only one, or each of several workers. Answers call
`known`, which collects here or asks the workers, and returns the same facts either way.

Tested in tests/run/test_admin_workers.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from nginy.admin.answer import Facts, Poll, Replies, Slices
from nginy.admin.facts.merge import Merge
from nginy.admin.facts.shape import Shape
from nginy.admin.subject import Subject
from nginy.wire.request import RequestError

NAMED_MAX: Final = 3
"""Workers in one sentence."""

Details = Mapping[str, Any]
"""What a question asks for, as JSON."""


@dataclass(frozen=True, slots=True)
class Source:
    """One kind of facts."""

    name: str
    collect: Callable[[Subject, Details], Slices[Facts]]
    shape: Shape
    """What is taken of a worker's facts."""
    merge: Merge


def known(subject: Subject, source: Source, details: Details | None = None) -> Slices[Facts]:
    """Return the facts of all processes that serve, with `workers` if there are several."""
    if subject.crew is None:
        return (yield from source.collect(subject, details or {}))
    replies = (yield Poll(source.name, details or {})) or Replies()
    facts = source.merge(replies.facts)
    facts["workers"] = replies.stamp()
    return facts


def missing(facts: Facts, refusal: RequestError, *, by_any: bool = False) -> RequestError:
    """Return the refusal for something that the facts lack; a different one if nobody can tell.

    All workers have the same configuration, so one that has answered can tell what is in it. A
    session is known to its own worker alone (`by_any`).
    """
    silent = silence(facts)
    if silent is None or (facts["workers"]["answered"] and not by_any):
        return refusal
    return RequestError(503, "workers_late", f"nobody can tell, as {silent}")


def silence(facts: Facts) -> str | None:
    """Return which workers have not answered, as a sentence; None if all have."""
    workers = facts.get("workers")
    if workers is None or (workers["answered"] and not workers["late"]):
        return None
    late = workers["late"]
    if not workers["answered"]:
        return "no worker answers"
    more = f" and {len(late) - NAMED_MAX} more" if len(late) > NAMED_MAX else ""
    return f"there is no answer from {', '.join(late[:NAMED_MAX])}{more}"


def stamp(subject: Subject, facts: Facts) -> Facts:
    """Return the members that every answer has."""
    workers = facts.get("workers")
    return {**subject.stamp(), **({} if workers is None else {"workers": workers})}
