"""The load generator where there is no C compiler: the same works, arguments and answer as load.c.

Run as a program by generator.py; load.c's opening comment says what it does and what counts as an
error. Slower by far, so the proxy is rarely the bottleneck: CPU time an operation stays
comparable, rates do not. Latencies are kept as they are, not in buckets.
"""

import errno
import json
import os
import select
import socket
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

MESSAGE: Final = 64
OPENING_MAX: Final = 64  # connects under way
FLOOD_WINDOW: Final = 128  # datagrams that surely fit a default SO_RCVBUF
LOST_AFTER_NS: Final = 1_500_000_000
STUCK_AFTER_NS: Final = 10_000_000_000
ERRORS_MAX: Final = 100
BULK: Final = bytes(256 * 1024)
UDP_WORKS: Final = ("udp", "churn", "flood")
BULK_WORKS: Final = ("up", "down", "both")
HEADER: Final = bytes.fromhex("0d0a0d0a000d0a515549540a2111000cc0000207c6336402126701bb")
HELLO: Final = bytes.fromhex(
    "1603010048010000440303000000000000000000000000000000000000000000000000000000000000000000000213010100"
    "00190000001500130000106e3030302e6578616d706c652e6e6574"
)
"""A ClientHello for n000.example.net, of which clients of "named" count the digits."""
HELLO_DIGITS: Final = slice(62, 65)
WORKS: Final = ("connect", "announced", "named", "pingpong", *BULK_WORKS, "idle", *UDP_WORKS)

Handler = Callable[[int], None]


class Client:
    """One client: its socket, open or None, and the operation it is in."""

    def __init__(self) -> None:
        self.sock: socket.socket | None = None
        self.is_begun = False
        self.is_sent = False
        self.request = b""
        self.answer = b""
        self.started_ns = 0


