"""The frame of checks: in what pieces bytes come makes no difference, and nothing is endless."""

from dataclasses import dataclass

from nginy.text.address import parse_address
from nginy.wire.checks.talk import MAX_LINE_BYTES, MAX_TALK_BYTES, Script, Step, Talk, Target
from nginy.wire.errors import WireError

TARGET = Target(parse_address("192.0.2.1:25"), "here.test", bytes)


@dataclass(frozen=True)
class Lines:
    """Reads two lines, sends what they said, and reads three bytes."""

    name: str = "lines"

    def script(self, talk: Talk, _target: Target) -> Script[None]:
        yield b"hello"
        talk.expected = "two lines"
        first = yield from talk.line()
        second = yield from talk.line()
        yield first
        yield second
        talk.expected = "three bytes"
        last = yield from talk.take(3)
        if last != b"end":
            raise WireError(f"{last.decode()} is not the end")


def run(data: bytes, *, size: int, is_eof: bool = False) -> Step:
    talk = Talk(Lines(), TARGET)
    step = talk.begin()
    assert step == Step((b"hello",))
    sent: list[bytes] = []
    for start in range(0, len(data), size):
        step = talk.receive(data[start : start + size])
        sent += step.sends
        if step.is_over:
            break
    if is_eof and not step.is_over:
        step = talk.receive(b"", is_eof=True)
    return Step((*sent,), step.is_over, step.failure)


def test_bytes_may_come_in_any_pieces() -> None:
    data = b"one\r\ntwo\nend"
    for size in range(1, len(data) + 1):
        assert run(data, size=size) == Step((b"one", b"two"), is_over=True)


def test_the_reason_names_the_protocol() -> None:
    step = run(b"\n\nodd", size=100)
    assert step.failure == "lines: odd is not the end"


def test_an_end_of_the_stream_says_what_had_come() -> None:
    assert run(b"", size=1, is_eof=True).failure == (
        "lines: the connection was closed without an answer: nothing came, two lines was expected"
    )
    assert run(b"one\ntwo\ne", size=100, is_eof=True).failure == (
        'lines: the connection was closed too early: "e" came, three bytes was expected'
    )


def test_a_line_without_an_end_is_refused() -> None:
    assert "a line is too long" in run(b"x" * MAX_LINE_BYTES, size=1000).failure


def test_an_endless_stream_is_left() -> None:
    @dataclass(frozen=True)
    class Endless:
        name: str = "endless"

        def script(self, talk: Talk, _target: Target) -> Script[None]:
            while True:
                yield from talk.line()

    talk = Talk(Endless(), TARGET)
    step, count = talk.begin(), 0
    while not step.is_over:
        step = talk.receive(b"blah\n" * 1000)
        count += 5000
    assert MAX_TALK_BYTES <= count <= MAX_TALK_BYTES + 5000
    assert step.failure == f"endless: the server sent more than {MAX_TALK_BYTES} bytes"


def test_silence_says_what_was_expected() -> None:
    talk = Talk(Lines(), TARGET)
    talk.begin()
    assert talk.late() == (
        "lines: timed out while waiting for the answer: nothing came, two lines was expected"
    )
    datagrams = Talk(Lines(), TARGET, is_datagram=True)
    datagrams.begin()
    assert datagrams.late() == "lines: no answer in time: nothing came, two lines was expected"


def test_a_wrong_byte_is_noticed_when_it_comes() -> None:
    @dataclass(frozen=True)
    class Prefix:
        name: str = "prefix"

        def script(self, talk: Talk, _target: Target) -> Script[None]:
            talk.expected = '"SSH-"'
            yield from talk.prefix(b"SSH-")

    talk = Talk(Prefix(), TARGET)
    talk.begin()
    assert talk.receive(b"SS") == Step()
    assert talk.receive(b"L").failure == (
        'prefix: the answer is not as expected: "SSL" came, "SSH-" was expected'
    )
