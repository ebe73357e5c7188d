"""Adding a backend to an upstream while nginy runs, and removing one.

An operator can add only what the file could have: `Subject.newcomer` reads the keys by the file's
own table. A removed backend takes no new sessions, and is leaving until its last one has ended. If
the file has it, it stays hidden until the file drops it, or the change is undone.

Both are entries in the book (`book.py`); `overriding.py` sends its listings to every process that
serves.

Tested in tests/run/test_admin_adding.py.
"""

import json
from typing import Any

from nginy.admin.answer import Answer, Facts, Slices, dumps
from nginy.admin.asked import Asked, json_answer, one_line
from nginy.admin.changes.book import PRESENCE, Change, Newcomer
from nginy.admin.changes.changing import SESSION_FATES, refuse_during_reload, refuse_too_many, tell
from nginy.admin.changes.overriding import OVERRIDING, details
from nginy.admin.facts.backends import BACKENDS
from nginy.admin.facts.source import known, stamp
from nginy.admin.reading import no_backend, no_upstream
from nginy.admin.subject import Subject
from nginy.errors import InvalidValueError
from nginy.text.address import parse_peer
from nginy.wire.request import RequestError


def add(subject: Subject, asked: Asked) -> Slices[Answer]:
    """Add a backend to an upstream."""
    upstream = asked.names["U"]
    members = _members(asked)
    reason = members.pop("reason", "")
    if upstream not in subject.balances:
        raise (yield from no_upstream(subject, upstream))
    generation = subject.generation
    found = yield from subject.newcomer(upstream, members)
    # That took several turns, so something may have changed meanwhile.
    refuse_during_reload(subject)
    if subject.generation != generation:
        raise RequestError(409, "reloaded", "a reload came in between, try again")
    if found.settings is None:
        return _refused(subject, found)
    name = found.settings.name
    if (upstream, name) in subject.book.values(subject.file_values):
        raise RequestError(409, "backend_exists", f"{name} is in {upstream} already")
    refuse_too_many(subject)
    place = upstream, name, ""
    change = Change(
        0,
        place,
        PRESENCE,
        "added",
        "absent",
        asked.sender,
        reason,
        subject.loop.clock.wall_ms(),
        None,
        found.keys,
        found.settings,
    )
    subject.book.set(change)
    text = f"operator {asked.sender} added {upstream}/{name}"
    tell(subject, f"{text}: {reason}" if reason else text, place)
    subject.changed()
    done = yield from known(subject, OVERRIDING, details(subject.book))
    wanted = {"upstream": upstream, "address": str(found.settings.address)}
    rows = (yield from known(subject, BACKENDS, wanted))["backends"]
    row = {name: value for name, value in rows[0].items() if name != "upstream"} if rows else {}
    moved = {} if found.moved_percent is None else {"keys_moved_percent": found.moved_percent}
    return (yield from json_answer(asked, {**stamp(subject, done), **row, **moved}, 201))


def _members(asked: Asked) -> dict[str, Any]:
    """Return the body: keys of a backend, and a reason."""
    try:
        members = json.loads(asked.request.body or b"{}")
    except (ValueError, RecursionError):
        raise RequestError(400, "bad_json", "the body is not JSON") from None
    if not isinstance(members, dict):
        text = 'expected an object with the keys of a backend, such as {"address": "10.0.0.1:80"}'
        raise RequestError(400, "bad_json", text)
    if "reason" in members:
        one_line("reason", members["reason"])
    return members


def _refused(subject: Subject, found: Newcomer) -> Answer:
    """Answer with everything that is wrong."""
    texts = [str(problem["text"]) for problem in found.problems]
    error = {"code": "bad_backend", "message": texts[0] if texts else "", "hint": None}
    members = {**subject.stamp(), "error": error, "problems": list(found.problems)}
    return Answer(422, dumps(members).encode() + b"\n")


def remove(subject: Subject, asked: Asked) -> Slices[Answer]:
    """Remove a backend from an upstream."""
    sessions = asked.word("sessions", SESSION_FATES) or "keep"
    refuse_during_reload(subject)
    upstream, address = asked.names["U"], asked.names["B"]
    wanted = {"upstream": upstream, "address": address}
    facts = yield from known(subject, BACKENDS, wanted)
    if not facts["is_known"] or not facts["backends"]:
        raise (yield from no_backend(subject, facts, wanted))
    row = facts["backends"][0]
    name = row["name"]
    if _is_host(name):
        text = f"{row['address']} is an address of {name}, which only the file can remove"
        raise RequestError(409, "address_of_name", f"{text}; maint takes it out of service")
    present = subject.book.values(subject.file_values)
    if (upstream, name) not in present:
        raise RequestError(
            409, "backend_leaving", f"{row['address']} is leaving {upstream} already"
        )
    if sum(each == upstream for each, _ in present) == 1:
        text = f"{row['address']} is the last backend of {upstream}; maint takes it out of service"
        raise RequestError(409, "last_backend", text)
    _note_removal(subject, asked, (upstream, name, ""))
    act = {**wanted, "name": name, "address": row["address"], "sessions": sessions}
    done = yield from known(subject, OVERRIDING, details(subject.book, act))
    after = yield from known(subject, BACKENDS, {**wanted, "address": row["address"]})
    conns = sum(each["conns"] for each in after["backends"])
    told: Facts = {**stamp(subject, done), "address": row["address"], "name": name}
    return (yield from json_answer(asked, {**told, "leaving": conns > 0, "conns": conns}, 202))


def _note_removal(subject: Subject, asked: Asked, place: tuple[str, str, str]) -> None:
    """End all changes of a backend, and hide it if the file has it."""
    gone = subject.book.remove_all_of(place)
    if place[:2] in subject.file_values:
        if not gone:
            refuse_too_many(subject)
        now_ms = subject.loop.clock.wall_ms()
        subject.book.set(Change(0, place, PRESENCE, "removed", "present", asked.sender, "", now_ms))
    tell(subject, f"operator {asked.sender} removed {place[0]}/{place[1]}", place)
    subject.changed()


def _is_host(name: str) -> bool:
    try:
        return parse_peer(name).is_name
    except InvalidValueError:
        return False
