"""Source: one kind of facts, how to collect them, and how to merge those of several workers.

Whoever serves clients collects: the one process, or each of several workers. Answers use `known`:
it collects here, or asks the workers, and returns the same facts in either case.

Tested in tests/run/test_admin_workers.py.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from nginy.admin.answer import Facts, Question, Replies, Slices
from nginy.admin.facts.merge import Merge
from nginy.admin.facts.shape import Shape
from nginy.admin.subject import Subject

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
    replies = (yield Question(source.name, details or {})) or Replies()
    facts = source.merge(replies.facts)
    facts["workers"] = replies.stamp()
    return facts


def stamp(subject: Subject, facts: Facts) -> Facts:
    """Return the members that every answer has."""
    workers = facts.get("workers")
    return {**subject.stamp(), **({} if workers is None else {"workers": workers})}
