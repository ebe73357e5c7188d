"""The accounts of many peers in smooth round robin, without touching each of them at each pick.

At every pick each usable peer earns its weight, and the richest pays what all have earned together
(`round_robin`). Going through all of them costs 0.1 µs a peer. But peers of one weight earn the
same, so their order changes only when one of them pays. Therefore `Accounts` keeps, for each
weight, a sorted list of what its peers would have had at turn 0; at turn t they have that plus
weight * t. A pick compares the richest of each list, and moves the one that pays.

Ties go to the peer that comes first, as in nginx. A claim carries its peer's place for that:
account * scale - place, one whole number, with a scale that no place reaches.

Only peers in good order belong here; `turns` says which those are, and handles the others.

Read first `round_robin`; read next `turns`.

Tested in tests/balancer/test_turns.py.
"""

from bisect import bisect_left, insort
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, Generic

from nginy.balancer.peer import P

LESS_THAN_ANY_CLAIM: Final = -(1 << 200)


class Accounts(Generic[P]):
    """Peers that earn together. While a peer stands here, its `current_weight` is out of date:
    `leave` brings it up to date."""

    __slots__ = ("_earning", "_lists", "_now", "_peers", "_places", "_scale", "standing")

    def __init__(self, peers: Sequence[P], places: Mapping[P, int]) -> None:
        """Begin empty; `peers` are all that may ever stand here, `places` their order."""
        self._peers = peers
        self._places = places
        self._scale = max(1, len(peers))
        self._now = 0
        """The turn, multiplied by the scale."""
        self._earning = 0
        """What all peers here earn together in a turn."""
        self._lists: dict[int, list[int]] = {}
        """Weight -> claims as of turn 0, the richest last."""
        self.standing: dict[P, tuple[int, int]] = {}
        """Peer -> its weight when it entered, and its claim as of turn 0."""

    def enter(self, peer: P) -> None:
        """Let `peer` earn, beginning with its `current_weight`. O(log n) and a memmove."""
        weight = peer.weight
        claim = peer.current_weight * self._scale - self._places[peer] - weight * self._now
        self.standing[peer] = weight, claim
        insort(self._lists.setdefault(weight, []), claim)
        self._earning += weight

    def leave(self, peer: P) -> None:
        """Write the account of `peer` into it, and let it earn here no more."""
        weight, claim = self.standing.pop(peer)
        peer.current_weight = -(-(claim + weight * self._now) // self._scale)
        claims = self._lists[weight]
        del claims[bisect_left(claims, claim)]
        if not claims:
            del self._lists[weight]
        self._earning -= weight

    def pick(self, others: Iterable[P]) -> P:
        """Make one turn: all here and in `others` earn, and the richest pays. Return that one.

        `others` are usable peers that do not stand here. At least one peer must be here or there.
        O(weights in use + others).
        """
        scale = self._scale
        now = self._now = self._now + scale
        most = LESS_THAN_ANY_CLAIM
        richest = 0
        for weight, claims in self._lists.items():
            claim = claims[-1] + weight * now
            if claim > most:
                most = claim
                richest = weight
        total = self._earning
        best = None
        for peer in others:
            effective = peer.effective_weight
            total += effective
            peer.current_weight += effective
            peer.effective_weight = min(effective + 1, peer.weight)
            claim = peer.current_weight * scale - self._places[peer]
            if claim > most:
                most = claim
                best = peer
        if best is not None:
            best.current_weight -= total
            return best
        best = self._peers[-most % scale]
        claims = self._lists[richest]
        claim = claims.pop() - total * scale
        insort(claims, claim)
        self.standing[best] = richest, claim
        return best
