"""One contender does one work once: started fresh, loaded, measured, ended. The result: a Sample.

Every sample has ports and processes of its own. Neither memory that an earlier work freed, nor
its connections in TIME_WAIT, weigh on the next. The contender is pinned to one core, the
generator with clients and backend to another; on a machine with one core all share it.
Rounds and ratios are made of samples in summary.py.
"""

import dataclasses
import json
import select
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench import processes
from bench.contenders import Command, Contender, Setup
from bench.generator import TLS_GENERATOR, Generator, GeneratorError, Load, parse
from bench.holder import COMMAND as HOLDER
from bench.processes import ProcessGroup
from bench.watcher import COMMAND as WATCHER
from bench.works import Figure, Work
from kit.waiting import comes_true

START_TIMEOUT_S: Final = 10.0
CHECKS_BEGIN_S: Final = 2.0  # the first ones come at once, as many as are due since the start
LOAD_SPARE_S: Final = 25.0  # beyond the asked time: opening connections, late answers


class MeasureError(Exception):
    """There is no sample; the text says why."""


@dataclass(frozen=True, slots=True)
class Sample:
    """What one contender needed for one work in one round."""

    contender: str
    work: str
    round: int
    cost: float  # ns of CPU or latency an operation, or bytes a pair: work.figure; 0 if unknown
    rate: float  # operations a second
    busy: float  # share of a core that the contender used
    errors: int
    p50_us: float = 0.0
    p99_us: float = 0.0
    max_us: float = 0.0
    log_cost: float | None = None  # CPU with the access log to CPU without
    worker_cost: float | None = None  # CPU with the work's workers to CPU with one
    wakeups: float | None = None  # a second, while idle
    slowdown: float | None = None  # by watchers: the share of the operations that is missing
    p99_added_ms: float | None = None  # by watchers
    scrape_s: float | None = None  # the longest
    probe_ms: float | None = None  # the longest /healthz


@dataclass(frozen=True, slots=True)
class Bench:
    """What all samples of a run have in common."""

    generator: Generator
    proxy_cpus: set[int]
    load_cpus: set[int]
    seconds: float  # measured, after a warm-up

    @property
    def warmup_s(self) -> float:
        """How long the load runs before it is measured."""
        return self.seconds / 4

    def cpus(self, work: Work) -> tuple[set[int], set[int]]:
        """Return the cores of the contender and of the generator."""
        if work.is_pinned:
            return self.proxy_cpus, self.load_cpus
        everywhere = self.proxy_cpus | self.load_cpus
        return everywhere, everywhere


def take_sample(bench: Bench, contender: Contender, work: Work, round_number: int) -> Sample:
    """Run `work` through `contender` once. Raises MeasureError."""
    try:
        if work.figure is Figure.MEMORY:
            return _idle_sample(bench, contender, work, round_number)
        if work.figure is Figure.LOG:
            return _log_sample(bench, contender, work, round_number)
        if work.figure is Figure.WORKERS:
            return _workers_sample(bench, contender, work, round_number)
        if work.figure is Figure.CHECKS:
            return _checks_sample(bench, contender, work, round_number)
        if work.figure is Figure.ADMIN:
            return _admin_sample(bench, contender, work, round_number)
        return _load_sample(bench, contender, work, round_number)
    except (GeneratorError, OSError, subprocess.SubprocessError) as error:
        raise MeasureError(str(error)) from error


def _load_sample(
    bench: Bench, contender: Contender, work: Work, round_number: int, *, has_log: bool = False
) -> Sample:
    with _running(bench, contender, work, has_access_log=has_log) as arena:
        load = arena.run_load(bench)
    return _sample_of(contender, work, round_number, load)


def _sample_of(contender: Contender, work: Work, round_number: int, load: Load) -> Sample:
    operations = load.operations / work.unit_size
    cost = load.max_us * 1000 if work.figure is Figure.LATENCY else load.cpu_ns / (operations or 1)
    return Sample(
        contender.name,
        work.name,
        round_number,
        cost=cost,
        rate=operations / (load.seconds or 1),
        busy=load.cpu_ns / 1e9 / (load.seconds or 1),
        errors=load.errors,
        p50_us=load.p50_us,
        p99_us=load.p99_us,
        max_us=load.max_us,
    )


