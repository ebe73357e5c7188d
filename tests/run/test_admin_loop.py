"""The event loop of a running nginy as facts and as a picture, also in a real browser."""

import contextlib
import http.client
import json
import os
import pathlib
import re
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from kit.browser import Browser
from kit.program import CHECKOUT, PATIENCE_S, Nginy, free_port, own_host, wait_until

PICTURE = CHECKOUT / "etc" / "loop.png"
PICTURE_MAX_BYTES = 150_000
TOKEN = "0123456789abcdef0123456789abcdef"


class Place:
    """A nginy that is its own backend, so that each client makes two sessions."""

    def __init__(self, workers: int = 1, more: str = "") -> None:
        self.host = own_host()
        self.admin, self.port, back = (free_port(self.host) for _ in range(3))
        self.config = (
            f"workers: {workers}\nadmin: [{{listen: '{self.host}:{self.admin}'{more}}}]\n"
            f"upstreams: {{web: {{backends: ['{self.host}:{back}']}}}}\n"
            "listeners:\n"
            f"- {{listen: '{self.host}:{self.port}', name: front, proxy_pass: web}}\n"
            f"- {{listen: '{self.host}:{back}', name: back, return: hello}}\n"
        )
        self.url = f"http://{self.host}:{self.admin}"

    def get(self, path: str, **fields: str) -> tuple[int, str, str]:
        connection = http.client.HTTPConnection(self.host, self.admin, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            connection.request("GET", path, headers=fields)
            response = connection.getresponse()
            kind = response.headers["Content-Type"].partition(";")[0]
            return response.status, kind, response.read().decode()

    def look(self, query: str = "turns=200") -> dict[str, Any]:
        status, _, text = self.get(f"/api/v1/loop?{query}")
        assert status == 200, text
        found: dict[str, Any] = json.loads(text)
        return found

    def sessions(self, listener: str) -> list[int]:
        """Return the numbers of the sessions of a listener."""
        found = json.loads(self.get(f"/api/v1/sessions?listener={listener}")[2])["sessions"]
        return [int(each["id"].partition(".")[2]) for each in found]

    def visit(self, sent: bytes = b"", count: int = 1) -> None:
        address = self.host, self.port
        with contextlib.ExitStack() as stack:
            socks = [
                stack.enter_context(socket.create_connection(address, timeout=PATIENCE_S))
                for _ in range(count)
            ]
            for sock in socks:
                sock.sendall(sent)
            for sock in socks:
                while sock.recv(100):
                    pass


def handlers(found: dict[str, Any]) -> list[dict[str, Any]]:
    return [box for turn in found["turns"] for box in turn["boxes"]]


def numbers(found: dict[str, Any]) -> list[int]:
    return [turn["turn"] for turn in found["turns"]]


@pytest.mark.parametrize("workers", [1, 2])
def test_the_last_turns_are_there_while_somebody_looks(
    tmp_path: pathlib.Path, workers: int
) -> None:
    place = Place(workers)
    with Nginy(tmp_path, place.config) as nginy:
        assert place.look()["turns"] == [], "nothing is recorded before somebody looks"
        if workers > 1:
            place.look("worker=1")

        def sessions() -> set[int]:
            asked = [""] if workers == 1 else ["&worker=0", "&worker=1"]
            found = [box for each in asked for box in handlers(place.look(f"turns=200{each}"))]
            return {box["session"] for box in found if box["session"] and box["bytes"]}

        place.visit()
        wait_until(sessions)
        found = place.look()
        assert len(found["processes"]) == workers
        assert found["worker"] == "0"
        assert len(found["steps"]) == 6
        assert numbers(found) == sorted(numbers(found))
        for turn in found["turns"]:
            assert turn["took_s"] == pytest.approx(sum(turn["steps_s"][2:]))
            assert all(box["at_s"] + box["took_s"] <= turn["took_s"] for box in turn["boxes"])
        last = numbers(found)[-1]
        assert all(each > last for each in numbers(place.look(f"after={last}")))
        assert len(place.look("turns=3")["turns"]) == 3
        status, _, text = place.get("/api/v1/loop?worker=7")
        assert (status, json.loads(text)["error"]["code"]) == (400, "worker_not_found")
        assert place.get("/api/v1/loop?turns=201")[0] == 400
        status, kind, text = place.get("/loop")
        assert (status, kind) == (200, "text/html")
        assert "<table>" in text
        assert ("admin (answering an admin client)", "admin (Reporter)")[workers - 1] in text
        assert f'curl http://<span id="address">{place.host}:{place.port}</span>/' in text
        assert place.get("/loop.css")[1] == "text/css"
        assert place.get("/loop.js")[1] == "text/javascript"
        nginy.stop()


def test_without_the_token_a_browser_gets_a_page_that_shows_nothing(
    tmp_path: pathlib.Path,
) -> None:
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    place = Place(more=f", token_file: {tmp_path}/token")
    with Nginy(tmp_path, place.config) as nginy:
        status, _, text = place.get("/loop", Accept="text/html")
        assert status == 200
        assert "data-locked" in text
        assert str(nginy.pid) not in text
        assert place.get("/api/v1/loop")[0] == 401
        assert place.get("/loop", Authorization=f"Bearer {TOKEN}")[0] == 200
        nginy.stop()


# The browser keeps what the page has got last, and says it for each box that is drawn.
NOTE = """var fetched = fetch;
window.fetch = function (path, options) {
  return fetched(path, options).then(function (answer) {
    answer.clone().json().then(function (found) { window.got = found; });
    return answer;
  });
};"""
LABELS = "[...document.querySelectorAll('#turns .box')].map(e => e.ariaLabel)"
# One turn that is far longer than the others, as on a machine that has stopped it for a while.
STRETCH = """var fetched = fetch;
window.fetch = function (path, options) {
  return fetched(path, options).then(function (answer) {
    return answer.json().then(function (found) {
      var turn = found.turns.findLast(e => location.search && e.boxes.some(box => box.session));
      if (turn) {
        turn.took_s += 0.0576;
        turn.steps_s[5] += 0.0576;
        turn.boxes.at(-1).took_s += 0.0576;
      }
      return { ok: true, json: function () { return found; } };
    });
  });
};"""
PERIOD_MS = 1000


class Showcase:
    """A nginy with a session that goes on, beside the short ones, and a browser."""

    def __init__(self, directory: pathlib.Path, stack: contextlib.ExitStack) -> None:
        self.place = place = Place()
        self._stack = stack
        self._server = stack.enter_context(socket.create_server((place.host, 0)))
        self._long, self._tired = free_port(place.host), free_port(place.host)
        back = "{}:{}".format(*self._server.getsockname())
        config = place.config.replace("{web:", f"{{long: {{backends: ['{back}']}}, web:") + (
            f"- {{listen: '{place.host}:{self._long}', name: long, proxy_pass: long}}\n"
            f"- {{listen: '{place.host}:{self._tired}', name: tired, proxy_pass: long,"
            " proxy_timeout: 2s}\n"
        )
        self.nginy = stack.enter_context(Nginy(directory, config))
        self.browser = browser = stack.enter_context(Browser(directory))
        browser.call("Page.addScriptToEvaluateOnNewDocument", source=NOTE)
        place.look()
        self.client, self.backend = self.connect(self._long)
        browser.open(f"{place.url}/loop")
        self.waits(f"{LABELS}.some(e => e.startsWith('client read *') && e.includes('4 bytes'))")
        self.number = place.sessions("long")[0]

    def connect(self, port: int) -> tuple[socket.socket, socket.socket]:
        client = socket.create_connection((self.place.host, port), timeout=PATIENCE_S)
        self._stack.enter_context(client)
        backend = self._stack.enter_context(self._server.accept()[0])
        backend.settimeout(PATIENCE_S)
        return client, backend

    def connect_tired(self) -> tuple[socket.socket, socket.socket]:
        """Begin a session with a short time to be idle."""
        return self.connect(self._tired)

    def waits(self, expression: str) -> None:
        """Wait for the page while the long session goes on, as slowly as it is looked at."""
        urls = 0

        def came() -> object:
            nonlocal urls
            if urls < len(self.browser.urls):
                urls = len(self.browser.urls)
                talk(self.client, self.backend)
            return self.browser.value(expression)

        wait_until(came)


def talk(client: socket.socket, backend: socket.socket) -> None:
    client.sendall(b"ping")
    assert backend.recv(4) == b"ping"
    backend.sendall(b"pong")
    assert client.recv(4) == b"pong"


@pytest.fixture
def showcase(tmp_path: pathlib.Path) -> Iterator[Showcase]:
    with contextlib.ExitStack() as stack:
        yield Showcase(tmp_path, stack)


@pytest.mark.real
@pytest.mark.timeout(120)
def test_in_a_browser_one_can_hold_the_picture_and_point_at_it(showcase: Showcase) -> None:
    browser, place = showcase.browser, showcase.place
    place.visit(b"x" * 100)
    browser.waits(f"{LABELS}.some(e => e.includes('100 bytes'))")

    # The picture shows what the interface tells: each box of each turn, in its order.
    browser.value("document.getElementById('hold').click()")
    held = browser.value(LABELS)
    turns = {turn["turn"]: turn for turn in place.look()["turns"]}
    drawn: dict[int, list[str]] = {}
    for label in held:
        drawn.setdefault(int(label.rpartition(" ")[2]), []).append(label)
    for number, labels in drawn.items():
        for label, box in zip(labels, turns[number]["boxes"], strict=True):
            assert label.startswith(box["kind"])
            assert f", step {box['step']} of turn" in label
            assert not box["session"] or f"*{box['session']}" in label
            assert not box["bytes"] or f"{box['bytes']} bytes" in label

    # Held still, it asks for nothing, whatever goes on.
    place.visit()
    assert not browser.asks(PERIOD_MS)
    assert browser.value(LABELS) == held
    assert browser.value("document.getElementById('hold').innerText") == "Go on"
    browser.value("document.getElementById('hold').click()")
    showcase.waits(f"{LABELS}.at(-1) !== {json.dumps(held[-1])}")

    # It holds still, too, while somebody points at a box, which says what it was.
    def is_told() -> bool:
        # A new picture may come between the look where the box is and the move there.
        browser.hover("[...document.querySelectorAll('#turns .box')].at(0)")
        told = f"document.getElementById('told').innerText === {LABELS}.at(0)"
        return bool(browser.value(told))

    wait_until(is_told)
    told = "document.getElementById('told').getBoundingClientRect().bottom <= innerHeight"
    assert browser.value(told), "one need not look for the words"
    held = browser.value(LABELS)
    place.visit()
    assert not browser.asks(PERIOD_MS)
    assert browser.value(LABELS) == held
    browser.hover("document.querySelector('h1')")
    showcase.waits(f"{LABELS}.at(-1) !== {json.dumps(held[-1])}")

    # And if nobody sees it at all.
    browser.hide()
    assert not browser.asks(PERIOD_MS)
    browser.show()
    assert browser.asks(PERIOD_MS)
    assert browser.console == []
    showcase.nginy.stop()
    browser.shows("stale since ")


@pytest.mark.real
@pytest.mark.timeout(120)
def test_in_a_browser_a_session_is_followed_through_the_turns(showcase: Showcase) -> None:
    browser, place, number = showcase.browser, showcase.place, showcase.number
    place.visit(b"x" * 100, 3)
    lit = "[...document.querySelectorAll('#turns .box.lit')].map(e => e.ariaLabel)"
    ours = f"e => e.match(/ \\*{number}\\b/)"
    box = f"[...document.querySelectorAll('#turns .box')].findLast(e => ({ours})(e.ariaLabel))"
    browser.waits(f"{LABELS}.some(e => e.includes('100 bytes'))")

    # By the keyboard: the box stays chosen, and the others fade.
    browser.value(f"{box}.focus()")
    chosen = browser.value("document.activeElement.ariaLabel")
    assert browser.value("document.getElementById('told').innerText") == chosen
    browser.press("Enter")
    browser.waits(f"document.getElementById('follow').value === '{number}'")
    assert browser.value("document.activeElement.ariaLabel") == chosen
    assert browser.value(f"{lit}.length && {lit}.every({ours})")
    assert browser.value(f"{LABELS}.filter({ours}).length") == browser.value(f"{lit}.length")
    faded = "getComputedStyle(document.querySelector('#turns .box:not(.lit)')).opacity"
    assert float(browser.value(faded)) < 0.5
    browser.shows(f"Session *{number}: ")
    browser.value("document.activeElement.blur()")

    # It stays lit in the turns that come.
    last = int(chosen.rpartition(" ")[2])
    showcase.waits(f"{lit}.some(e => Number(e.split(' ').at(-1)) > {last + 5})")
    assert browser.value(f"{lit}.every({ours})")

    # By its number, and no more.
    for typed, count in (("999999", 0), (number, 1), ("", 0)):
        browser.value(f"document.getElementById('follow').value = '{typed}'")
        browser.value("document.getElementById('follow').dispatchEvent(new Event('change'))")
        assert bool(browser.value(f"{lit}.length")) == bool(count)
    browser.value(f"{box}.dispatchEvent(new Event('click'))")
    assert browser.value("document.getElementById('follow').value") == str(number)
    showcase.nginy.stop()


@pytest.mark.real
@pytest.mark.timeout(120)
def test_in_a_browser_the_wheel_and_what_waits_are_beside_it(showcase: Showcase) -> None:
    browser, place = showcase.browser, showcase.place
    tired = showcase.connect_tired()

    def has_gone_back_to_sleep() -> object:
        talk(*tired)
        return place.look()["went_back_to_sleep"]

    wait_until(has_gone_back_to_sleep)
    client, backend = showcase.connect_tired()
    backend.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            backend.send(bytes(1 << 20))
    showcase.waits("got.unsent_bytes > 0 && got.went_back_to_sleep > 0 && got.turns.length")
    browser.value("document.getElementById('hold').click()")
    timers, posted, kept = (f"document.querySelectorAll('#beside .card')[{i}]" for i in range(3))
    browser.waits(f"{timers}.querySelector('.big').innerText === got.timers + ' run'")
    told = browser.value("got")
    text = browser.value(f"{timers}.innerText")
    assert f"{told['fired']} have fired" in text
    assert f"{told['went_back_to_sleep']} of them too early" in text
    listed = browser.value(f"[...{timers}.querySelectorAll('li')].map(e => e.innerText)")
    assert len(listed) == min(len(told["next"]), 5)
    for line, each in zip(listed, told["next"], strict=False):
        assert line.startswith("in ")
        assert each["what"] in line
        more = f"{each['timers']} at once" if each["timers"] > 1 else f" of {each['of']}"
        assert line.endswith(more)
    hands = sum(each["in_s"] < 60 for each in told["next"])
    assert browser.value(f"{timers}.querySelectorAll('.hand').length") == hands > 0
    assert re.match(
        r"Put off until step 6\s+\d+ in \d+ turns", browser.value(f"{posted}.innerText")
    )
    amount = f"{told['unsent_bytes'] / (1 << 20):.1f} MiB"
    if told["unsent_bytes"] < 1 << 20:
        amount = f"{told['unsent_bytes'] / 1024:.1f} KiB"
    assert amount in browser.value(f"{kept}.innerText")
    assert f"{told['pipes']} pipes" in browser.value(f"{kept}.innerText")
    client.close()
    showcase.nginy.stop()


@pytest.mark.real
@pytest.mark.timeout(60)
def test_in_a_browser_a_token_is_asked_for_and_a_worker_chosen(tmp_path: pathlib.Path) -> None:
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    place = Place(2, f", token_file: {tmp_path}/token")
    with Nginy(tmp_path, place.config) as nginy, Browser(tmp_path) as browser:
        browser.reply = lambda text: TOKEN if "Token" in text else None
        browser.call("Page.addScriptToEvaluateOnNewDocument", source=NOTE)
        browser.open(f"{place.url}/loop")
        browser.shows(f"such as curl http://{place.host}:{place.port}/")
        browser.value("document.getElementById('own').click()")
        browser.waits(f"got.worker === '0' && {LABELS}.length")
        assert browser.asked == ["Token of nginy"]
        choice = "document.getElementById('worker')"
        assert browser.value(f"[...{choice}.options].map(e => e.value)") == ["0", "1"]
        browser.value(f"{choice}.value = '1'")
        browser.value(f"{choice}.dispatchEvent(new Event('change'))")
        last = "(got.turns.findLast(turn => turn.boxes.length) || {}).turn"
        drawn = f"{LABELS}.some(label => label.endsWith(' of turn ' + {last}))"
        browser.waits(f"got.worker === '1' && {drawn}")
        nginy.stop()


@pytest.mark.real
@pytest.mark.timeout(120)
def test_pictures_of_it(tmp_path: pathlib.Path) -> None:
    """Nothing is cut or covered; NGINY_PICTURES=1 writes the picture that the README shows, and
    with the name of a directory all of them."""
    wanted = os.environ.get("NGINY_PICTURES", "")
    place = Place()
    with Nginy(tmp_path, place.config) as nginy, Browser(tmp_path) as browser:
        place.look()
        for count in (1, 3, 1, 2, 1):
            place.visit(b"x" * 100 * count, count)
        browser.call("Page.addScriptToEvaluateOnNewDocument", source=STRETCH)
        for theme in ("light", "dark"):
            for width in (1280, 360):
                browser.size(width, 1300, theme, 0.75 if width > 500 else 1)
                browser.open(f"{place.url}/loop")
                browser.waits("document.querySelector('#turns svg') !== null")
                assert browser.value("innerWidth") == width
                assert browser.misfits() == []
                picture = browser.look(width, 1300, theme, 0.75 if width > 500 else 1)
                assert picture.startswith(b"\x89PNG")
                if wanted == "1" and (theme, width) == ("light", 1280):
                    PICTURE.write_bytes(picture)
                elif len(wanted) > 1:
                    pathlib.Path(wanted, f"loop-{theme}-{width}.png").write_bytes(picture)
        for width in (1280, 360):
            browser.size(width, 1300)
            browser.open(f"{place.url}/loop?long")
            browser.shows("▸")
            assert browser.misfits() == []
        nginy.stop()
    assert PICTURE.stat().st_size <= PICTURE_MAX_BYTES
