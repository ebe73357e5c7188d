"""Maglev hashing: a table of 65,537 slots that every node fills in the same way.

Each backend has a preferred order of all slots, made from its name. Backends take turns to claim
their favorite among the free slots until none is free. So shares are even to about a percent, all
nodes agree whatever the order of their lists, and a change of the list moves few keys beyond those
it must. A pick is one look into the table.

A backend that is not usable keeps its slots, so only its own keys move, and they come back. They go
on to the slots that follow, which scatters them over the others by weight. After 20 unusable slots
the highest bid of `rendezvous` decides, which is also the same on all nodes; round robin is not.

Filling the table takes 100 ms (CPython 3.11), in steps of 0.2 ms, and a few ms near the end.

Source: Eisenbud et al., Maglev: A Fast and Reliable Software Network Load Balancer, NSDI 2016,
section 3.4.
Read first `rendezvous`.
"""

from array import array
from collections.abc import Collection, Iterator, Sequence
from hashlib import blake2b
from typing import Final

from nginy.balancer.peer import P, group_by_name
from nginy.balancer.rendezvous import Rendezvous, encoded, stable_hash
from nginy.balancer.round_robin import MAX_MISSES, pick_smooth

SLOTS: Final = 65_537
"""A prime, so that every stride visits all slots: the paper's size for hundreds of backends."""

FREE: Final = 0xFFFFFFFF

STEP_PROBES: Final = 1_000
"""Slots looked at between two steps of a rebuild, unless one claim needs more of them."""


class Maglev(Rendezvous[P]):
    """The peer that holds the key's slot."""

    __slots__ = ("_groups", "_table")

    def rebuild_steps(self, peers: Sequence[P]) -> Iterator[None]:
        """Fill a new table beside the one in use, and switch over in the last step."""
        named = sorted(group_by_name(peers).items())
        groups = [group for _, group in named]
        weights = [sum(peer.weight for peer in group) for group in groups]
        table = array("I", [FREE]) * SLOTS
        yield from fill(table, [name for name, _ in named], weights)
        self._groups = groups
        self._table = table
        yield from super().rebuild_steps(peers)

    def pick(self, key: bytes, tried: Collection[P], now_s: int) -> P | None:
        """Take the owner of the key's slot, or of the first after it that is usable. O(1)."""
        if not key or len(self._peers) < 2:
            return pick_smooth(self._peers, tried, now_s)
        slot = stable_hash(key) % SLOTS
        for position in range(slot, slot + MAX_MISSES + 1):
            group = self._groups[self._table[position % SLOTS]]
            peer = pick_smooth(group, tried, now_s)
            if peer is not None:
                return peer
        return super().pick(key, tried, now_s)


def fill(table: "array[int]", names: Sequence[str], weights: Sequence[int]) -> Iterator[None]:
    """Fill a table of FREE with the indices of `names`, in steps of about `STEP_PROBES` slots.

    In each round a name claims one slot on average, more or fewer by weight. The fraction left of a
    claim counts in the next round, so shares follow weights of any size.
    """
    preferences = [preference(name) for name in names]
    upcoming = [offset for offset, _ in preferences]
    due = [0] * len(names)
    total = sum(weights)
    free = len(table) if names else 0
    probes = 0
    while free:
        for index, (_, skip) in enumerate(preferences):
            due[index] += weights[index] * len(names)
            claims, due[index] = divmod(due[index], total)
            slot = upcoming[index]
            for _ in range(min(claims, free)):
                while table[slot] != FREE:
                    slot = (slot + skip) % SLOTS
                    probes += 1
                table[slot] = index
                free -= 1
            upcoming[index] = slot
            probes += 1
            if probes > STEP_PROBES:
                probes = 0
                yield


def preference(name: str) -> tuple[int, int]:
    """Work out where a backend's order of slots begins, and its stride, as in the paper."""
    digest = blake2b(encoded(name), digest_size=16).digest()
    offset = int.from_bytes(digest[:8], "little") % SLOTS
    skip = int.from_bytes(digest[8:], "little") % (SLOTS - 1) + 1
    return offset, skip
