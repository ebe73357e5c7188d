"""A traced loop: it does the same as any other, and what it notes fits together."""

import ast
import contextlib
import gc
import inspect
import socket
import textwrap
import time
from collections.abc import Callable, Iterator

import pytest
from nginy.event.connection import Connection
from nginy.event.event import Event
from nginy.event.loop import Loop
from nginy.event.meter import MeteredLoop, meter_of
from nginy.event.recorder import Recorder
from nginy.event.timer import Timer
from nginy.event.trace import Box, Role, Trace, Turn
from nginy.event.traced import TracedLoop, begin_recording, end_recording

from conftest import ExpectLog
from kit.calls import calls


class Session:
    number = 7
    client: Connection

    def abort(self) -> None:
        self.client.close()


def pass_time(ms: int) -> None:
    end_ns = time.monotonic_ns() + ms * 1_000_000
    while time.monotonic_ns() < end_ns:
        pass


class Other:
    def abort(self) -> None:
        raise AssertionError


class Place:
    """A traced loop with one connection of a session, whose handler is up to the test."""

    def __init__(self) -> None:
        self.loop = Loop()
        self.peer, sock = socket.socketpair()
        sock.setblocking(False)
        self.c = Connection(self.loop, sock, "")
        self.owner = Session()
        self.c.data, self.owner.client = self.owner, self.c
        self.c.read.handler = self.receive
        self.c.resume_read()
        self.recorder = Recorder(lambda owner: Role.SESSION if owner is self.owner else Role.OTHER)
        self.looked: list[int] = []
        begin_recording(self.loop, self.recorder)

    def receive(self, event: Event) -> None:
        event.data.recv(self.loop.memory[:100])

    def turn(self, wait_ms: int = 0) -> tuple[Turn, list[Box]]:
        self.loop.turn(wait_ms)
        turn = Turn(*self.recorder.last_turns()[-1])
        return turn, [Box(*each) for each in turn.boxes]

    def close(self) -> None:
        end_recording(self.loop)
        self.c.close()
        self.peer.close()
        self.loop.close()


@pytest.fixture
def place() -> Iterator[Place]:
    made = Place()
    yield made
    made.close()


class Bare(ast.NodeTransformer):
    """Takes out of a method its docstring, and what only notes something."""

    def is_note(self, node: ast.stmt) -> bool:
        names = {each.id for each in ast.walk(node) if isinstance(each, ast.Name)}
        return isinstance(node, ast.Assign | ast.Expr) and bool(names & {"recorder", "now"})

    def visit_FunctionDef(self, node: ast.FunctionDef) -> ast.AST:
        node.body = [each for each in node.body[1:] if not self.is_note(each)]
        self.generic_visit(node)
        return node


def steps(method: Callable[..., object]) -> str:
    tree = ast.parse(textwrap.dedent(inspect.getsource(method)))
    return ast.unparse(Bare().visit(tree))


def test_it_takes_the_same_steps_as_a_loop_that_notes_nothing() -> None:
    assert steps(TracedLoop.turn) == steps(Loop.turn)


def test_a_loop_that_nobody_looks_at_runs_the_code_it_always_ran() -> None:
    loop, recorder = Loop(), Recorder(lambda _: Role.OTHER)
    before = gc.callbacks.copy()
    begin_recording(loop, recorder)
    assert type(loop).turn is not Loop.turn
    assert meter_of(loop) is not None, "measuring begins meanwhile"
    assert type(loop) is TracedLoop
    end_recording(loop)
    assert type(loop) is MeteredLoop
    assert gc.callbacks == before
    assert not hasattr(loop, "recorder")
    loop.close()
    plain = Loop()
    begin_recording(plain, recorder)
    end_recording(plain)
    assert type(plain) is Loop
    assert Loop.turn.__code__ is type(plain).turn.__code__
    plain.close()


def test_the_parts_of_a_turn_follow_each_other_without_a_gap(place: Place) -> None:
    place.loop.timers.start(Timer(lambda _: None, place.owner), place.loop.clock.now_ms)
    place.loop.soon(lambda: pass_time(1), place.owner)
    pass_time(20)
    place.peer.send(b"12345")
    turn, boxes = place.turn(1000)
    instants = turn[1:8]
    assert list(instants) == sorted(instants)
    assert [each.kind for each in boxes] == ["client read", "timer", "posted"]
    assert [each.began_ns for each in boxes] == [turn.ready_ns, turn.timers_ns, turn.posted_ns]
    ends = [turn.timers_ns, turn.posted_ns, turn.ended_ns]
    assert all(each.ended_ns <= end for each, end in zip(boxes, ends, strict=True))
    assert boxes[2].ended_ns - boxes[2].began_ns >= 1_000_000
    assert (boxes[0].number, boxes[0].amount, boxes[0].outcome) == (7, 5, "AGAIN")
    assert (turn.ready, turn.wait_ms, turn.put_off, turn.connections) == (1, 0, 1, 1)
    assert turn.late_ms >= 0
    assert place.recorder.fired == 1


