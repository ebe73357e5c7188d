"""A trace as text, in the format that Chrome's and Perfetto's viewers open.

Pure: what processes have recorded goes in (`event/trace.py`), pieces of JSON come out. Turns and
the handlers in them are complete events (X), each inside another one without a remainder, as
Perfetto demands. Sessions overlap, so they are asynchronous events (b, n, e); connections, unsent
bytes and what was put off are counters (C); what happens at one moment is an instant event (i).

Source: "Trace Event Format" (Google, 2016),
https://docs.google.com/document/d/1CvAClvFfyA5R-PhYUmn5OOQtYMH4h6I0nSsKchNAySU
"""

import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from heapq import merge
from typing import Any, Final

from nginy.event.trace import (
    ACCEPT,
    ADMIN,
    CLIENT_READ,
    CONNECTED,
    OTHER,
    POSTED,
    TIMER,
    TO_UPSTREAM,
    UPSTREAM_READ,
    WRITE,
    Box,
    Mark,
    Turn,
)

TEXT_MAX_BYTES: Final = 50_000_000
ROOM_BYTES: Final = 1_000_000
"""Kept free for the ends of sessions, and for what follows the events."""

NAMES: Final = {
    ACCEPT: "accept",
    ADMIN: "admin",
    CLIENT_READ: "read",
    OTHER: "other",
    POSTED: "posted",
    TIMER: "timer",
    UPSTREAM_READ: "read",
    WRITE: "write",
}
SIDES: Final = {CLIENT_READ: "client", UPSTREAM_READ: "upstream"}


@dataclass(frozen=True, slots=True)
class Recorded:
    """What one process has recorded."""

    pid: int
    worker: str
    turns: Sequence[tuple[Any, ...]]
    marks: Sequence[Sequence[Mark]]
    """In runs, each in order of time: to sort all of them at once would take some milliseconds."""
    ended_ns: int


def at_ns(mark: Mark) -> int:
    """Return the time of a mark."""
    return mark[1]


def tidy(handler: str) -> str:
    """Return what a timer is for in words, from the name of its handler."""
    return handler.strip("_").removesuffix("_handler").removesuffix("_timer").replace("_", " ")


def _us(duration_ns: int) -> str:
    """Return microseconds; exact, so that what is nested stays nested."""
    return f"{duration_ns // 1000}.{duration_ns % 1000:03}"


class _Process:
    """Makes the events of one process, with its instants in order."""

    def __init__(self, recorded: Recorded, base_ns: int) -> None:
        self._recorded = recorded
        self._base_ns = base_ns
        self._open: dict[int, None] = {}
        self._counters: dict[str, int] = {}
        self._marks = merge(*recorded.marks, key=at_ns)
        self._next = next(self._marks, None)

    def _event(self, ph: str, name: str, at_ns: int, more: str, arguments: object) -> str:
        name_text, told = json.dumps(name), json.dumps(arguments, separators=(",", ":"))
        return (
            f'{{"ph":"{ph}","name":{name_text},"pid":{self._recorded.pid},"tid":1,'
            f'"ts":{_us(max(at_ns - self._base_ns, 0))},{more}"args":{told}}}'
        )

    def events(self) -> Iterator[str]:
        """Yield all events; those of one track come in order of time."""
        recorded = self._recorded
        title = f"nginy worker {recorded.worker}" if recorded.worker else "nginy"
        for name, text in (("process_name", title), ("thread_name", "loop")):
            yield self._event("M", name, 0, "", {"name": text})
        for raw in recorded.turns:
            turn = Turn(*raw)
            yield from self._marks_before(turn.began_ns)
            yield from self._turn(turn)
        yield from self._marks_before(None)

    def _turn(self, turn: Turn) -> Iterator[str]:
        """Yield a turn, its steps and handlers, and what happens meanwhile."""
        for name, began_ns, ended_ns, arguments in _spans(turn):
            yield from self._marks_before(began_ns)
            more = f'"dur":{_us(ended_ns - began_ns)},'
            yield self._event("X", name, began_ns, more, arguments)
        yield from self._marks_before(turn.ended_ns + 1)
        counters = (
            ("connections", turn.connections),
            ("buffered_bytes", turn.buffered_bytes),
            ("posted", turn.put_off),
        )
        for name, value in counters:
            if self._counters.get(name) != value:
                self._counters[name] = value
                yield self._event("C", name, turn.ended_ns, "", {"value": value})

    def _marks_before(self, end_ns: int | None) -> Iterator[str]:
        """Yield what happened before an instant and was not yielded yet; None is the end."""
        while self._next is not None and (end_ns is None or at_ns(self._next) < end_ns):
            yield from self._mark(self._next)
            self._next = next(self._marks, None)

    def _mark(self, mark: Mark) -> Iterator[str]:
        kind, at_ns, number, name, text = mark
        if kind == "i":
            yield self._event("i", name, at_ns, '"s":"p",', {"text": text})
            return
        arguments: dict[str, object] = {}
        if kind == "b":
            self._open[number] = None
            arguments = {"listener": name, **({"client": text} if text else {})}
        elif number not in self._open:
            return
        elif kind == "e":
            del self._open[number]
            arguments = {"code": name, "reason": text}
        elif text:
            arguments = {"backend": text}
        yield self._session(kind, number, at_ns, name if kind == "n" else "session", arguments)

    def _session(self, ph: str, number: int, at_ns: int, name: str, arguments: object) -> str:
        more = f'"cat":"session","id":"{self._recorded.pid}.{number}",'
        return self._event(ph, name, at_ns, more, arguments)

    def ends(self, at_ns: int) -> Iterator[str]:
        """Yield the ends of the sessions that go on."""
        for number in self._open:
            yield self._session("e", number, at_ns, "session", {"open": True})


