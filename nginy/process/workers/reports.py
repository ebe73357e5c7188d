"""Reports: what the supervisor's admin interface knows of the workers, and how it learns it.

The supervisor asks all workers at once, and hands each of them a nameless file with the question. A
worker makes the answer in slices, like any other, writes it over the question, and says when it is
complete. A worker that takes longer than `ANSWER_MS` is missing from the answer, which names it. A
client that asks the same meanwhile waits for the same replies. A busy worker skips questions that
have waited for that long: otherwise a client that asks faster than the worker answers would fill
its queue, where each question holds a descriptor.

What a worker writes is text from a process with fewer rights; a `Source` says what to take of it.
`worker.py` lists the words between the two.

Tested in tests/run/test_admin_workers.py.
"""

import contextlib
import json
import os
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Final

from nginy.admin.answer import Facts, Poll, Replies, Slices, encode
from nginy.admin.changes.overriding import OVERRIDING, details
from nginy.admin.events import Events
from nginy.admin.facts.merge import parse
from nginy.admin.facts.sources import SOURCES
from nginy.admin.facts.totals import TOTALS
from nginy.admin.subject import Subject
from nginy.event.loop import Loop
from nginy.event.timer import Timer
from nginy.process.workers.crew import Crew, WorkerProcess

ANSWER_MS: Final = 2_000
REPORT_MAX_BYTES: Final = 8 << 20
"""The longest report of one worker; a longer one is as good as none."""

Done = Callable[[Replies], None]


class Round:
    """One question to all workers, on its way."""

    __slots__ = (
        "_ended",
        "asked",
        "calls",
        "found",
        "late",
        "number",
        "question",
        "timer",
        "waiting",
    )

    def __init__(self, number: int, question: Poll, ended: "Callable[[Round], None]") -> None:
        self.number = number
        self.question = question
        self.asked = 0
        self.calls: list[Done] = []
        self.found: dict[int, Facts] = {}
        """The answers by the numbers of the workers."""
        self.late: list[str] = []
        self.waiting: dict[WorkerProcess, int] = {}
        """The workers that have not answered yet, each with the descriptor of its report."""
        self._ended = ended
        self.timer = Timer(self._timeout_handler, self)

    def _timeout_handler(self, _timer: Timer) -> None:
        for process in list(self.waiting):
            self.give_up(process)
        self._ended(self)

    def give_up(self, process: WorkerProcess) -> None:
        """Wait no longer for a worker."""
        os.close(self.waiting.pop(process))
        self.late.append(str(process))

    def take(self, process: WorkerProcess) -> None:
        """Read what a worker has written."""
        shape = SOURCES[self.question.kind].shape
        with open(self.waiting.pop(process), "rb") as file:
            size = os.fstat(file.fileno()).st_size
            data = os.pread(file.fileno(), size, 0) if size <= REPORT_MAX_BYTES else b""
        facts = parse(data, shape)
        if facts is None:
            self.late.append(str(process))
        else:
            self.found[process.index] = facts
            process.tally.take(self.question.kind, facts)

    def replies(self) -> Replies:
        """Return the answers in the order of the workers, so that what only the first one tells is
        the same each time.
        """
        return Replies([self.found[each] for each in sorted(self.found)], self.asked, self.late)

    def __str__(self) -> str:
        """Return what log lines call it."""
        return f"the question {self.number} to the workers"

    def abort(self) -> None:
        """Go on without answers, after a bug."""
        for process in list(self.waiting):
            self.give_up(process)


