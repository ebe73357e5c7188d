"""ServiceSet: all listeners of a process with their handlers, in step with the configuration.

This is for listeners what `logs.py` is for logs and `pools.py` for upstreams. Binding may fail, so
`open` does it before anything changes; `apply` cannot fail. A listener whose address stays keeps
its socket, its counters and its sessions; new sessions get a new handler.

A service that the configuration no longer has retires (`retiring.py`). If a reload wants its
address again before its last session has ended, the set takes the service back with everything it
has.

`config/building/build.py` makes settings of the configuration's keys.

nginx: `ngx_init_cycle`.

Tested in tests/run/test_reload_keeps.py and tests/process/test_services_live.py.
"""

import logging
import os
from collections.abc import ItemsView, Iterator, Mapping
from dataclasses import dataclass

from nginy.admin.subject import Front
from nginy.config import schema
from nginy.config.building import build
from nginy.config.building.tls import TlsContexts
from nginy.errors import NginyError
from nginy.event.bind import ListenKey, ListenOptions, Neighbors
from nginy.event.datagram import DatagramReceiver
from nginy.event.listener import Listener
from nginy.event.loop import Loop
from nginy.log.levels import NOTICE
from nginy.process import heirs
from nginy.process.binding import in_binding_order, in_ranges, refusal, wanted_by
from nginy.process.gradual import Steps
from nginy.process.handlers import HandlerMaker
from nginy.process.inherited import Inherited
from nginy.process.logs import LogSet
from nginy.process.pools import PoolSet
from nginy.process.retiring import Retiring, sessions_of
from nginy.proxy.handler import ProtocolHandler, ProxyHandler
from nginy.proxy.phases.limiting import Zones
from nginy.proxy.routing.routed import Routed
from nginy.proxy.udp.handler import UdpHandler

logger = logging.getLogger("nginy.server")


@dataclass(slots=True)
class Service:
    """An open listener, and the handler that gets its clients."""

    listener: Listener
    handler: ProtocolHandler


