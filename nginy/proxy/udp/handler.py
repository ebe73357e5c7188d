"""UDP listeners: which datagrams make up a session, and the table of sessions that says so.

UDP has no connections, so this is the one place with a table of sessions: by the client's address,
and on a wildcard listener by the address it asked as well. A datagram of a known client goes to
its session, one of a new client begins a session, if the limits permit.

A session may let its key go before it ends (`proxy_requests`). Then the client's next datagram
begins a new session, with a new choice of a backend, while the old one may still get answers. A
client whose backend has gone down does not stay with it either: its next datagram gets a new
decision at once. So does a datagram whose send() failed because it reported the refusal of an
earlier one.

The handler drops a datagram that it cannot pass on, which UDP permits, and counts it by reason,
which an operator needs. `proxy/udp/session.py` has the sessions, `event/datagram.py` the sockets.

nginx: `ngx_event_udp.c`, where the table is a red-black tree for each listener.
"""

from collections.abc import Callable
from functools import partial

from nginy.backend.backend import Backend
from nginy.backend.pool import BackendPool
from nginy.event.datagram import DatagramReceiver, SharedConnection
from nginy.event.loop import Loop
from nginy.proxy.announcing import header_for, version_for
from nginy.proxy.handler import ProtocolHandler, ProxySettings
from nginy.proxy.phases.arrival import Announced
from nginy.proxy.session import Reason, Session
from nginy.proxy.udp.announcing import AnnouncingSession
from nginy.proxy.udp.base import ClientKey, KeyedSession, Sender, UdpHandlerBase
from nginy.proxy.udp.run import Run, may_wait
from nginy.proxy.udp.session import UdpSession
from nginy.proxy.udp.stranger import Stranger, admitted
from nginy.text.address import Address, SockAddr


