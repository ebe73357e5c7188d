"""Upgrades that go wrong: whatever happens, each session is served by exactly one process.

The crowd sees to it that no byte is lost, doubled or changed (`kit.crowd`). A session may end early
only if its process is killed, and then it must not go on in another one.
"""

import contextlib
import json
import os
import pathlib
import random
import signal
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass

import pytest

from kit.crowd import Crowd
from kit.program import Nginy
from kit.programs import OtherProgram
from kit.servers import address_text
from kit.takeover import Place, Succession, address_of, check_log, place_of, runs

CLIENTS = 40
SLOWEST_S = 0.4
KILLS = 3
SIGNALS = 4

PATCH = """
import os, signal, time
import nginy.process.takeover.{module} as module
kept = module.{name}
def changed(self, *arguments):
{body}
module.{name} = changed
"""


def patch(module: str, name: str, body: str) -> str:
    """Return lines that replace a method by `body`; `kept` is what it was."""
    lines = "\n".join(f"    {line}" for line in body.splitlines())
    return PATCH.format(module=module, name=name, body=lines)


def patch_constant(module: str, name: str, value: str) -> str:
    """Return a line that gives a constant another value."""
    return f"import nginy.process.takeover.{module} as module; module.{name} = {value}"


@pytest.fixture
def program(tmp_path: pathlib.Path) -> OtherProgram:
    return OtherProgram(tmp_path)


@contextlib.contextmanager
def served(
    directory: pathlib.Path, program: OtherProgram, seed: int | None = None
) -> Iterator[tuple[Crowd, Place, Succession]]:
    """Start nginy, as a program that can be changed, between a crowd's clients and backends."""
    seed = random.randrange(1 << 32) if seed is None else seed
    print("seed", seed)
    with Crowd(seed, SLOWEST_S) as crowd:
        place = place_of(crowd)
        with (
            Nginy(directory, place.config, program=program.argv) as nginy,
            Succession(nginy, crowd) as line,
        ):
            yield crowd, place, line


def finish(line: Succession) -> None:
    """Hear from all once more, let them end, then nginy, and look at its log."""
    line.crowd.hear_from_all()
    ended = line.crowd.finish()
    line.end()
    check_log(line.nginy, ended, line.crowd)


FAILURES = {
    "it ends at once": (
        {"before": "sys.exit(3)"},
        "process [0-9]+ has exited with code 3",
    ),
    "it says no": (
        {"before": "sys.exit(1)"},
        "process [0-9]+ has exited with code 1",
    ),
    "it is killed": (
        {"before": "import os; os.kill(os.getpid(), 9)"},
        "process [0-9]+ has exited on signal 9",
    ),
    "it ends after the greeting": (
        {"after": patch("taking", "Takers.await_known", "os._exit(4)")},
        "process [0-9]+ has exited with code 4",
    ),
    "it ends when it has read half a message": (
        {"after": patch("link", "Link._receive", "self._socket.recv(9); os._exit(5)")},
        "process [0-9]+ has exited with code 5",
    ),
}


@pytest.mark.timeout(90)
def test_a_new_program_that_fails_changes_nothing(
    tmp_path: pathlib.Path, program: OtherProgram
) -> None:
    with served(tmp_path, program, 1) as (crowd, place, line):
        arrive(crowd, place)
        for what, (change, pattern) in FAILURES.items():
            program.change(**change)
            outcome = line.fail()
            said = "\n".join(outcome.lines)
            print(what, said)
            assert f"process {line.pid} goes on as before" in said, (what, said)
            assert outcome.says(pattern), (what, said)
        program.change()
        with socket.create_server((place.tcp[0], 0)) as taken:
            line.nginy.write(f"{place.config}- {{listen: '{address_text(taken)}', return: no}}\n")
            outcome = line.fail()
            assert outcome.says(r"bind\(\) to .* failed \(98: "), outcome
        line.nginy.write(place.config)
        line.succeed()
        finish(line)


def arrive(crowd: Crowd, place: Place) -> None:
    crowd.arrive(CLIENTS, place.tcp, CLIENTS, place.udp)
    crowd.stick()
    crowd.newcomers = 1
    crowd.hear_from_all()


ROOM = 110
"""Descriptors of a new program that cannot have all sessions: each takes two."""