def _spans(turn: Turn) -> Iterator[tuple[str, int, int, dict[str, object]]]:
    """Yield a turn and everything in it, outer spans first, otherwise in order of time."""
    wait = None if turn.wait_ms < 0 else turn.wait_ms
    yield "turn", turn.began_ns, turn.ended_ns, {"number": turn.number, "ready": turn.ready}
    yield "select", turn.select_ns, turn.woke_ns, {"ready": turn.ready, "wait_ms": wait}
    fired = sum(turn.timers_ns <= each[1] < turn.posted_ns for each in turn.boxes)
    late = {"fired": fired, "late_ms": max(turn.late_ms, 0)}
    steps = [
        ("posted", turn.posted_ns, turn.ended_ns, {"ran": turn.put_off}),
        ("timers", turn.timers_ns, turn.posted_ns, late),
    ]
    for raw in turn.boxes:
        box = Box(*raw)
        while steps and box.began_ns >= steps[-1][1]:
            name, began_ns, ended_ns, told = steps.pop()
            if box.began_ns < ended_ns:
                yield name, began_ns, ended_ns, dict(told)
        yield NAMES.get(box.kind, OTHER), box.began_ns, box.ended_ns, _arguments(box)


def _arguments(box: Box) -> dict[str, object]:
    found: dict[str, object] = {"outcome": box.outcome}
    if box.number:
        found["session"] = box.number
    if box.kind == ACCEPT:
        found["sessions"] = box.amount
    elif box.kind not in (TIMER, ADMIN):
        found["bytes"] = box.amount
    if box.kind in SIDES:
        found["side"] = SIDES[box.kind]
    elif box.kind == WRITE and box.number:
        found["side"] = "upstream" if box.what in (TO_UPSTREAM, CONNECTED) else "client"
    if box.what:
        found["what"] = tidy(box.what) if box.kind == TIMER else box.what
    return found


def render(
    processes: Iterable[Recorded],
    base_ns: int,
    told: dict[str, object],
    *,
    is_truncated: bool = False,
    max_bytes: int = TEXT_MAX_BYTES,
) -> Iterator[str]:
    """Yield the text, an event at a time; `base_ns` is where times begin, `told` is otherData."""
    separator = "\n"
    yield '{"displayTimeUnit":"ns","traceEvents":['
    size = 0
    for recorded in processes:
        process = _Process(recorded, base_ns)
        last_ns = base_ns
        for text in process.events():
            if size > max_bytes - ROOM_BYTES:
                is_truncated = True
                break
            size += len(text) + 2
            yield separator + text
            separator = ",\n"
        last_ns = max(recorded.ended_ns, last_ns)
        for text in process.ends(last_ns):
            yield separator + text
    other = {**told, **({"truncated": True} if is_truncated else {})}
    yield f'\n],"otherData":{json.dumps(other)}}}\n'
