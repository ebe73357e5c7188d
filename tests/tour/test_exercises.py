"""The answers of nginy/tour/exercises.md are true: each change makes the named test fail.

Every change is made to a copy of the project, where the test runs in a process of its own. The rest
of the suite shows that the test passes without the change.
"""

import pathlib
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass

import nginy
import pytest

PACKAGE = pathlib.Path(nginy.__file__).parent
CHECKOUT = PACKAGE.parent
PAGE = PACKAGE / "tour" / "exercises.md"
NEITHER = shutil.ignore_patterns("bench", "recorded", "run")
"""Parts of the project that no answer needs."""

EXERCISE = re.compile(
    r"^## (?P<title>\d+\. .*?)\n\n```diff\n# (?P<path>\S+)\n(?P<diff>.*?)```\n\n"
    r"<details><summary>Answer</summary>\n\n`(?P<test>\S+)`\n\n(?P<why>.+?)\n\n</details>$",
    re.MULTILINE | re.DOTALL,
)


@dataclass(frozen=True)
class Exercise:
    title: str
    path: str
    before: str
    after: str
    test: str


def exercises(text: str) -> list[Exercise]:
    found = []
    for match in EXERCISE.finditer(text):
        lines = match["diff"].splitlines(keepends=True)
        before = "".join(line[1:] for line in lines if line[0] != "+")
        after = "".join(line[1:] for line in lines if line[0] != "-")
        found.append(Exercise(match["title"], match["path"], before, after, match["test"]))
    return found


def test_there_are_ten() -> None:
    found = exercises(PAGE.read_text())
    assert [each.title.partition(".")[0] for each in found] == [str(n) for n in range(1, 11)]


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Iterator[pathlib.Path]:
    """A copy of the project; each test changes a file of it, and puts it back."""
    path = tmp_path_factory.mktemp("project")
    for name in ("nginy", "tests"):
        shutil.copytree(CHECKOUT / name, path / name, ignore=NEITHER)
    shutil.copy(CHECKOUT / "setup.cfg", path)
    yield path
    for copy in ("nginy", "tests"):  # pytest would keep the copies of three runs
        shutil.rmtree(path / copy)


@pytest.mark.slow
@pytest.mark.parametrize("exercise", exercises(PAGE.read_text()), ids=lambda each: each.title)
def test_the_change_makes_the_test_of_the_answer_fail(
    exercise: Exercise, project: pathlib.Path
) -> None:
    file = project / "nginy" / exercise.path
    text = file.read_text()
    assert text.count(exercise.before) == 1, f"not once in {exercise.path}:\n{exercise.before}"
    file.write_text(text.replace(exercise.before, exercise.after))
    # Without a cache of bytecode, which would not notice a file of the same length and second.
    command = (sys.executable, "-B", "-m", "pytest", "-qx", "-p", "no:cacheprovider", exercise.test)
    done = subprocess.run(command, cwd=project, capture_output=True, text=True, check=False)
    shutil.copy2(CHECKOUT / "nginy" / exercise.path, file)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    name = exercise.test.partition("::")[2]
    assert re.search(rf"^FAILED .*::{name}\b", done.stdout, re.MULTILINE), done.stdout
