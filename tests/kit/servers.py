"""Backends for tests, each with one habit. The kernel chooses all ports."""

import contextlib
import errno
import os
import socket

from kit.ends import EchoEnd, End, ResettingEnd, SockAddr, family_of


class Server:
    """Accepts, and keeps what it has accepted in `ends`; what they do is their own affair."""

    end_class: type[End] = End

    def __init__(self, sockaddr: SockAddr = ("127.0.0.1", 0), backlog: int = 511) -> None:
        self.socket = socket.socket(family_of(sockaddr))
        self.socket.setblocking(False)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(sockaddr)
        self.socket.listen(backlog)
        self.ends: list[End] = []
        self.is_accepting = True

    @property
    def name(self) -> str:
        """The address as the configuration writes it."""
        return address_text(self.socket)

    @property
    def end(self) -> End:
        """The one connection that was accepted."""
        (end,) = self.ends
        return end

    def step(self) -> bool:
        """Accept one connection if there is one, and let all do their step."""
        has_moved = self.is_accepting and self._accept()
        for end in self.ends:
            has_moved |= end.step()
        return has_moved

    def _accept(self) -> bool:
        try:
            sock, _ = self.socket.accept()
        except BlockingIOError:
            return False
        self.ends.append(self.end_class(sock))
        return True

    def close(self) -> None:
        path = self.socket.getsockname() if self.socket.family == socket.AF_UNIX else ""
        self.socket.close()
        for end in self.ends:
            end.close()
        if path:
            os.unlink(path)


class EchoBackend(Server):
    """Sends back what it receives."""

    end_class = EchoEnd


class SilentBackend(Server):
    """Accepts and never says a word."""


class Resetter(Server):
    """Resets whatever it accepts, at once."""

    end_class = ResettingEnd


class RefusingPort:
    """A port on which nobody listens, and which the kernel gives to nobody meanwhile.

    That is so for TCP. For UDP, use a `host` of the test's own: a socket of 127.0.0.1 may get the
    same number, and then hears itself.
    """

    def __init__(self, host: str = "127.0.0.1") -> None:
        self.socket = socket.socket(family_of((host, 0)))
        self.socket.bind((host, 0))

    @property
    def name(self) -> str:
        """The address as the configuration writes it."""
        return address_text(self.socket)

    def step(self) -> bool:
        return False

    def close(self) -> None:
        self.socket.close()


class FullPort(RefusingPort):
    """A port whose backlog is used up: what connects to it hears nothing, as from a dead host."""

    def __init__(self) -> None:
        super().__init__()
        self.socket.listen(0)
        self._fillers: list[socket.socket] = []
        # The first one is in the backlog (Linux keeps one more than it was asked for); whoever
        # comes after it stays in SYN_SENT.
        while not self._fillers or self._is_connected(self._fillers[-1]):
            sock = socket.socket()
            sock.setblocking(False)
            assert sock.connect_ex(self.socket.getsockname()) == errno.EINPROGRESS
            self._fillers.append(sock)

    @staticmethod
    def _is_connected(sock: socket.socket) -> bool:
        with contextlib.suppress(OSError):
            sock.getpeername()
            return True
        return False

    def close(self) -> None:
        super().close()
        for sock in self._fillers:
            sock.close()


def address_text(sock: socket.socket) -> str:
    """Return where a socket is bound, as the configuration writes it."""
    if sock.family == socket.AF_UNIX:
        return f"unix:{sock.getsockname()}"
    host, port = sock.getsockname()[:2]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
