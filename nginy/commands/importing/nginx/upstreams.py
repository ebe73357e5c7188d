"""From `upstream` blocks to the groups of backends.

Tested in tests/commands/importing/nginx/test_table.py.
"""

from collections.abc import Callable, Mapping
from typing import Final

from nginy.commands.importing.model import Block, Value
from nginy.commands.importing.nginx.ledger import LeftOutError
from nginy.commands.importing.nginx.reading import ConfReader, place
from nginy.commands.importing.nginx.scope import argument, named
from nginy.commands.importing.nginx.syntax import Directive
from nginy.commands.importing.nginx.table import UPSTREAM
from nginy.commands.importing.nginx.values import duration, number, peer, time_ms
from nginy.config.node import quote
from nginy.config.record import NAME_PATTERN
from nginy.proxy.variables import KEY_VARIABLES
from nginy.text.units import format_duration

FLAGS: Final = frozenset({"backup", "down", "resolve"})
METHODS: Final = ("hash", "least_conn", "least_time", "random")


def _seconds(text: str) -> str:
    """Return a fail_timeout; nginx takes 0 for no window at all."""
    milliseconds = time_ms(text)
    if not milliseconds:
        raise LeftOutError("a fail_timeout of 0 becomes the default, 10s")
    return format_duration(milliseconds)


PARAMETERS: Final[Mapping[str, Callable[[str], str]]] = {
    "weight": lambda text: number(text, 1),
    "max_conns": number,
    "max_fails": number,
    "fail_timeout": _seconds,
    "slow_start": duration,
    "service": lambda text: text,
}


def read_upstreams(reading: ConfReader, stream: list[Directive]) -> None:
    """Set the upstreams of the document."""
    for directive in named(stream, "upstream"):
        name = argument(directive)
        if not NAME_PATTERN.fullmatch(name) or name in reading.document.upstreams.values:
            reading.ledger.left_out(directive, "it needs a name of its own, without quotes and $")
            continue
        block = _upstream(reading, directive)
        if block is not None:
            reading.document.upstreams.set(name, block)
            place(reading, block, directive.block or [], UPSTREAM)
            reading.document.upstreams.comment(directive.above, name)
            block.end += directive.end
            if directive.behind:
                reading.document.upstreams.behind[name] = directive.behind
            directive.is_placed = True


def _upstream(reading: ConfReader, directive: Directive) -> Block | None:
    block = Block()
    inner = directive.block or []
    methods = [each for each in inner if each.name in METHODS]
    for method in methods[:1]:
        with reading.ledger.judging(method):
            block.set("balance", _balance(reading, method))
    for other in methods[1:]:
        reading.ledger.left_out(other, "another method is already set")
    backends: list[Value] = []
    for server in named(inner, "server"):
        with reading.ledger.judging(server):
            backends.append(_backend(reading, server))
    if not backends:
        reading.ledger.left_out(directive, "it has no server, so nothing can lead there")
        return None
    block.set("backends", backends)
    if (
        reading.has_workers
        and not named(inner, "zone")
        and any(isinstance(each, Block) and "max_conns" in each.values for each in backends)
    ):
        text = "nginy counts max_conns over all workers, nginx without a zone in each of them"
        reading.ledger.close(directive, text)
        block.comment([f" {text}"])
    return block


def _backend(reading: ConfReader, server: Directive) -> Block:
    """Return one backend; comments stay with it."""
    backend = Block({"address": peer(argument(server))})
    for word in server.arguments[1:]:
        name, _, value = word.partition("=")
        if word in FLAGS:
            backend.set(word, "on")
        elif name in PARAMETERS and value:
            with reading.ledger.judging(server):
                backend.set(name, PARAMETERS[name](value))
        else:
            reading.ledger.close(server, f"nginy does not know {quote(word)} here")
    lines = list(server.above)
    entry = reading.ledger.entry(server)
    if not entry.is_exact:
        lines.append(f" {entry.directive}: {entry.text}")
    backend.comment(lines)
    if server.behind:
        backend.behind[""] = server.behind
    server.is_placed = True
    return backend


def _balance(reading: ConfReader, method: Directive) -> Value:
    """Return the value of balance."""
    words = method.arguments
    if method.name == "least_conn":
        return "least_conn"
    if method.name == "random":
        if words and words[1:] not in ([], ["least_conn"]):
            text = "of two random backends, nginy takes the one with fewer sessions"
            reading.ledger.close(method, text)
        return Block({"random": "two"}) if words else "random"
    if method.name == "least_time":
        if not words or words[0] not in ("connect", "first_byte", "last_byte"):
            raise LeftOutError("it names no time, so the backends take turns")
        if len(words) > 1:
            reading.ledger.close(method, f"nginy does not know {quote(words[1])} here")
        return Block({"least_time": words[0]})
    return _hash(reading, words)


def _hash(reading: ConfReader, words: list[str]) -> Block:
    if not words:
        raise LeftOutError("it has no key, so the backends take turns")
    try:
        key = reading.definitions.text(words[0], KEY_VARIABLES)
    except LeftOutError as error:
        raise LeftOutError(f"{error}, so the backends take turns") from None
    balance = Block({"hash": key})
    if words[1:2] == ["consistent"]:
        balance.set("consistent", "on")
    return balance
