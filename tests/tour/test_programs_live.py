"""The programs of stop 0, run as a reader runs them: what each can do, and what it cannot."""

import contextlib
import hashlib
import pathlib
import random
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator

import nginy.tour
import pytest

CHECKOUT = pathlib.Path(nginy.tour.__file__).parents[2]
PATIENCE_S = 20
MORE_THAN_THE_KERNEL_HOLDS = 32 * 1024 * 1024

Address = tuple[str, int]
Start = Callable[..., Address]


@pytest.fixture
def backend() -> Iterator[socket.socket]:
    """A listening socket in place of the backend; each test acts as the backend."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(PATIENCE_S)
        yield listener


@pytest.fixture
def running() -> list[subprocess.Popen[bytes]]:
    """The programs that the test has started."""
    return []


@pytest.fixture
def start(backend: socket.socket, running: list[subprocess.Popen[bytes]]) -> Iterator[Start]:
    """Start a program in front of the backend; return where it listens."""
    with contextlib.ExitStack() as stack:

        def start_program(name: str, *more: str) -> Address:
            target = "{}:{}".format(*backend.getsockname())
            module = f"{nginy.tour.__name__}.{name}"
            command = [sys.executable, "-m", module, "127.0.0.1:0", target, *more]
            process = stack.enter_context(
                subprocess.Popen(command, stdout=subprocess.PIPE, cwd=CHECKOUT)
            )
            stack.callback(process.kill)
            running.append(process)
            assert process.stdout is not None
            host, port = process.stdout.readline().split()[-2:]
            return host.decode(), int(port)

        yield start_program


def connect(address: Address) -> socket.socket:
    return socket.create_connection(address, timeout=PATIENCE_S)


def accept(backend: socket.socket) -> socket.socket:
    sock, _ = backend.accept()
    sock.settimeout(PATIENCE_S)
    return sock


def receive_all(sock: socket.socket) -> bytes:
    """All bytes up to EOF."""
    return b"".join(iter(lambda: sock.recv(1 << 20), b""))


def push(sock: socket.socket, limit_bytes: int, patience_s: float) -> int:
    """Send zeros until `limit_bytes` are sent or nobody takes more for `patience_s`."""
    sock.setblocking(False)
    chunk = bytes(65536)
    sent = 0
    while sent < limit_bytes and select.select([], [sock], [], patience_s)[1]:
        sent += sock.send(chunk)
    sock.settimeout(PATIENCE_S)
    return sent


@pytest.mark.parametrize("program", ["blocking", "lossy", "buffered", "evented", "forgetful"])
def test_a_question_is_answered(backend: socket.socket, start: Start, program: str) -> None:
    with connect(start(program)) as client, accept(backend) as upstream:
        client.sendall(b"who are you?")
        assert upstream.recv(100) == b"who are you?"
        upstream.sendall(b"backend one")
        assert client.recv(100) == b"backend one"


def test_blocking_lets_a_second_client_wait_for_the_first(
    backend: socket.socket, start: Start
) -> None:
    address = start("blocking")
    with connect(address) as first, accept(backend) as upstream, connect(address) as second:
        second.sendall(b"?")
        assert not select.select([backend], [], [], 0.2)[0]
        first.close()
        assert upstream.recv(1) == b""
        with accept(backend) as next_upstream:
            assert next_upstream.recv(1) == b"?"


def test_blocking_holds_back_what_the_backend_says_first(
    backend: socket.socket, start: Start
) -> None:
    with connect(start("blocking")) as client, accept(backend) as upstream:
        upstream.sendall(b"220 ready")
        assert not select.select([client], [], [], 0.2)[0]


@pytest.mark.parametrize("program", ["lossy", "buffered", "evented"])
def test_a_second_client_does_not_wait(backend: socket.socket, start: Start, program: str) -> None:
    address = start(program)
    with connect(address), accept(backend), connect(address) as second, accept(backend) as upstream:
        second.sendall(b"?")
        assert upstream.recv(1) == b"?"


@pytest.mark.slow
def test_lossy_loses_bytes_when_the_backend_reads_slowly(
    backend: socket.socket, start: Start
) -> None:
    with connect(start("lossy")) as client, accept(backend) as upstream:
        sent = push(client, MORE_THAN_THE_KERNEL_HOLDS, PATIENCE_S)
        assert sent >= MORE_THAN_THE_KERNEL_HOLDS  # the client is told that all went well
        client.close()
        assert len(receive_all(upstream)) < sent


def test_lossy_loses_the_answer_to_a_client_that_half_closes(
    backend: socket.socket, start: Start
) -> None:
    with connect(start("lossy")) as client, accept(backend) as upstream:
        client.sendall(b"sum: 1 2 3")
        client.shutdown(socket.SHUT_WR)
        assert receive_all(upstream) == b"sum: 1 2 3"
        upstream.sendall(b"6")
        assert client.recv(1) == b""


@pytest.mark.parametrize("program", ["buffered", "evented", "forgetful"])
def test_the_answer_reaches_a_client_that_half_closes(
    backend: socket.socket, start: Start, program: str
) -> None:
    with connect(start(program)) as client, accept(backend) as upstream:
        client.sendall(b"sum: 1 2 3")
        client.shutdown(socket.SHUT_WR)
        assert receive_all(upstream) == b"sum: 1 2 3"
        upstream.sendall(b"6")
        upstream.close()
        assert receive_all(client) == b"6"


@pytest.mark.slow
@pytest.mark.parametrize("program", ["buffered", "evented"])
def test_a_fast_client_is_held_back_and_then_every_byte_arrives(
    backend: socket.socket, start: Start, program: str
) -> None:
    with connect(start(program)) as client, accept(backend) as upstream:
        sent = push(client, MORE_THAN_THE_KERNEL_HOLDS, 0.5)
        assert sent < MORE_THAN_THE_KERNEL_HOLDS
        client.shutdown(socket.SHUT_WR)
        assert len(receive_all(upstream)) == sent


@pytest.mark.slow
@pytest.mark.parametrize("program", ["buffered", "evented"])
def test_both_directions_are_carried_at_once(
    backend: socket.socket, start: Start, program: str
) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    source = random.Random(seed)
    question, answer = (source.randbytes(source.randrange(1 << 22)) for _ in range(2))
    with connect(start(program)) as client, accept(backend) as upstream:
        assert exchange(client, question, upstream, answer) == (digest(answer), digest(question))


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def exchange(
    one: socket.socket, from_one: bytes, two: socket.socket, from_two: bytes
) -> tuple[str, str]:
    """Let both ends send and receive as they can, each closing its half; digests of what came."""
    unsent = {one: memoryview(from_one), two: memoryview(from_two)}
    received = {one: bytearray(), two: bytearray()}
    reading = {one, two}
    for sock in reading:
        sock.setblocking(False)
    while reading:
        readable, writable, _ = select.select(reading, unsent, [], PATIENCE_S)
        assert readable or writable, "nothing moves any more"
        for sock in writable:
            unsent[sock] = unsent[sock][sock.send(unsent[sock]) :]
            if not unsent[sock]:
                del unsent[sock]
                sock.shutdown(socket.SHUT_WR)
        for sock in readable:
            data = sock.recv(65536)
            received[sock] += data
            if not data:
                reading.discard(sock)
    return digest(bytes(received[one])), digest(bytes(received[two]))


@pytest.mark.parametrize("program", ["buffered", "evented"])
def test_the_session_ends_when_the_backend_refuses(
    backend: socket.socket, start: Start, program: str
) -> None:
    address = start(program)
    backend.close()
    with connect(address) as client, contextlib.suppress(ConnectionResetError):
        assert client.recv(1) == b""
    with connect(address) as client, contextlib.suppress(ConnectionResetError):  # and lives on
        assert client.recv(1) == b""


@pytest.mark.slow
def test_evented_ends_a_silent_session_and_no_busy_one(
    backend: socket.socket, start: Start
) -> None:
    address = start("evented", "1.2")
    with connect(address) as busy, accept(backend) as upstream, connect(address) as silent:
        for _ in range(5):
            busy.sendall(b"?")
            assert upstream.recv(1) == b"?"
            assert not select.select([busy], [], [], 0.3)[0]
        assert silent.recv(1) == b""


@pytest.mark.parametrize(("program", "arrives"), [("evented", True), ("forgetful", False)])
def test_forgetful_leaves_bytes_unread_that_epoll_has_reported_already(
    backend: socket.socket,
    start: Start,
    running: list[subprocess.Popen[bytes]],
    program: str,
    arrives: bool,
) -> None:
    question = bytes(100_000)  # more than its quota, less than the kernel holds
    address = start(program)
    running[0].send_signal(signal.SIGSTOP)  # so that all of it is one report
    with connect(address) as client:
        client.sendall(question)
        running[0].send_signal(signal.SIGCONT)
        with accept(backend) as upstream:
            left = len(question)
            while left and select.select([upstream], [], [], PATIENCE_S if arrives else 0.2)[0]:
                left -= len(upstream.recv(left))
            assert (left == 0) is arrives
            # One more byte is a new edge, and all is there: so trials do not find it.
            client.sendall(b"!")
            assert upstream.recv(1)
