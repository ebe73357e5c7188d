"""The configuration that runs, the way of a client through it, and a reload that is only tried."""

import contextlib
import json
import os
import pathlib
import signal
import socket
from collections.abc import Generator, Sequence
from typing import Any

import pytest
from nginy.admin.answer import Facts, Slices
from nginy.admin.asked import Asked
from nginy.admin.configured import explain
from nginy.admin.subject import RowsOf
from nginy.config.dump import SECRET_KEYS, dump, masked, masked_steps, yaml_steps
from nginy.config.load import load
from nginy.config.record import records_of
from nginy.config.schema import CONFIG
from nginy.event.loop import Loop
from nginy.process.errand import LIMIT_S, Errands
from nginy.text.mask import MASK
from nginy.wire.request import Request, RequestError

from kit.admin import Made, UnixConnection, pool
from kit.configs import loaded
from kit.place import Place
from kit.program import Nginy, free_port, run_once, wait_until

SECRETS = """
upstreams:
  web:
    backends: [127.0.0.1:1, {address: 127.0.0.1:2, weight: 3}]
    health_check:
      type: http
      path: /ready?key=hush-hush
      headers: {Authorization: "Basic ${PASSWORD}"}
      body: "a=hush-hush"
  db:
    backends: 127.0.0.1:3
    health_check: {type: tcp, steps: [{send: "AUTH hush-hush\\r\\n", expect: "+OK"}]}
    agent_check: {port: 7, send: "hush-hush\\n"}
  run:
    backends: 127.0.0.1:4
    health_check: {type: exec, command: /usr/bin/ask -p hush-hush}
listeners:
  - {listen: 127.0.0.1:80, proxy_pass: web}
  - {listen: 127.0.0.1:81, proxy_pass: db}
  - {listen: 127.0.0.1:82, proxy_pass: run}
  - {listen: 127.0.0.1:83, return: "you said ${PASSWORD}"}
"""


def done(steps: Generator[Any, Any, Any]) -> tuple[Any, int]:
    """Return what the work comes to, and in how many steps."""
    count = 1
    while True:
        try:
            next(steps)
        except StopIteration as end:
            return end.value, count
        count += 1


def text_of(place: Place, path: str) -> str:
    connection = UnixConnection(place.socket)
    with contextlib.closing(connection):
        connection.request("GET", f"/api/v1{path}")
        return connection.getresponse().read().decode()


def test_slices_make_the_same_text_without_secrets(tmp_path: pathlib.Path) -> None:
    config = loaded(tmp_path, SECRETS, {"PASSWORD": "hush-hush"})
    plain, _ = done(masked_steps(config))
    assert plain == masked(CONFIG.write(config), ["hush-hush"])
    text, _ = done(yaml_steps(plain))
    assert "hush" not in text
    # Four secrets, as the check of db asks in steps, and sends nothing else; and three in parts.
    assert text.count(MASK) == 7
    assert f"path: '/ready?{MASK}'" in text or f"path: /ready?{MASK}" in text
    assert f"command: /usr/bin/ask {MASK}" in text
    assert f"return: you said {MASK}" in text
    clear = loaded(tmp_path, SECRETS.replace("hush-hush", "x"), {"PASSWORD": "x"})
    assert done(yaml_steps(CONFIG.write(clear)))[0] == dump(clear)
    many = ", ".join(f"127.0.0.1:{port}" for port in range(100, 600))
    large = loaded(tmp_path, SECRETS.replace("127.0.0.1:1,", f"{many},"), {"PASSWORD": "x"})
    plain, slices = done(masked_steps(large))
    assert slices > 20
    assert done(yaml_steps(plain))[0] == done(yaml_steps(masked(CONFIG.write(large))))[0]


def test_no_other_key_has_the_name_of_a_secret_one() -> None:
    rows = [row for _, record in records_of(CONFIG) for row in record.keys.values()]
    assert {row.name for row in rows if not row.kind.is_secret}.isdisjoint(SECRET_KEYS)
    assert {"send", "headers", "body"} <= SECRET_KEYS


