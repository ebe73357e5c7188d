"""The command line: turns the words that were typed into one action and an exit status.

Options, messages and habits are nginx's (core/nginx.c): messages go to stderr and begin with
"nginy:", -t checks, and -s finds the running process by its pid file. `nginy -T`, --help-config
and the commands print to stdout, for a pager or a file. A new command is a line of USAGE and one
function here.

Only this module imports docopt, and only inside main(): Python warns about docopt's old string
escapes when it compiles them, and no user of nginy can do anything about that.
"""

import contextlib
import errno
import os
import platform
import signal
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import yaml

from nginy import __version__
from nginy.commands.check import check, render_checks
from nginy.commands.completion import SHELLS, render_completion
from nginy.commands.drain import STATES, Wish, drain
from nginy.commands.explain import explain
from nginy.commands.help import USAGE
from nginy.commands.importing.front import READERS, hints, import_file
from nginy.commands.log import log, set_level
from nginy.commands.manual import render_manual
from nginy.commands.plan import render_plan
from nginy.commands.reference import render_reference
from nginy.commands.sessions import Choice, sessions
from nginy.commands.standing import standing
from nginy.commands.status import status
from nginy.commands.trace import TraceWish, trace
from nginy.commands.usage import mistake, parse_usage
from nginy.config.checking.files import check_files
from nginy.config.checking.surprises import surprises
from nginy.config.checking.tls import validities
from nginy.config.dump import dump
from nginy.config.load import load, service_pid_file
from nginy.config.schema import Config
from nginy.errors import ConfigError, NginyError
from nginy.process import ask, single
from nginy.process.binding import binding_problems
from nginy.process.pidfile import read_running, text_path
from nginy.process.privileges import reading_warnings, rotation_warnings
from nginy.process.report import ReloadOutcome
from nginy.process.takeover.predecessor import tell_failure

LOOKING: Final = ("plan", "reload", "explain", "check", "status", "sessions", "top", "trace", "log")
COMMANDS: Final = (*LOOKING, "weight", *STATES)
"""Commands that ask about a configuration, or about the nginy that runs it."""
SIGNALS_BY_NAME: Final = {
    "stop": signal.SIGTERM,
    "quit": signal.SIGQUIT,
    "reload": signal.SIGHUP,
    "reopen": signal.SIGUSR1,
    "upgrade": signal.SIGUSR2,
}


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line `argv`, by default that of the process; return the exit status."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", SyntaxWarning)
        warnings.simplefilter("ignore", DeprecationWarning)  # the same before Python 3.12
        from docopt import DocoptExit, docopt  # noqa: PLC0415 - see the module docstring
    try:
        arguments = docopt(USAGE, argv, help=False)
    except DocoptExit as error:
        typed = sys.argv[1:] if argv is None else argv
        _tell(mistake(USAGE, typed, SIGNALS_BY_NAME))
        print(error, file=sys.stderr)
        return 1
    arguments["CONFIG"] = arguments["CONFIG"] or arguments["-c"]
    try:
        return _act(arguments)
    except NginyError as error:
        lines = str(error).splitlines()
        for line in (*(f"[emerg] {each}" for each in lines), *hints(error, arguments["CONFIG"])):
            _tell(line)
        tell_failure(os.environ, lines)
        if arguments["-t"] or arguments["-T"]:
            _tell(f"configuration file {arguments['CONFIG']} test failed")
    return 1


def _act(arguments: Mapping[str, str]) -> int:
    """Carry out the command; options about nginy itself need no configuration."""
    page = _page(arguments)
    if page is not None:
        return _show(page)
    if arguments["import"]:
        return _import(arguments)
    if (arguments["--version"] and not arguments["check"]) or arguments["-V"]:
        print(_version(in_full=bool(arguments["-V"])), file=sys.stderr)
        return 0
    if arguments["-s"] and arguments["-s"] not in SIGNALS_BY_NAME:
        signals = ", ".join(SIGNALS_BY_NAME)
        raise NginyError(f'invalid option: "-s {arguments["-s"]}", expected {signals}')
    pid_path = service_pid_file(os.environ)
    if arguments["-s"] and pid_path is not None and os.path.exists(pid_path):
        # The process itself reports a bad file, so the status of the service shows it, too.
        return _signal(pid_path, arguments["-s"])
    return _use(load(arguments["CONFIG"], os.environ), arguments)


