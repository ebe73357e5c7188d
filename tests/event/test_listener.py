import errno
import itertools
import os
import pathlib
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from nginy.event.bind import KeepAlive, ListenError, ListenOptions
from nginy.event.connection import Connection
from nginy.event.event import Event
from nginy.event.listener import ACCEPT_PAUSE_MS, ACCEPT_QUOTA, SHORTAGE_PAUSE_MS, Listener
from nginy.event.loop import Loop
from nginy.event.reserve import REPORT_MS
from nginy.event.selector import Interest
from nginy.text.address import Address, parse_address

from kit.clock import FakeClock
from kit.harness import ANY_PORT, ANY_PORT_V6
from kit.leaks import no_descriptor_left

NOBODY = 65534


class Accepted:
    """Takes accepted connections, and closes them in the end."""

    def __init__(self) -> None:
        self.connections: list[Connection] = []

    def __call__(self, c: Connection) -> None:
        self.connections.append(c)

    @property
    def count(self) -> int:
        return len(self.connections)

    def close(self) -> None:
        for c in self.connections:
            c.close()


@pytest.fixture
def accepted() -> Iterator[Accepted]:
    taker = Accepted()
    yield taker
    taker.close()


Open = Callable[..., Listener]


@pytest.fixture
def open_listener() -> Iterator[Open]:
    """Return a function that opens listeners; all are closed in the end."""
    opened: list[Listener] = []

    def open_one(address: Address = ANY_PORT, **options: Any) -> Listener:
        opened.append(Listener(ListenOptions(address, **options)))
        return opened[-1]

    yield open_one
    for listener in opened:
        listener.close()


@pytest.fixture
def connect() -> Iterator[Callable[[Listener], socket.socket]]:
    """Return a function that opens clients; all are closed in the end."""
    clients: list[socket.socket] = []

    def connect_one(listener: Listener) -> socket.socket:
        client = socket.socket(listener.address.family)
        clients.append(client)
        client.settimeout(15)
        client.connect(listener.address.sockaddr)
        return client

    yield connect_one
    for client in clients:
        client.close()


Connect = Callable[[Listener], socket.socket]


class NoRoom:
    """An `Interest` whose selector takes no more."""

    is_edge_triggered = False
    descriptors_max = None

    def __init__(self, before: Interest) -> None:
        self._before = before

    def wait(self, timeout: float | None) -> list[tuple[Connection, int]]:
        return self._before.wait(timeout)

    def connections(self) -> list[Connection]:
        return self._before.connections()

    def add(self, _c: Connection) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def change(self, event: Event) -> None: ...

    def remove(self, c: Connection) -> None: ...

    def forget(self, c: Connection) -> None: ...

    def remind(self) -> None: ...


class FailingSocket(socket.socket):
    """A listening socket whose accept() fails once, in a way that loopback does not."""

    def __init__(self, code: int) -> None:
        super().__init__()
        self.code = code
        self.bind(("127.0.0.1", 0))
        self.listen()
        self.setblocking(False)

    def _accept(self) -> tuple[int, Any]:
        if self.code:
            code, self.code = self.code, 0
            raise OSError(code, os.strerror(code))
        return super()._accept()  # type: ignore[misc] # undeclared


# -- accepting --


def test_a_client_is_handed_to_the_handler_with_its_address(
    loop: Loop, open_listener: Open, connect: Connect, accepted: Accepted
) -> None:
    listener = open_listener()
    listener.start(loop, accepted)
    client = connect(listener)
    loop.turn(0)
    (c,) = accepted.connections
    assert c.sockaddr == client.getsockname()
    assert c.socket.gettimeout() == 0
    client.send(b"hello")
    assert c.recv(loop.memory) == 5


