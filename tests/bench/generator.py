"""The load generator as Python sees it: found or compiled, run, its one line of answer read.

load.c is compiled once into the user's cache directory, under a name that changes with its
source. Without a C compiler, load.py takes its place: slower, so the proxy is not always the
bottleneck, and the report says so.
"""

import hashlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
SOURCES: Final = ("load.c", "load_backend.c")
HEADER: Final = "load.h"
COMPILE_TIMEOUT_S: Final = 120
TLS_GENERATOR: Final = (sys.executable, str(HERE / "tls_load.py"))
"""What makes the load of works over TLS; there is none in C."""


class GeneratorError(Exception):
    """The generator gave no result; the text is what it said instead."""


@dataclass(frozen=True, slots=True)
class Load:
    """What a run of the generator counted in its measured time."""

    operations: int
    seconds: float
    cpu_ns: int  # of the processes it was told
    own_cpu_ns: int
    errors: int  # of the whole run, warm-up included
    p50_us: float
    p99_us: float
    max_us: float


@dataclass(frozen=True, slots=True)
class Generator:
    """A program that makes load: `argv` without arguments, and what the report calls it."""

    argv: Sequence[str]
    title: str


def python_generator() -> Generator:
    """Return the generator that needs nothing but Python."""
    return Generator(
        (sys.executable, str(HERE / "load.py")), "load.py (slow: install a C compiler)"
    )


def c_generator(cache: Path) -> Generator | None:
    """Return the compiled generator, compiled now if it is not yet; None without a compiler.

    Raises GeneratorError if the compiler refuses the source.
    """
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        return None
    source = b"".join((HERE / name).read_bytes() for name in (*SOURCES, HEADER))
    program = cache / f"load-{hashlib.sha256(source).hexdigest()[:16]}"
    if not program.exists():
        cache.mkdir(parents=True, exist_ok=True)
        _compile(compiler, program)
    return Generator((str(program),), "load.c")


def _compile(compiler: str, program: Path) -> None:
    """Compile beside `program` and rename: two benchmarks at once do not see half a file."""
    with tempfile.TemporaryDirectory(dir=program.parent) as directory:
        new = Path(directory, program.name)
        done = subprocess.run(
            [compiler, "-O2", "-o", str(new), *(str(HERE / name) for name in SOURCES)],
            capture_output=True,
            text=True,
            check=False,
            timeout=COMPILE_TIMEOUT_S,
        )
        if done.returncode:
            raise GeneratorError(f"{compiler} failed: {done.stderr.strip()}")
        os.replace(new, program)


def default_cache() -> Path:
    """Return the user's cache directory for the compiled generator."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return Path(base, "nginy-bench")


def parse(line: str) -> Load:
    """Return the generator's answer. Raises GeneratorError on anything but its JSON object."""
    try:
        return Load(**json.loads(line))
    except (ValueError, TypeError) as error:
        raise GeneratorError(f"no result but {line[:200]!r}") from error
