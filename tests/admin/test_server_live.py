"""The admin interface over real sockets: clients that behave, and clients that do not."""

import json
import random
import signal
import socket
import time
from collections.abc import Iterator

import pytest
from nginy.admin.answer import Answer, Chunk, Slices
from nginy.admin.asked import Asked
from nginy.admin.client import CLIENT_LINGER_MS, KEEPALIVE_MS, REQUEST_MS, SEND_MS
from nginy.admin.guard import DoorSettings
from nginy.admin.routes import API, ROUTES, SEGMENTS, AdminRoute
from nginy.admin.server import CLIENTS_MAX, HELD_MAX_BYTES, AdminServer, Door
from nginy.admin.subject import Subject
from nginy.event.listener import Listener
from nginy.event.loop import Loop
from nginy.proxy.access import Table, parse_network
from nginy.wire.request import BODY_MAX_BYTES, HEAD_MAX_BYTES

from kit.admin import pool
from kit.ends import End, connect
from kit.harness import METHODS, Harness

TOKEN = b"0123456789abcdef0123456789abcdef"
BIG_BYTES = 6 << 20
ENDED: list[str] = []
"""The answers without an end that have ended."""
QUIET_MS = 30
"""How long an idle turn waits."""


class Admin:
    """A door on a harness's loop, and its clients."""

    def __init__(self, harness: Harness, settings: DoorSettings | None = None) -> None:
        self.harness = harness
        self.subject = Subject(harness.loop, "0.1", 42, "nginy.yml", status="serving")
        self.server = AdminServer(harness.loop, self.subject)
        self.listener: Listener = harness.listen()
        self.door = Door(self.server, self.listener.address, settings or DoorSettings())
        self.listener.start(harness.loop, self.door.accept_handler)
        self.counted = harness.loop.connections

    def connect(self) -> End:
        return self.harness.add(connect(self.listener.address.sockaddr))

    def ask(self, client: End, text: str, *fields: str, host: str = "localhost") -> None:
        lines = [f"{text} HTTP/1.1", f"Host: {host}", *fields, "", ""]
        client.send("\r\n".join(lines).encode("latin-1"))

    def answer(self, client: End) -> tuple[int, str, bytes]:
        """Wait for one answer, take it, and return status, head and body."""
        self.harness.turn_until(lambda: b"\r\n\r\n" in client.received)
        head = bytes(client.received).partition(b"\r\n\r\n")[0]
        length = int(head.lower().partition(b"content-length: ")[2].split(b"\r\n")[0])
        self.harness.turn_until(lambda: len(client.received) >= len(head) + 4 + length)
        body = bytes(client.received[len(head) + 4 : len(head) + 4 + length])
        del client.received[: len(head) + 4 + length]
        return int(head.split()[1]), head.decode(), body

    def get(self, path: str, *fields: str, host: str = "localhost") -> tuple[int, str, bytes]:
        """Ask one question on a connection of its own."""
        client = self.connect()
        self.ask(client, f"GET {path}", "Connection: close", *fields, host=host)
        found = self.answer(client)
        self.harness.turn_until(lambda: client.has_eof)
        client.close()
        self.harness.settle()
        return found

    def refusal(self, path: str, *fields: str, host: str = "localhost") -> tuple[int, str]:
        status, _, body = self.get(path, *fields, host=host)
        return status, json.loads(body)["error"]["code"]

    def close(self) -> None:
        self.door.close()
        assert self.harness.loop.connections == self.counted, "admin clients are counted"
        assert self.server.held_bytes == 0


@pytest.fixture(params=METHODS)
def admin(request: pytest.FixtureRequest) -> Iterator[Admin]:
    """A door on a loop of each kind."""
    with Harness(request.param) as harness:
        made = Admin(harness)
        yield made
        made.close()


@pytest.fixture
def one() -> Iterator[Admin]:
    """A door on a loop of the ordinary kind."""
    with Harness() as harness:
        made = Admin(harness)
        yield made
        made.close()


def big(_subject: Subject, _asked: Asked) -> Slices[Answer]:
    yield None
    return Answer(200, bytes(BIG_BYTES))


def patchy(_subject: Subject, _asked: Asked) -> Slices[Answer]:
    yield None
    return Answer(200, b"", pieces=[b"", b"a" * 70_000, b"", b"", b"b", b""])


def endless(_subject: Subject, _asked: Asked) -> Slices[Answer]:
    while True:
        yield None


