"""Changing: what each PATCH, POST and DELETE does.

Each function checks a change as a whole before it does anything. Then it writes a line to the log,
adds an event and an entry in the book (`book.py`), and tells all who serve (`overriding.py`). It
refuses a change while a reload is under way, since nobody could say which came first.

Tested in tests/run/test_admin_changes.py.
"""

import logging
import signal
from collections.abc import Mapping
from typing import Any, Final

from nginy.admin.answer import Answer, Facts, Pause, Slices
from nginy.admin.asked import Asked, bad, duration_ms, json_answer, one_line, whole_number
from nginy.admin.changes.book import BOUNDS, CHANGES_MAX, WORDS, Change
from nginy.admin.changes.overriding import OVERRIDING, details
from nginy.admin.configured import rehearsal
from nginy.admin.facts.backends import BACKENDS
from nginy.admin.facts.overview import OVERVIEW
from nginy.admin.facts.source import known, missing, stamp
from nginy.admin.reading import no_backend, no_upstream
from nginy.admin.subject import Subject
from nginy.log.levels import NOTICE
from nginy.wire.request import RequestError

logger = logging.getLogger("nginy.admin")

FIELDS: Final = ("state", "weight", "max_conns", "reason", "for", "sessions")
SESSION_FATES: Final = ("keep", "close", "reset")
LEASE_MAX_MS: Final = 30 * 86_400_000
RELOAD_MS: Final = 60_000
REOPEN_MS: Final = 10_000
LOOK_MS: Final = 20


def backend(subject: Subject, asked: Asked) -> Slices[Answer]:
    """Set values of one backend, or of all addresses of a name."""
    members = _checked(asked.body(FIELDS))
    refuse_during_reload(subject)
    upstream = asked.names["U"]
    wanted: Facts = {"upstream": upstream, "address": asked.names.get("B")}
    if wanted["address"] is None:
        wanted["name"] = asked.request.query.get("name")
        if wanted["name"] is None:
            raise bad("expected ?name=, as in ?name=web.internal:80, or the path of a backend")
    facts = yield from known(subject, BACKENDS, wanted)
    if not facts["is_known"]:
        raise missing(facts, (yield from no_upstream(subject, upstream)))
    if not facts["backends"]:
        raise (yield from no_backend(subject, facts, {"address": wanted.get("name"), **wanted}))
    row = facts["backends"][0]
    name, address = row["name"], row["address"] if "name" not in wanted else ""
    place = upstream, name, address
    values = subject.book.values(subject.file_values).get((upstream, name))
    if values is None:
        raise RequestError(409, "backend_leaving", f"{address or name} has left the configuration")
    refuse_too_many(subject)
    _note(subject, asked, place, members, values)
    act = {
        "upstream": upstream,
        "name": name,
        "address": address,
        "forgive": members.get("state") == "ready",
        "sessions": members.get("sessions", "keep"),
    }
    done = yield from known(subject, OVERRIDING, details(subject.book, act))
    after = yield from known(subject, BACKENDS, wanted)
    rows = after["backends"]
    yield from subject.adjust("backends", rows)
    for each in rows:
        each.pop("upstream")
    told = stamp(subject, done)
    found = {**told, **rows[0]} if "name" not in wanted and rows else {**told, "backends": rows}
    return (yield from json_answer(asked, found))


def _checked(members: dict[str, Any]) -> dict[str, Any]:
    """Return the members of a change with checked values; `for` in milliseconds."""
    if not any(name in members for name in ("state", "weight", "max_conns")):
        raise bad("expected state, weight or max_conns", "nothing_to_change")
    state = members.get("state")
    if "state" in members and state not in tuple(WORDS):
        raise bad(f"state is not one of {', '.join(WORDS)}", "bad_value")
    for name, (least, greatest) in BOUNDS.items():
        if name in members:
            whole_number(name, members[name], least, greatest)
    if "reason" in members:
        one_line("reason", members["reason"])
    if "for" in members:
        members["for"] = duration_ms("for", members["for"])
        if not 0 < members["for"] <= LEASE_MAX_MS:
            raise bad("for is not a duration up to 30d", "bad_value")
    if members.get("sessions", "keep") not in SESSION_FATES:
        raise bad(f"sessions is not one of {', '.join(SESSION_FATES)}", "bad_value")
    if "sessions" in members and state != "maint":
        raise bad("sessions goes with state maint", "bad_value")
    return members


def _note(
    subject: Subject,
    asked: Asked,
    place: tuple[str, str, str],
    members: Mapping[str, Any],
    values: Mapping[str, str | int],
) -> None:
    """Enter a change in the book, and announce it."""
    clock = subject.loop.clock
    lease_ms = members.get("for")
    reason = members.get("reason", "")
    for key in ("state", "weight", "max_conns"):
        if key not in members:
            continue
        change = Change(
            0,
            place,
            key,
            members[key],
            values[key],
            asked.sender,
            reason,
            clock.wall_ms(),
            None if lease_ms is None else clock.now_ms + lease_ms,
        )
        subject.book.set(change)
        text = f"operator {asked.sender} set {change}"
        if lease_ms is not None:
            text += f" for {lease_ms // 1000}s"
        tell(subject, f"{text}: {reason}" if reason else text, place)
    subject.changed()


