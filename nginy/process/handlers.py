"""Handlers serve the clients of a listener. This module makes them from the listener's keys.

A reload makes a new handler for each address, so that sessions of the previous one keep its
settings; the new one takes over what belongs to the listener. A listener with routes has a handler
that leads to others (`proxy/routing/routed.py`). It makes those when a client first needs them,
from the configuration that it was made from itself.

`services.py` decides when handlers are made and which sockets they serve;
`config/building/build.py` makes settings of the configuration's keys.

Tested in tests/run/test_reload_keeps.py.
"""

from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

from nginy.backend.pool import BackendPool
from nginy.config import schema
from nginy.config.building import build
from nginy.config.building.routes import RouteTables, default_of
from nginy.config.building.tls import TlsContexts
from nginy.config.checking.targets import (
    awaits_hello,
    entries_of,
    is_by_variable,
    is_routed,
    upstreams_of,
)
from nginy.config.variables import definitions
from nginy.event.listener import Listener
from nginy.event.loop import Loop
from nginy.process.gradual import Steps
from nginy.process.logs import LogSet
from nginy.process.pools import PoolSet
from nginy.proxy.handler import ProtocolHandler, ProxyHandler, ProxySettings
from nginy.proxy.lookups import Definition
from nginy.proxy.pacing import PacedSession
from nginy.proxy.phases.limiting import Zones
from nginy.proxy.reply import DatagramReplyHandler, ReplyHandler
from nginy.proxy.routing.routed import Contents, Routed, RoutedDatagramHandler, RoutedHandler
from nginy.proxy.routing.routes import RouteTarget
from nginy.proxy.session import Session
from nginy.proxy.tcp import TcpHandler
from nginy.proxy.udp.handler import UdpHandler
from nginy.proxy.udp.pacing import PacedUdpSession

Compile = Callable[[str], Callable[[Session], str]]
SLICE_LISTENERS: Final = 200
"""Entries that `begin` looks at in one step: some 3 ms."""


class _Outline(NamedTuple):
    """What the handlers of an entry need of it, apart from its addresses."""

    settings: schema.Listener
    """Keeps the entry alive, as its identity is the key."""
    is_routed: bool
    proxy: ProxySettings


class _Common:
    """What all addresses of one entry of the configuration share."""

    __slots__ = ("compile_text", "names", "outline", "pools", "tables")

    def __init__(
        self,
        outline: _Outline,
        config: schema.Config,
        pools: PoolSet,
        compile_text: Compile,
    ) -> None:
        settings = outline.settings
        self.outline = outline
        self.compile_text = compile_text
        defined = definitions(config.variables)
        is_late = awaits_hello(settings, config, defined)
        self.tables = RouteTables(settings, defined, is_late=is_late)
        self.pools = {name: pools[name] for name in upstreams_of(settings)}
        texts = [each.proxy_pass or "" for each in entries_of(settings) if is_by_variable(each)]
        self.names = {text: compile_text(text) for text in texts}