class ServiceSet:
    """All listeners by address and protocol. Created and closed by the server."""

    __slots__ = (
        "_begun",
        "_ended",
        "_loop",
        "_maker",
        "_pools",
        "_services",
        "_tls",
        "holds_datagrams",
        "inherited",
        "retiring",
    )

    def __init__(self, loop: Loop, logs: LogSet, pools: PoolSet) -> None:
        self._loop = loop
        self._pools = pools
        self._maker = HandlerMaker(loop, logs, pools)
        self._services: dict[ListenKey, Service] = {}
        self._begun: list[Listener] = []
        self._ended: list[Listener] = []
        self._tls = TlsContexts()
        self.inherited = Inherited()
        """Sockets to be taken instead of binding new ones."""
        self.holds_datagrams = False
        """Whether another process reads the sockets of UDP listeners, until `read_datagrams`."""
        self.retiring: list[Retiring] = []
        """Handlers that wait for their last session to end; then `let_go` takes them out."""

    def __bool__(self) -> bool:
        """Return whether there is any listener."""
        return bool(self._services)

    @property
    def zones(self) -> Zones:
        """The counts of limits, by zone."""
        return self._maker.zones

    def items(self) -> ItemsView[ListenKey, Service]:
        """Return the services that take clients, by address and protocol."""
        return self._services.items()

    def service(self, key: ListenKey) -> Service:
        """Return the service that takes clients at an address; raises KeyError."""
        return self._services[key]

    def listeners(self) -> list[Listener]:
        """Return the listeners that take clients."""
        return [service.listener for service in self._services.values()]

    def fronts(self) -> list[Front]:
        """Return all listeners as the admin interface shows them."""
        return [
            *(
                Front(str(each.listener.address), each.handler, each.listener)
                for each in self._services.values()
            ),
            *(
                Front(str(each.key[0]), each.handler, each.listener, is_retiring=True)
                for each in self.retiring
            ),
        ]

    def give_to(self, uid: int, gid: int) -> None:
        """Make the sockets the property of the user that nginy becomes.

        The kernel lets only sockets of one user share a port (socket(7), SO_REUSEPORT). Otherwise a
        reload could not bind an address beside a wildcard that root has bound.
        """
        for listener in self.listeners():
            os.fchown(listener.socket.fileno(), uid, gid)

    # Starting and reloading.

    def open(self, config: schema.Config) -> dict[ListenKey, Listener]:
        """Bind every address of `config` that is not bound yet: all of them, or none.

        Raises NginyError. Give the result to `apply`, or to `close_listeners` to undo it.
        """
        bound = {each.key for each in self.retiring if each.listener is not None}
        opened: dict[ListenKey, Listener] = {}
        errors: list[NginyError] = []
        neighbors = self._neighbors()
        for options in in_binding_order(wanted_by(config), self.inherited):
            key = options.key
            if key in self._services or key in bound:
                continue
            try:
                opened[key] = self.inherited.listener(options, neighbors.of(options))
            except NginyError as error:
                errors.append(error)
            else:
                neighbors.add(options, opened[key].socket)
        if errors:
            close_listeners(opened)
            raise refusal(errors)
        return opened

    def _neighbors(self) -> Neighbors:
        """Return all sockets that this process has bound."""
        neighbors = Neighbors()
        retiring = [each.listener for each in self.retiring if each.listener is not None]
        for listener in (*self.listeners(), *retiring):
            neighbors.add(listener.options, listener.socket)
        return neighbors

    def prepare_tls(self, config: schema.Config) -> Steps[TlsContexts]:
        """Make what `config` needs for TLS and does not exist yet, one certificate in each step;
        raises NginyError.
        """
        return self._tls.prepare(config)

    def begin(self, config: schema.Config, tls: TlsContexts | None = None) -> Steps[None]:
        """Work out what `apply` needs; logs and pools are in step with `config`."""
        self._tls = tls or (yield from self.prepare_tls(config))
        yield from self._maker.begin(config, self._tls)

    def apply(self, config: schema.Config, opened: Mapping[ListenKey, Listener]) -> None:
        """Listen where `config` says and nowhere else; call `begin` first."""
        wanted = wanted_by(config)
        for key in [key for key in self._services if key not in wanted]:
            self._retire(key, config.worker_shutdown_timeout_ms)
        retiring = self._retiring_by_key()
        for key, (options, settings) in wanted.items():
            listener, handler = self._present(key, retiring.get(key, []))
            listener = opened.get(key) or listener
            if listener is not None:
                self._serve(listener, handler, options, settings, config)
        self._name_heirs()
        self._tell()

    def _name_heirs(self) -> None:
        """Lead new clients of a UDP address that retires to the wildcard that includes it, and tell
        a new address what the wildcard knows.
        """
        for retiring in self.retiring:
            listener, handler = retiring.listener, retiring.handler
            if listener is not None and isinstance(handler, UdpHandler):
                handler.heir = None
                wildcard = self._services.get((listener.address.wildcard, True))
                if wildcard is not None:
                    heirs.bequeath(handler, listener.address, wildcard.listener, wildcard.handler)
        begun, by_key = set(self._begun), self._retiring_by_key()
        for key, service in self._services.items():
            if service.listener in begun and isinstance(service.handler, UdpHandler):
                same = (service.listener.address.wildcard, True)
                before = [each.handler for each in by_key.get(same, ())]
                if same in self._services and same != key:
                    before.append(self._services[same].handler)
                heirs.inherit(service.handler, service.listener.address, before)

    def _tell(self) -> None:
        """Log the listeners that are new or gone; a range of ports is one line."""
        for text, listeners in (("no longer ", self._ended), ("", self._begun)):
            for where in in_ranges(listeners):
                logger.log(NOTICE, "%slistening on %s", text, where)
            listeners.clear()

    def retire_all(self, timeout_ms: int | None, *, has_successor: bool = False) -> None:
        """Take no new clients anywhere, and let the sessions end within `timeout_ms`.

        A successor has copies of the sockets. Then this process reads no UDP socket any more, not
        even for sessions: a datagram reaches only one of the two processes, and only the successor
        can serve new clients.
        """
        for key, service in list(self._services.items()):
            self._retire(key, timeout_ms)
            if has_successor:
                _leave(service.listener)
        self.holds_datagrams &= not has_successor
        self._tell()

    def receivers(self) -> Iterator[DatagramReceiver]:
        """Yield the sockets of UDP listeners that take clients."""
        for listener in self.listeners():
            if isinstance(listener.connection, DatagramReceiver):
                yield listener.connection

    def read_datagrams(self) -> None:
        """Read the sockets of UDP listeners from now on, as no other process does any more."""
        if self.holds_datagrams:
            self.holds_datagrams = False
            retiring = (each.listener for each in self.retiring)
            for listener in filter(None, (*self.listeners(), *retiring)):
                if isinstance(listener.connection, DatagramReceiver):
                    listener.connection.wake()

    def limit(self, timeout_ms: int | None) -> None:
        """Let the sessions of retired listeners end within `timeout_ms`."""
        for retiring in self.retiring:
            retiring.limit(timeout_ms)

    def let_go(self) -> None:
        """Close retired listeners that have no session left."""
        for retiring in [each for each in self.retiring if not each.handler.sessions]:
            retiring.close()
            self.retiring.remove(retiring)

    def close(self) -> None:
        """Close all listeners, then end every session with KD."""
        self.retire_all(None)
        for session in list(sessions_of(self._loop)):
            session.kill()
        for retiring in self.retiring:
            retiring.close()
        self.retiring.clear()

    def _serve(
        self,
        listener: Listener,
        before: ProtocolHandler | None,
        options: ListenOptions,
        settings: schema.Listener,
        config: schema.Config,
    ) -> None:
        """Give a listener the options and the handler of a configuration."""
        unready = "" if before is None else self._maker.must_wait(settings, before)
        if before is None or not unready:
            handler = self._maker.make(settings, listener, before)
            unready = self._unready(handler, settings)
        else:
            handler = before
        service = self._services[options.key] = Service(listener, handler)
        if unready:
            self._lead_when_ready(unready, service, options, settings, config)
        if before is not None and before.counters is not handler.counters and before.sessions:
            retiring = Retiring(self._loop, options.key, before, None)
            retiring.limit(config.worker_shutdown_timeout_ms)
            self.retiring.append(retiring)
        receiver = listener.connection
        if isinstance(receiver, DatagramReceiver):
            receiver.handler = build.datagram_handler(settings, handler)
            listener.apply(options)
        elif receiver is not None:
            listener.handler = handler.accept_handler
            listener.apply(options)
        elif options.udp:
            made = listener.start_datagrams(self._loop, build.datagram_handler(settings, handler))
            if self.holds_datagrams:
                made.rest()
            self._begun.append(listener)
        else:
            listener.start(self._loop, handler.accept_handler)
            self._begun.append(listener)

    def _unready(self, handler: ProtocolHandler, settings: schema.Listener) -> str:
        """Return the upstream that a handler should lead to and does not yet; "" if it does."""
        name = settings.proxy_pass or ""
        if not isinstance(handler, ProxyHandler) or isinstance(handler, Routed):
            return ""
        return "" if handler.pool is self._pools[name] else name

    def _lead_when_ready(
        self,
        name: str,
        service: Service,
        options: ListenOptions,
        settings: schema.Listener,
        config: schema.Config,
    ) -> None:
        """Serve a listener as it is configured once the pool of an upstream is ready."""
        handler = service.handler

        def lead() -> None:
            if self._services.get(options.key) is service:
                self._serve(service.listener, handler, options, settings, config)

        pools = [each.pool.name for each in handler.proxies()]
        what = f'upstream "{pools[0]}"' if len(pools) == 1 else "its ways"
        text = 'listener %s stays with %s until the names of "%s" are resolved'
        logger.log(NOTICE, text, service.listener, what, name)
        self._pools.when_ready(name, lead)

    def _retire(self, key: ListenKey, timeout_ms: int | None) -> None:
        """Take no new clients; sessions that have begun go on to their end."""
        service = self._services.pop(key)
        listener, handler = service.listener, service.handler
        if isinstance(handler, UdpHandler):
            handler.drain(True)
            retiring = Retiring(self._loop, key, handler, listener)
        else:
            listener.close()
            retiring = Retiring(self._loop, key, handler, None)
        retiring.limit(timeout_ms)
        self.retiring.append(retiring)
        self._ended.append(listener)

    def _retiring_by_key(self) -> dict[ListenKey, list[Retiring]]:
        """Return what retires, to be looked up: a range may have thousands of ports."""
        found: dict[ListenKey, list[Retiring]] = {}
        for each in self.retiring:
            found.setdefault(each.key, []).append(each)
        return found

    def _present(
        self, key: ListenKey, same: list[Retiring]
    ) -> tuple[Listener | None, ProtocolHandler | None]:
        """Return the listener and handler of an address, in service or among the `same`."""
        service = self._services.get(key)
        if service is not None:
            return service.listener, service.handler
        retiring = self._take_back(same)
        return (None, None) if retiring is None else (retiring.listener, retiring.handler)

    def _take_back(self, same: list[Retiring]) -> Retiring | None:
        """Return the one of the `same` that the configuration wants again: a handler with its
        sessions.
        """
        if not same:
            return None
        retiring = next((each for each in same if each.listener is not None), same[0])
        self.retiring.remove(retiring)
        retiring.cancel()
        if isinstance(retiring.handler, UdpHandler):
            retiring.handler.drain(False)
        return retiring


def close_listeners(opened: Mapping[ListenKey, Listener]) -> None:
    """Undo `ServiceSet.open`."""
    for listener in opened.values():
        listener.close()


def _leave(listener: Listener) -> None:
    """Receive nothing from a socket any more; it can still send datagrams."""
    listener.pause()
    if listener.connection is not None:
        # Datagrams for the successor would wake this process.
        listener.connection.loop.interest.forget(listener.connection)
