"""The ring point by point and its bounded form; nginx's own choices are in test_as_nginx."""

import random
import zlib
from collections import Counter
from itertools import pairwise
from math import ceil

import pytest
from nginy.balancer.ring import BoundedRing, Ring, ring_base

from kit.peers import FakePeer, peers_of

NOW_S = 1_000_000


@pytest.mark.parametrize(
    ("name", "hashed"),
    [
        ("127.0.0.1:8080", b"127.0.0.1\x008080"),
        ("[::1]:8080", b"[::1]\x008080"),
        ("localhost:80", b"localhost\x0080"),
        ("localhost:", b"localhost\x00"),
        ("localhost", b"localhost\x00"),
        ("127.0.0.1", b"127.0.0.1\x00"),
        ("a:b", b"a:b\x00"),
        ("unix:/run/a.sock", b"/run/a.sock\x00"),
        ("UNIX:/run/a:80", b"/run/a:80\x00"),
        ("unix:/\udcff", b"/\xff\x00"),
    ],
)
def test_host_and_port_are_what_points_are_made_from(name: str, hashed: bytes) -> None:
    assert ring_base(name) == zlib.crc32(hashed)


def points_of(peers: list[FakePeer]) -> list[tuple[int, FakePeer]]:
    """All points of the ring with their owners, the plain way."""
    points = []
    for peer in peers:
        point = 0
        for _ in range(peer.weight * 160):
            point = zlib.crc32(point.to_bytes(4, "little"), ring_base(peer.name))
            points.append((point, peer))
    return sorted(points, key=lambda entry: entry[0])


@pytest.mark.parametrize("seed", range(3))
def test_a_key_belongs_to_the_next_point(seed: int) -> None:
    rng = random.Random(seed)
    peers = peers_of(*(rng.randint(1, 6) for _ in range(rng.randint(2, 9))))
    points = points_of(peers)
    balancer = Ring(peers)
    for _ in range(300):
        key = rng.randbytes(6)
        after = [peer for point, peer in points if point >= zlib.crc32(key)]
        assert balancer.pick(key, (), NOW_S) is (after or [points[0][1]])[0]


def test_a_key_past_the_last_point_belongs_to_the_first() -> None:
    peers = peers_of(1, 1)
    points = points_of(peers)
    past = next(
        key for number in range(1_000_000) if zlib.crc32(key := b"%d" % number) > points[-1][0]
    )
    assert Ring(peers).pick(past, (), NOW_S) is points[0][1]


def test_shares_are_the_arcs_before_the_points() -> None:
    peers = peers_of(1, 3, 2)
    points = points_of(peers)
    arcs: Counter[FakePeer] = Counter({points[0][1]: points[0][0] + 2**32 - points[-1][0]})
    for (before, _), (point, peer) in pairwise(points):
        arcs[peer] += point - before
    balancer = Ring(peers)
    rng = random.Random(1)
    picks = Counter(balancer.pick(rng.randbytes(8), (), NOW_S) for _ in range(20_000))
    for peer in peers:
        # Five standard deviations of a binomial count are below 350 of 20,000.
        assert picks[peer] == pytest.approx(20_000 * arcs[peer] / 2**32, abs=350)


def test_peers_of_one_name_have_the_points_of_the_heaviest() -> None:
    light, heavy, other = peers_of(1, 3, 1)
    light.name = heavy.name
    groups = Counter(tuple(group) for group in Ring([light, heavy, other]).walk(b"key"))
    assert groups == {(light, heavy): 480, (other,): 160}


def test_the_walk_goes_once_around() -> None:
    peers = peers_of(1, 2)
    assert Counter(group[0] for group in Ring(peers).walk(b"key")) == {
        peers[0]: 160,
        peers[1]: 320,
    }


# -- bounded loads --


def test_no_peer_is_given_more_than_its_bound() -> None:
    rng = random.Random(9)
    peers = peers_of(1, 4, 2, 1, 1)
    balancer = BoundedRing(peers, 1.25)
    for _ in range(3_000):
        pick = balancer.pick(rng.choice([b"popular", rng.randbytes(4)]), (), NOW_S)
        assert pick is not None
        pick.conns += 1
        total = sum(peer.conns for peer in peers)
        assert pick.conns <= ceil(1.25 * total * pick.weight / 9)
        ending = rng.choice(peers)
        ending.conns = max(0, ending.conns - 1)


def test_one_popular_key_fills_the_peers_in_the_order_of_the_ring() -> None:
    peers = peers_of(*[1] * 10)
    balancer = BoundedRing(peers, 2)
    for _ in range(1_000):
        pick = balancer.pick(b"popular", (), NOW_S)
        assert pick is not None
        pick.conns += 1
    order = list(dict.fromkeys(group[0] for group in balancer.walk(b"popular")))
    loads = [peer.conns for peer in order]
    assert loads == sorted(loads, reverse=True)
    assert loads[0] == 200
    assert sum(loads) == 1_000


def test_a_key_stays_at_home_while_there_is_room() -> None:
    peers = peers_of(*[1] * 5)
    for peer in peers:
        peer.conns = 100
    bounded, free = BoundedRing(peers, 1.25), Ring(peers)
    for number in range(500):
        key = b"%d" % number
        assert bounded.pick(key, (), NOW_S) is free.pick(key, (), NOW_S)


def test_a_factor_of_one_evens_the_load_out() -> None:
    peers = peers_of(1, 1, 1, 1)
    balancer = BoundedRing(peers, 1)
    for _ in range(400):
        pick = balancer.pick(b"popular", (), NOW_S)
        assert pick is not None
        pick.conns += 1
    assert [peer.conns for peer in peers] == [100] * 4


def test_a_bound_below_the_fair_share_is_refused() -> None:
    with pytest.raises(ValueError, match=r"^bounded_load must be at least 1, not 0\.9$"):
        BoundedRing(peers_of(1, 1), 0.9)
