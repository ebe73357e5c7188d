"""The rule for reloads: a session keeps the settings it was accepted with, new ones take the new.

A row for each setting: what changes, and what shows it. Sessions that must see the reload before
they connect wait in the queue of a full upstream meanwhile.
"""

import dataclasses
import gc
import socket
import ssl
import weakref
from collections.abc import Callable, Collection
from typing import Any

import pytest
from nginy.backend.backend import Backend
from nginy.backend.pool import BackendPool
from nginy.backend.waiting import QueueSettings
from nginy.balancer.round_robin import RoundRobin
from nginy.event.connection import Connection
from nginy.event.pipe import Pipe, Pipes
from nginy.event.tls import TlsConnection
from nginy.proxy import handler, reply, tcp
from nginy.proxy.closer import drain
from nginy.proxy.handler import ProxyHandler, ProxySettings
from nginy.proxy.originating import UpstreamTls
from nginy.proxy.pacing import PacedSession
from nginy.proxy.phases.arrival import Arrival
from nginy.proxy.session import Session
from nginy.proxy.tcp import TcpSession
from nginy.proxy.udp import base as udp_base
from nginy.proxy.udp import handler as udp
from nginy.proxy.udp.run import may_wait
from nginy.proxy.udp.session import UdpSession
from nginy.text.address import Address
from nginy.wire.proxy_protocol import Header

from kit.datagrams import UdpBackend, UdpClient, UdpFront, udp_proxy
from kit.ends import End
from kit.harness import Front, Harness
from kit.servers import EchoBackend, FullPort, RefusingPort, Server, SilentBackend


@pytest.fixture
def method() -> str:
    """Which selector there is makes no difference to a setting."""
    return "epoll"


class Scene:
    """One setting on its way from one value to another."""

    def __init__(self, harness: Harness, expect_log: Any) -> None:
        self.harness = harness
        self.expect_log = expect_log
        self.clients: list[End] = []

    def sessions(self) -> list[Session]:
        return sorted(self.harness.sessions(), key=lambda session: session.context.number)

    def changed(self, front: Front, **after: Any) -> None:
        handler = front.handler
        assert isinstance(handler, ProxyHandler)
        front.reload(settings=dataclasses.replace(handler.settings, **after))

    def connect(self, front: Front) -> End:
        client = front.connect()
        self.clients.append(client)
        count = len(self.clients)
        self.harness.turn_until(lambda: len(self.harness.sessions()) == count)
        return client

    def established(self, before: dict[str, Any], after: dict[str, Any]) -> Front:
        """Return a proxy with two sessions, the second accepted after the reload."""
        server = self.harness.add(Server())
        front = self.harness.proxy(self.harness.pool(server.name), **before)
        self.connect(front)
        self.harness.turn_until(lambda: len(server.ends) == 1)
        self.changed(front, **after)
        self.connect(front)
        self.harness.turn_until(lambda: len(server.ends) == 2)
        self.harness.settle()
        return front

    def waiting(self, pool: BackendPool, before: dict[str, Any], after: object) -> Front:
        """Return a proxy with two sessions that are about to connect to `pool`.

        `after` is what changes between them: settings, or what to call with the proxy.
        """
        for backend in pool.backends:
            backend.max_conns = 1
            backend.take()
        pool.set_queue(QueueSettings(size=10, timeout_ms=1_000_000))
        front = self.harness.proxy(pool, **before)
        self.connect(front)
        if callable(after):
            after(front)
        else:
            assert isinstance(after, dict)
            self.changed(front, **after)
        self.connect(front)
        return front

    def let_connect(self, pool: BackendPool) -> None:
        """Let waiting sessions choose a backend."""
        for backend in pool.backends:
            backend.max_conns = 0
            backend.give_back()
        queue, pool.queue = pool.queue, None
        assert queue is not None
        queue.call_all()

    def connected(self, before: dict[str, Any], after: dict[str, Any]) -> list[Connection]:
        """Return the upstream connections of two sessions that connected after the reload."""
        pool = self.harness.pool(self.harness.add(SilentBackend()).name)
        self.waiting(pool, before, after)
        self.let_connect(pool)
        self.harness.settle()
        upstreams = [session.upstream for session in self.sessions()]
        assert len(upstreams) == 2
        return [upstream for upstream in upstreams if upstream is not None]

    def ends_of(self, names: list[str], before: dict[str, Any], after: dict[str, Any]) -> Any:
        """Return how many backends each of two sessions has tried, and how it has ended."""
        pool = self.harness.pool(*names, max_fails=0)
        front = self.waiting(pool, before, after)
        with self.expect_log(r"connect\(\) failed \(111"):
            self.let_connect(pool)
            self.harness.turn_until(lambda: front.ended)
            self.harness.settle()
        old = [len(session.attempts) for session in self.sessions()]
        return old, [(len(ended.upstreams), ended.termination) for ended in front.ended]

    def refusing(self) -> str:
        return self.harness.add(RefusingPort()).name

    def echo(self) -> str:
        return self.harness.add(EchoBackend()).name

    def udp(self, before: dict[str, Any], after: dict[str, Any]) -> tuple[UdpFront, Any]:
        """Return a proxy with a client whose session began before the reload, and its backend."""
        backend = self.harness.add(UdpBackend())
        front = udp_proxy(self.harness, self.harness.pool(backend.name), **before)
        client = front.client()
        client.send(b"first")
        self.harness.turn_until(lambda: client.received == [b"first"])
        self.changed(front, **after)
        return front, (client, backend)

    def ask(self, client: UdpClient, count: int) -> None:
        """Let a client ask, and receive as many answers as it has asked questions."""
        for _ in range(count):
            answers = len(client.received)
            client.send(b"more")
            self.harness.turn_until(lambda: len(client.received) > answers)  # noqa: B023


