"""`nginy trace`: a file with everything that the event loop does for some seconds.

The running nginy records, then makes the text; this module asks for it and writes the file.

Tested in tests/run/test_admin_trace.py.
"""

import json
from dataclasses import dataclass
from typing import Final

from nginy.commands.running.asking import Message, ask, ask_json, refusal
from nginy.commands.running.interface import Interface
from nginy.errors import NginyError
from nginy.text.counts import counted

MAKING_S: Final = 120
"""How long nginy may take to make the text after the recording."""


@dataclass(frozen=True, slots=True)
class TraceWish:
    """What to record, and where to write it."""

    duration: str | None = None
    output: str | None = None
    is_anonymous: bool = False

    @property
    def file(self) -> str:
        """Where to write it."""
        return self.output or "nginy-trace.json"


def trace(interface: Interface, wish: TraceWish) -> str:
    """Record, write the file, and say what is in it; raises NginyError."""
    body = {"for": wish.duration or "5s", "anonymous": wish.is_anonymous}
    begun = ask_json(interface, Message("POST", "/api/v1/trace", body))
    target = f"/api/v1/trace/{begun['id']}"
    code, text = ask(interface, Message("GET", target, wait_s=begun["for_s"] + MAKING_S))
    if code != 200:
        raise refusal(code, text)
    try:
        found = json.loads(text)
        events, told = found["traceEvents"], found["otherData"]
    except (ValueError, KeyError, TypeError):
        raise NginyError("the answer is malformed") from None
    try:
        with open(wish.file, "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise NginyError(f"{wish.file} cannot be written ({error.strerror})") from error
    turns = sum(1 for each in events if each["ph"] == "X" and each["name"] == "turn")
    sessions = sum(1 for each in events if each["ph"] == "b")
    more = ", cut short because it was full" if told.get("truncated") else ""
    return (
        f"{wish.file}: {counted(turns, 'turn')}, {counted(sessions, 'session')}, "
        f"{counted(len(events), 'event')} in {begun['for_s']:g}s{more}; "
        "https://ui.perfetto.dev opens it"
    )
