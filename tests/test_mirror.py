"""The tests of a module are where its path says, or where its docstring says.

`nginy/a/b.py` is tested in `tests/a/test_b.py`, or in `test_b_live.py` beside it where that needs
real sockets. A module that is tested along with another one, or only in the running program, ends
its docstring with the sentence "Tested in tests/run/test_reload.py."
"""

import ast
import pathlib
import re

import nginy
import pytest

PACKAGE = pathlib.Path(nginy.__file__).parent
TESTS = PACKAGE.parent / "tests"

# Folders of tests that mirror no package: whole programs, helpers, the benchmark, the proofs of
# etc/scale-out.
OF_THEIR_OWN = {"run", "kit", "bench", "scale"}

ELSEWHERE = re.compile(r"\nTested in tests/([\w/]+\.py)\.\Z")


def docstring(source: str) -> str:
    """Return the docstring of a module, without looking at the rest."""
    return ast.get_docstring(ast.parse('"""'.join([*source.split('"""')[:2], ""]))) or ""


def untested(package: pathlib.Path, tests: pathlib.Path) -> list[str]:
    """Say which modules below `package` have no tests where they should be, or say it wrongly."""
    wrong = []
    for module in sorted(package.rglob("*.py")):
        if module.name == "__init__.py":
            continue
        path = module.relative_to(package)
        beside = [tests / path.parent / f"test_{path.stem}{end}.py" for end in ("", "_live")]
        has_own = any(file.exists() for file in beside)
        elsewhere = ELSEWHERE.search(docstring(module.read_text()))
        if elsewhere is None and not has_own:
            wrong.append(f"{path} has no {beside[0].relative_to(tests)}, and names no other")
        elif elsewhere is not None and has_own:
            wrong.append(f"{path} has tests of its own, and names {elsewhere[1]}")
        elif elsewhere is not None and not (tests / elsewhere[1]).exists():
            wrong.append(f"{path} names {elsewhere[1]}, which does not exist")
    return wrong


def test_each_module_has_tests_or_says_where_they_are() -> None:
    assert untested(PACKAGE, TESTS) == []


def test_each_folder_of_tests_is_a_folder_of_nginy() -> None:
    folders = {file.parent.relative_to(TESTS) for file in TESTS.rglob("test_*.py")}
    folders = {folder for folder in folders if folder.parts[:1] not in {(n,) for n in OF_THEIR_OWN}}
    assert [str(folder) for folder in sorted(folders) if not (PACKAGE / folder).is_dir()] == []


# -- the gate can fail --


@pytest.mark.parametrize(
    ("docstring", "files", "wrong"),
    [
        ("It.", ["a/test_b.py"], ""),
        ("It.", ["a/test_b_live.py"], ""),
        ("It.", ["test_b.py"], "a/b.py has no a/test_b.py, and names no other"),
        ("It.\n\nTested in tests/c.py.", ["c.py"], ""),
        ("It.\n\nTested in tests/c.py.", [], "a/b.py names c.py, which does not exist"),
        (
            "It.\n\nTested in tests/c.py.\n\nMore.",
            ["c.py"],
            "a/b.py has no a/test_b.py, and names no other",
        ),
        (
            "It.\n\nTested in tests/c.py.",
            ["a/test_b.py", "c.py"],
            "a/b.py has tests of its own, and names c.py",
        ),
    ],
)
def test_a_module_without_tests_is_seen(
    tmp_path: pathlib.Path, docstring: str, files: list[str], wrong: str
) -> None:
    package, tests = tmp_path / "nginy", tmp_path / "tests"
    for folder in (package / "a", tests / "a"):
        folder.mkdir(parents=True)
    (package / "a" / "b.py").write_text(f'"""{docstring}\n"""\n')
    for name in files:
        (tests / name).touch()
    assert untested(package, tests) == ([wrong] if wrong else [])
