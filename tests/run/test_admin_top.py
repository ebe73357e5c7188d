"""`nginy top` in a real terminal, in front of a running nginy."""

import contextlib
import os
import pathlib
import re
import shlex
import socket
import subprocess
from collections.abc import Iterator

import pytest

from kit.program import ENVIRONMENT, PATIENCE_S, PROGRAM, Nginy, free_port, own_host, run_once
from kit.terminal import Terminal

COLOR = re.compile(r"\x1b\[[0-9;]*3[1-7]")


class Place:
    """Two backends, one of which refuses; a session; and a nginy in front of them."""

    def __init__(self, directory: pathlib.Path, more: str = "") -> None:
        self.host = own_host()
        self.port = free_port(self.host)
        self.server = socket.create_server((self.host, 0), backlog=4096)  # nobody accepts
        self.good = "{}:{}".format(*self.server.getsockname())
        self.bad = f"{self.host}:{free_port(self.host)}"
        self.path = directory / "nginy.yml"
        self.config = (
            f"{more}upstreams: {{web: {{backends: ['{self.good}', '{self.bad}'],"
            " health_check: {type: tcp, interval: 200ms, fails: 1}}}\n"
            f"listeners: {{listen: '{self.host}:{self.port}', name: front, proxy_pass: web}}\n"
        )

    def command(self, *options: str, before: str = "") -> str:
        line = shlex.join([*PROGRAM, "top", "-d", "0.2", *options, str(self.path)])
        return f"{before} {line}; echo status $?; exec cat"

    def connect(self) -> socket.socket:
        return socket.create_connection((self.host, self.port), timeout=PATIENCE_S)


@pytest.fixture
def place(tmp_path: pathlib.Path) -> Iterator[Place]:
    made = Place(tmp_path)
    with contextlib.closing(made.server):
        yield made


def look_around(terminal: Terminal, place: Place) -> None:
    terminal.press("Down", "Down")
    terminal.shows(f"web/{place.bad} down for ")
    terminal.press("Enter")
    terminal.shows("voices: ", "check down")
    terminal.press("Escape")
    terminal.shows("UPSTREAM/BACKEND", instead_of="voices")
    terminal.press("s")
    terminal.shows("CLIENT", "established", place.good)
    terminal.press("l")
    terminal.shows("LISTENER", "front")
    terminal.press("e")
    terminal.shows("WHERE", "to down")
    terminal.press("F1")
    terminal.shows("PgUp, PgDn")
    terminal.press("x", "u", "/")
    terminal.type("no such thing")
    terminal.press("Enter")
    terminal.shows("nothing matches the filter")
    terminal.press("Escape")
    terminal.shows("● up")


def drain(terminal: Terminal, place: Place, nginy: Nginy) -> None:
    terminal.press("Home", "Down", "D")
    terminal.shows(f"drain web/{place.good}, which has 1 session? y/N")
    terminal.press("n", "D")
    terminal.shows("y/N")
    terminal.press("y")
    terminal.shows("◆ draining", "by nginy top")
    nginy.said(f"set web/{place.good} draining: by nginy top")
    terminal.press("K")
    terminal.shows(f"end 1 session of web/{place.good}? y/N")
    terminal.press("y")
    terminal.shows("1 of 1 sessions ended")


@pytest.mark.real
@pytest.mark.timeout(60)
def test_an_operator_looks_at_everything_and_drains_a_backend(
    tmp_path: pathlib.Path, place: Place
) -> None:
    with (
        Nginy(tmp_path, place.config) as nginy,
        place.connect(),
        Terminal(tmp_path, place.command(), 80, 24) as terminal,
    ):
        text = terminal.shows("■ down", "● up", "web", place.bad[:20], "D drain", "q quit")
        assert f"pid {nginy.pid} " in text.splitlines()[0]
        assert "■ 1 problem: web: " in text
        assert COLOR.search(terminal.colored)
        look_around(terminal, place)
        drain(terminal, place, nginy)
        terminal.resize(120, 40)
        wide = terminal.shows("REASON", "CHECK", "MAX")
        assert len(wide.rstrip("\n").splitlines()) == 40
        terminal.resize(60, 12)
        terminal.becomes(lambda text: "F1 help" in text and "CHECK" not in text)
        terminal.press("q")
        terminal.shows("status 0")
        nginy.stop()


