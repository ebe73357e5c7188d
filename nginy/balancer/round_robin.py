"""Smooth weighted round robin, exactly nginx's; the method that all others fall back on.

At every pick each usable peer earns its weight; the richest is chosen and pays what all have earned
together. So the accounts always add up to zero, each peer is chosen in proportion to its weight,
and the turns of a heavy peer are spread out instead of coming in a row: weights 5, 1, 1 give a a b
a c a a.

`pick_smooth` is the method, and decides among up to some thirty peers. Among more, `turns` makes
the same choices without going through all of them.

`peer` says which peers are usable and what a failure costs. The pool has a second balancer for the
backups.

Source: nginx ngx_stream_upstream_round_robin.c ngx_stream_upstream_get_peer.
Read first `peer`; read next `least` and `hashing`.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Final

from nginy.balancer.peer import Balancer, P, has_failed, open_window
from nginy.balancer.turns import MANY, Turns

MAX_MISSES: Final = 20
"""Unusable peers that a hash or a random draw may meet; after one more, round robin decides."""


def pick_smooth(peers: Sequence[P], tried: Collection[P], now_s: int) -> P | None:
    """Choose among `peers` by smooth weighted round robin; None if none is usable and untried."""
    best = None
    best_current = total = 0
    for peer in peers:
        # The tests of `is_usable`, inline, each behind a number that is mostly 0. Nearly every
        # session of every configuration runs this loop (100 peers: 8.5 µs instead of 14).
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
            # After a failure the weight climbs back by one a pick, as in nginx. A lowered weight,
            # which nginx does not have, holds from the next pick.
            peer.effective_weight = min(effective + 1, peer.weight)
        if best is None or current > best_current:
            best = peer
            best_current = current
    if best is not None:
        best.current_weight = best_current - total
        open_window(best, now_s)
    return best


class RoundRobin(Balancer[P]):
    """Peers by turns, in proportion to their weights. All other methods derive from it (nginx).

    The peers hold the position, so it survives a rebuild.
    """

    __slots__ = ("_peers", "_turns")

    def __init__(self, peers: Sequence[P]) -> None:
        self._turns: Turns[P] | None = None
        self.rebuild(peers)

    @property
    def is_sorted(self) -> bool:
        """Whether the peers are many and stand in sorted lists."""
        return self._turns is not None

    def look_at(self, peer: P) -> None:
        """Take note that `peer` has changed, other than by a pick."""
        if self._turns is not None:
            self._turns.look_at(peer)

    def write_back(self) -> None:
        """Write the accounts of the sorted lists into the peers."""
        if self._turns is not None:
            self._turns.write_back()

    def rebuild_steps(self, peers: Sequence[P]) -> Iterator[None]:
        """Take the list, at once."""
        self.write_back()
        self._peers = tuple(peers)
        self._turns = self._sort(self._peers) if len(self._peers) >= MANY else None
        return iter(())

    def reweigh(self) -> None:
        """Do nothing: each pick reads the weights."""

    def _sort(self, peers: Sequence[P]) -> Turns[P] | None:
        """Return the sorted lists of this method for many peers, None if only its loop will do."""
        return Turns(peers)

    def pick(self, key: bytes, tried: Collection[P], now_s: int) -> P | None:
        """Choose the peer whose turn it is. O(peers), but 1 µs for a thousand of them."""
        if self._turns is not None:
            return self._turns.pick(tried, now_s)
        return pick_smooth(self._peers, tried, now_s)
