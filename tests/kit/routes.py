"""Listeners with routes, for the harness: conditions and targets, as the configuration makes them.

    front = routed(harness, [([ServerName(["a.example"])], harness.pool(backend.name))])

A target is a pool, the text of an answer, or None, which turns clients away. Pools are told apart
by their names.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

from nginy.backend.pool import BackendPool
from nginy.config.building.build import nobody
from nginy.proxy.handler import ProtocolHandler, ProxySettings
from nginy.proxy.phases.phase import Phases
from nginy.proxy.phases.preread import ChooseRoute
from nginy.proxy.reply import ReplyHandler
from nginy.proxy.routing.conditions import Condition
from nginy.proxy.routing.routed import Contents, RoutedHandler
from nginy.proxy.routing.routes import Route, RouteTable, RouteTarget
from nginy.proxy.session import Session
from nginy.proxy.tcp import TcpHandler
from nginy.text.address import Address

from kit.harness import ANY_PORT, Front, Harness

Leads: TypeAlias = BackendPool | str | None
Ways: TypeAlias = list[tuple[Sequence[Condition], Leads]]


def target_of(leads: Leads) -> RouteTarget:
    """Return what stands for a pool, an answer, or nothing."""
    if isinstance(leads, BackendPool):
        return RouteTarget(leads.name)
    return RouteTarget(answer=leads)


def routed_handler(
    harness: Harness,
    address: Address,
    ways: Ways,
    default: Leads = None,
    *,
    size_bytes: int = 16384,
    timeout_ms: int = 30_000,
    phases: Phases = (),
    texts: Mapping[str, Callable[[Session], str]] | None = None,
    settings: ProxySettings | None = None,
) -> RoutedHandler:
    """Return a handler for a listener with these routes."""
    settings = settings or ProxySettings()
    leads = [each for _, each in ways] + [default]
    pools = {each.name: each for each in leads if isinstance(each, BackendPool)}

    def make(target: RouteTarget) -> ProtocolHandler:
        if target.proxy_pass is not None:
            return TcpHandler(harness.loop, "front", address, pools[target.proxy_pass], settings)
        handler = ReplyHandler(harness.loop, "front", address, settings)
        handler.text = lambda _session: (target.answer or "").encode()
        return handler

    chosen = None if default is None else target_of(default)
    contents = Contents(make, chosen, pools, nobody())
    handler = RoutedHandler(harness.loop, "front", address, settings, contents)
    table = RouteTable(
        Route(number, tuple(conditions), target_of(each))
        for number, (conditions, each) in enumerate(ways, 1)
    )
    choose = ChooseRoute(
        table, address.port, texts or {}, default is not None, size_bytes, timeout_ms
    )
    handler.phases = (*phases, choose)
    return handler


def routed(
    harness: Harness,
    ways: Ways,
    default: Leads = None,
    *,
    address: Address = ANY_PORT,
    **more: object,
) -> Front:
    """Listen, and send clients these ways."""
    listener = harness.listen(address)
    handler = routed_handler(harness, listener.address, ways, default, **more)  # type: ignore[arg-type]
    listener.start(harness.loop, handler.accept_handler)
    return harness.front(listener, handler)


def rerouted(harness: Harness, front: Front, handler: ProtocolHandler) -> None:
    """Let another handler serve a listener from now on, as a reload does."""
    before = front.handler
    assert handler.follows(before)
    handler.log_session = before.log_session
    handler.take_over(before)
    front.handler = handler
    front.listener.handler = handler.accept_handler
    assert harness.loop is handler.loop