class Run:
    """Clients and backend of one work, in one epoll loop."""

    def __init__(self, work: str, port: int, backend_fd: int, connections: int) -> None:
        self.work = work
        self.header = {"announced": HEADER, "named": HELLO}.get(work, b"")
        self.is_short = work in ("connect", "announced", "named")
        self.port = port
        self.kind = socket.SOCK_DGRAM if work in UDP_WORKS else socket.SOCK_STREAM
        self.backend = socket.socket(fileno=backend_fd)
        self.epoll = select.epoll()
        self.handlers: dict[int, Handler] = {}
        self.clients = [Client() for _ in range(connections)]
        self.closed = list(self.clients)
        self.opening = self.begun = self.in_flight = 0
        self.number = self.operations = self.errors = 0
        self.latencies_ns: list[int] = []
        self.is_measuring = False
        self.is_draining = False
        self.progress_ns = time.monotonic_ns()
        handler = self.datagram_handler if work in UDP_WORKS else self.accept_handler
        self.watch(self.backend, select.EPOLLIN, handler)

    def watch(self, sock: socket.socket, events: int, handler: Handler) -> None:
        self.epoll.register(sock, events)
        self.handlers[sock.fileno()] = handler

    def close(self, sock: socket.socket) -> None:
        self.handlers.pop(sock.fileno(), None)
        sock.close()

    # -- clients --

    def close_client(self, client: Client) -> None:
        if client.sock is not None:
            self.close(client.sock)
        client.sock = None
        client.started_ns = 0
        self.opening -= not client.is_begun
        self.closed.append(client)

    def fail(self, client: Client) -> None:
        self.errors += 1
        self.in_flight -= client.started_ns != 0
        self.close_client(client)

    def begin(self, client: Client) -> None:
        if not client.is_begun:
            client.is_begun = True
            self.opening -= 1
            self.begun += 1

    def bulk_interest(self, receiver: str) -> int:
        """Return what one end waits for; `receiver` is the work in which it only receives."""
        sender = "up" if receiver == "down" else "down"
        return select.EPOLLOUT * (self.work != receiver) | select.EPOLLIN * (self.work != sender)

    def open_client(self, client: Client) -> None:
        sock = client.sock = socket.socket(socket.AF_INET, self.kind)
        sock.setblocking(False)
        if self.work == "churn":
            self.bind_next_port(sock)
        client.is_begun = False
        self.opening += 1
        if self.work not in BULK_WORKS and self.work != "flood":
            self.start_operation(client)
        sock.connect_ex(("127.0.0.1", self.port))  # a refusal shows at the first event
        if self.work == "flood":
            self.begin(client)
        elif self.work in BULK_WORKS:
            self.watch(sock, self.bulk_interest("down"), self.bulk_handler(sock, client))
        else:
            events = select.EPOLLIN if self.send_request(client) else select.EPOLLOUT
            if client.sock is not None:
                self.watch(sock, events, lambda ready: self.message_handler(client, ready))

    def bind_next_port(self, sock: socket.socket) -> None:
        """Go round all ports, from an address of its own: none is still known to the proxy."""
        while True:
            try:
                sock.bind(("127.0.0.2", 1024 + self.number % (65536 - 1024)))
            except OSError as error:
                if error.errno != errno.EADDRINUSE:
                    raise
                self.number += 1
            else:
                return

    def start_operation(self, client: Client) -> None:
        self.number += 1
        client.request = self.number.to_bytes(8, "little").ljust(MESSAGE, b"\0")
        client.answer = b""
        client.is_sent = False
        client.started_ns = time.monotonic_ns()
        self.in_flight += 1

    def send_request(self, client: Client) -> bool:
        """Send, if it can be done now; an error closes the client. Return whether it was sent."""
        assert client.sock is not None
        try:
            header = bytearray(self.header)
            if self.work == "named":
                number = int.from_bytes(client.request[:8], "little")
                header[HELLO_DIGITS] = b"%03d" % (number % 1000)
            data = bytes(header) + client.request
            client.is_sent = client.sock.send(data) == len(data)
        except BlockingIOError:
            pass
        except OSError:
            self.fail(client)
        return client.is_sent

    def finish_operation(self, client: Client) -> None:
        self.operations += 1
        self.in_flight -= 1
        if self.is_measuring:
            self.latencies_ns.append(time.monotonic_ns() - client.started_ns)
        client.started_ns = 0
        self.begin(client)
        if self.is_short or self.work == "churn":
            self.close_client(client)
        elif self.work != "idle" and not self.is_draining:
            self.start_operation(client)
            self.send_request(client)

    def message_handler(self, client: Client, ready: int) -> None:
        assert client.sock is not None
        if not client.is_sent and not ready & (select.EPOLLERR | select.EPOLLHUP):
            if self.send_request(client):
                self.epoll.modify(client.sock, select.EPOLLIN)
            return
        try:
            data = client.sock.recv(MESSAGE + 1)
        except BlockingIOError:
            return
        except OSError:
            self.fail(client)
            return
        if not data and self.is_short and len(client.answer) == MESSAGE:
            self.finish_operation(client)
            return
        client.answer += data
        if not data or not client.started_ns or not client.request.startswith(client.answer):
            self.fail(client)
        elif len(client.answer) == MESSAGE:
            if self.is_short:
                client.sock.shutdown(socket.SHUT_WR)
            else:
                self.finish_operation(client)

    def bulk_handler(self, sock: socket.socket, client: Client | None) -> Handler:
        """Return the pump of either end; `client` is None at the backend."""

        def pump(ready: int) -> None:
            if client is not None:
                self.begin(client)
            try:
                if ready & select.EPOLLOUT:
                    sock.send(BULK)
                count = len(sock.recv(1 << 20)) if ready & select.EPOLLIN else 1
                self.operations += count if ready & select.EPOLLIN else 0
            except BlockingIOError:
                return
            except OSError:
                count = 0
            if count:
                return
            if client is not None:
                self.fail(client)
            else:
                self.close(sock)

        return pump

    def send_flood(self) -> None:
        while self.in_flight < FLOOD_WINDOW:
            self.number += 1
            sock = self.clients[self.number % len(self.clients)].sock
            assert sock is not None
            try:
                sock.send(BULK[:MESSAGE])
            except OSError:
                self.errors += 1
                return
            self.in_flight += 1

    # -- the backend --

    def accept_handler(self, _ready: int) -> None:
        try:
            sock, _ = self.backend.accept()
        except BlockingIOError:
            return
        sock.setblocking(False)
        if self.work in BULK_WORKS:
            self.watch(sock, self.bulk_interest("up"), self.bulk_handler(sock, None))
        elif self.work in ("announced", "named"):
            self.watch(sock, select.EPOLLIN, self.announced_handler(sock))
        else:
            self.watch(sock, select.EPOLLIN, lambda _: self.echo_handler(sock))

    def announced_handler(self, sock: socket.socket) -> Handler:
        """Return what sends back the one message behind a PROXY header, or a ClientHello."""
        received = bytearray()

        def handler(_ready: int) -> None:
            try:
                data = sock.recv(4096)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            if not data:
                self.close(sock)
                return
            received.extend(data)
            if received.startswith(HEADER[:12]):
                length = 16 + int.from_bytes(received[14:16], "big")
            elif received[0] == HELLO[0]:
                length = 5 + int.from_bytes(received[3:5], "big")
            else:
                length = received.find(b"\n") + 1 or len(received)
            if len(received) == length + MESSAGE:
                sock.send(received[length:])

        return handler

    def echo_handler(self, sock: socket.socket) -> None:
        """Send back whatever arrives: 64 bytes always find room."""
        try:
            data = sock.recv(MESSAGE)
            if data:
                sock.send(data)
                return
        except BlockingIOError:
            return
        except OSError:
            pass
        self.close(sock)

    def datagram_handler(self, _ready: int) -> None:
        for _ in range(32):
            try:
                data, sender = self.backend.recvfrom(2 * MESSAGE)
                if self.work != "flood":
                    self.backend.sendto(data, sender)
                    continue
            except BlockingIOError:
                return
            except OSError:  # ICMP error of an earlier answer
                continue
            self.operations += 1
            self.in_flight = max(0, self.in_flight - 1)
            self.progress_ns = time.monotonic_ns()

    # -- the run --

    def turn(self) -> None:
        while self.closed and self.opening < OPENING_MAX and not self.is_draining:
            client = self.closed.pop()
            self.open_client(client)
            if client.sock is None:
                break  # refused: not again before the next turn
        if self.work == "flood" and self.begun == len(self.clients) and not self.is_draining:
            self.send_flood()
        for fd, ready in self.epoll.poll(0.01, 256):
            self.handlers[fd](ready)
        self.count_lost(time.monotonic_ns())

    def count_lost(self, now: int) -> None:
        """Count what has not been answered for too long as errors."""
        if self.work == "flood":
            if self.in_flight and now - self.progress_ns > LOST_AFTER_NS:
                self.errors += self.in_flight
                self.in_flight = 0
            return
        for client in self.clients:
            if client.started_ns and now - client.started_ns > LOST_AFTER_NS:
                self.fail(client)

    def run_until(self, is_done: Callable[[], bool], timeout_ns: int) -> bool:
        """Run turns until `is_done`, for at most `timeout_ns`. Return whether it was."""
        deadline = time.monotonic_ns() + timeout_ns
        while not is_done():
            if time.monotonic_ns() >= deadline or self.errors >= ERRORS_MAX:
                return False
            self.turn()
        return True

    def hold_until_stdin_ends(self) -> None:
        print("ready", flush=True)
        sys.stdin.buffer.read()
        self.errors += len(self.epoll.poll(0))


