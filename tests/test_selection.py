"""Which tests run by themselves: those marked `real` do so only where `-m` names the marker.

And what setup.cfg excuses: a cache of pytest's that cannot be written.
"""

import pathlib
import shutil
import subprocess
import sys

import pytest

TESTS = pathlib.Path(__file__).parent
EXAMPLE = """
import pytest
def test_plain(): pass
@pytest.mark.slow
def test_slow(): pass
@pytest.mark.real
def test_real(): pass
@pytest.mark.real
@pytest.mark.slow
def test_slow_and_real(): pass
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> pathlib.Path:
    path = tmp_path_factory.mktemp("selection")
    shutil.copy(TESTS / "conftest.py", path)
    (path / "test_example.py").write_text(EXAMPLE)
    shutil.copy(TESTS.parent / "setup.cfg", path)
    return path


def run(directory: pathlib.Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    paths = f"pythonpath={TESTS.parent} {TESTS}"
    return subprocess.run(
        [sys.executable, "-m", "pytest", "-o", paths, "-q", "test_example.py", *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=50,
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("expression", "selected"),
    [
        ("", ["plain", "slow"]),
        ("not slow", ["plain"]),
        ("slow", ["slow"]),
        ("real", ["real", "slow_and_real"]),
        ("real and not slow", ["real"]),
        ("real or not real", ["plain", "slow", "real", "slow_and_real"]),
    ],
)
def test_what_a_marker_expression_selects(
    directory: pathlib.Path, expression: str, selected: list[str]
) -> None:
    done = run(directory, "-p", "no:cacheprovider", "--collect-only", "-m", expression)
    found = [line.partition("::test_")[2] for line in done.stdout.splitlines() if "::" in line]
    assert found == selected, done.stdout + done.stderr


@pytest.mark.slow
def test_a_cache_that_cannot_be_written_stops_nobody(directory: pathlib.Path) -> None:
    done = run(directory, "-o", "cache_dir=/dev/null")
    assert done.returncode == pytest.ExitCode.OK, done.stdout + done.stderr
