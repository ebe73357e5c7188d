"""Backends that are one server in several upstreams: nginy asks it once, and all hear the answer.

Two watches ask the same if they ask one address the same question at the same interval
(`checker.question_key`). They form a group: when the check of one is due, it begins for all, and
its result is that of all. A watch that comes to a group, after a reload as well, begins with what
the others have found.

`watch` makes the checks; nothing here has a timer.

The one idea: each watch has a schedule and a health of its own, as if it were alone. They share
only the question.
"""

from collections.abc import Hashable, Iterable
from typing import Protocol

from nginy.backend.backend import Backend
from nginy.backend.checks.dialog import Result
from nginy.backend.checks.open_checks import Check


class Sharer(Protocol):
    """The watch of a backend, as others with the same question see it."""

    backend: Backend

    def begin_check(self) -> bool:
        """Begin to wait for a result, if the backend needs a check now."""

    def note_check(self, check: Check) -> None:
        """Keep the check that has begun, or a part in it, to be able to give it up."""

    def check_ended(self, result: Result) -> None:
        """Take the result."""


Sharers = list[Sharer]


class Groups:
    """All watches by what they ask. Owned by `Checker`, which all upstreams share."""

    __slots__ = ("_groups",)

    def __init__(self) -> None:
        self._groups: dict[Hashable, Sharers] = {}

    def join(self, key: Hashable, sharer: Sharer) -> Sharers:
        """Add a watch to the group of those with this question, and return the group."""
        group = self._groups.setdefault(key, [])
        group.append(sharer)
        return group

    def leave(self, key: Hashable, sharer: Sharer) -> None:
        """Leave the group."""
        group = self._groups[key]
        group.remove(sharer)
        if not group:
            del self._groups[key]


class SharedCheck:
    """One check for several backends. Each has a `Part` of it, and gives up that alone."""

    __slots__ = ("_sharers", "check")

    def __init__(self, sharers: Iterable[Sharer]) -> None:
        self._sharers: dict[Sharer, None] = dict.fromkeys(sharers)
        self.check: Check | None = None
        """The check itself, once it has begun."""

    def ended(self, result: Result) -> None:
        """Tell all that still want to know."""
        self.check = None
        for sharer in tuple(self._sharers):
            if sharer in self._sharers:
                del self._sharers[sharer]
                sharer.check_ended(result)

    def give_up(self, sharer: Sharer) -> None:
        """Tell one no more; the last one ends the check."""
        self._sharers.pop(sharer, None)
        if not self._sharers and self.check is not None:
            self.check.cancel()
            self.check = None


class Part:
    """The part of one backend in a check that several share."""

    __slots__ = ("_shared", "_sharer")

    def __init__(self, shared: SharedCheck, sharer: Sharer) -> None:
        self._shared = shared
        self._sharer = sharer

    def cancel(self) -> None:
        """Give up, and hear no result."""
        self._shared.give_up(self._sharer)

    def close(self) -> None:
        """Give up; the owner of the check itself closes it."""
        self._shared.give_up(self._sharer)