def percentile_us(latencies_ns: Sequence[int], share: float) -> float:
    if not latencies_ns:
        return 0.0
    return sorted(latencies_ns)[min(len(latencies_ns) - 1, int(share * len(latencies_ns)))] / 1000


def main(arguments: Sequence[str], make: type[Run] = Run, works: Sequence[str] = WORKS) -> int:
    """Run a work to its end, and print the result."""
    if len(arguments) < 6 or arguments[0] not in works:
        print("usage: load.py WORK PORT BACKEND_FD CONNECTIONS WARMUP_MS MEASURE_MS [PID ...]")
        return 2
    port, fd, connections, warmup_ms, measure_ms, *pids = map(int, arguments[1:])

    def reading() -> tuple[int, int, int, int]:
        cpu_ns = sum(time.clock_gettime_ns((~pid << 3) | 2) for pid in pids)  # as processes.cpu_ns
        return run.operations, cpu_ns, time.process_time_ns(), time.monotonic_ns()

    run = make(arguments[0], port, fd, connections)
    start = end = (0, 0, 0, 0)
    if not run.run_until(lambda: run.begun >= connections, STUCK_AFTER_NS):
        run.errors += max(0, connections - run.begun)
    elif run.work != "idle":
        run.run_until(lambda: False, warmup_ms * 1_000_000)
        run.is_measuring, start = True, reading()
        run.run_until(lambda: False, measure_ms * 1_000_000)
        run.is_measuring, end = False, reading()
        run.is_draining = True
        if not run.run_until(lambda: run.in_flight == 0, LOST_AFTER_NS):
            run.errors += run.in_flight
    if run.work == "idle":
        end = (run.begun, 0, 0, 0)
        run.hold_until_stdin_ends()
    operations, cpu_ns, own_cpu_ns, ns = (b - a for a, b in zip(start, end, strict=True))
    result = {
        "operations": operations,
        "seconds": ns / 1e9,
        "cpu_ns": cpu_ns,
        "own_cpu_ns": own_cpu_ns,
        "errors": run.errors,
        "p50_us": percentile_us(run.latencies_ns, 0.5),
        "p99_us": percentile_us(run.latencies_ns, 0.99),
        "max_us": max(run.latencies_ns, default=0) / 1000,
    }
    print(json.dumps(result), flush=True)
    os._exit(0)  # nothing to save, and thousands of sockets to close one by one


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