def pouring(_subject: Subject, _asked: Asked) -> Slices[Answer]:
    try:
        while True:
            yield Chunk(bytes(30_000))
    finally:
        ENDED.append("pouring")


def broken(_subject: Subject, _asked: Asked) -> Slices[Answer]:
    yield None
    raise ZeroDivisionError


@pytest.fixture(autouse=True)
def more_routes() -> Iterator[None]:
    """Add routes that only a test has."""
    before = list(SEGMENTS)
    for name, make in (
        ("big", big),
        ("endless", endless),
        ("patchy", patchy),
        ("pouring", pouring),
        ("broken", broken),
    ):
        SEGMENTS.insert(0, ((name,), AdminRoute("GET", f"/{name}", "a test", make)))
    yield None
    SEGMENTS[:] = before


def test_a_connection_takes_one_request_after_the_other(admin: Admin) -> None:
    client = admin.connect()
    for _ in range(3):
        admin.ask(client, "GET /healthz")
        assert admin.answer(client)[::2] == (200, b"ok\n")
        admin.ask(client, "GET /api/v1/overview")
        status, _, body = admin.answer(client)
        assert status == 200
        assert json.loads(body)["version"] == "0.1"
    admin.ask(client, "HEAD /readyz", "Connection: close")
    admin.harness.turn_until(lambda: client.has_eof)
    assert client.received.startswith(b"HTTP/1.1 200 OK")
    assert client.received.endswith(b"\r\n\r\n")


def test_requests_sent_ahead_are_answered_in_their_order(admin: Admin) -> None:
    client = admin.connect()
    for path in ("/healthz", "/readyz", "/nothing", "/healthz"):
        admin.ask(client, f"GET {path}")
    statuses = [admin.answer(client)[0] for _ in range(4)]
    assert statuses == [200, 200, 404, 200]


def test_a_request_may_come_byte_by_byte(admin: Admin) -> None:
    client = admin.connect()
    client.write_bytes = 1
    admin.ask(client, "GET /healthz")
    assert admin.answer(client)[0] == 200


def test_every_endpoint_is_listed_and_answers(one: Admin) -> None:
    body = json.loads(one.get("/api/v1/")[2])
    assert [each["path"] for each in body["endpoints"]] == [route.path for route in ROUTES]
    for route in ROUTES:
        if route.method == "GET":
            has_name = any(segment.isupper() for segment in route.path.split("/"))
            # This one has no configuration, and nobody has said whom to explain.
            known = {f"{API}config": 503, f"{API}config/file": 503, f"{API}explain": 400}
            expected = (400, 404) if has_name else (known.get(route.path, 200),)
            assert one.get(route.path)[0] in expected, route.path


def test_fields_choose_and_pretty_is_for_reading(one: Admin) -> None:
    _, _, body = one.get("/api/v1/overview?fields=version,draining&pretty")
    assert list(json.loads(body)) == ["at", "generation", "pid", "version", "draining"]
    assert b'\n  "version": "0.1"' in body
    assert one.refusal("/api/v1/overview?fields=versoin") == (400, "unknown_field")


def test_readiness_is_a_status_and_a_reason(one: Admin) -> None:
    one.subject.status = "starting"
    status, head, body = one.get("/readyz")
    assert (status, body) == (503, b"starting\n")
    assert "Retry-After: 1" in head
    assert one.get("/healthz")[0] == 200
    one.subject.status = "serving"
    assert one.get("/readyz")[2] == b"ready\n"
    assert one.refusal("/readyz?upstream=web") == (404, "upstream_not_found")
    assert one.refusal("/readyz?min=x") == (400, "bad_parameter")
    assert one.refusal(f"/readyz?min={'9' * 5000}") == (400, "bad_parameter")


def test_what_is_not_there_or_not_allowed_is_refused(one: Admin) -> None:
    assert one.refusal("/secret") == (404, "not_found")
    assert one.refusal("/healthz/") == (404, "not_found")
    assert one.refusal("/api/v1/listeners/nobody") == (404, "listener_not_found")
    assert one.refusal("/api/v1/overview", host="evil.example") == (421, "misdirected_request")
    client = one.connect()
    one.ask(client, "POST /healthz", "Content-Length: 0", "Content-Type: application/json")
    assert one.answer(client)[0] == 403
    one.ask(client, "OPTIONS *")
    status, head, _ = one.answer(client)
    assert status == 405
    assert "Allow: GET, HEAD, POST, PATCH, DELETE\r\n" in head
    one.harness.turn_until(lambda: client.has_eof)


