"""The pid file of bin/nginy: what may have left it there, and what that means for a start."""

import os
import pathlib
import subprocess

import pytest

from kit.program import ENVIRONMENT, PROGRAM, Nginy, free_port, own_host, run_once

WORKERS = pytest.mark.parametrize("workers", [1, 2])


def config(workers: int) -> str:
    host = own_host()
    listen = f"{host}:{free_port(host)}"
    return f"workers: {workers}\nlisteners: {{listen: '{listen}', return: hello}}\n"


@WORKERS
def test_a_second_nginy_with_the_same_pid_file_does_not_start(
    tmp_path: pathlib.Path, workers: int
) -> None:
    with Nginy(tmp_path, config(workers)) as nginy:
        second = tmp_path / "second.yml"
        second.write_text(f"pid: nginy.pid\n{config(workers)}")
        status, _, lines = run_once(str(second))
        assert status == 1
        assert lines[-1].endswith(
            f'[emerg] nginy is already running, PID {nginy.process.pid} of "{nginy.pid_path}"'
        )
        assert nginy.pid == nginy.process.pid
        nginy.stop()
        assert not nginy.pid_path.exists()


@WORKERS
def test_a_pid_file_that_a_killed_nginy_left_is_overwritten(
    tmp_path: pathlib.Path, workers: int
) -> None:
    text = config(workers)
    with Nginy(tmp_path, text) as nginy:
        left = nginy.pid
        nginy.process.kill()
        nginy.process.wait()
    assert nginy.pid_path.read_text() == f"{left}\n"
    nginy.pid_path.rename(tmp_path / "left.pid")
    text = config(workers).replace("workers:", "pid: left.pid\nworkers:", 1)
    path = tmp_path / "again.yml"
    path.write_text(text)
    said = said_until(path, "stale pid file")
    assert f"no nginy runs as PID {left}" in said


def test_a_pid_that_is_somebody_elses_now_is_stale(tmp_path: pathlib.Path) -> None:
    (tmp_path / "left.pid").write_text(f"{os.getppid()}\n")
    path = tmp_path / "nginy.yml"
    path.write_text(f"pid: left.pid\n{config(1)}")
    assert "stale pid file" in said_until(path, "stale pid file")


def said_until(path: pathlib.Path, text: str) -> str:
    """Start bin/nginy, and return the first line of its log that has `text`."""
    with subprocess.Popen(
        [*PROGRAM, str(path)], cwd="/", env=ENVIRONMENT, stderr=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stderr is not None
            return next(line for line in process.stderr if text in line)
        finally:
            process.terminate()
            process.wait()
