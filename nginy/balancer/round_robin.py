"""Smooth weighted round robin, exactly nginx's; the method that all others fall back on.

Each usable peer earns its weight at every pick; the richest is chosen and pays what all earned
together. So the sum of the accounts stays zero, each peer is chosen in proportion to its weight,
and the choices of a heavy peer are spread out instead of coming in a row: weights 5, 1, 1 give a a
b a c a a.

Which peer may be picked, and what a failure costs it, is in `peer`. Backups are a second balancer
of the pool's.

Source: nginx ngx_stream_upstream_round_robin.c ngx_stream_upstream_get_peer.
Read first `peer`; read next `least` and `hashing`.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Final

from nginy.balancer.peer import Balancer, P, has_failed, open_window

MAX_MISSES: Final = 20
"""Unusable peers that hashes and random draws may meet; one more, and round robin decides."""


def pick_smooth(peers: Sequence[P], tried: Collection[P], now_s: int) -> P | None:
    """Choose among `peers` by smooth weighted round robin; None if none is usable and untried."""
    best = None
    best_current = total = 0
    for peer in peers:
        # The tests of `is_usable`, in place, each behind a number that is mostly 0: this loop runs
        # for every session of nearly every configuration (100 peers: 8.5 µs instead of 14).
        if peer.down or (tried and peer in tried):
            continue
        if peer.fails and has_failed(peer, now_s):
            continue
        if peer.max_conns and peer.max_conns <= peer.conns:
            continue
        effective = peer.effective_weight
        total += effective
        current = peer.current_weight = peer.current_weight + effective
        if effective != peer.weight:
            # Recovery from a failure climbs by one a pick, as in nginx. A weight that was lowered,
            # which nginx does not know, holds from the next pick.
            peer.effective_weight = min(effective + 1, peer.weight)
        if best is None or current > best_current:
            best = peer
            best_current = current
    if best is not None:
        best.current_weight = best_current - total
        open_window(best, now_s)
    return best


class RoundRobin(Balancer[P]):
    """Peers by turns, in proportion to their weights. All other methods are kinds of it, as in
    nginx.

    The position is in the peers, so it survives a rebuild.
    """

    __slots__ = ("_peers",)

    def __init__(self, peers: Sequence[P]) -> None:
        self.rebuild(peers)

    def rebuild_steps(self, peers: Sequence[P]) -> Iterator[None]:
        """Take the list, at once."""
        self._peers = tuple(peers)
        return iter(())

    def pick(self, key: bytes, tried: Collection[P], now_s: int) -> P | None:
        """Choose the peer whose turn it is. O(peers)."""
        return pick_smooth(self._peers, tried, now_s)
