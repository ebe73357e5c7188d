"""What operators have set outlasts the process, if `admin_state` names a file."""

import contextlib
import json
import os
import pathlib
import signal
import time

import pytest
from nginy.admin.changes.book import Book
from nginy.event.loop import Loop
from nginy.process.state_file import DELAY_MS, RETRY_MS, StateFile

from conftest import ExpectLog
from kit.clock import FakeClock
from kit.place import Place
from kit.program import PATIENCE_S, Nginy, open_paths, run_once, wait_until


def holds(place: Place) -> list[tuple[str, object]]:
    return [(e["name"], e["value"]) for e in place.ask("GET", "/changes")[1]["changes"]]


def written(state: pathlib.Path) -> list[tuple[str, str]]:
    """The backends that have changes in the file, each with what has changed."""
    changes = json.loads(state.read_text())["changes"]
    return [(each["place"][1], each["key"]) for each in changes]


@pytest.mark.parametrize("workers", [1, 2])
def test_changes_hold_after_a_crash_and_the_file_of_the_configuration_wins(
    workers: int, tmp_path: pathlib.Path
) -> None:
    place = Place(tmp_path, workers)
    state = tmp_path / "state.json"
    kept = f"admin_state: {state}\n"
    first, second = place.addresses
    every = "/upstreams/web/backends"
    new = f"{place.host}:9"
    with contextlib.closing(place):
        with Nginy(tmp_path, place.config(kept)) as nginy:
            assert not state.exists()
            assert place.ask("PATCH", f"{every}/{first}", {"state": "drain", "weight": 3})[0] == 200
            lease = {"max_conns": 5, "for": "1h", "reason": "deploy 42"}
            assert place.ask("PATCH", f"{every}/{second}", lease)[0] == 200
            body = {"address": new, "weight": 4}
            assert place.ask("POST", every, body)[0] == 201
            assert place.ask("DELETE", f"{every}/{second}")[0] == 202
            assert place.ask("PATCH", f"{every}/{new}", lease)[0] == 200
            before = place.ask("GET", "/changes")[1]["changes"]
            began = time.monotonic()
            wait_until(lambda: state.exists() and (new, "max_conns") in written(state))
            assert time.monotonic() - began < 15  # a second at most where nothing else runs
            assert state.stat().st_mode & 0o777 == 0o600
            os.kill(nginy.process.pid, signal.SIGKILL)
            nginy.wait()
        text = place.config(kept, backend=", weight: 9")
        with Nginy(tmp_path, text) as nginy:
            nginy.said("changes by operators of before the start hold again: 5")
            nginy.said(f"web/{first}: the file now says weight 9, 3 by an operator is dropped")
            after = place.ask("GET", "/changes")[1]["changes"]
            assert [each["value"] for each in after] == ["drain", "added", "removed", 5]
            strip = [{**e, "number": 0, "until": None} for e in after]
            assert strip == [
                {**e, "number": 0, "until": None} for e in before if e["key"] != "weight"
            ]
            rows = place.ask("GET", every)[1]["backends"]
            assert [(e["address"], e["state"], e["weight"]["now"]) for e in rows] == [
                (first, "draining", 9),
                (new, "up", 4),
            ]
            assert rows[1]["max_conns"]["now"] == 5
            # What is undone is undone after a restart, too.
            assert place.ask("DELETE", "/changes")[1]["undone"] == 4
            nginy.stop()
        with Nginy(tmp_path, text) as nginy:
            assert holds(place) == []
            nginy.stop()


def test_a_successor_has_what_holds(tmp_path: pathlib.Path) -> None:
    place = Place(tmp_path, 1)
    state = tmp_path / "state.json"
    with contextlib.closing(place):
        nginy = Nginy(tmp_path, place.config(f"admin_state: {state}\n"))
        with nginy:
            target = f"/upstreams/web/backends/{place.addresses[0]}"
            assert place.ask("PATCH", target, {"state": "maint"})[0] == 200
            assert run_once("-s", "upgrade", str(nginy.path))[0] == 0
            successor = nginy.pid
            assert successor != nginy.process.pid
            assert place.ask("GET", "/overview")[1]["pid"] == successor
            assert holds(place) == [(place.addresses[0], "maint")]
            nginy.process.wait(PATIENCE_S)
            os.kill(successor, signal.SIGTERM)
            nginy.wait()  # the successor writes to the same error log


