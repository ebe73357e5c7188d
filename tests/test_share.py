"""A run that is shared among processes reports what one process would."""

import os
import pathlib
import re
import signal
import subprocess
import sys

import pytest

from kit.program import wait_until

TESTS = pathlib.Path(__file__).parent
FIRST = """
import os, sys, time, warnings
import pytest

@pytest.fixture(scope="module")
def shared():
    yield os.getpid()
    assert True

def test_output():
    print("seen by the reader")
    os.write(1, b"written to the descriptor\\n")
    assert 1 == 2
def test_same_process(shared): assert shared == os.getpid()
@pytest.mark.parametrize("n", range(3))
def test_numbers(n, tmp_path): assert not list(tmp_path.iterdir())
def test_skipped(): pytest.skip("a reason")
@pytest.mark.xfail(reason="known")
def test_known(): assert False
def test_warns(): warnings.warn("a sentence of warning")
"""
SECOND = """
import pytest
@pytest.fixture
def broken(): raise ValueError("no fixture")
def test_setup(broken): pass
def test_fine(): pass
"""
DEATH = """
import os, signal
def test_before(): pass
def test_death(): os.kill(os.getpid(), signal.SIGKILL)
def test_after(): pass
"""
LONG = """
import contextlib, pathlib, time
import pytest
@pytest.fixture
def used():
    yield
    pathlib.Path("ended").touch()
    pytest.fail("nobody is told")
@contextlib.contextmanager
def entered():
    try: yield
    finally: pathlib.Path("left").touch()
def test_long(used):
    with entered():
        pathlib.Path("begun").touch()
        time.sleep(60)
"""


@pytest.fixture
def directory(tmp_path: pathlib.Path) -> pathlib.Path:
    (tmp_path / "conftest.py").write_text("pytest_plugins = ('kit.share',)\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  alone: .\n  real: .\n")
    (tmp_path / "test_first.py").write_text(FIRST)
    (tmp_path / "test_second.py").write_text(SECOND)
    return tmp_path


def command(*arguments: str) -> list[str]:
    options = ("-p", "no:cacheprovider", "-p", "no:timeout", "-o", f"pythonpath={TESTS}")
    return [sys.executable, "-m", "pytest", *options, *arguments]


def run(directory: pathlib.Path, *arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        command(*arguments),
        cwd=directory,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
        timeout=50,
    )
    return done.returncode, done.stdout


def without_time(text: str) -> list[str]:
    """Return the lines of an output, sorted, without what differs from run to run."""
    return sorted(re.sub(r"\bin \d.*s\b|=+|0x[0-9a-f]+", "", line) for line in text.splitlines())


@pytest.mark.slow
@pytest.mark.parametrize("options", [("-q",), ("-v",), ("-rA", "--tb=short"), ("-x", "-q")])
def test_the_report_is_that_of_one_process(
    directory: pathlib.Path, options: tuple[str, ...]
) -> None:
    status, alone = run(directory, "--jobs=1", *options)
    again, shared = run(directory, "--jobs=2", *options)
    assert status == again == pytest.ExitCode.TESTS_FAILED
    if "-x" in options:
        assert "1 failed" in shared or "1 error" in shared
        assert "stopping after 1 failures" in shared
        return
    assert "seen by the reader" in shared
    assert "written to the descriptor" in shared
    strip = re.compile(r" *\[ *\d+%\]")  # how far the run has come
    lines = [without_time(strip.sub("", text)) for text in (alone, shared)]
    if options == ("-q",):  # the dots of files that come in another order
        lines = [[line for line in each if line.strip(".FEsx")] for each in lines]
    assert lines[0] == lines[1], alone + shared


@pytest.mark.slow
def test_a_process_that_dies_fails_its_test_alone(directory: pathlib.Path) -> None:
    (directory / "test_death.py").write_text(DEATH)
    status, text = run(directory, "--jobs=2", "-v")
    assert status == pytest.ExitCode.TESTS_FAILED
    assert "the process of this test ended: signal 9" in text
    assert re.search(r"test_death.py::test_before PASSED", text)
    assert re.search(r"test_death.py::test_after PASSED", text)
    assert re.search(r"test_death.py::test_death FAILED", text)
    assert "2 failed, 8 passed, 1 skipped, 1 xfailed, 1 warning, 1 error" in text


@pytest.mark.slow
def test_the_end_of_a_run_lets_each_test_clean_up(directory: pathlib.Path) -> None:
    (directory / "test_long.py").write_text(LONG)
    (directory / "test_wrong.py").write_text(
        "import pathlib, time\ndef test_wrong():\n"
        "    while not pathlib.Path('begun').exists(): time.sleep(0.01)\n    assert False\n"
    )
    status, text = run(directory, "--jobs=2", "-x", "test_long.py", "test_wrong.py")
    assert status == pytest.ExitCode.TESTS_FAILED
    assert "stopping after 1 failures" in text
    assert (directory / "left").exists()
    assert (directory / "ended").exists()
    assert "Traceback" not in text
    assert "nobody is told" not in text


@pytest.mark.slow
def test_tests_that_want_to_be_alone_run_after_all_others(directory: pathlib.Path) -> None:
    (directory / "test_alone.py").write_text(
        "import pytest\n@pytest.mark.alone\ndef test_a(): pass\n"
        "@pytest.mark.real\ndef test_b(): pass\ndef test_c(): pass\n"
    )
    _status, text = run(directory, "--jobs=3", "-v")
    order = re.findall(r"::(test_\w+)\S* [A-Z]", text)
    assert order[-2:] == ["test_a", "test_b"]
    assert len(order) == 13


@pytest.mark.slow
def test_an_interrupt_ends_all_processes(directory: pathlib.Path) -> None:
    sleeper = (
        "import time, pathlib\ndef test_it():\n    pathlib.Path('%s').touch()\n    time.sleep(60)\n"
    )
    for name in ("a", "b"):
        (directory / f"test_{name}.py").write_text(sleeper % name)
    process = subprocess.Popen(
        command("--jobs=2", "test_a.py", "test_b.py"),
        cwd=directory,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    wait_until(lambda: (directory / "a").exists() and (directory / "b").exists(), "both tests")
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=50)
    assert process.returncode == pytest.ExitCode.INTERRUPTED
    assert "KeyboardInterrupt" in output
    with pytest.raises(ProcessLookupError):
        os.killpg(process.pid, 0)
