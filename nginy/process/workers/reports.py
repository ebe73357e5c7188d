"""Reports: what the supervisor's admin interface knows of the workers, and how it comes there.

The supervisor asks all workers at once, and hands each a file without a name to write its report
into. A worker makes it in slices, as any answer, and says when it is there. Whoever takes longer
than `ANSWER_MS` is missing from the answer, and named. Questions that come meanwhile wait for the
same reports.

What a worker writes is text from a process with fewer rights; `admin/merge.py` takes only what it
knows. The words between the two are listed in `worker.py`.

Tested in tests/run/test_admin_workers.py.
"""

import contextlib
import os
from collections.abc import Callable, Sequence
from typing import Final

from nginy.admin.answer import Slices, encode
from nginy.admin.merge import Facts, parse
from nginy.admin.overview import facts
from nginy.admin.subject import Subject
from nginy.event.loop import Loop
from nginy.event.timer import Timer
from nginy.process.workers.crew import Crew, WorkerProcess

ANSWER_MS: Final = 2_000
REPORT_MAX_BYTES: Final = 8 << 20
"""Of one worker; a longer one is as good as none."""


class Reports:
    """The supervisor's side; an `admin/subject.py::Crew`. Closed by the supervisor."""

    def __init__(self, loop: Loop, crew: Crew) -> None:
        self.reports: Sequence[Facts] = ()
        self._loop = loop
        self._crew = crew
        self._number = 0
        self._asked = 0
        self._late: list[str] = []
        self._waiting: dict[WorkerProcess, int] = {}
        """Who has not answered yet, and the descriptor of what it writes."""
        self._found: list[Facts] = []
        self._calls: list[Callable[[], None]] = []
        self._timer = Timer(self._timeout_handler, self)

    def stamp(self) -> dict[str, object]:
        """Return how many were asked, how many have answered, and who has not."""
        return {"asked": self._asked, "answered": len(self.reports), "late": self._late}

    def ask(self, done: Callable[[], None]) -> None:
        """Ask all workers, unless that is under way, and call when they have answered."""
        self._calls.append(done)
        if self._waiting:
            return
        self._number += 1
        self._late, self._found = [], []
        processes = self._crew.serving()
        self._asked = len(processes)
        for process in processes:
            self._ask(process)
        if self._waiting:
            self._loop.timers.start(self._timer, self._loop.clock.now_ms + ANSWER_MS)
        else:
            self._finish()

    def _ask(self, process: WorkerProcess) -> None:
        try:
            fd = os.memfd_create("nginy-report")
        except OSError:  # no descriptor is left
            self._late.append(str(process))
            return
        if process.send("report", str(self._number), [fd]):
            self._waiting[process] = fd
        else:
            os.close(fd)
            self._late.append(str(process))

    def answered(self, process: WorkerProcess, number: str) -> None:
        """Read what a worker has written."""
        if number != str(self._number) or process not in self._waiting:
            return
        fd = self._waiting.pop(process)
        with open(fd, "rb") as file:
            size = os.fstat(fd).st_size
            found = parse(os.pread(file.fileno(), size, 0)) if size <= REPORT_MAX_BYTES else None
        if found is None:
            self._late.append(str(process))
        else:
            self._found.append(found)
        self._look()

    def died(self, process: WorkerProcess) -> None:
        """Wait no longer for a worker."""
        fd = self._waiting.pop(process, None)
        if fd is not None:
            os.close(fd)
            self._late.append(str(process))
            self._look()

    def _timeout_handler(self, _timer: Timer) -> None:
        for process in list(self._waiting):
            self.died(process)

    def _look(self) -> None:
        if not self._waiting:
            self._finish()

    def _finish(self) -> None:
        self._loop.timers.cancel(self._timer)
        self.reports = self._found
        calls, self._calls = self._calls, []
        for call in calls:
            call()

    def close(self) -> None:
        """Forget what is under way."""
        self._loop.timers.cancel(self._timer)
        for fd in self._waiting.values():
            os.close(fd)
        self._waiting.clear()
        self._calls.clear()

    def __str__(self) -> str:
        """Return what log lines call it."""
        return "the reports of the workers"

    def abort(self) -> None:
        """Go on without answers, after a bug."""
        self.close()


class Reporter:
    """The worker's side: writes a report, slice by slice."""

    def __init__(self, subject: Subject, send: Callable[[str, str], object]) -> None:
        self._subject = subject
        self._send = send
        self._number = ""
        self._fd = -1
        self._slices: Slices[bytes] | None = None

    def begin(self, number: str, fds: Sequence[int]) -> None:
        """Write a report into a file that was handed over; an older one is dropped."""
        self.close()
        if len(fds) == 1:
            self._number, self._fd = number, fds[0]
            self._slices = self._make()
            self._subject.loop.soon(self._work, self)

    def _make(self) -> Slices[bytes]:
        found = yield from facts(self._subject)
        yield
        return (yield from encode(found, is_pretty=False))

    def _work(self) -> None:
        if self._slices is None:
            return
        try:
            next(self._slices)
        except StopIteration as end:
            self._write(end.value)
        else:
            self._subject.loop.soon(self._work, self)

    def _write(self, data: bytes) -> None:
        with contextlib.suppress(OSError):  # no memory is left: the supervisor waits in vain
            os.pwrite(self._fd, data, 0)
            self._send("reported", self._number)
        self.close()

    def close(self) -> None:
        """Drop what is under way."""
        self._slices = None
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def abort(self) -> None:
        """Report nothing, after a bug."""
        self.close()