def test_a_file_that_cannot_be_used_is_an_error_and_no_refused_start(
    tmp_path: pathlib.Path,
) -> None:
    place = Place(tmp_path, 1)
    state = tmp_path / "state.json"
    kept = f"admin_state: {state}\n"
    target = f"/upstreams/web/backends/{place.addresses[0]}"
    change: dict[str, object] = {
        "place": ["web", "10.0.0.9:80", ""],
        "key": "backend",
        "value": "added",
    }
    change |= {"file_value": "absent", "by": "", "reason": "", "at_ms": 0, "until_ms": None}
    bad = change | {"keys": {"address": "10.0.0.9:80", "weight": "many"}}
    misfit = change | {"keys": {"address": "10.0.0.9:80", "proxy_protocol": "v1"}}
    with contextlib.closing(place):
        for content, said in (
            (b'{"version":1,"chan', r'admin_state ".*state.json" is not whole, so changes by'),
            (b"\xff\xfe", "is not whole"),
            (b"x" * (5 << 20), "is too large to be nginy's"),
            (json.dumps({"version": 1, "changes": [bad]}).encode(), 'change 1 .weight: "many"'),
            (None, "is no file"),
        ):
            if content is None:
                state.unlink()
                os.mkfifo(state)
            else:
                state.write_bytes(content)
            with Nginy(tmp_path, place.config(kept)) as nginy:
                nginy.said(said)
                assert holds(place) == []
                nginy.stop()
        state.unlink()
        state.mkdir()
        with Nginy(tmp_path, place.config(kept)) as nginy:
            nginy.said(r"state.json. cannot be read \(21: Is a directory\)")
            assert str(state) not in open_paths(nginy.process.pid)
            assert place.ask("PATCH", target, {"weight": 3})[0] == 200
            nginy.said("state.json. cannot be written .*, so a restart forgets changes")
            state.rmdir()
            assert place.ask("PATCH", target, {"weight": 4})[0] == 200
            nginy.said("state.json. is written again")
            moved = tmp_path / "moved.json"
            nginy.write(place.config(f"admin_state: {moved}\n"))
            assert run_once("-s", "reload", str(nginy.path))[0] == 0
            wait_until(moved.exists)
            nginy.stop()
        state.write_text(json.dumps({"version": 1, "changes": [misfit]}))
        udp = place.config(kept).replace("listen:", "protocol: udp, listen:")
        with Nginy(tmp_path, udp) as nginy:
            nginy.said("web/10.0.0.9:80 added by an operator is dropped: .* is for streams")
            assert holds(place) == []
            nginy.stop()


def test_what_could_not_be_written_is_tried_again(
    tmp_path: pathlib.Path, expect_log: ExpectLog
) -> None:
    clock = FakeClock()
    loop = Loop(clock=clock)
    path = tmp_path / "full" / "state.json"
    state = StateFile(loop, Book())
    state.begin(str(path))

    def wait(duration_ms: int) -> None:
        clock.advance(duration_ms)
        for _ in range(5):
            loop.turn(0)

    state.changed()
    with expect_log("cannot be written .*, so a restart forgets changes"):
        wait(DELAY_MS)
        wait(RETRY_MS)
    path.parent.mkdir()
    wait(RETRY_MS)
    assert json.loads(path.read_text())["changes"] == []
    assert list(loop.timers.running()) == []
    path.unlink()
    path.mkdir()
    state.changed()
    with expect_log("cannot be written"):
        wait(DELAY_MS)
    path.rmdir()
    state.flush()  # the process ends before the next try
    assert json.loads(path.read_text())["changes"] == []
    path.unlink()
    path.mkdir()
    state.changed()
    with expect_log("cannot be written"):
        state.close()
    assert list(loop.timers.running()) == []
    loop.close()
