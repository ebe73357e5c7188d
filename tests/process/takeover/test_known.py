"""Counts that a process tells its successor: the first time whole, then by how much they grew."""

from types import SimpleNamespace
from typing import Any

from nginy.process.takeover.known import counts, growth, learn
from nginy.process.takeover.messages import MessageMembers
from nginy.proxy.handler import ProxySettings
from nginy.proxy.udp.handler import UdpHandler
from nginy.text.address import parse_address

from kit.admin import Made, pool


def server_of(made: Made) -> tuple[Any, UdpHandler]:
    address = parse_address("127.0.0.1:53")
    handler = UdpHandler(made.loop, "dns", address, pool("names"), ProxySettings())
    front = SimpleNamespace(address=address, handler=handler)
    pools = SimpleNamespace(pools=list)
    return SimpleNamespace(pools=pools, services=SimpleNamespace(fronts=lambda: [front])), handler


def test_drops_move_with_their_times() -> None:
    old, new = Made(), Made()
    with old, new:
        (before, dropping), (after, succeeding) = server_of(old), server_of(new)
        dropping.drops.count("shed")
        begin_ms = old.clock.wall_ms()
        new.clock.advance(2000)
        succeeding.drops.count("limit")
        said = counts(before)
        for message in growth(said, {}):
            learn(MessageMembers(message.members), after)
        new.clock.advance(2000)
        succeeding.drops.count("shed")
        # What the old one drops after that comes as growth.
        old.clock.advance(1000)
        dropping.drops.count("shed")
        dropping.drops.count("limit")
        for message in growth(counts(before), said):
            learn(MessageMembers(message.members), after)
        drops = succeeding.drops
        assert (drops["shed"], drops["limit"]) == (3, 2)
        assert drops.firsts == {"shed": begin_ms, "limit": begin_ms + 1000}
        assert drops.lasts == {"shed": begin_ms + 4000, "limit": begin_ms + 2000}
