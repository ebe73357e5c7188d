"""From a checked configuration to the objects that serve: pools, handlers, listening options.

Only this module knows both the language (`config/schema.py`) and the packages below it, so neither
needs to know the other. Each function turns one part of the configuration into one value or
object; none binds an address, opens a file or registers anything. `process/server.py` does that, at
the start and at a reload.

nginx: the `..._create_conf` and `..._merge_conf` functions of its modules, and `ngx_stream.c`.
"""

import random
import resource
from collections.abc import Callable, Sequence

from nginy.backend.backend import Backend, BackendSettings
from nginy.backend.names.members import Balancing
from nginy.backend.names.resolver import ResolverSettings
from nginy.backend.pool import BackendPool, MakeBalancer
from nginy.backend.waiting import QueueSettings
from nginy.balancer.hashing import Hash
from nginy.balancer.least import LeastConn, LeastTime
from nginy.balancer.maglev import Maglev
from nginy.balancer.peer import Balancer
from nginy.balancer.pick_random import PickRandom
from nginy.balancer.rendezvous import Rendezvous
from nginy.balancer.ring import BoundedRing, Ring
from nginy.balancer.round_robin import RoundRobin
from nginy.config import phases as limit_keys
from nginy.config import schema
from nginy.config import upstream as upstream_keys
from nginy.config.balance import Balance
from nginy.config.bind import ProxyBind
from nginy.config.building.health import proxy_protocols_of
from nginy.config.health import HealthCheck
from nginy.config.keepalive import SoKeepalive
from nginy.config.resolver import Resolver
from nginy.event.bind import KeepAlive, ListenOptions
from nginy.event.datagram import DatagramHandler
from nginy.log.levels import LEVELS
from nginy.proxy.handler import ProtocolHandler, ProxySettings
from nginy.proxy.local_end import LocalEnd, transparent
from nginy.proxy.originating import UpstreamTls
from nginy.proxy.phases.limiting import Key, LimitConn, LimitConnRate, Zones
from nginy.proxy.phases.phase import AccessPhase, Phase, Phases
from nginy.proxy.phases.real_address import RealAddress
from nginy.proxy.udp.handler import UdpHandler
from nginy.proxy.udp.header import HeaderReader
from nginy.text.address import Address

MAX_SESSIONS_SHARE = 0.7
"""The share of the descriptor limit for UDP sessions, unless `max_sessions` says otherwise.

The rest is for TCP, listeners and logs."""


def backend_settings(backend: upstream_keys.Backend) -> BackendSettings:
    """Return the settings of one backend of an upstream."""
    return BackendSettings(
        name=backend.address.name,
        address=backend.address,
        weight=backend.weight,
        max_conns=backend.max_conns,
        max_fails=backend.max_fails,
        fail_timeout_s=backend.fail_timeout_ms // 1000,
        backup=backend.backup,
        down=backend.down,
        proxy_protocol=backend.proxy_protocol,
        slow_start_ms=backend.slow_start_ms,
        resolve=backend.resolve,
        service=backend.service or "",
    )


def balancer_maker(balance: Balance, rng: random.Random) -> MakeBalancer:
    """Return the factory that makes a method's balancer for a list of backends."""

    def bounded(backends: Sequence[Backend]) -> Balancer[Backend]:
        return BoundedRing(backends, balance.bounded_load or 1.0)

    def least_time(backends: Sequence[Backend]) -> Balancer[Backend]:
        return LeastTime(backends, lambda backend: backend.average_ms)

    def pick_random(backends: Sequence[Backend]) -> Balancer[Backend]:
        return PickRandom(backends, rng, two=balance.argument == "two")

    hash_balancer: MakeBalancer = Ring if balance.consistent else Hash
    if balance.bounded_load is not None:
        hash_balancer = bounded
    makers: dict[str, MakeBalancer] = {
        "round_robin": RoundRobin,
        "least_conn": LeastConn,
        "least_time": least_time,
        "random": pick_random,
        "hash": hash_balancer,
        "maglev": Maglev,
        "rendezvous": Rendezvous,
    }
    return makers[balance.method]


def balancing(balance: Balance, rng: random.Random) -> Balancing:
    """Return how an upstream's pool chooses."""
    return Balancing(balancer_maker(balance, rng), balance.key, balance.measured)


def nobody() -> BackendPool:
    """Return a pool without backends."""
    return BackendPool("", (), RoundRobin)


def proxy_protocol_of(listeners: Sequence[schema.Listener], check: HealthCheck | None) -> str:
    """Return the PROXY header that the checks of an upstream send: the one that all its listeners
    send; "off" if they differ."""
    versions = proxy_protocols_of(listeners, check)
    return versions.pop() if len(versions) == 1 else "off"


def queue_settings(queue: upstream_keys.Queue | None) -> QueueSettings | None:
    """Return how clients wait for a backend of an upstream; None if they do not wait."""
    return None if queue is None else QueueSettings(queue.size, queue.timeout_ms)


def resolver_settings(resolver: Resolver) -> ResolverSettings:
    """Return how names become addresses."""
    return ResolverSettings(
        nameservers=resolver.nameservers,
        timeout_ms=resolver.timeout_ms,
        valid_ms=resolver.valid_ms,
        hold_ms=resolver.hold_ms,
        ipv6=resolver.ipv6,
    )


