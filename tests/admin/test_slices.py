"""No answer does much in one turn: every slice of every answer over ten thousand backends.

A slice takes 0.5 ms at most on a machine of 2023; see `admin/pace.py`. Slower machines, and those
with other things to do, get five times as much here. What is not done in slices takes 5 to 20 ms.
"""

import gc
import json
import time
from collections.abc import Callable, Iterator
from decimal import Decimal
from typing import Any, ClassVar

import pytest
from nginy.admin import looking, reading
from nginy.admin.answer import Answer, Slices
from nginy.admin.asked import Asked
from nginy.admin.changes.zeroing import reset
from nginy.admin.loop import page, tracing, view
from nginy.admin.loop.recording import TraceOrder
from nginy.admin.metrics import scraping
from nginy.admin.page import front
from nginy.admin.subject import Front, Subject
from nginy.backend.pool import BackendPool
from nginy.event.timer import TICK_MS, Timer
from nginy.event.trace import Trace
from nginy.proxy.handler import ProxySettings
from nginy.proxy.tcp import TcpHandler
from nginy.text.address import parse_address
from nginy.wire.request import Request

from kit.admin import Made, done, pool, take_down
from kit.chrome import check_trace

BACKENDS = 10_000
SLICE_MAX_NS = 2_500_000
RUNS = 3

MADE: dict[str, tuple[Callable[[Subject, Asked], Slices[Answer]], dict[str, str]]] = {
    "overview": (reading.overview_answer, {}),
    "readyz": (reading.readyz, {}),
    "upstreams": (reading.upstreams, {}),
    "listeners": (reading.listeners, {}),
    "backends": (reading.backends, {"after": "8000"}),
    "backends that fit": (reading.backends, {"match": "10.0.39"}),
    "sessions": (looking.sessions, {}),
    "page": (front.page, {}),
    "metrics": (scraping.metrics, {}),
    "loop": (view.loop_answer, {}),
    "page of the loop": (page.page, {}),
}


def addresses(count: int) -> Iterator[str]:
    return (f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}:80" for n in range(count))


def crowd(kind: str) -> list[BackendPool]:
    if kind == "thousand upstreams":
        return [pool(f"web{number}", *addresses(10)) for number in range(BACKENDS // 10)]
    web = pool("web", *addresses(BACKENDS))
    if kind == "all down":
        for place in range(BACKENDS):
            take_down(web, place, "check failed: connect() failed (111: Connection refused)")
    return [web]


def keep_busy(subject: Subject) -> None:
    """Record turns with many handlers, and have many timers run."""
    recorder = subject.recording.watch()
    for number in range(200):
        recorder.boxes = [("client read", n, n + 1, 7, 5, "AGAIN", "") for n in range(60)]
        recorder.end_turn((number, *[0] * 5, 100, 100, 60, -1, -1, 0, 5, 0, recorder.boxes))
    for number in range(BACKENDS):
        deadline_ms = subject.loop.clock.now_ms + number * TICK_MS
        subject.loop.timers.start(Timer(lambda _: None, subject.recording), deadline_ms)


def costs_ns(work: Slices[Answer]) -> list[int]:
    """Return the CPU time of each slice, and of sending the first bytes as that of the last."""
    found: list[int] = []
    while True:
        began_ns = time.thread_time_ns()
        try:
            next(work)
        except StopIteration as end:
            end.value.to_bytes()
            return [*found, time.thread_time_ns() - began_ns]
        found.append(time.thread_time_ns() - began_ns)


@pytest.mark.slow
@pytest.mark.alone
@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", ["one upstream", "all down", "thousand upstreams"])
def test_no_slice_of_any_answer_is_long(kind: str) -> None:
    pools = crowd(kind)
    made = Made(*pools)
    with made as subject:
        handler = TcpHandler(
            made.loop, "front", parse_address("127.0.0.1:80"), pools[0], ProxySettings()
        )
        fronts = [Front(f"127.0.0.1:{port}", handler) for port in range(len(pools))]
        subject.fronts = lambda: fronts
        subject.balances = {each.name: "round_robin" for each in pools}
        subject.metrics_backends = BACKENDS
        keep_busy(subject)
        # From then on, each answer subtracts what was counted.
        done(reset(subject, Asked(Request("POST", (), {}, {}, "", b"", keeps_alive=True))))
        gc.collect()
        gc.freeze()
        worst = {}
        for name, (make, query) in MADE.items():
            asked = Asked(Request("GET", ("x",), query, {}, "localhost", b"", keeps_alive=True))
            runs = [costs_ns(make(subject, asked)) for _ in range(RUNS)]
            worst[name] = max(min(each) for each in zip(*runs, strict=False))
        assert {name: ns for name, ns in worst.items() if ns > SLICE_MAX_NS} == {}


class Counted(tuple[Any, ...]):
    """A mark that counts how often its time is looked at."""

    __slots__ = ()
    looks: ClassVar[list[int]] = [0]

    def __getitem__(self, place: Any) -> Any:
        self.looks[-1] += 1
        return super().__getitem__(place)


def test_a_long_trace_is_put_in_order_part_by_part() -> None:
    """To sort 90,000 marks at once takes 14 ms; a part of them, 0.2 ms."""
    marks = [Counted(("i", 1000 - n % 7 + 10 * n, 0, "gc", "")) for n in range(15_000)]
    with Made(pool("web", "10.0.0.1:80")) as subject:
        trace = subject.recording.trace = Trace(len(marks))
        trace.ended_ns, subject.recording.trace_id = 1_000_000, 1
        trace.marks += marks
        subject.trace_order = TraceOrder(1, 0, 0, 0, 0)
        for number in range(1000):
            subject.events.add(number, {"kind": "reload", "text": "done"})
        request = Request("GET", ("x",), {}, {}, "localhost", b"", keeps_alive=True)
        work = tracing.trace(subject, Asked(request, {"ID": "1"}))
        while True:
            Counted.looks.append(0)
            try:
                next(work)
            except StopIteration as end:
                text = b"".join(end.value.pieces)
                break
    assert text.count(b'"ph":"i"') == len(marks) + 1000
    assert check_trace(json.loads(text, parse_float=Decimal))
    assert sum(Counted.looks) >= 2 * len(marks)
    assert max(Counted.looks) <= 1.1 * tracing.MARKS_A_PART