@pytest.mark.timeout(60)
def test_sessions_without_a_free_descriptor_stay_until_they_end(
    tmp_path: pathlib.Path, program: OtherProgram
) -> None:
    with served(tmp_path, program, 7) as (crowd, place, line):
        # TCP alone: a UDP client whose session stays is served anew by the new program.
        crowd.arrive(2 * CLIENTS, place.tcp, 0, place.udp)
        crowd.stick()
        crowd.newcomers = 1
        crowd.hear_from_all()
        old = line.pid
        program.change(
            before=f"import resource as r; r.setrlimit(r.RLIMIT_NOFILE, ({ROOM}, {ROOM}))"
        )
        outcome = line.upgrade()
        assert outcome.status == 0, outcome
        assert line.pid != old, outcome
        assert outcome.says("moved: [1-9]"), outcome
        assert outcome.says(f"stay with process {old} until they end: .*descriptor"), outcome
        crowd.hear_from_all()
        ended = crowd.finish()
        crowd.step_until(lambda: not runs(old), f"the end of {old}")
        program.change()
        line.end()
        check_log(line.nginy, ended, crowd)


DEATHS = {
    "it has said that it serves": ("taking", "Takers.ready", "kept(self); os.kill(os.getpid(), 9)"),
    "it gets its third session": (
        "taking",
        "Taker._take",
        "if self.taken == 2: os.kill(os.getpid(), 9)\nreturn kept(self, *arguments)",
    ),
    "it has confirmed the tenth": (
        "taking",
        "Taker._confirmed",
        "kept(self, *arguments)\nif self.taken == 10: os.kill(os.getpid(), 9)",
    ),
}


@pytest.mark.timeout(120)
def test_a_new_program_that_dies_takes_only_what_it_has_confirmed(
    tmp_path: pathlib.Path, program: OtherProgram
) -> None:
    with served(tmp_path, program) as (crowd, place, line):
        arrive(crowd, place)
        crowd.may_cut = line.may_be_dead = True
        for what, (module, name, body) in DEATHS.items():
            program.change(after=patch(module, name, body))
            before = len(crowd.cut)
            outcome = line.fail()
            print(what, outcome, len(crowd.cut) - before, "cut")
            assert outcome.says("exited on signal 9"), (what, outcome)
        assert len(crowd.cut) <= 12 + KILLS
        program.change(after=SLOW)
        for _ in range(KILLS):
            kill_the_heir(line, crowd.rng.uniform(0, 0.5))
        crowd.may_cut = line.may_be_dead = False
        line.succeed()
        finish(line)


def kill_the_heir(line: Succession, after_s: float) -> None:
    """Kill the new process this long after its start, while the old one has half of the sessions.

    An old process that has handed over everything ends, and nobody would serve.
    """
    old, crowd = line.pid, line.crowd
    begun = line.processes()
    held = descriptors_of(old)
    os.kill(old, signal.SIGUSR2)
    heir = heir_of(line, begun)
    deadline_s = time.monotonic() + after_s
    crowd.step_until(lambda: time.monotonic() > deadline_s or not runs(old), "the moment")
    if descriptors_of(old) > held / 2:
        os.kill(heir, signal.SIGKILL)
    one_is_left(line, {old, heir})
    crowd.hear_from_all()


def descriptors_of(pid: int) -> int:
    """Count the descriptors that a process has, none if it has ended."""
    try:
        return len(os.listdir(f"/proc/{pid}/fd"))
    except OSError:
        return 0


SILENT = {
    "it speaks another version": patch_constant("predecessor", "VERSIONS", "(99,)"),
    "it does not wait for an answer": patch_constant("predecessor", "GREETING_MS", "0"),
    "it reads half of each message": patch_constant("link", "MESSAGE_MAX_BYTES", "9"),
}


@pytest.mark.timeout(90)
def test_a_new_program_that_takes_nothing_serves_beside_the_old_one(
    tmp_path: pathlib.Path, program: OtherProgram
) -> None:
    with served(tmp_path, program, 1) as (crowd, place, line):
        crowd.arrive(CLIENTS, place.tcp)  # datagrams would come to either
        for what, change in SILENT.items():
            program.change(after=change)
            before = line.processes()
            outcome = line.upgrade()
            print(what, outcome)
            assert line.pid not in before, (what, outcome)
            crowd.hear_from_all()
            line.may_be_dead = True
            os.kill(line.pid, signal.SIGQUIT)
            line.goes_on(before)
            line.may_be_dead = False
        program.change()
        line.succeed()
        finish(line)


SLOW = patch("taking", "Taker._take", "time.sleep(0.005)\nreturn kept(self, *arguments)")
"""Makes a session take some time to move, so that there are moments in between."""


@dataclass(frozen=True)
class Sent:
    """A signal to one of the two processes, at some moment of an upgrade."""

    number: signal.Signals
    to_heir: bool
    after_s: float
    is_moving: bool = False
    """Count from the moment at which the new process serves."""