def test_a_crowd_is_accepted_in_portions(
    loop: Loop, open_listener: Open, connect: Connect, accepted: Accepted
) -> None:
    listener = open_listener()
    listener.start(loop, accepted)
    for _ in range(3 * ACCEPT_QUOTA + 1):
        connect(listener)
    counts = [0]
    for _ in range(4):
        loop.turn(0)
        counts.append(accepted.count)
    assert [after - before for before, after in itertools.pairwise(counts)] == [
        ACCEPT_QUOTA,
        ACCEPT_QUOTA,
        ACCEPT_QUOTA,
        1,
    ]


def test_those_who_are_connected_come_before_new_clients(
    loop: Loop, open_listener: Open, connect: Connect
) -> None:
    listener = open_listener()
    steps: list[str] = []
    accepted = Accepted()

    def accept(c: Connection) -> None:
        steps.append("accepted")
        accepted(c)
        c.read.handler = lambda _event: steps.append("served")
        c.resume_read()

    listener.start(loop, accept)
    first = connect(listener)
    loop.turn(0)
    first.send(b"x")
    connect(listener)
    loop.turn(0)
    assert steps == ["accepted", "served", "accepted"]
    accepted.close()


def test_a_paused_listener_keeps_who_comes_waiting(
    loop: Loop, open_listener: Open, connect: Connect, accepted: Accepted
) -> None:
    listener = open_listener()
    listener.pause()  # before it was started: nothing to pause
    listener.resume()
    listener.start(loop, accepted)
    listener.pause()
    connect(listener)
    connect(listener)
    loop.turn(0)
    assert accepted.count == 0
    listener.resume()
    loop.turn(0)
    loop.turn(0)
    assert accepted.count == 2


def test_a_handler_may_close_its_listener(
    loop: Loop, open_listener: Open, connect: Connect, accepted: Accepted
) -> None:
    listener = open_listener()

    def accept(c: Connection) -> None:
        accepted(c)
        listener.close()

    listener.start(loop, accept)
    connect(listener)
    connect(listener)
    loop.turn(0)
    loop.turn(0)
    assert accepted.count == 1


def test_a_bug_in_accepting_one_client_ends_that_client_alone(
    loop: Loop, open_listener: Open, connect: Connect, accepted: Accepted, expect_log: Any
) -> None:
    listener = open_listener()

    def accept(c: Connection) -> None:
        if not accepted.count:
            accepted(c)
            raise ZeroDivisionError
        accepted(c)

    listener.start(loop, accept)
    first = connect(listener)
    connect(listener)
    with expect_log("bug in nginy", count=1):
        loop.turn(0)
        loop.turn(0)
    assert accepted.count == 2
    with pytest.raises(ConnectionResetError):
        first.recv(1)
    connect(listener)
    loop.turn(0)
    assert accepted.count == 3


def test_without_memory_for_one_client_the_listener_pauses(
    loop: Loop, open_listener: Open, connect: Connect, clock: FakeClock, expect_log: Any
) -> None:
    listener = open_listener()
    accepted = Accepted()

    def accept(c: Connection) -> None:
        accepted(c)
        if accepted.count == 1:
            raise MemoryError

    listener.start(loop, accept)
    first = connect(listener)
    connect(listener)
    with expect_log("out of memory", count=1):
        loop.turn(0)
        loop.turn(0)
    assert accepted.count == 1
    with pytest.raises(ConnectionResetError):
        first.recv(1)
    clock.advance(ACCEPT_PAUSE_MS + 10)
    loop.turn(0)
    loop.turn(0)
    assert accepted.count == 2
    accepted.close()


# -- accept() fails --


@pytest.mark.parametrize("method", ["epoll", "poll"])
@pytest.mark.parametrize("code", [errno.ECONNABORTED, errno.EPROTO, errno.ENETUNREACH])
def test_a_client_that_is_gone_before_it_is_accepted_is_skipped(
    loop: Loop, connect: Connect, accepted: Accepted, code: int
) -> None:
    sock = FailingSocket(code)
    listener = Listener(ListenOptions(ANY_PORT), sock)
    listener.start(loop, accepted)
    connect(listener)
    loop.turn(0)
    assert accepted.count == 1
    listener.close()