def _log_sample(bench: Bench, contender: Contender, work: Work, round_number: int) -> Sample:
    """Measure without and with the log, one right after the other, the order turning by rounds."""
    order = (False, True) if round_number % 2 else (True, False)
    by_log = {
        has_log: _load_sample(bench, contender, work, round_number, has_log=has_log)
        for has_log in order
    }
    off, on = by_log[False], by_log[True]
    return dataclasses.replace(
        on,
        errors=off.errors + on.errors,
        log_cost=on.cost / off.cost if off.cost else None,
    )


def _workers_sample(bench: Bench, contender: Contender, work: Work, round_number: int) -> Sample:
    """Measure with one worker and with all, one right after the other, the order turning by rounds.

    On two cores, which the load needs as well, more workers serve no more clients. This shows only
    what several workers cost.
    """
    counts = (1, work.workers) if round_number % 2 else (work.workers, 1)
    by_workers = {
        count: _load_sample(
            bench,
            contender,
            dataclasses.replace(work, workers=count),
            round_number,
        )
        for count in counts
    }
    one, several = by_workers[1], by_workers[work.workers]
    return dataclasses.replace(
        several,
        errors=one.errors + several.errors,
        worker_cost=several.cost / one.cost if one.cost else None,
    )


def _admin_sample(bench: Bench, contender: Contender, work: Work, round_number: int) -> Sample:
    """Measure a nginy that is watched and one without the interface, both running, in turns.

    Two runs one after the other differ by more than the bar, as the processor's clock wanders; in
    the order A B B A B A A B, what it does steadily falls out of the ratio.
    """
    without = dataclasses.replace(work, is_watched=False)
    loads: dict[bool, list[Load]] = {False: [], True: []}
    seen: dict[str, list[float]] = {}
    first = bool(round_number % 2)
    with (
        _running(bench, contender, without) as quiet,
        _running(bench, contender, work) as watched,
    ):
        for turn in (0, 1, 1, 0, 1, 0, 0, 1):
            is_watched = bool(turn) is first
            if is_watched:
                load, found = _watched_load(bench, watched)
                for name, times_s in found.items():
                    seen.setdefault(name, []).extend(times_s)
            else:
                load = quiet.run_load(bench)
            loads[is_watched].append(load)
    off, on = (_joined(loads[is_watched]) for is_watched in (False, True))
    sample = _sample_of(contender, work, round_number, on)
    return dataclasses.replace(
        sample,
        errors=off.errors + on.errors,
        slowdown=1 - sample.rate / (off.operations / (off.seconds or 1) or 1),
        p99_added_ms=(on.p99_us - off.p99_us) / 1000,
        scrape_s=max(seen["scrape"]),
        probe_ms=max(seen["probe"]) * 1000,
    )


def _watched_load(bench: Bench, arena: "_Arena") -> tuple[Load, dict[str, list[float]]]:
    """Run the load once while somebody watches; return how long answers took, too."""
    argv = [*WATCHER, str(arena.setup.admin), str(bench.warmup_s + bench.seconds)]
    log = arena.setup.directory / "watcher.log"
    cpus = bench.cpus(arena.setup.work)[1]
    with ProcessGroup(argv, cpus, log, is_piped=True) as watcher:
        load = arena.run_load(bench)
        output, _ = watcher.process.communicate(timeout=LOAD_SPARE_S)
    return load, json.loads(output)


def _joined(loads: Sequence[Load]) -> Load:
    """Return several runs as one; of percentiles the mean."""

    def mean(values: Iterable[float]) -> float:
        return sum(values) / len(loads)

    return Load(
        operations=sum(each.operations for each in loads),
        seconds=sum(each.seconds for each in loads),
        cpu_ns=sum(each.cpu_ns for each in loads),
        own_cpu_ns=sum(each.own_cpu_ns for each in loads),
        errors=sum(each.errors for each in loads),
        p50_us=mean(each.p50_us for each in loads),
        p99_us=mean(each.p99_us for each in loads),
        max_us=max(each.max_us for each in loads),
    )


