"""Crew: the worker processes, as their supervisor sees them: forked, watched, signalled, replaced.

Each worker has a number, which is its column in the shared counts and its place in each group of
sockets. When a process dies, the crew starts another one under the same number: at once, but at
most once a second, since a worker that always dies would keep the machine busy. It kills a worker
that is alive but does not answer, and so replaces it too.

`supervisor.py` decides what to tell the workers, and what follows from their answers.

nginx: `ngx_spawn_process`, `ngx_reap_children` in `ngx_process_cycle.c`.

Tested in tests/run/test_stuck_workers.py.
"""

import logging
import os
import signal
import socket
from collections import Counter
from collections.abc import Callable, Sequence
from functools import partial
from typing import Final

from nginy.admin.facts.tally import Tally
from nginy.event.child import Child, fork
from nginy.event.loop import Loop
from nginy.event.timer import Timer
from nginy.log.levels import NOTICE
from nginy.process.workers.channel import Channel

logger = logging.getLogger("nginy.server")

RESTART_MS: Final = 1000
"""The least time from one start to the next under the same number."""
PING_MS: Final = 5_000
"""The time from one ping to the next. An idle worker wakes up for each, which costs it some 0.1
ms."""
PINGS_MISSED: Final = 3
"""After so many pings without an answer, a worker is taken to be stuck. Pings count, not time:
after a pause of the whole machine, each worker first gets the chance to answer."""

LAST_WORDS: Final = frozenset({"totals"})
"""Words that still matter when the process that said them is gone."""

RunWorker = Callable[[int, socket.socket], int]
"""Runs a worker process with its number and its end of the channel; returns its exit status."""