@pytest.mark.parametrize("workers", [1, 2])
def test_what_runs_is_shown_and_a_reload_can_be_tried(workers: int, tmp_path: pathlib.Path) -> None:
    place = Place(tmp_path, workers)
    with contextlib.closing(place), Nginy(tmp_path, place.config()) as nginy:
        status, out, _ = run_once("-T", str(nginy.path))
        assert (status, out.partition("\n")[2]) == (0, text_of(place, "/config"))
        found = json.loads(text_of(place, "/config?format=json"))
        assert found["upstreams"]["web"]["backends"][0]["address"] == place.addresses[0]
        assert place.ask("GET", "/config?format=xml")[0] == 400
        [listener] = place.ask("GET", "/listeners")[1]["listeners"]
        assert listener["defined_at"].startswith(f"{nginy.path}:")
        assert place.ask("GET", "/upstreams/web")[1]["on_down"] == "keep"
        file = place.ask("GET", "/config/file")[1]
        assert (file["path"], file["changed"], file["exists"]) == (str(nginy.path), False, True)
        target = f"/upstreams/web/backends/{place.addresses[0]}"
        assert place.ask("PATCH", target, {"weight": 3, "max_conns": 9})[0] == 200

        # Another file: nothing changes, whatever it says.
        nginy.write(f"workers: 3\n{place.config(backend=', weight: 2')[11:]}")
        assert place.ask("GET", "/config/file")[1]["changed"]
        status, told = place.ask("POST", "/reload", {"dry_run": True})
        assert (status, told["result"], told["dry_run"]) == (200, "acceptable", True)
        assert "weight 1 -> 2" in str(told["changes"])
        subjects = {each["subject"] for each in told["changes"]}
        assert subjects == {"workers", f"upstream web: backend {place.addresses[0]}"}
        assert told["needs_restart"] == ["workers"]
        status, out, errors = run_once("reload", "--dry-run", str(nginy.path))
        assert status == 0
        assert "weight 1 -> 2" in out
        assert "needs a restart: workers" in errors[0]
        out = run_once("plan", str(nginy.path))[1]
        name = f"web/{place.addresses[0]}"
        assert f"~ {name} is no longer weight 3 by operator uid {os.getuid()}" in out
        assert f"~ {name} stays max_conns 9 by operator uid {os.getuid()}" in out

        nginy.stop()


def test_no_answer_tells_a_secret_of_a_file_that_is_refused(tmp_path: pathlib.Path) -> None:
    place = Place(tmp_path, 1)
    with contextlib.closing(place), Nginy(tmp_path, place.config()) as nginy:
        check = "health_check: {type: tcp, send: 'AUTH hush-hush \\q'}"
        nginy.write(place.config().replace("{web: {", f"{{web: {{{check}, "))
        for body in ({"dry_run": True}, {}):
            status, told = place.ask("POST", "/reload", body)
            assert (status, told["result"]) == (422, "refused")
            assert told["problems"][0]["text"].startswith('send: "***" cannot be used')
        nginy.said("configuration not changed")
        for path in ("/reload", "/log", "/events", "/overview"):
            assert "hush" not in text_of(place, path)
        # Nor do the changes of one that is applied.
        check = "health_check: {type: http, path: '/x?hush-hush', initial: up, interval: 1h}"
        nginy.write(place.config().replace("{web: {", f"{{web: {{{check}, "))
        assert place.ask("POST", "/reload")[0] == 200
        for path in ("/reload", "/log", "/events", "/config", "/config?format=json"):
            assert "hush" not in text_of(place, path)
        assert "/x?***" in text_of(place, "/config")
        nginy.stop()


def test_a_tried_reload_names_what_is_in_the_way_and_changes_nothing(
    tmp_path: pathlib.Path,
) -> None:
    place = Place(tmp_path, 1)
    with contextlib.closing(place), Nginy(tmp_path, place.config()) as nginy:
        with socket.create_server((place.host, 0)) as taken:
            port = taken.getsockname()[1]
            more = f"- {{listen: '{place.host}:{port}', return: x}}\n"
            text = place.config().replace("listeners: {", "listeners:\n- {")
            nginy.write(text + more)
            status, told = place.ask("POST", "/reload", {"dry_run": True})
            assert (status, told["result"]) == (422, "refused")
            assert str(port) in told["problems"][0]["text"]
        nginy.write("listeners: 7\n")
        status, told = place.ask("POST", "/reload", {"dry_run": True})
        assert (status, told["result"]) == (422, "refused")
        assert place.ask("POST", "/reload", {"dry_run": 1})[0] == 400
        assert place.ask("GET", "/overview")[1]["generation"] == 1
        assert place.ask("GET", "/reload")[1]["result"] is None
        nginy.write(place.config(backend=", weight: 5"))
        status, out, _ = run_once("reload", str(nginy.path))
        assert status == 0
        assert "weight 1 -> 5" in out
        assert not place.ask("GET", "/config/file")[1]["changed"]
        [listener] = place.ask("GET", "/listeners")[1]["listeners"]
        assert listener["defined_at"].startswith(f"{nginy.path}:")
        assert load(str(nginy.path), {}).upstreams["web"].backends[0].weight == 5
        nginy.path.unlink()
        assert not place.ask("GET", "/config/file")[1]["exists"]
        nginy.stop()


