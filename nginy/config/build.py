"""From a checked configuration to the objects that serve: pools, handlers, listening options.

The one place that knows both sides, the language (`config/schema.py`) and the packages below, so
neither has to know the other. Each function turns one part of the configuration into one value or
object; none binds an address, opens a file or registers anything. Doing that, at the start and
when the configuration is read anew, is `server.py`.

nginx: the `..._create_conf` and `..._merge_conf` functions of its modules, and `ngx_stream.c`.
"""

import random
import resource
from collections.abc import Sequence

from nginy.backend.backend import Backend, BackendSettings
from nginy.backend.pool import BackendPool, MakeBalancer
from nginy.balancer.hashing import Hash
from nginy.balancer.least import LeastConn
from nginy.balancer.peer import Balancer
from nginy.balancer.pick_random import PickRandom
from nginy.balancer.ring import Ring
from nginy.balancer.round_robin import RoundRobin
from nginy.config import schema
from nginy.config.balance import Balance
from nginy.event.listener import KeepAlive, ListenOptions
from nginy.proxy.handler import ProxySettings

MAX_SESSIONS_SHARE = 0.7
"""Of the descriptor limit, for the UDP sessions of a listener unless `max_sessions` says otherwise.

The rest is for TCP, listeners and logs."""


def backend_settings(backend: schema.Backend) -> BackendSettings:
    """Return what one backend of an upstream is configured to be."""
    return BackendSettings(
        name=backend.address.name,
        address=backend.address,
        weight=backend.weight,
        max_conns=backend.max_conns,
        max_fails=backend.max_fails,
        fail_timeout_s=backend.fail_timeout_ms // 1000,
        backup=backend.backup,
        down=backend.down,
        slow_start_ms=backend.slow_start_ms,
    )


def balancer_maker(balance: Balance, rng: random.Random) -> MakeBalancer:
    """Return what makes the balancer of a method for a list of backends."""

    def make(backends: Sequence[Backend]) -> Balancer[Backend]:
        if balance.method == "least_conn":
            return LeastConn(backends)
        if balance.method == "random":
            return PickRandom(backends, rng, two=balance.argument == "two")
        if balance.method == "hash":
            return Ring(backends) if balance.consistent else Hash(backends)
        return RoundRobin(backends)

    return make


def hash_key(balance: Balance) -> str:
    """Return the text with variables that the method hashes, "" for methods that hash nothing."""
    return balance.argument if balance.method == "hash" else ""


def apply_upstream(
    pool: BackendPool | None,
    name: str,
    upstream: schema.Upstream,
    rng: random.Random,
) -> BackendPool:
    """Return the pool of an upstream: a new one, or `pool` changed in place.

    A backend that was in the pool before, under the same name, stays the same object and keeps its
    counts, its failures and its place in the round.
    """
    known = {backend.name: backend for backend in pool.backends} if pool is not None else {}
    backends = []
    for settings in map(backend_settings, upstream.backends):
        backend = known.pop(settings.name, None)
        if backend is None:
            backend = Backend(settings)
        elif backend.settings != settings:
            backend.apply(settings)
        backends.append(backend)
    make = balancer_maker(upstream.balance, rng)
    key = hash_key(upstream.balance)
    if pool is None:
        return BackendPool(name, backends, make, key)
    pool.key = key
    pool.rebuild(backends, make)
    return pool


def proxy_settings(listener: schema.Listener) -> ProxySettings:
    """Return how the sessions of a listener are treated."""
    next_upstream = listener.proxy_next_upstream
    max_sessions = listener.max_sessions
    if max_sessions is None:
        limit, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
        max_sessions = int(limit * MAX_SESSIONS_SHARE)
    return ProxySettings(
        connect_timeout_ms=listener.proxy_connect_timeout_ms,
        timeout_ms=listener.proxy_timeout_ms,
        half_close=listener.proxy_half_close,
        next_upstream=next_upstream is not None,
        next_upstream_tries=next_upstream.tries if next_upstream is not None else 0,
        next_upstream_timeout_ms=next_upstream.timeout_ms if next_upstream is not None else None,
        buffer_size=listener.proxy_buffer_size_bytes,
        bind=listener.proxy_bind,
        tcp_nodelay=listener.tcp_nodelay,
        socket_keepalive=listener.proxy_socket_keepalive,
        requests=listener.proxy_requests,
        responses=listener.proxy_responses,
        max_sessions=max_sessions,
    )


def listen_options(listener: schema.Listener) -> tuple[ListenOptions, ...]:
    """Return what the sockets of a listener are opened with, one for each of its addresses."""
    keepalive = listener.so_keepalive
    return tuple(
        ListenOptions(
            address=address,
            udp=listener.protocol == "udp",
            backlog=listener.backlog,
            nodelay=listener.tcp_nodelay,
            keepalive=None if keepalive is None else keep_alive(keepalive),
        )
        for address in listener.listen
    )


def keep_alive(keepalive: schema.SoKeepalive) -> KeepAlive:
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
