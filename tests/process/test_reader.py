"""Reading in a child: the same result as reading here, and the loop goes on meanwhile."""

import os
import pathlib
import pickle
import signal
import socket
from collections.abc import Iterator

import pytest
from nginy.config.dump import dump
from nginy.config.load import load
from nginy.config.schema import Config
from nginy.process.gradual import at_once
from nginy.process.reader import ConfigReader, ReadResult, pack, read, unpack
from nginy.process.report import difference

from kit.configs import LISTENER, write
from kit.harness import Harness

LONG_READ = 5000
"""Backends that take a child far longer to read than its parent needs to kill it."""
GREETED = "listeners: {listen: 127.0.0.1:80, return: '${GREETING}'}\n"


def children() -> set[str]:
    """The ids of this process's children, ended ones included that nobody has waited for."""
    return set(pathlib.Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


@pytest.fixture
def results() -> list[ReadResult]:
    return []


@pytest.fixture
def path(tmp_path: pathlib.Path) -> str:
    return write(tmp_path, LISTENER)


@pytest.fixture
def reader(harness: Harness, path: str, results: list[ReadResult]) -> Iterator[ConfigReader]:
    others = children()
    made = ConfigReader(harness.loop, path, {"GREETING": "hi"}, Config, results.append)
    yield made
    made.close()
    assert children() <= others  # every child was waited for


def test_a_child_reads_what_the_parent_would(
    harness: Harness, reader: ConfigReader, results: list[ReadResult], path: str
) -> None:
    reader.start()
    assert results == []
    harness.turn_until(lambda: results)
    config = load(path, {})
    assert results == [ReadResult(config, dump(config), difference(Config(), config))]


def test_a_result_comes_out_as_it_went_in(path: str, tmp_path: pathlib.Path) -> None:
    for text in (LISTENER, "nonsense: 1\n", f"event_method: poll\n{LISTENER}"):
        write(tmp_path, text)
        result = read(path, {}, Config())
        data = pack(result)
        assert at_once(unpack(data)) == result
        for length in range(len(data)):
            with pytest.raises((EOFError, pickle.UnpicklingError)):
                at_once(unpack(data[:length]))


def test_what_takes_a_restart_stays_as_it_runs(path: str, tmp_path: pathlib.Path) -> None:
    write(tmp_path, f"event_method: poll\nworkers: 3\n{LISTENER}")
    result = read(path, {}, Config())
    assert result.config is not None
    assert result.difference is not None
    assert (result.config.event_method, result.config.workers) == ("auto", 1)
    assert result.difference.needs_restart == ("event_method", "workers")
    assert "poll" not in result.text


def test_the_environment_fills_in_values(
    harness: Harness, reader: ConfigReader, results: list[ReadResult], tmp_path: pathlib.Path
) -> None:
    write(tmp_path, GREETED)
    reader.start()
    harness.turn_until(lambda: results)
    (result,) = results
    assert result.config is not None
    assert result.config.listeners[0].return_ == "hi"


def test_problems_come_back_with_their_places(
    harness: Harness, reader: ConfigReader, results: list[ReadResult], tmp_path: pathlib.Path
) -> None:
    path = write(tmp_path, "listeners: []\nfoo: 1\n")
    reader.start()
    harness.turn_until(lambda: results)
    (result,) = results
    assert result.config is None
    assert [(each.file, each.line) for each in result.problems] == [(path, 1), (path, 2)]


def test_a_file_that_changes_while_it_is_read_is_read_again(
    harness: Harness, reader: ConfigReader, results: list[ReadResult], tmp_path: pathlib.Path
) -> None:
    reader.start()
    write(tmp_path, GREETED)
    reader.start()
    harness.turn_until(lambda: results)
    harness.settle()
    (result,) = results
    assert result.config is not None
    assert result.config.listeners[0].return_ == "hi"


def test_it_can_be_started_again_and_again(
    harness: Harness, reader: ConfigReader, results: list[ReadResult]
) -> None:
    descriptors = len(os.listdir("/proc/self/fd"))
    for count in range(1, 4):
        reader.start()
        harness.turn_until(lambda: len(results) == count)  # noqa: B023 - called before the next
    assert len(os.listdir("/proc/self/fd")) == descriptors


def test_where_the_child_dies_the_parent_reads(
    harness: Harness, reader: ConfigReader, results: list[ReadResult], path: str
) -> None:
    backends = "\n".join(f"  - 10.0.{n >> 8}.{n & 255}:80" for n in range(LONG_READ))
    write(pathlib.Path(path).parent, f"upstreams:\n u:\n  backends:\n{backends}\n{LISTENER}")
    children = set(children_of_this_process())
    reader.start()
    (child,) = set(children_of_this_process()) - children
    os.kill(child, signal.SIGKILL)
    write(pathlib.Path(path).parent, LISTENER)
    harness.turn_until(lambda: results)
    assert results == [read(path, {}, Config())]


def test_closing_forgets_what_is_being_read(
    harness: Harness, reader: ConfigReader, results: list[ReadResult]
) -> None:
    reader.start()
    reader.close()
    harness.settle()
    assert results == []


def test_a_connection_closed_meanwhile_ends_for_its_peer_at_once(
    harness: Harness, reader: ConfigReader, results: list[ReadResult]
) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        theirs.setblocking(False)
        reader.start()
        ours.close()
        harness.turn_until(lambda: results)
        assert theirs.recv(1) == b""


def children_of_this_process() -> list[int]:
    """The process ids of children, ended ones included (proc(5))."""
    pid = os.getpid()
    text = pathlib.Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(each) for each in text.split()]