def _idle_sample(bench: Bench, contender: Contender, work: Work, round_number: int) -> Sample:
    """Measure what a pair adds to the resident memory, then watch the pairs do nothing."""
    with _running(bench, contender, work) as arena:
        before = processes.resident_bytes(arena.pids)
        with arena.generator(bench) as generator:
            _read_line(generator)
            growth = processes.resident_bytes(arena.pids) - before
            cpu_ns, woken = processes.cpu_ns(arena.pids), processes.wakeups(arena.pids)
            time.sleep(bench.seconds)
            cpu_ns = processes.cpu_ns(arena.pids) - cpu_ns
            woken = processes.wakeups(arena.pids) - woken
            load = _result(generator)
    return Sample(
        contender.name,
        work.name,
        round_number,
        cost=growth / (load.operations or 1),
        rate=0.0,
        busy=cpu_ns / 1e9 / bench.seconds,
        errors=load.errors,
        wakeups=woken / bench.seconds if arena.pids else None,
    )


def _checks_sample(bench: Bench, contender: Contender, work: Work, round_number: int) -> Sample:
    """Measure what checks cost while no client says anything, then how a ping-pong fares."""
    with _running(bench, contender, work) as arena:
        _accept(arena.backend, CHECKS_BEGIN_S)
        began_ns, cpu_ns = time.monotonic_ns(), processes.cpu_ns(arena.pids)
        accepted = _accept(arena.backend, bench.seconds)
        seconds = (time.monotonic_ns() - began_ns) / 1e9
        cpu_ns = processes.cpu_ns(arena.pids) - cpu_ns
        load = arena.run_load(bench)
    return Sample(
        contender.name,
        work.name,
        round_number,
        cost=cpu_ns / (accepted or 1),
        rate=accepted / seconds,
        busy=cpu_ns / 1e9 / seconds,
        errors=load.errors,
        p50_us=load.p50_us,
        p99_us=load.p99_us,
        max_us=load.max_us,
    )


def _accept(backend: socket.socket, seconds: float) -> int:
    """Be the backend for a while: accept, and close when the other side does. Return how many."""
    ends_s, accepted = time.monotonic() + seconds, 0
    connections: dict[int, socket.socket] = {}
    with select.epoll() as epoll:
        epoll.register(backend, select.EPOLLIN)
        while (left_s := ends_s - time.monotonic()) > 0:
            for fd, _ in epoll.poll(left_s):
                if fd != backend.fileno():
                    connections.pop(fd).close()
                    continue
                sock, _ = backend.accept()
                connections[sock.fileno()] = sock
                epoll.register(sock, select.EPOLLIN)
                accepted += 1
    for sock in connections.values():
        sock.close()
    return accepted


class _Arena:
    """A contender that is running, with a backend socket for the generator to serve."""

    def __init__(
        self,
        setup: Setup,
        backend: socket.socket,
        proxy: ProcessGroup | None = None,
        command: Command | None = None,
    ) -> None:
        self.setup = setup
        self.backend = backend
        self.proxy = proxy
        self.command = command
        self.pids = [] if proxy is None else proxy.pids()

    def generator(self, bench: Bench) -> ProcessGroup:
        """Start the generator; the caller ends it."""
        setup, work = self.setup, self.setup.work
        port = setup.backend_port if self.proxy is None else setup.port
        warmup_ms, measure_ms = round(bench.warmup_s * 1000), round(bench.seconds * 1000)
        # a reload replaces processes: there is no CPU time to compare
        pids = [] if work.reloads else self.pids
        numbers = (port, self.backend.fileno(), work.connections, warmup_ms, measure_ms)
        return ProcessGroup(
            [
                *(TLS_GENERATOR if work.tls else bench.generator.argv),
                work.load,
                *map(str, (*numbers, *pids)),
            ],
            bench.cpus(work)[1],
            setup.directory / "load.log",
            inherited_fd=self.backend.fileno(),
            is_piped=True,
        )

    def run_load(self, bench: Bench) -> Load:
        """Run the generator to its end, with the reloads of the work evenly in between."""
        with self.generator(bench) as generator:
            reloads = self.setup.work.reloads
            for number in range(reloads):
                pause_s = bench.seconds / (reloads + 1)
                _pause(generator, pause_s + (bench.warmup_s if number == 0 else 0.0))
                self.reload()
            return _result(generator, bench.seconds + LOAD_SPARE_S)

    def reload(self) -> None:
        if self.proxy is not None and self.command is not None:
            self.proxy.process.send_signal(self.command.reload_signal)


