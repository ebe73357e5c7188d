"""The bars: what nginy has set itself to reach, beside its peers and by itself.

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


_CONNECT: Final = RatioBar(0.90, 1.0)
_PING_PONG_64: Final = RatioBar(0.85, 1.0)
_PING_PONG_1000: Final = RatioBar(1.0, 1.1)
_BULK: Final = {
    "nginx": RatioBar(2.3),
    "nginx-tuned": RatioBar(0.95, 1.1),
    "haproxy": RatioBar(2.0),
}

RATIO_BARS: Final[dict[str, dict[str, RatioBar]]] = {
    "connect-close": {
        "nginx": _CONNECT,
        "nginx-tuned": _CONNECT,
        "haproxy": RatioBar(0.90),
        "haproxy-tuned": RatioBar(0.90),
    },
    "ping-pong-64": {
        "nginx": _PING_PONG_64,
        "nginx-tuned": _PING_PONG_64,
        "haproxy": RatioBar(0.85),
        "haproxy-tuned": RatioBar(0.85),
    },
    "ping-pong-1000": {
        "nginx": _PING_PONG_1000,
        "nginx-tuned": _PING_PONG_1000,
        "haproxy": RatioBar(0.92),
        "haproxy-tuned": RatioBar(0.92),
    },
    "bulk-up": _BULK,
    "bulk-down": _BULK,
    "bulk-both": _BULK,
    "udp": {"nginx": RatioBar(1.15), "nginx-tuned": RatioBar(0.85, 1.0)},
    "udp-flood": {"nginx": RatioBar(1.5), "nginx-tuned": RatioBar(1.2)},
    "udp-churn": {"nginx": RatioBar(1.0)},
    "udp-one-answer": {"nginx": RatioBar(1.0)},
}

_PAIR: Final = Limit("cost", 2048, "≤ 2 KiB a pair")
_NO_CPU: Final = Limit("busy", 0.001, "no CPU while idle")
_NO_ERRORS: Final = Limit("errors", 0, "no failed connection")

LIMITS: Final[dict[str, tuple[Limit, ...]]] = {
    "idle-1000": (_PAIR, _NO_CPU),
    "idle-8000": (_PAIR, _NO_CPU),
    "access-log": (Limit("log_cost", 1.10, "≤ 10 % more CPU with the access log"),),
    "reload": (_NO_ERRORS,),
}
