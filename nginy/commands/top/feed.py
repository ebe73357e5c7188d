"""Feed: asks nginy in rounds, one request at a time, and makes snapshots of the answers.

Nothing here waits: the front watches the descriptor of the current request, and calls `advance`. A
round that fails says why; the snapshot before it stays.
"""

import json
import socket
from collections import deque
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

from nginy.commands.running.asking import (
    ANSWER_MAX_BYTES,
    ANSWER_S,
    REFUSED,
    Message,
    NoAnswerError,
    Request,
    parse,
    prepare,
    refusal,
    unreachable,
)
from nginy.commands.running.interface import Interface
from nginy.commands.top.snapshot import BACKENDS, SESSIONS, Snapshot, take
from nginy.commands.top.state import API, State, backend_path
from nginy.commands.top.tables import ORDERS, Line
from nginy.errors import NginyError
from nginy.text.counts import counted

PIECE_BYTES: Final = 65_536
BACKENDS_MAX: Final = 1000
SESSIONS_MAX: Final = 200

SORTED: Final = ("bytes", "age", "idle")
"""Orders of sessions for which the server picks the first ones."""


class Exchange:
    """One request and its answer. `close` closes it."""

    def __init__(self, request: Request, now_s: float) -> None:
        """Begin to connect; raises NginyError."""
        self._address = request.address
        self._unsent = request.data
        self._answer = bytearray()
        self._until_s = now_s + ANSWER_S
        self.socket = socket.socket(request.address.family)
        self.socket.setblocking(False)
        try:
            self.socket.connect(request.address.sockaddr)
        except BlockingIOError:
            pass
        except OSError as error:
            self.socket.close()
            raise unreachable(self._address, error) from error

    @property
    def is_sending(self) -> bool:
        """Whether it waits until the socket can be written."""
        return bool(self._unsent)

    def advance(self, now_s: float) -> tuple[int, str] | None:
        """Do what can be done now; return status and body when they are there, else None.

        Raises NginyError if no answer will come.
        """
        try:
            if self._unsent:
                self._unsent = self._unsent[self.socket.send(self._unsent) :]
            while not self._unsent and len(self._answer) < ANSWER_MAX_BYTES:
                data = self.socket.recv(PIECE_BYTES)
                if not data:
                    break
                self._answer += data
            if self._unsent:
                return None
        except BlockingIOError:
            if now_s >= self._until_s:
                raise unreachable(self._address, OSError()) from None
            return None
        except OSError as error:
            raise unreachable(self._address, error) from error
        if not self._answer:
            text = f"{self._address} closed the connection without an answer"
            raise NoAnswerError(text)
        return parse(self._address, bytes(self._answer))

    def close(self) -> None:
        """Close the connection."""
        self.socket.close()


def _rows_target(state: State) -> str:
    """Return what to ask for the rows of a view."""
    if state.view == BACKENDS:
        query = {"limit": str(BACKENDS_MAX), **({"match": state.wanted} if state.wanted else {})}
        return f"{API}/backends?{urlencode(query)}"
    if state.view == SESSIONS:
        words = [word.partition("=") for word in state.wanted.split() if "=" in word]
        chosen = {name: value for name, _, value in words}
        order = ORDERS[SESSIONS][state.order % len(ORDERS[SESSIONS])][0]
        by = order if order in SORTED else "bytes"
        return f"{API}/sessions?{urlencode({**chosen, 'top': str(SESSIONS_MAX), 'by': by})}"
    return f"{API}/{state.view}"


def _details_target(state: State, line: Line | None) -> str | None:
    if not state.has_details or line is None:
        return None
    if state.view == BACKENDS and "address" in line.facts:
        return f"{backend_path(line)}/health"
    if state.view == SESSIONS:
        return f"{API}/sessions/{line.facts['id']}"
    return None


