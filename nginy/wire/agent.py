"""A load agent's answer: one line of words, HAProxy's agent-check protocol.

`backend/checks/agent.py` connects to the agent; `backend/health/health.py` decides what its words
do to a backend. This module knows only the line.

The line ends at the first CR or LF. Spaces, tabs and commas separate words, which may stand in any
order and case; of two words of one kind the last counts. "#" starts a description, which goes to
the end of the line. What the line does not mention does not change.

The one idea: do not believe a line that was cut short, because "maxconn:30" may be the head of
"maxconn:300". HAProxy ignores it too.

Source: HAProxy configuration manual, `agent-check`; HAProxy tcpcheck.c,
tcpcheck_agent_expect_reply.
"""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from nginy.wire.errors import WireError

MAX_LINE_BYTES: Final = 4096  # words take some 40 bytes; the rest is room for a description
MAX_WEIGHT_PERCENT: Final = 25_600  # HAProxy server.c server_parse_weight_change_request

END_OF_LINE: Final = re.compile(rb"[\r\n]")
SEPARATORS: Final = re.compile(r"[ \t,]+")
# Nine digits fit everything sensible and keep int() cheap.
WEIGHT: Final = re.compile(r"([0-9]{1,9})%")
MAX_CONNS: Final = re.compile(r"maxconn:([0-9]{1,9})")


class Mode(Enum):
    """The administrative words: what to do with the backend."""

    READY = "ready"
    DRAIN = "drain"
    MAINT = "maint"


class OperatingWord(Enum):
    """The operating words: how the service is. All but UP mean down, which one is for people."""

    UP = "up"
    DOWN = "down"
    FAIL = "fail"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class AgentAnswer:
    """What an agent said. None stands for what it did not mention.

    `weight_percent` scales the configured weight; 0 takes the backend out of balancing, as drain
    does. `max_conns` replaces the configured limit; 0 is no limit. `reason` is the description
    after "#". `unknown` is the first unknown word, for the log.
    """

    weight_percent: int | None = None
    max_conns: int | None = None
    mode: Mode | None = None
    condition: OperatingWord | None = None
    reason: str = ""
    unknown: str = ""


def parse_agent_line(received: bytes, *, is_eof: bool) -> AgentAnswer | None:
    """Return the agent's answer, or None while its line is incomplete.

    `is_eof` says that no more bytes will come. Raises WireError if the line ends with the
    connection instead of a CR or LF, or grows beyond MAX_LINE_BYTES.
    """
    end = END_OF_LINE.search(received, 0, MAX_LINE_BYTES)
    if end is None:
        if len(received) >= MAX_LINE_BYTES:
            raise WireError("the agent's line is too long")
        if is_eof:
            raise WireError("the agent's line is incomplete")
        return None
    line = received[: end.start()].decode("ascii", "backslashreplace")
    words, _, reason = line.partition("#")
    return _interpret(SEPARATORS.split(words), reason.strip(" \t"))


def _interpret(words: list[str], reason: str) -> AgentAnswer:
    """Sort the words by kind; of two words of one kind the later one counts."""
    weight_percent: int | None = None
    max_conns: int | None = None
    mode: Mode | None = None
    condition: OperatingWord | None = None
    unknown = ""
    for word in filter(None, words):
        lower = word.lower()
        if lower in _MODES:
            mode = _MODES[lower]
        elif lower in _CONDITIONS:
            condition = _CONDITIONS[lower]
        elif (match := WEIGHT.fullmatch(lower)) is not None:
            weight_percent = min(int(match[1]), MAX_WEIGHT_PERCENT)
        elif (match := MAX_CONNS.fullmatch(lower)) is not None:
            max_conns = int(match[1])
        else:
            unknown = unknown or word
    return AgentAnswer(weight_percent, max_conns, mode, condition, reason, unknown)


_MODES: Final = {mode.value: mode for mode in Mode}
_CONDITIONS: Final = {condition.value: condition for condition in OperatingWord}