class Reports:
    """The supervisor's side; an `admin/subject.py::Crew`. Closed by the supervisor."""

    def __init__(self, loop: Loop, crew: Crew, subject: Subject) -> None:
        self._loop = loop
        self._crew = crew
        self._subject = subject
        subject.worker_exits = crew.exits
        self._number = 0
        self._rounds: dict[str, Round] = {}
        """The rounds under way, by the text of the question."""

    def ask(self, question: Poll, done: Done) -> None:
        """Ask all workers, unless the same question is under way, and call when they have
        answered.
        """
        text = question.to_json()
        present = self._rounds.get(text)
        if present is not None and question.kind != OVERRIDING.name:
            present.calls.append(done)
            return
        self._number += 1
        asked = Round(self._number, question, self._finish)
        asked.calls.append(done)
        # A change goes out again even if the same one is under way: by then, it may mean something
        # else.
        self._rounds[text if present is None else f"{text}{self._number}"] = asked
        for process in self._crew.serving():
            asked.asked += 1
            fd = self._send(process, str(asked.number), text)
            if fd is None:
                asked.late.append(str(process))
            else:
                asked.waiting[process] = fd
        if asked.waiting:
            self._loop.timers.start(asked.timer, self._loop.clock.now_ms + ANSWER_MS)
        else:
            self._finish(asked)

    def _send(self, process: WorkerProcess, number: str, text: str) -> int | None:
        """Hand a worker a question; return the descriptor of its answer, None if it has none."""
        try:
            fd = os.memfd_create("nginy-report")
        except OSError:  # no descriptor is left
            return None
        with contextlib.suppress(OSError):
            os.pwrite(fd, text.encode(), 0)
            if process.send("report", number, [fd]):
                return fd
        os.close(fd)
        return None

    def joined(self, process: WorkerProcess) -> None:
        """Tell a worker that has begun to serve what operators have set."""
        question = Poll(OVERRIDING.name, details(self._subject.book))
        fd = self._send(process, "0", question.to_json())
        if fd is not None:
            os.close(fd)

    def heard(self, process: WorkerProcess, word: str, text: str) -> bool:
        """Take a worker's message; return False if it is not about reports."""
        if word == "event":
            add_event(self._subject.events, self._loop.clock.wall_ms(), text)
        elif word == "totals":
            facts = parse(text.encode(), TOTALS)
            if facts is not None:
                process.tally.take(word, facts)
        elif word == "reported":
            for each in list(self._rounds.values()):
                if str(each.number) == text and process in each.waiting:
                    each.take(process)
                    self._look(each)
        return word in ("event", "reported", "totals")

    def died(self, process: WorkerProcess) -> None:
        """Wait no longer for a worker."""
        subject = self._subject
        # Its counters stay, so that no sum falls.
        subject.gone.add(process.tally)
        event = {"kind": "worker", "text": f"{process} has ended"}
        self._subject.events.add(self._loop.clock.wall_ms(), event)
        for each in list(self._rounds.values()):
            if process in each.waiting:
                each.give_up(process)
                self._look(each)

    def _look(self, asked: Round) -> None:
        if not asked.waiting:
            self._finish(asked)

    def _finish(self, asked: Round) -> None:
        self._loop.timers.cancel(asked.timer)
        self._rounds = {text: each for text, each in self._rounds.items() if each is not asked}
        replies = asked.replies()
        for call in asked.calls:
            call(replies)

    def close(self) -> None:
        """Forget what is under way."""
        for asked in self._rounds.values():
            self._loop.timers.cancel(asked.timer)
            asked.abort()
        self._rounds.clear()


def add_event(events: Events, wall_ms: int, text: str) -> None:
    """Add an event from a worker, unless it cannot be read."""
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(text)
        if isinstance(found, dict):
            events.add(wall_ms, found)


class Reporter:
    """The worker's side: writes reports, slice by slice, one after the other."""

    def __init__(self, subject: Subject, send: Callable[[str, str], object]) -> None:
        self._subject = subject
        self._send = send
        self._jobs: deque[tuple[str, int, Slices[list[bytes]]]] = deque()

    def begin(self, number: str, fds: Sequence[int]) -> None:
        """Answer the question in a file that the supervisor has handed over."""
        if len(fds) == 1:
            late_at_ms = self._subject.loop.clock.now_ms + ANSWER_MS
            self._jobs.append((number, fds[0], self._make(fds[0], late_at_ms)))
            self._subject.loop.soon(self._work, self)

    def _make(self, fd: int, late_at_ms: int) -> Slices[list[bytes]]:
        asked = json.loads(os.pread(fd, os.fstat(fd).st_size, 0))
        if self._subject.loop.clock.now_ms >= late_at_ms and asked["kind"] != OVERRIDING.name:
            return []  # nobody waits for it any more; a change has to be made all the same
        found = yield from SOURCES[asked["kind"]].collect(self._subject, asked["details"])
        yield None
        return (yield from encode(found, is_pretty=False))

    def _work(self) -> None:
        if not self._jobs:
            return
        number, fd, slices = self._jobs[0]
        began_ns = time.perf_counter_ns()
        try:
            next(slices)
        except StopIteration as end:
            self._jobs.popleft()
            self._write(number, fd, end.value)
        self._subject.admin_ns += time.perf_counter_ns() - began_ns
        if self._jobs:
            self._subject.loop.soon(self._work, self)

    def _write(self, number: str, fd: int, pieces: list[bytes]) -> None:
        with contextlib.suppress(OSError):  # out of memory: the supervisor waits in vain
            place = 0
            for data in pieces:
                os.pwrite(fd, data, place)
                place += len(data)
            os.ftruncate(fd, place)
            self._send("reported", number)
        os.close(fd)

    def close(self) -> None:
        """Drop what is under way."""
        while self._jobs:
            os.close(self._jobs.popleft()[1])

    def abort(self) -> None:
        """Leave the present question without an answer, after a bug."""
        if self._jobs:
            os.close(self._jobs.popleft()[1])
        if self._jobs:
            self._subject.loop.soon(self._work, self)
