import dataclasses
import json
import os
import signal
import socket
import subprocess
import sys
import time
import xml.etree.ElementTree as ET
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench import processes, report
from bench.bars import LIMITS, NEAR_BARS, OWN_BARS, RATIO_BARS
from bench.chart import chart
from bench.contenders import CHECKOUT, CONTENDERS, Contender, HAProxy, Nginx, Setup, is_optimized
from bench.curve import curve, points
from bench.generator import Generator, GeneratorError, c_generator, parse, python_generator
from bench.main import congestion_control, run_rounds
from bench.measure import Bench, MeasureError, Sample, take_sample
from bench.processes import ProcessGroup
from bench.summary import ratios, rows, spread, verdicts
from bench.works import WORKS, Work
from kit.waiting import comes_true

pytestmark = pytest.mark.slow  # no part of nginy, and many of them start programs

SECONDS = 0.05
BY_NAME = {work.name: work for work in WORKS}
DIRECT = next(c for c in CONTENDERS if c.name == "direct")
NGINY = next(c for c in CONTENDERS if c.name == "nginy")
SMALL = [
    dataclasses.replace(work, connections=min(work.connections, 100))
    for work in WORKS
    if work.load
    in (
        "connect",
        "announced",
        "named",
        "pingpong",
        "up",
        "down",
        "both",
        "idle",
        "udp",
        "churn",
        "flood",
    )
    and work.workers == work.backends == 1
    and not work.is_watched
]


@pytest.fixture(scope="session")
def compiled(tmp_path_factory: pytest.TempPathFactory) -> Generator | None:
    return c_generator(tmp_path_factory.mktemp("cache"))


@pytest.fixture(params=["c", "python"])
def generator(request: pytest.FixtureRequest, compiled: Generator | None) -> Generator:
    if request.param == "python":
        return python_generator()
    return compiled or pytest.skip("no C compiler here")


@pytest.fixture
def bench(generator: Generator) -> Bench:
    cpus = sorted(os.sched_getaffinity(0))
    return Bench(generator, {cpus[0]}, {cpus[-1]}, SECONDS)


@pytest.fixture
def sleeper(tmp_path: Path) -> Iterator[ProcessGroup]:
    """A program that starts another and waits, as a master and its worker."""
    code = (
        "import subprocess, sys, time;"
        "subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)']); time.sleep(60)"
    )
    cpus = os.sched_getaffinity(0)
    with ProcessGroup([sys.executable, "-c", code], cpus, tmp_path / "log") as group:
        assert comes_true(lambda: len(group.pids()) == 2, 10)
        yield group


def sample(contender: str, round_number: int, cost: float, **more: object) -> Sample:
    values: dict[str, object] = {"work": "connect-close", "rate": 1.0, "busy": 1.0, "errors": 0}
    return Sample(contender=contender, round=round_number, cost=cost, **(values | more))  # type: ignore[arg-type]


def check_sample(
    contender: Contender, work: Work, generator: Generator, is_whole: Callable[[Sample], bool]
) -> Sample:
    """Take a short sample without errors, and a longer one if that was over too soon, as may be
    beside other work."""
    cpus = sorted(os.sched_getaffinity(0))
    for seconds in (SECONDS, 20 * SECONDS):
        got = take_sample(Bench(generator, {cpus[0]}, {cpus[-1]}, seconds), contender, work, 1)
        assert got.errors == 0, got
        if is_whole(got):
            return got
    pytest.fail(str(got))


# -- the generators --


@pytest.mark.parametrize("work", SMALL, ids=lambda work: work.name)
def test_both_generators_do_every_work_without_a_proxy_and_without_errors(
    generator: Generator, work: Work
) -> None:
    got = check_sample(DIRECT, work, generator, lambda got: got.rate > 0 or work.load == "idle")
    assert got.p50_us <= got.p99_us <= got.max_us * 1.04  # buckets of 3 %


def test_a_nginy_with_silent_sessions_is_watched_beside_one_that_is_not(bench: Bench) -> None:
    work = dataclasses.replace(BY_NAME["admin-sessions"], sessions=60, connections=8)
    got = take_sample(bench, NGINY, work, 1)
    assert (got.errors, got.rate > 0) == (0, True)
    assert None not in (got.slowdown, got.p99_added_ms)
    assert min(got.scrape_s or 0, got.probe_ms or 0) > 0


def test_refused_connections_are_errors_and_the_run_is_given_up(generator: Generator) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with socket.create_server(("127.0.0.1", 0)) as backend:
        backend.setblocking(False)
        done = subprocess.run(
            [*generator.argv, "connect", str(port), str(backend.fileno()), "4", "10", "10"],
            pass_fds=(backend.fileno(),),
            stdout=subprocess.PIPE,
            check=True,
            timeout=50,
        )
    load = parse(done.stdout.decode())
    assert load.operations == 0
    assert load.errors >= 100