@pytest.mark.parametrize("code", [errno.EPERM, errno.ENOBUFS, errno.ENOMEM])
def test_accepting_pauses_for_half_a_second_after_any_other_error(
    loop: Loop, connect: Connect, accepted: Accepted, clock: FakeClock, expect_log: Any, code: int
) -> None:
    sock = FailingSocket(code)
    listener = Listener(ListenOptions(ANY_PORT), sock)
    listener.start(loop, accepted)
    connect(listener)
    text = rf"accept\(\) failed \({code}: .*\) on {listener.address}"
    with expect_log(text, count=1) as records:
        loop.turn(0)
    assert records[0].levelname == "CRITICAL"
    clock.advance(ACCEPT_PAUSE_MS - 1)
    loop.turn(0)
    assert accepted.count == 0
    clock.advance(11)
    loop.turn(0)
    loop.turn(0)
    assert accepted.count == 1
    listener.close()


NO_DESCRIPTOR = r"out of descriptors \(24: Too many open files\), new clients of"


def test_without_descriptors_it_neither_spins_nor_loses_anybody(
    loop: Loop,
    open_listener: Open,
    connect: Connect,
    accepted: Accepted,
    clock: FakeClock,
    expect_log: Any,
) -> None:
    listener = open_listener()
    listener.start(loop, accepted)
    clients = [connect(listener) for _ in range(3)]
    with no_descriptor_left():
        with expect_log(NO_DESCRIPTOR, count=1):
            loop.turn(0)
            assert loop.selector.select(0) == []
            for _ in range(5):
                clock.advance(SHORTAGE_PAUSE_MS + 10)
                loop.turn(0)
                loop.turn(0)
        # Said again, but once in a while.
        clock.advance(REPORT_MS)
        with expect_log(rf"{NO_DESCRIPTOR} {listener.address} wait \(\d similar messages", count=1):
            loop.turn(0)
            loop.turn(0)
    clock.advance(SHORTAGE_PAUSE_MS + 10)
    loop.turn(0)
    loop.turn(0)
    assert accepted.count == len(clients)


class Pairs:
    """Takes accepted connections, and opens a socket for each, as a session does."""

    def __init__(self, loop: Loop) -> None:
        self.loop = loop
        self.opened: list[tuple[Connection, Any]] = []
        self.served = 0

    def __call__(self, c: Connection) -> None:
        sock = self.loop.reserve.open_socket(socket.AF_INET, socket.SOCK_STREAM)
        self.opened.append((c, sock))

    def close(self) -> None:
        for c, sock in self.opened:
            c.close()
            sock.close()
        self.served += len(self.opened)
        self.opened.clear()


@pytest.mark.parametrize("left", [0, 1, 2, 3, 4, 5])
def test_a_client_is_accepted_only_if_its_backend_can_have_a_descriptor_too(
    loop: Loop,
    open_listener: Open,
    connect: Connect,
    clock: FakeClock,
    expect_log: Any,
    left: int,
) -> None:
    listener = open_listener()
    pairs = Pairs(loop)
    listener.start(loop, pairs)
    for _ in range(4):
        connect(listener)

    def turn() -> None:
        clock.advance(SHORTAGE_PAUSE_MS + 10)
        loop.turn(0)
        loop.turn(0)

    with expect_log(NO_DESCRIPTOR, count=1), no_descriptor_left(but=left):
        turn()
        # One descriptor was held back before, so it is enough for the last backend.
        assert len(pairs.opened) == (left + 1) // 2
        for _ in range(4):
            pairs.close()
            turn()
        assert pairs.served + len(pairs.opened) == (4 if left else 0)
    turn()
    pairs.close()
    assert pairs.served == 4


