"""Importing a module of nginy does nothing: no socket, no log, no process, no foreign package.

The modules of a package are imported in an interpreter of their own, with warnings as errors: a
fork of one that has just started, which is as clean and takes half the time. In which order they
come does not matter, as no imports form a cycle (tests/test_layers.py). A second pass repeats it
all with -O, which removes assertions, and with -bb, which makes a comparison of bytes with text an
error.
"""

import json
import pathlib
import subprocess
import sys
from collections.abc import Sequence
from itertools import groupby

import nginy
import pytest

ROOT = pathlib.Path(nginy.__file__).parent
CHECKOUT = ROOT.parent
MODULES = sorted(
    ".".join(path.relative_to(CHECKOUT).with_suffix("").parts).removesuffix(".__init__")
    for path in ROOT.rglob("*.py")
    if path.name != "__main__.py"
)
PACKAGES = {
    ".".join(package): ",".join(modules)
    for package, modules in groupby(MODULES, lambda module: module.split(".")[:2])
}
"""Modules, separated by commas, by their package; a module beside the packages is by itself."""

# Runs in the child, which forks for each of its arguments: modules, separated by commas. What must
# not happen raises where it would happen, by an audit hook.
PROBE = """
import json, logging, os, signal, sys

forbidden = {"socket.__new__", "socket.bind", "socket.connect", "subprocess.Popen", "os.fork",
             "os.exec", "os.posix_spawn", "os.system", "os.remove", "os.mkdir", "os.rename"}
WRITING = 0o3  # the access mode bits of open(2): O_WRONLY | O_RDWR

def hook(event, arguments):
    opened_to_write = event == "open" and isinstance(arguments[2], int) and arguments[2] & WRITING
    if event in forbidden or opened_to_write:
        raise RuntimeError(f"import does {event} {arguments}")

def look(modules):
    handlers = [signal.getsignal(number) for number in signal.valid_signals()]
    sys.dont_write_bytecode = True
    sys.addaudithook(hook)
    for module in modules:
        __import__(module)

    loggers = [logging.root, *map(logging.getLogger, logging.root.manager.loggerDict)]
    assert_free = {
        "log handlers": [logger for logger in loggers if logger.handlers],
        "signal handlers": handlers != [signal.getsignal(n) for n in signal.valid_signals()],
        "packages": sorted({name.partition(".")[0] for name in sys.modules}
                           - sys.stdlib_module_names - ALLOWED
                           - {name for name in sys.modules if "cython" in name}),  # of LibYAML
    }
    left = {what: found for what, found in assert_free.items() if found}
    if left:
        sys.exit(f"import leaves {left}")

def begin(modules):
    reading, writing = os.pipe()
    pid = os.fork()
    if not pid:
        os.dup2(writing, 1)
        os.dup2(writing, 2)
        look(modules.split(","))
        sys.exit()
    os.close(writing)
    return modules, pid, reading

def finish(modules, pid, reading):
    with open(reading) as file:
        said[modules] = file.read()
    _, status = os.waitpid(pid, 0)
    if status:
        said[modules] += f"status {os.waitstatus_to_exitcode(status)}"

said = {}
begun = []
for modules in sys.argv[1:]:
    if len(begun) == len(os.sched_getaffinity(0)):
        finish(*begun.pop(0))
    begun.append(begin(modules))
for each in begun:
    finish(*each)
print(json.dumps(said))
"""
# what site adds by itself: __main__, and in some environments hooks of installed packages
STARTUP = "import sys; ALLOWED = {'nginy', 'yaml', '_yaml', '__main__', *sys.modules}\n"
# Loaded before the forks, which saves three quarters of the time. It hides no import that a module
# of nginy lacks: it would still lack the name.
LOADED = "import collections.abc, dataclasses, enum, ipaddress, re, socket, ssl, typing, yaml\n"


def probe(*groups: str, flags: Sequence[str] = (), path: pathlib.Path = CHECKOUT) -> dict[str, str]:
    """Import each group of modules in a clean interpreter; return what each had to say, "" if
    nothing."""
    done = subprocess.run(
        [sys.executable, "-W", "error", *flags, "-c", STARTUP + LOADED + PROBE, *groups],
        cwd=path,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    said = json.loads(done.stdout)
    assert list(said) == list(groups)
    return dict(said)


@pytest.fixture(scope="module")
def effects() -> dict[str, str]:
    return probe(*PACKAGES.values())


@pytest.mark.slow
@pytest.mark.timeout(60)  # the first one tries all modules
@pytest.mark.parametrize("package", PACKAGES)
def test_import_has_no_effect(package: str, effects: dict[str, str]) -> None:
    assert effects[PACKAGES[package]] == ""


@pytest.mark.slow
@pytest.mark.parametrize("flag", ["-O", "-bb"])
def test_all_modules_import_under(flag: str) -> None:
    assert list(probe(",".join(MODULES), flags=[flag]).values()) == [""]


# -- the gate can fail --


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("import socket; socket.socket().bind(('127.0.0.1', 0))", "import does socket."),
        ("import subprocess; subprocess.call(['true'])", "import does subprocess.Popen"),
        ("open('left', 'w').close()", "import does open"),
        ("import logging; logging.basicConfig()", "import leaves {'log handlers'"),
        ("import signal; signal.signal(signal.SIGUSR1, print)", "import leaves {'signal handlers'"),
        ("import neighbor", "import leaves {'packages': ['neighbor']}"),
        ("import warnings; warnings.warn('old')", "UserWarning: old"),
        ("print('loaded')", "loaded"),
    ],
)
def test_an_effect_of_an_import_is_seen(
    tmp_path: pathlib.Path, source: str, complaint: str
) -> None:
    (tmp_path / "nginy.py").write_text(source)
    (tmp_path / "neighbor.py").write_text("")
    assert complaint in probe("nginy", path=tmp_path)["nginy"]
