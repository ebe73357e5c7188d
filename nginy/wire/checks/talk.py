"""A conversation with a server: a script of bytes to send and bytes to expect, without a socket.

A `Question` is what a check asks, with its settings. Its `script` is a generator: it yields bytes
to send, reads with `yield from` the `Talk` that it gets, returns if the server passes, and raises
CheckFailedError with the reason if not. A `Talk` runs one script once: its owner calls `begin`,
then `receive` with whatever has come, and does what each `Step` says, until one is over.

The one idea: a script reads like the dialog in its RFC, top to bottom, and never knows in what
pieces the bytes came. The talk holds them until the script has what it asked for.

A talk accepts a limited number of bytes from a server, so an endless stream ends the check.
"""

from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from nginy.text.address import Address
from nginy.wire.errors import WireError
from nginy.wire.shown import what_came

MAX_TALK_BYTES: Final = 65536
"""A server may send this much. A talkative EHLO answer has 1 KB; an HTTP head at most some 16."""
MAX_LINE_BYTES: Final = 4096  # SMTP allows 512, IMAP and POP3 less; the rest is room

T = TypeVar("T")
Script = Generator[bytes | None, None, T]
"""Yields bytes to send, and None to wait for more; the value belongs to its caller."""


class CheckFailedError(WireError):
    """A server has not answered as a check expects; the message is the reason, a clause."""


@dataclass(frozen=True, slots=True)
class Target:
    """The server that a check asks, and what a script cannot find out by itself.

    `hostname` is this machine's name. `token` returns that many random bytes.
    """

    address: Address
    hostname: str
    token: Callable[[int], bytes]


class Question(Protocol):
    """What a check asks. Instances are values: equal settings are equal questions."""

    @property
    def name(self) -> str:
        """The protocol, which begins each reason; "" for none."""

    def script(self, talk: "Talk", target: Target) -> Script[None]:
        """Begin to ask; raise WireError where the server fails."""


@dataclass(frozen=True, slots=True)
class Step:
    """What the owner of a talk does next: send, then wait for more, unless the talk is over.

    The owner sends `sends` in any case, over UDP each as a datagram of its own. A talk that is over
    has passed, unless `failure` says why not. Within `timeout_ms`, if set, something must come.
    """

    sends: tuple[bytes, ...] = ()
    is_over: bool = False
    failure: str = ""
    timeout_ms: int | None = None


class Talk:
    """One run of a question's script.

    The script sets the public attributes: `expected` says what it waits for, in words; `goodbye`
    is what ends the conversation politely from here on, whatever the verdict; `stage` says in each
    reason where the script is; `timeout_ms` bounds the next wait; with `is_silence_fine`, silence
    passes.
    """

    __slots__ = (
        "_count",
        "_script",
        "expected",
        "goodbye",
        "is_datagram",
        "is_eof",
        "is_silence_fine",
        "received",
        "stage",
        "timeout_ms",
    )

    def __init__(self, question: Question, target: Target, *, is_datagram: bool = False) -> None:
        self.received = bytearray()
        """What has come and was not read yet; over UDP the last datagram."""
        self.is_datagram = is_datagram
        self.is_eof = False
        self.is_silence_fine = False
        self.expected = ""
        self.goodbye = b""
        self.stage = question.name
        self.timeout_ms: int | None = None
        self._count = 0
        self._script: Script[None] | None = question.script(self, target)

    # The owner's side.

    def begin(self) -> Step:
        """Return the first step."""
        sends: list[bytes] = []
        try:
            for said in self._script or ():
                if said is None:
                    return Step(tuple(sends), timeout_ms=self.timeout_ms)
                sends.append(said)
        except WireError as error:
            return Step(tuple(sends), is_over=True, failure=self.in_words(str(error)))
        return Step(tuple(sends), is_over=True)

    def receive(self, data: bytes | memoryview, *, is_eof: bool = False) -> Step:
        """Return the next step, after `data`; with `is_eof` nothing more will come."""
        if self.is_datagram:
            self.received.clear()
        self.received += data[: MAX_TALK_BYTES - self._count]
        self._count = min(self._count + len(data), MAX_TALK_BYTES)
        self.is_eof = is_eof
        return self.begin()

    def close(self) -> None:
        """End the script wherever it is: it refers to this talk, which refers to it.

        Without this each talk that does not come to its end would wait for the cyclic collector.
        """
        if self._script is not None:
            self._script.close()
            self._script = None  # Python 3.13 keeps the frame of one that never began

    def late(self) -> str:
        """Return why the check fails if nothing more comes in time."""
        text = "no answer in time" if self.is_datagram else "timed out while waiting for the answer"
        return self.in_words(f"{text}: {self.came()}")

    def lost(self, text: str) -> str:
        """Return why the check fails if the connection breaks, for which `text` has the call."""
        is_open = self.received or self.expected
        return self.in_words(f"{text}: {self.came()}" if is_open else text)

    def in_words(self, text: str) -> str:
        """Return a reason that begins with the protocol, or with the step."""
        return f"{self.stage}: {text}" if self.stage else text

    # The script's side.

    def came(self) -> str:
        """Return the clause on what has come and what should have."""
        return what_came(self.received, self.expected)

    def more(self) -> Script[None]:
        """Wait for more; raise CheckFailedError if nothing can come."""
        if self.is_eof:
            how = "too early" if self.received else "without an answer"
            raise CheckFailedError(f"the connection was closed {how}: {self.came()}")
        if self._count == MAX_TALK_BYTES:
            raise CheckFailedError(f"the server sent more than {MAX_TALK_BYTES} bytes")
        yield None

    def take(self, count: int) -> Script[bytes]:
        """Read `count` bytes, waiting for them."""
        while len(self.received) < count:
            yield from self.more()
        taken = bytes(self.received[:count])
        del self.received[:count]
        return taken

    def line(self, max_bytes: int = MAX_LINE_BYTES) -> Script[bytes]:
        """Read a line, which ends in LF or CR LF, and return it without its end."""
        while (end := self.received.find(b"\n")) < 0:
            if len(self.received) >= max_bytes:
                raise CheckFailedError(f"a line is too long: {self.came()}")
            yield from self.more()
        line = yield from self.take(end + 1)
        return line.rstrip(b"\r\n")

    def prefix(self, wanted: bytes) -> Script[None]:
        """Wait until what comes next begins with `wanted`, and leave it unread.

        Raises CheckFailedError at the first wrong byte, so it finds out at once that a server
        speaks something else.
        """
        while not self.received.startswith(wanted):
            if not wanted.startswith(self.received):
                raise self.unexpected()
            yield from self.more()

    def peek(self, count: int) -> Script[bytes]:
        """Wait for `count` bytes, and return them unread."""
        while len(self.received) < count:
            yield from self.more()
        return bytes(self.received[:count])

    def begins_with_one_of(self, firsts: bytes) -> Script[None]:
        """Wait for a byte, which must be one of these, and leave it unread."""
        first = yield from self.peek(1)
        if first not in firsts:
            raise self.unexpected()

    def datagram(self) -> Script[bytes]:
        """Read one datagram, the next one that comes."""
        yield from self.more()
        return bytes(self.received)

    def unexpected(self) -> CheckFailedError:
        """Return the failure that something unexpected has come."""
        return CheckFailedError(f"the answer is not as expected: {self.came()}")
