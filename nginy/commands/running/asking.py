"""Asking: one request to the admin interface of a running nginy.

`interface.py` knows where that is.

Tested in tests/commands/running/test_status.py.
"""

import json
import socket
import struct
from dataclasses import dataclass
from typing import Any, Final

from nginy.commands.running.interface import Interface
from nginy.config.checking.files import read_token
from nginy.errors import NginyError
from nginy.text.address import Address
from nginy.text.escape import escape_control

ANSWER_S: Final = 5.0
"""How long to wait for each piece of an answer."""
ANSWER_MAX_BYTES: Final = 64 << 20
TOKEN_MISSING: Final = 401
REFUSED: Final = 400
"""The lowest status of an answer that says what is wrong."""
STAMPED: Final = "generation"
"""A member that all objects have with which nginy answers."""


class NoAnswerError(NginyError):
    """A request was sent, and the connection ended without an answer."""


@dataclass(frozen=True, slots=True)
class Message:
    """What to ask for."""

    method: str
    target: str
    body: object = None
    wait_s: float = 0
    """Time that the answer may take beyond `ANSWER_S`."""
    pid: int | None = None
    """Ask only this process, on a unix socket; another one may have the address by now."""


@dataclass(frozen=True, slots=True)
class Request:
    """A message as bytes, and where to send them."""

    address: Address
    """No wildcard: a socket can connect to it."""
    data: bytes
    wait_s: float = 0
    pid: int | None = None


def ask(interface: Interface, message: Message) -> tuple[int, str]:
    """Return status and body of the answer; raises NginyError if none comes."""
    request = prepare(interface, message)
    code, text = parse(request.address, _exchange(request))
    if code == TOKEN_MISSING and interface.config is None:
        text = "asks for a token, expected CONFIG as well, whose token_file has it"
        raise NginyError(f"{request.address} {text}")
    return code, text


def prepare(interface: Interface, message: Message) -> Request:
    """Return the request of a message; raises NginyError if there is nobody to ask."""
    method = message.method
    entry, address = interface.place(is_change=method != "GET")
    lines = [f"{method} {message.target} HTTP/1.1", f"Host: {_host(address)}", "Connection: close"]
    if entry.token_file is not None:
        lines.append(f"Authorization: Bearer {read_token(entry.token_file).decode()}")
    data = b""
    if method != "GET":
        data = json.dumps(message.body or {}).encode()
        lines += ["Content-Type: application/json", f"Content-Length: {len(data)}"]
    head = "".join(f"{line}\r\n" for line in (*lines, "")).encode()
    return Request(_reachable(address), head + data, message.wait_s, message.pid)


def parse(address: Address, answer: bytes) -> tuple[int, str]:
    """Return status and body of a whole answer; raises NginyError for anything else."""
    head, _, found = answer.partition(b"\r\n\r\n")
    words = head.split(b" ", 2)
    if len(words) < 3 or not words[0].startswith(b"HTTP/1.") or not words[1].isdigit():
        raise NginyError(f"{address} does not answer like nginy")
    return int(words[1]), found.decode("utf-8", "replace")


def ask_json(interface: Interface, message: Message) -> Any:
    """Return the object in the answer; raises NginyError with the text of a refusal."""
    code, text = ask(interface, message)
    if code >= REFUSED:
        raise refusal(code, text)
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict) or STAMPED not in found:
        raise NginyError(f"{interface.name} does not answer like nginy")
    return found


def refusal(code: int, text: str) -> NginyError:
    """Return a refusal as an error."""
    try:
        told = json.loads(text)["error"]
        said = ", ".join(str(told[name]) for name in ("message", "hint") if told.get(name))
        return NginyError(escape_control(said))
    except (ValueError, KeyError, TypeError, AttributeError):
        return NginyError(f"the answer {code} is not nginy's; does something else listen there?")


def _host(address: Address) -> str:
    return _reachable(address).host_text or "localhost"


def _reachable(address: Address) -> Address:
    """Return an address that reaches a listener; for a wildcard, loopback."""
    if not address.is_wildcard:
        return address
    loopback = "::1" if ":" in address.host else "127.0.0.1"
    return Address(address.family, loopback, address.port)


def _peer_pid(sock: socket.socket) -> int:
    """Return the process that listens on a unix socket; 0 for any other socket."""
    if sock.family != socket.AF_UNIX:
        return 0
    size = struct.calcsize("3i")
    data = sock.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, size)
    return int(struct.unpack("3i", data)[0])


def unreachable(address: Address, error: OSError) -> NginyError:
    """Return the error for an address that does not answer."""
    reason = "timed out" if error.errno is None else f"{error.errno}: {error.strerror}"
    return NginyError(f"no answer from {address} ({reason}); is nginy running?")


def _exchange(request: Request) -> bytes:
    address, pid = request.address, request.pid
    try:
        with socket.socket(address.family) as sock:
            sock.settimeout(ANSWER_S + request.wait_s)
            sock.connect(address.sockaddr)
            if pid is not None and _peer_pid(sock) != pid:
                raise NginyError(f"{address} is not the socket of process {pid}")
            sock.sendall(request.data)
            answer = bytearray()
            while len(answer) < ANSWER_MAX_BYTES and (data := sock.recv(65536)):
                answer += data
    except OSError as error:
        raise unreachable(address, error) from error
    if not answer:
        raise NoAnswerError(f"{address} closed the connection without an answer")
    return bytes(answer)
