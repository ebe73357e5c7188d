"""Routed listeners: those whose clients go different ways.

A listener with `routes`, or with `proxy_pass: $name`, has no content of its own. Behind it stands a
handler for each target that a client has taken so far, as if each were a listener by itself:
`TcpHandler` or `UdpHandler` for an upstream, those of `proxy/reply.py` for a built-in answer. They
share what belongs to the listener: its name, its settings, its counts, its logs, and over UDP its
table of sessions.

A TCP client is accepted as an `ArrivingSession`, which passes the phases and knows nothing of
backends. After them, when the route is known (`proxy/phases/preread.py`), its connection goes to a
session of the target, with its number, its start and what the phases have found out. A UDP client
has no session before that anyway (`proxy/udp/stranger.py`).

A reload makes another routed handler. Established sessions stay with the handler that they have;
its successor for the same upstream, if there is one, takes it over like any other.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from nginy.backend.pool import BackendPool
from nginy.event.connection import Connection
from nginy.event.datagram import DatagramReceiver, SharedConnection
from nginy.event.loop import Loop
from nginy.proxy.handler import ProtocolHandler, ProxyHandler, ProxySettings
from nginy.proxy.reply import DatagramReplyHandler, ReplyHandler
from nginy.proxy.routing.routes import RouteTarget
from nginy.proxy.session import Session
from nginy.proxy.tcp import TcpHandler
from nginy.proxy.udp.handler import UdpHandler
from nginy.proxy.udp.session import UdpSession
from nginy.proxy.udp.stranger import Stranger
from nginy.text.address import Address

NO_NAMES: Final[Mapping[str, Callable[[Session], str]]] = {}

MakeHandler = Callable[[RouteTarget], ProtocolHandler]
"""Makes the handler of a target."""


class Contents:
    """The handlers behind a routed listener, by target; each is made for its first client."""

    __slots__ = ("_by_target", "_make", "_names", "default", "nobody", "pools")

    def __init__(
        self,
        make: MakeHandler,
        default: RouteTarget | None,
        pools: Mapping[str, BackendPool],
        nobody: BackendPool,
        names: Mapping[str, Callable[[Session], str]] = NO_NAMES,
    ) -> None:
        self._make = make
        self._names = names
        """The functions that compute an upstream's name, by its text in the file ("$site")."""
        self._by_target: dict[RouteTarget, ProtocolHandler] = {}
        self.default = default
        """The listener's own target, for clients that no route matches."""
        self.pools = pools
        """The pools of all targets that are upstreams."""
        self.nobody = nobody
        """A pool without backends, for a handler that has to have one and leads nowhere itself."""

    def handler(self, main: ProtocolHandler, target: RouteTarget) -> ProtocolHandler:
        """Return the handler of a target, with what it shares with the listener's, `main`."""
        handler = self._by_target.get(target)
        if handler is None:
            handler = self._by_target[target] = self._make(target)
            handler.counters, handler.drops = main.counters, main.drops
            handler.use_logger(main.logger)
            handler.log_session = main.log_session
        return handler

    def target_of(self, session: Session) -> RouteTarget:
        """Return the target of a session that no phase has refused."""
        route = None if session.arrival is None else session.arrival.route
        target = self.default if route is None else route.target
        assert target is not None  # the phase refuses clients that no route matches
        name = self._names.get(target.proxy_pass or "")
        return target if name is None else RouteTarget(name(session))

    @property
    def leads_to(self) -> str | None:
        """The upstream of the listener itself, as configured; None if there is none."""
        return None if self.default is None else self.default.proxy_pass

    def proxies(self) -> Sequence[ProxyHandler]:
        """Return those that lead to an upstream."""
        return [each for each in self._by_target.values() if isinstance(each, ProxyHandler)]

    def use_logger(self, logger: logging.Logger) -> None:
        """Make the sessions of all targets log to `logger`."""
        for handler in self._by_target.values():
            handler.use_logger(logger)

    def take_over(self, main: ProtocolHandler, before: ProtocolHandler) -> None:
        """Follow the handlers that served the listener before."""
        for old in before.proxies():
            if self.pools.get(old.pool.name) is old.pool:
                self.handler(main, RouteTarget(old.pool.name)).take_over(old)
            else:
                old.destination.left_at_ms = main.loop.clock.now_ms


class ArrivingSession(Session):
    """A TCP client on its way through the phases of a routed listener."""

    __slots__ = ()

    handler: "RoutedHandler"
    client: Connection

    def start(self) -> None:
        """Go on as a session of the target."""
        session = self.handler.session_for(self)
        session.arrival = self.arrival
        session.start()


class Routed(ProtocolHandler):
    """The part that the routed handlers of TCP and UDP share: all that `contents` answers."""

    __slots__ = ()

    contents: Contents

    @property
    def leads_to(self) -> str | None:
        """Where clients go that no route matches."""
        return self.contents.leads_to

    def proxies(self) -> Sequence[ProxyHandler]:
        """Return the handlers behind it that lead to an upstream."""
        return self.contents.proxies()

    def towards(self, upstream: str) -> ProxyHandler | None:
        """Return the handler behind it that leads to an upstream of its configuration."""
        if upstream not in self.contents.pools:
            return None
        handler = self.contents.handler(self, RouteTarget(upstream))
        return handler if isinstance(handler, ProxyHandler) else None

    def use_logger(self, logger: logging.Logger) -> None:
        """Do the same for its targets: a reload may have made some before."""
        super().use_logger(logger)
        self.contents.use_logger(logger)

    def take_over(self, before: ProtocolHandler) -> None:
        """Go on where `before` did, whether it had routes or not."""
        super().take_over(before)
        self.contents.take_over(self, before)


class RoutedHandler(Routed):
    """Gives the sessions of a TCP listener to the handlers of their targets."""

    __slots__ = ("contents",)

    kind = "tcp"

    def __init__(
        self, loop: Loop, name: str, address: Address, settings: ProxySettings, contents: Contents
    ) -> None:
        super().__init__(loop, name, address, settings)
        self.contents = contents

    def accept_handler(self, client: Connection) -> None:
        """Begin an arriving session for a client that was just accepted."""
        self.begin(ArrivingSession(self, client))

    def session_for(self, session: ArrivingSession) -> Session:
        """Return the session of the target that an arriving one becomes, for the same client."""
        handler = self.contents.handler(self, self.contents.target_of(session))
        assert isinstance(handler, TcpHandler | ReplyHandler)
        return handler.session_of(session.client)


class RoutedDatagramHandler(Routed, UdpHandler):
    """Finds the sessions of a UDP listener, and begins them for the handlers of their targets."""

    __slots__ = ("contents",)

    def __init__(
        self, loop: Loop, name: str, address: Address, settings: ProxySettings, contents: Contents
    ) -> None:
        super().__init__(loop, name, address, contents.nobody, settings)
        self.contents = contents

    def session_for(
        self,
        receiver: DatagramReceiver,
        stranger: Stranger,
        client: SharedConnection,
        data: memoryview,
    ) -> UdpSession | None:
        """Return the session of a client, for its target; None if the datagram was answered."""
        handler = self.contents.handler(self, self.contents.target_of(stranger))
        if isinstance(handler, UdpHandler):
            handler.share(self)
            return handler.session_class(handler, client)
        assert isinstance(handler, DatagramReplyHandler)
        handler.answer(receiver, stranger.arrival, client, data)
        return None

    def drain(self, is_draining: bool) -> None:
        """Serve known clients only, or everybody again."""
        super().drain(is_draining)
        for each in self.contents.proxies():
            if isinstance(each, UdpHandler):
                each.drain(is_draining)
