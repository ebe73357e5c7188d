"""A test that takes too long fails alone, whichever of its phases is slow."""

import pathlib
import subprocess
import sys

import pytest

KIT = pathlib.Path(__file__).parent / "kit"
SLOW_TESTS = """
import signal
import pytest

def wait(seconds=60):
    for _ in range(20):
        signal.sigtimedwait([], seconds / 20)

@pytest.fixture
def slow_to_come():
    wait()

@pytest.fixture
def slow_to_go():
    yield
    wait()

class SlowToDie:
    def __del__(self):
        wait(0.8)

def test_body(): wait()
def test_setup(slow_to_come): pass
def test_teardown(slow_to_go): pass
def test_lost_alarm():
    SlowToDie()
    wait()
@pytest.mark.timeout(30)
def test_with_more_time(): wait(0.6)
def test_after_them(): pass
"""


@pytest.mark.slow
def test_a_test_that_takes_too_long_fails_alone(tmp_path: pathlib.Path) -> None:
    (tmp_path / "conftest.py").write_text(
        f"import sys\nsys.path.insert(0, {str(KIT)!r})\nimport limits\n"
        "limits.AGAIN_AFTER_S = 0.5\nfrom limits import *\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = timeout(seconds): more time\n")
    (tmp_path / "test_slow.py").write_text(SLOW_TESTS)
    command = [sys.executable, "-m", "pytest", "-p", "no:timeout", "-p", "no:cacheprovider"]
    done = subprocess.run(
        [*command, "-q", "-rA", "--tb=line", "--timeout=0.3", "-W", "ignore"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )
    outcomes = [line for line in done.stdout.splitlines() if "test_slow.py::" in line]
    assert [" ".join(line.split()[:2]) for line in outcomes] == [
        "PASSED test_slow.py::test_teardown",
        "PASSED test_slow.py::test_with_more_time",
        "PASSED test_slow.py::test_after_them",
        "ERROR test_slow.py::test_setup",
        "ERROR test_slow.py::test_teardown",
        "FAILED test_slow.py::test_body",
        "FAILED test_slow.py::test_lost_alarm",
    ], done.stdout + done.stderr
    assert done.stdout.count("this took more than 0.3 s") >= 4
