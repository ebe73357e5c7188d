"""From `server` blocks to listeners: their addresses, which clients may come, where they go.

Several servers with one address (`server_name`) become one listener: the default one's, with routes
to the others.

Tested in tests/commands/importing/nginx/test_table.py.
"""

from dataclasses import dataclass, field

from nginy.commands.importing.model import Block, one_or_list
from nginy.commands.importing.nginx.guards import (
    Zone,
    read_zones,
    set_access,
    set_header,
    set_limits,
)
from nginy.commands.importing.nginx.health import (
    read_matches,
    set_health_check,
    set_session_drop,
)
from nginy.commands.importing.nginx.ledger import LeftOutError
from nginy.commands.importing.nginx.listens import Listen, read_listen
from nginy.commands.importing.nginx.logs import (
    access_logs,
    error_log,
    format_name,
    read_formats,
)
from nginy.commands.importing.nginx.named_servers import join
from nginy.commands.importing.nginx.proxying import preread, set_proxy_keys
from nginy.commands.importing.nginx.reading import ConfReader, place
from nginy.commands.importing.nginx.scope import Scope, named
from nginy.commands.importing.nginx.syntax import Directive
from nginy.commands.importing.nginx.table import SERVER, STREAM
from nginy.commands.importing.nginx.targets import lead
from nginy.commands.importing.nginx.tls import proxy_tls, tls_of


@dataclass(slots=True)
class Parts:
    """What all servers of one nginx.conf share."""

    zones: dict[str, Zone]
    matches: dict[str, Directive]
    formats: set[str]
    inherited: list[Directive]
    """The directives of `stream` that servers inherit."""
    taken: dict[tuple[str, str], Block] = field(default_factory=dict)
    """The listener of each protocol and address so far."""


def read_servers(reading: ConfReader, stream: list[Directive]) -> None:
    """Set the listeners of the document, and place the comments of `stream`."""
    inherited = [each for each in stream if each.block is None]
    formats = read_formats(reading, stream)
    parts = Parts(read_zones(reading, stream), read_matches(stream), formats, inherited)
    logs = named(inherited, "access_log")
    if logs:
        reading.document.top.set("access_log", access_logs(reading, logs, formats))
        place(reading, reading.document.top, logs, STREAM)
    listeners = reading.document.listeners
    waiting: list[str] = []
    for server in named(stream, "server"):
        if server.block is None:
            reading.ledger.left_out(server, "it has no block")
            continue
        before = len(listeners)
        _server(reading, server, parts)
        made = listeners[before:]
        if made:
            made[0].comment(waiting)
            waiting = []
            place(reading, made[0], server.block, SERVER)
            place(reading, made[0], [server], "")
        elif not server.is_placed:
            scrap = Block()
            place(reading, scrap, [server, *server.block], "")
            waiting += [*scrap.above.get("", ()), *scrap.end]
    reading.document.end += waiting
    unplaced = [each for each in stream if each.name not in ("geo", "map", "split_clients")]
    if listeners:
        place(reading, listeners[0], unplaced, STREAM)


def _server(reading: ConfReader, server: Directive, parts: Parts) -> None:
    """Add the listeners of one server: one for all addresses with the same parameters."""
    scope = Scope(server.block or [], parts.inherited, reading.ledger)
    groups: dict[tuple[object, ...], list[Listen]] = {}
    for directive in scope.all("listen"):
        with reading.ledger.judging(directive):
            listen = read_listen(directive, reading.ledger)
            listen.is_ssl = listen.is_ssl or scope.is_on("ssl")
            groups.setdefault(listen.options, []).append(listen)
    if not groups:
        reading.ledger.left_out(server, "it listens nowhere")
    for listens in groups.values():
        try:
            block = _listener(reading, scope, listens, parts)
        except LeftOutError as error:
            reading.ledger.left_out(server, str(error))
            continue
        addresses = [(listens[0].protocol, each) for one in listens for each in one.addresses]
        first = next((parts.taken[each] for each in addresses if each in parts.taken), None)
        if first is None:
            reading.document.listeners.append(block)
            parts.taken.update((each, block) for each in addresses)
        else:
            join(reading, scope, server, first, block)


def _listener(reading: ConfReader, scope: Scope, listens: list[Listen], parts: Parts) -> Block:
    """Return one listener; raise LeftOutError if its clients can go nowhere."""
    block, first = Block(), listens[0]
    block.set("listen", one_or_list(address for each in listens for address in each.addresses))
    block.set("protocol", first.protocol)
    set_header(scope, block, first)
    set_access(reading, scope, block)
    set_limits(reading, scope, block, parts.zones)
    if first.is_ssl and not first.is_udp:
        block.set("tls", tls_of(reading, scope))
    preread(scope, block)
    lead(reading, scope, block)
    if (
        "routes" not in block.values and not block.text("proxy_pass").startswith("$")
    ) or first.is_udp:
        block.values.pop("preread", None)
    if not first.is_udp:
        if first.backlog:
            block.set("backlog", first.backlog)
        block.set("so_keepalive", first.keepalive)
        proxy_tls(reading, scope, block)
    set_proxy_keys(reading, scope, block, first.protocol)
    if "return" in block.values:
        _of_return(block)
    set_health_check(reading, scope, block, parts.matches)
    set_session_drop(reading, scope, block)
    _logs(reading, scope, block, parts)
    return block


def _of_return(block: Block) -> None:
    """Take out keys that mean nothing without a backend; proxy_timeout limits an answer, too."""
    for key in ("proxy_connect_timeout", "proxy_next_upstream", "proxy_protocol", "proxy_bind"):
        block.values.pop(key, None)


def _logs(reading: ConfReader, scope: Scope, block: Block, parts: Parts) -> None:
    """Set the logs of a listener; without an access_log of its own it inherits that at the top."""
    own = scope.all("access_log")
    if own and own[0] not in parts.inherited:
        block.set("access_log", access_logs(reading, own, parts.formats))
    _judge_names(reading, scope, block, own)
    for directive in scope.all("error_log")[:1]:
        with reading.ledger.judging(directive):
            block.set("error_log", error_log(reading, directive))
    for other in scope.all("error_log")[1:]:
        reading.ledger.left_out(other, "nginy has one error log for a listener")


def _judge_names(reading: ConfReader, scope: Scope, block: Block, logs: list[Directive]) -> None:
    """Say that a log cannot show the names that clients ask for: nginy does not read them."""
    looks = "routes" in block.values or block.text("proxy_pass").startswith("$")
    formats = reading.document.top.values.get("log_formats")
    if looks or not isinstance(formats, Block) or not scope.is_on("ssl_preread"):
        return
    for log in logs:
        name = format_name(log.words[2]) if len(log.words) > 2 else ""
        if "$ssl_preread_" in repr(formats.values.get(name)):
            text = "the log shows no names, as nginy looks for them only where a route needs them"
            reading.ledger.close(log, text)
