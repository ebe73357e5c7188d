"""What a nginy says that `top` shows: the facts of its answers, made up."""

from typing import Any

from nginy.commands.top.snapshot import EVENTS, LISTENERS, SESSIONS, Snapshot, take

AT = "2026-11-28T06:00:12.000Z"


def overview(**more: Any) -> dict[str, Any]:
    found = {
        "at": AT,
        "generation": 7,
        "pid": 17758,
        "version": "0.2.0",
        "uptime_s": 3 * 86400 + 4 * 3600 + 60,
        "status": "serving",
        "config": {
            "file": "nginy.yml",
            "generation": 7,
            "loaded_at": AT,
            "last_reload": {"result": "applied", "at": "2026-11-28T02:10:00.000Z"},
            "needs_restart": [],
        },
        "sessions": {"now": 8412, "total": 1_000_000, "rate": 3.0},
        "connections": {"now": 16_800, "limit": 32_768},
        "bytes": {"received": 10**9, "sent": 10**10, "received_rate": 1.0, "sent_rate": 1.0},
        "loop": {"busy": 0.23, "lag_p99_s": 0.0008},
        "listeners": [],
        "upstreams": [upstream("web", 2, 3, 4101), upstream("names", 0, 1, 0, "down")],
        "problems": [
            {
                "severity": "error",
                "text": "names: 0 of 1 backends usable (1 of 1 down)",
                "since": "2026-11-28T06:00:00.000Z",
            },
            {"severity": "warning", "text": "web: 10.0.0.1:80 down", "since": AT},
        ],
        "more": {"listeners": 0, "upstreams": 0, "problems": 0},
        "draining": None,
    }
    return {**found, **more}


def upstream(
    name: str, usable: int, backends: int, sessions: int, why_none: str | None = None
) -> dict[str, Any]:
    return {
        "name": name,
        "usable": usable,
        "backends": backends,
        "states": {"up": usable, "down": backends - usable},
        "sessions": sessions,
        "queue": 0,
        "why_none": why_none,
        "since": None if usable else "2026-11-28T06:00:00.000Z",
    }


def backend(upstream: str, address: str, **more: Any) -> dict[str, Any]:
    found = {
        "upstream": upstream,
        "address": address,
        "name": address,
        "state": "up",
        "operator": "up",
        "reason": None,
        "cause": None,
        "since": "2026-11-25T05:00:12.000Z",
        "usable": True,
        "why_not": None,
        "failed_until": None,
        "weight": {"file": 1, "now": 1, "effective": 1.0},
        "max_conns": {"file": 0, "now": 0},
        "conns": 0,
        "sessions_total": 0,
        "received": 0,
        "sent": 0,
        "failures": 0,
        "checks": {"total": 0, "failed": 0},
        "connect_ms": 1,
        "selected_at": None,
        "down_s": 0.0,
        "changes": 0,
        "check_s": None,
        "changed_by": None,
        "backup": False,
        "leaving": False,
    }
    return {**found, **more}


def backends(passed_s: int = 0) -> list[dict[str, Any]]:
    """Four backends, as they are this many seconds after the first look."""
    refused = "3 checks in a row failed: connect() refused"
    down = {"state": "down", "usable": False, "why_not": "down", "cause": "check"}
    return [
        backend(
            "web",
            "10.0.0.1:80",
            **down,
            reason=refused,
            since="2026-11-28T06:00:00.000Z",
            conns=3,
            failures=9,
            checks={"total": 40, "failed": 3},
        ),
        backend(
            "web",
            "10.0.0.2:80",
            conns=2050,
            max_conns={"file": 0, "now": 4000},
            sessions_total=1000 + 80 * passed_s,
            received=2_750_000 * passed_s,
            sent=25_000_000 * passed_s,
            checks={"total": 40, "failed": 0},
            check_s=0.002,
        ),
        backend(
            "web",
            "[2001:db8::1234:5678:9abc:1]:8080",
            state="draining",
            operator="draining",
            usable=False,
            why_not="draining",
            cause="operator",
            reason="deploy 42",
            conns=2048,
        ),
        backend("names", "10.0.0.3:53", **down, reason="no answer in time", failures=1),
    ]


def listener(**more: Any) -> dict[str, Any]:
    found = {
        "name": "front",
        "addresses": ["10.0.0.9:443", "[::1]:443"],
        "protocol": "tcp",
        "to": "web",
        "sessions": 4101,
        "sessions_total": 123_456,
        "received": 5,
        "sent": 6,
        "ended": {"--": 9000, "SC": 2, "cD": 0},
        "drops": {"shed": 3},
        "accept_pauses": 0,
        "accept_paused_until": None,
        "retiring": False,
    }
    return {**found, **more}


def session(**more: Any) -> dict[str, Any]:
    found = {
        "id": "17758.13",
        "protocol": "tcp",
        "listener": "front",
        "upstream": "web",
        "backend": "10.0.0.2:80",
        "client": "192.0.2.17:50123",
        "state": "established",
        "started": AT,
        "age_s": 95.0,
        "idle_s": 0.5,
        "received": 1000,
        "sent": 2_000_000,
        "unsent": 0,
        "attempts": 1,
    }
    return {**found, **more}


def event(**more: Any) -> dict[str, Any]:
    found = {
        "seq": 1,
        "at": AT,
        "upstream": "web",
        "backend": "10.0.0.1:80",
        "kind": "state",
        "text": "connect() refused",
        "before": "up",
        "after": "down",
        "cause": "check",
    }
    return {**found, **more}


def shot(view: str = "upstreams", rows: list[dict[str, Any]] | None = None) -> Snapshot:
    """Two looks, one second apart, as one snapshot with rates."""
    made = {
        LISTENERS: [listener(), listener(name="dns", protocol="udp", to=None, drops={})],
        SESSIONS: [session(), session(id="17758.14", client="[2001:db8::7]:443", sent=5)],
        EVENTS: [event(), event(seq=2, upstream=None, backend=None, kind="reload", after=None)],
    }
    first = take(None, Snapshot(1.0, overview(), view, made.get(view, backends())))
    bytes_ = {"received": 10**9 + 11_375_000, "sent": 10**10 + 105_000_000}
    later = overview(
        sessions={"now": 8412, "total": 1_000_312, "rate": 3.0},
        bytes={**overview()["bytes"], **bytes_},
    )
    now = made.get(view, backends(1)) if rows is None else rows
    return take(first, Snapshot(2.0, later, view, now))