@contextmanager
def _running(
    bench: Bench, contender: Contender, work: Work, *, has_access_log: bool = False
) -> Iterator[_Arena]:
    """Start the contender for the work, end it afterwards. Raises MeasureError if it does not."""
    with (
        _backend_socket(work) as backend,
        tempfile.TemporaryDirectory(prefix="nginy-bench-") as path,
    ):
        directory = Path(path)
        directory.chmod(0o755)  # nginx's workers run as another user when the master is root
        setup = Setup(
            work,
            directory,
            _free_port(backend.type),
            backend.getsockname()[1],
            has_access_log,
        )
        if not contender.is_proxy:
            yield _Arena(setup, backend)
            return
        command = contender.command(setup)
        log = directory / "output.log"
        with ProcessGroup(command.argv, bench.cpus(work)[0], log) as proxy:
            if not comes_true(lambda: _is_serving(proxy, command, setup), START_TIMEOUT_S):
                raise MeasureError(f"{contender.name} did not start: {_last_words(directory)}")
            with _silent_sessions(bench, setup, backend):
                yield _Arena(setup, backend, proxy, command)
            if proxy.process.poll() is not None:
                raise MeasureError(f"{contender.name} ended by itself: {_last_words(directory)}")


@contextmanager
def _silent_sessions(bench: Bench, setup: Setup, backend: socket.socket) -> Iterator[None]:
    """Hold the silent sessions of the work, if it has any."""
    work = setup.work
    if not work.sessions:
        yield
        return
    argv = [*HOLDER, *map(str, (setup.port, backend.fileno(), work.sessions))]
    with ProcessGroup(
        argv,
        bench.cpus(work)[1],
        setup.directory / "holder.log",
        inherited_fd=backend.fileno(),
        is_piped=True,
    ) as holder:
        _read_line(holder)
        yield


def _backend_socket(work: Work) -> socket.socket:
    """Return the generator's backend: a socket of its own, so nobody else can take the port."""
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM if work.is_udp else socket.SOCK_STREAM)
    sock.bind(("127.0.0.1" if work.backends == 1 else "0.0.0.0", 0))
    if not work.is_udp:
        sock.listen(4096)
    sock.setblocking(False)
    return sock


def _free_port(kind: int) -> int:
    """Return a port that was free just now: nginx and HAProxy need a number."""
    with socket.socket(socket.AF_INET, kind) as sock:
        sock.bind(("127.0.0.1", 0))
        port: int = sock.getsockname()[1]
        return port


def _is_serving(proxy: ProcessGroup, command: Command, setup: Setup) -> bool:
    if proxy.process.poll() is not None:
        raise MeasureError(f"did not start: {_last_words(setup.directory)}")
    if len(proxy.pids()) < command.processes:
        return False
    is_serving = processes.is_serving_udp if setup.work.is_udp else processes.is_serving_tcp
    return is_serving(setup.port)


def _last_words(directory: Path) -> str:
    """Return the end of what a contender wrote before it failed."""
    for name in ("output.log", "error.log"):
        path = directory / name
        lines = path.read_text(errors="replace").strip().splitlines() if path.exists() else []
        if lines:
            return lines[-1]
    return "it said nothing"


def _read_line(generator: ProcessGroup) -> None:
    """Wait for the generator's `ready`. Raises GeneratorError."""
    stdout = generator.process.stdout
    assert stdout is not None
    if not select.select([stdout], [], [], LOAD_SPARE_S)[0]:
        raise GeneratorError("the idle pairs were not all there in time")
    line = stdout.readline()
    if line != b"ready\n":
        raise GeneratorError(f"ready expected, not {line[:200]!r}")


def _pause(generator: ProcessGroup, seconds: float) -> None:
    """Let time pass, cut short if the generator ends before."""
    with suppress(subprocess.TimeoutExpired):
        generator.process.wait(seconds)


def _result(generator: ProcessGroup, timeout_s: float = LOAD_SPARE_S) -> Load:
    output, _ = generator.process.communicate(timeout=timeout_s)
    return parse(output.decode(errors="replace"))