class Feed:
    """Rounds of questions. Belongs to the front, which closes it."""

    def __init__(self, interface: Interface) -> None:
        self._interface = interface
        self._wanted: deque[tuple[str, str]] = deque()
        self._found: dict[str, Any] = {}
        self._view = BACKENDS
        self._about = ""
        self._under_way: tuple[str, Exchange] | None = None
        self.shot: Snapshot | None = None
        self.trouble = ""
        """Why the last round failed."""
        self.told = ""
        """The result of the last change, in words."""

    @property
    def is_busy(self) -> bool:
        """Whether a round is under way."""
        return self._under_way is not None

    @property
    def exchange(self) -> Exchange | None:
        """The current request."""
        return None if self._under_way is None else self._under_way[1]

    def begin(self, state: State, line: Line | None, now_s: float) -> None:
        """Begin a round, and give up one under way; a change has to end first."""
        if self._under_way is not None and self._under_way[0] == "change":
            return
        self.close()
        self._found.clear()
        self._view = state.view
        self._wanted = deque([("overview", f"{API}/overview"), ("rows", _rows_target(state))])
        target = _details_target(state, line)
        self._about = "" if line is None else line.key
        if target is not None:
            self._wanted.append(("details", target))
        self._next(now_s)

    def send(self, message: Message, now_s: float) -> None:
        """Change something, and give up the round under way."""
        self.close()
        self._wanted.clear()
        self._start("change", message, now_s)

    def _next(self, now_s: float) -> None:
        name, target = self._wanted.popleft()
        self._start(name, Message("GET", target), now_s)

    def _start(self, name: str, message: Message, now_s: float) -> None:
        try:
            request = prepare(self._interface, message)
            self._under_way = name, Exchange(request, now_s)
        except NginyError as error:
            self._fail(name, error)

    def _fail(self, name: str, error: NginyError) -> None:
        self._wanted.clear()
        if name == "change":
            self.told = str(error)
        else:
            self.trouble = str(error)

    def advance(self, now_s: float) -> bool:
        """Go on; return whether there is something new to show."""
        if self._under_way is None:
            return False
        name, exchange = self._under_way
        try:
            answer = exchange.advance(now_s)
            if answer is None:
                return False
            self.close()
            return self._take(name, answer, now_s)
        except NginyError as error:
            self.close()
            self._fail(name, error)
            return True

    def _take(self, name: str, answer: tuple[int, str], now_s: float) -> bool:
        code, text = answer
        if name == "change":
            self.told = _outcome(code, text)
            return True
        if code >= REFUSED and name != "details":  # the row may be gone
            raise refusal(code, text)
        try:
            self._found[name] = json.loads(text)
            if self._wanted:
                self._next(now_s)
                return False
            self.shot = take(self.shot, self._snapshot(now_s))
        except (ValueError, KeyError, TypeError, AttributeError):
            raise NginyError("the answer is malformed; is it another version of nginy?") from None
        self.trouble = ""
        return True

    def _snapshot(self, now_s: float) -> Snapshot:
        found, view = self._found, self._view
        answer = found["rows"]
        rows = answer["backends" if view == BACKENDS else view]
        matched = answer.get("matched", len(rows)) if view in (BACKENDS, SESSIONS) else len(rows)
        details = found.get("details")
        if isinstance(details, Mapping) and "error" in details:
            details = None
        more = max(int(matched) - len(rows), 0)
        return Snapshot(now_s, found["overview"], view, rows, more, details, self._about)

    def close(self) -> None:
        """Give up the current request."""
        if self._under_way is not None:
            self._under_way[1].close()
            self._under_way = None


def _outcome(code: int, text: str) -> str:
    """Describe the result of a change."""
    if code >= REFUSED:
        return str(refusal(code, text))
    if not text:
        return "done"
    try:
        answer = json.loads(text)
        if "killed" in answer:
            return f"{answer['killed']} of {answer['matched']} sessions ended"
        row = answer
        return (
            f"{row['address']}: {row['state']}, {counted(row['conns'], 'session')}, "
            f"weight {row['weight']['now']}"
        )
    except (ValueError, KeyError, TypeError):
        return "done"
