"""The error log: its last lines, from all processes, and another level for a while.

Each process keeps its own lines (`log/ring.py`); those of several processes are merged in order of
time. The level is a lease, as a log that stays at debug fills the disk.

Tested in tests/run/test_admin_log.py.
"""

from collections.abc import Sequence
from typing import Any, Final

from nginy.admin.answer import Answer, Facts, Slices
from nginy.admin.asked import Asked, bad, duration_ms, json_answer
from nginy.admin.changes.changing import tell
from nginy.admin.changes.overriding import OVERRIDING, details
from nginy.admin.facts.shape import number, optional, row, rows, text
from nginy.admin.facts.source import Details, Source, known, stamp
from nginy.admin.subject import Subject
from nginy.log.levels import LEVELS, level_name
from nginy.log.ring import LINE_MAX_CHARACTERS, NOTICES_KEPT, TROUBLE_KEPT
from nginy.text.times import utc_text

KEPT: Final = NOTICES_KEPT + TROUBLE_KEPT
LAST: Final = 200
LAST_MAX: Final = 1000
LEASE_MS: Final = 600_000
LEASE_MAX_MS: Final = 86_400_000
SETTABLE: Final = tuple(name for name in LEVELS if name != "emerg")


def _long_text(value: object) -> str:
    return value[:LINE_MAX_CHARACTERS] if isinstance(value, str) else ""


LINE: Final = row(
    at=text, level=text, pid=number, number=optional(number), text=_long_text, suppressed=number
)


def own_lines(subject: Subject, wanted: Details) -> Facts:
    """Return what this process has logged."""
    ring = subject.ring
    found = [
        {
            "at": utc_text(line.at_ms),
            "level": level_name(line.level),
            "pid": subject.pid,
            "number": line.number,
            "text": line.text,
            "suppressed": line.suppressed,
        }
        for line in ring.lines(LEVELS[wanted["level"]], wanted["last"])
    ]
    return {"lines": found, "suppressed": ring.suppressed}


def _collect(subject: Subject, wanted: Details) -> Slices[Facts]:
    yield None
    return own_lines(subject, wanted)


def _merge(reports: Sequence[Facts]) -> Facts:
    lines: list[dict[str, Any]] = [each for report in reports for each in report["lines"]]
    return {
        "lines": sorted(lines, key=lambda line: str(line["at"])),
        "suppressed": sum(report["suppressed"] for report in reports),
    }


LINES: Final = Source("lines", _collect, row(lines=rows(LINE, KEPT), suppressed=number), _merge)


def log(subject: Subject, asked: Asked) -> Slices[Answer]:
    """Answer with the last lines."""
    level = asked.word("level", SETTABLE) or "notice"
    last = max(asked.number("last", LAST, LAST_MAX), 1)
    wanted = {"level": level, "last": last}
    facts = yield from known(subject, LINES, wanted)
    if subject.crew is not None:
        found = _merge([{**facts}, own_lines(subject, wanted)])
        facts.update(found)
    members = {
        **stamp(subject, facts),
        "level": None if subject.book.level is None else subject.book.level[0],
        "lines": facts["lines"][-last:],
        "suppressed": facts["suppressed"],
    }
    return (yield from json_answer(asked, members))


def set_level(subject: Subject, asked: Asked) -> Slices[Answer]:
    """Give the error log another level for a while, or its configured one again."""
    members = asked.body(("level", "for"))
    level = members.get("level", "")
    if level is not None and level not in SETTABLE:
        raise bad(f"level is not one of {', '.join(SETTABLE)}, or null", "bad_value")
    lease_ms = LEASE_MS if "for" not in members else duration_ms("for", members["for"])
    if not 0 < lease_ms <= LEASE_MAX_MS:
        raise bad("for is not a duration up to 1d", "bad_value")
    clock = subject.loop.clock
    subject.book.level = None if level is None else (level, clock.now_ms + lease_ms)
    what = "its configured level again" if level is None else f"{level} for {lease_ms // 1000}s"
    tell(subject, f"operator {asked.sender} gave the error log {what}")
    # This process has an error log even if it serves nobody.
    subject.set_level(level)
    subject.changed()
    done = yield from known(subject, OVERRIDING, details(subject.book))
    until = None if level is None else utc_text(clock.wall_ms() + lease_ms)
    return (yield from json_answer(asked, {**stamp(subject, done), "level": level, "until": until}))
