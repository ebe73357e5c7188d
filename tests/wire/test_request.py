"""Requests to the admin interface: each is understood or refused, and nothing else happens."""

import random

import pytest
from nginy.wire.request import (
    BODY_MAX_BYTES,
    HEAD_MAX_BYTES,
    METHODS,
    PARAMETERS_MAX,
    Request,
    RequestError,
    parse_request,
)

from kit.requests import mutated

MUTATIONS = 50_000


def raw(line: str = "GET /healthz HTTP/1.1", *fields: str, body: bytes = b"") -> bytes:
    head = "".join(f"{each}\r\n" for each in (line, "Host: localhost", *fields, ""))
    return head.encode("latin-1") + body


def parsed(received: bytes) -> Request:
    found = parse_request(received)
    assert found is not None
    assert found[1] == len(received)
    return found[0]


def refused(received: bytes) -> tuple[int, str]:
    with pytest.raises(RequestError) as caught:
        parse_request(received)
    assert str(caught.value)
    return caught.value.status, caught.value.code


BAD = (400, "bad_request")


def test_a_request_is_read_with_path_query_fields_and_body() -> None:
    body = b'{"state": "drain"}'
    request = parsed(
        raw(
            "PATCH /upstreams/w%20b/backends/unix:%2Frun%2Fx?pretty&a=1&b=%C3%A4&a=2 HTTP/1.1",
            "Content-Type:application/json  ",
            "Content-Length: 018",
            "Accept: a",
            "ACCEPT: b",
            body=body,
        )
    )
    assert request.method == "PATCH"
    assert request.path == ("upstreams", "w b", "backends", "unix:/run/x")
    assert request.query == {"pretty": "", "a": "2", "b": "ä"}
    assert request.fields["content-type"] == "application/json"
    assert request.fields["accept"] == "a, b"
    assert (request.host, request.body, request.keeps_alive) == ("localhost", body, True)


def test_a_request_is_whole_at_its_last_byte_and_not_before() -> None:
    whole = raw("POST /reload HTTP/1.1", "Content-Length: 2", body=b"{}")
    assert all(parse_request(whole[:length]) is None for length in range(len(whole)))
    found = parse_request(whole + b"GET")
    assert found is not None
    assert found[1] == len(whole)


@pytest.mark.parametrize(
    ("line", "fields", "keeps_alive"),
    [
        ("GET / HTTP/1.1", (), True),
        ("GET / HTTP/1.1", ("Connection: te, Close",), False),
        ("GET / HTTP/1.0", (), False),
        ("GET / HTTP/1.0", ("Connection: keep-alive",), True),
    ],
)
def test_the_connection_is_kept_as_http_says(
    line: str, fields: tuple[str, ...], keeps_alive: bool
) -> None:
    assert parsed(raw(line, *fields)).keeps_alive is keeps_alive


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("127.0.0.1:9180", "127.0.0.1"),
        ("[::1]:9180", "::1"),
        ("LB1.Example.net", "lb1.example.net"),
        ("localhost:", "localhost"),
    ],
)
def test_the_host_is_known_without_its_port(host: str, name: str) -> None:
    assert parsed(f"GET / HTTP/1.1\r\nHost: {host}\r\n\r\n".encode()).host == name
    absolute = f"GET http://{host}/a HTTP/1.1\r\nHost: evil\r\n\r\n".encode()
    assert (parsed(absolute).host, parsed(absolute).path) == (name, ("a",))