@pytest.mark.real
@pytest.mark.timeout(60)
def test_nginy_goes_away_and_returns(tmp_path: pathlib.Path, place: Place) -> None:
    with contextlib.ExitStack() as stack:
        nginy = stack.enter_context(Nginy(tmp_path, place.config))
        terminal = stack.enter_context(Terminal(tmp_path, place.command(), 120, 40))
        terminal.shows(f"pid {nginy.pid} ", "● up")
        nginy.stop()
        terminal.shows("■ stale since ", "● up")
        nginy = stack.enter_context(Nginy(tmp_path, place.config))
        terminal.shows(f"pid {nginy.pid} ", instead_of="stale since")
        terminal.press("C-c")
        terminal.shows("status 0")
        nginy.stop()


@pytest.mark.real
@pytest.mark.timeout(60)
def test_without_colors_or_other_letters_and_without_the_right_to_change(
    tmp_path: pathlib.Path,
) -> None:
    place = Place(tmp_path, f"admin: {{listen: unix:{tmp_path}/a.sock, access: read}}\n")
    with (
        contextlib.closing(place.server),
        Nginy(tmp_path, place.config) as nginy,
        Terminal(tmp_path, place.command("--ascii"), 80, 24, NO_COLOR="1") as terminal,
    ):
        text = terminal.shows("# down", "+ up")
        assert text.isascii()
        assert "D drain" not in text
        assert not COLOR.search(terminal.colored)
        terminal.press("Down", "D", "y", "l")
        terminal.shows("LISTENER")
        assert not [line for line in nginy.errors if "operator" in line]
        nginy.stop()


@pytest.mark.real
@pytest.mark.timeout(60)
@pytest.mark.parametrize("kind", ["dumb", "no-such-terminal"])
def test_a_dumb_terminal_gets_the_status_each_interval(
    tmp_path: pathlib.Path, place: Place, kind: str
) -> None:
    with (
        Nginy(tmp_path, place.config) as nginy,
        Terminal(tmp_path, place.command(before=f"TERM={kind}"), 80, 40) as terminal,
    ):
        terminal.becomes(lambda text: text.count("web: 1 of 2 backends usable") >= 2)
        terminal.press("C-c")
        terminal.shows("status 0")
        nginy.stop()


@pytest.mark.parametrize("kind", ["xterm", "dumb"])
def test_it_ends_with_its_terminal(tmp_path: pathlib.Path, place: Place, kind: str) -> None:
    with Nginy(tmp_path, place.config) as nginy:
        ours, its = os.openpty()
        with subprocess.Popen(
            [*PROGRAM, "top", "-d", "0.1", str(place.path)],
            stdin=its,
            stdout=its,
            stderr=subprocess.PIPE,
            env={**ENVIRONMENT, "TERM": kind},
            start_new_session=True,  # so nobody gets a SIGHUP
        ) as top:
            os.close(its)
            assert os.read(ours, 100)
            os.close(ours)
            assert top.stderr is not None
            assert (top.wait(PATIENCE_S), top.stderr.read()) == (0, b"")
        nginy.stop()


def test_a_pipe_gets_the_status_until_its_reader_leaves(
    tmp_path: pathlib.Path, place: Place
) -> None:
    with Nginy(tmp_path, place.config) as nginy:
        top = subprocess.Popen(
            [*PROGRAM, "top", "-d", "0.1", str(place.path)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
            text=True,
        )
        with top:
            assert top.stdout is not None
            assert top.stderr is not None
            seen = 0
            while seen < 2:
                seen += f"PID {nginy.pid}, serving" in top.stdout.readline()
            nginy.stop()
            while "is nginy running?" not in (line := top.stdout.readline()):
                assert line
            top.stdout.close()
            assert top.wait(PATIENCE_S) == 0
            assert top.stderr.read() == ""
    status, out, errors = run_once("top", str(place.path))
    assert (status, out) == (1, "")
    assert "is nginy running?" in errors[0]
    status, _, errors = run_once("top", "-d", "soon", str(place.path))
    assert (status, errors) == (
        1,
        ['nginy: [emerg] -d "soon" is not a number of seconds from 0.1 to 3600'],
    )
