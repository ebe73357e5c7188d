"""Consistent hashing on a ring (ketama): when a backend comes or goes, only its own keys move.

Each backend scatters 160 points for each unit of weight over a circle of 2**32; a key belongs to
the first point at or after its own hash. A backend that cannot be used keeps its points, and its
keys go on to the points that follow. The points are nginx's to the last bit, as users migrate with
warm caches. `BoundedRing` is the same ring with a limit on each backend's load: a popular key
overflows to the next backend instead of drowning one.

Consistent methods without a ring are `maglev` and `rendezvous`; the plain hash is `hashing`.

A ring of 1,000 backends has 160,000 points and takes 100 ms to build (CPython 3.11), too long for
one turn of the loop. So it is built in steps of about 160 points, 0.1 ms each: first the points are
made and dropped into buckets by their leading bits, then the buckets are sorted one by one and put
behind each other. The finished ring takes 8 bytes a point.

Source: nginx ngx_stream_upstream_hash_module.c ngx_stream_upstream_update_chash,
ngx_stream_upstream_get_chash_peer.
Read first `hashing`.
"""

from array import array
from bisect import bisect_left
from collections.abc import Collection, Iterator, Sequence
from itertools import islice
from typing import Final
from zlib import crc32

from nginy.balancer.least import pick_least
from nginy.balancer.peer import P, group_by_name, is_usable
from nginy.balancer.round_robin import MAX_MISSES, RoundRobin, pick_smooth

POINTS: Final = 160
"""Points for a unit of weight, as nginx; shares then stray by about 1 / sqrt(160), 8 %."""


class Ring(RoundRobin[P]):
    """The peer whose point on the ring follows the key's hash."""

    __slots__ = ("_groups", "_owners", "_points")

    def _sort(self, peers: Sequence[P]) -> None:
        """Sort nothing: turns are taken only where this method finds nobody."""

    def rebuild_steps(self, peers: Sequence[P]) -> Iterator[None]:
        """Build the ring beside the one in use, and change over in the last step."""
        groups = list(group_by_name(peers).values())
        weights = [max(peer.weight for peer in group) for group in groups]
        # So many buckets that each gets at most POINTS of the points, on average.
        bits = sum(weights).bit_length()
        buckets: list[list[int]] = [[] for _ in range(1 << bits)]
        for index, (group, weight) in enumerate(zip(groups, weights, strict=True)):
            base = ring_base(group[0].name)
            point = 0
            for _ in range(weight):
                for _ in range(POINTS):
                    point = crc32(point.to_bytes(4, "little"), base)
                    buckets[point >> (32 - bits)].append(point << 32 | index)
                yield
        points = array("I")
        owners = array("I")
        for bucket in buckets:
            append_sorted(bucket, points, owners)
            yield
        self._groups = groups
        self._points = points
        self._owners = owners
        yield from super().rebuild_steps(peers)

    def pick(self, key: bytes, tried: Collection[P], now_s: int) -> P | None:
        """Walk from the key's point to a usable peer. O(log points) unless it falls back."""
        if not key or len(self._peers) < 2:
            return pick_smooth(self._peers, tried, now_s)
        for group in islice(self.walk(key), MAX_MISSES + 1):
            peer = pick_smooth(group, tried, now_s)
            if peer is not None:
                return peer
        return pick_smooth(self._peers, tried, now_s)

    def walk(self, key: bytes) -> Iterator[list[P]]:
        """Yield the points' owners once around, from the first at or after the key's hash."""
        groups = self._groups
        owners = self._owners
        start = bisect_left(self._points, crc32(key))
        for position in range(start, start + len(owners)):
            yield groups[owners[position % len(owners)]]


class BoundedRing(Ring[P]):
    """The ring with no peer above ceil(factor * its fair share of the sessions).

    The share goes by weight, and is reckoned among the peers that can take this session, of the
    sessions that they have and this one. They cannot all have more than their share, so one below
    its bound is always found.

    Source: Mirrokni, Thorup, Zadimoghaddam, Consistent Hashing with Bounded Loads, SODA 2018.
    """

    __slots__ = ("_factor",)

    def __init__(self, peers: Sequence[P], factor: float) -> None:
        """Set the bound: a `factor` of 1 evens the load out, 2 moves hardly any key.

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
    """Hash what all points of a backend have in common: its host, a zero byte, and its port.

    The host of "unix:/path" is the path. A name without a port is all host.
    """
    server = name.encode(errors="surrogateescape")
    if server[:5].lower() == b"unix:":
        return crc32(server[5:] + b"\0")
    host, colon, port = server.rpartition(b":")
    if not colon or port.strip(b"0123456789"):
        return crc32(server + b"\0")
    return crc32(host + b"\0" + port)


def append_sorted(bucket: list[int], points: "array[int]", owners: "array[int]") -> None:
    """Put a bucket of `point << 32 | owner` behind the ring so far; the bucket is used up.

    Where backends share a point the one that is listed first has it, as in nginx.
    """
    bucket.sort()
    last = -1
    for entry in bucket:
        point = entry >> 32
        if point != last:
            points.append(point)
            owners.append(entry & 0xFFFFFFFF)
            last = point
    bucket.clear()
