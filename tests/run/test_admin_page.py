"""The page of a running nginy, also in a real browser."""

import contextlib
import http.client
import itertools
import json
import os
import pathlib
import re
import socket
import time
from collections.abc import Iterator
from typing import Any

import pytest

from kit.admin import UnixConnection
from kit.browser import Browser
from kit.program import CHECKOUT, PATIENCE_S, Nginy, free_port, own_host, wait_until

PERIOD_MS = 2000
TOKEN = "0123456789abcdef0123456789abcdef"


class Place:
    def __init__(self, workers: int = 1, more: str = "") -> None:
        self.host = own_host()
        self.admin = free_port(self.host)
        self.server = socket.create_server((self.host, 0), backlog=4096)  # nobody accepts
        self.backend = "{}:{}".format(*self.server.getsockname())
        self.config = (
            f"workers: {workers}\nadmin: [{{listen: '{self.host}:{self.admin}'{more}}}]\n"
            f"upstreams: {{web: {{backends: ['{self.backend}'],"
            " health_check: {type: tcp, interval: 200ms, fails: 1}}}\n"
            f"listeners: {{listen: '{self.host}:{free_port(self.host)}', proxy_pass: web}}\n"
        )

    def get(self, path: str = "/", **fields: str) -> tuple[int, str, str]:
        connection = http.client.HTTPConnection(self.host, self.admin, timeout=PATIENCE_S)
        with contextlib.closing(connection):
            connection.request("GET", path, headers={"Accept": "text/html", **fields})
            response = connection.getresponse()
            kind = response.headers["Content-Type"].partition(";")[0]
            return response.status, kind, response.read().decode()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_browser_gets_the_page_and_a_program_the_list(
    tmp_path: pathlib.Path, workers: int
) -> None:
    place = Place(workers)
    with Nginy(tmp_path, place.config) as nginy:
        status, kind, text = place.get()
        assert (status, kind) == (200, "text/html")
        assert "The upstream serves" in text
        assert place.backend in text
        assert "data-state" not in text
        assert place.get(Accept="*/*")[1] == "application/json"
        assert place.get("/page.css")[1] == "text/css"
        assert place.get("/page.js")[1] == "text/javascript"
        place.server.close()
        wait_until(lambda: "web: 0 of 1 backends usable" in place.get()[2])
        assert "■ down" in place.get()[2]
        nginy.stop()


def test_with_full_access_it_has_buttons(tmp_path: pathlib.Path) -> None:
    place = Place()
    config = place.config.replace("admin: [", f"admin: [unix:{tmp_path}/a.sock, ")
    with Nginy(tmp_path, config) as nginy:
        connection = UnixConnection(tmp_path / "a.sock")
        with contextlib.closing(connection):
            connection.request("GET", "/", headers={"Accept": "text/html"})
            assert b'data-state="drain"' in connection.getresponse().read()
        nginy.stop()
    place.server.close()


def test_without_the_token_a_browser_gets_a_page_that_shows_nothing(
    tmp_path: pathlib.Path,
) -> None:
    (tmp_path / "token").write_text(TOKEN)
    (tmp_path / "token").chmod(0o600)
    place = Place(more=f", token_file: {tmp_path}/token")
    with Nginy(tmp_path, place.config) as nginy:
        status, _, text = place.get()
        assert status == 200
        assert "data-locked" in text
        assert place.backend not in text
        assert place.get("/page.js")[0] == 200
        assert place.get(Accept="*/*")[0] == 401
        assert place.get("/api/v1/overview")[0] == 401
        assert place.get(Authorization="Bearer wrong")[0] == 401
        assert place.backend in place.get(Authorization=f"Bearer {TOKEN}")[2]
        nginy.said("wrong token")
        nginy.stop()
    place.server.close()


class Demonstration:
    """Two groups of backends with sessions, one of which is stopped while somebody looks."""

    def __init__(self, directory: pathlib.Path) -> None:
        self.host = own_host()
        self.admin = free_port(self.host)
        self.port = free_port(self.host)
        # Nobody accepts: the checks of a minute must find room.
        self.servers = [socket.create_server((self.host, 0), backlog=4096) for _ in range(4)]
        names = ["{}:{}".format(*server.getsockname()) for server in self.servers]
        self.web, self.mail = names[:3], names[3:]
        (directory / "token").write_text(TOKEN)
        (directory / "token").chmod(0o600)
        check = "health_check: {type: tcp, interval: 200ms, fails: 1}"
        access = f"access: full, token_file: {directory}/token"
        self.config = (
            f"admin: [{{listen: '{self.host}:{self.admin}', {access}}}, unix:{directory}/a.sock]\n"
            f"upstreams:\n  web: {{backends: {self.web}, {check}}}\n"
            f"  mail: {{backends: {self.mail}, {check}}}\n"
            f"listeners:\n- {{listen: '{self.host}:{self.port}', name: front, proxy_pass: web}}\n"
            f"- {{listen: '{self.host}:{free_port(self.host)}', name: mx, proxy_pass: mail}}\n"
        )
        self.url = f"http://{self.host}:{self.admin}/"
        self.clients: list[socket.socket] = []
        self.directory = directory

    def connect(self, count: int) -> None:
        for _ in range(count):
            address = self.host, self.port
            self.clients.append(socket.create_connection(address, timeout=PATIENCE_S))

    def overview(self) -> dict[str, Any]:
        connection = UnixConnection(self.directory / "a.sock")
        with contextlib.closing(connection):
            connection.request("GET", "/api/v1/overview")
            found: dict[str, Any] = json.loads(connection.getresponse().read())
            return found

    def close(self) -> None:
        for each in (*self.clients, *self.servers):
            each.close()