@pytest.mark.parametrize("workers", [1, 2])
def test_the_way_of_a_client_is_that_of_now(workers: int, tmp_path: pathlib.Path) -> None:
    place = Place(tmp_path, workers)
    check = "health_check: {type: tcp, send: hush-hush, interval: 1h, initial: up}"
    text = place.config().replace("{web: {", f"{{web: {{{check}, ")
    with contextlib.closing(place), Nginy(tmp_path, text) as nginy:
        first, second = place.addresses
        way = f"/explain?listener={place.host}:{place.port}&client=10.1.2.3"
        text = text_of(place, way)
        assert f"choice    {first}" in text
        assert "send: ***" in text.replace('"', "").replace("'", "")
        assert "hush" not in text
        with place.connect():
            wait_until(lambda: "1 session," in text_of(place, way))
            target = f"/upstreams/web/backends/{first}"
            assert place.ask("PATCH", target, {"state": "drain", "reason": "deploy"})[0] == 200
            text = text_of(place, way)
            assert "backends, as they are now" in text
            assert f"{first}  draining, " in text.replace(f"{first}   ", f"{first}  ")
            assert "gets no clients: deploy" in text
            assert f"choice    {second}" in text
        new = f"{place.host}:{free_port(place.host)}"
        assert place.ask("POST", "/upstreams/web/backends", {"address": new})[0] == 201
        assert place.ask("DELETE", f"/upstreams/web/backends/{second}")[0] == 202
        text = text_of(place, way)
        assert f"choice    {new}" in text
        assert second not in text
        for query, said in (
            ("", "expected listener= and client="),
            ("?listener=x", "expected listener= and client="),
            ("?listener=x&client=10.1.2.3", "there is no listener"),
            (f"?listener={place.host}:{place.port}&client=me", 'client "me"'),
            (f"?listener={place.host}:{place.port}&client=10.1.2.3&snj=x", "is not known"),
        ):
            status, answer = place.ask("GET", f"/explain{query}")
            assert status == 400
            assert said in answer["error"]["message"]
        nginy.stop()


def test_one_process_needs_one_child_to_say_the_way_of_a_client() -> None:
    """The child knows all backends, as it is a fork of what serves."""

    class Recorded:
        def __init__(self) -> None:
            self.calls: list[tuple[Sequence[str], bool]] = []

        def explain(
            self, asked: Sequence[str], rows: RowsOf, _: object, *, is_reader: bool
        ) -> Slices[Any]:
            self.calls.append((asked, is_reader))
            yield None
            return {"text": f"{len(rows('web'))} backends", "upstreams": ["web"]}

    with Made(pool("web", "10.0.0.1:80", "10.0.0.2:80")) as subject:
        running = Recorded()
        subject.configuration = running  # type: ignore[assignment]
        for access in ("read", "full"):
            query = {"listener": "web", "client": "10.1.2.3"}
            asked = Asked(Request("GET", (), query, {}, "", b"", True), access=access)
            answer, _ = done(explain(subject, asked))
            assert answer.body == b"2 backends"
        words = ["web", "10.1.2.3"]
        assert running.calls == [(words, True), (words, False)]


def test_readers_leave_one_errand_to_operators() -> None:
    def work() -> Facts:
        signal.pause()
        return {}

    with contextlib.closing(Loop()) as loop:
        errands = Errands(loop)
        reader, operator = errands.run(work, is_reader=True), errands.run(work)
        next(reader)
        with pytest.raises(RequestError, match="others are asking for as much"):
            next(errands.run(work, is_reader=True))
        next(operator)
        with pytest.raises(RequestError, match="others are asking for as much"):
            next(errands.run(work))
        reader.close()
        other = errands.run(work, is_reader=True)
        next(other)
        operator.close()
        other.close()
        while loop.children:
            loop.turn(10)


def test_a_child_ends_in_time_even_if_its_parent_has_ended() -> None:
    loop = Loop()

    def work() -> Facts:
        is_blocked = signal.SIGALRM in signal.pthread_sigmask(signal.SIG_BLOCK, ())
        return {"is_blocked": is_blocked, "left_s": signal.alarm(0)}

    steps = Errands(loop).run(work)
    with contextlib.closing(loop):
        while True:
            try:
                next(steps)
            except StopIteration as end:
                found = end.value
                break
            loop.turn(10)
    assert not found["is_blocked"]
    assert 0 < found["left_s"] <= LIMIT_S
