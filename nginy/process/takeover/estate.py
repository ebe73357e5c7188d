"""Estate: what a process hands over, or where it takes over: the listeners and sessions of its
server.

Both sides call listeners by their address and protocol, as the log does, and upstreams by their
names.

Tested in tests/process/takeover/test_giving_live.py.
"""

from collections.abc import Callable, Iterator

from nginy.event.bind import ListenKey
from nginy.event.datagram import DatagramReceiver
from nginy.event.loop import Loop
from nginy.process.retiring import sessions_of
from nginy.process.server import Server
from nginy.process.takeover import announced
from nginy.process.takeover.known import Grown, counts, known, learn
from nginy.process.takeover.messages import Message, MessageMembers
from nginy.proxy.handler import ProtocolHandler, ProxyHandler
from nginy.proxy.phases.limiting import Zones
from nginy.proxy.session import Session
from nginy.proxy.udp.handler import UdpHandler


class Estate:
    """The server of this process, as givers and takers see it."""

    __slots__ = ("_keys", "server")

    def __init__(self, server: Server) -> None:
        self.server = server
        self._keys: dict[str, ListenKey] = {}
        """Listeners by the names that the other side uses."""

    @property
    def loop(self) -> Loop:
        """The loop of this process."""
        return self.server.loop

    @property
    def zones(self) -> Zones:
        """The counts of `limit_conn`."""
        return self.server.services.zones

    def sessions(self) -> Iterator[Session]:
        """Yield the sessions of this process, some of them twice."""
        return sessions_of(self.server.loop)

    def names(self) -> dict[int, str]:
        """Return what listeners are called, by the identity of their counters.

        All handlers that have ever served a listener share its counters.
        """
        return {
            id(front.handler.counters): _name(front.address, front.handler)
            for front in self.server.services.fronts()
        }

    def handler(self, listener: str) -> ProtocolHandler:
        """Return the handler that serves a listener; raises KeyError if there is none."""
        services = self.server.services
        if listener not in self._keys:
            self._keys = {_name(str(key[0]), each.handler): key for key, each in services.items()}
        return services.service(self._keys[listener]).handler

    def towards(self, listener: str, upstream: str) -> ProxyHandler | None:
        """Return the handler that leads from a listener to an upstream, None if none does.

        Raises KeyError if there is no such listener.
        """
        return self.handler(listener).towards(upstream)

    def receiver(self, listener: str) -> DatagramReceiver:
        """Return the socket of a UDP listener; raises KeyError if there is none."""
        self.handler(listener)
        c = self.server.services.service(self._keys[listener]).listener.connection
        if not isinstance(c, DatagramReceiver):
            raise KeyError(listener)
        return c

    def udp_handlers(self) -> Iterator[tuple[str, UdpHandler, DatagramReceiver]]:
        """Yield the UDP listeners with upstreams by name, with the handler that serves each."""
        for key, service in self.server.services.items():
            handler, c = service.handler, service.listener.connection
            if isinstance(handler, UdpHandler) and isinstance(c, DatagramReceiver):
                yield _name(str(key[0]), handler), handler, c

    def _named(self) -> Iterator[tuple[str, UdpHandler]]:
        return ((name, handler) for name, handler, _ in self.udp_handlers())

    def receivers(self) -> Iterator[DatagramReceiver]:
        """Yield the sockets of UDP listeners."""
        return self.server.services.receivers()

    def known(self) -> Iterator[Message]:
        """Yield what a successor needs to know."""
        yield from announced.tell_all(self._named())
        yield from known(self.server)

    def tell_news(self, tell: Callable[[Message], None] | None) -> None:
        """Call `tell` with what is announced from now on; None: no more."""
        if tell is None:
            announced.tell_no_more(self._named())
        else:
            announced.tell_news(self._named(), tell)

    def counts(self) -> Grown:
        """Return what is counted."""
        return counts(self.server)

    def learn(self, members: MessageMembers) -> None:
        """Take over what a predecessor tells; raises MessageError."""
        if members.text("kind") == "announced":
            announced.learn(members, self._named())
        else:
            learn(members, self.server)

    def stop_accepting(self) -> None:
        """Leave new clients to the other process."""
        for listener in self.server.services.listeners():
            if not listener.options.udp:
                listener.pause()

    def go_on_accepting(self) -> None:
        """Accept again: the other process is gone."""
        for listener in self.server.services.listeners():
            if not listener.options.udp:
                listener.resume()


def _name(address: str, handler: ProtocolHandler) -> str:
    return f"{address} udp" if handler.protocol == "UDP" else address
