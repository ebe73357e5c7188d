"""Relay: all workers know what the checks of one worker find out.

With several workers, one of them leads: it asks the backends and their agents, once for all. The
others ask nothing, and adopt its findings as if they were their own. So each backend is checked as
often as `interval` says, however many workers there are, and one worker logs what follows. The name
servers' answers to the leader travel in the same way (`names/queries.py`).

This is the side of the checks. The way between the processes belongs to the worker
(`process/workers/worker.py`), which does four things:

- It calls `lead` before it makes the first pool, and `lead(True)` when it becomes the leader
  because the last one has died.
- It sets `send` to a function that takes a text to the other workers, and returns False if that is
  not possible now.
- It calls `receive` with each text from another worker.
- It calls `recite` when a worker has joined, so that it hears at once all earlier findings.

The one idea: a finding says what is, not what has changed: the word of the check, and how many
results in a row support it. So a finding may be lost or come twice, and of two about one backend
the later one is enough.

A worker without others leads, and `send` is None.
"""

import json
import logging
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final, Protocol

from nginy.backend.health.findings import CheckFinding, Finding
from nginy.backend.health.states import State
from nginy.backend.names.telling import (
    answer_items,
    number_of,
    parse_answer,
    parse_type,
    sequence_of,
    text_of,
)
from nginy.event.loop import Loop
from nginy.event.timer import Timer
from nginy.wire.agent import AgentAnswer, Mode, OperatingWord
from nginy.wire.dns import Answer, RecordType

logger = logging.getLogger("nginy.backend")

TEXT_MAX_CHARACTERS: Final = 4000
"""What fits into a message between workers."""
FAILURE_MAX_CHARACTERS: Final = 200
"""How much of a reason is passed on, so that each finding fits into a message."""
TEXTS_A_TURN: Final = 8
RESEND_MS: Final = 100
"""When to try again if the way is blocked."""


BackendKey = tuple[str, str]
"""What tells the backends of an upstream apart in every worker: name, and address as text."""

Topic = tuple[str, BackendKey, type[Finding | Answer]]
"""What a finding is about: an upstream, a backend, and the kind of the finding; or, of an answer,
"", the name asked for and the record type."""


class Member(Protocol):
    """An upstream's monitor, as the relay sees it."""

    def lead_changed(self) -> None:
        """Begin or stop asking, as `Relay.is_leading` says."""

    def hear(self, key: BackendKey, finding: Finding) -> None:
        """Take over a finding; ignore one about an unknown backend."""

    def recite(self) -> Iterable[tuple[BackendKey, Finding]]:
        """Return all findings so far."""


class NameMemory(Protocol):
    """The answers of name servers, as the relay sees them."""

    def take(self, name: str, record_type: RecordType, answer: Answer) -> None:
        """Take over an answer that another worker has got."""

    def remembered(self) -> Iterable[tuple[str, RecordType, Answer]]:
        """Return the answers that still hold."""

    def stop_waiting(self) -> None:
        """Ask from now on, as this worker leads."""