def test_a_descriptor_that_comes_free_alone_goes_into_the_reserve_and_to_no_client(
    loop: Loop, open_listener: Open, connect: Connect, clock: FakeClock, expect_log: Any
) -> None:
    """As when a check ends: the one that a session frees comes with another."""
    listener = open_listener()
    pairs = Pairs(loop)
    listener.start(loop, pairs)
    for _ in range(2):
        connect(listener)

    def turn() -> None:
        clock.advance(SHORTAGE_PAUSE_MS + 10)
        loop.turn(0)
        loop.turn(0)

    with expect_log(NO_DESCRIPTOR, count=1), no_descriptor_left(but=1) as free_one:
        turn()
        assert len(pairs.opened) == 1
        free_one()
        turn()
        assert len(pairs.opened) == 1
        free_one()
        turn()
        assert len(pairs.opened) == 2
    pairs.close()


@pytest.mark.parametrize("method", ["epoll", "select"])
def test_a_client_that_the_selector_has_no_room_for_is_closed_and_the_listener_pauses(
    loop: Loop,
    open_listener: Open,
    connect: Connect,
    accepted: Accepted,
    clock: FakeClock,
    expect_log: Any,
) -> None:
    """As with epoll when a user has too many watches (ENOSPC), and with select() (EMFILE)."""
    listener = open_listener()
    listener.start(loop, accepted)
    interest = loop.interest
    loop.interest = NoRoom(interest)
    client = connect(listener)
    with expect_log(r"register\(\) failed \(28: No space left on device\)", count=1):
        loop.turn(0)
    assert (loop.connections, accepted.count) == (1, 0)
    assert client.recv(1) == b""
    loop.interest = interest
    connect(listener)
    clock.advance(ACCEPT_PAUSE_MS + 10)
    loop.turn(0)
    loop.turn(0)
    assert accepted.count == 1


def test_a_listener_that_is_closed_in_its_pause_stays_closed(
    loop: Loop, connect: Connect, accepted: Accepted, clock: FakeClock, expect_log: Any
) -> None:
    listener = Listener(ListenOptions(ANY_PORT), FailingSocket(errno.EMFILE))
    listener.start(loop, accepted)
    connect(listener)
    with expect_log(NO_DESCRIPTOR):
        loop.turn(0)
    listener.close()
    clock.advance(ACCEPT_PAUSE_MS + 10)
    loop.turn(0)
    assert accepted.count == 0
    assert loop.connections == 0


# -- opening --


def test_an_address_in_use_is_named(open_listener: Open) -> None:
    listener = open_listener()
    with pytest.raises(ListenError) as raised:
        open_listener(listener.address)
    assert str(raised.value) == (
        f"bind() to {listener.address} failed ({errno.EADDRINUSE}: Address already in use)"
    )


def test_permission_denied_names_the_address(open_listener: Open, tmp_path: pathlib.Path) -> None:
    directory = tmp_path / "closed"
    directory.mkdir(mode=0o500)
    address = parse_address(f"unix:{directory}/x")
    is_root = os.geteuid() == 0
    if is_root:
        os.seteuid(NOBODY)
    try:
        with pytest.raises(ListenError) as raised:
            open_listener(address)
    finally:
        if is_root:
            os.seteuid(0)
    assert str(raised.value) == (f"bind() to {address} failed ({errno.EACCES}: Permission denied)")


def test_a_listener_that_cannot_be_opened_leaves_no_descriptor(open_listener: Open) -> None:
    listener = open_listener()
    before = os.listdir("/proc/self/fd")
    with pytest.raises(ListenError):
        open_listener(listener.address)
    assert os.listdir("/proc/self/fd") == before


def test_port_0_becomes_the_port_that_the_kernel_has_chosen(open_listener: Open) -> None:
    listener = open_listener()
    assert listener.address.port == listener.socket.getsockname()[1] > 0
    assert repr(listener) == f"<Listener 127.0.0.1:{listener.address.port}>"


