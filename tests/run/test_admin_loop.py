"""The event loop of a running nginy as facts and as a picture, also in a real browser."""

import contextlib
import html
import http.client
import json
import os
import pathlib
import re
import socket
from typing import Any

import pytest

from kit.browser import browse
from kit.program import CHECKOUT, PATIENCE_S, Nginy, free_port, needs, own_host, wait_until

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
        assert f"curl http://{place.host}:{place.port}/" in text
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


@pytest.mark.real
def test_a_browser_draws_what_the_interface_tells(tmp_path: pathlib.Path) -> None:
    needs("chromium", "chromium")
    place = Place()
    with Nginy(tmp_path, place.config) as nginy:
        place.look()
        for _ in range(3):
            place.visit(b"x" * 100)
        found = place.look()
        document, said = browse(
            tmp_path, f"{place.url}/loop", "--virtual-time-budget=3000", "--dump-dom"
        )
        assert [line for line in said.splitlines() if "CONSOLE" in line] == []
        drawn = html.unescape(document)
        serving = [turn for turn in found["turns"] if any(b["session"] for b in turn["boxes"])]
        assert serving
        for turn in serving[-24:]:
            labels = re.findall(rf'aria-label="([^"]*), step (\d) of turn {turn["turn"]}"', drawn)
            assert [int(step) for _, step in labels] == [box["step"] for box in turn["boxes"]]
            for (label, _), box in zip(labels, turn["boxes"], strict=True):
                assert label.startswith(box["kind"])
                assert not box["session"] or f"*{box['session']}" in label
                assert not box["bytes"] or f"{box['bytes']} bytes" in label
        assert "The latest session" in drawn
        assert "A handler that waited for a disk" in drawn
        nginy.stop()


@pytest.mark.real
@pytest.mark.parametrize("theme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 500])
def test_pictures_of_it_can_be_made(tmp_path: pathlib.Path, theme: str, width: int) -> None:
    """With NGINY_PICTURES=1, the first one becomes etc/loop.png."""
    needs("chromium", "chromium")
    place = Place()
    picture = tmp_path / "loop.png"
    dark = ["--blink-settings=preferredColorScheme=0"] if theme == "dark" else []
    with Nginy(tmp_path, place.config) as nginy:
        place.look()
        for count in (1, 3, 1, 2, 1):
            place.visit(b"x" * 100 * count, count)
        size = [f"--window-size={width},1300", "--force-device-scale-factor=0.75"]
        shot = [f"--screenshot={picture}", "--hide-scrollbars", *size, *dark]
        browse(tmp_path, f"{place.url}/loop", *shot)
        data = picture.read_bytes()
        assert data.startswith(b"\x89PNG")
        assert width < 1000 or len(data) <= PICTURE_MAX_BYTES
        if os.environ.get("NGINY_PICTURES") and (theme, width) == ("light", 1280):
            PICTURE.write_bytes(data)
        nginy.stop()
