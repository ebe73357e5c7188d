"""A crowd around a running nginy: echo backends, lasting sessions, and clients that come and go.

Every message is unlike any other, and its echo has to be the same to the byte: a byte that is
lost, doubled or another client's shows. `step` does what can be done now; at most `IN_FLIGHT`
messages are under way, so that the kernel's buffers never have a reason to drop a datagram. What
goes wrong is in `failures`, as sentences.
"""

import collections
import contextlib
import errno
import selectors
import socket
import time
from collections.abc import Callable

from kit.servers import address_text

SockAddr = tuple[str, int]

IN_FLIGHT = 64
MESSAGE_BYTES = 48
MAX_BYTES = 65536
PATIENCE_S = 25.0
STEP_S = 0.005


class Talker:
    """A client that says something and waits for exactly that to come back."""

    def __init__(
        self, crowd: "Crowd", name: str, kind: socket.SocketKind, target: SockAddr
    ) -> None:
        self.crowd = crowd
        self.name = name
        self.rounds = 0
        self.is_lasting = True
        self._expected = b""
        self._received = b""
        self.socket = socket.socket(type=kind)
        self.socket.setblocking(False)
        code = self.socket.connect_ex(target)
        if code not in (0, errno.EINPROGRESS):
            crowd.failures.append(f"{name}: connect() failed ({code})")
        crowd.selector.register(self.socket, selectors.EVENT_WRITE, self._connected)

    def _connected(self) -> None:
        code = self.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        self.crowd.selector.modify(self.socket, selectors.EVENT_READ, self._answered)
        if code:
            self._fail(f"not connected ({code})")
        else:
            self.speak()

    def speak(self) -> None:
        """Say something new."""
        self._expected = f"{self.name} {self.rounds} ".encode().ljust(MESSAGE_BYTES, b".")
        self._received = b""
        try:
            count = self.socket.send(self._expected)
        except OSError as error:
            self._fail(str(error))
            return
        if count != len(self._expected):
            self._fail(f"sent {count} bytes")

    def _answered(self) -> None:
        try:
            data = self.socket.recv(MAX_BYTES)
        except OSError as error:
            self._fail(str(error))
            return
        self._received += data
        if not data or not self._expected.startswith(self._received):
            self._fail(f"received {self._received!r}, expected {self._expected!r}")
        elif self._received == self._expected:
            self.rounds += 1
            self._expected = b""
            self.crowd.is_answered(self)

    def _fail(self, why: str) -> None:
        self.crowd.failures.append(f"{self.name}, round {self.rounds}: {why}")
        self.close()

    def close(self) -> None:
        if self.socket.fileno() >= 0:
            self.crowd.selector.unregister(self.socket)
            self.socket.close()


class Crowd:
    """Owns everything around nginy; leaving the `with` block closes it."""

    def __init__(self) -> None:
        self.selector = selectors.DefaultSelector()
        self.failures: list[str] = []
        self.talkers: list[Talker] = []
        self.newcomers_served = 0
        self._idle: collections.deque[Talker] = collections.deque()
        self._busy = 0
        self._is_quiet = False
        self._newcomers = 0
        self._wanted_newcomers = 0
        self._target: SockAddr = ("", 0)
        self._sockets: set[socket.socket] = set()

    def __enter__(self) -> "Crowd":
        return self

    def __exit__(self, *_: object) -> None:
        for key in list(self.selector.get_map().values()):
            self.selector.unregister(key.fileobj)
            if isinstance(key.fileobj, socket.socket):
                key.fileobj.close()
        self.selector.close()

    # Backends.

    def tcp_backend(self) -> str:
        """Serve echoes; return the address."""
        server = socket.create_server(("127.0.0.1", 0), backlog=4096)
        server.setblocking(False)
        self.selector.register(server, selectors.EVENT_READ, lambda: self._accept(server))
        return address_text(server)

    def _accept(self, server: socket.socket) -> None:
        with contextlib.suppress(BlockingIOError):
            sock, _ = server.accept()
            sock.setblocking(False)
            self.selector.register(sock, selectors.EVENT_READ, lambda: self._echo(sock))

    def _echo(self, sock: socket.socket) -> None:
        data = b""
        with contextlib.suppress(ConnectionError):
            data = sock.recv(MAX_BYTES)
            if data:
                sock.sendall(data)
        if not data:
            self.selector.unregister(sock)
            sock.close()

    def udp_backend(self) -> str:
        """Serve echoes of datagrams; return the address."""
        sock = socket.socket(type=socket.SOCK_DGRAM)
        sock.setblocking(False)
        sock.bind(("127.0.0.1", 0))

        def echo() -> None:
            data, sender = sock.recvfrom(MAX_BYTES)
            sock.sendto(data, sender)

        self.selector.register(sock, selectors.EVENT_READ, echo)
        return address_text(sock)

    # Clients.

    def join(self, kind: socket.SocketKind, target: SockAddr, count: int) -> None:
        """Begin lasting sessions, and go on until each has had an answer."""
        letter = "t" if kind == socket.SOCK_STREAM else "u"
        for _ in range(count):
            self._busy += 1
            self.talkers.append(Talker(self, f"{letter}{len(self.talkers)}", kind, target))
            self.step_until(lambda: self._busy < IN_FLIGHT)
        self.step_until(lambda: all(each.rounds for each in self.talkers))

    def let_come_and_go(self, target: SockAddr, at_once: int) -> None:
        """From now on, let TCP clients connect, talk once and leave, this many at a time."""
        self._target = target
        self._wanted_newcomers = at_once

    def is_answered(self, talker: Talker) -> None:
        """Take note of an echo that was right."""
        if talker.is_lasting:
            self._busy -= 1
            self._idle.append(talker)
        else:
            talker.close()
            self._newcomers -= 1
            self.newcomers_served += 1

    # Time.

    def step(self) -> None:
        """Do what can be done now; wait a little where that is nothing."""
        while self._idle and self._busy < IN_FLIGHT and not self._is_quiet:
            self._busy += 1
            self._idle.popleft().speak()
        while self._newcomers < self._wanted_newcomers:
            self._newcomers += 1
            name = f"n{self.newcomers_served}.{self._newcomers}"
            Talker(self, name, socket.SOCK_STREAM, self._target).is_lasting = False
        for key, _ in self.selector.select(STEP_S):
            handler: Callable[[], None] = key.data
            handler()
        assert not self.failures, self.failures[:5]

    def step_until(self, condition: Callable[[], object]) -> None:
        """Go on until `condition()` is true."""
        deadline_s = time.monotonic() + PATIENCE_S
        while not condition():
            assert time.monotonic() < deadline_s, f"waited in vain, {self._busy} wait for an answer"
            self.step()

    def hear_from_all(self) -> None:
        """Go on until every lasting session has had one more answer."""
        before = {talker: talker.rounds for talker in self.talkers}
        self.step_until(lambda: all(each.rounds > before[each] for each in self.talkers))

    def leave(self) -> None:
        """Let all have their answer, then end all sessions; nobody comes any more."""
        self._wanted_newcomers = 0
        self._is_quiet = True
        self.step_until(lambda: not self._newcomers and not self._busy)
        self._is_quiet = False
        for talker in self.talkers:
            talker.close()
        self.talkers.clear()
        self._idle.clear()