def test_access_metrics_shows_the_probes_and_nothing_else() -> None:
    with Harness() as harness:
        admin = Admin(harness, DoorSettings(access="metrics"))
        assert admin.get("/healthz")[0] == admin.get("/readyz")[0] == 200
        assert admin.refusal("/api/v1/overview") == (403, "metrics_only")
        admin.close()


def test_wrong_tokens_are_refused_and_logged_once(expect_log: object) -> None:
    with Harness() as harness, expect_log("wrong token for the admin interface"):  # type: ignore[operator]
        admin = Admin(harness, DoorSettings(token=TOKEN))
        for _ in range(3):
            assert admin.refusal("/healthz", "Authorization: Bearer x") == (401, "token_wrong")
        assert admin.get("/healthz", f"Authorization: Bearer {TOKEN.decode()}")[0] == 200
        admin.close()


def test_other_addresses_are_closed_before_anything_is_read() -> None:
    with Harness() as harness:
        table = Table([(parse_network("10.0.0.0/8"), 0)])
        admin = Admin(harness, DoorSettings(allow=table))
        client = admin.connect()
        harness.turn_until(lambda: client.is_over)
        assert not client.received
        admin.close()


def test_the_seventeenth_client_is_told_and_the_others_go_on(one: Admin) -> None:
    clients = [one.connect() for _ in range(CLIENTS_MAX)]
    one.harness.settle()
    more = one.connect()
    status, head, body = one.answer(more)
    assert status == 503
    assert "Retry-After: 1" in head
    assert json.loads(body)["error"]["code"] == "too_many_clients"
    one.harness.turn_until(lambda: more.has_eof)
    for client in clients:
        one.ask(client, "GET /healthz")
        assert one.answer(client)[0] == 200
    clients[0].close()
    more.close()
    one.harness.settle()
    assert one.get("/healthz")[0] == 200


def test_a_crowd_is_closed_at_once_and_costs_no_memory(one: Admin) -> None:
    clients = [one.connect() for _ in range(3 * CLIENTS_MAX)]
    one.harness.settle()
    told = sum(client.received.startswith(b"HTTP/1.1 503") for client in clients)
    assert told == CLIENTS_MAX
    assert sum(client.is_over and not client.received for client in clients) == CLIENTS_MAX


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"x" * HEAD_MAX_BYTES, 431),
        (b"POST / HTTP/1.1\r\nHost: a\r\n\r\n", 411),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: %d\r\n\r\n" % (BODY_MAX_BYTES + 1), 413),
        (b"\x16\x03\x01\x00\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n\r\n", 400),
    ],
)
def test_no_request_is_answered_and_ends_the_connection(
    admin: Admin, sent: bytes, status: int
) -> None:
    client = admin.connect()
    client.send(sent + bytes(200_000))
    assert admin.answer(client)[0] == status
    admin.harness.turn_until(lambda: client.is_over)
    assert not client.was_reset


