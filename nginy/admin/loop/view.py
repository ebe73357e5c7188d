"""The last turns of the loop as facts: what `/api/v1/loop` answers, and the page `/loop` shows.

Each request extends the recording by ten seconds (`recording.py`); the first one finds no turns.
With several workers, the facts are those of one worker, chosen by `worker`.

Durations are seconds. A turn begins with its steps 1 and 2, in which it sleeps; its work begins at
`woke_s`, on a clock whose zero means nothing.

Tested in tests/run/test_admin_loop.py.
"""

import math
from collections.abc import Sequence
from heapq import nsmallest
from itertools import pairwise
from typing import Any, Final

from nginy.admin.answer import Answer, Facts, Slices, discard
from nginy.admin.asked import Asked, bad, json_answer
from nginy.admin.facts.live import walk_timers
from nginy.admin.facts.shape import flag, number, optional, real, row, rows, text
from nginy.admin.facts.source import Details, Source, known, stamp
from nginy.admin.loop.chrome import tidy
from nginy.admin.pace import Pace
from nginy.admin.subject import Subject
from nginy.event.recorder import Recorder
from nginy.event.timer import Timer
from nginy.event.trace import ADMIN, KEPT_TURNS, TIMER, Box, Turn

DEADLINES: Final = 24
"""How many of the next deadlines are shown."""
BOXES_SHOWN: Final = 200
"""Boxes of one turn."""
BOX_US: Final = 3
"""The cost of the facts of a box."""
TURN_US: Final = 6

STEPS: Final = (
    "how long may we sleep?",
    "sleep, until something happens",
    "read the clock",
    "what is ready",
    "timers that are due",
    "what was put off",
)

BOX: Final = row(
    step=number,
    kind=text,
    at_s=real,
    took_s=real,
    session=optional(number),
    sessions=number,
    bytes=number,
    outcome=text,
    what=text,
)
TURN: Final = row(
    turn=number,
    woke_s=real,
    took_s=real,
    steps_s=rows(real, len(STEPS)),
    ready=number,
    late_s=optional(real),
    put_off=number,
    connections=number,
    buffered_bytes=number,
    is_own=flag,
    boxes=rows(BOX, BOXES_SHOWN),
    more_boxes=number,
)
DEADLINE: Final = row(in_s=real, timers=number, what=text, of=text)


def _s(duration_ns: int) -> float:
    return max(duration_ns, 0) / 1e9


def box_facts(turn: Turn, box: Box) -> Facts:
    """Return the facts of a handler that ran."""
    step = 4 if box.began_ns < turn.timers_ns else 5 if box.began_ns < turn.posted_ns else 6
    is_accept = box.kind == "accept"
    return {
        "step": step,
        "kind": box.kind,
        "at_s": _s(box.began_ns - turn.woke_ns),
        "took_s": _s(box.ended_ns - box.began_ns),
        "session": box.number or None,
        "sessions": box.amount if is_accept else 0,
        "bytes": 0 if is_accept else max(box.amount, 0),
        "outcome": box.outcome,
        "what": tidy(box.what) if box.kind == TIMER else box.what,
    }


def turn_facts(raw: tuple[Any, ...]) -> Facts:
    """Return the facts of a turn."""
    turn = Turn(*raw)
    instants = raw[1:8]
    boxes = [Box(*each) for each in turn.boxes]
    return {
        "turn": turn.number,
        "woke_s": turn.woke_ns / 1e9,
        "took_s": _s(turn.ended_ns - turn.woke_ns),
        "steps_s": [_s(end - begin) for begin, end in pairwise(instants)],
        "ready": turn.ready,
        "late_s": None if turn.late_ms < 0 else turn.late_ms / 1000,
        "put_off": turn.put_off,
        "connections": turn.connections,
        "buffered_bytes": turn.buffered_bytes,
        "is_own": bool(boxes) and all(each.kind == ADMIN for each in boxes),
        "boxes": [box_facts(turn, each) for each in boxes[:BOXES_SHOWN]],
        "more_boxes": max(len(boxes) - BOXES_SHOWN, 0),
    }