@pytest.fixture
def shown(tmp_path: pathlib.Path) -> Iterator[Demonstration]:
    with contextlib.closing(Demonstration(tmp_path)) as made:
        yield made


def state_of(backend: str) -> str:
    """Return an expression for the class of a backend's state in the page."""
    row = "[...document.querySelectorAll('tbody tr')].find(r => r.textContent.includes"
    return f"{row}('{backend}')).querySelector('.state').className"


def time_to_be_seen_s(browser: Browser, shown: Demonstration) -> float:
    """Stop a backend, which may be stopped already, and return when the page shows it."""
    server = shown.servers[2]
    state = state_of(shown.web[2])
    if server.fileno() < 0:
        host, port = shown.web[2].split(":")
        server = shown.servers[2] = socket.create_server((host, int(port)), backlog=4096)
        browser.waits(f"{state} === 'state up'")
    server.close()
    began_s = time.monotonic()
    browser.waits(f"{state} === 'state down'")
    return time.monotonic() - began_s


# Answers instead of nginy.
REFUSING = """() => Promise.resolve(new Response(
  '{"error": {"message": "too many", "hint": "try again"}}', {status: 503}))"""


def click_refused(browser: Browser, place: str) -> None:
    """Click a button while nginy does not tell how many sessions there are; nothing is asked."""
    browser.value(f"window.real = window.fetch; window.fetch = {REFUSING}; 1")
    browser.value(f"{place}.click()")
    wait_until(lambda: browser.value("1") and browser.asked[-1] == "too many, try again")
    browser.value("window.fetch = window.real; 1")


def button(backend: str, word: str) -> str:
    return f"document.querySelector('button[data-backend=\"{backend}\"][data-state={word}]')"


@pytest.mark.real
@pytest.mark.timeout(120)
def test_in_a_browser_it_is_true_in_three_seconds_and_asks_before_it_changes_anything(
    tmp_path: pathlib.Path, shown: Demonstration
) -> None:
    with Nginy(tmp_path, shown.config) as nginy, Browser(tmp_path) as browser:
        shown.connect(6)
        browser.reply = lambda text: TOKEN if "Token" in text else None
        browser.open(shown.url)
        browser.shows("All 2 upstreams serve")
        wait_until(lambda: shown.overview()["sessions"]["now"] == 6)
        browser.waits("document.querySelector('#figures dd').textContent === '6'")
        first = shown.web[0]
        assert browser.value(state_of(first)) == "state up"

        # A backend that is stopped; other tries forgive a processor that others slowed down.
        assert any(time_to_be_seen_s(browser, shown) < 3 for _ in range(3))
        browser.shows("connect() failed (111: Connection refused)")
        color = browser.value("getComputedStyle(document.querySelector('.state.down')).color")
        assert color == "rgb(179, 19, 27)"

        # The numbers are those of the API.
        found = shown.overview()
        for group in found["upstreams"]:
            browser.shows(f"{group['usable']} of {group['backends']} usable")
            assert f"{group['sessions']} sessions" in browser.text
        assert f"generation {found['config']['generation']}" in browser.text

        # Buttons: refused in the dialog, then meant.
        browser.value(f"{button(first, 'drain')}.click()")
        wait_until(lambda: browser.value("1") and "drain web/" in browser.asked[-1])
        assert f"drain web/{first}? It has 2 sessions." in browser.asked[-1]
        assert shown.clients[0].getsockname()[0] in browser.asked[-1]
        assert browser.value(state_of(first)) == "state up"
        click_refused(browser, button(first, "drain"))
        browser.reply = lambda _: ""
        browser.value(f"{button(first, 'drain')}.click()")
        browser.waits(f"{state_of(first)} === 'state draining'")
        nginy.said(f"set web/{first} draining: by the page")
        before = shown.overview()["sessions"]["now"]
        browser.value(f"{button(first, 'kill')}.click()")
        browser.waits(f"{button(first, 'kill')}.dataset.conns === '0'")
        assert shown.overview()["sessions"]["now"] == before - 2
        assert f"End all sessions of web/{first}?" in browser.asked[-1]

        # Nothing else was asked, nothing complained.
        assert {url.split("?")[0] for url in browser.urls if url.startswith("http")} == {
            shown.url,
            f"{shown.url}page.css",
            f"{shown.url}page.js",
            f"{shown.url}api/v1/sessions",
            f"{shown.url}api/v1/sessions/kill",
            f"{shown.url}api/v1/upstreams/web/backends/{first.replace(':', '%3A')}",
        }
        assert [line for line in browser.console if "favicon" not in line] == []
        nginy.stop()
        browser.shows("stale since ")
        browser.shows("web")


