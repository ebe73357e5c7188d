"""From `server` blocks to listeners: which addresses, who may come, where clients go, and how.

Tested in tests/commands/importing/nginx/test_table.py.
"""

from nginy.commands.importing.model import Block, Value
from nginy.commands.importing.nginx.guards import (
    Zone,
    read_zones,
    set_access,
    set_header,
    set_limits,
)
from nginy.commands.importing.nginx.ledger import LeftOutError
from nginy.commands.importing.nginx.listens import Listen, read_listen
from nginy.commands.importing.nginx.proxying import set_proxy_keys
from nginy.commands.importing.nginx.reading import Reading, place
from nginy.commands.importing.nginx.scope import Scope, argument, named
from nginy.commands.importing.nginx.syntax import Directive
from nginy.commands.importing.nginx.table import SERVER, STREAM
from nginy.commands.importing.nginx.values import peer, variables
from nginy.proxy.variables import KEY_VARIABLES

NOT_YET = (
    *("access_log", "geo", "health_check", "health_check_timeout", "log_format", "map", "match"),
    *("pass", "proxy_session_drop", "proxy_ssl", "resolver", "server_name", "set"),
    *("split_clients", "ssl_certificate", "ssl_verify_client"),
)


def read_servers(reading: Reading, stream: list[Directive]) -> None:
    """Set the listeners of the document, and place the comments of `stream`."""
    zones = read_zones(reading, stream, frozenset())
    servers = named(stream, "server")
    made: list[Block] = []
    for server in servers:
        for each in (*stream, *(server.block or [])):
            if each.name in NOT_YET:
                reading.ledger.left_out(each, "it is not imported yet")
        scope = Scope(server.block or [], [e for e in stream if e.block is None], reading.ledger)
        blocks = _listeners(reading, server, scope, zones)
        for block in blocks[:1]:
            place(reading, block, server.block or [], SERVER)
            block.comment(server.above)
            block.end += server.end
            server.is_placed = True
        made += blocks
    if made:
        place(reading, made[0], [each for each in stream if each.block is None], STREAM)
    reading.document.listeners += made


def _listeners(
    reading: Reading, server: Directive, scope: Scope, zones: dict[str, Zone]
) -> list[Block]:
    """Return the listeners of one server: one for all addresses with the same parameters."""
    groups: dict[tuple[object, ...], list[Listen]] = {}
    for directive in scope.all("listen"):
        with reading.ledger.judging(directive):
            listen = read_listen(directive, reading.ledger)
            groups.setdefault(listen.options, []).append(listen)
    if not groups:
        reading.ledger.left_out(server, "it listens nowhere")
    blocks = []
    for listens in groups.values():
        block = Block()
        first = listens[0]
        addresses: list[Value] = [address for each in listens for address in each.addresses]
        block.set("listen", addresses if len(addresses) > 1 else addresses[0])
        block.set("protocol", first.protocol)
        try:
            _lead(reading, server, scope, block)
        except LeftOutError as error:
            reading.ledger.left_out(server, str(error))
            continue
        if first.backlog and not first.is_udp:
            block.set("backlog", first.backlog)
        if not first.is_udp:
            block.set("so_keepalive", first.keepalive)
        set_header(scope, block, first)
        set_access(reading, scope, block)
        set_limits(reading, scope, block, zones)
        set_proxy_keys(scope, block, first.protocol)
        blocks.append(block)
    return blocks


def _lead(reading: Reading, server: Directive, scope: Scope, block: Block) -> None:
    """Set where the clients of a listener go; raise LeftOutError if they go nowhere."""
    directive = scope.one("proxy_pass")
    if directive is not None:
        text = argument(directive)
        if text not in reading.document.upstreams.values:
            text = peer(text)
        block.set("proxy_pass", text)
        return
    directive = scope.one("return")
    if directive is None:
        raise LeftOutError("it has neither proxy_pass nor return, so nobody can connect")
    block.set("return", variables(argument(directive), (), KEY_VARIABLES))
