"""Tracing: what the routes of `/trace` answer.

A trace is ordered once and recorded by each process that serves. When its time is over, the process
that answers collects the records of all of them, a part at a time, and writes them as text
(`chrome.py`). The text leaves in pieces, so that no turn has to move more than one.

Tested in tests/run/test_admin_trace.py.
"""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final

from nginy.admin.answer import JSON, Answer, Facts, Pause, Slices, discard
from nginy.admin.asked import Asked, bad, duration_ms, json_answer, whole_number
from nginy.admin.changes.changing import tell
from nginy.admin.facts.live import walk
from nginy.admin.facts.shape import NUMBER_MAX, TEXT_MAX_CHARACTERS, flag, number, row, rows, text
from nginy.admin.facts.source import Details, Source, known
from nginy.admin.loop.chrome import Recorded, at_ns, render
from nginy.admin.loop.recording import TraceOrder
from nginy.admin.pace import Pace
from nginy.admin.subject import Subject
from nginy.event.recorder import now
from nginy.event.trace import Mark
from nginy.proxy.session import Session
from nginy.text.times import utc_text
from nginy.wire.request import RequestError

FOR_MAX_MS: Final = 60_000
EVENTS_MAX: Final = 200_000
MARKS_A_PART: Final = 2000
"""Marks passed on, and sorted, in one go: 0.2 ms at most."""
LOOK_MS: Final = 200
EVENTS_A_SLICE: Final = 60
"""Events made into text in one turn: some 0.5 ms."""
EVENT_US: Final = 5
"""The cost of making a mark of an event."""
PIECE_BYTES: Final = 65_536
PARTS_MAX: Final = 1000
BOXES_MAX: Final = 10_000
NS_A_MS: Final = 1_000_000


# What a process has recorded, as rows of numbers and words.


def cells(*kinds: type) -> Any:
    """Return the shape of a row with numbers and texts in this order."""

    def take(value: object) -> tuple[Any, ...] | None:
        if not isinstance(value, list | tuple) or len(value) != len(kinds):
            return None
        found: list[Any] = []
        for kind, each in zip(kinds, value, strict=True):
            if kind is str and isinstance(each, str):
                found.append(each[:TEXT_MAX_CHARACTERS])
            elif kind is int and type(each) is int and -NUMBER_MAX <= each <= NUMBER_MAX:
                found.append(each)
            else:
                return None
        return tuple(found)

    return take


BOX: Final = cells(str, int, int, int, int, str, str)
MARK: Final = cells(str, int, int, str, str)
TURN: Final = cells(*([int] * 14))


def _turn(value: object) -> tuple[Any, ...] | None:
    if not isinstance(value, list) or not value or not isinstance(value[-1], list):
        return None
    head = TURN(value[:-1])
    if head is None:
        return None
    boxes = [box for each in value[-1][:BOXES_MAX] if (box := BOX(each)) is not None]
    return (*head, boxes)


def present(shape: Any) -> Any:
    """Return the shape of a list, which drops items that do not fit."""
    return lambda value: [each for each in rows(shape)(value) if each is not None]


