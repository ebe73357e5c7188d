"""Which tests run by themselves: those marked `real` do so only where `-m` names the marker."""

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
    paths = f"pythonpath={TESTS.parent} {TESTS}"
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-o", paths]
    done = subprocess.run(
        [*command, "--collect-only", "-q", "test_example.py", "-m", expression],
        cwd=directory,
        capture_output=True,
        text=True,
        check=False,
        timeout=15,
    )
    found = [line.partition("::test_")[2] for line in done.stdout.splitlines() if "::" in line]
    assert found == selected, done.stdout + done.stderr
