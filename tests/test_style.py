"""Sizes and docstrings that keep nginy readable, checked with the standard library alone.

The limits gate, they do not measure: short functions can be unreadable, but a long one is where
reading stops. Lint and formatting are ruff's affair (.ruff.toml).
"""

import ast
import math
import pathlib
from collections.abc import Iterator

import nginy

from kit.sources import parsed

PACKAGE = pathlib.Path(nginy.__file__).parent
CHECKOUT = PACKAGE.parent

MODULE_LINES = 400
FUNCTION_LINES = 60
"""Without the docstring, which may be as long as the contract needs."""
FUNCTION_LINES_P90 = 25
SPINE_LINES = 1400
"""What one sitting can take in: the loop, from the clock to the listener."""
SPINE = ["clock", "timer", "event", "buffer", "connection", "listener", "selector", "loop"]

TWO_SIDES = {
    "Answer",  # of the admin interface; of a name server (RFC 1035)
    "Crew",  # what the admin interface knows of it; the workers themselves
    "Door",  # what a client knows of it; the listener itself
    "Family",  # of metrics, as Prometheus says; of addresses, as the PROXY protocol says
    "Stage",  # of a supervisor; of a process that hands over
}

Function = ast.FunctionDef | ast.AsyncFunctionDef
Sources = dict[str, str]


def sources_under(directory: pathlib.Path) -> Sources:
    """Path from the checkout -> text, for every Python file below `directory`."""
    return {
        str(path.relative_to(CHECKOUT)): path.read_text()
        for path in sorted(directory.rglob("*.py"))
    }


def functions(source: str) -> Iterator[Function]:
    return (node for node in ast.walk(parsed(source)) if isinstance(node, Function))


def line_count(function: Function) -> int:
    """Lines from `def` to the end, the docstring not counted."""
    lines = (function.end_lineno or 0) - function.lineno + 1
    if ast.get_docstring(function, clean=False) is not None:
        docstring = function.body[0]
        lines -= (docstring.end_lineno or 0) - docstring.lineno + 1
    return lines


def long_modules(sources: Sources) -> list[str]:
    counts = {path: len(source.splitlines()) for path, source in sources.items()}
    return [f"{path} has {count} lines" for path, count in counts.items() if count > MODULE_LINES]


def long_functions(sources: Sources) -> list[str]:
    return [
        f"{path}::{function.name} has {line_count(function)} lines"
        for path, source in sources.items()
        for function in functions(source)
        if line_count(function) > FUNCTION_LINES
    ]


def percentile_90(sources: Sources) -> int:
    """The number of lines that 90 % of all functions do not exceed."""
    counts = sorted(
        line_count(function) for text in sources.values() for function in functions(text)
    )
    return counts[math.ceil(0.9 * len(counts)) - 1]


def public_definitions(body: list[ast.stmt], prefix: str = "") -> Iterator[tuple[str, ast.AST]]:
    """Yield the public classes and functions of a module, and the methods of such classes."""
    for node in body:
        if isinstance(node, Function | ast.ClassDef) and not node.name.startswith("_"):
            yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node.body, f"{prefix}{node.name}.")


def is_excused(node: ast.AST) -> bool:
    """Some definitions repeat another's contract: the docstring stands there."""
    decorators = [ast.unparse(each).split(".")[-1] for each in getattr(node, "decorator_list", [])]
    return any(decorator in {"overload", "override", "setter"} for decorator in decorators)


def undocumented(sources: Sources) -> list[str]:
    wrong = []
    for path, source in sources.items():
        tree = parsed(source)
        if not ast.get_docstring(tree):
            wrong.append(f"{path} has no docstring")
        for name, node in public_definitions(tree.body):
            if not is_excused(node) and not ast.get_docstring(node):  # type: ignore[arg-type]
                wrong.append(f"{path}::{name} has no docstring")
    return wrong


def repeated_module_docstrings(sources: Sources) -> list[str]:
    """Pairs of modules that open alike: such a docstring tells nothing about either."""
    first: dict[str, str] = {}
    wrong = []
    for path, source in sources.items():
        docstring = ast.get_docstring(parsed(source)) or ""
        for text in {docstring, docstring.partition("\n")[0]}:
            if text and text in first and first[text] != path:
                wrong.append(f"{path} opens as {first[text]} does")
                break
            first[text] = path
    return wrong


def homonyms(sources: Sources) -> dict[str, list[str]]:
    """Public classes that share a name, in what serves: name -> the modules that have one.

    A configuration has records named for what they describe, commands ask and import in words of
    their own, and the tour repeats the loop: these are left out.
    """
    found: dict[str, list[str]] = {}
    for path, source in sources.items():
        if not path.startswith(("nginy/config/", "nginy/commands/", "nginy/tour/")):
            for node in parsed(source).body:
                if isinstance(node, ast.ClassDef) and not node.name.startswith("_"):
                    found.setdefault(node.name, []).append(path)
    return {name: paths for name, paths in found.items() if len(paths) > 1}