def _collect(subject: Subject, wanted: Details) -> Slices[Facts]:
    """Begin a trace, or return a part of what it has recorded."""
    recording, identity = subject.recording, wanted["id"]
    if wanted["do"] == "begin":
        is_anonymous = wanted["anonymous"]
        recording.begin_trace(identity, wanted["for_ms"], wanted["max_events"], is_anonymous)
    found, part = recording.trace, wanted.get("part", 0)
    is_there = found is not None and recording.trace_id == identity
    facts: Facts = {
        "worker": subject.worker,
        "pid": subject.pid,
        "is_there": is_there,
        "is_done": is_there and not recording.is_tracing,
        "is_truncated": False,
        "ended_ns": 0,
        "parts": 0,
        "turns": [],
        "marks": [],
    }
    if found is None or not facts["is_done"]:
        return facts
    if part == 0 and recording.follower is not None:
        sessions: list[Session] = []
        yield from walk(subject.loop, sessions.append)
        yield from recording.finish(sessions)
    starts = [*found.parts, len(found.turns)]
    turn_parts = len(found.parts)
    if part < turn_parts:
        facts["turns"] = found.turns[starts[part] : starts[part + 1]]
    else:
        begin = (part - turn_parts) * MARKS_A_PART
        facts["marks"] = found.marks[begin : begin + MARKS_A_PART]
    facts["parts"] = turn_parts + -(-len(found.marks) // MARKS_A_PART)
    facts["is_truncated"] = found.is_truncated
    facts["ended_ns"] = found.ended_ns or 0
    return facts


def _merge(reports: Sequence[Facts]) -> Facts:
    return {"processes": list(reports)}


TRACE: Final = Source(
    "trace",
    _collect,
    row(
        worker=text,
        pid=number,
        is_there=flag,
        is_done=flag,
        is_truncated=flag,
        ended_ns=number,
        parts=number,
        turns=present(_turn),
        marks=present(MARK),
    ),
    _merge,
)


def _ask(subject: Subject, details: Details) -> Slices[list[Facts]]:
    """Return what each process that serves answers."""
    facts = yield from known(subject, TRACE, details)
    found: list[Facts] = facts.get("processes", [facts])
    return found


# The routes.


def begin(subject: Subject, asked: Asked) -> Slices[Answer]:
    """Begin a trace."""
    members = asked.body(("for", "max_events", "anonymous"))
    for_ms = duration_ms("for", members.get("for", "5s"))
    if not 0 < for_ms <= FOR_MAX_MS:
        raise bad(f"for is not from 1ms to {FOR_MAX_MS // 1000}s", "bad_value")
    most = whole_number("max_events", members.get("max_events", EVENTS_MAX), 1, EVENTS_MAX)
    is_anonymous = members.get("anonymous", False)
    if not isinstance(is_anonymous, bool):
        raise bad("anonymous is not true or false", "bad_value")
    clock, before = subject.loop.clock, subject.trace_order
    if before is not None and clock.now_ms < before.ends_at_ms:
        left_s = (before.ends_at_ms - clock.now_ms) / 1000
        text_ = f"trace {before.identity} is being recorded for {left_s:.1f} s more"
        raise RequestError(409, "trace_running", text_)
    identity = 1 if before is None else before.identity + 1
    ends_at_ms = clock.now_ms + for_ms
    wall_ms = clock.wall_ms()
    order = TraceOrder(identity, now(), wall_ms, ends_at_ms, subject.events.last)
    subject.trace_order = order
    wanted = {
        "do": "begin",
        "id": identity,
        "for_ms": for_ms,
        "max_events": most,
        "anonymous": is_anonymous,
    }
    processes = yield from _ask(subject, wanted)
    tell(subject, f"operator {asked.sender} traces the loop for {for_ms / 1000:g} s")
    answer = {
        **subject.stamp(),
        "id": identity,
        "for_s": for_ms / 1000,
        "max_events": most,
        "until": utc_text(wall_ms + for_ms),
        "processes": [each["pid"] for each in processes],
    }
    return (yield from json_answer(asked, answer, 202))


def trace(subject: Subject, asked: Asked) -> Slices[Answer]:
    """Answer with a trace, as soon as it is complete."""
    order = subject.trace_order
    if order is None or asked.names["ID"] != str(order.identity):
        raise _gone(asked.names["ID"])
    clock = subject.loop.clock
    while (left_ms := order.ends_at_ms - clock.now_ms) > 0:
        yield Pause(min(left_ms, LOOK_MS))
    found = yield from _take(subject, order)
    if not found:
        raise _gone(asked.names["ID"])
    pieces = yield from _text(subject, order, found)
    disposition = f'Content-Disposition: attachment; filename="nginy-trace-{order.identity}.json"'
    return Answer(200, b"", JSON, (disposition,), pieces)


def _gone(identity: str) -> RequestError:
    return RequestError(404, "trace_not_found", f"there is no trace {identity[:50]} any more")


def _take(subject: Subject, order: TraceOrder) -> Slices[dict[int, Facts]]:
    """Return what each process has recorded, by its id."""
    found: dict[int, Facts] = {}
    for part in range(PARTS_MAX):
        wanted = {"do": "take", "id": order.identity, "part": part}
        processes = yield from _ask(subject, wanted)
        while any(each["is_there"] and not each["is_done"] for each in processes):
            yield Pause(LOOK_MS)
            processes = yield from _ask(subject, wanted)
        for each in processes:
            if not each["is_there"]:
                continue
            marks = sorted(each["marks"], key=at_ns)
            if part == 0:
                found[each["pid"]] = {**each, "marks": [marks]}
            elif each["pid"] in found:
                found[each["pid"]]["turns"] += each["turns"]
                found[each["pid"]]["marks"].append(marks)
        if all(part + 1 >= each["parts"] for each in processes):
            break
        yield None
    return found


def _text(subject: Subject, order: TraceOrder, found: dict[int, Facts]) -> Slices[list[bytes]]:
    """Return the text of a trace, in pieces."""
    happened = yield from _happened(subject, order)
    single = subject.crew is None
    processes = [
        Recorded(
            each["pid"],
            "" if single else each["worker"],
            each["turns"],
            [*each["marks"], *([happened] if single else ())],
            each["ended_ns"],
        )
        for each in sorted(found.values(), key=lambda facts: facts["pid"])
    ]
    if not single:
        last_ns = max(each.ended_ns for each in processes)
        processes.append(Recorded(subject.pid, "supervisor", (), [happened], last_ns))
    told = {
        "version": f"nginy {subject.version}",
        "began": utc_text(order.wall_ms),
        "configuration": subject.file,
        "generation": subject.generation,
    }
    is_truncated = any(each["is_truncated"] for each in found.values())
    pieces: list[bytes] = []
    waiting: list[str] = []
    size = 0
    lines = render(processes, order.base_ns, told, is_truncated=is_truncated)
    for count, line in enumerate(lines, 1):
        waiting.append(line)
        size += len(line)
        if size >= PIECE_BYTES:
            pieces.append("".join(waiting).encode("ascii"))
            waiting.clear()
            size = 0
        if count % EVENTS_A_SLICE == 0:
            yield None
    pieces.append("".join(waiting).encode("ascii"))
    for each in found.values():
        yield from discard(each["turns"], *each["marks"])
    return pieces


def _happened(subject: Subject, order: TraceOrder) -> Slices[list[Mark]]:
    """Return state changes, reloads and other events as marks."""
    marks: list[Mark] = []
    pace = Pace()
    for event in subject.events.after(order.seq):
        if event["kind"] != "operator" or event["backend"]:
            marks.append(_mark(event, order))
        if pace.is_over(EVENT_US):
            yield None
    return marks


def _mark(event: Facts, order: TraceOrder) -> Mark:
    at = datetime.fromisoformat(event["at"].replace("Z", "+00:00"))
    after_ns = round(at.timestamp() * 1000 - order.wall_ms) * NS_A_MS
    name = "state change" if event["backend"] else event["kind"]
    said = [event["backend"], event["after"], event["text"]]
    told = " ".join(each for each in said if each)
    return "i", order.base_ns + max(after_ns, 0), 0, name, told
