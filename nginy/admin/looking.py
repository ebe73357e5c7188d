"""Looking at sessions, and ending them: what the routes of `/sessions` answer.

Tested in tests/run/test_admin_sessions.py.
"""

import logging
from collections.abc import Mapping
from typing import Any, Final

from nginy.admin.answer import Answer, Facts, Slices
from nginy.admin.asked import Asked, bad, check_names, duration_ms, json_answer, whole_number
from nginy.admin.changes.changing import tell
from nginy.admin.facts.sessions import KILL, LIMIT, ORDERS, SESSIONS, STATES, order_key, split_id
from nginy.admin.facts.source import known, missing, stamp
from nginy.admin.subject import Subject
from nginy.errors import InvalidValueError
from nginy.proxy.access import parse_network
from nginy.wire.request import RequestError

logger = logging.getLogger("nginy.admin")

FILTERS: Final = (
    "listener",
    "upstream",
    "backend",
    "client",
    "protocol",
    "state",
    "min_age",
    "min_idle",
    "min_bytes",
)
PARAMETERS: Final = (*FILTERS, "limit", "after", "top", "by", "fields", "pretty")
BYTES_MAX: Final = 1 << 62
NO_PACE: Final = 100_000


def _filter(members: Mapping[str, Any]) -> Facts:
    """Return the filter of parameters, or of a body, with checked values."""
    found: Facts = {}
    for name in ("listener", "upstream", "backend", "protocol", "state"):
        if name in members:
            found[name] = _word(name, members[name])
    if "client" in members:
        found["client"] = _network(members["client"])
    for name in ("min_age", "min_idle"):
        if name in members:
            found[f"{name}_ms"] = duration_ms(name, members[name])
    if "min_bytes" in members:
        found["min_bytes"] = _bytes(members["min_bytes"])
    return found


def _word(name: str, value: object) -> str:
    words = {"protocol": ("tcp", "udp"), "state": STATES}.get(name)
    if not isinstance(value, str):
        raise bad(f"{name} is not a text", "bad_value")
    if words is not None and value not in words:
        raise bad(f"{name} is not one of {', '.join(words)}", "bad_value")
    return value


def _network(value: object) -> str:
    try:
        parse_network(str(value))
    except InvalidValueError as error:
        raise bad(f"client {error}, expected an address or a network", "bad_value") from None
    return str(value)


def _bytes(value: object) -> int:
    text = str(value)
    is_number = text.isascii() and text.isdecimal() and len(text) <= len(str(BYTES_MAX))
    if not is_number or int(text) > BYTES_MAX:
        raise bad("min_bytes is not a whole number", "bad_value")
    return int(text)


def sessions(subject: Subject, asked: Asked) -> Slices[Answer]:
    """Answer with the sessions that fit, a page of them, or the largest."""
    query = asked.request.query
    check_names(query, PARAMETERS, "unknown_parameter")
    by = asked.word("by", ORDERS)
    top = asked.number("top", 0, LIMIT)
    if bool(top) is not bool(by):
        raise bad("top and by go together, as in top=20&by=bytes")
    limit = top or max(asked.number("limit", 500, LIMIT), 1)
    after = _id(query["after"]) if "after" in query else None
    # One more than wanted tells whether there are more.
    wanted = {**_filter(query), "limit": top or limit + 1, "after": after, "by": by}
    facts = yield from known(subject, SESSIONS, wanted)
    found = facts["sessions"]
    if by is not None:
        member = {"bytes": None, "age": "age_s", "idle": "idle_s"}[by]
        found.sort(key=lambda s: s[member] if member else s["received"] + s["sent"], reverse=True)
    has_more = by is None and len(found) > limit
    found = found[:limit]
    members = {
        **stamp(subject, facts),
        "sessions": found,
        "matched": facts["matched"],
        "next": found[-1]["id"] if has_more else None,
    }
    return (yield from json_answer(asked, members))


def _id(text: str) -> tuple[int, int]:
    try:
        return split_id(text)
    except ValueError as error:
        raise bad(f"{error}, expected PID.NUMBER") from None


def session(subject: Subject, asked: Asked) -> Slices[Answer]:
    """Answer with one session and all its attempts."""
    identity = asked.names["ID"]
    _id(identity)
    wanted = {"ids": [identity], "limit": 1, "is_whole": True}
    facts = yield from known(subject, SESSIONS, wanted)
    if not facts["sessions"]:
        raise missing(facts, _gone(identity), by_any=True)
    row = {**facts["sessions"][0], "attempts": facts["attempts"]}
    row["timers"] = facts["timers"]
    return (yield from json_answer(asked, {**stamp(subject, facts), **row}))


def _gone(identity: str) -> RequestError:
    return RequestError(404, "session_not_found", f"there is no session {identity[:50]} any more")


def kill_one(subject: Subject, asked: Asked) -> Slices[Answer]:
    """End one session."""
    identity = asked.names["ID"]
    _id(identity)
    wanted = {"ids": [identity], "per_second": NO_PACE, "reset": "reset" in asked.request.query}
    facts = yield from known(subject, KILL, wanted)
    if not facts["total"]:
        raise missing(facts, _gone(identity), by_any=True)
    tell(subject, f"operator {asked.sender} ended session {identity}")
    return Answer(204, b"")


def kill(subject: Subject, asked: Asked) -> Slices[Answer]:
    """End the sessions that fit a filter, at most so many, and so many a second."""
    members = asked.body(("filter", "max", "per_second", "dry_run", "reset"))
    chosen = members.get("filter")
    if not isinstance(chosen, dict) or not chosen:
        raise bad('expected a filter, such as {"client": "10.0.0.0/8"}', "filter_missing")
    check_names(chosen, FILTERS, "unknown_parameter")
    most = whole_number("max", members.get("max", LIMIT), 1, LIMIT)
    per_second = whole_number("per_second", members.get("per_second", NO_PACE), 1, NO_PACE)
    for name in ("dry_run", "reset"):
        if not isinstance(members.get(name, False), bool):
            raise bad(f"{name} is not true or false", "bad_value")
    fitting = _filter(chosen)
    facts = yield from known(subject, SESSIONS, {**fitting, "limit": most})
    ids = [each["id"] for each in sorted(facts["sessions"], key=order_key)[:most]]
    found = {**stamp(subject, facts), "matched": facts["matched"], "killed": 0, "pending": 0}
    if ids and not members.get("dry_run", False):
        processes = len({split_id(each)[0] for each in ids})
        pace = max(per_second // processes, 1)
        # Two sessions may have one id, if they come from two workers of an earlier process.
        wanted = {
            **fitting,
            "ids": ids,
            "per_second": pace,
            "reset": members.get("reset", False),
        }
        done = yield from known(subject, KILL, wanted)
        text = f"operator {asked.sender} ends {done['total']} sessions of {facts['matched']} with "
        tell(subject, text + ", ".join(f"{name} {value}" for name, value in chosen.items()))
        found.update(killed=done["killed"], pending=done["total"] - done["killed"])
    return (yield from json_answer(asked, found))
