"""The request of a check, and the status line of its answer."""

import random

import pytest
from nginy.wire.errors import WireError
from nginy.wire.http import (
    MAX_INTERIM_BYTES,
    MAX_STATUS_LINE_BYTES,
    build_request,
    format_statuses,
    parse_status,
    parse_statuses,
)


def test_a_request_names_its_host_and_asks_for_a_close():
    assert build_request("/health?full=1", "web:8080") == (
        b"GET /health?full=1 HTTP/1.1\r\n"
        b"Host: web:8080\r\n"
        b"User-Agent: nginy\r\n"
        b"Connection: close\r\n"
        b"\r\n"
    )


def test_a_request_has_a_method_headers_and_a_body():
    headers = [("X-A", "b c"), ("User-agent", "me")]
    assert build_request("/", "[::1]", method="PUT", headers=headers, body=b"\xff") == (
        b"PUT / HTTP/1.1\r\n"
        b"Host: [::1]\r\n"
        b"X-A: b c\r\n"
        b"User-agent: me\r\n"
        b"Connection: close\r\n"
        b"Content-Length: 1\r\n"
        b"\r\n\xff"
    )
    assert b"Content-Length: 0\r\n" in build_request("/", "web", method="POST")


@pytest.mark.parametrize(
    ("path", "host"),
    [
        ("", "web"),
        ("health", "web"),
        ("/a b", "web"),
        ("/a\r\nX: y", "web"),
        ("/a\n", "web"),
        ("/ü", "web"),
        ("/", ""),
        ("/", "web\r\nX: y"),
    ],
)
def test_what_would_break_the_request_is_refused(path, host):
    with pytest.raises(WireError):
        build_request(path, host)


@pytest.mark.parametrize(
    ("name", "value"),
    [("", "x"), ("a b", "x"), ("a:", "x"), ("a", "x\r\ny: z"), ("a", "ü"), ("HOST", "x")],
)
def test_a_header_that_would_break_the_request_is_refused(name, value):
    with pytest.raises(WireError):
        build_request("/", "web", headers=[(name, value)])


@pytest.mark.parametrize(
    ("received", "status"),
    [
        (b"HTTP/1.1 200 OK\r\n", 200),
        (b"HTTP/1.0 404 Not Found\r\nServer: x\r\n\r\nbody", 404),
        (b"HTTP/1.1 503 \r\n", 503),
        (b"HTTP/1.1 204\r\n", 204),
        (b"HTTP/1.1 301 Moved\n", 301),
        (b"HTTP/1.1 200 \xfcber\r\n", 200),
    ],
)
def test_the_status_is_known_with_the_first_line(received, status):
    assert parse_status(received, is_eof=False) == status


def test_every_head_of_a_status_line_waits_for_more():
    line = b"HTTP/1.1 200 OK\r\n"
    heads = [line[:n] for n in range(len(line))]
    assert [parse_status(head, is_eof=False) for head in heads] == [None] * len(line)


INTERIM = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"


@pytest.mark.parametrize("line_end", [b"\r\n", b"\n"])
def test_interim_answers_are_passed_over_however_they_come(line_end):
    answer = INTERIM.replace(b"\r\n", line_end) + b"HTTP/1.1 503 Busy" + line_end
    found = [parse_status(answer[:n], is_eof=False) for n in range(len(answer) + 1)]
    assert found == [None] * len(answer) + [503]


def test_a_switch_of_protocols_is_a_final_answer():
    assert parse_status(b"HTTP/1.1 101 Switching Protocols\r\n", is_eof=False) == 101


@pytest.mark.parametrize("length", [24, 60, len(INTERIM)])
def test_an_interim_answer_alone_is_refused(length):
    with pytest.raises(WireError, match="interim answer"):
        parse_status(INTERIM[:length], is_eof=True)


@pytest.mark.parametrize(
    "answer", [INTERIM * 300, b"HTTP/1.1 103 Hints\r\n" + b"Link: </a>\r\n" * 2000]
)
def test_interim_answers_without_an_end_are_given_up(answer):
    assert parse_status(answer[:MAX_INTERIM_BYTES], is_eof=False) is None
    with pytest.raises(WireError, match=r"interim answers .* are too long"):
        parse_status(answer, is_eof=False)


@pytest.mark.parametrize("received", [b"", b"HTTP/1.1 200 O"])
def test_a_status_line_that_ends_with_the_connection_is_refused(received):
    with pytest.raises(WireError, match="incomplete"):
        parse_status(received, is_eof=True)


@pytest.mark.parametrize(
    "received",
    [
        b"S",
        b"SSH-2.0",
        b"HTTP/2",
        b"HTTP/1.x",
        b"HTTP/1.1 2x",
        b"http/1.1",
        b"\r",
        b"HTTP/1.1 600 X\r\n",
        b"HTTP/1.1 2000 OK\r\n",
        b"HTTP/1.1 200\tOK\r\n",
        b"HTTP/1.1 200 O\rK\r\n",
    ],
)
def test_what_cannot_become_a_status_line_is_refused_at_once(received):
    with pytest.raises(WireError, match="not HTTP"):
        parse_status(received, is_eof=False)


def test_a_status_line_without_an_end_is_given_up():
    line = b"HTTP/1.1 200 ".ljust(MAX_STATUS_LINE_BYTES, b"x")
    assert parse_status(line[:-1], is_eof=False) is None
    with pytest.raises(WireError, match="too long"):
        parse_status(line, is_eof=False)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("200", {200}),
        ("200 204", {200, 204}),
        ("200,204", {200, 204}),
        ("200-202 404", {200, 201, 202, 404}),
        ("100-599", set(range(100, 600))),
    ],
)
def test_statuses_are_numbers_and_ranges(text, expected):
    assert parse_statuses(text) == expected


@pytest.mark.parametrize("text", ["200", "200, 204", "200-202, 404", "100-599"])
def test_statuses_are_written_as_they_are_read(text):
    assert format_statuses(parse_statuses(text)) == text


@pytest.mark.parametrize("text", ["", " ", "2xx", "20", "200-", "399-200", "099", "600"])
def test_what_lists_no_statuses_is_refused(text):
    with pytest.raises(WireError):
        parse_statuses(text)


def test_random_bytes_are_a_status_or_more_or_an_error():
    seed = 20266
    print("seed", seed)
    rng = random.Random(seed)
    line = b"HTTP/1.1 200 OK\r\n"
    for _ in range(3000):
        octets = bytearray(line[: rng.randrange(len(line) + 1)])
        if octets:
            octets[rng.randrange(len(octets))] = rng.randrange(256)
        try:
            status = parse_status(bytes(octets), is_eof=False)
        except WireError:
            continue
        assert status is None or 100 <= status <= 599
