"""The clients, and the backends, of the proofs: each is a program that runs within its machine.

    client.py backend NAME            answers "NAME NODE" to each line and each datagram
    client.py flows ADDRESS           one exchange for each of 400 flows; prints who has answered
    client.py load ADDRESS KIND...    until its input ends; prints what each exchange came to

A flow is a client address and a port, the same each time. Load is `short` (connect, ask, end),
`long` (2 s of questions on one connection), `asleep` (the same, until the end) and `dns`, each with
a number of clients after a colon, and `dns` after another one with its patience in seconds.
"""

import contextlib
import json
import socket
import struct
import sys
import threading
import time
from collections.abc import Callable

CLIENTS = [f"10.0.0.{number}" for number in range(10, 50)]
PORTS = range(40001, 40011)
PATIENCE_S = 5.0
"""A lost SYN is sent again after 1 s, and again after 1 or 2 s more, as the kernel is set."""
DNS_PATIENCE_S = 0.3
"""A datagram may be lost; where none may, a busy machine gets more time."""
PACE_S = 0.01
QUESTIONS = 20
"""Of a `long` session, PERIOD_S apart."""
PERIOD_S = 0.1
RESET_AT_CLOSE = struct.pack("ii", 1, 0)

NO_CONNECTION = "no connection"
"""How the reason begins if a client did not even get a connection."""

Record = tuple[str, float, float, str, str]
"""Kind, begin, end, client, and the answer or what went wrong, which begins with "!"."""


def backend(name: str) -> None:
    stream = socket.create_server(("", 80), backlog=1024)
    datagrams = socket.socket(type=socket.SOCK_DGRAM)
    datagrams.bind(("", 53))
    threading.Thread(target=_answer_datagrams, args=(name, datagrams), daemon=True).start()
    while True:
        sock, peer = stream.accept()
        answer = f"{name} {peer[0]}\n".encode()
        threading.Thread(target=_answer_stream, args=(sock, answer), daemon=True).start()


def _answer_stream(sock: socket.socket, answer: bytes) -> None:
    with sock, contextlib.suppress(OSError):
        while sock.recv(64):
            sock.sendall(answer)


def _answer_datagrams(name: str, sock: socket.socket) -> None:
    while True:
        data, peer = sock.recvfrom(64)
        sock.sendto(data + f"{name} {peer[0]}".encode(), peer)


def connect(address: str, client: str, port: int = 0) -> socket.socket:
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.settimeout(PATIENCE_S)
    try:
        sock.bind((client, port))
        sock.connect((address, 80))
    except OSError as error:
        sock.close()
        raise OSError(f"{NO_CONNECTION}: {error.strerror or error}") from None
    return sock


def ask(sock: socket.socket) -> str:
    sock.sendall(b"?\n")
    answer = b""
    while not answer.endswith(b"\n"):
        data = sock.recv(64)
        if not data:
            raise ConnectionError("EOF")
        answer += data
    return answer.decode().strip()


def flows(address: str) -> dict[str, str]:
    """Return the backend of each flow; a reset at its end frees its port at once."""
    answers = {}
    for client in CLIENTS:
        for port in PORTS:
            with connect(address, client, port) as sock:
                answers[f"{client}:{port}"] = ask(sock)
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_AT_CLOSE)
    return answers


class Load:
    """Threads that each play one client after the other."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.records: list[Record] = []
        self.dns_patience_s = DNS_PATIENCE_S
        self.end = threading.Event()
        self.threads: list[threading.Thread] = []

    def start(self, kind: str, count: int) -> None:
        play: Callable[[str], str] = getattr(self, f"play_{kind}")
        for number in range(count):
            thread = threading.Thread(target=self._run, args=(kind, play, number))
            thread.start()
            self.threads.append(thread)

    def _run(self, kind: str, play: Callable[[str], str], number: int) -> None:
        turn = number
        while not self.end.is_set():
            client = CLIENTS[turn % len(CLIENTS)]
            turn += 7
            begin = time.monotonic()
            try:
                answer = play(client)
            except OSError as error:
                answer = f"!{error.strerror or error}"
            self.records.append((kind, begin, time.monotonic(), client, answer))
            self.end.wait(PACE_S)

    def play_short(self, client: str) -> str:
        with connect(self.address, client) as sock:
            answer = ask(sock)
            sock.shutdown(socket.SHUT_WR)
            sock.recv(1)
            return answer

    def play_long(self, client: str, questions: int = QUESTIONS) -> str:
        with connect(self.address, client) as sock:
            while True:
                answer = ask(sock)
                questions -= 1
                if not questions or self.end.wait(PERIOD_S):
                    return answer

    def play_asleep(self, client: str) -> str:
        return self.play_long(client, 1 << 30)

    def play_dns(self, client: str) -> str:
        with socket.socket(type=socket.SOCK_DGRAM) as sock:
            sock.settimeout(self.dns_patience_s)
            sock.bind((client, 0))
            sock.connect((self.address, 53))
            sock.send(b"? ")
            return sock.recv(64).decode().removeprefix("? ")


def load(address: str, kinds: list[str]) -> None:
    players = Load(address)
    for kind in kinds:
        name, count, *patience = kind.split(":")
        if patience:
            players.dns_patience_s = float(patience[0])
        players.start(name, int(count))
    print("ready", flush=True)
    sys.stdin.read()
    players.end.set()
    for thread in players.threads:
        thread.join()
    json.dump(players.records, sys.stdout)


if __name__ == "__main__":
    if sys.argv[1] == "backend":
        backend(sys.argv[2])
    elif sys.argv[1] == "flows":
        json.dump(flows(sys.argv[2]), sys.stdout)
    else:
        load(sys.argv[2], sys.argv[3:])
