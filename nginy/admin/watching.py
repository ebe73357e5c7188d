"""Watching: events as they happen, by a long poll or as a stream of the kind that browsers read.

A stream (`Accept: text/event-stream`) has no end. Each event has its number as `id`, so a reader
that comes back says with `Last-Event-ID` where it was. Comments keep the connection alive; a reader
that is 64 KiB behind is cut off (`client.py`).

Source: HTML Living Standard, "Server-sent events".

Tested in tests/run/test_admin_watching.py.
"""

from http import HTTPStatus
from typing import Final

from nginy.admin.answer import HEADERS, Answer, Chunk, Facts, Pause, Slices, dumps
from nginy.admin.asked import Asked, bad, json_answer
from nginy.admin.subject import Subject

STREAM: Final = "text/event-stream"
LOOK_MS: Final = 100
WAIT_MAX_MS: Final = 30_000
ALIVE_MS: Final = 15_000
"""How often a stream without events shows that it is alive."""
AT_ONCE: Final = 100
"""Events in one chunk."""


def events(subject: Subject, asked: Asked) -> Slices[Answer]:
    """Answer with what has happened after an event, as soon as there is something."""
    fields = asked.request.fields
    if STREAM in fields.get("accept", "") and asked.request.method == "GET":
        return (yield from _stream(subject, asked))
    # A number from before a restart says nothing here.
    after = min(asked.number("after", 0), subject.events.last)
    clock = subject.loop.clock
    deadline_ms = clock.now_ms + asked.duration_ms("wait", 0, WAIT_MAX_MS)
    while subject.events.last <= after and clock.now_ms < deadline_ms:
        yield Pause(LOOK_MS)
    rows = subject.events.after(after)
    members: Facts = {**subject.stamp(), "events": rows, "last": subject.events.last}
    return (yield from json_answer(asked, members))


def _stream(subject: Subject, asked: Asked) -> Slices[Answer]:
    """Send events from one on, until the reader leaves; it never returns."""
    last = asked.number("after", 0)
    told = asked.request.fields.get("last-event-id")
    if told is not None:
        if not told.isascii() or not told.isdecimal() or len(told) > 15:
            raise bad("Last-Event-ID is not a whole number")
        last = int(told)
    # A number from before a restart is not one of ours.
    last = min(last, subject.events.last)
    clock = subject.loop.clock
    status = HTTPStatus.OK
    head = f"HTTP/1.1 {status.value} {status.phrase}\r\nContent-Type: {STREAM}\r\n"
    yield Chunk(f"{head}Connection: close\r\n{HEADERS}\r\n".encode("ascii"))
    alive_at_ms = clock.now_ms + ALIVE_MS
    while True:
        rows = subject.events.after(last, AT_ONCE)
        if rows:
            last = rows[-1]["seq"]
            yield Chunk("".join(f"id: {e['seq']}\ndata: {dumps(e)}\n\n" for e in rows).encode())
        elif clock.now_ms >= alive_at_ms:
            yield Chunk(b": nothing has happened\n\n")
        else:
            yield Pause(LOOK_MS)
            continue
        alive_at_ms = clock.now_ms + ALIVE_MS
