"""Points by tables against points by calls, and the circle against a sorted list."""

import random
import zlib
from array import array

from nginy.balancer.points import BUCKET_POINTS, POINTS, Circle, chain


def test_a_unit_is_the_chain_of_checksums() -> None:
    rng = random.Random(160)
    for _ in range(30):
        base = rng.getrandbits(32)
        first = zlib.crc32(bytes(4), base)
        point, last = 0, 0
        for _ in range(3):
            expected = []
            for _ in range(POINTS):
                point = zlib.crc32(point.to_bytes(4, "little"), base)
                expected.append(point)
            points = chain().unit(last, first)
            assert list(points) == expected
            last = points[-1]


def test_the_walk_is_once_around_a_sorted_circle() -> None:
    rng = random.Random(161)
    for count in (1, 5, 300, 3 * BUCKET_POINTS):
        circle = Circle(count)
        entries = []
        for owner in range(5):
            points = [rng.getrandbits(32) for _ in range(count // 5 + 1)]
            circle.add(array("I", points), owner)
            entries += [(point, owner) for point in points]
        entries.sort()
        for place in (0, 1, (1 << 32) - 1, *(rng.getrandbits(32) for _ in range(20))):
            later = [owner for point, owner in entries if point >= place]
            earlier = [owner for point, owner in entries if point < place]
            assert list(circle.walk(place)) == later + earlier
            assert circle.owner(place) == (later + earlier)[0]


def test_of_owners_that_share_a_point_the_first_has_it() -> None:
    circle = Circle(4)
    for owner, point in ((2, 7), (3, 5), (1, 7), (0, 7)):
        circle.add(array("I", [point]), owner)
    assert list(circle.walk(5)) == [3, 0]
    assert list(circle.walk(7)) == [0, 3]
