"""The import rules of nginy/README.md, checked on the syntax trees of all modules.

A module imports only from the layers listed for it; nothing is imported inside a function to
dodge a cycle; no cycle exists; and nothing brings a second way of waiting. Imports for the type
checker alone obey the layers too; they may close a cycle only where two things are one by nature.
"""

import ast
import functools
import pathlib
import re
from collections.abc import Callable, Iterable, Iterator

import nginy

from kit.sources import parsed

ROOT = pathlib.Path(nginy.__file__).parent

# Everyone may import these: values and names, nothing that runs.
LEAVES = {"errors", "text", "log.levels", "log.limit"}

BELOW_CONFIG = {"event", "wire", "balancer", "backend", "backend.health", "proxy"}

# package -> the others that it may import. A package inside another has a row of its own where its
# rule differs: then the longest name that fits counts.
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "text": {"errors"},
    "wire": set(),
    "balancer": set(),
    "event": set(),
    "backend": {"event", "wire", "balancer", "backend.health"},
    "backend.health": {"wire"},
    "proxy": {"event", "wire", "backend", "backend.health"},
    "log": set(),
    "log.levels": set(),
    "log.limit": set(),
    "admin": {"event", "wire", "backend", "backend.health", "proxy", "log"},
    "config": BELOW_CONFIG,
    "commands": BELOW_CONFIG | {"config"},
    "process": BELOW_CONFIG | {"config", "commands", "admin", "log"},
    "process.workers": BELOW_CONFIG | {"config", "commands", "admin", "log", "process"},
    "printing": set(),
    "cli_questions": BELOW_CONFIG | {"config", "commands", "process", "printing"},
    "cli": BELOW_CONFIG
    | {"config", "commands", "process", "process.workers", "printing", "cli_questions"},
    "__main__": {"cli"},
    "tour": set(),
}

# One thread and one loop: nginy waits in its selector and nowhere else.
FORBIDDEN = {
    "asyncio",
    "asyncore",
    "concurrent",
    "multiprocessing",
    "socketserver",
    "threading",
    "_thread",
}
# Values in, values out: these see no socket's readiness, no clock and no log. So does a module
# whose docstring has the word Pure.
PURE = {
    "wire",
    "balancer",
    "backend.health",
    "proxy.access",
    "proxy.limits",
    "proxy.lookups",
    "commands.plan",
    "commands.explain",
    "commands.importing",
}
IMPURE = {"logging", "select", "selectors", "signal", "subprocess", "time"}
# These open no file either, but for the one module in front of them.
READERS = {"commands.importing"}
FRONT = "nginy.commands.importing.front"
OF_FILES = {"glob", "io", "os", "pathlib", "tempfile"}

# Modules that may know each other's types: a connection, its events and its loop are one thing.
OF_ONE_NATURE = {
    f"nginy.event.{n}"
    for n in ("buffer", "child", "connection", "event", "loop", "pipe", "selector")
}

Sources = dict[str, str]
Walk = Callable[[ast.AST], Iterator[ast.AST]]


def nginy_sources() -> Sources:
    """Dotted module name -> source text, for every module of nginy."""
    found = {}
    for path in sorted(ROOT.rglob("*.py")):
        parts = path.relative_to(ROOT.parent).with_suffix("").parts
        found[".".join(parts)] = path.read_text()
    return found


def is_type_checking(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)


def walk_at_run_time(tree: ast.AST) -> Iterator[ast.AST]:
    """Yield the nodes that exist when the program runs: all but the bodies of TYPE_CHECKING."""
    for child in ast.iter_child_nodes(tree):
        if not is_type_checking(child):
            yield child
            yield from walk_at_run_time(child)


@functools.cache
def imports(source: str, walk: Walk) -> list[ast.stmt]:
    """Return the import statements of a module that `walk` finds."""
    return [node for node in walk(parsed(source)) if isinstance(node, ast.Import | ast.ImportFrom)]


def imported_names(module: str, nodes: Iterable[ast.AST]) -> set[str]:
    """Dotted names that the import statements among `nodes` bring in, relative ones resolved."""
    found: set[str] = set()
    package = module.removesuffix(".__init__").split(".")
    if not module.endswith(".__init__"):
        package.pop()
    for node in nodes:
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            source = ".".join([*base, *([node.module] if node.module else [])])
            found.update(f"{source}.{alias.name}" for alias in node.names)
    return found


