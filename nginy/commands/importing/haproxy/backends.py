"""A backend, or the servers of a `listen` section, as an upstream.

Source: HAProxy's configuration manual, "option allbackups", 5.2 "maxconn", "track".

Tested in tests/commands/importing/haproxy/test_reader.py.
"""

import copy
from typing import Final

from nginy.commands.importing.haproxy.balance import BalanceReader
from nginy.commands.importing.haproxy.checks import CheckReader, time_of
from nginy.commands.importing.haproxy.sections import Proxy
from nginy.commands.importing.haproxy.servers import Server, option_lines, read_servers
from nginy.commands.importing.haproxy.values import number, written
from nginy.commands.importing.haproxy.world import Back, World
from nginy.commands.importing.model import Block, Value
from nginy.errors import InvalidValueError

QUEUE_SIZE: Final = 16384
"""HAProxy's queue has no end; this many wait if neither the queue nor the process is limited."""
LONG_WAIT_MS: Final = 86_400_000
KEYS: Final = ("balance", "backends", "health_check", "agent_check", "queue", "on_down")


def read_back(proxy: Proxy, world: World) -> Back:
    """Return a proxy's servers and its upstream, which goes into the document."""
    servers = read_servers(proxy, world.ledger)
    if not servers:
        return Back(proxy)
    upstream = Block()
    BalanceReader(proxy, servers, world.ledger).read(upstream)
    upstream.set("backends", list[Value](server.block for server in servers))
    CheckReader(proxy, servers, world.ledger).read(upstream, world.settings.spread_percent)
    _backups(proxy, servers, world)
    _queue(proxy, servers, upstream, world)
    for server in servers:
        for name in ("send-proxy", "send-proxy-v2"):
            if server.has(name) and server.has("check") and server.has("port", "addr"):
                text = "nginy's checks of a backend with proxy_protocol send a header"
                world.ledger.close(server.line, text)
    upstream.values = {key: upstream.values[key] for key in KEYS if key in upstream.values}
    world.document.upstreams.set(proxy.name, upstream)
    world.ledger.place(proxy.section.head, world.document.upstreams, proxy.name)
    return Back(proxy, servers, upstream)


def _backups(proxy: Proxy, servers: list[Server], world: World) -> None:
    """Judge backups: HAProxy uses only the first one, unless the option asks for all."""
    backups = [server for server in servers if server.is_backup]
    option = proxy.get("option allbackups")
    world.ledger.exact(option)
    if len(backups) == len(servers):
        wanted = backups if option is not None else backups[:1]
        for server in wanted:
            server.block.values.pop("backup", None)
    elif option is None:
        for server in backups[1:]:
            text = "all backups share the clients; in HAProxy only the first one that is up serves"
            world.ledger.close(server.line, text)


def _queue(proxy: Proxy, servers: list[Server], upstream: Block, world: World) -> None:
    """Write where clients wait while all servers have their maxconn."""
    limited = [server for server in servers if server.value("maxconn") not in ("", "0")]
    line = proxy.get("timeout queue") or proxy.get("timeout connect")
    world.ledger.exact(proxy.get("timeout queue"), upstream, "queue")
    if not limited:
        return
    wait_ms = time_of(line)
    if not wait_ms:
        text = "maxconn: a client waits in the queue for at most a day, not forever"
        world.ledger.close(limited[0].line, text)
    size = world.settings.max_sessions or QUEUE_SIZE
    sizes = [server.value("maxqueue") for server in limited]
    if all(each not in ("", "0") for each in sizes):
        try:
            size = sum(number(each, 1) for each in sizes)
        except InvalidValueError as error:
            world.ledger.left_out(limited[0].line, f"maxqueue: {error.clause}")
        text = "maxqueue: the upstream has one queue; in HAProxy each server has one, too"
        for each in option_lines(limited, "maxqueue"):
            world.ledger.close(each, text)
    upstream.set("queue", Block({"size": str(size), "timeout": written(wait_ms or LONG_WAIT_MS)}))


def follow_tracks(world: World) -> None:
    """Copy checks to upstreams whose servers track those of others."""
    for back in world.backs.values():
        for server in back.servers:
            if not server.has("track") or back.upstream is None:
                continue
            where, _, name = server.value("track").rpartition("/")
            other = world.backs.get(where or back.proxy.name)
            tracked = [each for each in (other.servers if other else ()) if each.name == name]
            health = other.upstream.values.get("health_check") if other and other.upstream else None
            if not tracked or health is None or other is back:
                if other is not back:
                    text = "track: the server that it names is not checked here"
                    world.ledger.left_out(server.line, text)
            elif tracked[0].place != server.place:
                text = "track: nginy checks this backend itself, not the one that it tracks"
                world.ledger.close(server.line, text)
                back.upstream.default("health_check", copy.deepcopy(health))
            else:
                back.upstream.default("health_check", copy.deepcopy(health))
