"""Rounds of questions to a server that answers well, badly, or not at all."""

import contextlib
import json
import pathlib
import select
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from nginy.commands.running.asking import ANSWER_S, Message
from nginy.commands.running.interface import interface_of
from nginy.commands.top.cells import ASCII
from nginy.commands.top.feed import Feed
from nginy.commands.top.snapshot import SESSIONS
from nginy.commands.top.state import State
from nginy.commands.top.tables import lines
from nginy.config.load import load

from kit.program import PATIENCE_S
from kit.top import backends, overview, session

OK = "HTTP/1.1 200 OK"


class Server:
    """Answers as a test says, one connection at a time."""

    def __init__(self, directory: pathlib.Path) -> None:
        path = directory / "a.sock"
        self.socket = socket.socket(socket.AF_UNIX)
        self.socket.bind(str(path))
        self.socket.listen()
        self.config = directory / "nginy.yml"
        self.config.write_text(
            f"admin: unix:{path}\nlisteners: {{listen: 127.0.0.1:1, return: a}}\n"
        )
        self.feed = Feed(interface_of(load(str(self.config), {}), str(self.config)))
        self.asked: list[str] = []
        self.now_s = 0.0

    def answer(self, body: Any, status: str = OK) -> bool:
        """Answer the request that is under way; return whether there is something to show."""
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        exchange = self.feed.exchange
        assert exchange is not None
        c, _ = self.socket.accept()
        with c:
            c.settimeout(PATIENCE_S)
            assert self.feed.advance(self.now_s) is False
            self.asked.append(c.recv(65536).decode())
            c.sendall(f"{status}\r\nA: b\r\n\r\n".encode() + data if status else data)
        select.select([exchange.socket], [], [], PATIENCE_S)
        return self.feed.advance(self.now_s)

    def close(self) -> None:
        self.feed.close()
        self.socket.close()


@pytest.fixture
def server(tmp_path: pathlib.Path) -> Iterator[Server]:
    with contextlib.closing(Server(tmp_path)) as made:
        yield made


def test_a_round_is_one_request_after_the_other_and_makes_a_snapshot(server: Server) -> None:
    state = State(wanted="down b", has_details=True)
    server.feed.begin(state, None, 0.0)
    assert server.feed.is_busy
    assert not server.answer(overview())
    assert server.answer({"backends": backends(), "matched": 9})
    shown = server.feed.shot
    assert shown is not None
    assert (shown.more, len(shown.rows), server.feed.is_busy) == (5, 4, False)
    line = lines(shown, ASCII)[1]
    server.now_s = 1.0
    server.feed.begin(state, line, 1.0)
    assert not server.answer(overview())
    assert not server.answer({"backends": backends(1)})
    assert server.answer({"voices": {"check": "down"}})
    shown = server.feed.shot
    assert shown is not None
    assert (shown.about, shown.details) == (line.key, {"voices": {"check": "down"}})
    assert shown.rates["web/10.0.0.2:80"].new == 80
    targets = [text.split(" ")[1] for text in server.asked]
    assert targets == [
        "/api/v1/overview",
        "/api/v1/backends?limit=1000&match=down+b",
        "/api/v1/overview",
        "/api/v1/backends?limit=1000&match=down+b",
        "/api/v1/upstreams/web/backends/10.0.0.1%3A80/health",
    ]


def test_sessions_are_chosen_and_sorted_by_nginy(server: Server) -> None:
    state = State(view=SESSIONS, wanted="x client=10.0.0.0/8", orders={SESSIONS: 1})
    server.feed.begin(state, None, 0.0)
    server.answer(overview())
    assert server.answer({"sessions": [session()], "matched": 1})
    assert "/sessions?client=10.0.0.0%2F8&top=200&by=age " in server.asked[-1]


@pytest.mark.parametrize(
    ("body", "status", "trouble"),
    [
        ({"error": {"message": "not now"}}, "HTTP/1.1 503 X", "not now"),
        ({"error": "not found"}, "HTTP/1.1 404 X", "the answer 404 is not nginy's"),
        (b"[]", OK, "the answer is malformed"),
        (b"{", OK, "the answer is malformed"),
        ({"overview": 1}, OK, "the answer is malformed"),
        (b"", "", "without an answer"),
        (b"SSH-2.0\r\n", "", "does not answer like nginy"),
    ],
)
def test_a_bad_answer_is_told_and_the_snapshot_stays(
    server: Server, body: object, status: str, trouble: str
) -> None:
    server.feed.begin(State(), None, 0.0)
    server.answer(overview())
    server.answer({"backends": []})
    before = server.feed.shot
    server.feed.begin(State(), None, 1.0)
    shows = server.answer(body, status)
    if not shows:
        shows = server.answer({"backends": []})
    assert shows
    assert trouble in server.feed.trouble
    assert server.feed.shot is before
    server.feed.begin(State(), None, 2.0)
    server.answer(overview())
    server.answer({"backends": []})
    assert server.feed.trouble == ""


def test_nobody_there_and_nobody_who_answers_are_told(server: Server) -> None:
    server.feed.begin(State(), None, 0.0)
    assert not server.feed.advance(ANSWER_S - 0.1)
    assert server.feed.advance(ANSWER_S)
    assert "(timed out)" in server.feed.trouble
    server.socket.close()
    server.feed.begin(State(), None, 0.0)
    assert "111: Connection refused" in server.feed.trouble
    assert not server.feed.is_busy


def test_a_change_is_sent_and_told(server: Server) -> None:
    def told(body: object, status: str = OK) -> str:
        server.feed.begin(State(), None, 0.0)
        server.feed.send(Message("PATCH", "/x", {"state": "drain"}), 0.0)
        server.socket.accept()[0].close()  # of the round that it has ended
        assert server.answer(body, status)
        return server.feed.told

    row = backends()[1]
    assert told(row) == "10.0.0.2:80: up, 2050 sessions, weight 1"
    assert server.asked[-1].endswith('\r\n\r\n{"state": "drain"}')
    assert told({"killed": 3, "matched": 4}) == "3 of 4 sessions ended"
    assert told(b"", "HTTP/1.1 204 No Content") == "done"
    assert told({"result": "ok"}) == "done"
    assert told({"error": {"message": "no \x1b"}}, "HTTP/1.1 403 X") == "no \\x1B"


def test_a_round_does_not_give_up_a_change_that_is_under_way(server: Server) -> None:
    """As when Enter follows the y at once, which asks for details."""
    server.feed.send(Message("PATCH", "/x", {"state": "drain"}), 0.0)
    server.feed.begin(State(), None, 0.0)
    assert server.answer({"result": "ok"})
    assert server.asked[-1].startswith("PATCH /x ")
    assert server.feed.told == "done"
    server.feed.begin(State(), None, 0.0)
    server.answer(overview())
    assert server.asked[-1].startswith("GET /api/v1/overview ")