def longest_prefix(name: str, rows: Iterable[str]) -> str:
    """The most special of `rows` that `name`, dotted and without "nginy.", belongs to."""
    fitting = [row for row in rows if f"{name}.".startswith(f"{row}.")]
    return max(fitting, key=len, default="")


def layer_offences(sources: Sources) -> list[str]:
    wrong = []
    for module, source in sources.items():
        if module == "nginy.__init__":
            continue
        layer = longest_prefix(module.removeprefix("nginy."), ALLOWED)
        if not layer:
            wrong.append(f"{module} belongs to no layer")
            continue
        found = imported_names(module, imports(source, ast.walk))
        names = {name.removeprefix("nginy.") for name in found if name.startswith("nginy.")}
        used = {longest_prefix(name, ALLOWED) or name for name in names} - {"__version__", layer}
        extra = used - ALLOWED[layer] - (LEAVES if layer != "errors" else set())
        wrong += [f"{module} imports nginy.{name}" for name in sorted(extra)]
    return wrong


def says_pure(source: str) -> bool:
    """Whether a module promises in its docstring that it is pure."""
    docstring = ast.get_docstring(parsed(source)) or ""
    return re.search(r"\bPure\b(?! but)", docstring) is not None


def forbidden_offences(sources: Sources) -> list[str]:
    wrong = []
    for module, source in sources.items():
        is_pure = longest_prefix(module.removeprefix("nginy."), PURE) or says_pure(source)
        forbidden = FORBIDDEN | (IMPURE if is_pure else set())
        if is_pure in READERS and module != FRONT:
            forbidden |= OF_FILES
        names = imported_names(module, imports(source, ast.walk))
        roots = {name.split(".")[0] for name in names}
        wrong += [f"{module} imports {name}" for name in sorted(roots & forbidden)]
    return wrong


LOCAL_IMPORTS = {
    # docopt warns as it is compiled. Nobody needs all else: a server has one worker or several, no
    # question serves, and few of them draw on a terminal or import a configuration.
    "nginy.cli": {
        *("docopt", "nginy.process.single", "nginy.process.workers"),
        *("nginy.cli_questions", "nginy.commands.importing"),
    },
    "nginy.cli_questions": {"nginy.commands.top", "nginy.commands.importing"},
    # The work of this module must come before any other import.
    "nginy.__main__": {"nginy.cli"},
}


def local_import_offences(sources: Sources) -> list[str]:
    """Imports inside functions, but for those of `LOCAL_IMPORTS`."""
    wrong = []
    for module, source in sources.items():
        if not any(statement.col_offset for statement in imports(source, ast.walk)):
            continue  # none is indented
        for function in ast.walk(parsed(source)):
            if isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
                names = imported_names(module, ast.walk(function))
                names = {n for n in names if not longest_prefix(n, LOCAL_IMPORTS.get(module, ()))}
                wrong += [f"{module} imports {name} inside a function" for name in sorted(names)]
    return wrong


def import_graph(sources: Sources, walk: Walk) -> dict[str, set[str]]:
    """The modules that each module imports, by the statements that `walk` finds."""
    modules = {name.removesuffix(".__init__") for name in sources}
    graph: dict[str, set[str]] = {}
    for module, source in sources.items():
        targets = set()
        for name in imported_names(module, imports(source, walk)):
            target = name if name in modules else name.rpartition(".")[0]
            if target in modules:
                targets.add(target)
        graph[module.removesuffix(".__init__")] = targets - {module.removesuffix(".__init__")}
    return graph


def reached_from(graph: dict[str, set[str]], start: str) -> set[str]:
    """The modules that `start` imports, at first hand or not."""
    found: set[str] = set()
    new = set(graph[start])
    while new:
        found |= new
        new = set().union(*(graph[module] for module in new)) - found
    return found


def type_cycle_offences(sources: Sources) -> list[str]:
    """Modules that know each other, be it by types alone, and are not one by nature."""
    graph = import_graph(sources, ast.walk)
    reached = {module: reached_from(graph, module) for module in graph}
    wrong = []
    for module in sorted(graph):
        knots = {other for other in reached[module] if module in reached[other]} | {module}
        if len(knots) > 1 and not knots <= OF_ONE_NATURE:
            wrong.append(" <-> ".join(sorted(knots)))
    return sorted(set(wrong))