class Relay:
    """Tells the other workers, or listens. Created and closed by the process's `PoolSet`."""

    __slots__ = ("_loop", "_members", "_timer", "_unsent", "is_leading", "names", "send")

    def __init__(self, loop: Loop) -> None:
        """Lead, as a worker without others does."""
        self._loop = loop
        self._members: dict[str, Member] = {}
        # The latest finding of each kind about each backend, the oldest first.
        self._unsent: dict[Topic, Finding | Answer] = {}
        self._timer = Timer(self._resend_handler, self)
        self.is_leading = True
        self.send: Callable[[str], bool] | None = None
        self.names: NameMemory | None = None

    def join(self, upstream: str, member: Member) -> None:
        """Pass on to `member` what others find out about the backends of `upstream`."""
        self._members[upstream] = member

    def leave(self, upstream: str) -> None:
        """Stop passing on what concerns `upstream`."""
        self._members.pop(upstream, None)

    def close(self) -> None:
        """Send nothing more."""
        self._loop.timers.cancel(self._timer)
        del self._timer  # which refers to this relay as well
        self._unsent.clear()
        self.send = None

    def __str__(self) -> str:
        """Return what log lines call it."""
        return "the findings for other workers"

    def abort(self) -> None:
        """Go on after a bug, without the unsent findings."""
        self._unsent.clear()

    # The worker's side.

    def lead(self, is_leading: bool) -> None:
        """Ask from now on, or leave it to another worker."""
        if is_leading is not self.is_leading:
            self.is_leading = is_leading
            self._unsent.clear()
            for member in self._members.values():
                member.lead_changed()
            if is_leading and self.names is not None:
                self.names.stop_waiting()

    def told(self) -> Iterator[str]:
        """Yield texts with all that is known, for another process to `learn`."""
        if self.names is not None:
            for name, record_type, answer in self.names.remembered():
                yield f"[{json.dumps(_item(('', (name, record_type.name), Answer), answer))}]"
        for upstream, member in self._members.items():
            for key, finding in member.recite():
                yield f"[{json.dumps(_item((upstream, key, type(finding)), finding))}]"

    def receive(self, text: str) -> None:
        """Take over what the leading worker has found out."""
        if not self.is_leading:
            self.learn(text)

    def learn(self, text: str) -> None:
        """Take over what others have found out, whether this process asks as well or not."""
        try:
            items = [sequence_of(item) for item in json.loads(text)]
            answers = [_parse_named(item[1:]) for item in items if item[:1] == ["name"]]
            findings = [_parse(item) for item in items if item[:1] != ["name"]]
        except (ValueError, TypeError, KeyError, RecursionError) as error:
            logger.warning("another worker sent invalid findings (%r)", error)
            return
        for name, record_type, answer in answers:
            if self.names is not None:
                self.names.take(name, record_type, answer)
        for upstream, key, finding in findings:
            member = self._members.get(upstream)
            if member is not None:
                member.hear(key, finding)

    def recite(self) -> None:
        """Tell all findings so far, because a worker that does not know them has joined."""
        if self.is_leading:
            for upstream, member in self._members.items():
                for key, finding in member.recite():
                    self.tell(upstream, key, finding)

    # The monitors' side.

    def tell(self, upstream: str, key: BackendKey, finding: Finding) -> None:
        """Tell the other workers, if there are any, soon."""
        self._tell((upstream, key, type(finding)), finding)

    def tell_answer(self, name: str, record_type: RecordType, answer: Answer) -> None:
        """Tell the other workers an answer of a name server, soon.

        They do not hear an answer that is too long for a message, and ask for themselves.
        """
        subject: Topic = "", (name, record_type.name), Answer
        if len(json.dumps(_item(subject, answer))) + 2 <= TEXT_MAX_CHARACTERS:
            self._tell(subject, answer)

    def _tell(self, subject: Topic, finding: Finding | Answer) -> None:
        if self.send is None or not self.is_leading:
            return
        self._unsent[subject] = finding
        if not self._timer.is_running:
            self._loop.soon(self._send_some, self)

    def _send_some(self) -> None:
        """Send as much as one turn may."""
        for _ in range(TEXTS_A_TURN):
            if not self._unsent or self.send is None:
                return
            items: list[str] = []
            length = 0
            for subject, finding in self._unsent.items():
                item = json.dumps(_item(subject, finding))
                length += len(item) + 2
                if items and length > TEXT_MAX_CHARACTERS:
                    break
                items.append(item)
            if not self.send(f"[{', '.join(items)}]"):
                self._loop.timers.start(self._timer, self._loop.clock.now_ms + RESEND_MS)
                return
            for subject in tuple(islice(self._unsent, len(items))):
                del self._unsent[subject]
        self._loop.soon(self._send_some, self)

    def _resend_handler(self, _timer: Timer) -> None:
        self._send_some()


def _item(subject: Topic, finding: Finding | Answer) -> list[object]:
    """Return the item that stands for a finding in a text."""
    upstream, (name, address), _ = subject
    if isinstance(finding, Answer):
        return ["name", name, address, *answer_items(finding)]
    if isinstance(finding, CheckFinding):
        failure = finding.failure[:FAILURE_MAX_CHARACTERS]
        rest = (finding.word.name, finding.in_row, failure, finding.is_passing)
        return ["check", upstream, name, address, *rest]
    mode = None if finding.mode is None else finding.mode.name
    condition = None if finding.condition is None else finding.condition.name
    reason = finding.reason[:FAILURE_MAX_CHARACTERS]
    numbers = (finding.weight_percent, finding.max_conns)
    return ["agent", upstream, name, address, *numbers, mode, condition, reason]


def _parse_named(item: list[object]) -> tuple[str, RecordType, Answer]:
    """Return name, type and answer of an item; raises ValueError, TypeError or KeyError."""
    name, record_type, *rest = item
    return text_of(name), parse_type(record_type), parse_answer(rest)


def _parse(item: list[object]) -> tuple[str, BackendKey, Finding]:
    """Return upstream, backend and finding of an item; raises ValueError, TypeError, KeyError."""
    kind, upstream, name, address, *rest = item
    key = text_of(name), text_of(address)
    if kind == "check":
        word, in_row, failure, is_passing = rest
        found = CheckFinding(
            State[text_of(word)], number_of(in_row), text_of(failure), is_passing is True
        )
        return text_of(upstream), key, found
    percent, max_conns, mode, condition, reason = rest
    return (
        text_of(upstream),
        key,
        AgentAnswer(
            None if percent is None else number_of(percent),
            None if max_conns is None else number_of(max_conns),
            None if mode is None else Mode[text_of(mode)],
            None if condition is None else OperatingWord[text_of(condition)],
            text_of(reason),
        ),
    )
