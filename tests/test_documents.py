"""What CHANGELOG.md, CONTRIBUTING.md and the hooks say about the project is true."""

import pathlib
import re
import runpy

import nginy
import pytest
import yaml

CHECKOUT = pathlib.Path(nginy.__file__).parent.parent
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")
problems = runpy.run_path(str(CHECKOUT / ".ci" / "commit_message"))["problems"]


def test_the_changelog_has_the_version_and_the_headings_of_keep_a_changelog() -> None:
    text = (CHECKOUT / "CHANGELOG.md").read_text()
    versions = re.findall(r"^## (.*)$", text, re.MULTILINE)
    assert versions[0] == "[Unreleased]"
    assert all(re.fullmatch(r"\[\d+\.\d+\.\d+\] - \d{4}-\d\d-\d\d", each) for each in versions[1:])
    assert versions[1].startswith(f"[{nginy.__version__}] ")
    headings = set(re.findall(r"^### (.*)$", text, re.MULTILINE))
    assert headings <= {"Added", "Changed", "Deprecated", "Removed", "Fixed", "Security"}


@pytest.mark.parametrize("document", DOCUMENTS)
def test_every_file_that_a_document_names_exists(document: str) -> None:
    text = (CHECKOUT / document).read_text()
    linked = re.findall(r"\]\(([^):]+)\)", text)
    named = re.findall(r"`((?:nginy|tests|bin|etc|\.ci)/[\w./-]*)`", text)
    assert [path for path in linked + named if not (CHECKOUT / path).exists()] == []


def test_every_hook_runs_something_that_exists() -> None:
    config = yaml.safe_load((CHECKOUT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repository in config["repos"] for hook in repository["hooks"]]
    assert {hook["id"] for hook in hooks} >= {"ruff-check", "ruff-format", "mypy"}
    words = [word for hook in hooks for word in hook["entry"].split()]
    paths = [word for word in words if "/" in word]
    assert paths
    assert [path for path in paths if not (CHECKOUT / path).exists()] == []


@pytest.mark.parametrize(
    ("message", "found"),
    [
        ("event: accept eight clients a turn\n\nOne a turn starves those behind it.\n", []),
        ("ci, tests: run once\n\nWhy.\n# comment\n", []),
        ("fixup! event: accept\n", []),
        ("accept\n\nWhy.\n", ['the subject is "accept", expected "area: what the commit does"']),
        ("event: accept\n", ["there is no body, expected one that says why"]),
        ("event: accept\n\n# comment\n", ["there is no body, expected one that says why"]),
        (
            "event: accept\nWhy.\nMore.\n",
            ["the second line has text, expected an empty line"],
        ),
        (f"event: {'x' * 66}\n\nWhy.\n", ["the subject has 73 columns, expected 72"]),
    ],
)
def test_a_commit_message_has_an_area_and_a_body(message: str, found: list[str]) -> None:
    assert problems(message) == found
