"""`nginy -s reload` waits, and prints the outcome; `nginy plan` knows what still waits."""

import os
import pathlib
import re
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Iterator

import pytest
from nginy.commands.plan import ChangeLine
from nginy.errors import NginyError
from nginy.process.ask import reload, service_environ
from nginy.process.pidfile import PidFile, outcome_path
from nginy.process.report import ReloadOutcome, monotonic_ms, outcome_of

from kit.program import PATIENCE_S, Nginy, free_port, own_host, run_once

WORKERS = pytest.mark.parametrize("workers", [1, 2])


@pytest.fixture
def here() -> str:
    host = own_host()
    return f"{host}:{free_port(host)}"


def config(workers: int, here: str, text: str, more: str = "") -> str:
    return f"workers: {workers}\n{more}listeners: {{listen: '{here}', return: {text}}}\n"


@WORKERS
def test_a_reload_prints_its_changes_when_they_are_made(
    tmp_path: pathlib.Path, here: str, workers: int
) -> None:
    with Nginy(tmp_path, config(workers, here, "old")) as nginy:
        nginy.write(config(workers, here, "new"))
        status, out, errors = run_once("-s", "reload", str(nginy.path))
        assert (status, errors) == (0, [])
        assert out == f"~ listener {here} changed: return old -> new\n"
        host, port = here.split(":")
        with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as client:
            assert client.recv(100) == b"new"
        assert run_once("-s", "reload", str(nginy.path)) == (0, "nothing changes\n", [])
        mode = os.stat(outcome_path(str(nginy.pid_path))).st_mode
        assert stat.S_IMODE(mode) == 0o600
        nginy.stop()
        assert sorted(os.listdir(tmp_path)) == ["access.log", "nginy.yml"]


@WORKERS
def test_a_reload_that_is_refused_prints_why_and_fails(
    tmp_path: pathlib.Path, here: str, workers: int
) -> None:
    with (
        Nginy(tmp_path, config(workers, here, "old")) as nginy,
        socket.create_server((own_host(), 0)) as taken,
    ):
        address = "{}:{}".format(*taken.getsockname())
        nginy.write(
            f"workers: {workers}\nlisteners: {{listen: ['{here}', '{address}'], return: x}}"
        )
        status, out, errors = run_once("-s", "reload", str(nginy.path))
        assert (status, out) == (1, "")
        assert len(errors) == 2
        assert errors[0].startswith(f"nginy: [emerg] bind() to {address} failed (98:")
        assert errors[1] == "nginy: the running configuration has not changed"


@WORKERS
def test_what_takes_a_restart_is_said_until_there_is_one(
    tmp_path: pathlib.Path, here: str, workers: int
) -> None:
    with Nginy(tmp_path, config(workers, here, "hi")) as nginy:
        nginy.write(config(workers, here, "hi", "event_method: poll\n"))
        change = "~ event_method changed: auto -> poll (needs a restart)\n"
        warning = "nginy: [warn] needs a restart: event_method"
        for _ in range(2):
            assert run_once("-s", "reload", str(nginy.path)) == (0, change, [warning])
        _, out, _ = run_once("plan", str(nginy.path))
        assert change in out
        nginy.write(config(workers, here, "hi"))
        assert run_once("-s", "reload", str(nginy.path)) == (0, "nothing changes\n", [])


def test_a_file_that_is_wrong_is_not_even_asked_about(tmp_path: pathlib.Path, here: str) -> None:
    with Nginy(tmp_path, config(1, here, "hi")) as nginy:
        nginy.write("nonsense: on\nlisteners: none\n")
        status, out, errors = run_once("-s", "reload", str(nginy.path))
        assert (status, out, len(errors)) == (1, "", 2)


def test_a_service_says_itself_what_is_wrong_with_its_file(
    tmp_path: pathlib.Path, here: str
) -> None:
    """The service manager must hear of it, too."""
    prefix = ("env", f"RUNTIME_DIRECTORY={tmp_path}")
    with Nginy(tmp_path, config(1, here, "hi")) as nginy:
        nginy.write("nonsense: on\nlisteners: none\n")
        status, out, errors = run_once("-s", "reload", str(nginy.path), prefix=prefix)
        assert (status, out, len(errors)) == (1, "", 3)
        assert "unknown key" in errors[0]
        assert errors[-1].endswith("configuration has not changed")
        assert len(nginy.said("configuration not changed")) == 1


def test_who_is_no_service_finds_that_which_runs_the_file(
    tmp_path: pathlib.Path, here: str
) -> None:
    directory = str(tmp_path)
    with Nginy(tmp_path, config(1, here, "hi")) as nginy:
        found = service_environ({"A": "1"}, str(nginy.path), directory)
        assert found == {"A": "1", "RUNTIME_DIRECTORY": directory}
        (tmp_path / "link.yml").symlink_to(nginy.path)
        assert "RUNTIME_DIRECTORY" in service_environ({}, f"{directory}/link.yml", directory)
        assert service_environ({}, f"{directory}/other.yml", directory) == {}
        own = {"RUNTIME_DIRECTORY": "/run/other"}
        assert service_environ(own, str(nginy.path), directory) == own
        nginy.stop()
    assert service_environ({}, str(nginy.path), directory) == {}


