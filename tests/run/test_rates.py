"""Rates of a whole nginy, for as long as the README promises: ten sessions, ten seconds."""

import contextlib
import pathlib
import select
import selectors
import socket
import time

import pytest

from kit.program import PATIENCE_S, Nginy, free_port, own_host, wait_until

RATES = (100_000, 300_000, 1_000_000, 3_000_000, 10_000_000)
SECONDS = 10.0
CHUNK = bytes(1 << 18)
SHARE = 0.05


class Flow:
    """One session and its direction: what one end sends, the other one counts."""

    def __init__(self, rate: int, sender: socket.socket, receiver: socket.socket) -> None:
        self.rate = rate
        self.sender = sender
        self.receiver = receiver
        self.count = 0
        self._memory = bytearray(1 << 20)

    def send(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self.sender.send(CHUNK)

    def receive(self) -> None:
        self.count += self.receiver.recv_into(self._memory)


class Ticker:
    """A session without a rate: a byte is sent as soon as the one before has arrived."""

    def __init__(self, sender: socket.socket, receiver: socket.socket) -> None:
        self.sender = sender
        self.receiver = receiver
        self.delays: list[float] = []
        self._began_s = 0.0

    def send(self) -> None:
        self._began_s = time.monotonic()
        self.sender.send(b"?")

    def receive(self) -> None:
        assert self.receiver.recv(2) == b"?"
        self.delays.append(time.monotonic() - self._began_s)
        self.send()


def config(host: str, ports: list[int], echo: int, backend: int) -> str:
    """Of each port, sessions with the rate of its place, both ways; of `echo`, without any."""
    lines = [
        f'- {{listen: "{host}:{port}", proxy_pass: "{host}:{backend}",'
        f" proxy_upload_rate: {rate}, proxy_download_rate: {rate}}}"
        for port, rate in zip(ports, RATES, strict=True)
    ]
    lines.append(f'- {{listen: "{host}:{echo}", proxy_pass: "{host}:{backend}"}}')
    return "listeners:\n" + "\n".join(lines)


def cpu_s(nginy: Nginy) -> float:
    """Return the CPU time that nginy has used so far."""
    number = (~nginy.process.pid << 3) | 2  # clock_getcpuclockid(3)
    return time.clock_gettime(number)


def wakeups(nginy: Nginy) -> int:
    """Return how often nginy has waited so far."""
    status = pathlib.Path(f"/proc/{nginy.process.pid}/status").read_text()
    (line,) = [each for each in status.splitlines() if each.startswith("voluntary_ctxt")]
    return int(line.split()[1])


def pump(flows: list[Flow], ticker: Ticker, seconds: float) -> None:
    """Send as fast as the sessions take it, and count what arrives, for some seconds."""
    with selectors.DefaultSelector() as selector:
        for flow in flows:
            selector.register(flow.sender, selectors.EVENT_WRITE, flow.send)
            selector.register(flow.receiver, selectors.EVENT_READ, flow.receive)
        selector.register(ticker.receiver, selectors.EVENT_READ, ticker.receive)
        ticker.send()
        end_s = time.monotonic() + seconds
        while (left_s := end_s - time.monotonic()) > 0:
            for key, _ in selector.select(left_s):
                key.data()


@pytest.mark.real
@pytest.mark.timeout(60)
def test_ten_sessions_keep_their_rates_for_ten_seconds(tmp_path: pathlib.Path) -> None:
    host = own_host()
    ports, echo, port = [free_port(host) for _ in RATES], free_port(host), free_port(host)
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server((host, port)))
        stack.enter_context(Nginy(tmp_path, config(host, ports, echo, port)))

        def join(number: int) -> tuple[socket.socket, socket.socket]:
            client = stack.enter_context(socket.create_connection((host, number), PATIENCE_S))
            backend = stack.enter_context(server.accept()[0])
            return client, backend

        flows = []
        for rate, number in zip(RATES, ports, strict=True):
            client, backend = join(number)
            flows.append(Flow(rate, client, backend))
            client, backend = join(number)
            flows.append(Flow(rate, backend, client))
        ticker = Ticker(*join(echo))
        for flow in flows:
            flow.sender.setblocking(False)
            flow.receiver.setblocking(False)
        pump(flows, ticker, SECONDS)
        for flow in flows:
            assert flow.count / SECONDS == pytest.approx(flow.rate, rel=SHARE)
        # Nobody else waits for them.
        delays = sorted(ticker.delays)
        assert delays[len(delays) // 2] < 0.002
        assert delays[len(delays) * 99 // 100] < 0.02


@pytest.mark.real
def test_sessions_that_wait_use_no_cpu(tmp_path: pathlib.Path) -> None:
    host = own_host()
    front, port = free_port(host), free_port(host)
    text = f'listeners: [{{listen: "{host}:{front}", proxy_pass: "{host}:{port}", '
    text += "proxy_upload_rate: 1k}]"
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(socket.create_server((host, port)))
        nginy = stack.enter_context(Nginy(tmp_path, text))
        for _ in range(10):
            client = stack.enter_context(socket.create_connection((host, front), PATIENCE_S))
            backend = stack.enter_context(server.accept()[0])
            client.setblocking(False)
            client.send(CHUNK)
            wait_until(lambda backend=backend: backend.recv(4096))  # type: ignore[misc]
        cpu_before, woken_before = cpu_s(nginy), wakeups(nginy)
        select.select((), (), (), 2)  # a length of time is what this is about
        # Each session is woken some twenty times a second at most.
        assert wakeups(nginy) - woken_before < 10 * 2 * 30
        assert cpu_s(nginy) - cpu_before < 0.1
