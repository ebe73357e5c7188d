"""The last lines of the error log by request, and another level for a while."""

import contextlib
import pathlib
import re
import shutil
import socket
import struct

import pytest

from kit.place import Place
from kit.program import Nginy, run_once, typed, wait_until


@pytest.mark.parametrize("workers", [1, 2])
def test_the_last_lines_of_all_processes_are_there(
    workers: int, tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]
) -> None:
    place = Place(tmp_path, workers)
    with contextlib.closing(place), Nginy(tmp_path, place.config()) as nginy:
        target = f"/upstreams/web/backends/{place.addresses[0]}"
        assert place.ask("PATCH", target, {"state": "drain", "reason": "deploy 42"})[0] == 200
        lines = place.ask("GET", "/log")[1]["lines"]
        [line] = [each for each in lines if "deploy 42" in each["text"] and "set" in each["text"]]
        assert (line["level"], line["pid"], line["suppressed"]) == ("notice", nginy.process.pid, 0)
        assert any("up -> draining" in each["text"] for each in lines)
        assert [each["at"] for each in lines] == sorted(each["at"] for each in lines)
        nginy.path.write_text("listeners: 7\n")
        assert place.ask("POST", "/reload")[0] == 422
        errors = place.ask("GET", "/log?level=error&last=1")[1]["lines"]
        assert [each["text"] for each in errors] == ["configuration not changed"]
        nginy.write(place.config())
        status, out, _ = run_once("log", "--level", "error", "--last", "1", str(nginy.path))
        assert status == 0
        assert re.fullmatch(r"\S+Z \[error\] \d+#0: configuration not changed\n", out)
        for arguments, said in (
            (("--level", "loud"), 'level "loud" is not one of debug, info'),
            (("--last", "0"), '--last "0" is not a whole number from 1 to 1000'),
            (("--set", "loud"), 'level "loud" is not one of'),
            (("--set", "debug", "--for", "soon"), "for is not a duration"),
        ):
            status, _, told = typed(capsys, "log", *arguments, str(nginy.path))
            assert status == 1
            assert said in told[0]
        assert place.ask("POST", "/reopen")[1]["result"] == "reopened"
        logs = tmp_path / "logs"
        logs.mkdir()
        nginy.write(place.config("access_log: logs/access.log\n"))
        assert place.ask("POST", "/reload")[0] == 200
        shutil.rmtree(logs)
        status, answer = place.ask("POST", "/reopen")
        assert (status, answer["result"]) == (422, "refused")
        assert answer["problems"]
        assert all("logs/access.log" in each["text"] for each in answer["problems"])
        nginy.write(place.config())
        assert place.ask("POST", "/reload")[0] == 200
        assert place.ask("GET", "/log?level=loud")[0] == 400
        assert place.ask("GET", "/log?last=x")[0] == 400
        nginy.stop()


@pytest.mark.parametrize("workers", [1, 2])
def test_debug_says_more_for_a_while(workers: int, tmp_path: pathlib.Path) -> None:
    place = Place(tmp_path, workers)
    with contextlib.closing(place), Nginy(tmp_path, place.config()) as nginy:

        def visit() -> None:
            with place.connect() as client:
                client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                wait_until(lambda: place.ask("GET", "/sessions")[1]["matched"])
            wait_until(lambda: not place.ask("GET", "/sessions")[1]["matched"])

        visit()
        assert not any("picked" in line for line in nginy.errors)
        for body in (
            {"level": "loud"},
            {},
            {"level": "debug", "for": "2d"},
            {"level": ["debug"]},
            {"levle": "debug"},
        ):
            assert place.ask("PATCH", "/log", body)[0] == 400, body
        status, out, _ = run_once("log", "--set", "debug", "--for", "1h", str(nginy.path))
        assert status == 0
        assert out.startswith("the error log has level debug until 20")
        assert place.ask("GET", "/log")[1]["level"] == "debug"
        visit()
        nginy.said(r"\[debug\] .*picked")
        nginy.said("connected to upstream")
        # A reload does not end it; time does.
        assert run_once("-s", "reload", str(nginy.path))[0] == 0
        assert place.ask("PATCH", "/log", {"level": "debug", "for": "50ms"})[0] == 200
        nginy.said("the error log has its configured level again")
        assert place.ask("GET", "/log")[1]["level"] is None
        assert place.ask("PATCH", "/log", {"level": "info"})[0] == 200
        status, out, _ = run_once("log", "--set", "file", str(nginy.path))
        assert (status, out) == (0, "the error log has its configured level\n")
        count = len(nginy.errors)
        visit()
        assert not [line for line in nginy.errors[count:] if "[debug]" in line or "[info]" in line]
        nginy.stop()