def tell(subject: Subject, text: str, place: tuple[str, str, str] | None = None) -> None:
    """Log what an operator has done, or what became of it, and add an event."""
    logger.log(NOTICE, "%s", text)
    upstream, backend_text = (None, None) if place is None else (place[0], place[2] or place[1])
    event = {"kind": "operator", "text": text, "upstream": upstream, "backend": backend_text}
    subject.events.add(subject.loop.clock.wall_ms(), event)


def follow_file(subject: Subject) -> list[str]:
    """End the changes that the file overrules, announce each end, and return what that says."""
    texts = subject.book.follow(subject.file_values, subject.balances)
    for text in texts:
        tell(subject, text)
    return texts


def undo(subject: Subject, asked: Asked) -> Slices[Answer]:
    """End one change, or all."""
    refuse_during_reload(subject)
    number = asked.names.get("N")
    gone = subject.book.remove(lambda change: number in (None, str(change.number)))
    if number is not None and not gone:
        raise RequestError(404, "change_not_found", f"there is no change {number[:20]}")
    for change in gone:
        tell(subject, f"operator {asked.sender} took back: {change}", change.place)
    # The changes of its keys go with an added backend.
    follow_file(subject)
    subject.changed()
    facts = yield from known(subject, OVERRIDING, details(subject.book))
    return (yield from json_answer(asked, {**stamp(subject, facts), "undone": len(gone)}))


def refuse_during_reload(subject: Subject) -> None:
    """Refuse a change while a reload is under way."""
    if subject.is_reloading():
        raise RequestError(409, "reload_under_way", "a reload is under way, try again after it")


def refuse_too_many(subject: Subject) -> None:
    """Refuse one more change if the book is full."""
    if len(subject.book) >= CHANGES_MAX:
        text = f"{CHANGES_MAX} changes hold already, put them into the file"
        raise RequestError(409, "too_many_changes", text)


def reload(subject: Subject, asked: Asked) -> Slices[Answer]:
    """Read the configuration again, and answer when nginy has applied or refused it."""
    is_dry = asked.body(("dry_run",)).get("dry_run", False)
    if not isinstance(is_dry, bool):
        raise bad("dry_run is not true or false", "bad_value")
    refuse_during_reload(subject)
    if is_dry:
        return (yield from rehearsal(subject, asked))
    if subject.status == "draining":
        raise RequestError(409, "ending", "nginy is about to end and will not reload")
    count, clock = subject.reloads.total(), subject.loop.clock
    logger.log(NOTICE, "operator %s reloads", asked.sender)
    subject.obey(signal.SIGHUP)
    deadline_ms = clock.now_ms + RELOAD_MS
    while subject.reloads.total() == count:
        if clock.now_ms >= deadline_ms or subject.status == "draining":
            raise RequestError(504, "no_outcome", "the reload has no result; see the log")
        yield Pause(LOOK_MS)
    status = 422 if subject.outcome.get("problems") else 200
    return (yield from json_answer(asked, {**subject.stamp(), **subject.outcome}, status))


def reopen(subject: Subject, asked: Asked) -> Slices[Answer]:
    """Open the logs again, and answer which could not be opened."""
    asked.body(())
    logger.log(NOTICE, "operator %s reopens the logs", asked.sender)
    count, clock = subject.reopenings, subject.loop.clock
    deadline_ms = clock.now_ms + REOPEN_MS
    subject.obey(signal.SIGUSR1)
    while subject.reopenings == count:
        if clock.now_ms >= deadline_ms:
            raise RequestError(504, "no_outcome", "the logs are not open yet; see the log")
        yield Pause(LOOK_MS)
    problems = [{"text": each} for each in subject.unopened]
    result = "refused" if problems else "reopened"
    told = {**subject.stamp(), "result": result, "problems": problems}
    return (yield from json_answer(asked, told, 422 if problems else 200))


def quit_(subject: Subject, asked: Asked) -> Slices[Answer]:
    """End when the sessions have ended."""
    asked.body(())
    facts = yield from known(subject, OVERVIEW)
    logger.log(NOTICE, "operator %s ends nginy gracefully", asked.sender)
    subject.obey(signal.SIGQUIT)
    ends_at_ms = subject.ends_at_ms
    told = {
        **stamp(subject, facts),
        "sessions": facts["sessions"]["now"],
        "until": None if ends_at_ms is None else subject.wall_text(ends_at_ms),
        "waits_for": subject.draining,
    }
    return (yield from json_answer(asked, told))


def stop(subject: Subject, asked: Asked) -> Slices[Answer]:
    """End after the turn in which the answer leaves, whatever the sessions do."""
    asked.body(())
    logger.log(NOTICE, "operator %s ends nginy", asked.sender)
    subject.obey(signal.SIGTERM)
    return json_answer(asked, {**subject.stamp(), "result": "ending"})
