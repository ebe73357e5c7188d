"""The tour and the READMEs speak of code that exists: every reference is looked up.

A reference is a file and a symbol, `event/loop.py::Loop.turn`, never a line number. It is resolved
in the syntax tree, so nothing has to be imported. READMEs are checked, and docstrings of nginy too,
where a reader follows the same references.
"""

import ast
import pathlib
import re
from collections.abc import Iterator

import nginy

from kit.sources import parsed

PACKAGE = pathlib.Path(nginy.__file__).parent
CHECKOUT = PACKAGE.parent
TOUR = PACKAGE / "README.md"

# In the order in which the tour shows them.
SPINE = [
    "event/event.py",
    "event/buffer.py",
    "event/timer.py",
    "event/clock.py",
    "event/selector.py",
    "event/loop.py",
    "event/connection.py",
    "event/listener.py",
    "event/connect.py",
    "proxy/session.py",
    "proxy/context.py",
    "proxy/attempt.py",
    "proxy/upstream.py",
    "proxy/tcp.py",
    "backend/backend.py",
    "backend/pool.py",
    "config/building/build.py",
]

REFERENCE = re.compile(r"(?<![\w./])([\w./-]+\.py)::([A-Za-z_][\w.]*\w)")
FILE = re.compile(r"`([\w./-]+\.(?:py|yml|cfg|c))`")
COMMAND_FILE = re.compile(r"(?<![\w./-])((?:bin|etc|tests|\.ci)/[\w./-]*\w)")


def definitions(tree: ast.AST) -> Iterator[tuple[str, ast.AST]]:
    """Yield what `tree` defines one level down, also inside of if, try and with."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name, node
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            targets = node.targets if isinstance(node, ast.Assign) else [node.target]
            for target in targets:
                if isinstance(target, ast.Name):
                    yield target.id, node
                elif isinstance(target, ast.Attribute):  # self.x in __init__
                    yield target.attr, node
        elif not isinstance(node, ast.expr):
            yield from definitions(node)


def has_symbol(source: str, symbol: str) -> bool:
    """Tell whether a module defines `symbol`, dotted for a member: a method, field or constant."""
    nodes: list[ast.AST] = [parsed(source)]
    for name in symbol.split("."):
        inner = [pair for node in nodes for pair in definitions(node)]
        # a class's fields are where __init__ sets them
        for node in nodes:
            if isinstance(node, ast.ClassDef):
                for found, child in definitions(node):
                    if found == "__init__":
                        inner += definitions(child)
        nodes = [node for found, node in inner if found == name]
    return bool(nodes)


def find(path: str, beside: pathlib.Path) -> pathlib.Path | None:
    """The file that `path` means in a text that stands in the directory `beside`."""
    places = [beside, PACKAGE, CHECKOUT]
    return next((place / path for place in places if (place / path).exists()), None)


def broken_references(text: str, beside: pathlib.Path) -> list[str]:
    wrong = []
    for path, symbol in REFERENCE.findall(text):
        file = find(path, beside)
        if file is None or not has_symbol(file.read_text(), symbol):
            wrong.append(f"{path}::{symbol}")
    return wrong


def missing_files(text: str, beside: pathlib.Path) -> list[str]:
    paths = [*FILE.findall(text), *COMMAND_FILE.findall(text)]
    return sorted({path for path in paths if find(path, beside) is None})


def out_of_order(text: str, names: list[str]) -> list[str]:
    """Those of `names` that `text` lacks, or mentions before one that should come first."""
    places = [text.find(f"`{name}`") for name in names]
    wrong = []
    latest = -1
    for name, place in zip(names, places, strict=True):
        if place <= latest:
            wrong.append(name)
        latest = max(latest, place)
    return wrong


def house(text: str) -> list[str]:
    """The modules in the tour's map, as paths: a line is a directory, or a file of the last one."""
    found = []
    directory = ""
    for line in text.partition("## The house")[2].partition("\n## ")[0].splitlines():
        if match := re.match(r"([\w/]+/)  ", line):
            directory = match[1]
        elif match := re.match(r"( *)(\w+\.py)  ", line):
            found.append(f"{directory if match[1] else ''}{match[2]}")
    return found


def readmes() -> list[pathlib.Path]:
    return [CHECKOUT / "README.md", *sorted(PACKAGE.rglob("*.md"))]


def test_references_in_readmes_resolve() -> None:
    wrong = {str(p): broken_references(p.read_text(), p.parent) for p in readmes()}
    assert {path: names for path, names in wrong.items() if names} == {}


def test_files_named_in_readmes_exist() -> None:
    wrong = {str(p): missing_files(p.read_text(), p.parent) for p in readmes()}
    assert {path: names for path, names in wrong.items() if names} == {}


def test_references_in_docstrings_resolve() -> None:
    wrong = {str(p): broken_references(p.read_text(), p.parent) for p in PACKAGE.rglob("*.py")}
    assert {path: names for path, names in wrong.items() if names} == {}


def test_the_tour_shows_the_whole_spine_in_order() -> None:
    assert out_of_order(TOUR.read_text(), SPINE) == []


def test_the_tour_has_some_references_at_all() -> None:
    assert len(REFERENCE.findall(TOUR.read_text())) >= len(SPINE)


def test_the_map_of_the_house_shows_every_module_once() -> None:
    modules = [str(p.relative_to(PACKAGE)) for p in PACKAGE.rglob("*.py")]
    assert sorted(house(TOUR.read_text())) == sorted(m for m in modules if "__init__" not in m)


# -- the gate can fail --

MODULE = """
LIMIT: int = 1
class Loop:
    turns = 0
    def __init__(self):
        self.running = False
    if LIMIT:
        def turn(self): ...
"""


def test_symbols_are_found_wherever_they_are_defined() -> None:
    symbols = ["LIMIT", "Loop", "Loop.turn", "Loop.running"]
    assert [symbol for symbol in symbols if not has_symbol(MODULE, symbol)] == []


def test_a_symbol_that_does_not_exist_is_seen() -> None:
    assert not any(has_symbol(MODULE, symbol) for symbol in ["turn", "Loop.LIMIT", "Loop.spin"])


def test_a_broken_reference_is_seen(tmp_path: pathlib.Path) -> None:
    (tmp_path / "m.py").write_text(MODULE)
    text = "See `m.py::Loop.turn`, m.py::Loop.spin. And `n.py::Loop`, but not line `m.py:4`."
    assert broken_references(text, tmp_path) == ["m.py::Loop.spin", "n.py::Loop"]


def test_a_file_that_does_not_exist_is_seen(tmp_path: pathlib.Path) -> None:
    (tmp_path / "m.py").write_text("")
    assert missing_files("`m.py`, `n.py`; run bin/gone and bin/nginy", tmp_path) == [
        "bin/gone",
        "n.py",
    ]


def test_the_map_is_read_by_directory() -> None:
    rooms = "event/  why\n  loop.py   S  it\na/b/  why\n  c.py  it\n"
    text = f"## The house\ncli.py  it\n\n{rooms}## Layers\n  x.py  not it\n"
    assert house(text) == ["cli.py", "event/loop.py", "a/b/c.py"]


def test_a_module_out_of_order_is_seen() -> None:
    assert out_of_order("`a` `c` `b`", ["a", "b", "c", "d"]) == ["c", "d"]