def test_a_request_has_to_be_whole_in_time_whatever_comes_of_it(one: Admin) -> None:
    client = one.connect()
    client.send(b"GET /healthz HTTP/1.1\r\n")
    one.harness.settle()
    for _ in range(4):
        one.harness.advance(REQUEST_MS // 5)
        client.send(b"X: y\r\n")
        one.harness.settle()
    assert not client.received
    one.harness.advance(REQUEST_MS // 5 + 10)
    assert one.answer(client)[0] == 408
    one.harness.turn_until(lambda: client.has_eof)


def test_a_body_that_never_comes_has_the_same_time(one: Admin) -> None:
    client = one.connect()
    one.ask(client, "POST /healthz", "Content-Length: 10")
    one.harness.settle()
    one.harness.advance(REQUEST_MS + 10)
    assert one.answer(client)[0] == 408


def test_a_silent_connection_ends_in_the_end(one: Admin) -> None:
    client = one.connect()
    one.ask(client, "GET /healthz")
    one.answer(client)
    one.harness.advance(KEEPALIVE_MS - 10)
    assert not client.is_over
    one.harness.advance(30)
    one.harness.turn_until(lambda: client.has_eof)
    assert not client.received


def test_a_client_that_stays_after_its_refusal_is_closed(one: Admin) -> None:
    client = one.connect()
    client.send(b"x\r\n\r\n")
    one.harness.turn_until(lambda: client.has_eof)
    one.harness.advance(CLIENT_LINGER_MS + 10)
    one.harness.settle()
    assert one.harness.connections() == [one.listener.connection]


def test_a_reader_that_stops_is_closed(one: Admin) -> None:
    client = one.connect()
    client.is_reading = False
    one.ask(client, "GET /big")
    one.harness.settle()
    assert 0 < one.server.held_bytes < BIG_BYTES
    one.harness.advance(SEND_MS + 10)
    assert one.server.held_bytes == 0
    client.is_reading = True
    one.harness.turn_until(lambda: client.is_over)


def test_an_empty_piece_ends_no_answer(one: Admin) -> None:
    client = one.connect()
    for _ in range(2):
        one.ask(client, "GET /patchy")
        assert one.answer(client)[2] == b"a" * 70_000 + b"b"


def test_a_slow_reader_gets_all_of_it(admin: Admin) -> None:
    client = admin.connect()
    client.read_bytes = 200_000
    admin.ask(client, "GET /big")
    assert admin.answer(client)[::2] == (200, bytes(BIG_BYTES))


def test_answers_that_nobody_reads_are_bounded(one: Admin) -> None:
    clients = [one.connect() for _ in range(4)]
    for client in clients:
        client.is_reading = False
        one.ask(client, "GET /big")
        one.harness.settle()
    assert one.server.held_bytes <= HELD_MAX_BYTES + BIG_BYTES
    assert one.refusal("/api/v1/overview") == (503, "answers_held")
    assert one.get("/healthz")[0] == 200


def test_slow_readers_keep_no_operator_away() -> None:
    with Harness() as harness:
        admin = Admin(harness, DoorSettings(access="full"))
        obeyed: list[signal.Signals] = []

        def obey(number: signal.Signals) -> None:
            obeyed.append(number)
            admin.subject.reopening_ended(())

        admin.subject.obey = obey
        admin.server.held_bytes = HELD_MAX_BYTES
        assert admin.get("/api/v1/overview")[0] == 200
        admin.server.held_bytes = 2 * HELD_MAX_BYTES
        assert admin.refusal("/api/v1/overview") == (503, "answers_held")
        client = admin.connect()
        fields = ("Content-Type: application/json", "Content-Length: 2")
        admin.ask(client, "POST /api/v1/reopen", *fields)
        client.send(b"{}")
        status, _, body = admin.answer(client)
        assert (status, json.loads(body)["result"], obeyed) == (200, "reopened", [signal.SIGUSR1])
        admin.server.held_bytes = 0
        admin.close()


def test_healthz_waits_for_no_other_answer(one: Admin) -> None:
    for _ in range(3):
        one.ask(one.connect(), "GET /endless")
    for _ in range(20):
        one.harness.turn()
    client = one.connect()
    one.ask(client, "GET /healthz")
    assert one.answer(client)[0] == 200
    client = one.connect()
    one.ask(client, "GET /api/v1/overview")
    assert one.answer(client)[0] == 200


@pytest.mark.slow
def test_healthz_overtakes_answers_over_ten_thousand_backends(one: Admin) -> None:
    """Turns are counted: none has more than a slice of 0.5 ms (test_slices.py). So /healthz is
    there in 20 ms, and a scrape in 2 s, if the loop has nothing else to do."""
    web = pool("web", *(f"10.0.{n >> 8}.{n & 255}:80" for n in range(10_000)))
    one.subject.pools = lambda: [web]
    one.subject.metrics_backends = len(web.backends)
    one.subject.balances = {"web": "round_robin"}
    paths = ("/metrics", "/", "/api/v1/upstreams/web/backends", "/api/v1/sessions", "/endless")
    busy = [one.connect() for _ in paths]
    for client, path in zip(busy, paths, strict=True):
        one.ask(client, f"GET {path}", "Accept: text/html", "Connection: close")
    probe, slowest, all_ = one.connect(), 0, 0
    one.harness.turn()
    while not all(client.has_eof for client in busy[:-1]):
        one.ask(probe, "GET /healthz")
        turns = 0
        while not probe.received.endswith(b"\r\n\r\nok\n"):
            one.harness.turn()
            turns += 1
            assert turns < 20
        probe.received.clear()
        slowest, all_ = max(slowest, turns), all_ + turns
    assert busy[0].received.count(b"nginy_backend_usable{") == len(web.backends)
    assert slowest <= 3
    assert 100 < all_ < 4000


def test_its_own_work_is_counted_apart(one: Admin) -> None:
    assert one.subject.admin_ns == 0
    assert one.get("/api/v1/overview")[0] == 200
    once = one.subject.admin_ns
    assert once > 0
    one.harness.turn()
    assert one.subject.admin_ns == once
    one.ask(one.connect(), "GET /endless")
    one.harness.turn_until(lambda: one.subject.admin_ns > once)


def test_a_turn_does_one_slice(one: Admin) -> None:
    made = []

    def counting(_subject: Subject, _asked: Asked) -> Slices[Answer]:
        while True:
            made.append(1)
            yield None

    SEGMENTS.insert(0, (("endless",), AdminRoute("GET", "/endless", "a test", counting)))
    for _ in range(4):
        one.ask(one.connect(), "GET /endless")
    for _ in range(50):
        before = len(made)
        one.harness.turn()
        assert len(made) <= before + 1
    assert len(made) > 10


def test_a_bug_in_an_answer_ends_that_client_alone(one: Admin, expect_log: object) -> None:
    other = one.connect()
    one.ask(other, "GET /endless")
    client = one.connect()
    with expect_log("bug in nginy"):  # type: ignore[operator]
        one.ask(client, "GET /broken")
        one.harness.turn_until(lambda: client.is_over)
    assert not other.is_over
    assert one.get("/healthz")[0] == 200


def test_a_client_that_leaves_takes_its_answer_along(one: Admin) -> None:
    client = one.connect()
    one.ask(client, "GET /big")
    one.harness.turn_until(lambda: client.received)
    client.reset()
    one.harness.turn_until(lambda: one.server.held_bytes == 0)
    one.harness.turn_until(lambda: one.harness.connections() == [one.listener.connection])


def test_with_nobody_there_the_loop_has_nothing_to_do(one: Admin) -> None:
    assert type(one.harness.loop) is Loop, "nothing is measured before somebody asks"
    for path in ("/api/v1/overview", "/metrics", "/api/v1/sessions", "/page.js"):
        assert one.get(path)[0] == 200
    assert one.get("/", "Accept: text/html")[1].count("text/html") == 1
    one.harness.advance(KEEPALIVE_MS)
    assert one.harness.loop.timers.next_deadline_ms() is None
    began_s = time.monotonic()
    one.harness.loop.turn(QUIET_MS)
    assert time.monotonic() - began_s >= QUIET_MS / 1000


@pytest.mark.slow
def test_mutated_requests_meet_an_answer_or_the_end(one: Admin) -> None:
    rng = random.Random(3)
    seed = b"GET /api/v1/overview?pretty HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"
    for _ in range(1000):
        data = bytearray(seed)
        for _ in range(rng.randint(1, 3)):
            data[rng.randrange(len(data))] = rng.choice(b"\r\n :/%\0Az?\xff")
        client = one.connect()
        client.send(bytes(data))
        client.finish()
        while not client.is_over:
            one.harness.turn()
        assert not client.received or client.received.startswith(b"HTTP/1.1 ")
        client.close()
        one.harness.forget(client)


def test_a_reader_that_stops_is_cut_off_from_an_answer_without_an_end(one: Admin) -> None:
    ENDED.clear()
    address = one.listener.address
    with socket.create_connection((address.host, address.port)) as client:
        client.sendall(b"GET /pouring HTTP/1.1\r\nHost: localhost\r\n\r\n")
        one.harness.turn_until(lambda: ENDED)
        assert one.server.held_bytes == 0
        assert one.get("/healthz")[0] == 200


def test_a_change_during_a_reload_is_refused() -> None:
    with Harness() as harness:
        admin = Admin(harness, DoorSettings(access="full"))
        admin.subject.is_reloading = lambda: True
        fields = ("Content-Type: application/json", "Content-Length: 19")
        for text in (
            "PATCH /api/v1/upstreams/web/backends/10.0.0.1:80",
            "DELETE /api/v1/changes/1",
            "POST /api/v1/reload",
        ):
            client = admin.connect()
            body = b'{"state": "drain"} ' if text.startswith("PATCH") else b"{}" + b" " * 17
            admin.ask(client, text, *fields)
            client.send(body)
            status, _, answer = admin.answer(client)
            assert (status, json.loads(answer)["error"]["code"]) == (409, "reload_under_way")
        admin.close()
