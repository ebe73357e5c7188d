"""The points of a ketama ring: how nginx makes them, made faster, and a circle that holds them.

nginx makes a backend's points in a chain, `point = crc32(base + previous point)`, 160 for each unit
of weight; with weights up to 100, a thousand backends have eight million. Two ideas make that take
seconds and not half a minute in Python.

The first: a CRC is linear. Each point is the exclusive or of two parts: one depends only on the
point before, the other only on the base. The same holds for the 160 points of a unit, taken
together as one long number. `Chain` looks the parts up in tables, byte by byte, and makes 160
points by eight operations instead of 160 calls.

The second: a circle need not be sorted to be of use. `Circle` drops points into buckets by their
leading bits, and sorts a bucket when a key falls into it for the first time, some 0.3 ms.

`ring` knows which backend a point belongs to, and which keys look for it.

Source: nginx ngx_stream_upstream_hash_module.c ngx_stream_upstream_update_chash; the linearity of
CRCs: R. N. Williams, A Painless Guide to CRC Error Detection Algorithms, 1993.
"""

from array import array
from bisect import bisect_left
from collections.abc import Iterator
from functools import cache
from typing import Final
from zlib import crc32

POINTS: Final = 160
"""Points for a unit of weight, as nginx; shares then stray by about 1 / sqrt(160), 8 %."""

BUCKET_POINTS: Final = 2048
"""How many points a bucket has at most, on average: so many that the buckets stay in the cache
while they are filled, so few that a pick can sort one."""

MAX_BITS: Final = 16


def after(point: int) -> int:
    """Return what a point contributes to the next one, whatever the base."""
    return crc32(point.to_bytes(4, "little")) ^ crc32(bytes(4))


class Chain:
    """Makes points, a unit at a time. One serves all rings; `chain` makes it."""

    __slots__ = ("_of_first", "_of_previous")

    def __init__(self) -> None:
        self._of_previous = [_table(byte, 0) for byte in range(4)]
        self._of_first = [_table(byte, 1) for byte in range(4)]

    def unit(self, previous: int, first: int) -> "array[int]":
        """Return the 160 points that follow `previous`; `first` is the first of the backend.

        The point before the first is 0.
        """
        a, b, c, d = self._of_previous
        e, f, g, h = self._of_first
        points = (
            a[previous & 255]
            ^ b[previous >> 8 & 255]
            ^ c[previous >> 16 & 255]
            ^ d[previous >> 24]
            ^ e[first & 255]
            ^ f[first >> 8 & 255]
            ^ g[first >> 16 & 255]
            ^ h[first >> 24]
        )
        return array("I", points.to_bytes(4 * POINTS, "little"))


@cache
def chain() -> Chain:
    """Return the one chain, whose tables take some 10 ms to make and 1.5 MB to keep."""
    return Chain()


def _table(byte: int, is_first: int) -> list[int]:
    """Return the parts of a unit's points that the values of one byte contribute.

    A byte of the previous point counts once, one of the first point is added at each step. The 256
    values are put together from those of the eight bits.
    """
    table = [0]
    for bit in range(8):
        unit = array("I")
        added = 1 << (8 * byte + bit)
        point = 0 if is_first else added
        for _ in range(POINTS):
            point = after(point) ^ (added if is_first else 0)
            unit.append(point)
        part = int.from_bytes(unit.tobytes(), "little")
        table += [part ^ each for each in table]
    return table


class Circle:
    """Points and their owners, on a circle of 2**32. 8 bytes a point."""

    __slots__ = ("_appends", "_buckets", "_shift", "_sorted")

    def __init__(self, count: int) -> None:
        """Make room for `count` points."""
        bits = min((count // BUCKET_POINTS).bit_length(), MAX_BITS)
        self._shift = 32 - bits
        self._buckets = [array("Q") for _ in range(1 << bits)]
        self._appends = [bucket.append for bucket in self._buckets]
        self._sorted = bytearray(1 << bits)

    def add(self, points: "array[int]", owner: int) -> None:
        """Put points on the circle; add all of them before the first `walk`."""
        appends = self._appends
        shift = self._shift
        for point in points:
            appends[point >> shift](point << 32 | owner)

    def owner(self, place: int) -> int:
        """Return the owner of the first point at or after `place`: what `walk` yields first."""
        bucket = self._bucket(place >> self._shift)
        begin = bisect_left(bucket, place << 32)
        if begin < len(bucket):
            return bucket[begin] & 0xFFFFFFFF
        return next(self.walk(place))

    def walk(self, place: int) -> Iterator[int]:
        """Yield the owners of the points once around, from the first at or after `place`.

        Where several share a point the one with the lowest number has it, as in nginx.
        """
        buckets = self._buckets
        first = place >> self._shift
        bucket = self._bucket(first)
        begin = bisect_left(bucket, place << 32)
        yield from _owners(bucket[begin:])
        for number in range(first + 1, first + len(buckets)):
            yield from _owners(self._bucket(number % len(buckets)))
        yield from _owners(bucket[:begin])

    def _bucket(self, number: int) -> "array[int]":
        bucket = self._buckets[number]
        if not self._sorted[number]:
            bucket = self._buckets[number] = array("Q", sorted(bucket))
            self._sorted[number] = 1
        return bucket


def _owners(entries: "array[int]") -> Iterator[int]:
    last = -1
    for entry in entries:
        point = entry >> 32
        if point != last:
            yield entry & 0xFFFFFFFF
            last = point