class UdpHandler(UdpHandlerBase):
    """Makes UDP sessions of a listener's clients, and finds them again."""

    __slots__ = ("detached", "heir", "is_draining", "session_class", "table")

    protocol = "UDP"
    kind = "udp"

    def __init__(
        self,
        loop: Loop,
        name: str,
        address: Address,
        pool: BackendPool,
        settings: ProxySettings,
    ) -> None:
        super().__init__(loop, name, address, pool, settings)
        self.table: dict[ClientKey, UdpSession] = {}
        """The sessions that hold their client's key."""
        self.detached: dict[KeyedSession, None] = {}
        """Those that have let it go."""
        self.session_class = UdpSession
        """What it makes of its clients; for listeners with a rate, `pacing.PacedUdpSession`."""
        self.is_draining = False
        """Set to serve known clients only, before the listener goes."""
        self.heir: Callable[[SockAddr, bytes, memoryview], None] | None = None
        """Takes what new clients send meanwhile, by the sender and our address that it was sent to,
        with the PROXY header; None: it is dropped."""

    def take_over(self, before: ProtocolHandler) -> None:
        """Find the sessions of the listener's previous handler."""
        super().take_over(before)
        if isinstance(before, UdpHandler):
            self.share(before)

    def share(self, other: "UdpHandler") -> None:
        """Share what belongs to the listener with another handler of it."""
        self.table = other.table
        self.detached = other.detached
        self.firsts = other.firsts
        self.announcements = other.announcements

    def drain(self, is_draining: bool) -> None:
        """Serve known clients only, or everybody again."""
        self.is_draining = is_draining
        self.heir = None

    def datagram_handler(
        self, receiver: DatagramReceiver, sender: Sender, local: bytes, data: memoryview
    ) -> None:
        """Pass on a client's datagram."""
        key: ClientKey = (sender, local) if local else sender
        session = self.table.get(key)
        if session is not None:
            receiver.serving = session
            backend = session.backend
            if (backend.down or backend.fails) and session.has_lost_backend():
                session.finalize(Reason.BACKEND_DOWN)
            elif receiver.is_flooded and (
                session.is_bursting or session.heard_in == receiver.events
            ):
                session.heard_in = receiver.events
                if not self._put_off(receiver, session, sender, local, data):
                    self._pass_on(receiver, sender, local, data)
                return
            else:
                # A client that sends one datagram at a time gains nothing by waiting for others:
                # it costs 8 % of the CPU time of a request and its response.
                session.heard_in = receiver.events
                if session.forward(data):
                    return
                # ECONNREFUSED of a send() is about an earlier datagram: this one was not sent.
        self._begin(receiver, key, sender, local, data)

    def _pass_on(
        self, receiver: DatagramReceiver, sender: Sender, local: bytes, data: memoryview
    ) -> None:
        """Send a datagram at once, by a new session if the client has none that can."""
        key: ClientKey = (sender, local) if local else sender
        session = self.table.get(key)
        if session is None or not session.forward(data):
            self._begin(receiver, key, sender, local, data)

    def _put_off(
        self,
        receiver: DatagramReceiver,
        session: UdpSession,
        sender: Sender,
        local: bytes,
        data: memoryview,
    ) -> bool:
        """Hold a datagram until all of this event have come, to send it with others like it.

        Returns False if the caller has to send it at once, after those before it, which have gone.
        """
        run = receiver.put_off.get(session)
        if run is not None:
            if run.add(data):
                return True
            del receiver.put_off[session]
            run.finish()
        if session.end is not None or not may_wait(session, data):
            return False
        pass_on = partial(self._pass_on, receiver, sender, local)
        receiver.put_off[session] = Run(session, data, pass_on)
        return True

    def _begin(
        self,
        receiver: DatagramReceiver,
        key: ClientKey,
        sender: Sender,
        local: bytes,
        data: memoryview,
    ) -> None:
        """Begin the session of a new client with its first datagram, or drop the datagram."""
        arrival = None
        if isinstance(sender, Announced):
            arrival = sender.arrival()
            client = SharedConnection(receiver, sender.proxy, sender.local)
            client.sockaddr = sender.source
        else:
            client = SharedConnection(receiver, sender, local)
        why = self._why_not(client.replies_to)
        if why is not None:
            if self.is_draining and self.heir is not None and not isinstance(sender, Announced):
                self.heir(sender, local, data)
                return
            now_ms = self.loop.clock.now_ms
            self.drops.refuse(*why, client.sockaddr, self.name, now_ms)
            return
        session: UdpSession | None = None
        if self.phases:
            stranger = admitted(self, client, self.drops, data, arrival)
            if stranger is not None:
                session = self.session_for(receiver, stranger, client, data)
                arrival = stranger.arrival
        else:
            session = self.session_class(self, client)
        if session is None:
            return
        session.arrival = arrival
        receiver.serving = session
        if session.open():
            session.key = key
            self.table[key] = session
            session.forward(data)
            if len(session.handler.pool.backends) > 1:
                self.hold(session, data)

    def session_for(
        self,
        receiver: DatagramReceiver,
        stranger: Stranger,
        client: SharedConnection,
        data: memoryview,
    ) -> UdpSession | None:
        """Return the session of a client that no phase has refused; None if it needs none."""
        return self.session_class(self, client)

    def _why_not(self, sockaddr: SockAddr) -> tuple[str, str] | None:
        """Return why a new client can have no session, and the reason to count its datagram
        under."""
        loop = self.loop
        max_sessions = self.settings.max_sessions
        if self.is_draining:
            return "shed", "the listener takes no new clients"
        if 0 < max_sessions <= self.counters.open:
            return "shed", f"max_sessions ({max_sessions}) are used up"
        if loop.connections >= loop.max_connections:
            return "limit", "worker_connections are used up"
        if loop.reserve.is_short and not loop.reserve.refill():
            # A datagram cannot wait as TCP clients do, and must not take what they wait for.
            return "limit", "descriptors are used up"
        if not sockaddr[1]:
            # RFC 768: port 0 means that the sender expects no reply, and nobody can send one to it.
            return "invalid", "datagram from port 0"
        return None

    def hide(self, session: KeyedSession) -> None:
        """Find a session no more, as it may go to another process; it keeps its key."""
        self.detached.pop(session, None)
        if session.key is not None:
            del self.table[session.key]

    def show(self, session: KeyedSession) -> None:
        """Find a session again, or one that has come from another process."""
        if session.key is not None and session.key not in self.table:
            assert isinstance(session, UdpSession)
            self.table[session.key] = session
        else:  # its client may have begun another session meanwhile
            session.key = None
            self.detached[session] = None

    def announce(self, session: KeyedSession, backend: Backend) -> None:
        """Make a session one that sends headers, by its class: others pay nothing."""
        is_wanted = version_for(self.settings, backend) == "v2"
        if is_wanted and type(session) is UdpSession:
            session.__class__ = AnnouncingSession
        if isinstance(session, AnnouncingSession):
            passes_tlvs = self.settings.pass_tlvs
            session.header = header_for(session, "v2", passes_tlvs) if is_wanted else b""

    def detach(self, session: KeyedSession) -> None:
        """Move a session from the table to those without a key."""
        if session.key is not None:
            del self.table[session.key]
            session.key = None
            self.detached[session] = None

    def session_ended(self, session: Session) -> None:
        """Forget, count and log a session."""
        if isinstance(session, UdpSession):
            self.firsts.pop(session, None)
            if session.key is not None:
                del self.table[session.key]
                session.key = None
            else:
                self.detached.pop(session, None)
        super().session_ended(session)
