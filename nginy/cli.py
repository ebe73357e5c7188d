"""The command line: turns the words that were typed into one action and an exit status.

Options, messages and habits are nginx's (core/nginx.c): messages go to stderr and begin with
"nginy:", and -t checks what a start would use. This module has the command lines that serve a
configuration or check it; cli_questions.py has all others.

Only this module imports docopt, and only inside main(): Python warns about docopt's old string
escapes when it compiles them, and no user of nginy can do anything about that. What a start does
not need is imported where it is used, as that takes a tenth of a start's time. A server has
imported all of its own code before it serves, so that nobody can change it under its feet.
"""

import os
import sys
import warnings
from collections.abc import Mapping, Sequence
from typing import Final

from nginy.commands.printed.help import USAGE
from nginy.config.checking.files import check_files
from nginy.config.checking.surprises import surprises
from nginy.config.checking.tls import validities
from nginy.config.dump import dump
from nginy.config.load import load
from nginy.config.schema import Config
from nginy.errors import ConfigError, NginyError
from nginy.printing import print_error, show, tell
from nginy.process.binding import binding_problems
from nginy.process.privileges import reading_warnings, rotation_warnings
from nginy.process.takeover.predecessor import tell_failure

STARTING: Final = frozenset({"CONFIG", "-c", "-t", "-T"})
"""The words of a command line that serves a configuration, or checks it."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv`, by default that of the process; return the exit status."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        warnings.simplefilter("ignore", DeprecationWarning)  # the same before Python 3.12
        from docopt import DocoptExit, docopt  # noqa: PLC0415 - see the module docstring
    try:
        arguments = docopt(USAGE, argv, help=False)
    except DocoptExit as error:
        from nginy.cli_questions import say_what_was_meant  # noqa: PLC0415

        typed = sys.argv[1:] if argv is None else argv
        say_what_was_meant(typed)
        print_error(str(error))
        return 1
    if arguments["CONFIG"] is None:
        arguments["CONFIG"] = arguments["-c"]
    try:
        return _act(arguments)
    except NginyError as error:
        from nginy.commands.importing.front import hints  # noqa: PLC0415

        lines = str(error).splitlines()
        for line in (*(f"[emerg] {each}" for each in lines), *hints(error, arguments["CONFIG"])):
            tell(line)
        tell_failure(os.environ, lines)
        if arguments["-t"] or arguments["-T"]:
            tell(f"configuration file {arguments['CONFIG']} test failed")
    return 1


def _act(arguments: Mapping[str, str]) -> int:
    """Serve a configuration or check it; leave other command lines to `cli_questions`."""
    typed = (word for word, value in arguments.items() if value or value == "")
    if not STARTING.issuperset(typed):
        from nginy.cli_questions import answer  # noqa: PLC0415

        return answer(arguments)
    path = arguments["CONFIG"]
    config = load(path, os.environ)
    _warn(config)
    if arguments["-t"] or arguments["-T"]:
        return _test(config, path, is_dump=bool(arguments["-T"]))
    return _serve(config, path)


def _serve(config: Config, path: str) -> int:
    """Run nginy until a signal ends it."""
    _check_files(config)
    workers = config.workers or len(os.sched_getaffinity(0))
    if workers == 1:
        from nginy.process import single  # noqa: PLC0415

        return single.run(config, path)
    # Most configurations have one worker, and need no code for several.
    from nginy.process.workers import supervisor  # noqa: PLC0415

    return supervisor.run(config, path, workers)


def _test(config: Config, path: str, *, is_dump: bool) -> int:
    """Check files and addresses as a start does; for -T, print the configuration."""
    tell(f"the configuration file {path} syntax is ok")
    problems = [str(problem) for problem in check_files(config)]
    if not is_dump:
        problems += binding_problems(config, path)
    if problems:
        raise NginyError("\n".join(problems))
    for validity in validities(config):
        tell(str(validity))
    tell(f"configuration file {path} test is successful")
    return show(f"# configuration file {path}:\n{dump(config)}") if is_dump else 0


def _warn(config: Config) -> None:
    for warning in (*surprises(config), *rotation_warnings(config), *reading_warnings(config)):
        tell(f"[warn] {warning}")


def _check_files(config: Config) -> None:
    """Raise ConfigError for files that a start could not use, while nothing is open yet."""
    problems = check_files(config)
    if problems:
        raise ConfigError(problems)
