"""`nginy status`: what it shows of an overview, and what it says without an answer."""

import pathlib

import pytest
from nginy.commands.running.interface import interface_of
from nginy.commands.running.status import render, status
from nginy.errors import NginyError

from kit.configs import LISTENER, loaded

OVERVIEW = {
    "version": "0.1",
    "pid": 42,
    "status": "draining",
    "uptime_s": 90061.5,
    "config": {"file": "nginy.yml", "generation": 7},
    "sessions": {"now": 3, "total": 12},
    "connections": {"now": 9, "limit": 1024},
    "draining": "waiting for 3 sessions to end",
    "upstreams": [
        {
            "name": "web",
            "usable": 1,
            "backends": 2,
            "states": {"up": 1, "down": 1},
            "sessions": 3,
            "queue": 4,
        }
    ],
    "listeners": [
        {
            "name": name,
            "address": "127.0.0.1:80",
            "protocol": "tcp",
            "to": to,
            "sessions": 3,
            "sessions_total": 12,
            "retiring": name == "text",
        }
        for name, to in (("127.0.0.1:80", "web"), ("text", None))
    ],
    "problems": [{"severity": "warning", "text": "web: \x1b[31m", "since": "yesterday"}],
    "more": {"upstreams": 0, "listeners": 8, "problems": 0},
}


def test_a_screenful_says_it_all_and_no_text_reaches_the_terminal_raw() -> None:
    assert list(render(OVERVIEW)) == [
        "nginy 0.1, PID 42, draining, up for 1d1h1m1s, nginy.yml, generation 7",
        "waiting for 3 sessions to end",
        "3 sessions now, 12 in all; 9 of 1024 connections",
        "upstreams:",
        "  web: 1 of 2 backends usable (1 up, 1 down), 3 sessions, 4 clients waiting",
        "listeners:",
        "  127.0.0.1:80 tcp to web: 3 sessions now, 12 in all",
        "  text, 127.0.0.1:80 tcp returns text: 3 sessions now, 12 in all, retiring",
        "  and 8 more",
        "problems:",
        r"  warning: web: \x1B[31m (since yesterday)",
    ]


def test_it_is_never_more_than_some_twenty_lines() -> None:
    many = {
        **OVERVIEW,
        **{name: OVERVIEW[name] * 200 for name in ("upstreams", "listeners", "problems")},  # type: ignore[operator]
    }
    assert len(list(render(many))) <= 25


def test_without_an_interface_it_names_the_line_to_add(tmp_path: pathlib.Path) -> None:
    with pytest.raises(NginyError, match='expected a line such as "admin: 127'):
        status(interface_of(loaded(tmp_path, LISTENER), "nginy.yml"), is_json=False, is_check=False)


def test_without_a_nginy_it_says_so(tmp_path: pathlib.Path) -> None:
    config = loaded(tmp_path, f"admin: unix:{tmp_path}/none.sock\n{LISTENER}")
    with pytest.raises(NginyError, match=r"no answer from .* \(2: No such file.*is nginy running"):
        status(interface_of(config, "nginy.yml"), is_json=False, is_check=True)