class HandlerMaker:
    """Makes handlers. Created by the `ServiceSet`; `begin` says which configuration is in force."""

    __slots__ = (
        "_auto_sessions",
        "_common",
        "_config",
        "_definitions",
        "_logs",
        "_loop",
        "_outlines",
        "_pools",
        "_tls",
        "zones",
    )

    def __init__(self, loop: Loop, logs: LogSet, pools: PoolSet) -> None:
        self._loop = loop
        self._logs = logs
        self._pools = pools
        self.zones = Zones()
        self._tls = TlsContexts()
        self._auto_sessions = 0
        self._config = schema.Config()
        self._definitions: dict[str, Definition] = {}
        self._common: dict[int, _Common] = {}
        """By the identity of an entry, which the value keeps alive."""
        self._outlines: dict[int, _Outline] = {}

    def begin(self, config: schema.Config, tls: TlsContexts) -> Steps[None]:
        """Make handlers for `config` from now on; logs and pools are in step with it.

        This works out, in steps, all that can be known before the first one is made.
        """
        self._tls = tls
        self._config = config
        self._definitions = definitions(config.variables)
        self._auto_sessions = build.auto_max_sessions(config)
        self._common.clear()
        self._outlines.clear()
        for count, settings in enumerate(config.listeners, 1):
            self._outline(settings)
            if count % SLICE_LISTENERS == 0:
                yield

    def _outline(self, settings: schema.Listener) -> _Outline:
        outline = self._outlines.get(id(settings))
        if outline is None:
            proxy = build.proxy_settings(settings, self._auto_sessions, self._tls.client(settings))
            routed = is_routed(settings, self._config, self._definitions)
            outline = self._outlines[id(settings)] = _Outline(settings, routed, proxy)
        return outline

    def make(
        self, settings: schema.Listener, listener: Listener, before: ProtocolHandler | None
    ) -> ProtocolHandler:
        """Return the handler of one address of a listener, which takes over from `before`."""
        handler: ProtocolHandler
        outline = self._outline(settings)
        if outline.is_routed:
            handler = self._routed_handler(outline, listener)
        else:
            compile_text = self._logs.compiler
            if settings.return_ is not None:
                handler = self._reply_handler(outline, listener, settings.return_, compile_text)
            else:
                pool = self._pool(settings, before)
                handler = self._proxy_handler(outline, listener, pool, compile_text)
            tls = self._tls.phase(settings)
            handler.phases = build.phases(settings, self.zones, compile_text, tls)
        log, formats = settings.access_log, self._config.log_formats
        handler.log_session = self._logs.session_logger(log, formats)
        if before is not None and handler.follows(before):
            handler.take_over(before)
            self._pools.drain()
        handler.use_logger(self._logs.session_errors(settings.error_log))
        return handler

    def must_wait(self, settings: schema.Listener, before: ProtocolHandler) -> str:
        """Return the name of an upstream that is not ready, for which `before` has to go on
        serving.

        "" if there is none, or if `make` finds a way for it: a listener without routes keeps its
        pool until the new one is ready.
        """
        if not self._outline(settings).is_routed and not isinstance(before, Routed):
            return ""
        names = upstreams_of(settings)
        return next((name for name in names if not self._pools.is_ready(name)), "")

    def _pool(self, settings: schema.Listener, before: ProtocolHandler | None) -> BackendPool:
        """Return the pool that sessions go to: the former one until the configured one is ready."""
        name = settings.proxy_pass or ""
        if isinstance(before, ProxyHandler) and not self._pools.is_ready(name):
            return before.pool
        return self._pools[name]

    def _routed_handler(self, outline: _Outline, listener: Listener) -> ProtocolHandler:
        settings = outline.settings
        common = self._common.get(id(settings))
        if common is None:
            common = _Common(outline, self._config, self._pools, self._logs.compiler)
            self._common[id(settings)] = common
        content = partial(self._content, listener, common)
        default = default_of(settings)
        contents = Contents(content, default, common.pools, build.nobody(), common.names)
        make = RoutedDatagramHandler if listener.options.udp else RoutedHandler
        name = build.listener_name(settings, listener.options)
        handler = make(self._loop, name, listener.address, outline.proxy, contents)
        choose = common.tables.phase(listener.address.port, common.compile_text)
        tls = self._tls.phase(settings)
        handler.phases = build.phases(settings, self.zones, common.compile_text, tls, choose)
        return handler

    def _content(self, listener: Listener, common: _Common, target: RouteTarget) -> ProtocolHandler:
        """Return the handler behind a routed one for clients that go to `target`.

        There may have been a reload meanwhile, so `common` has all that this needs of the
        configuration.
        """
        outline, compile_text = common.outline, common.compile_text
        if target.proxy_pass is None:
            return self._reply_handler(outline, listener, target.answer or "", compile_text)
        pool = common.pools[target.proxy_pass]
        return self._proxy_handler(outline, listener, pool, compile_text)

    def _proxy_handler(
        self,
        outline: _Outline,
        listener: Listener,
        pool: BackendPool,
        compile_text: Compile,
    ) -> ProtocolHandler:
        make: type[UdpHandler | TcpHandler] = UdpHandler if listener.options.udp else TcpHandler
        settings, proxy = outline.settings, outline.proxy
        name = build.listener_name(settings, listener.options)
        handler = make(self._loop, name, listener.address, pool, proxy)
        handler.hash_key = compile_text(pool.key) if pool.key else None
        handler.bind_of = build.local_end(settings.proxy_bind, compile_text)
        if proxy.upload_rate or proxy.download_rate:
            if isinstance(handler, TcpHandler):
                handler.session_class = PacedSession
            else:
                handler.session_class = PacedUdpSession
        return handler

    def _reply_handler(
        self, outline: _Outline, listener: Listener, answer: str, compile_text: Compile
    ) -> ProtocolHandler:
        make = DatagramReplyHandler if listener.options.udp else ReplyHandler
        name = build.listener_name(outline.settings, listener.options)
        text = compile_text(answer)
        handler = make(self._loop, name, listener.address, outline.proxy)
        handler.text = lambda session: text(session).encode("utf-8", "surrogateescape")
        return handler
