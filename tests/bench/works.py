"""The works: what every contender is made to do, and which of its costs is compared.

A work says what the generator does (`load`, load.c), how many clients do it at once, and how the
contender is set up for it. Adding one is adding a row. What a result must reach is in bars.py;
how it is taken is in measure.py.
"""

import enum
from dataclasses import dataclass
from typing import Final

MIB: Final = 1 << 20


class Figure(enum.Enum):
    """Which cost of a work is compared; less is better in all of them."""

    CPU = "CPU time an operation"
    MEMORY = "resident memory an idle pair"
    LOG = "CPU time an operation, access log on"
    LATENCY = "slowest operation"
    WORKERS = "CPU time an operation with two workers"
    CHECKS = "CPU time a health check"
    ADMIN = "CPU time an operation while the admin interface is watched"


@dataclass(frozen=True, slots=True)
class Work:
    """One kind of traffic through one kind of setup."""

    name: str
    title: str
    load: str  # the generator's WORK
    connections: int  # clients at once
    unit: str  # of an operation, in the singular
    unit_size: int = 1  # operations of the generator that make one of ours
    is_udp: bool = False
    figure: Figure = Figure.CPU
    is_quick: bool = True  # belongs to --quick
    udp_timeout_ms: int = 10_000
    udp_responses: int | None = None  # None: a session takes any number of answers
    workers: int = 1
    is_pinned: bool = True  # proxy and load each have a core
    backends: int = 1  # all of them the same socket, under addresses of their own
    balance: str = "round_robin"  # or least_conn
    reloads: int = 0  # signals to reload, spread over the run
    is_announced: bool = False  # PROXY headers: v2 accepted; v2 sent, or v1 by who knows no other
    names: int = 0  # of TLS clients, each with a route of its own to the one upstream
    tls: str = ""  # terminated, with a key of this kind: "ec" or "rsa"
    networks: int = 0  # in a file of networks that are denied; none of them is the clients'
    check_interval_ms: int = 0  # between two health checks of a backend; 0: none are made
    is_watched: bool = False  # a scrape a second, the page open
    sessions: int = 0  # that say nothing, beside the load


WORKS: Final = (
    Work("connect-close", "connect, 64 B each way, close", "connect", 64, "connection"),
    Work(
        "proxy-protocol",
        "connect-close, a PROXY header accepted and one sent",
        "announced",
        64,
        "connection",
        is_announced=True,
        is_quick=False,
    ),
    Work(
        "sni-1000",
        "connect-close, a ClientHello with one of 1,000 names that are routed",
        "named",
        64,
        "connection",
        names=1000,
        is_quick=False,
    ),
    Work(
        "access-100000",
        "connect-close, a file of 100,000 networks that are denied",
        "connect",
        64,
        "connection",
        networks=100_000,
        is_quick=False,
    ),
    Work("ping-pong-64", "64 B to and fro, 64 connections", "pingpong", 64, "round trip"),
    Work("ping-pong-1000", "64 B to and fro, 1,000 connections", "pingpong", 1000, "round trip"),
    Work("bulk-up", "4 clients send", "up", 4, "MiB", MIB),
    Work("bulk-down", "4 clients receive", "down", 4, "MiB", MIB, is_quick=False),
    Work("bulk-both", "4 clients send and receive", "both", 4, "MiB", MIB, is_quick=False),
    Work("udp", "64 B request and response, 64 clients", "udp", 64, "round trip", is_udp=True),
    Work("udp-flood", "64 B one way, 4 clients", "flood", 4, "datagram", is_udp=True),
    Work(
        "udp-churn",
        "each request from a new port, sessions expire after 100 ms",
        "churn",
        64,
        "session",
        is_udp=True,
        udp_timeout_ms=100,
    ),
    Work(
        "udp-one-answer",
        "each request from a new port, sessions end with their one response",
        "churn",
        64,
        "session",
        is_udp=True,
        udp_responses=1,
        is_quick=False,
    ),
    Work("idle-1000", "1,000 idle pairs", "idle", 1000, "pair", figure=Figure.MEMORY),
    Work(
        "idle-8000", "8,000 idle pairs", "idle", 8000, "pair", figure=Figure.MEMORY, is_quick=False
    ),
    Work(
        "access-log",
        "connect-close, access log on",
        "connect",
        64,
        "connection",
        figure=Figure.LOG,
        is_quick=False,
    ),
    *(
        Work(
            f"backends-{count}",
            f"connect-close, {count:,} backends in turns",
            "connect",
            64,
            "connection",
            backends=count,
            is_quick=False,
        )
        for count in (10, 100, 1000, 10_000)
    ),
    Work(
        "least-conn-1000",
        "connect-close, the least loaded of 1,000 backends",
        "connect",
        64,
        "connection",
        backends=1000,
        balance="least_conn",
        is_quick=False,
    ),
    Work(
        "tls-full",
        "connect, full handshake (P-256), 64 B each way, close",
        "tls-full",
        32,
        "connection",
        tls="ec",
        is_quick=False,
    ),
    Work(
        "tls-full-rsa",
        "the same with RSA 2048",
        "tls-full",
        32,
        "connection",
        tls="rsa",
        is_quick=False,
    ),
    Work(
        "tls-resumed",
        "the same, P-256, sessions resumed",
        "tls-resumed",
        32,
        "connection",
        tls="ec",
        is_quick=False,
    ),
    Work("tls-up", "2 clients send by TLS", "tls-up", 2, "MiB", MIB, tls="ec", is_quick=False),
    Work(
        "tls-down",
        "2 clients receive by TLS",
        "tls-down",
        2,
        "MiB",
        MIB,
        tls="ec",
        is_quick=False,
    ),
    Work(
        "tls-ping-pong",
        "64 B to and fro over TLS, 16 connections",
        "tls-pingpong",
        16,
        "round trip",
        tls="ec",
        is_quick=False,
    ),
    Work(
        "tls-idle-500",
        "500 idle sessions of TLS",
        "tls-idle",
        500,
        "pair",
        figure=Figure.MEMORY,
        tls="ec",
        is_quick=False,
    ),
    Work(
        "two-workers",
        "connect-close with two workers beside one, nothing pinned",
        "connect",
        64,
        "connection",
        figure=Figure.WORKERS,
        workers=2,
        is_pinned=False,
        is_quick=False,
    ),
    Work(
        "reload",
        "connect-close, 1,000 backends, reloaded four times",
        "connect",
        64,
        "connection",
        figure=Figure.LATENCY,
        backends=1000,
        reloads=4,
        is_quick=False,
    ),
    Work(
        "checks",
        "10,000 backends checked every 5 s, then a 64 B ping-pong beside it",
        "pingpong",
        1,
        "check",
        figure=Figure.CHECKS,
        backends=10_000,
        check_interval_ms=5000,
        is_quick=False,
    ),
    Work(
        "admin",
        "64 B to and fro, 10,000 backends, a scrape a second and the page open",
        "pingpong",
        64,
        "round trip",
        figure=Figure.ADMIN,
        backends=10_000,
        is_watched=True,
        is_quick=False,
    ),
    Work(
        "admin-sessions",
        "64 B to and fro, 9,500 silent sessions, a scrape a second and the page open",
        "pingpong",
        64,
        "round trip",
        figure=Figure.ADMIN,
        is_watched=True,
        sessions=9500,  # two descriptors each, of the 20,000 that many systems allow
        is_quick=False,
    ),
)