@pytest.mark.real
@pytest.mark.timeout(60)
def test_without_a_script_the_page_is_the_same_and_a_large_group_has_its_box(
    tmp_path: pathlib.Path,
) -> None:
    host = own_host()
    admin = free_port(host)
    many = [f"'{host}:{port}'" for port in range(1, 451)]
    long = "a_name_that_is_longer_than_a_screen_is_wide_" * 2
    config = (
        f"admin: [{{listen: '{host}:{admin}'}}]\n"
        f"upstreams: {{web: {{backends: [{', '.join(many)}]}},"
        f" {long}: {{backends: ['unix:/run/{long}', '[2001:db8:1234:5678:9abc:def0:1:2]:65535']}}"
        "}\n"
        f"listeners: {{listen: '{host}:{free_port(host)}', proxy_pass: web}}\n"
    )
    url = f"http://{host}:{admin}/"
    with Nginy(tmp_path, config) as nginy, Browser(tmp_path) as browser:
        rows = "[...document.querySelectorAll('section tbody tr')].map(r => r.innerText)"
        browser.open(url)
        browser.shows("1 to 200 of 450")
        browser.hide()
        assert not browser.asks(PERIOD_MS), "nobody sees it"
        browser.show()
        assert browser.asks(PERIOD_MS)
        with_script = browser.value(rows)
        browser.value("document.querySelector('input[type=search]').value = ':7'")
        browser.value("document.querySelector('form').requestSubmit()")
        browser.shows("1 to 11 of 11 that fit")
        assert browser.value("location.search") == "?upstream=web&match=%3A7"
        browser.value("history.back()")
        browser.shows("1 to 200 of 450")
        browser.value("document.querySelector('a.go').click()")
        browser.shows("201 to 400 of 450")
        browser.call("Emulation.setScriptExecutionDisabled", value=True)
        browser.open(url)
        assert browser.value(rows) == with_script
        for width in (360, 1280):
            browser.size(width, 800)
            assert browser.misfits() == []
        before = len(browser.urls)
        wait_until(lambda: browser.value("1") and len(browser.urls) > before, "a refresh")
        browser.open(url)
        browser.value("document.querySelector('input[type=search]').value = ':45'")
        browser.value("document.querySelector('form').submit()")
        browser.shows("1 to 2 of 2 that fit")
        nginy.stop()


# The address and the file of the demonstration, where the test has others.
PLAIN = """(function () {
  var walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT), node;
  while ((node = walker.nextNode()))
    node.data = node.data.replaceAll("%s", "127.0.0.1").replaceAll("%s", "etc/nginy.yml");
})()"""


@pytest.mark.real
@pytest.mark.timeout(120)
def test_pictures_of_it(tmp_path: pathlib.Path) -> None:
    """Look at the demonstration; NGINY_PICTURES=1 writes the one that the README shows, and with
    the name of a directory all of them."""
    host = own_host()
    example = (CHECKOUT / "etc" / "nginy.yml").read_text().replace("127.0.0.1", host)
    wanted = os.environ.get("NGINY_PICTURES", "")
    with (
        Nginy(tmp_path, re.sub("(?m)^(pid|access_log|error_log):.*\n", "", example)) as nginy,
        Browser(tmp_path) as browser,
    ):
        browser.open(f"http://{host}:9180/")
        points = "(document.querySelector('#figures polyline') || {}).points"
        for wave in itertools.count():  # of clients, until there is a chart to see
            for _ in range(20 + 15 * (wave % 3)):
                with socket.create_connection((host, 8080), timeout=PATIENCE_S) as c:
                    c.recv(100)
            if browser.value(f"({points} || []).length") >= (10 if wanted else 3):
                break
            browser.waits("new Promise(done => setTimeout(done, 500, true))")
        browser.value(PLAIN % (host, nginy.path))
        for theme in ("light", "dark"):
            for width, height in ((1280, 1000), (360, 1400)):
                picture = browser.look(width, height, theme)
                assert picture.startswith(b"\x89PNG")
                assert browser.value("innerWidth") == width
                assert browser.misfits() == []
                if wanted == "1" and (theme, width) == ("light", 1280):
                    (CHECKOUT / "etc" / "page.png").write_bytes(picture)
                elif len(wanted) > 1:
                    pathlib.Path(wanted, f"page-{theme}-{width}.png").write_bytes(picture)
        nginy.stop()
    assert (CHECKOUT / "etc" / "page.png").stat().st_size <= 150 << 10