def patches(sources: Sources) -> list[str]:
    """What a test exchanges inside a module: then it tests something that nobody runs."""
    return [
        f"{path}:{node.lineno} patches: {ast.unparse(node)[:60]}"
        for path, source in sources.items()
        if "monkeypatch" in source or "mock" in source
        for node in ast.walk(parsed(source))
        if (
            isinstance(node, ast.Attribute)
            and node.attr in {"setattr", "setitem", "delattr"}
            and "monkeypatch" in ast.unparse(node.value)
        )
        or (isinstance(node, ast.Import | ast.ImportFrom) and "mock" in ast.unparse(node))
    ]


def sleeps(sources: Sources) -> list[str]:
    """Calls of time.sleep: a test that waits for a length of time waits too long or not enough."""
    return [
        f"{path}:{node.lineno} sleeps"
        for path, source in sources.items()
        if "sleep" in source  # few have the word, and to parse all of them takes long
        for node in ast.walk(parsed(source))
        if isinstance(node, ast.Call) and ast.unparse(node.func) in {"time.sleep", "sleep"}
    ]


def test_modules_are_short_enough_to_be_read_at_once() -> None:
    assert long_modules(sources_under(PACKAGE)) == []


def test_functions_are_short() -> None:
    assert long_functions(sources_under(PACKAGE)) == []
    assert percentile_90(sources_under(PACKAGE)) <= FUNCTION_LINES_P90


def test_modules_and_public_names_say_what_they_are() -> None:
    assert undocumented(sources_under(PACKAGE)) == []


def test_a_class_has_its_name_to_itself() -> None:
    """One name for one thing: those of `TWO_SIDES` are one thing, seen from two layers."""
    found = homonyms(sources_under(PACKAGE))
    assert {name: paths for name, paths in found.items() if name not in TWO_SIDES} == {}
    assert found.keys() >= TWO_SIDES


def test_tests_patch_nothing() -> None:
    assert patches(sources_under(CHECKOUT / "tests")) == []


def test_no_two_modules_open_alike() -> None:
    assert repeated_module_docstrings(sources_under(PACKAGE)) == []


def test_the_spine_of_the_event_core_fits_in_one_sitting() -> None:
    lines = sum(len((PACKAGE / "event" / f"{name}.py").read_text().splitlines()) for name in SPINE)
    assert lines <= SPINE_LINES


def test_tests_do_not_sleep() -> None:
    sources = sources_under(CHECKOUT / "tests")
    # the benchmark and the proofs are no tests: their work is to let a length of time pass
    tests = {
        path: text
        for path, text in sources.items()
        if not path.startswith(("tests/bench/", "tests/scale/")) or "/test_" in path
    }
    assert sleeps(tests) == []


# -- the gates can fail --


def test_a_long_module_and_a_long_function_are_seen() -> None:
    body = "    x = 1\n" * FUNCTION_LINES
    sources = {"a.py": "\n" * 401, "b.py": f"def f():\n{body}", "c.py": "\n" * 400}
    assert long_modules(sources) == ["a.py has 401 lines"]
    assert long_functions(sources) == ["b.py::f has 61 lines"]


def test_a_docstring_does_not_make_a_function_long() -> None:
    source = 'def f():\n    """One.\n\n    Two.\n    """\n    return 1\n'
    assert [line_count(function) for function in functions(source)] == [2]


def test_the_percentile_is_of_all_functions_together() -> None:
    short = "def f():\n    pass\n"
    assert percentile_90({"a.py": short * 9, "b.py": "def g():\n" + "    pass\n" * 30}) == 2
    assert percentile_90({"a.py": short * 8, "b.py": ("def g():\n" + "    pass\n" * 30) * 2}) == 31


def test_a_missing_docstring_is_seen_where_a_reader_would_look_for_it() -> None:
    source = '"""Doc."""\nclass A:\n    """Doc."""\n    def f(self): ...\n    def _g(self): ...\n'
    assert undocumented({"a.py": source, "b.py": "def h(): ..."}) == [
        "a.py::A.f has no docstring",
        "b.py has no docstring",
        "b.py::h has no docstring",
    ]


def test_two_equal_first_lines_are_seen() -> None:
    sources = {"a.py": '"""Checks."""', "b.py": '"""Checks.\n\nMore."""', "c.py": '"""Other."""'}
    assert repeated_module_docstrings(sources) == ["b.py opens as a.py does"]


def test_two_classes_of_one_name_are_seen() -> None:
    sources = {
        "nginy/event/a.py": "class Event: ...\nclass _Part: ...",
        "nginy/proxy/b.py": "class Event: ...\nclass _Part: ...\nclass Session: ...",
        "nginy/config/c.py": "class Session: ...",
    }
    assert homonyms(sources) == {"Event": ["nginy/event/a.py", "nginy/proxy/b.py"]}


def test_a_patch_is_seen() -> None:
    sources = {
        "a.py": "def test(monkeypatch):\n    monkeypatch.setattr(time, 'time', int)",
        "b.py": "from unittest import mock",
        "c.py": "def test(monkeypatch):\n    monkeypatch.setenv('TZ', 'UTC')",
    }
    assert patches(sources) == [
        "a.py:2 patches: monkeypatch.setattr",
        "b.py:1 patches: from unittest import mock",
    ]


def test_a_sleep_is_seen() -> None:
    sources = {"a.py": "import time\ntime.sleep(1)", "b.py": "sleep(0.1)", "c.py": "loop.sleep"}
    assert sleeps(sources) == ["a.py:2 sleeps", "b.py:1 sleeps"]
