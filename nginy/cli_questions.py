"""The command lines that do not serve: pages, signals, questions, changes.

-s finds the running process by its pid file, as nginx's does. Pages and answers go to stdout, for a
pager or a file. A new command is a line of USAGE (commands/printed/help.py) and one function here.

A start needs none of this, so cli.py imports it when something else was typed.
"""

import contextlib
import os
import platform
import signal
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

import yaml

from nginy import __version__
from nginy.commands.check import check, render_checks
from nginy.commands.explain import explain
from nginy.commands.plan import render_plan
from nginy.commands.printed.completion import SHELLS, render_completion
from nginy.commands.printed.help import USAGE
from nginy.commands.printed.manual import render_manual
from nginy.commands.printed.reference import render_reference
from nginy.commands.printed.usage import mistake, parse_usage
from nginy.commands.running.drain import STATES, Wish, drain
from nginy.commands.running.interface import Interface, interface_at, interface_of
from nginy.commands.running.log import log, set_level
from nginy.commands.running.sessions import Choice, sessions
from nginy.commands.running.status import status
from nginy.commands.running.trace import TraceWish, trace
from nginy.commands.standing import standing
from nginy.config.load import load, service_pid_file
from nginy.config.node import closest, did_you_mean
from nginy.config.schema import Config
from nginy.errors import NginyError
from nginy.printing import print_error, print_text, show, tell
from nginy.process import ask
from nginy.process.pidfile import read_running, text_path
from nginy.process.report import ReloadOutcome

SIGNALS_BY_NAME: Final = {
    "stop": signal.SIGTERM,
    "quit": signal.SIGQUIT,
    "reload": signal.SIGHUP,
    "reopen": signal.SIGUSR1,
    "upgrade": signal.SIGUSR2,
}


def say_what_was_meant(typed: Sequence[str]) -> None:
    """Say what is wrong with a command line that nginy does not know."""
    tell(mistake(USAGE, typed, SIGNALS_BY_NAME))


def answer(arguments: Mapping[str, Any]) -> int:
    """Carry out the command; options about nginy itself need no configuration."""
    page = _page(arguments)
    if page is not None:
        return show(page)
    if arguments["import"]:
        return _import(arguments)
    if (arguments["--version"] and not arguments["check"]) or arguments["-V"]:
        print_error(_version(in_full=bool(arguments["-V"])))
        return 0
    if arguments["-a"] is not None:
        return _answer_at(arguments)
    path = arguments["CONFIG"]
    environ = ask.service_environ(os.environ, path)
    if arguments["-s"] is not None:
        return _send(arguments["-s"], path, environ)
    return _answer(load(path, environ), arguments)


def _send(name: str, path: str, environ: Mapping[str, str]) -> int:
    """Send the nginy that runs a configuration a signal, and print the outcome."""
    if name not in SIGNALS_BY_NAME:
        hint = did_you_mean(closest(name, SIGNALS_BY_NAME))
        expected = ", ".join(SIGNALS_BY_NAME)
        raise NginyError(f'invalid option: "-s {name}", expected {expected}{hint}')
    pid_path = service_pid_file(environ)
    if pid_path is not None and os.path.exists(pid_path):
        # The process itself reports a bad file, so the status of the service shows it, too.
        return _signal(pid_path, name)
    config = load(path, environ)
    return _reload(config, path) if name == "reload" else _signal(_pid_path(config, path), name)


def _page(arguments: Mapping[str, str]) -> str | None:
    """Return the text about nginy itself that an option asks for, or None."""
    if arguments["--help"]:
        return USAGE
    if arguments["--help-config"]:
        return render_reference()
    if arguments["--man"]:
        return render_manual(parse_usage(USAGE), render_reference(), __version__)
    shell = arguments["--completion"]
    return None if shell is None else _completion(shell)


def _completion(shell: str) -> str:
    """Return the completion script for a shell."""
    from nginy.commands.importing.front import READERS  # noqa: PLC0415

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
    from nginy.commands.importing.front import import_file  # noqa: PLC0415

    strict = bool(arguments["--strict"])
    out = import_file(arguments["FILE"], arguments["-o"], arguments["--from"], is_strict=strict)
    if out.text:
        print_text(out.text)
    for line in out.report:
        print_error(line)
    return out.status


