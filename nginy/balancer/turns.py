"""Round robin and least connections among many peers, in a time that hardly grows with them.

`Turns` and `LeastTurns` choose exactly as `pick_smooth` and `pick_least` do, whatever happens to
the peers: failures, recoveries, limits, changed weights, peers that were tried. Those loops remain:
they are shorter and, below some thirty peers, as fast, so `round_robin` and `least` use them there;
and the tests hold each choice made here against theirs.

A peer is in good order if it is usable and has its full weight. Peers in good order stand in
`Accounts`. A pick goes through the odd ones one by one: those that were tried, have failed or are
on their way back. Peers that are down or full stand nowhere until `look_at` is called for them. A
choice among a thousand peers takes 1 µs, where the loop takes 100; hundreds of odd peers at a time
cost as much as the loop.

The contract: after every change of a peer other than by `pick`, call `look_at` before the next
`pick`. In nginy one place does, `backend/pool.py`.

Source: the sequence is that of nginx ngx_stream_upstream_get_round_robin_peer and
ngx_stream_upstream_get_least_conn_peer; the sorted lists are our own.
"""

from bisect import bisect_left, insort
from collections.abc import Collection, Sequence
from typing import Final, Generic

from nginy.balancer.accounts import Accounts
from nginy.balancer.peer import P, Peer, has_failed, is_usable, open_window

MANY: Final = 32
"""With this many peers or more, sorted lists are cheaper than the plain loop."""


class Turns(Generic[P]):
    """Smooth weighted round robin: all peers earn together, so all are on one level."""

    __slots__ = ("_levels", "_odd", "_peers", "_places", "_ranks")

    def __init__(self, peers: Sequence[P]) -> None:
        self._peers = tuple(peers)
        self._places = {peer: place for place, peer in enumerate(peers)}
        self._levels: dict[float, Accounts[P]] = {}
        """Load -> the peers in good order that have it."""
        self._ranks: dict[P, tuple[float, int]] = {}
        """Peer in good order -> its load and weight when it entered."""
        self._odd = dict.fromkeys(self._peers)
        """An ordered set: the peers that may be usable and stand in no list."""

    def load(self, peer: P) -> float:
        """Return the number that tells the levels apart; round robin has only one."""
        del peer
        return 0.0

    def look_at(self, peer: P) -> None:
        """Take note that `peer` has changed, other than by a pick. 0.2 µs if nothing follows."""
        rank = self._ranks.get(peer)
        is_as_before = rank is not None and rank == (self.load(peer), peer.weight)
        if not (is_as_before and _is_in_order(peer)) and peer in self._places:
            self._take_out(peer)

    def pick(self, tried: Collection[P], now_s: int) -> P | None:
        """Choose as `pick_smooth` does."""
        others = self._sort_in(tried, now_s) if self._odd or tried else ()
        if not others and not self._ranks:
            return None
        level = self._levels.get(0.0)
        best = (level or self._new_level()).pick(others)
        open_window(best, now_s)
        return best

    def write_back(self) -> None:
        """Write all accounts into the peers, as the loop would have left them."""
        for peer in list(self._ranks):
            self._take_out(peer)

    def _new_level(self) -> Accounts[P]:
        return Accounts(self._peers, self._places)

    def _take_out(self, peer: P) -> None:
        """Let the next pick look closely at `peer`."""
        rank = self._ranks.pop(peer, None)
        if rank is not None:
            self._levels[rank[0]].leave(peer)
        self._odd[peer] = None

    def _enter(self, peer: P) -> None:
        load = self.load(peer)
        self._ranks[peer] = load, peer.weight
        level = self._levels.get(load)
        if level is None:
            level = self._levels[load] = self._new_level()
        level.enter(peer)

    def _sort_in(self, tried: Collection[P], now_s: int) -> Sequence[P]:
        """Put the odd peers where they belong; return those that are usable and stay odd."""
        for peer in tried:
            if peer in self._ranks:
                self._take_out(peer)
        others = []
        for peer in list(self._odd):
            if peer in tried or has_failed(peer, now_s):
                continue
            if _is_in_order(peer):
                self._enter(peer)
                del self._odd[peer]
            elif is_usable(peer, now_s):
                others.append(peer)
            elif not peer.is_shared:
                # Down or full: only a change can help, and `look_at` will report it.
                del self._odd[peer]
        return others


class LeastTurns(Turns[P]):
    """The fewest sessions for its weight; only the tied earn and pay, as in nginx.

    A load is conns / weight. Quotients of whole numbers tell two loads apart exactly as long as
    conns * weight stays below 2^52.
    """

    __slots__ = ("_loads",)

    def __init__(self, peers: Sequence[P]) -> None:
        super().__init__(peers)
        self._loads: list[float] = []
        """The keys of `_levels`, sorted."""

    def load(self, peer: P) -> float:
        """Return the load as a negative number: the least load is the last of a sorted list."""
        return -peer.conns / peer.weight

    def pick(self, tried: Collection[P], now_s: int) -> P | None:
        """Choose as `pick_least` does."""
        others = self._sort_in(tried, now_s) if self._odd or tried else ()
        loads = [self.load(peer) for peer in others]
        if self._loads:
            loads.append(self._loads[-1])
        if not loads:
            return None
        least = max(loads)
        tied = [peer for peer in others if self.load(peer) == least]
        level = self._levels.get(least) or self._new_level()
        if len(level.standing) + len(tied) == 1:  # one alone neither earns nor pays
            best = tied[0] if tied else next(iter(level.standing))
        else:
            best = level.pick(tied)
        open_window(best, now_s)
        return best

    def _take_out(self, peer: P) -> None:
        rank = self._ranks.get(peer)
        super()._take_out(peer)
        if rank is not None and not self._levels[rank[0]].standing:
            del self._levels[rank[0]]
            del self._loads[bisect_left(self._loads, rank[0])]

    def _enter(self, peer: P) -> None:
        load = self.load(peer)
        if load not in self._levels:
            insort(self._loads, load)
        super()._enter(peer)


def _is_in_order(peer: Peer) -> bool:
    """Whether `peer` is usable and at its full weight, so that only its turns matter.

    A peer with a limit may become full unnoticed if other workers count its sessions, too.
    """
    if peer.down or (0 < peer.max_fails <= peer.fails) or peer.effective_weight != peer.weight:
        return False
    return not peer.max_conns or (not peer.is_shared and peer.conns < peer.max_conns)