def cycle_offences(sources: Sources) -> list[str]:
    """Each cycle of imports at run time, as the way round it."""
    graph = import_graph(sources, walk_at_run_time)
    finished: set[str] = set()
    wrong: list[str] = []

    def visit(module: str, way: list[str]) -> None:
        if module in way:
            wrong.append(" -> ".join([*way[way.index(module) :], module]))
        elif module not in finished:
            for target in sorted(graph[module]):
                visit(target, [*way, module])
            finished.add(module)

    for module in sorted(graph):
        visit(module, [])
    return wrong


def test_modules_import_only_from_their_layers() -> None:
    assert layer_offences(nginy_sources()) == []


def test_nothing_waits_or_runs_beside_the_loop() -> None:
    assert forbidden_offences(nginy_sources()) == []


def test_no_import_hides_in_a_function() -> None:
    assert local_import_offences(nginy_sources()) == []


def test_no_imports_form_a_cycle() -> None:
    assert cycle_offences(nginy_sources()) == []


def test_types_alone_close_no_cycle_but_where_two_things_are_one() -> None:
    assert type_cycle_offences(nginy_sources()) == []


# -- the gates can fail --


def test_an_upward_import_is_seen_even_when_it_is_relative_or_for_types_only() -> None:
    sources = {
        "nginy.event.loop": "import nginy.proxy.tcp",
        "nginy.backend.__init__": "from ..config import build",
        "nginy.backend.health.states": "from nginy.event.loop import Loop",
        "nginy.process.server": "from nginy.process.workers import supervisor",
        "nginy.wire.dns": "if TYPE_CHECKING:\n    from nginy.event import loop",
        "nginy.errors": "from nginy import cli",
        "nginy.extra": "",
    }
    assert layer_offences(sources) == [
        "nginy.event.loop imports nginy.proxy",
        "nginy.backend.__init__ imports nginy.config",
        "nginy.backend.health.states imports nginy.event",
        "nginy.process.server imports nginy.process.workers",
        "nginy.wire.dns imports nginy.event",
        "nginy.errors imports nginy.cli",
        "nginy.extra belongs to no layer",
    ]


def test_a_forbidden_import_is_seen() -> None:
    sources = {
        "nginy.process.server": "import os, threading",
        "nginy.event.loop": "import time\nfrom concurrent import futures",
        "nginy.wire.dns": "def now():\n    import time",
        "nginy.commands.plan": "import logging",
        "nginy.proxy.routing.routes": '"""Routes.\n\nPure: values."""\nimport time',
        "nginy.admin.loop.page": '"""A page.\n\nPure but for the routes."""\nimport time',
        "nginy.commands.importing.writer": "import os",
        "nginy.commands.importing.front": "import os",
    }
    assert forbidden_offences(sources) == [
        "nginy.process.server imports threading",
        "nginy.event.loop imports concurrent",
        "nginy.wire.dns imports time",
        "nginy.commands.plan imports logging",
        "nginy.proxy.routing.routes imports time",
        "nginy.commands.importing.writer imports os",
    ]


def test_an_import_inside_a_function_is_seen() -> None:
    sources = {
        "nginy.process.server": "class Server:\n    def run(self):\n        from . import log",
        "nginy.cli": "def main():\n    import docopt",
    }
    assert local_import_offences(sources) == [
        "nginy.process.server imports nginy.process.log inside a function"
    ]


def test_a_cycle_is_seen_and_one_for_types_only_is_not() -> None:
    sources = {
        "nginy.event.__init__": "",
        "nginy.event.a": "from nginy.event.b import B",
        "nginy.event.b": "from nginy.event import c",
        "nginy.event.c": "import nginy.event.a",
    }
    assert cycle_offences(sources) == [
        "nginy.event.a -> nginy.event.b -> nginy.event.c -> nginy.event.a"
    ]
    sources["nginy.event.c"] = "if TYPE_CHECKING:\n    import nginy.event.a"
    assert cycle_offences(sources) == []
    assert type_cycle_offences(sources) == ["nginy.event.a <-> nginy.event.b <-> nginy.event.c"]
