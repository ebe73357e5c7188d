"""The bars: the goals of nginy, beside its peers and by itself.

A ratio is a peer's cost to nginy's in the same round, so 1.0 is level and more is better. What is
compared is each work's figure (works.py). Bars with tuned peers stand beside those with defaults:
to beat a default alone is no feat. They are judged by the median of the rounds, in summary.py.
"""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class RatioBar:
    """The least ratio to a peer that will do, and the one that is aimed at."""

    least: float
    aim: float | None = None


@dataclass(frozen=True, slots=True)
class Limit:
    """The most that a field of nginy's own samples (measure.Sample) may be."""

    field: str
    most: float
    text: str


_BULK: Final = {
    "nginx": RatioBar(2.3, 2.8),
    "nginx-tuned": RatioBar(0.95, 1.1),
    "haproxy": RatioBar(2.0),
}

RATIO_BARS: Final[dict[str, dict[str, RatioBar]]] = {
    "connect-close": {
        "nginx": RatioBar(0.77, 0.90),
        "nginx-half-close": RatioBar(0.79, 0.90),
        "haproxy": RatioBar(0.82, 0.90),
    },
    "ping-pong-64": {"nginx": RatioBar(0.85, 1.0)},
    "ping-pong-1000": {"nginx": RatioBar(0.92, 1.0)},
    "bulk-up": _BULK,
    "bulk-down": _BULK,
    "bulk-both": _BULK,
    "udp": {"nginx": RatioBar(0.90, 1.0), "nginx-tuned": RatioBar(0.80, 1.0)},
    "udp-flood": {"nginx": RatioBar(1.8, 2.0), "nginx-tuned": RatioBar(1.4, 1.5)},
    "udp-churn": {"nginx": RatioBar(0.84, 0.95), "nginx-tuned": RatioBar(0.90, 0.95)},
    "udp-one-answer": {"nginx": RatioBar(0.72, 0.8), "nginx-tuned": RatioBar(1.05)},
    "backends-1000": {"nginx": RatioBar(0.80, 0.95)},
    "tls-full": {"nginx": RatioBar(0.75, 0.85)},
    "tls-full-rsa": {"nginx": RatioBar(0.80, 0.85)},
    "tls-resumed": {"nginx": RatioBar(0.75, 0.85)},
    "tls-up": {"nginx": RatioBar(0.90, 1.1), "nginx-tuned": RatioBar(0.92, 1.1)},
    "tls-down": {"nginx": RatioBar(1.0, 1.1), "nginx-tuned": RatioBar(0.92, 1.1)},
    "tls-ping-pong": {"nginx": RatioBar(0.85, 0.95)},
}

OWN_BARS: Final[dict[str, tuple[str, RatioBar]]] = {
    "backends-1000": ("connect-close", RatioBar(0.88, 0.95)),
}
"""Another work of nginy's own, and how much of its cost this one's may be, as a ratio."""

NEAR_BARS: Final[dict[str, tuple[str, float]]] = {
    "proxy-protocol": ("connect-close", 0.05),
    "access-100000": ("connect-close", 0.05),
    "sni-1000": ("connect-close", 0.05),
}
"""Another work, and how far the ratio to each peer may lie below the one of that work."""

_PAIR: Final = Limit("cost", 1750, "≤ 1,750 B a pair")
_NO_CPU: Final = Limit("busy", 0.001, "no CPU while idle")
_NO_ERRORS: Final = Limit("errors", 0, "no failed connection")
_WATCHED: Final = (
    Limit("slowdown", 0.01, "≤ 1 % fewer operations while watched"),
    Limit("p99_added_ms", 1, "p99 ≤ 1 ms more while watched"),
    Limit("scrape_s", 2, "a scrape ≤ 2 s"),
    Limit("probe_ms", 20, "/healthz ≤ 20 ms"),
    _NO_ERRORS,
)

LIMITS: Final[dict[str, tuple[Limit, ...]]] = {
    "idle-1000": (_PAIR, _NO_CPU),
    "idle-8000": (_PAIR, _NO_CPU),
    "tls-idle-500": (Limit("cost", 20 * 1024, "≤ 20 KiB a session"), _NO_CPU),
    "access-log": (Limit("log_cost", 1.05, "≤ 5 % more CPU with the access log"),),
    "two-workers": (Limit("worker_cost", 1.10, "≤ 10 % more CPU with two workers"),),
    "reload": (_NO_ERRORS,),
    "admin": _WATCHED,
    "admin-sessions": _WATCHED,
    "checks": (
        Limit("busy", 0.20, "≤ a fifth of a core"),
        Limit("p99_us", 1000, "p99 of a ping-pong ≤ 1 ms"),
        _NO_ERRORS,
    ),
}
