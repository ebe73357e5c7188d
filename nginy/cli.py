"""The command line: what was typed, into one action and an exit status.

Options, messages and habits are nginx's (core/nginx.c): messages go to stderr and begin with
"nginy:", -t checks and -s finds the running process by its pid file. What `nginy -T` and
--help-config print is for reading on, so it goes to stdout. A later subcommand is a line of USAGE
and one function here.

This is the only module that imports docopt, and only when it runs: docopt's old string escapes
warn when Python compiles it, which is nobody's concern but docopt's.
"""

import os
import platform
import re
import signal
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Final

import yaml

from nginy import __version__
from nginy.config.check import check_files
from nginy.config.dump import dump
from nginy.config.load import load
from nginy.config.node import quote
from nginy.config.reference import render_reference
from nginy.config.schema import Config
from nginy.errors import ConfigError, NginyError
from nginy.server import run

USAGE: Final = """nginy balances TCP and UDP sessions over backends.

Usage:
  nginy [options] CONFIG
  nginy (-h | -v | -V | --help-config)

Options:
  -t             Check CONFIG and the files it names, and exit.
  -T             Check CONFIG, print it with every default filled in, and exit.
  -s SIGNAL      Tell the nginy that runs CONFIG to stop, quit, reload or reopen.
                 (stop: at once; quit: when sessions have ended; reload: read
                 CONFIG again; reopen: open log files again.)
  -v             Print the version and exit.
  -V             Print the version, those of Python and PyYAML, and exit.
  --help-config  Print every key that CONFIG may have, and exit.
  -h --help      Print this and exit.
"""

SIGNALS: Final = {
    "stop": signal.SIGTERM,
    "quit": signal.SIGQUIT,
    "reload": signal.SIGHUP,
    "reopen": signal.SIGUSR1,
}

PID_FILE_MAX_CHARACTERS: Final = 64


def main(argv: Sequence[str] | None = None) -> int:
    """Do what `argv` (by default, what was typed) asks for; return the exit status."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        warnings.simplefilter("ignore", DeprecationWarning)  # the same before Python 3.12
        from docopt import DocoptExit, docopt  # noqa: PLC0415 - see the module docstring
    try:
        arguments = docopt(USAGE, argv, help=False)
    except DocoptExit as error:
        print(error, file=sys.stderr)
        return 1
    try:
        return _act(arguments)
    except ConfigError as error:
        for problem in error.problems:
            _tell(f"[emerg] {problem}")
        if arguments["-t"] or arguments["-T"]:
            _tell(f"configuration file {arguments['CONFIG']} test failed")
    except NginyError as error:
        _tell(f"[emerg] {error}")
    return 1


def _act(arguments: Mapping[str, str]) -> int:
    """Do the one thing that was asked for; the questions about nginy itself come first."""
    if arguments["--help"]:
        return _show(USAGE)
    if arguments["--help-config"]:
        return _show(render_reference())
    if arguments["-v"] or arguments["-V"]:
        print(_version(in_full=bool(arguments["-V"])), file=sys.stderr)
        return 0
    path = arguments["CONFIG"]
    config = load(path, os.environ)
    if arguments["-t"] or arguments["-T"]:
        return _test(config, path, is_dump=bool(arguments["-T"]))
    if arguments["-s"]:
        return _signal(config, path, arguments["-s"])
    _check_files(config)
    return run(config, path)


def _test(config: Config, path: str, *, is_dump: bool) -> int:
    """Check what a start needs beside a right configuration; show the configuration if asked."""
    _tell(f"the configuration file {path} syntax is ok")
    _check_files(config)
    _tell(f"configuration file {path} test is successful")
    return _show(f"# configuration file {path}:\n{dump(config)}") if is_dump else 0


def _check_files(config: Config) -> None:
    """Raise ConfigError for files that could not be written, while nothing is open yet."""
    problems = check_files(config)
    if problems:
        raise ConfigError(problems)


def _signal(config: Config, path: str, name: str) -> int:
    """Send a signal to the process whose id is in the pid file (ngx_signal_process)."""
    if name not in SIGNALS:
        raise NginyError(f'invalid option: "-s {name}", expected {", ".join(SIGNALS)}')
    if config.pid is None:
        raise NginyError(f'{path} names no "pid" file, which -s finds the process by')
    try:
        with open(config.pid, encoding="ascii", errors="replace") as file:
            text = file.read(PID_FILE_MAX_CHARACTERS).strip()
    except OSError as error:
        reason = f"({error.errno}: {error.strerror})"
        raise NginyError(f'open() "{config.pid}" failed {reason}') from error
    if not re.fullmatch("[1-9][0-9]{0,8}", text):
        raise NginyError(f'invalid PID number {quote(text)} in "{config.pid}"')
    try:
        os.kill(int(text), SIGNALS[name])
    except OSError as error:
        reason = f"({error.errno}: {error.strerror})"
        raise NginyError(f'kill({text}) of the PID in "{config.pid}" failed {reason}') from error
    return 0


def _version(*, in_full: bool) -> str:
    version = f"nginy version: nginy/{__version__}"
    if not in_full:
        return version
    libyaml = ", with libyaml" if yaml.__with_libyaml__ else ""
    return (
        f"{version}\nPython {platform.python_version()} on {platform.system()}"
        f"\nPyYAML {yaml.__version__}{libyaml}"
    )


def _tell(text: str) -> None:
    print(f"nginy: {text}", file=sys.stderr)


def _show(text: str) -> int:
    """Print to stdout; a reader that has had enough (`| head`) is no error."""
    try:
        print(text, end="" if text.endswith("\n") else "\n", flush=True)
    except BrokenPipeError:
        # Python flushes stdout again at exit, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    return 0
