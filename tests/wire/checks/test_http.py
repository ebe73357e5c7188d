"""The http check: bodies however they end, and the requests that ask for them."""

import random

import pytest
from nginy.text.address import parse_address
from nginy.wire.checks.http import HttpCheck
from nginy.wire.checks.talk import MAX_TALK_BYTES, Step, Talk, Target
from nginy.wire.expect import parse_expect

MUTATIONS = 5000
"""Of all answers."""
TARGET = Target(parse_address("192.0.2.1:80"), "here.test", bytes)
OK = HttpCheck(expect=parse_expect("~o.*k"))
HEAD = b"HTTP/1.1 200 OK\r\nServer: x\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"


def read(question: HttpCheck, answer: bytes, size: int, *, is_eof: bool = True) -> Step:
    talk = Talk(question, TARGET)
    step = talk.begin()
    for start in range(0, len(answer), size):
        if not step.is_over:
            step = talk.receive(answer[start : start + size])
    if is_eof and not step.is_over:
        step = talk.receive(b"", is_eof=True)
    return step


PASSING = {
    "length": HEAD + b"Content-Length: 3\r\n\r\nok.",
    "without length": HEAD + b"\r\nall is o and k",
    "http/1.0": b"HTTP/1.0 200\r\n\r\nok",
    "chunks": CHUNKED + b"1\r\no\r\n1;x=y\r\nk\r\n0\r\n\r\n",
    "capital chunks": CHUNKED + b"A \r\n________ok\r\n0\r\n\r\n",
    "interim": b"HTTP/1.1 103 Early\r\nLink: </a>\r\n\r\n" + HEAD + b"Content-Length: 2\r\n\r\nok",
    "long header": HEAD + b"A: " + b"x" * 8000 + b"\r\nContent-Length: 2\r\n\r\nok",
}
FAILING = {
    "length": (
        HEAD + b"Content-Length: 4\r\n\r\ndownok",
        'the body is not as expected: "down" came, "~o.*k" was expected',
    ),
    "empty": (
        HEAD + b"Content-Length: 0\r\n\r\nok",
        'the body is not as expected: nothing came, "~o.*k" was expected',
    ),
    "no content": (
        b"HTTP/1.1 204 No\r\n\r\nok",
        'the body is not as expected: nothing came, "~o.*k" was expected',
    ),
    "without length": (
        HEAD + b"\r\ndown",
        'the body is not as expected: "down" came, "~o.*k" was expected',
    ),
    "chunks": (
        CHUNKED + b"4\r\ndown\r\n0\r\n\r\nok",
        'the body is not as expected: "down" came, "~o.*k" was expected',
    ),
    "cut": (
        HEAD + b"Content-Length: 9\r\n\r\ndown",
        'the body is incomplete: "down" came, "~o.*k" was expected',
    ),
    "interim": (
        b"HTTP/1.1 103 Early\r\nLink: <ok>\r\n\r\n" + HEAD + b"Content-Length: 4\r\n\r\ndownok",
        'the body is not as expected: "down" came, "~o.*k" was expected',
    ),
    "bad chunk": (CHUNKED + b"x\r\n", "a chunk of the body has no valid size"),
    "large chunk": (CHUNKED + b"123456789\r\n", "a chunk of the body has no valid size"),
    "long chunk": (CHUNKED + b"1\r\nxx\r\n", "a chunk of the body is longer than it says"),
    "bad length": (
        HEAD + b"Content-Length: -1\r\n\r\nok",
        "the answer has no valid Content-Length",
    ),
    "status": (
        b"HTTP/1.1 503 No\r\n\r\nok",
        "status 503 came, 200-399 was expected",
    ),
}


@pytest.mark.parametrize("size", [*range(1, 110, 3), 2, 1 << 16])
@pytest.mark.parametrize("answer", PASSING.values(), ids=PASSING)
def test_a_body_with_what_is_expected_passes(answer: bytes, size: int) -> None:
    assert read(OK, answer, size) == Step(is_over=True)


@pytest.mark.parametrize("size", [*range(1, 110, 3), 2, 1 << 16])
@pytest.mark.parametrize(("answer", "failure"), FAILING.values(), ids=FAILING)
def test_another_body_fails(answer: bytes, failure: str, size: int) -> None:
    assert read(OK, answer, size).failure == failure


def test_a_body_that_decides_is_not_read_to_its_end() -> None:
    answer = HEAD + b"Content-Length: 999999\r\n\r\n"
    assert read(OK, answer + b"it is ok", 100, is_eof=False) == Step(is_over=True)
    prefix = HttpCheck(expect=parse_expect("yes"))
    assert "not as expected" in read(prefix, answer + b"n", 100, is_eof=False).failure


@pytest.mark.parametrize("answer", [*PASSING.values(), *(a for a, _ in FAILING.values())])
def test_no_answer_is_a_bug(answer: bytes) -> None:
    rng = random.Random(answer)
    for end in range(min(len(answer), 300)):
        assert read(OK, answer[:end], 1 << 16).is_over
    sizes = (1, 5, 1 << 16) if len(answer) < 300 else (999, 1 << 16)
    for _ in range(MUTATIONS // len([*PASSING, *FAILING]) + 1):
        data = bytearray(answer)
        for _ in range(rng.randint(1, 3)):
            place = rng.randrange(len(data))
            data[place : place + rng.randint(0, 2)] = rng.randbytes(rng.randint(1, 2))
        assert read(OK, bytes(data), rng.choice(sizes)).is_over


@pytest.mark.parametrize(
    ("begin", "noise"),
    [
        (CHUNKED, b"1\r\nx\r\n"),
        (CHUNKED, b"0000000a\r\n"),
        (CHUNKED, b"1;" + b"x" * 90 + b"\r\nx\r\n"),
        (HEAD + b"\r\n", b"x"),
        (HEAD + b"Content-Length: 99999999\r\n\r\n", b"x\n"),
        (HEAD, b"A: b\r\n"),
        (HEAD + b"A: ", b"x"),
        (b"HTTP/1.1 200 ", b"x"),
        (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    ],
)
def test_an_endless_answer_ends_the_check(begin: bytes, noise: bytes) -> None:
    talk = Talk(OK, TARGET)
    talk.begin()
    step = talk.receive(begin)
    count = 0
    while not step.is_over:
        step = talk.receive(noise * 100)
        count += len(noise) * 100
    assert step.failure
    assert count <= MAX_TALK_BYTES + len(noise) * 100


def test_the_request_has_method_headers_and_body() -> None:
    question = HttpCheck(
        "/up", "www", method="POST", headers=(("X-A", "b"), ("user-agent", "me")), body=b"{}"
    )
    (request,) = Talk(question, TARGET).begin().sends
    assert request == (
        b"POST /up HTTP/1.1\r\nHost: www\r\nX-A: b\r\nuser-agent: me\r\nConnection: close\r\n"
        b"Content-Length: 2\r\n\r\n{}"
    )