def _page(arguments: Mapping[str, str]) -> str | None:
    """Return the text about nginy itself that an option asks for, or None."""
    if arguments["--help"]:
        return USAGE
    if arguments["--help-config"]:
        return render_reference()
    if arguments["--man"]:
        return render_manual(parse_usage(USAGE), render_reference(), __version__)
    shell = arguments["--completion"]
    if not shell:
        return None
    if shell not in SHELLS:
        names = ", ".join(SHELLS)
        raise NginyError(f'invalid option: "--completion {shell}", expected {names}')
    values = {
        "SIGNAL": tuple(SIGNALS_BY_NAME),
        "SHELL": tuple(SHELLS),
        "PROGRAM": tuple(READERS),
    }
    return render_completion(shell, parse_usage(USAGE), values)


def _import(arguments: Mapping[str, str]) -> int:
    """Turn another program's configuration into one for nginy, and report what differs."""
    strict = bool(arguments["--strict"])
    out = import_file(arguments["FILE"], arguments["-o"], arguments["--from"], is_strict=strict)
    if out.text:
        _print(out.text)
    for line in out.report:
        print(line, file=sys.stderr)
    return out.status


def _use(config: Config, arguments: Mapping[str, str]) -> int:
    """Carry out a command on a checked configuration; without options, serve it."""
    path = arguments["CONFIG"]
    if any(arguments[word] for word in COMMANDS):
        return _answer(config, arguments)
    if arguments["-t"] or arguments["-T"]:
        _warn(config)
        return _test(config, path, is_dump=bool(arguments["-T"]))
    if arguments["-s"]:
        if arguments["-s"] == "reload":
            return _reload(config, path)
        return _signal(_pid_path(config, path), arguments["-s"])
    _warn(config)
    _check_files(config)
    workers = config.workers or len(os.sched_getaffinity(0))
    if workers == 1:
        return single.run(config, path)
    # Most run one worker, which need not load the code for several.
    from nginy.process.workers import supervisor  # noqa: PLC0415

    return supervisor.run(config, path, workers)


def _answer(config: Config, arguments: Mapping[str, str]) -> int:
    """Answer a question about a configuration, or about the nginy that runs it."""
    path = arguments["CONFIG"]
    if arguments["plan"]:
        text = render_plan(_running(config, path, arguments["-c"]), config)
        lines = [] if arguments["-c"] else standing(config, path)
        return _show("".join([text, *(f"{line}\n" for line in lines)]))
    if arguments["explain"]:
        listener, client = arguments["LISTENER"], arguments["CLIENT"]
        return _show(explain(config, listener, client, arguments["FIRST"]))
    if arguments["check"]:
        asked = check(config, arguments["UPSTREAM"])
        _show(render_checks(asked, is_verbose=bool(arguments["--version"])))
        return 0 if all(each.is_fine for each in asked) else 1
    if arguments["sessions"] or arguments["top"] or arguments["trace"] or arguments["log"]:
        with contextlib.suppress(KeyboardInterrupt):  # how --follow ends
            all(_print(line) for line in _shown(config, arguments))
        return 0
    if not arguments["status"]:
        return _change(config, arguments)
    is_json, is_check = bool(arguments["--json"]), bool(arguments["--check"])
    code, text = status(config, path, is_json=is_json, is_check=is_check)
    _show(text)
    return code


def _shown(config: Config, arguments: Mapping[str, Any]) -> Iterator[str]:
    """Yield lines for as long as they come."""
    path = arguments["CONFIG"]
    if arguments["top"]:
        # Most commands, and a start, need none of its code.
        from nginy.commands.top.front import parse_wishes, top  # noqa: PLC0415

        return top(config, path, parse_wishes(arguments["-d"], is_ascii=bool(arguments["--ascii"])))
    if arguments["log"]:
        return iter([_log(config, arguments)])
    if arguments["trace"]:
        is_anonymous = bool(arguments["--anonymous"])
        wish = TraceWish(arguments["--for"], arguments["-o"], is_anonymous=is_anonymous)
        return iter([trace(config, path, wish)])
    choice = Choice(
        arguments["FILTER"],
        arguments["--top"],
        is_kill=bool(arguments["--kill"]),
        is_follow=bool(arguments["--follow"]),
    )
    return sessions(config, path, choice)


def _log(config: Config, arguments: Mapping[str, Any]) -> str:
    """Return lines of the error log, or set its level and return the level in effect."""
    path = arguments["CONFIG"]
    if arguments["--set"] is not None:
        return set_level(config, path, arguments["--set"], arguments["--for"])
    return log(config, path, arguments["--level"], arguments["--last"])


