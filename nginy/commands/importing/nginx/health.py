"""nginx Plus's health_check and match, which are keys of an upstream in nginy.

nginx has them in a server, for the upstream that its proxy_pass names.

Tested in tests/commands/importing/nginx/test_table.py.
"""

from typing import Final

from nginy.commands.importing.model import Block, Value
from nginy.commands.importing.nginx.ledger import LeftOutError
from nginy.commands.importing.nginx.reading import ConfReader
from nginy.commands.importing.nginx.scope import Scope, argument, named
from nginy.commands.importing.nginx.syntax import Directive
from nginy.commands.importing.nginx.values import duration, number, time_ms
from nginy.config.node import quote

TIMEOUT: Final = "5s"
CHECK_DEFAULTS: Final = {"interval": "5s", "fails": "1", "passes": "1"}
"""nginx's; nginy has 5s, 3 and 2."""
EXPECT: Final = "nginy looks for the text at the beginning of the answer, nginx anywhere in it"


def set_health_check(
    reading: ConfReader, scope: Scope, listener: Block, matches: dict[str, Directive]
) -> None:
    """Set the health check of the upstream that a listener leads to."""
    directive = scope.one("health_check")
    if directive is None:
        return
    with reading.ledger.judging(directive):
        name = listener.text("proxy_pass")
        if not name or name.startswith("$"):
            raise LeftOutError("nginy checks the backends of an upstream that proxy_pass names")
        upstreams = reading.document.upstreams
        if name not in upstreams.values:
            backends: list[Value] = [Block({"address": name})]
            upstreams.set(name, Block({"backends": backends}))
        upstream = upstreams.values[name]
        if isinstance(upstream, Block):
            upstream.set("health_check", _check(reading, scope, directive, matches))


def _check(
    reading: ConfReader, scope: Scope, directive: Directive, matches: dict[str, Directive]
) -> Block:
    check = Block(dict(CHECK_DEFAULTS))
    timeout = scope.word("health_check_timeout", TIMEOUT)
    check.set("timeout", duration(timeout))
    for word in directive.arguments:
        name, _, value = word.partition("=")
        if name in ("interval", "jitter"):
            if time_ms(value):
                check.set(name, duration(value))
        elif name in ("fails", "passes", "port"):
            check.set(name, number(value, 1))
        elif word == "mandatory":
            check.set("initial", "down")
        elif word == "udp":
            check.set("type", "udp")
        elif name == "match" and value in matches:
            _match(reading, check, matches[value])
        else:
            reading.ledger.close(directive, f"nginy does not know {quote(word)} here")
    return check


def _match(reading: ConfReader, check: Block, match: Directive) -> None:
    """Set what is sent and what is expected."""
    for line in match.block or ():
        words = line.words[1:]
        if line.name == "send" and words:
            check.set("send", words[0])
        elif line.name == "expect" and words and words[0] in ("~", "~*") and len(words) > 1:
            flags = "(?i)" if words[0] == "~*" else ""
            check.set("expect", f"~{flags}{words[1]}")
        elif line.name == "expect" and words:
            check.set("expect", words[0])
            reading.ledger.close(match, EXPECT)
        else:
            reading.ledger.close(match, f"nginy does not know {quote(line.name)} here")


def read_matches(stream: list[Directive]) -> dict[str, Directive]:
    """Return the `match` blocks by their names."""
    return {argument(each): each for each in named(stream, "match")}


def set_session_drop(reading: ConfReader, scope: Scope, listener: Block) -> None:
    """End the sessions of a backend that goes down, as proxy_session_drop does."""
    directive = scope.one("proxy_session_drop")
    if directive is None or argument(directive) != "on":
        return
    upstream = reading.document.upstreams.values.get(listener.text("proxy_pass"))
    if not isinstance(upstream, Block):
        text = "nginy does so only for an upstream that proxy_pass names, so sessions go on"
        reading.ledger.left_out(directive, text)
        return
    upstream.set("on_down", "close")
    text = "nginy ends them when the backend goes down, not when it leaves the list"
    reading.ledger.close(directive, text)
