"""A peer at random, in proportion to weight; or the better of two such picks.

A random choice needs no state that processes would have to share, and the better of two random
peers comes close to the least loaded of all: Mitzenmacher, The Power of Two Choices in Randomized
Load Balancing, 2001. `least` finds the least loaded of all.

The source of randomness is an argument, so a run can be repeated. The distribution is nginx's; its
sequence is not.

Source: nginx ngx_stream_upstream_random_module.c.
Read first `least`.
"""

from bisect import bisect_right
from collections.abc import Collection, Iterator, Sequence
from itertools import accumulate
from random import Random

from nginy.balancer.peer import P, is_usable, open_window
from nginy.balancer.round_robin import MAX_MISSES, RoundRobin


class PickRandom(RoundRobin[P]):
    """A random peer; with `two`, the one of two that has fewer sessions for its weight."""

    __slots__ = ("_ends", "_rng", "_two")

    def __init__(self, peers: Sequence[P], rng: Random, *, two: bool = False) -> None:
        self._rng = rng
        self._two = two
        super().__init__(peers)

    def _sort(self, peers: Sequence[P]) -> None:
        """Sort nothing: this method takes turns only where it finds no peer by itself."""

    def rebuild_steps(self, peers: Sequence[P]) -> Iterator[None]:
        """Take the list, at once."""
        self.reweigh()
        return super().rebuild_steps(peers)

    def reweigh(self) -> None:
        """Add up the weights at the next pick: many of them may change before that."""
        self._ends: list[int] = []
        """The sums of the weights up to each peer; empty if out of date."""

    def pick(self, key: bytes, tried: Collection[P], now_s: int) -> P | None:
        """Draw until one usable peer is found, or two. O(log peers) unless it falls back."""
        peers = self._peers
        if len(peers) < 2:
            return super().pick(key, tried, now_s)
        ends = self._ends
        if not ends:
            ends = self._ends = list(accumulate(peer.weight for peer in peers))
        draw = self._rng.random
        first: P | None = None
        misses = 0
        while misses <= MAX_MISSES:
            peer = peers[bisect_right(ends, int(draw() * ends[-1]))]
            if peer in tried or not is_usable(peer, now_s) or peer is first:
                misses += 1
            elif self._two and first is None:
                first = peer
                # nginx counts the first of two as a try as well.
                misses += 1
            else:
                if first is not None and peer.conns * first.weight > first.conns * peer.weight:
                    peer = first
                open_window(peer, now_s)
                return peer
        return super().pick(key, tried, now_s)