def test_a_changed_answer_is_an_error(generator: Generator) -> None:
    with (
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as liar,
        socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as backend,
    ):
        for sock in (liar, backend):
            sock.bind(("127.0.0.1", 0))
        liar.settimeout(10)
        backend.setblocking(False)
        argv = [*generator.argv, "udp", str(liar.getsockname()[1]), str(backend.fileno())]
        with subprocess.Popen(
            [*argv, "1", "10", "10"], pass_fds=(backend.fileno(),), stdout=subprocess.PIPE
        ) as process:
            for change in (b"\1", b""):  # the first answer is wrong, then all are right
                data, sender = liar.recvfrom(200)
                liar.sendto(data[:-1] + (change or data[-1:]), sender)
            while process.poll() is None:
                liar.settimeout(0.05)
                try:
                    liar.sendto(*liar.recvfrom(200))
                except TimeoutError:
                    continue
            assert process.stdout is not None
            load = parse(process.stdout.read().decode())
    assert load.errors == 1
    assert load.operations > 0


def test_the_compiled_generator_is_kept(tmp_path: Path) -> None:
    first = c_generator(tmp_path)
    if first is None:
        pytest.skip("no C compiler here")
    made = Path(first.argv[0]).stat().st_mtime_ns
    assert c_generator(tmp_path) == first
    assert Path(first.argv[0]).stat().st_mtime_ns == made
    assert len(list(tmp_path.iterdir())) == 1


@pytest.mark.parametrize("line", ["", "usage: load", "[1]", '{"operations": 1}'])
def test_an_answer_that_is_no_result_is_refused_with_its_text(line: str) -> None:
    with pytest.raises(GeneratorError, match="no result"):
        parse(line)


# -- processes --


def test_ending_a_group_ends_what_it_forked(sleeper: ProcessGroup) -> None:
    pids = sleeper.pids()
    sleeper.end()
    assert sleeper.pids() == []
    assert not any(Path(f"/proc/{pid}").exists() for pid in pids)  # not even as zombies


def test_memory_cpu_and_wakeups_of_a_group_are_known(sleeper: ProcessGroup) -> None:
    pids = sleeper.pids()
    assert 1_000_000 < processes.resident_bytes(pids) < 100_000_000
    assert processes.cpu_ns(pids) > 1_000_000
    assert processes.wakeups(pids) >= 1


def test_a_child_stays_on_its_cores(tmp_path: Path) -> None:
    last = max(os.sched_getaffinity(0))
    log = tmp_path / "log"
    code = "import os; print(os.sched_getaffinity(0))"
    with ProcessGroup([sys.executable, "-c", code], {last}, log) as group:
        group.process.wait(10)
    assert log.read_text() == f"{{{last}}}\n"