def test_each_outcome_has_its_word(place: Place) -> None:
    place.peer.send(b"x" * 100)
    assert place.turn()[1][0].outcome == "MORE"
    place.loop.post(place.c.read)
    boxes = place.turn()[1]
    assert [(each.kind, each.what, each.outcome) for each in boxes] == [
        ("posted", "client read", "AGAIN")
    ]
    place.c.write.handler = lambda event: event.data.pause_write()
    place.c.resume_write()
    assert [each[0] for each in place.turn()[0].boxes] in (["write"], ["posted"])
    place.peer.shutdown(socket.SHUT_WR)
    assert place.turn()[1][0].outcome == "EOF"
    other = Timer(lambda timer: place.loop.timers.start(timer, 1 << 50), Other())
    place.loop.timers.start(other, 0)
    assert place.turn()[1][-1].outcome == "set again"
    place.loop.timers.cancel(other)
    again = Timer(lambda timer: place.loop.timers.start(timer, 1 << 50), place.owner)
    place.loop.timers.start(again, 0)
    assert place.turn()[1][-1].outcome == "back to sleep"
    assert (place.recorder.fired, place.recorder.early) == (2, 1)
    place.loop.timers.cancel(again)


def test_an_ordinary_message_is_noted_like_the_first_one(place: Place) -> None:
    first, ordinary = [], []
    for noted in (first, ordinary):
        for size in (5, 100):
            place.peer.send(b"x" * size)
            turn, boxes = place.turn()
            noted.append([(*box[0:1], *box[3:]) for box in boxes])
            assert boxes[0].began_ns == turn.ready_ns < boxes[0].ended_ns == turn.timers_ns
        place.turn()
    assert first == ordinary
    assert ordinary[1] == [("client read", 7, 100, "MORE", "")]
    place.owner.client = Connection.__new__(Connection)
    place.peer.send(b"12345")
    assert place.turn()[1][0].kind == "upstream read"
    place.owner.client = place.c
    place.c.read.handler = lambda event: event.data.close()
    place.peer.send(b"1")
    assert [box[3:6] for box in place.turn()[1]] == [(7, 0, "closed")]


def test_an_ordinary_message_costs_but_a_few_calls_to_note(place: Place) -> None:
    """An iterator that goes on, the clock, and a tuple that is appended; no timer."""
    with contextlib.ExitStack() as stack:
        peers = []
        for _ in range(9):
            peer, sock = socket.socketpair()
            sock.setblocking(False)
            c = Connection(place.loop, sock, "")
            stack.callback(peer.close)
            stack.callback(c.close)
            c.data, c.read.handler = place.owner, place.receive
            c.resume_read()
            peers.append(peer)

        def cost(count: int) -> int:
            for peer in peers[:count]:
                peer.send(b"12345")
            return calls(lambda: place.loop.turn(0))

        cost(9)
        noted = cost(9) - cost(1)
        assert place.loop.timers.next_deadline_ms() is None
        end_recording(place.loop)
        cost(9)
        assert 0 < noted - (cost(9) - cost(1)) <= 8 * 4


def test_a_handler_that_fails_is_noted_and_ends_only_its_session(
    place: Place, expect_log: ExpectLog
) -> None:
    def fail(_event: Event) -> None:
        raise ValueError("a bug")

    place.c.read.handler = fail
    place.peer.send(b"1")
    with expect_log("bug in nginy", count=1):
        boxes = place.turn()[1]
    assert [(each.number, each.outcome) for each in boxes] == [(7, "closed")]
    assert place.turn()[1] == []


def test_sessions_are_looked_at_when_they_may_have_got_further_and_else_never(
    place: Place,
) -> None:
    trace = Trace(100)
    place.recorder.begin_trace(trace, lambda _, at_ns: place.looked.append(at_ns))
    for _ in range(4):
        place.peer.send(b"12345")
        place.turn()
    assert len(place.looked) == 1, "at the first byte"
    place.peer.close()
    place.turn()
    assert len(place.looked) == 2
    place.recorder.end_trace()
    assert len(trace.turns) == 5
    assert place.turn()[0].number == 6
    assert len(trace.turns) == 5


def test_what_is_new_of_sessions_is_the_number_of_those_begun(place: Place) -> None:
    def begin(event: Event) -> None:
        place.receive(event)
        place.loop.sessions_started += 3

    place.c.read.handler = begin
    trace = Trace(100)
    place.recorder.begin_trace(trace, lambda *_: None)
    place.peer.send(b"1")
    box = place.turn()[1][0]
    assert box.number == 1
    assert trace.begun == dict.fromkeys((1, 2, 3), box.began_ns)


def test_a_full_trace_says_so_and_takes_nothing_more(place: Place) -> None:
    trace = Trace(3)
    place.recorder.begin_trace(trace, lambda *_: None)
    for _ in range(5):
        place.turn()
    noted = [*trace.turns, *trace.marks]  # a collection of garbage may be among them
    assert (len(noted), trace.is_truncated) == (3, True)
    trace.mark("i", 0, 0, "gc")
    assert [*trace.turns, *trace.marks] == noted

    def begin(event: Event) -> None:
        place.receive(event)
        place.loop.sessions_started += 1

    place.c.read.handler = begin
    place.peer.send(b"1")
    place.turn()
    assert trace.begun == {}


def test_a_collection_of_garbage_is_an_instant(place: Place) -> None:
    trace = Trace(100)
    place.recorder.begin_trace(trace, lambda *_: None)
    gc.collect()
    (kind, _, _, name, text) = trace.marks[0]
    assert (kind, name) == ("i", "gc")
    assert text.startswith("generation 2, ")


def test_idle_turns_do_not_displace_those_that_have_served_somebody(place: Place) -> None:
    for _ in range(170):
        place.peer.send(b"1")
        place.loop.turn(0)
    for _ in range(100):
        place.loop.turn(0)
    numbers = [each[0] for each in place.recorder.last_turns()]
    assert numbers == [*range(11, 171), *range(231, 271)]
    assert [each[0] for each in place.recorder.last_turns(268)] == [269, 270]