def _answer(config: Config, arguments: Mapping[str, str]) -> int:
    """Answer a question about a configuration, or about the nginy that runs it."""
    path = arguments["CONFIG"]
    if arguments["plan"]:
        text = render_plan(_running(config, path, arguments["-c"]), config)
        lines = [] if arguments["-c"] else standing(config, path)
        return show("".join([text, *(f"{line}\n" for line in lines)]))
    if arguments["explain"]:
        listener, client = arguments["LISTENER"], arguments["CLIENT"]
        return show(explain(config, listener, client, arguments["FIRST"]))
    if arguments["check"]:
        asked = check(config, arguments["UPSTREAM"])
        show(render_checks(asked, is_verbose=bool(arguments["--version"])))
        return 0 if all(each.is_fine for each in asked) else 1
    if arguments["reload"] and not arguments["--dry-run"]:
        return _reload(config, path)
    return _ask(interface_of(config, path), arguments)


def _answer_at(arguments: Mapping[str, Any]) -> int:
    """Ask the nginy at the address behind -a; a configuration only helps with that."""
    path, filters = arguments["CONFIG"], arguments["FILTER"]
    if arguments["sessions"] and path is not None and "=" in path:
        path, filters = None, [path, *filters]
    config = None if path is None else load(path, os.environ)
    return _ask(interface_at(arguments["-a"], config), {**arguments, "FILTER": filters})


def _ask(interface: Interface, arguments: Mapping[str, Any]) -> int:
    """Ask a running nginy, or make it change something."""
    if arguments["sessions"] or arguments["top"] or arguments["trace"] or arguments["log"]:
        with contextlib.suppress(KeyboardInterrupt):  # how --follow ends
            all(print_text(line) for line in _shown(interface, arguments))
        return 0
    if not arguments["status"]:
        return _change(interface, arguments)
    is_json, is_check = bool(arguments["--json"]), bool(arguments["--check"])
    code, text = status(interface, is_json=is_json, is_check=is_check)
    show(text)
    return code


def _shown(interface: Interface, arguments: Mapping[str, Any]) -> Iterator[str]:
    """Yield lines for as long as they come."""
    if arguments["top"]:
        # Most commands, and a start, need none of its code.
        from nginy.commands.top.front import parse_wishes, top  # noqa: PLC0415

        return top(interface, parse_wishes(arguments["-d"], is_ascii=bool(arguments["--ascii"])))
    if arguments["log"]:
        return iter([_log(interface, arguments)])
    if arguments["trace"]:
        is_anonymous = bool(arguments["--anonymous"])
        wish = TraceWish(arguments["--for"], arguments["-o"], is_anonymous=is_anonymous)
        return iter([trace(interface, wish)])
    choice = Choice(
        arguments["FILTER"],
        arguments["--top"],
        is_kill=bool(arguments["--kill"]),
        is_follow=bool(arguments["--follow"]),
    )
    return sessions(interface, choice)


def _log(interface: Interface, arguments: Mapping[str, Any]) -> str:
    """Return lines of the error log, or set its level and return the level in effect."""
    if arguments["--set"] is not None:
        return set_level(interface, arguments["--set"], arguments["--for"])
    return log(interface, arguments["--level"], arguments["--last"])


def _change(interface: Interface, arguments: Mapping[str, str]) -> int:
    """Make nginy reload its configuration, or set a value of a backend."""
    if arguments["reload"]:
        is_dry = bool(arguments["--dry-run"])
        return _tell_outcome(ask.reload_at(interface, is_dry=is_dry), is_dry=is_dry)
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
    code, text = drain(interface, wish)
    show(text)
    return code


def _signal(pid_path: str, name: str) -> int:
    """Send a signal to the process whose id is in the pid file (ngx_signal_process)."""
    if name == "reload":
        return _tell_outcome(ask.reload(pid_path))
    if name in ask.TOLD:
        status, lines = ask.TOLD[name](pid_path)
        for line in lines:
            tell(line)
        return status
    ask.send_signal(pid_path, SIGNALS_BY_NAME[name])
    return 0


def _pid_path(config: Config, path: str) -> str:
    """Return the path of the pid file."""
    if config.pid is None:
        raise NginyError(f'{path} sets no "pid" file, which -s needs to find the process')
    return config.pid


def _reload(config: Config, path: str) -> int:
    """Make the process that runs a configuration reload it."""
    _pid_path(config, path)
    return _tell_outcome(ask.reload_by_request(config, path))


def _tell_outcome(outcome: ReloadOutcome, *, is_dry: bool = False) -> int:
    """Print the outcome of a reload; return the exit status."""
    for problem in outcome.problems:
        tell(f"[emerg] {problem}")
    if outcome.problems:
        tell("a reload would fail" if is_dry else "the running configuration has not changed")
        return 1
    for warning in outcome.warnings:
        tell(f"[warn] {warning}")
    if outcome.needs_restart:
        tell(f"[warn] needs a restart: {', '.join(outcome.needs_restart)}")
    return show("\n".join(map(str, outcome.changes or ("nothing changes",))))


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