class WorkerProcess:
    """One living worker process. Created and closed by the crew."""

    __slots__ = (
        "_ended",
        "_has_ended",
        "_received",
        "channel",
        "child",
        "index",
        "is_serving",
        "started_at_ms",
        "tally",
        "unanswered",
    )

    def __init__(
        self,
        index: int,
        pid: int,
        loop: Loop,
        sock: socket.socket,
        received: "Callable[[WorkerProcess, str, str], None]",
        ended: "Callable[[WorkerProcess, int], None]",
    ) -> None:
        self.index = index
        self.started_at_ms = loop.clock.now_ms
        self.tally = Tally()
        """What it has counted, as far as it has said."""
        self.is_serving = False
        """Whether it has said that it serves."""
        self.unanswered = 0
        """Pings since it last said something."""
        self._received = received
        self._ended = ended
        self._has_ended = False
        self.child = Child(loop, pid, self._process_ended)
        # The end of the process says more than the end of the channel.
        self.channel = Channel(loop, sock, self._receive, lambda: None)

    def send(self, word: str, text: str = "", fds: Sequence[int] = ()) -> bool:
        """Tell it something; see `Channel.send`."""
        return self.channel.send(word, text, fds)

    def send_signal(self, number: signal.Signals) -> None:
        """Send it a signal."""
        self.child.send_signal(number)

    def kill(self, why: str) -> None:
        """End it at once, whatever its state, as it fails to do its work."""
        logger.error("%s %s, killing it", self, why)
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Close its channel, without which it ends."""
        self.channel.close()
        self.child.close()

    def _receive(self, word: str, text: str, _fds: list[int]) -> None:
        self.unanswered = 0
        if word != "pong" and (word in LAST_WORDS or not self._has_ended):
            self._received(self, word, text)

    def _process_ended(self, code: int) -> None:
        self._has_ended = True
        self.channel.drain()
        self._ended(self, code)

    def __str__(self) -> str:
        """Return what log lines call it."""
        return f"worker {self.index}, process {self.child.pid}"


class Crew:
    """All workers of a supervisor by their number."""

    __slots__ = (
        "_died",
        "_loop",
        "_ping_ms",
        "_ping_timer",
        "_received",
        "_run",
        "_timer",
        "_waiting",
        "_wanted",
        "exits",
        "is_held",
        "processes",
    )

    def __init__(
        self,
        loop: Loop,
        size: int,
        run: RunWorker,
        received: Callable[[WorkerProcess, str, str], None],
        died: Callable[[WorkerProcess], None],
        ping_ms: int = PING_MS,
    ) -> None:
        """Fork nobody yet.

        A worker process calls `run`. The supervisor calls `received` with a worker's word and text,
        and `died` before it starts the replacement.
        """
        self._ping_ms = ping_ms
        self._ping_timer = Timer(self._ping_handler, self)
        self._loop = loop
        self._run = run
        self._received = received
        self._died = died
        self._wanted = size
        self._waiting: dict[int, int] = {}
        """When each missing worker may start."""
        self._timer = Timer(self._start_handler, self)
        self.processes: dict[int, WorkerProcess] = {}
        self.exits: Counter[str] = Counter()
        """How many have exited, and how many were ended by a signal."""
        self.is_held = False
        """Whether to start no worker now, as it is undecided what it would serve."""

    @property
    def are_serving(self) -> bool:
        """Whether every worker serves."""
        return len(self.serving()) == self._wanted

    def serving(self) -> list[WorkerProcess]:
        """Return the workers that serve."""
        return [process for process in self.processes.values() if process.is_serving]

    def start(self) -> None:
        """Fork the missing workers that may start now; the others follow later."""
        if self.is_held:
            return
        if not self._ping_timer.is_running:
            self._start_pinging()
        now_ms = self._loop.clock.now_ms
        for index in range(self._wanted):
            if index not in self.processes and self._waiting.get(index, now_ms) <= now_ms:
                self._fork(index)
        late = [self._waiting[i] for i in range(self._wanted) if i not in self.processes]
        if late:
            self._loop.timers.start(self._timer, min(late))

    def dismiss(self) -> None:
        """Start no further worker."""
        self._wanted = 0
        self._loop.timers.cancel(self._timer)

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to every worker."""
        for process in self.processes.values():
            process.send_signal(number)

    def close(self) -> None:
        """Close the channels, which ends the remaining workers."""
        self.dismiss()
        self._loop.timers.cancel(self._ping_timer)
        for process in self.processes.values():
            process.close()
        self.processes.clear()

    def __str__(self) -> str:
        """Return what log lines call it."""
        return "the workers"

    def abort(self) -> None:
        """Go on: a bug in starting a worker does not end the others."""

    def _worker_ended(self, process: WorkerProcess, code: int) -> None:
        text = f"exited on signal {-code}" if code < 0 else f"exited with code {code}"
        level = NOTICE if code == 0 else logging.CRITICAL
        logger.log(level, "%s %s", process, text)
        self.exits["signal" if code < 0 else "exit"] += 1
        process.close()
        del self.processes[process.index]
        self._waiting[process.index] = process.started_at_ms + RESTART_MS
        self._died(process)
        self.start()

    def _start_handler(self, _timer: Timer) -> None:
        self.start()

    def _start_pinging(self) -> None:
        self._loop.timers.start(self._ping_timer, self._loop.clock.now_ms + self._ping_ms)

    def _ping_handler(self, _timer: Timer) -> None:
        """Ask each worker for a sign of life, and kill those that have missed too many.

        One that is stopped or swapped out takes its share of the clients and serves none of them.
        """
        for process in self.processes.values():
            if process.unanswered >= PINGS_MISSED:
                process.kill("does not answer")
            process.unanswered += 1
            process.send("ping")
        self._start_pinging()

    def _fork(self, index: int) -> None:
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            try:
                pid = fork(partial(self._be_worker, index, ours, theirs))
            except OSError as error:
                ours.close()
                logger.critical("fork() failed (%s: %s)", error.errno, error.strerror)
                self._waiting[index] = self._loop.clock.now_ms + RESTART_MS
                return
        process = WorkerProcess(index, pid, self._loop, ours, self._received, self._worker_ended)
        self.processes[index] = process
        self._waiting.pop(index, None)
        logger.log(NOTICE, "%s started", process)

    def _be_worker(self, index: int, ours: socket.socket, theirs: socket.socket) -> int:
        """Run the worker in this process, a child."""
        # Signals of a terminal reach the supervisor alone, which passes them on once.
        os.setpgid(0, 0)
        ours.close()
        for process in self.processes.values():
            process.close()
        return self._run(index, theirs)