def auto_max_sessions(config: schema.Config) -> int:
    """Return the value of `max_sessions: auto`: an equal share for each UDP address."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    sharing = sum(len(udp.listen) for udp in config.listeners if udp.protocol == "udp")
    return int(limit * MAX_SESSIONS_SHARE) // max(sharing, 1)


def proxy_settings(
    listener: schema.Listener, auto_sessions: int, tls: UpstreamTls | None = None
) -> ProxySettings:
    """Return the settings of a listener's sessions."""
    next_upstream = listener.proxy_next_upstream
    max_sessions = listener.max_sessions
    if max_sessions is None:
        max_sessions = auto_sessions
    return ProxySettings(
        connect_timeout_ms=listener.proxy_connect_timeout_ms,
        timeout_ms=listener.proxy_timeout_ms,
        drain_timeout_ms=listener.proxy_drain_timeout_ms,
        half_close=listener.proxy_half_close,
        half_close_timeout_ms=listener.proxy_half_close_timeout_ms,
        next_upstream=next_upstream is not None,
        next_upstream_tries=next_upstream.tries if next_upstream is not None else 0,
        next_upstream_timeout_ms=next_upstream.timeout_ms if next_upstream is not None else None,
        buffer_size=listener.proxy_buffer_size_bytes,
        splice=listener.proxy_splice,
        bind=fixed_bind(listener.proxy_bind),
        proxy_protocol=listener.proxy_protocol,
        pass_tlvs=listener.pass_tlvs,
        upload_rate=listener.proxy_upload_rate_bytes or 0,
        download_rate=listener.proxy_download_rate_bytes or 0,
        tls=tls,
        tcp_nodelay=listener.tcp_nodelay,
        socket_keepalive=listener.proxy_socket_keepalive,
        requests=listener.proxy_requests,
        responses=listener.proxy_responses,
        max_sessions=max_sessions,
        udp_offload=listener.udp_offload,
    )


def phases(
    listener: schema.Listener,
    zones: Zones,
    compile_key: Callable[[str], Key],
    tls: Phase | None = None,
    routes: Phase | None = None,
) -> Phases:
    """Return what a listener's clients pass before their content, in nginx's order."""
    found: list[Phase] = []
    accepted = listener.accept_proxy_protocol
    if accepted is not None and listener.protocol == "tcp":
        accepts_others = accepted.others == "plain"
        found.append(RealAddress(accepted.from_.table, accepts_others, accepted.timeout_ms))
    for limit in listener.limit_conn:
        zone = zone_name(listener, limit)
        counts = zones.counts(zone, limit.max_keys)
        compiled, level = compile_key(limit.key_), LEVELS[limit.log_level]
        found.append(LimitConn(compiled, counts, limit.max, zone, limit.dry_run, level))
    rate = listener.limit_conn_rate
    if rate is not None:
        zone = zone_name(listener, rate)
        rates = zones.rates(zone, rate.rate, rate.burst, rate.max_keys)
        compiled, level = compile_key(rate.key_), LEVELS[rate.log_level]
        found.append(LimitConnRate(compiled, rates, rate.rate, zone, rate.dry_run, level))
    if listener.access is not None:
        found.append(AccessPhase(listener.access.table))
    if routes is not None:
        found.append(routes)
    if tls is not None:
        found.append(tls)
    return tuple(found)


def fixed_bind(bind: ProxyBind | None) -> Address | None:
    """Return the one address from which sessions connect to backends; None if there is none."""
    if bind is None or isinstance(bind.address, str):
        return None
    return transparent(bind.address) if bind.transparent else bind.address


def local_end(bind: ProxyBind | None, compile_key: Callable[[str], Key]) -> LocalEnd | None:
    """Return the function that computes the local address of a session; None if all share one."""
    if bind is None or not isinstance(bind.address, str):
        return None
    return LocalEnd(compile_key(bind.address), is_transparent=bind.transparent)


def datagram_handler(listener: schema.Listener, handler: ProtocolHandler) -> DatagramHandler:
    """Return the receiver of a UDP listener's datagrams: its handler, or a reader of headers."""
    accepted = listener.accept_proxy_protocol
    if accepted is None or not isinstance(handler, UdpHandler):
        return handler.datagram_handler
    return HeaderReader(
        handler,
        accepted.from_.table,
        accepts_others=accepted.others == "plain",
        is_standalone=accepted.standalone,
    ).datagram_handler


def zone_name(
    listener: schema.Listener, limit: limit_keys.LimitConn | limit_keys.LimitConnRate
) -> str:
    """Return a limit's zone; without a name it is the listener's own, for this key."""
    return limit.zone or f"{listener.name or listener.listen[0]} {limit.key_}"


def listen_options(listener: schema.Listener) -> tuple[ListenOptions, ...]:
    """Return the socket options of a listener, one value for each of its addresses."""
    # A UDP listener has no such key, and its socket no such option.
    keepalive = listener.so_keepalive if listener.protocol == "tcp" else None
    return tuple(
        ListenOptions(
            address=address,
            udp=listener.protocol == "udp",
            backlog=listener.backlog,
            nodelay=listener.tcp_nodelay,
            freebind=listener.freebind,
            keepalive=None if keepalive is None else keep_alive(keepalive),
        )
        for address in listener.listen
    )


def keep_alive(keepalive: SoKeepalive) -> KeepAlive:
    """Return TCP keep-alive's times in the kernel's unit."""
    idle_ms, interval_ms = keepalive.idle_ms, keepalive.interval_ms
    return KeepAlive(
        idle_s=None if idle_ms is None else idle_ms // 1000,
        interval_s=None if interval_ms is None else interval_ms // 1000,
        count=keepalive.count,
    )


def listener_name(listener: schema.Listener, options: ListenOptions) -> str:
    """Return a listener's name for logs and counters: its own, or the address."""
    return listener.name or str(options.address)