@pytest.mark.parametrize(
    "received",
    [
        b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost:\r\n\r\n",
        b"GET / HTTP/1.1\nHost: a\n\n",
        b"GET / HTTP/1.1\rX",
        raw("GET /"),
        raw("GET  / HTTP/1.1"),
        raw("GET / HTTP/1.1 "),
        raw("GET healthz HTTP/1.1"),
        raw("GET /# HTTP/1.1"),
        raw("GET /%zz HTTP/1.1"),
        raw("GET /%f HTTP/1.1"),
        raw("GET /%ff HTTP/1.1"),
        raw("GET /?a=%ff HTTP/1.1"),
        raw(f"GET /?{'&'.join('a' * (PARAMETERS_MAX + 1))} HTTP/1.1"),
        raw("GET / HTTP/1.1", "Name : value"),
        raw("GET / HTTP/1.1", "Name"),
        raw("GET / HTTP/1.1", "Name: a", " folded"),
        raw("GET / HTTP/1.1", "Name: a\0b"),
        raw("GET / HTTP/1.1", "Name: a\x1bb"),
        raw("GET / HTTP/1.1", "Host: other"),
        raw("POST / HTTP/1.1", "Content-Length: 1", "Content-Length: 1"),
        raw("POST / HTTP/1.1", "Content-Length: 1, 1"),
        raw("POST / HTTP/1.1", "Content-Length: +1"),
        raw("POST / HTTP/1.1", "Content-Length: -1"),
        raw("POST / HTTP/1.1", "Content-Length: \xb2"),
        raw("POST / HTTP/1.1", "Content-Length: 1", "Transfer-Encoding: chunked"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(received: bytes) -> None:
    assert refused(received) == BAD


@pytest.mark.parametrize("method", ["OPTIONS", "TRACE", "CONNECT", "PUT", "get", "BREW"])
def test_other_methods_are_not_allowed(method: str) -> None:
    assert refused(raw(f"{method} / HTTP/1.1")) == (405, "method_not_allowed")


def test_other_versions_are_not_supported() -> None:
    assert refused(raw("GET / HTTP/2.0")) == (505, "version_not_supported")


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_a_body_needs_its_length(method: str) -> None:
    assert refused(raw(f"{method} / HTTP/1.1")) == (411, "length_required")
    chunked = raw(f"{method} / HTTP/1.1", "Transfer-Encoding: chunked")
    assert refused(chunked) == (411, "length_required")


def test_a_body_has_a_limit_that_shows_before_it_comes() -> None:
    most = raw("POST / HTTP/1.1", f"Content-Length: {BODY_MAX_BYTES}", body=bytes(BODY_MAX_BYTES))
    assert len(parsed(most).body) == BODY_MAX_BYTES
    for length in (BODY_MAX_BYTES + 1, "9" * 5000):
        more = raw("POST / HTTP/1.1", f"Content-Length: {length}")
        assert refused(more) == (413, "body_too_large")


def test_a_head_has_a_limit() -> None:
    room = HEAD_MAX_BYTES - len(raw("GET / HTTP/1.1", "X: "))
    assert parsed(raw("GET / HTTP/1.1", f"X: {'x' * room}")).fields["x"] == "x" * room
    more = raw("GET / HTTP/1.1", f"X: {'x' * (room + 1)}")
    assert refused(more) == (431, "head_too_large")
    assert parse_request(b"x" * (HEAD_MAX_BYTES - 1)) is None
    assert refused(b"x" * HEAD_MAX_BYTES) == (431, "head_too_large")


def check(received: bytes) -> None:
    """Whatever comes: a request within its limits, the wish for more, or a refusal."""
    try:
        found = parse_request(received)
    except RequestError:
        return
    if found is None:
        assert len(received) < HEAD_MAX_BYTES + BODY_MAX_BYTES
        return
    request, length = found
    assert 0 < length <= len(received)
    assert request.method in METHODS
    assert len(request.body) <= BODY_MAX_BYTES
    assert request.host
    assert parse_request(received[:length]) == (request, length)
    assert parse_request(received[: length - 1]) is None


@pytest.mark.slow
def test_mutated_requests_are_read_or_refused_and_nothing_else() -> None:
    rng = random.Random(17)
    seeds = [
        raw(),
        raw("GET /api/v1/overview?pretty&fields=a,b HTTP/1.1", "Accept: */*", "Connection: close"),
        raw(
            "POST /reload HTTP/1.1",
            "Content-Length: 2",
            "Content-Type: application/json",
            body=b"{}",
        ),
        raw("DELETE /a%2Fb/c HTTP/1.0", "Origin: null", "Authorization: Bearer x"),
    ]
    for _ in range(MUTATIONS):
        check(mutated(rng, seeds))