def _change(config: Config, arguments: Mapping[str, str]) -> int:
    """Have the nginy that runs a configuration reload it, or set a value of a backend."""
    if arguments["reload"]:
        return _reload(config, arguments["CONFIG"], is_dry=bool(arguments["--dry-run"]))
    values: dict[str, object] = {word: arguments[f"--{word}"] for word in ("for", "reason")}
    values = {word: value for word, value in values.items() if value is not None}
    if arguments["weight"]:
        number = arguments["NUMBER"]
        if not number.isascii() or not number.isdecimal():
            raise NginyError(f'weight "{number}" is not a whole number')
        values["weight"] = int(number)
    else:
        values["state"] = next(word for word in STATES if arguments[word])
    wish = Wish(arguments["BACKEND"], values, arguments["--wait"])
    code, text = drain(config, arguments["CONFIG"], wish)
    _show(text)
    return code


def _test(config: Config, path: str, *, is_dump: bool) -> int:
    """Check files and addresses, which a start needs as well; for -T show the configuration."""
    _tell(f"the configuration file {path} syntax is ok")
    _check_files(config)
    problems = [] if is_dump else binding_problems(config, path)
    if problems:
        raise NginyError("\n".join(problems))
    for validity in validities(config):
        _tell(str(validity))
    _tell(f"configuration file {path} test is successful")
    return _show(f"# configuration file {path}:\n{dump(config)}") if is_dump else 0


def _warn(config: Config) -> None:
    for warning in (*surprises(config), *rotation_warnings(config), *reading_warnings(config)):
        _tell(f"[warn] {warning}")


def _check_files(config: Config) -> None:
    """Raise ConfigError for files that a start could not use, while nothing is open yet."""
    problems = check_files(config)
    if problems:
        raise ConfigError(problems)


def _signal(pid_path: str, name: str) -> int:
    """Send a signal to the process whose id is in the pid file (ngx_signal_process)."""
    if name == "reload":
        return _tell_outcome(ask.reload(pid_path))
    if name in ask.TOLD:
        status, lines = ask.TOLD[name](pid_path)
        for line in lines:
            _tell(line)
        return status
    ask.send_signal(pid_path, SIGNALS_BY_NAME[name])
    return 0


def _pid_path(config: Config, path: str) -> str:
    """Return the path of the pid file."""
    if config.pid is None:
        raise NginyError(f'{path} sets no "pid" file, which -s needs to find the process')
    return config.pid


def _reload(config: Config, path: str, *, is_dry: bool = False) -> int:
    """Make the process that runs a configuration reload it, or say what a reload would do."""
    if is_dry:
        return _tell_outcome(ask.rehearse(config, path), is_dry=True)
    _pid_path(config, path)
    return _tell_outcome(ask.reload_by_request(config, path))


def _tell_outcome(outcome: ReloadOutcome, *, is_dry: bool = False) -> int:
    """Print the outcome of a reload; return the exit status."""
    for problem in outcome.problems:
        _tell(f"[emerg] {problem}")
    if outcome.problems:
        _tell("a reload would fail" if is_dry else "the running configuration has not changed")
        return 1
    for warning in outcome.warnings:
        _tell(f"[warn] {warning}")
    if outcome.needs_restart:
        _tell(f"[warn] needs a restart: {', '.join(outcome.needs_restart)}")
    return _show("\n".join(map(str, outcome.changes or ("nothing changes",))))


def _running(config: Config, path: str, other: str | None) -> Config:
    """Return the configuration to compare `config` with: a file, or that of the process in its pid
    file."""
    if other is not None:
        return load(other, os.environ)
    if config.pid is None:
        raise NginyError(f'{path} has no "pid" file; to compare it with another file, use -c FILE')
    try:
        read_running(config.pid)
    except NginyError as error:
        raise NginyError(f"{error}; to compare {path} with another file, use -c FILE") from None
    return load(text_path(config.pid), {})


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
    """Print to stdout; return the exit status."""
    _print(text)
    return 0


def _print(text: str) -> bool:
    """Print to stdout; return False if the reader has closed it (`| head`, a terminal that is
    gone), which is no error."""
    try:
        print(text, end="" if text.endswith("\n") else "\n", flush=True)
    except OSError as error:
        # Python flushes stdout again at exit, and would complain then.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if error.errno not in (errno.EPIPE, errno.EIO):
            text = f"standard output cannot be written: {error.strerror}"
            raise NginyError(text) from None
        return False
    return True