def test_a_port_that_is_served_is_seen() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        assert processes.is_serving_tcp(port)
    assert not processes.is_serving_tcp(port)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        port = server.getsockname()[1]
        assert processes.is_serving_udp(port)
    assert not processes.is_serving_udp(port)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_survives_the_end_of_the_benchmark(number: signal.Signals, tmp_path: Path) -> None:
    names = ["direct", *(c.name for c in CONTENDERS if c.name == "nginx" and not c.missing())]
    argv = [sys.executable, str(CHECKOUT / "bin" / "bench"), "--work", "ping-pong-64"]
    argv += ["--duration", "20", *(f"--contender={name}" for name in names)]
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "TMPDIR": str(tmp_path)}
    with subprocess.Popen(
        argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        started: set[int] = set()

        def has_started() -> bool:
            started.update(_descendants(process.pid))
            # Not "ping": before its exec, a compiler has the command line of the benchmark.
            return any(b"pingpong" in _command_line(pid) for pid in started)

        assert comes_true(has_started, 15)
        process.send_signal(number)
        output, errors = process.communicate(timeout=50)
    assert (
        process.returncode == {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -9}[number]
    )
    assert b"Traceback" not in errors + output
    assert comes_true(lambda: not any(map(_is_running, started)), 15)


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


def _descendants(pid: int) -> list[int]:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return []
    found = [int(child) for child in children]
    return found + [grand for child in found for grand in _descendants(child)]


# -- contenders and rounds --


@pytest.mark.slow
@pytest.mark.parametrize("contender", CONTENDERS, ids=lambda contender: contender.name)
def test_every_contender_that_is_here_does_tcp_and_udp_without_errors(
    contender: Contender, compiled: Generator | None
) -> None:
    if contender.missing() is not None:
        pytest.skip(f"not here: {contender.missing()}")
    for name in ("connect-close", "udp", "access-log"):
        work = dataclasses.replace(BY_NAME[name], connections=4)
        if work.is_udp and not contender.is_udp_capable:
            continue
        has_log = name == "access-log" and contender.is_proxy

        def is_whole(got: Sample, has_log: bool = has_log) -> bool:
            costs = (got.cost > 0, got.log_cost is not None)
            return got.rate > 0 and costs == (contender.is_proxy, has_log)

        check_sample(contender, work, compiled or python_generator(), is_whole)


@pytest.mark.slow
def test_the_checks_of_backends_are_counted_and_a_client_is_served_beside_them(
    compiled: Generator | None,
) -> None:
    cpus = sorted(os.sched_getaffinity(0))
    bench = Bench(compiled or python_generator(), {cpus[0]}, {cpus[-1]}, SECONDS)
    work = dataclasses.replace(BY_NAME["checks"], backends=20, check_interval_ms=100)
    got = take_sample(bench, NGINY, work, 1)
    assert got.errors == 0
    assert got.rate > 0
    assert got.cost > 0
    assert got.p99_us > 0


def test_who_makes_no_checks_is_left_out_of_their_work() -> None:
    bench = Bench(python_generator(), os.sched_getaffinity(0), os.sched_getaffinity(0), 0.05)
    assert run_rounds(bench, [DIRECT], [BY_NAME["checks"]], 1, lambda _: None) == ([], [])


class Broken(Nginx):
    """A contender whose program ends at once."""

    def missing(self, path: str = "") -> str | None:
        return None

    def command(self, setup: Setup):
        command = HAProxy("x", "x", is_tuned=False).command(setup)
        code = "import sys; sys.exit('no such directive')"
        return dataclasses.replace(command, argv=[sys.executable, "-c", code])


def test_a_contender_that_fails_is_named_once_and_the_others_go_on() -> None:
    broken = Broken("broken", "ends at once", is_tuned=False)
    bench = Bench(python_generator(), os.sched_getaffinity(0), os.sched_getaffinity(0), 0.05)
    said: list[str] = []
    work = dataclasses.replace(BY_NAME["ping-pong-64"], connections=2)
    samples, failures = run_rounds(bench, [broken, DIRECT], [work], 2, said.append)
    assert [(s.contender, s.round) for s in samples] == [("direct", 1), ("direct", 2)]
    assert failures == ["ping-pong-64 broken: did not start: no such directive"]
    assert len(said) == 3


def test_rounds_begin_with_another_contender_each() -> None:
    class Other(type(DIRECT)):  # type: ignore[misc]
        pass

    other = Other("other", "also no proxy")
    bench = Bench(python_generator(), os.sched_getaffinity(0), os.sched_getaffinity(0), 0.05)
    work = dataclasses.replace(BY_NAME["ping-pong-64"], connections=2)
    samples, _ = run_rounds(bench, [DIRECT, other], [work], 2, lambda _: None)
    assert [s.contender for s in samples] == ["direct", "other", "other", "direct"]


def test_missing_contenders_name_the_package() -> None:
    named = {c.name: c.missing("/nonexistent") for c in CONTENDERS}
    assert named["nginx"] == "Debian packages nginx and libnginx-mod-stream"
    assert named["haproxy-tuned"] == "Debian package haproxy"
    assert named["direct"] is None


# -- ratios, bars, report --


def test_ratios_are_made_within_a_round() -> None:
    samples = [
        sample("nginy", 1, 10.0),
        sample("nginx", 1, 20.0),
        sample("nginy", 2, 100.0),
        sample("nginx", 2, 100.0),
        sample("nginx", 3, 1.0),  # without nginy in its round
    ]
    assert ratios(samples, "nginx") == [2.0, 1.0]


def test_a_cost_of_nothing_makes_no_ratio() -> None:
    assert ratios([sample("nginy", 1, 0.0), sample("nginx", 1, 5.0)], "nginx") == []


def test_a_spread_is_median_least_and_most() -> None:
    found = spread([3.0, 1.0, 2.0])
    assert found is not None
    assert (found.median, found.least, found.most) == (2.0, 1.0, 3.0)
    assert spread([]) is None


@pytest.mark.parametrize(
    ("cost", "errors", "expected"),
    [(0.77, 0, [True]), (0.76, 0, [False]), (2.0, 1, [False, False])],
)
def test_a_bar_is_met_from_its_value_on_and_never_with_errors(
    cost: float, errors: int, expected: list[bool]
) -> None:
    samples = [sample("nginy", 1, 1.0, errors=errors), sample("nginx", 1, cost)]
    found = verdicts(BY_NAME["connect-close"], samples)
    assert [verdict.is_met for verdict in found] == expected


@pytest.mark.parametrize(("errors", "is_met"), [(0, True), (1, False)])
def test_one_failed_connection_in_any_round_misses_the_bar_of_the_reload(
    errors: int, is_met: bool
) -> None:
    samples = [sample("nginy", n, 1.0, work="reload", errors=errors * (n == 2)) for n in (1, 2, 3)]
    assert [v.is_met for v in verdicts(BY_NAME["reload"], samples)] == [is_met]


def test_a_work_is_held_against_another_of_its_own_in_the_same_round() -> None:
    samples = [
        sample("nginy", 1, 80.0),
        sample("nginy", 1, 100.0, work="backends-1000"),
        sample("nginy", 2, 90.0),
        sample("nginy", 2, 100.0, work="backends-1000"),
        sample("nginy", 3, 1.0),
    ]
    (found,) = verdicts(BY_NAME["backends-1000"], samples)
    assert (found.text, found.measured) == ("≥ 0.88 to its own connect-close", pytest.approx(0.85))
    assert not found.is_met


@pytest.mark.parametrize(("cost", "is_met"), [(79.0, True), (74.0, False)])
def test_a_ratio_may_lie_a_little_below_the_one_of_another_work(cost: float, is_met: bool) -> None:
    samples = [
        sample("nginy", 1, 100.0),
        sample("nginx", 1, 80.0),
        sample("nginy", 1, 100.0, work="proxy-protocol"),
        sample("nginx", 1, cost, work="proxy-protocol"),
    ]
    (found,) = verdicts(BY_NAME["proxy-protocol"], samples)
    assert (found.text, found.is_met) == ("≥ 0.75 to nginx, 0.05 below connect-close", is_met)
    assert verdicts(BY_NAME["proxy-protocol"], samples[2:]) == []


def test_two_workers_are_held_against_one() -> None:
    samples = [sample("nginy", 1, 50.0, work="two-workers", worker_cost=1.11)]
    (found,) = verdicts(BY_NAME["two-workers"], samples)
    assert (found.measured, found.is_met) == (1.11, False)


@pytest.mark.parametrize(
    ("prefix", "arguments", "is_fast"),
    [
        ("/usr", None, True),
        ("/opt/python", "'--enable-shared' '--enable-optimizations'", True),
        ("/opt/python", "'--enable-shared'", False),
    ],
)
def test_a_python_without_optimizations_is_known(
    prefix: str, arguments: str | None, is_fast: bool
) -> None:
    assert is_optimized(prefix, arguments) is is_fast


def test_congestion_control_is_as_before_afterwards(tmp_path: Path) -> None:
    path = tmp_path / "tcp_congestion_control"
    path.write_text("bbr\n")
    with congestion_control("cubic", path):
        assert path.read_text() == "cubic"
    with congestion_control(None, path):
        assert path.read_text() == "bbr\n"


def test_every_bar_is_of_a_work_and_a_contender_that_exist() -> None:
    names = {contender.name for contender in CONTENDERS}
    assert set(RATIO_BARS) | set(LIMITS) | set(OWN_BARS) <= set(BY_NAME)
    assert {other for other, _ in OWN_BARS.values()} <= set(BY_NAME)
    assert {*NEAR_BARS, *(other for other, _ in NEAR_BARS.values())} <= set(BY_NAME)
    assert all(set(peers) <= names for peers in RATIO_BARS.values())
    fields = {field.name for field in dataclasses.fields(Sample)}
    assert {limit.field for limits in LIMITS.values() for limit in limits} <= fields


def test_the_table_shows_cost_ratio_bar_and_errors() -> None:
    work = BY_NAME["connect-close"]
    samples = [sample("nginy", 1, 50_000.0), sample("nginx", 1, 60_000.0, errors=3)]
    lines = report.work_table(work, samples).splitlines()
    assert lines[0] == "connect-close: connect, 64 B each way, close"
    assert lines[2].split() == ["nginy", "1", "50.00", "100%", "0"]
    nginx = "nginx 1 60.00 100% 1.20 (1.20-1.20) ≥ 0.77, aim 0.90 met 3"
    assert lines[3].split() == nginx.split()


def test_what_watching_costs_stands_beside_the_work_and_is_judged() -> None:
    seen = {"slowdown": 0.02, "p99_added_ms": 0.5, "scrape_s": 0.3, "probe_ms": 4.0}
    work = next(work for work in WORKS if work.is_watched)
    found = [sample("nginy", 1, 9.0, work=work.name, **seen)]
    text = "watched: rate -2.0%, p99 +0.50 ms; at most: scrape 0.30 s, /healthz 4.0 ms"
    assert text in report.work_table(work, found)
    assert [(v.measured, v.is_met) for v in verdicts(work, found)] == [
        (0.02, False),
        (0.5, True),
        (0.3, True),
        (4.0, True),
        (0, True),
    ]


def test_the_chart_is_well_formed_and_has_a_dot_for_each_ratio() -> None:
    work = BY_NAME["connect-close"]
    samples = [sample("nginy", 1, 1.0), sample("nginx", 1, 1.5), sample("haproxy", 1, 40.0)]
    root = ET.fromstring(chart([work], samples, "a < b & c"))
    width = float(root.attrib["width"])
    dots = [e for e in root.iter() if e.tag.endswith("circle")]
    assert len(dots) == len(rows(work, samples)) - 1
    assert all(0 < float(dot.attrib["cx"]) < width for dot in dots)
    texts = "".join(root.itertext())
    assert "a < b & c" in texts
    assert "nginx" in texts


def test_the_curve_has_a_line_for_each_contender_and_a_dot_for_each_number_of_backends() -> None:
    names = ["connect-close", "backends-10", "backends-1000", "least-conn-1000", "udp"]
    works = [BY_NAME[name] for name in names]
    samples = [
        sample(contender, number, cost * work.backends * 1e4, work=work.name)
        for contender, cost in (("nginy", 1.0), ("nginx", 0.9), ("haproxy", 0.9))
        for work in works
        for number in (1, 2)
    ]
    found = points(works, samples)
    assert [point.backends for point in found["nginy"]] == [1, 10, 1000]
    assert found["nginy"][2].cost_us.median == pytest.approx(10_000)
    root = ET.fromstring(curve(works, samples, "a < b"))
    tags = Counter(element.tag.rpartition("}")[2] for element in root.iter())
    assert (tags["path"], tags["circle"]) == (3, 9)
    names_y = [
        float(e.attrib["y"]) for e in root.iter() if (e.text or "")[-5:] in ("10000", " 9000")
    ]
    assert len(set(names_y)) == 3  # none upon another
    assert ET.fromstring(curve([], [], "")) is not None


@pytest.mark.slow
def test_the_command_prints_a_table_and_saves_json_and_svg(tmp_path: Path) -> None:
    saved, drawn = tmp_path / "out.json", tmp_path / "out.svg"
    argv = [sys.executable, str(CHECKOUT / "bin" / "bench"), "--contender", "direct"]
    argv += ["--work", "ping-pong-64", "--work", "udp", "--rounds", "2", "--duration", "0.05"]
    done = subprocess.run(
        [*argv, "--json", str(saved), "--svg", str(drawn)],
        env={**os.environ, "XDG_CACHE_HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "ping-pong-64: 64 B to and fro" in done.stdout
    assert "bench: round 2/2 udp direct" in done.stderr
    everything = json.loads(saved.read_text())
    assert len(everything["samples"]) == 4
    assert everything["machine"]["run"].startswith("2 rounds")
    ET.parse(drawn)


def test_a_generator_that_breaks_is_one_sentence() -> None:
    broken = Generator((sys.executable, "-c", "print('oops')"), "broken")
    bench = Bench(broken, os.sched_getaffinity(0), os.sched_getaffinity(0), SECONDS)
    started = time.monotonic()
    with pytest.raises(MeasureError, match="oops"):
        take_sample(bench, DIRECT, BY_NAME["idle-1000"], 1)
    assert time.monotonic() - started < 10


def test_tuned_nginx_has_smaller_buffers_over_tls(tmp_path: Path) -> None:
    nginx = next(each for each in CONTENDERS if each.name == "nginx-tuned")
    for name, size in (("bulk-up", "1m"), ("tls-up", "64k")):
        command = nginx.command(Setup(BY_NAME[name], tmp_path, 1, 2))
        text = Path(command.argv[-1]).read_text()
        assert f"proxy_buffer_size {size};" in text
    assert RATIO_BARS["tls-up"]["nginx-tuned"].least == 0.92


@pytest.mark.parametrize("name", [work.name for work in WORKS if work.tls])
def test_works_over_tls_go_through_nginy_without_an_error(name: str) -> None:
    work = dataclasses.replace(BY_NAME[name], connections=4)
    is_idle = work.load == "tls-idle"  # four weigh less than what varies
    check_sample(NGINY, work, python_generator(), lambda got: got.cost > 0 or is_idle)
