"""Consistent hashing on a ring (ketama): when a backend comes or goes, only its own keys move.

Each backend scatters 160 points for each unit of weight over a circle of 2**32; a key belongs to
the first point at or after its own hash. A backend that is not usable keeps its points, and its
keys go on to the points that follow. The points are nginx's to the last bit, because users migrate
with warm caches. `BoundedRing` is the same ring with a limit on each backend's load: a popular key
overflows to the next backend instead of drowning one.

`maglev` and `rendezvous` are consistent without a ring; `hashing` is the plain hash.

A ring of 1,000 backends has 160,000 points and takes 60 ms to build (CPython 3.11), too long for
one turn of the loop. So the build goes in steps of some thousand points, as `points` explains.

Source: nginx ngx_stream_upstream_hash_module.c ngx_stream_upstream_update_chash,
ngx_stream_upstream_get_chash_peer.
Read first `hashing`.
"""

from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from zlib import crc32

from nginy.balancer.least import pick_least
from nginy.balancer.peer import P, group_by_name, is_usable
from nginy.balancer.points import POINTS, Circle, chain
from nginy.balancer.round_robin import MAX_MISSES, RoundRobin, pick_smooth

UNITS_A_STEP = 32
"""Units of weight whose points are made in one step of a rebuild, about 1 ms."""


class Ring(RoundRobin[P]):
    """The peer whose point on the ring follows the key's hash."""

    __slots__ = ("_circle", "_groups")

    def _sort(self, peers: Sequence[P]) -> None:
        """Sort nothing: this method takes turns only where it finds no peer by itself."""

    def rebuild_steps(self, peers: Sequence[P]) -> Iterator[None]:
        """Build a new ring beside the one in use, and switch over in the last step."""
        groups = list(group_by_name(peers).values())
        weights = [max(peer.weight for peer in group) for group in groups]
        unit = chain().unit
        yield
        circle = Circle(POINTS * sum(weights))
        units = 0
        for owner, (group, weight) in enumerate(zip(groups, weights, strict=True)):
            first = crc32(bytes(4), ring_base(group[0].name))
            last = 0
            for _ in range(weight):
                points = unit(last, first)
                circle.add(points, owner)
                last = points[-1]
                units += 1
                if not units % UNITS_A_STEP:
                    yield
        self._groups = groups
        self._circle = circle
        yield from super().rebuild_steps(peers)

    def pick(self, key: bytes, tried: Collection[P], now_s: int) -> P | None:
        """Walk from the key's point to a usable peer. O(log points) unless it falls back."""
        if not key or len(self._peers) < 2:
            return pick_smooth(self._peers, tried, now_s)
        # Nearly always the first is usable; without this a pick takes 0.7 µs more.
        peer = pick_smooth(self._groups[self._circle.owner(crc32(key))], tried, now_s)
        if peer is not None:
            return peer
        for group in islice(self.walk(key), 1, MAX_MISSES + 1):
            peer = pick_smooth(group, tried, now_s)
            if peer is not None:
                return peer
        return pick_smooth(self._peers, tried, now_s)

    def walk(self, key: bytes) -> Iterator[list[P]]:
        """Yield the points' owners once around, from the first at or after the key's hash."""
        groups = self._groups
        for owner in self._circle.walk(crc32(key)):
            yield groups[owner]


class BoundedRing(Ring[P]):
    """The ring with no peer above ceil(factor * its fair share of the sessions).

    Shares go by weight. They divide the sessions of all usable peers, and this one, among these
    peers. Not all of them can be above their share, so one is always below its bound.

    Source: Mirrokni, Thorup, Zadimoghaddam, Consistent Hashing with Bounded Loads, SODA 2018.
    """

    __slots__ = ("_factor",)

    def __init__(self, peers: Sequence[P], factor: float) -> None:
        """Set the bound: a `factor` of 1 evens out the load, 2 moves hardly any key.

        Raises ValueError if it is below 1: then all peers could be above their bounds.
        """
        if factor < 1:
            raise ValueError(f"bounded_load must be at least 1, not {factor}")
        self._factor = factor
        super().__init__(peers)

    def pick(self, key: bytes, tried: Collection[P], now_s: int) -> P | None:
        """Walk from the key's point to a peer below its bound. O(peers): 5 µs for 10 of them."""
        able = [peer for peer in self._peers if peer not in tried and is_usable(peer, now_s)]
        if len(able) < 2 or not key:
            return pick_least(able, lambda peer: peer.conns, (), now_s)
        weight = sum(peer.weight for peer in able)
        limit = self._factor * (1 + sum(peer.conns for peer in able))
        # Of whole numbers, conns + 1 <= ceil(x) is the same as conns < x.
        below = {peer for peer in able if peer.conns * weight < limit * peer.weight}
        homes = ([peer for peer in group if peer in below] for group in self.walk(key))
        return pick_smooth(next(filter(None, homes)), (), now_s)


def ring_base(name: str) -> int:
    """Hash the common part of a backend's points: its host, a zero byte, and its port.

    The host of "unix:/path" is the path. A name without a port is only a host.
    """
    server = name.encode(errors="surrogateescape")
    if server[:5].lower() == b"unix:":
        return crc32(server[5:] + b"\0")
    host, colon, port = server.rpartition(b":")
    if not colon or port.strip(b"0123456789"):
        return crc32(server + b"\0")
    return crc32(host + b"\0" + port)