# -- one function for each setting --


def timeout(scene: Scene) -> None:
    front = scene.established({"timeout_ms": 600_000}, {"timeout_ms": 5000})
    scene.harness.advance(5010)
    scene.harness.turn_until(lambda: front.ended)
    assert [session.context.number for session in scene.sessions()] == [1]


def half_close(scene: Scene) -> None:
    front = scene.established({"half_close": True}, {"half_close": False})
    for client in scene.clients:
        client.finish()
    scene.harness.turn_until(lambda: front.ended)
    scene.harness.settle()
    assert [session.context.number for session in scene.sessions()] == [1]


def half_close_timeout(scene: Scene) -> None:
    key = "half_close_timeout_ms"
    front = scene.established({key: 600_000}, {key: 5000})
    for client in scene.clients:
        client.finish()
    scene.harness.settle()
    scene.harness.advance(5010)
    scene.harness.turn_until(lambda: front.ended)
    assert [session.context.number for session in scene.sessions()] == [1]


def buffer_size(scene: Scene) -> None:
    scene.established({"buffer_size": 1000}, {"buffer_size": 2000})
    sizes = [len(each.read_sizes[0]) for each in scene.sessions() if isinstance(each, TcpSession)]
    assert sizes == [1000, 2000]


class CountingPipes(Pipes):
    """Pipes that count how often one is wanted."""

    taken = 0

    def take(self) -> Pipe | None:
        self.taken += 1
        return super().take()


def splice(scene: Scene) -> None:
    loop = scene.harness.loop
    loop.pipes.close()
    pipes = loop.pipes = CountingPipes(loop.reserve)
    scene.established({"splice": False}, {"splice": True})
    data = bytes(4 * 1024 * 1024)
    taken = []
    for session, client in zip(scene.sessions(), scene.clients, strict=True):
        before = pipes.taken
        client.write_bytes = len(data)
        client.send(data)
        scene.harness.turn_until(lambda s=session: s.client.received == len(data))  # type: ignore[misc]
        taken.append(pipes.taken > before)
    assert taken == [False, True]


def bind(scene: Scene) -> None:
    before, after = Address(socket.AF_INET, "127.0.0.2"), Address(socket.AF_INET, "127.0.0.3")
    upstreams = scene.connected({"bind": before}, {"bind": after})
    assert [upstream.local_sockaddr[0] for upstream in upstreams] == ["127.0.0.2", "127.0.0.3"]


def option_of(scene: Scene, key: str, level: int, option: int) -> list[bool]:
    upstreams = scene.connected({key: False}, {key: True})
    return [bool(upstream.socket.getsockopt(level, option)) for upstream in upstreams]


