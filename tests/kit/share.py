"""The tests of one run, shared among processes: two more than cores; `--jobs` says otherwise.

pytest collects once, in the process that was started. That process, the parent, then forks others,
which inherit what was collected and run a file of tests at a time, whichever comes next. They send
back their reports; the parent prints a file's when the file is done. What a reader sees is what
pytest prints by itself, in another order. (pytest-xdist collects in each process, and is one more
package.)

Tests that start programs often wait for them, hence two processes more than there are cores: on
two cores, all tests took 172 s with three processes and 153 to 160 s with four.

A test that is marked `alone` or `real` runs when no other does. A process that dies fails the test
that it was at, and another takes over the rest of its file.

Not here: which tests are selected (tests/conftest.py), and how long one may take (kit/limits.py).
"""

import contextlib
import os
import pickle
import signal
import sys
import traceback
import warnings
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, NoReturn

import pytest

from kit.sources import parsed
from kit.waiting import comes_true

AT_END: list[Callable[[], None]] = []
"""What a process does when there are no more tests for it."""

END_S = 5.0
"""How long a test may take to clean up when the run ends before the test."""

Unit = list[int]
"""Tests that one process runs in a row: their places in what was collected."""


def pytest_addoption(parser: pytest.Parser) -> None:
    text = "processes that run tests at a time (default: two more than there are cores)"
    parser.addoption("--jobs", type=int, default=len(os.sched_getaffinity(0)) + 2, help=text)


def pytest_runtestloop(session: pytest.Session) -> bool | None:
    """Run the collected tests in several processes; None leaves it to pytest to run them here."""
    option = session.config.option
    at_the_terminal = option.collectonly or option.usepdb or option.trace or option.setupshow
    if session.testsfailed or at_the_terminal or option.capture == "no":
        return None
    together, alone = units(session.items)
    jobs = min(option.jobs, len(together) + bool(alone))
    if jobs < 2:
        return None
    # The directory of tmp_path, which all processes share, is then removed as pytest does it.
    getattr(session.config, "_tmp_path_factory").getbasetemp()  # noqa: B009
    Share(session).run(together, jobs)
    Share(session).run(alone, 1)
    return True


def units(items: Sequence[pytest.Item]) -> tuple[list[Unit], list[Unit]]:
    """Split tests into files: those that run beside others, and those that run alone.

    The files that start programs take longest. They come first, so that no process has half of
    them to itself when the others have run out of files. Those that read all sources are one: so
    each source is parsed once.
    """
    together: list[Unit] = []
    alone: list[Unit] = []
    files: dict[object, Unit] = {}
    for place, item in enumerate(items):
        reads_sources = getattr(getattr(item, "module", None), "parsed", None) is parsed
        files.setdefault(parsed if reads_sources else item.path, []).append(place)
    for places in files.values():
        quiet = [place for place in places if is_alone(items[place])]
        others = [place for place in places if not is_alone(items[place])]
        alone += [quiet] if quiet else []
        together += [others] if others else []
    together.sort(key=lambda unit: -sum(weight(items[place]) for place in unit))
    return together, alone


def weight(item: pytest.Item) -> float:
    """Return about how long a test takes, compared with a slow one; a limit of its own tells."""
    limit = item.get_closest_marker("timeout")
    return limit.args[0] / 10 if limit else bool(item.get_closest_marker("slow"))


def is_alone(item: pytest.Item) -> bool:
    return any(map(item.get_closest_marker, ("alone", "real")))


class Process:
    """A process that runs tests, as the parent knows it."""

    def __init__(self, pid: int, link: Connection) -> None:
        self.pid = pid
        self.link = link
        self.unit: Unit = []
        """The tests that it was given and has not finished."""
        self.reports: list[Callable[[], None]] = []
        """What is printed when its file is done."""
        self.current: tuple[str, Any] | None = None
        """The test that it is at: its node's name and its place in the source."""