def test_accepted_sockets_inherit_nodelay_and_keepalive(
    loop: Loop, open_listener: Open, connect: Connect, accepted: Accepted
) -> None:
    listener = open_listener(keepalive=KeepAlive(idle_s=7, interval_s=3, count=2))
    listener.start(loop, accepted)
    connect(listener)
    loop.turn(0)
    sock = accepted.connections[0].socket
    tcp = socket.IPPROTO_TCP
    assert sock.getsockopt(tcp, socket.TCP_NODELAY)
    assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
    assert sock.getsockopt(tcp, socket.TCP_KEEPIDLE) == 7
    assert sock.getsockopt(tcp, socket.TCP_KEEPINTVL) == 3
    assert sock.getsockopt(tcp, socket.TCP_KEEPCNT) == 2


@pytest.mark.parametrize("method", ["epoll"])
def test_options_are_changed_for_clients_that_come_later(
    loop: Loop, open_listener: Open, connect: Connect, accepted: Accepted
) -> None:
    listener = open_listener(keepalive=KeepAlive(idle_s=7), nodelay=True)
    listener.start(loop, accepted)
    connect(listener)
    loop.turn(0)
    listener.apply(ListenOptions(ANY_PORT, nodelay=False, backlog=5))
    connect(listener)
    loop.turn(0)
    sockets = [c.socket for c in accepted.connections]
    tcp = socket.IPPROTO_TCP
    assert [bool(s.getsockopt(tcp, socket.TCP_NODELAY)) for s in sockets] == [True, False]
    keepalive = [s.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) for s in sockets]
    assert keepalive == [1, 0]


def test_ipv6_listeners_leave_ipv4_to_others(open_listener: Open) -> None:
    listener = open_listener(ANY_PORT_V6)
    assert listener.socket.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
    assert str(listener.address).startswith("[::1]:")


# -- unix sockets --


def test_a_unix_socket_is_removed_with_its_listener(
    loop: Loop,
    open_listener: Open,
    connect: Connect,
    accepted: Accepted,
    tmp_path: pathlib.Path,
) -> None:
    path = tmp_path / "x"
    listener = open_listener(parse_address(f"unix:{path}"))
    listener.start(loop, accepted)
    connect(listener)
    loop.turn(0)
    assert [c.addr_text for c in accepted.connections] == ["unix:"]
    listener.close()
    assert not path.exists()


def test_a_unix_socket_that_nobody_listens_on_any_more_is_taken_over(
    open_listener: Open, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "x"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
        killed.listen()
    assert path.exists()
    listener = open_listener(parse_address(f"unix:{path}"))
    assert path.is_socket()
    listener.close()
    assert not path.exists()


def test_a_unix_socket_in_use_is_left_to_its_owner(
    open_listener: Open, tmp_path: pathlib.Path
) -> None:
    address = parse_address(f"unix:{tmp_path}/x")
    open_listener(address)
    with pytest.raises(ListenError, match="Address already in use"):
        open_listener(address)
    assert (tmp_path / "x").is_socket()


def test_a_file_in_the_place_of_a_unix_socket_is_not_removed(
    open_listener: Open, tmp_path: pathlib.Path
) -> None:
    path = tmp_path / "x"
    path.write_text("precious")
    with pytest.raises(ListenError, match="Address already in use"):
        open_listener(parse_address(f"unix:{path}"))
    assert path.read_text() == "precious"


def test_a_unix_socket_that_cannot_be_removed_is_a_warning(
    open_listener: Open, tmp_path: pathlib.Path, expect_log: Any
) -> None:
    directory = tmp_path / "x"
    directory.mkdir()
    directory.chmod(0o777)
    listener = open_listener(parse_address(f"unix:{directory}/x"))
    directory.chmod(0o555)
    is_root = os.geteuid() == 0
    for parent in tmp_path.parents[:2]:
        parent.chmod(parent.stat().st_mode | 0o111)
    tmp_path.chmod(0o755)
    if is_root:
        os.seteuid(NOBODY)
    try:
        with expect_log(rf"unlink\(\) {directory}/x failed \(13: Permission denied\)", count=1):
            listener.close()
    finally:
        if is_root:
            os.seteuid(0)
        directory.chmod(0o777)