@pytest.mark.timeout(120)
def test_signals_in_the_middle_of_an_upgrade_lose_nothing(
    tmp_path: pathlib.Path, program: OtherProgram
) -> None:
    """HUP and QUIT cost no client anything, whichever process gets them, and whenever."""
    with served(tmp_path, program) as (crowd, place, line):
        arrive(crowd, place)
        program.change(after=SLOW)
        for _ in range(SIGNALS):
            number = crowd.rng.choice((signal.SIGHUP, signal.SIGUSR1))
            is_moving, to_heir = (crowd.rng.random() < 0.5 for _ in range(2))
            sent = Sent(number, to_heir, crowd.rng.uniform(0, 0.3), is_moving)
            crowd.context = str(sent)
            one_is_left(line, begin_and_send(line, sent))
            crowd.hear_from_all()
        # The old process, told to end, first lets its sessions go.
        one_is_left(line, begin_and_send(line, Sent(signal.SIGQUIT, False, 0.05, is_moving=True)))
        finish(line)


@pytest.mark.timeout(60)
def test_a_new_process_that_is_told_to_quit_first_gets_all_sessions(
    tmp_path: pathlib.Path, program: OtherProgram
) -> None:
    with Crowd(5, SLOWEST_S) as crowd:
        place = place_of(crowd)
        with (
            Nginy(tmp_path, place.config, program=program.argv) as nginy,
            Succession(nginy, crowd) as line,
        ):
            crowd.arrive(CLIENTS, place.tcp, CLIENTS, place.udp)
            crowd.hear_from_all()
            program.change(after=SLOW)
            old = line.pid
            begin_and_send(line, Sent(signal.SIGQUIT, True, 0.05, is_moving=True))
            crowd.step_until(lambda: not runs(old), f"the end of {old}")
            crowd.hear_from_all()
            nginy.said(rf"has taken over: \d+ sessions moved \(\d+ TCP, {CLIENTS} UDP\)$")
            nginy.said(r"waiting for \d+ sessions to end")
            crowd.watch = lambda: None


@pytest.mark.timeout(120)
@pytest.mark.parametrize("is_moving", [False, True], ids=["start", "move"])
@pytest.mark.parametrize("to_heir", [False, True], ids=["old", "new"])
def test_after_term_in_the_middle_of_an_upgrade_each_session_is_logged_once(
    tmp_path: pathlib.Path, program: OtherProgram, to_heir: bool, is_moving: bool
) -> None:
    """TERM ends the sessions that a process has, and those alone."""
    with served(tmp_path, program) as (crowd, place, line):
        crowd.arrive(CLIENTS, place.tcp)
        lasting = {session.address for session in crowd.sessions.values()}
        crowd.may_cut = line.may_be_dead = True
        program.change(after=SLOW)
        after_s = crowd.rng.uniform(0, 0.2)
        two = begin_and_send(line, Sent(signal.SIGTERM, to_heir, after_s, is_moving))

        def is_over() -> bool:
            left = set(filter(runs, two))
            return not left or left == line.processes() == {line.pid}

        crowd.step_until(is_over, "the end of one of them, or of both")
        if crowd.sessions and line.processes():
            crowd.hear_from_all()
            crowd.finish()
            line.end()
        crowd.step_until(lambda: not crowd.sessions, "the end of all sessions")
        print(len(crowd.cut), "cut", len(crowd.ended), "not")
        assert len(crowd.cut) + len(crowd.ended) == len(lasting)
        logged = [address_of(json.loads(text)) for text in line.nginy.access_lines()]
        assert sorted(logged) == sorted(lasting)


def heir_of(line: Succession, begun: set[int]) -> int:
    """Wait for a process beside those that were there, and return it."""
    heirs: set[int] = set()

    def has_another() -> bool:
        # Kept at once: while it becomes the program, a process has no name for a moment.
        heirs.update(line.processes() - begun)
        return bool(heirs)

    line.crowd.step_until(has_another, "another process")
    return max(heirs)


def one_is_left(line: Succession, two: set[int]) -> None:
    """Wait until one of two processes has ended, and nobody else is there."""
    # The two come first, as one that becomes the program has no name, and asking them is cheap.
    line.crowd.step_until(
        lambda: not all(map(runs, two)) and len(line.processes()) == 1, "one process"
    )


def begin_and_send(line: Succession, sent: Sent) -> set[int]:
    """Begin an upgrade, send one of the two processes a signal at its moment; return both."""
    old, crowd = line.pid, line.crowd
    begun = line.processes()
    os.kill(old, signal.SIGUSR2)
    heir = heir_of(line, begun)
    if sent.is_moving:
        crowd.step_until(lambda: line.pid == heir, f"{heir} to serve")
    deadline_s = time.monotonic() + sent.after_s
    crowd.step_until(lambda: time.monotonic() > deadline_s, "the moment")
    with contextlib.suppress(ProcessLookupError):
        os.kill(heir if sent.to_heir else old, sent.number)
    return {old, heir}
