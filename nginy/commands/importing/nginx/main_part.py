"""From main and `events` to the keys at the top of nginy.yml.

nginx's defaults that differ from nginy's are set here, too; those that are the same go again later
(tidy.py).

Tested in tests/commands/importing/nginx/test_table.py.
"""

from nginy.commands.importing.model import Block
from nginy.commands.importing.nginx.ledger import CloseError, LeftOutError
from nginy.commands.importing.nginx.logs import error_log, from_prefix
from nginy.commands.importing.nginx.reading import ConfReader, place
from nginy.commands.importing.nginx.scope import Scope, argument
from nginy.commands.importing.nginx.syntax import Directive
from nginy.commands.importing.nginx.table import MAIN
from nginy.commands.importing.nginx.values import duration_or_off, number
from nginy.config.node import quote

CONNECTIONS: str = "512"
"""nginx's default."""
FOREGROUND = "nginy stays in the foreground; let a service manager start it"


def read_main(reading: ConfReader, main: list[Directive]) -> None:
    """Set the keys at the top; place the comments of main."""
    ledger, top = reading.ledger, reading.document.top
    events = [each for directive in main for each in _events(directive)]
    scope = Scope([*main, *events], (), ledger)
    top.set("workers", "1")
    top.set("worker_connections", CONNECTIONS)
    top.set("worker_shutdown_timeout", "off")
    for name, key, read in (
        ("worker_processes", "workers", _workers),
        ("worker_connections", "worker_connections", lambda text: number(text, 1)),
        ("worker_shutdown_timeout", "worker_shutdown_timeout", duration_or_off),
        ("user", "user", lambda text: text),
        ("use", "event_method", _method),
    ):
        directive = scope.one(name)
        if directive is not None:
            with ledger.judging(directive):
                top.set(key, read(argument(directive)))
    pid = scope.one("pid")
    if pid is not None:
        is_off = argument(pid) == "off"
        top.set("pid", "off" if is_off else from_prefix(reading, pid, argument(pid)))
    reading.has_workers = top.values["workers"] != "1"
    log = scope.all("error_log")
    for other in log[1:]:
        ledger.left_out(other, "nginy has one error log; the messages go to the first")
    for directive in log[:1]:
        with ledger.judging(directive):
            top.set("error_log", error_log(reading, directive))
    for directive in main:
        with ledger.judging(directive):
            _judge(directive)
    foreign = [each for each in main if each.name in ("http", "mail")]
    last = Block()
    place(reading, last, foreign, MAIN)
    reading.document.end += last.end
    place(reading, top, [each for one in main for each in (one, *_events(one))], MAIN)


def _events(directive: Directive) -> list[Directive]:
    return (directive.block or []) if directive.name == "events" else []


def _workers(text: str) -> str:
    return text if text == "auto" else number(text, 1)


def _method(text: str) -> str:
    if text == "epoll":
        return "auto"
    if text not in ("poll", "select"):
        raise LeftOutError(f"nginy does not know {quote(text)} and waits with epoll")
    return text


def _judge(directive: Directive) -> None:
    """Judge directives that become nothing, or not quite the same."""
    word = argument(directive)
    if directive.name == "daemon" and word == "on":
        raise CloseError(FOREGROUND)
    if directive.name == "user" and len(directive.arguments) > 1 and word != directive.words[2]:
        raise CloseError(f"nginy takes the group of its user and not {quote(directive.words[2])}")
    if directive.name == "load_module" and "ngx_stream_module" not in word:
        what = "it is for http" if "_http_" in word else "what it adds is listed where it is used"
        raise LeftOutError(f"nginy has no modules; {what}")
