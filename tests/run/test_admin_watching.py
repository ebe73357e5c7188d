"""Events as a stream: as they happen, from where a reader was, and not for ever behind."""

import contextlib
import json
import pathlib
import socket
from typing import Any

import pytest

from kit.place import Place
from kit.program import PATIENCE_S, Nginy, wait_until


class Stream:
    """A reader of events."""

    def __init__(self, place: Place, query: str = "", **fields: str) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(PATIENCE_S)
        self.sock.connect(str(place.socket))
        lines = [f"GET /api/v1/events{query} HTTP/1.1", "Host: localhost"]
        lines += ["Accept: text/event-stream", *(f"{k}: {v}" for k, v in fields.items()), "", ""]
        self.sock.sendall("\r\n".join(lines).encode())
        self.file = self.sock.makefile("rb")
        self.status = int(self.file.readline().split()[1])
        self.head = list(iter(self.file.readline, b"\r\n"))

    def next(self) -> tuple[int, dict[str, Any]]:
        number, data, empty = (self.file.readline() for _ in range(3))
        assert (number[:4], data[:6], empty) == (b"id: ", b"data: ", b"\n")
        return int(number[4:]), json.loads(data[6:])

    def close(self) -> None:
        self.file.close()
        self.sock.close()


def descriptors(nginy: Nginy) -> int:
    return nginy.descriptors()


@pytest.mark.parametrize("workers", [1, 2])
def test_events_come_as_they_happen(workers: int, tmp_path: pathlib.Path) -> None:
    place = Place(tmp_path, workers)
    with contextlib.closing(place), Nginy(tmp_path, place.config()) as nginy:
        before = descriptors(nginy)
        target = f"/upstreams/web/backends/{place.addresses[0]}"
        last = place.ask("GET", "/events")[1]["last"]
        stream = Stream(place, f"?after={last}")
        with contextlib.closing(stream):
            assert stream.status == 200
            assert b"Content-Type: text/event-stream\r\n" in stream.head
            assert not any(line.startswith(b"Content-Length") for line in stream.head)
            assert place.ask("PATCH", target, {"state": "drain", "reason": "deploy"})[0] == 200
            kinds = set()
            while kinds < {"operator", "state"}:
                number, event = stream.next()
                assert (number, event["seq"]) == (last + 1, last + 1)
                last = number
                kinds.add(event["kind"])
        again = Stream(place, **{"Last-Event-ID": str(last - 1)})
        with contextlib.closing(again):
            assert again.next()[0] == last
        for fields in ({"Last-Event-ID": "x"}, {"Last-Event-ID": "9" * 16}):
            with contextlib.closing(Stream(place, **fields)) as refused:
                assert refused.status == 400
        # A number from before a restart is unknown: the stream goes on with what comes next.
        with contextlib.closing(Stream(place, **{"Last-Event-ID": "900000"})) as later:
            assert place.ask("PATCH", target, {"state": "ready"})[0] == 200
            assert later.next()[1]["kind"] in ("operator", "state")
        # Readers that have gone are noticed.
        wait_until(lambda: descriptors(nginy) <= before)
        nginy.stop()
