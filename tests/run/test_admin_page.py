"""The page of a running nginy, also in a real browser."""

import contextlib
import http.client
import pathlib
import re
import socket

import pytest

from kit.admin import UnixConnection
from kit.browser import browse
from kit.program import PATIENCE_S, Nginy, free_port, needs, own_host, wait_until

TOKEN = "0123456789abcdef0123456789abcdef"


class Place:
    def __init__(self, workers: int = 1, more: str = "") -> None:
        self.host = own_host()
        self.admin = free_port(self.host)
        self.server = socket.create_server((self.host, 0))
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


@pytest.mark.real
def test_a_browser_shows_it_without_a_complaint_and_keeps_it_up_to_date(
    tmp_path: pathlib.Path,
) -> None:
    needs("chromium", "chromium")
    place = Place()
    with Nginy(tmp_path, place.config) as nginy:
        url = f"http://{place.host}:{place.admin}/"
        document, said = browse(tmp_path, url, "--virtual-time-budget=5000", "--dump-dom")
        assert "The upstream serves" in document
        assert len(re.findall('id="verdict"', document)) == 1
        console = [line for line in said.splitlines() if "CONSOLE" in line]
        assert console == []
        nginy.stop()
    place.server.close()


@pytest.mark.real
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 500])
def test_pictures_of_it_can_be_made(tmp_path: pathlib.Path, theme: str, width: int) -> None:
    needs("chromium", "chromium")
    place = Place()
    picture = tmp_path / "page.png"
    dark = ["--force-dark-mode"] if theme == "dark" else []
    with Nginy(tmp_path, place.config) as nginy:
        url = f"http://{place.host}:{place.admin}/"
        size = f"--window-size={width},900"
        browse(tmp_path, url, f"--screenshot={picture}", size, "--hide-scrollbars", *dark)
        assert picture.read_bytes().startswith(b"\x89PNG")
        nginy.stop()
    place.server.close()