def tcp_nodelay(scene: Scene) -> None:
    options = option_of(scene, "tcp_nodelay", socket.IPPROTO_TCP, socket.TCP_NODELAY)
    assert options == [False, True]


def socket_keepalive(scene: Scene) -> None:
    options = option_of(scene, "socket_keepalive", socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert options == [False, True]


def headers(scene: Scene, before: dict[str, Any], after: dict[str, Any]) -> list[bytes]:
    """Return what backends hear first of two sessions that a proxy has announced by TLV 0xE0."""
    server = scene.harness.add(Server())
    pool = scene.harness.pool(server.name)
    scene.waiting(pool, before, after)
    for session in scene.sessions():
        session.arrival = Arrival(session.client.sockaddr)
        session.arrival.header = Header(2, 0, tlvs=((0xE0, b"said before"),))
    scene.let_connect(pool)
    scene.harness.turn_until(lambda: len(server.ends) == 2)
    scene.harness.settle()
    heard = {end.socket.getpeername(): end.received for end in server.ends}
    upstreams = [session.upstream for session in scene.sessions()]
    return [bytes(heard[upstream.local_sockaddr]) for upstream in upstreams if upstream is not None]


def proxy_protocol(scene: Scene) -> None:
    off, on = headers(scene, {"proxy_protocol": "off"}, {"proxy_protocol": "v1"})
    assert (off, on[:6]) == (b"", b"PROXY ")


def pass_tlvs(scene: Scene) -> None:
    before = {"proxy_protocol": "v2", "pass_tlvs": False}
    said = headers(scene, before, {"pass_tlvs": True})
    assert [b"said before" in header for header in said] == [False, True]


def connect_timeout(scene: Scene) -> None:
    pool = scene.harness.pool(scene.harness.add(FullPort()).name)
    before, after = {"connect_timeout_ms": 60_000}, {"connect_timeout_ms": 5000}
    front = scene.waiting(pool, {**before, "next_upstream": False}, after)
    scene.let_connect(pool)
    scene.harness.settle()
    with scene.expect_log(r"connect\(\) timed out", count=1):
        scene.harness.advance(5010)
        scene.harness.turn_until(lambda: front.ended)
    assert [session.context.number for session in scene.sessions()] == [1]


def next_upstream(scene: Scene) -> None:
    names = [scene.refusing(), scene.refusing(), scene.echo()]
    ends = scene.ends_of(names, {"next_upstream": True}, {"next_upstream": False})
    assert ends == ([2], [(1, "SC")])


def next_upstream_tries(scene: Scene) -> None:
    names = [scene.refusing(), scene.refusing(), scene.echo()]
    ends = scene.ends_of(names, {"next_upstream_tries": 3}, {"next_upstream_tries": 1})
    assert ends == ([2], [(1, "SC")])


def next_upstream_timeout(scene: Scene) -> None:
    names = [scene.refusing(), scene.refusing(), scene.echo()]
    key = "next_upstream_timeout_ms"
    assert scene.ends_of(names, {key: None}, {key: 0}) == ([2], [(1, "SC")])


def requests(scene: Scene) -> None:
    front, (client, _) = scene.udp({"requests": 0}, {"requests": 1})
    scene.ask(client, 3)
    assert front.handler.counters.open == 1
    new = front.client()
    scene.ask(new, 3)
    assert front.handler.counters.open == 4


def responses(scene: Scene) -> None:
    front, (client, _) = scene.udp({"responses": None}, {"responses": 1})
    scene.ask(client, 3)
    assert front.terminations == []
    scene.ask(front.client(), 1)
    scene.harness.turn_until(lambda: front.terminations == ["--"])


def udp_offload(scene: Scene) -> None:
    front, _ = scene.udp({"udp_offload": True}, {"udp_offload": False})
    scene.ask(front.client(), 1)
    data = memoryview(b"data")
    may = [may_wait(s, data) for s in scene.sessions() if isinstance(s, UdpSession)]
    assert may == [True, False]


def max_sessions(scene: Scene) -> None:
    """This is about clients that have no session yet, so it can be of now only."""
    front, (client, _) = scene.udp({"max_sessions": 0}, {"max_sessions": 1})
    scene.ask(client, 2)
    with scene.expect_log("max_sessions"):
        front.client().send(b"refused")
        scene.harness.turn_until(lambda: front.handler.drops["shed"])
    scene.ask(client, 2)


def pool(scene: Scene) -> None:
    """Held by a session that has chosen a backend: it may have to choose another one there."""
    full, other = scene.harness.add(FullPort()), scene.harness.add(SilentBackend())
    old, new = scene.harness.pool(full.name, scene.refusing()), scene.harness.pool(other.name)
    front = scene.harness.proxy(old, connect_timeout_ms=5000)
    scene.connect(front)
    front.reload(new)
    scene.connect(front)
    scene.harness.turn_until(lambda: other.ends)
    with scene.expect_log("connect"):
        scene.harness.advance(5010)
        scene.harness.turn_until(lambda: front.ended)
    assert front.ended[0].upstreams == tuple(backend.name for backend in old.backends)
    assert [session.context.number for session in scene.sessions()] == [2]


def drain_timeout(scene: Scene) -> None:
    key = "drain_timeout_ms"
    front = scene.established({key: 600_000}, {key: 5000})
    assert isinstance(front.handler, ProxyHandler)
    front.handler.destination.left_at_ms = scene.harness.clock.now_ms
    scene.harness.advance(5010)
    for session in scene.sessions():
        drain(session)
    assert [session.context.number for session in scene.sessions()] == [1]


class KeyTaker(RoundRobin[Backend]):
    """Round robin that remembers the keys it was given."""

    keys: tuple[bytes, ...] = ()

    def pick(self, key: bytes, tried: Collection[Backend], now_s: int) -> Backend | None:
        backend = super().pick(key, tried, now_s)
        if backend is not None:
            self.keys += (key,)
        return backend


def hash_key(scene: Scene) -> None:
    balancers: list[KeyTaker] = []

    def make_balancer(peers: Any) -> KeyTaker:
        balancers.append(KeyTaker(peers))
        return balancers[-1]

    pool = scene.harness.pool(scene.echo(), make_balancer=make_balancer)

    def change(front: Front) -> None:
        assert isinstance(front.handler, ProxyHandler)
        front.handler.hash_key = lambda _session: "old"
        front.reload()
        front.handler.hash_key = lambda _session: "new"

    scene.waiting(pool, {}, change)
    scene.let_connect(pool)
    scene.harness.settle()
    assert [key for each in balancers for key in each.keys] == [b"old", b"new"]


def log_session(scene: Scene) -> None:
    lines: list[str] = []
    front = scene.established({}, {})
    old, new = [session.handler for session in scene.sessions()]
    assert isinstance(old, ProxyHandler)
    assert new is front.handler
    old.log_session = lambda _session: lines.append("old")
    new.log_session = lambda _session: lines.append("new")
    for session in scene.sessions():
        session.kill()
    assert lines == ["old", "new"]


def paced(scene: Scene, name: str) -> tuple[list[End], list[End]]:
    """Return two clients and their ends at the backend, at 1 and 2 KiB a second of `name`."""
    server = scene.harness.add(Server())
    front = scene.harness.proxy(scene.harness.pool(server.name))
    for count, rate in enumerate((1024, 2048), 1):
        scene.changed(front, **{name: rate})
        assert isinstance(front.handler, tcp.TcpHandler)
        front.handler.session_class = PacedSession
        scene.connect(front)
        scene.harness.turn_until(lambda count=count: len(server.ends) == count)  # type: ignore[misc]
    scene.harness.settle()
    return scene.clients, server.ends


def upload_rate(scene: Scene) -> None:
    clients, ends = paced(scene, "upload_rate")
    for client in clients:
        client.send(bytes(10_000))
    scene.harness.settle()
    assert [len(end.received) for end in ends] == [102, 204]


def download_rate(scene: Scene) -> None:
    clients, ends = paced(scene, "download_rate")
    for end in ends:
        end.send(bytes(10_000))
    scene.harness.settle()
    assert [len(client.received) for client in clients] == [102, 204]


def tls(scene: Scene) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    after = {"tls": UpstreamTls(context, "web.example")}
    plain, secret = scene.connected({}, after)
    assert (isinstance(plain, TlsConnection), isinstance(secret, TlsConnection)) == (False, True)


SETTINGS: dict[str, Callable[[Scene], None]] = {
    "bind": bind,
    "buffer_size": buffer_size,
    "connect_timeout_ms": connect_timeout,
    "download_rate": download_rate,
    "drain_timeout_ms": drain_timeout,
    "half_close": half_close,
    "half_close_timeout_ms": half_close_timeout,
    "hash_key": hash_key,
    "log_session": log_session,
    "max_sessions": max_sessions,
    "next_upstream": next_upstream,
    "next_upstream_timeout_ms": next_upstream_timeout,
    "next_upstream_tries": next_upstream_tries,
    "pass_tlvs": pass_tlvs,
    "pool": pool,
    "proxy_protocol": proxy_protocol,
    "requests": requests,
    "responses": responses,
    "socket_keepalive": socket_keepalive,
    "splice": splice,
    "tcp_nodelay": tcp_nodelay,
    "timeout_ms": timeout,
    "tls": tls,
    "udp_offload": udp_offload,
    "upload_rate": upload_rate,
}


@pytest.mark.parametrize("setting", SETTINGS)
def test_a_session_keeps_the_settings_it_was_accepted_with(
    harness: Harness, expect_log: Any, setting: str
) -> None:
    SETTINGS[setting](Scene(harness, expect_log))


def test_no_setting_is_left_out() -> None:
    settings = {field.name for field in dataclasses.fields(ProxySettings)}
    assert settings | {"pool", "hash_key", "log_session"} == set(SETTINGS)


def test_all_that_a_handler_holds_is_a_setting_or_the_listeners_own() -> None:
    """Each new attribute of a handler needs a decision: kept by the session, or taken over."""
    kept = {"settings", "pool", "hash_key", "log_session", "read_sizes", "name", "text"}
    kept |= {"is_verbose", "logger", "phases", "session_class", "bind_of"}
    taken_over = {
        "announcements",
        "counters",
        "table",
        "detached",
        "drops",
        "destination",
        "firsts",
        "succession",
    }
    fixed = {"loop", "local_sockaddr", "port", "heir", "is_draining", "__weakref__"}
    # Set while sessions move to another process, when nothing reloads.
    fixed |= {"on_announced"}
    assert handler_attributes() == kept | taken_over | fixed


def handler_attributes() -> set[str]:
    classes = (
        handler.ProtocolHandler,
        handler.ProxyHandler,
        tcp.TcpHandler,
        udp_base.UdpHandlerBase,
        udp.UdpHandler,
        reply.ReplyHandler,
        reply.DatagramReplyHandler,
    )
    return {name for each in classes for name in each.__dict__["__slots__"]}


def test_a_client_that_waits_goes_where_the_listener_leads_now(
    harness: Harness, expect_log: Any
) -> None:
    scene = Scene(harness, expect_log)
    first, second = harness.add(Server()), harness.add(Server())
    old, new = harness.pool(first.name), harness.pool(second.name)
    scene.waiting(old, {}, lambda front: front.reload(new))
    harness.turn_until(lambda: len(second.ends) == 2)
    assert [session.attempts[-1].pool for session in scene.sessions()] == [new, new]
    for backend in old.backends:
        backend.give_back()


def test_a_handler_that_was_replaced_goes_with_its_last_session(
    harness: Harness, expect_log: Any
) -> None:
    front = Scene(harness, expect_log).established({}, {})
    handlers = [weakref.ref(session.handler) for session in harness.sessions()]
    gc.disable()
    try:
        for session in harness.sessions():
            session.kill()
        del session
        front.reload()
        assert [handler() for handler in handlers] == [None, None]
    finally:
        gc.enable()


def test_the_counts_of_a_listener_go_on(harness: Harness, expect_log: Any) -> None:
    front = Scene(harness, expect_log).established({}, {})
    assert front.handler.sessions == 2
    for session in harness.sessions():
        assert front.handler.owns(session)
        session.kill()
    assert front.handler.sessions == 0
    assert front.handler.counters.terminations == {"KD": 2}
