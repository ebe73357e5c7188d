"""The least loaded peer: by connections, or by the time it is expected to need.

Both methods compare load / weight, multiplied out so that no division rounds a difference away, and
leave a tie to smooth round robin among the tied. They differ only in the load.

The pool measures times and decides which ones; it hands `LeastTime` a function that reads a peer's
average, which `moving_average_ms` computes. `pick_random` compares two random peers the same way.

Source: nginx ngx_stream_upstream_least_conn_module.c, ngx_stream_upstream_least_time_module.c.
Read first `round_robin`.
"""

from collections.abc import Callable, Collection, Sequence
from typing import Final

from nginy.balancer.peer import P, is_usable, open_window
from nginy.balancer.round_robin import RoundRobin, pick_smooth
from nginy.balancer.turns import LeastTurns, Turns

STEP_MS: Final = 20
"""Times within one step count as equal, so peers of about the same speed take turns."""

MAX_MS: Final = 5_000
"""Peers slower than this are equally bad; among them connections decide."""

SAMPLE_SHARE: Final = 0.05
"""How much of a moving average the newest sample makes: about the last 20 samples matter."""


def pick_least(
    peers: Sequence[P], load: Callable[[P], int], tried: Collection[P], now_s: int
) -> P | None:
    """Choose the peer with the least `load` for its weight; among equals, smooth round robin."""
    tied: list[P] = []
    least = least_weight = 0
    for peer in peers:
        if peer in tried or not is_usable(peer, now_s):
            continue
        own = load(peer)
        weight = peer.weight
        if not tied or own * least_weight < least * weight:
            tied = [peer]
            least = own
            least_weight = weight
        elif own * least_weight == least * weight:
            tied.append(peer)
    if len(tied) > 1:
        return pick_smooth(tied, (), now_s)
    if not tied:
        return None
    open_window(tied[0], now_s)
    return tied[0]


class LeastConn(RoundRobin[P]):
    """The peer with the fewest sessions for its weight."""

    __slots__ = ()

    def _sort(self, peers: Sequence[P]) -> Turns[P] | None:
        # Loads that change without notice cannot be kept sorted.
        return None if any(peer.is_shared for peer in peers) else LeastTurns(peers)

    def pick(self, key: bytes, tried: Collection[P], now_s: int) -> P | None:
        """Choose among all peers. O(peers), but 4 µs for a thousand of them."""
        if self._turns is not None:
            return self._turns.pick(tried, now_s)
        return pick_least(self._peers, lambda peer: peer.conns, tried, now_s)


class LeastTime(RoundRobin[P]):
    """The peer expected to finish first with its sessions and one more, for its weight."""

    __slots__ = ("_average_ms",)

    def __init__(self, peers: Sequence[P], average_ms: Callable[[P], int]) -> None:
        """Keep `average_ms`, which reads a peer's average of the chosen time in milliseconds.

        The chosen time is that to connect, to the first byte or to the last byte.
        """
        self._average_ms = average_ms
        super().__init__(peers)

    def _sort(self, peers: Sequence[P]) -> None:
        """Sort nothing: the load changes with the clock."""

    def pick(self, key: bytes, tried: Collection[P], now_s: int) -> P | None:
        """Choose among all peers. O(peers)."""
        average_ms = self._average_ms

        def load(peer: P) -> int:
            idle_s = now_s - peer.checked_s
            return expected_ms(average_ms(peer), idle_s, peer.fail_timeout_s) * (1 + peer.conns)

        return pick_least(self._peers, load, tried, now_s)


def moving_average_ms(average_ms: int, sample_ms: int) -> int:
    """Add one more time to an average, both in milliseconds; an average of 0 has seen none yet.

    Only sessions that went well count, or a peer that fails fast would look fast.
    Source: nginx ngx_stream_upstream_response_time_avg.
    """
    if not average_ms:
        return sample_ms
    return int(0.5 + sample_ms * SAMPLE_SHARE + average_ms * (1 - SAMPLE_SHARE))


def expected_ms(average_ms: int, idle_s: int, fail_timeout_s: int) -> int:
    """Estimate how long one session will take, from the average and the peer's idle time.

    The average halves with each `fail_timeout_s` that the peer is idle, so a slow peer gets another
    try. It is then raised to the next step of `STEP_MS`: 0 and 19 to 20, 20 to 40.
    Source: nginx ngx_stream_upstream_least_time_module.c ngx_stream_upstream_least_time_eta.
    """
    if idle_s > fail_timeout_s:
        average_ms >>= idle_s // (fail_timeout_s + 1)
    if average_ms > MAX_MS:
        return MAX_MS
    return average_ms + STEP_MS - average_ms % STEP_MS