class _Wheel:
    """Timers, noted one by one: how many there are, and which are due next."""

    def __init__(self) -> None:
        self.timers = 0
        self._latest_ms: float = math.inf
        """Beyond it, a deadline is none of the next ones."""
        self._next: dict[int, tuple[int, Timer]] = {}
        """How many timers are due at a deadline, and one of them."""

    def note(self, deadline_ms: int, timer: Timer) -> None:
        self.timers += 1
        if deadline_ms > self._latest_ms:
            return
        count, first = self._next.get(deadline_ms, (0, timer))
        self._next[deadline_ms] = count + 1, first
        if len(self._next) > 2 * DEADLINES:
            kept = nsmallest(DEADLINES, self._next)
            self._next = {each: self._next[each] for each in kept}
            self._latest_ms = kept[-1]

    def facts(self, now_ms: int) -> Facts:
        # A timer that was cancelled meanwhile may have no handler any more.
        found = {at: each for at, each in self._next.items() if each[1].is_running}
        return {
            "timers": self.timers,
            "next": [
                {
                    "in_s": max(each - now_ms, 0) / 1000,
                    "timers": found[each][0],
                    "what": tidy(getattr(found[each][1].handler, "__name__", "")),
                    "of": str(found[each][1].data),
                }
                for each in nsmallest(DEADLINES, found)
            ],
        }


def _listener(subject: Subject) -> str:
    """Return the address of a listener that takes clients, "" if there is none."""
    fronts = subject.fronts()
    return next((each.address for each in fronts if each.handler.protocol == "TCP"), "")


def _collect(subject: Subject, wanted: Details) -> Slices[Facts]:
    loop = subject.loop
    is_chosen = wanted["worker"] in (None, subject.worker)
    facts: Facts = {
        "worker": subject.worker,
        "pid": subject.pid,
        "listener": _listener(subject),
        "is_chosen": is_chosen,
        "fired": 0,
        "went_back_to_sleep": 0,
        "connections": loop.connections,
        "unsent_bytes": loop.budget.used_bytes,
        "unsent_limit_bytes": loop.budget.limit_bytes,
        "pipes": loop.pipes.opened,
        "timers": 0,
        "next": [],
        "turns": [],
    }
    if not is_chosen:
        return facts
    recorder: Recorder = subject.recording.watch()
    facts["fired"], facts["went_back_to_sleep"] = recorder.fired, recorder.early
    pace = Pace()
    for each in recorder.last_turns(wanted["after"])[-wanted["turns"] :]:
        facts["turns"].append(turn_facts(each))
        if pace.is_over(TURN_US + BOX_US * len(each[-1])):
            yield None
    wheel = _Wheel()
    yield from walk_timers(loop, wheel.note)
    return {**facts, **wheel.facts(loop.clock.now_ms)}


def _merge(reports: Sequence[Facts]) -> Facts:
    """Return the report of the chosen worker, and which others there are."""
    ordered = sorted(reports, key=lambda report: report["worker"])
    chosen = next((each for each in ordered if each["is_chosen"]), None)
    facts = dict(chosen or _nothing())
    facts["processes"] = [{"worker": e["worker"], "pid": e["pid"]} for e in ordered]
    return facts


def _nothing() -> Facts:
    empty: Facts = SHAPE({})
    return empty


SHAPE: Final = row(
    worker=text,
    pid=number,
    listener=text,
    is_chosen=flag,
    fired=number,
    went_back_to_sleep=number,
    connections=number,
    unsent_bytes=number,
    unsent_limit_bytes=number,
    pipes=number,
    timers=number,
    next=rows(DEADLINE, DEADLINES),
    turns=rows(TURN, KEPT_TURNS),
)
LOOP: Final = Source("loop", _collect, SHAPE, _merge)


def look(subject: Subject, worker: str | None, turns: int, after: int) -> Slices[Facts]:
    """Return the last turns of a worker, by default of the first, with the usual members."""
    worker = worker if worker is not None else None if subject.crew is None else "0"
    wanted = {"worker": worker, "turns": turns, "after": after}
    facts = yield from known(subject, LOOP, wanted)
    facts = facts if "processes" in facts else _merge([facts])
    chosen = facts.pop("is_chosen")
    if not chosen:
        names = ", ".join(each["worker"] for each in facts["processes"])
        raise bad(f"there is no such worker, expected {names}", "worker_not_found")
    workers = facts.pop("workers", None)
    return {**stamp(subject, {"workers": workers}), "steps": list(STEPS), **facts}


def loop_answer(subject: Subject, asked: Asked) -> Slices[Answer]:
    """Answer with the last turns."""
    turns = max(asked.number("turns", KEPT_TURNS, KEPT_TURNS), 1)
    after = asked.number("after", 0)
    members = yield from look(subject, asked.request.query.get("worker"), turns, after)
    answer = yield from json_answer(asked, members)
    yield from forget(members)
    return answer


def forget(facts: Facts) -> Slices[None]:
    """Free the facts of all turns in slices."""
    yield from discard(*(turn["boxes"] for turn in facts["turns"]))