# Reopening.


@WORKERS
def test_reopening_waits_until_all_have_opened_their_logs(
    tmp_path: pathlib.Path, here: str, workers: int
) -> None:
    log, old = tmp_path / "a.log", tmp_path / "a.log.1"
    with Nginy(tmp_path, config(workers, here, "hi", f"access_log: {log}\n")) as nginy:
        host, port = here.split(":")
        log.rename(old)
        assert run_once("-s", "reopen", str(nginy.path)) == (0, "", [])
        with socket.create_connection((host, int(port)), timeout=PATIENCE_S) as client:
            assert client.recv(100) == b"hi"
            assert client.recv(100) == b""
        nginy.stop()
    assert (log.read_text().count("\n"), old.read_text()) == (1, "")


@WORKERS
def test_reopening_fails_and_says_which_log_could_not_be_opened(
    tmp_path: pathlib.Path, here: str, workers: int
) -> None:
    log = tmp_path / "a.log"
    with Nginy(tmp_path, config(workers, here, "hi", f"access_log: {log}\n")) as nginy:
        log.unlink()
        log.mkdir()
        status, out, errors = run_once("-s", "reopen", str(nginy.path))
        assert (status, out) == (1, "")
        text = "(21: Is a directory) while reopening logs, the old file stays in use"
        assert errors == [f'nginy: [error] open() "{log}" failed {text}']
        log.rmdir()
        assert run_once("-s", "reopen", str(nginy.path)) == (0, "", [])
        nginy.said(re.escape(text))


def test_a_worker_that_does_not_open_its_logs_is_named(tmp_path: pathlib.Path, here: str) -> None:
    with Nginy(tmp_path, config(2, here, "hi")) as nginy:
        (line,) = nginy.said(r"worker 1, process \d+ started")
        pid = int(line.rpartition("process ")[2].split()[0])
        os.kill(pid, signal.SIGSTOP)
        status, _, errors = run_once("-s", "reopen", str(nginy.path))
        os.kill(pid, signal.SIGCONT)
        assert (status, errors) == (1, [f"nginy: [error] worker 1, process {pid} does not answer"])


# Without a nginy.


def test_an_outcome_survives_its_json() -> None:
    made = ReloadOutcome(
        1, 2, ("p",), ("w", "ü"), (ChangeLine("~", "c", "c changed"),), ("workers",)
    )
    assert outcome_of(made.to_json()) == made
    assert outcome_of(made.to_json()[:-1]) is None
    assert outcome_of("") is None
    assert outcome_of("[1]") is None


@pytest.mark.parametrize(
    ("outcome", "summary"),
    [
        (ReloadOutcome(0, 0), "reloaded"),
        (
            ReloadOutcome(0, 0, needs_restart=("user", "workers")),
            "reloaded; needs a restart: user, workers",
        ),
        (ReloadOutcome(0, 0, problems=("one",)), "reload refused: one"),
        (ReloadOutcome(0, 0, problems=("one", "two", "three")), "reload refused: one (and 2 more)"),
    ],
)
def test_the_summary_is_one_sentence(outcome: ReloadOutcome, summary: str) -> None:
    assert outcome.summary == summary


def answering(directory: pathlib.Path, began_ms: int) -> str:
    """A pid file of this process, which ignores HUP, with the outcome of a reload."""
    path = str(directory / "nginy.pid")
    PidFile(path, "").note_outcome(ReloadOutcome(began_ms, 0).to_json())
    return path


@pytest.fixture
def ignoring_hup() -> Iterator[None]:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.usefixtures("ignoring_hup")
def test_the_outcome_of_an_earlier_reload_is_no_answer(tmp_path: pathlib.Path) -> None:
    path = answering(tmp_path, monotonic_ms() - 1)
    with pytest.raises(NginyError, match="no answer from PID"):
        reload(path, answer_ms=50)


@pytest.mark.usefixtures("ignoring_hup")
def test_a_process_that_removes_its_pid_file_is_about_to_end(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "nginy.pid"
    path.write_text(f"{os.getpid()}\n")
    with pytest.raises(NginyError, match="no answer from PID"):
        reload(str(path), answer_ms=50)
    signal.signal(signal.SIGHUP, lambda *_: path.unlink())
    with pytest.raises(NginyError, match="is about to end and will not reload"):
        reload(str(path))


@pytest.mark.usefixtures("ignoring_hup")
def test_the_outcome_of_a_reload_that_began_after_the_question_is_the_answer(
    tmp_path: pathlib.Path,
) -> None:
    began_ms = monotonic_ms() + 1000
    assert reload(answering(tmp_path, began_ms)).began_ms == began_ms


def test_a_process_that_ends_gives_no_answer(tmp_path: pathlib.Path) -> None:
    path = answering(tmp_path, 0)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        pathlib.Path(path).write_text(f"{process.pid}\n")
        process.communicate()
    with pytest.raises(NginyError, match=r"kill\(.*failed \(3: No such process\)"):
        reload(path)