class Share:
    """Gives files of tests to processes, and tells pytest the results."""

    def __init__(self, session: pytest.Session) -> None:
        self.session = session
        self.config = session.config
        self.processes: dict[Connection, Process] = {}

    def run(self, queue: Sequence[Unit], jobs: int) -> None:
        """Run all tests of a queue; raise what ends the session before its last test."""
        waiting = deque(queue)
        try:
            for _ in range(min(jobs, len(waiting))):
                self.give(self.fork(), waiting)
            while self.processes:
                for link in wait(list(self.processes)):
                    assert isinstance(link, Connection)
                    self.receive(self.processes[link], waiting)
                    self.stop_if_asked()
        except KeyboardInterrupt:
            for process in self.processes.values():
                self.print(process)
            raise
        finally:
            self.end()

    def fork(self) -> Process:
        ours, theirs = Pipe()
        sys.stdout.flush()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # of threads that are not there
            pid = os.fork()
        if pid == 0:
            ours.close()
            for link in self.processes:
                link.close()
            Worker(self.session, theirs).serve()
        theirs.close()
        process = self.processes[ours] = Process(pid, ours)
        return process

    def give(self, process: Process, waiting: deque[Unit]) -> None:
        process.unit = waiting.popleft() if waiting else []
        if process.unit:
            process.link.send(process.unit)
        else:
            self.forget(process)

    def receive(self, process: Process, waiting: deque[Unit]) -> None:
        try:
            kind, *values = process.link.recv()
        except (EOFError, ConnectionResetError):
            self.replace(process, waiting)
            return
        if kind == "end":
            self.print(process)
            self.give(process, waiting)
        else:
            getattr(self, "on_" + kind)(process, *values)

    def on_start(self, process: Process, nodeid: str, location: Any) -> None:
        process.current = nodeid, location
        hook = self.config.hook.pytest_runtest_logstart
        process.reports.append(lambda: hook(nodeid=nodeid, location=location))

    def on_report(self, process: Process, data: dict[str, Any]) -> None:
        report = self.config.hook.pytest_report_from_serializable(config=self.config, data=data)
        hook = self.config.hook.pytest_runtest_logreport
        process.reports.append(lambda: hook(report=report))

    def on_finish(self, process: Process, nodeid: str, location: Any) -> None:
        process.current = None
        del process.unit[0]
        hook = self.config.hook.pytest_runtest_logfinish
        process.reports.append(lambda: hook(nodeid=nodeid, location=location))

    def on_warning(self, process: Process, message: Any, arguments: dict[str, Any]) -> None:
        hook = self.config.hook.pytest_warning_recorded
        process.reports.append(
            lambda: hook.call_historic(kwargs={"warning_message": message, **arguments})
        )

    def print(self, process: Process) -> None:
        for report in process.reports:
            report()
        process.reports.clear()

    def replace(self, process: Process, waiting: deque[Unit]) -> None:
        """Fail the test at which a process has died, and let another process run the rest."""
        _, status = os.waitpid(process.pid, 0)
        if process.current is not None:
            nodeid, location = process.current
            text = f"the process of this test ended: {describe(status)}"
            report = pytest.TestReport(nodeid, location, {}, "failed", text, "call")
            process.reports.append(lambda: self.config.hook.pytest_runtest_logreport(report=report))
            del process.unit[0]
        self.print(process)
        del self.processes[process.link]
        process.link.close()
        if process.unit:
            waiting.appendleft(process.unit)
        if waiting:
            self.give(self.fork(), waiting)

    def forget(self, process: Process) -> None:
        del self.processes[process.link]
        process.link.close()
        os.waitpid(process.pid, 0)

    def end(self) -> None:
        """End what still runs; each test may first end what it has started."""
        for process in self.processes.values():
            os.kill(process.pid, signal.SIGINT)
            process.link.close()
        for process in self.processes.values():
            if not comes_true(partial(has_ended, process.pid), END_S):
                os.kill(process.pid, signal.SIGKILL)
                os.waitpid(process.pid, 0)

    def stop_if_asked(self) -> None:
        """End the session as pytest's own loop does, after a failure with -x for one."""
        if self.session.shouldfail:
            raise self.session.Failed(self.session.shouldfail)
        if self.session.shouldstop:
            raise self.session.Interrupted(self.session.shouldstop)


def has_ended(pid: int) -> bool:
    return os.waitpid(pid, os.WNOHANG) != (0, 0)


def describe(status: int) -> str:
    code = os.waitstatus_to_exitcode(status)
    return f"signal {-code}" if code < 0 else f"exit status {code}"


class Worker:
    """One of the processes: runs the tests that it is given, and sends what pytest reports.

    It is a plugin in the place of pytest's terminal reporter, for a reader at the parent's end.
    """

    def __init__(self, session: pytest.Session, link: Connection) -> None:
        self.session = session
        self.config = session.config
        self.link = link

    def serve(self) -> NoReturn:
        """Run files of tests until the parent has no more, or is gone; the process ends here."""
        status = 1
        try:
            plugins = self.config.pluginmanager
            plugins.unregister(name="terminalreporter")
            plugins.register(self, "worker")
            self.capture_anew()
            with contextlib.suppress(EOFError, ConnectionError, KeyboardInterrupt):
                for unit in self.units():
                    self.run(unit)
            signal.signal(signal.SIGINT, signal.SIG_IGN)  # that of the parent after a terminal's
            with contextlib.suppress(Exception, pytest.fail.Exception):  # the run is over
                getattr(self.session, "_setupstate").teardown_exact(None)  # noqa: B009
            for call in AT_END:
                call()
            status = 0
        except BaseException:  # noqa: BLE001  # whatever it is, the process must not go on as pytest
            traceback.print_exc(file=sys.__stderr__)
        finally:
            os._exit(status)

    def capture_anew(self) -> None:
        """Leave to the parent the files that catch the output of tests: all share their offsets."""
        capture = self.config.pluginmanager.getplugin("capturemanager")
        assert capture is not None
        capture.stop_global_capturing()
        capture.start_global_capturing()
        capture.suspend_global_capture()

    def units(self) -> Iterator[Unit]:
        while True:
            yield self.link.recv()

    def run(self, unit: Unit) -> None:
        items = [self.session.items[place] for place in unit]
        for item, following in zip(items, [*items[1:], None], strict=True):
            self.config.hook.pytest_runtest_protocol(item=item, nextitem=following)
        self.link.send(("end",))

    def pytest_runtest_logstart(self, nodeid: str, location: Any) -> None:
        self.link.send(("start", nodeid, location))

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        hook = self.config.hook.pytest_report_to_serializable
        self.link.send(("report", hook(config=self.config, report=report)))

    def pytest_runtest_logfinish(self, nodeid: str, location: Any) -> None:
        self.link.send(("finish", nodeid, location))

    def pytest_warning_recorded(
        self, warning_message: warnings.WarningMessage, when: str, nodeid: str, location: Any
    ) -> None:
        arguments = {"when": when, "nodeid": nodeid, "location": location}
        with contextlib.suppress(pickle.PicklingError, TypeError, AttributeError):
            self.link.send(("warning", warning_message, arguments))
