"""The command line of bin/bench: which works, through which proxies, how often; then the report.

Progress goes to standard error, the report to standard output. The rounds are interleaved: in a
round each work goes through all contenders before the next work begins, and every round begins
with another contender, so that what the machine does beside weighs on all alike. A contender that
cannot do a work, or fails at it, is named and the others go on.
"""

import argparse
import contextlib
import json
import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from types import FrameType
from typing import Final

from bench import report
from bench.chart import chart
from bench.contenders import CONTENDERS, NGINY, Contender
from bench.curve import curve
from bench.generator import c_generator, default_cache, python_generator
from bench.measure import Bench, MeasureError, Sample, take_sample
from bench.works import WORKS, Work

ROUNDS: Final = 5
SECONDS: Final = 1.0
QUICK_ROUNDS: Final = 1
QUICK_SECONDS: Final = 0.25

CONGESTION: Final = Path("/proc/sys/net/ipv4/tcp_congestion_control")

Say = Callable[[str], None]


def main(argv: Sequence[str] | None = None) -> int:
    """Run the benchmark. Return 0, or 1 if a contender failed, or 130 after Ctrl-C."""
    options = _parser().parse_args(argv)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, _exit_by_signal)
    try:
        with congestion_control(options.congestion):
            return _run(options)
    except OSError as error:
        _say(f"--congestion {options.congestion}: {error.strerror}: {error.filename}")
        return 1
    except KeyboardInterrupt:
        _say("interrupted; everything that was started has ended")
        return 130


def _run(options: argparse.Namespace) -> int:
    _raise_descriptor_limit()
    bench = _bench(options)
    rounds = options.rounds or (QUICK_ROUNDS if options.quick else ROUNDS)
    wanted = {*options.works, *(options.work or ())}
    works = [
        work
        for work in WORKS
        if (work.name in wanted if wanted else work.is_quick or not options.quick)
    ]
    contenders, missing = _present(options.contender)
    facts = report.machine(bench, rounds)
    versions = {c.name: f"{c.title}: {c.version()}" for c in contenders} | missing
    print(report.head(facts, versions), flush=True)
    samples, failures = run_rounds(bench, contenders, works, rounds, _say)
    for work in works:
        print("\n" + report.work_table(work, samples))
    print("\n" + report.bars(works, samples))
    for failure in failures:
        print(f"failed: {failure}")
    if options.json:
        everything = report.as_json(facts, versions, works, samples, failures)
        options.json.write_text(json.dumps(everything, indent=1, ensure_ascii=False) + "\n")
    caption = f"{facts['processor']}. {facts['run']}."
    if options.curve:
        options.curve.write_text(curve(works, samples, caption))
    if options.svg:
        options.svg.write_text(chart(works, samples, caption))
    return 1 if failures else 0


def run_rounds(
    bench: Bench, contenders: Sequence[Contender], works: Sequence[Work], rounds: int, say: Say
) -> tuple[list[Sample], list[str]]:
    """Take all samples, in turns. Return them, and a sentence for each that is missing."""
    samples: list[Sample] = []
    failures: dict[tuple[str, str], str] = {}
    for number in range(1, rounds + 1):
        for work in works:
            able = [c for c in contenders if c.is_udp_capable or not work.is_udp]
            able = [c for c in able if c.is_proxy or not work.tls]
            able = [c for c in able if c.has_checks or not work.check_interval_ms]
            able = [c for c in able if c.name == NGINY or not work.is_watched]
            shift = (number - 1) % len(able) if able else 0
            for contender in able[shift:] + able[:shift]:
                if (work.name, contender.name) in failures:
                    continue
                place = f"round {number}/{rounds} {work.name} {contender.name}"
                try:
                    sample = take_sample(bench, contender, work, number)
                except MeasureError as error:
                    failures[work.name, contender.name] = f"{work.name} {contender.name}: {error}"
                    say(f"{place}: {error}")
                else:
                    samples.append(sample)
                    say(f"{place}: {_glance(sample)}")
    return samples, list(failures.values())


def _glance(sample: Sample) -> str:
    rate = f"{sample.rate:,.0f}/s, " if sample.rate else ""
    watched = "" if sample.slowdown is None else f"watched {-sample.slowdown:+.1%}, "
    return f"{rate}{watched}core {sample.busy:.0%}, {sample.errors} errors"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="bench",
        description="Measure nginy beside nginx and HAProxy: CPU per operation, memory, errors.",
    )
    works, names = [work.name for work in WORKS], [c.name for c in CONTENDERS]
    about = "only these, of those that --work lists"
    parser.add_argument("works", nargs="*", metavar="WORK", type=_work_name, help=about)
    parser.add_argument("--quick", action="store_true", help="few works, one short round")
    parser.add_argument("--work", action="append", choices=works, help="only this one; may repeat")
    parser.add_argument("--contender", action="append", choices=names, help="only this; may repeat")
    parser.add_argument("--rounds", type=_positive_int, help=f"default {ROUNDS}, quick: 1")
    parser.add_argument(
        "--duration",
        type=_positive_float,
        metavar="SECONDS",
        help=f"measured time of a sample; default {SECONDS:g}, quick: {QUICK_SECONDS:g}",
    )
    parser.add_argument(
        "--congestion",
        metavar="NAME",
        help="TCP congestion control for the run, such as cubic or bbr; needs root",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="save all samples")
    parser.add_argument("--svg", type=Path, metavar="FILE", help="save a chart of the ratios")
    text = "save a chart of the cost over the number of backends"
    parser.add_argument("--curve", type=Path, metavar="FILE", help=text)
    return parser


@contextlib.contextmanager
def congestion_control(name: str | None, path: Path = CONGESTION) -> Iterator[None]:
    """Make new connections use `name`, and afterwards what they used before. Raises OSError.

    It is the whole system's: bulk transfers differ by up to two between bbr and cubic.
    """
    if name is None:
        yield
        return
    before = path.read_text()
    path.write_text(name)
    try:
        yield
    finally:
        path.write_text(before)


def _work_name(text: str) -> str:
    names = [work.name for work in WORKS]
    if text not in names:
        raise argparse.ArgumentTypeError(f"{text} is not one of {', '.join(names)}")
    return text


def _positive_int(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError(text)
    return number


def _positive_float(text: str) -> float:
    number = float(text)
    if not 0.05 <= number <= 60:
        raise argparse.ArgumentTypeError(f"{text}: from 0.05 to 60 seconds")
    return number


def _bench(options: argparse.Namespace) -> Bench:
    """Return the run's settings, and pin this process beside the load, away from the proxy."""
    cpus = sorted(os.sched_getaffinity(0))
    proxy_cpus, load_cpus = {cpus[0]}, {cpus[-1]}
    os.sched_setaffinity(0, load_cpus)
    generator = c_generator(default_cache()) or python_generator()
    seconds = options.duration or (QUICK_SECONDS if options.quick else SECONDS)
    return Bench(generator, proxy_cpus, load_cpus, seconds)


def _present(names: Sequence[str] | None) -> tuple[list[Contender], dict[str, str]]:
    """Return the contenders that can run, and for each other what it lacks."""
    chosen = [c for c in CONTENDERS if not names or c.name in names]
    missing = {c.name: f"not here: install {m}" for c in chosen if (m := c.missing()) is not None}
    return [c for c in chosen if c.name not in missing], missing


def _raise_descriptor_limit() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _exit_by_signal(number: int, _frame: FrameType | None) -> None:
    """Unwind, so that every `with` ends its processes."""
    sys.exit(128 + number)


def _say(text: str) -> None:
    print(f"bench: {text}", file=sys.stderr, flush=True)
