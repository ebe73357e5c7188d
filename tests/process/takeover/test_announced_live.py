"""A new process, here another handler, knows the clients that proxies have announced once."""

from nginy.process.takeover import announced
from nginy.process.takeover.messages import Message, MessageMembers
from nginy.wire.proxy_protocol import build_v2

from kit.datagrams import UdpBackend, UdpClient, UdpFront, read_headers, udp_proxy
from kit.harness import Harness

NAME = "127.0.0.1:53 udp"


def reading(harness: Harness) -> UdpFront:
    front = udp_proxy(harness, harness.pool(harness.add(UdpBackend()).name))
    read_headers(front, is_standalone=True)
    return front


def announce(harness: Harness, proxy: UdpClient, host: str | None) -> None:
    source = None if host is None else (host, 4711)
    proxy.send(build_v2(source, source, is_udp=True))
    harness.settle(2)


def learn(message: Message, front: UdpFront, name: str = NAME) -> None:
    announced.learn(MessageMembers(message.members), [(name, front.handler)])


def sources(front: UdpFront) -> list[str]:
    return [client.source[0] for client in front.handler.announcements.values()]


def test_all_announcements_are_told_and_then_each_new_one(harness: Harness) -> None:
    old, new = reading(harness), reading(harness)
    named = [(NAME, old.handler)]
    proxies = [old.client() for _ in range(announced.SLICE + 2)]
    for number, proxy in enumerate(proxies):
        announce(harness, proxy, f"192.0.2.{number}")
    link: list[Message] = []
    announced.tell_news(named, link.append)
    told = announced.tell_all(named)
    link.append(next(told))
    for proxy, host in (proxies[0], "198.51.100.1"), (proxies[1], None), (proxies[-1], None):
        announce(harness, proxy, host)  # None: it speaks for itself
    link += told
    for message in link:
        learn(message, new)
    assert new.handler.announcements == old.handler.announcements
    assert len(sources(new)) == len(proxies) - 2
    assert "198.51.100.1" in sources(new)
    learn(link[0], new, "127.0.0.2:53 udp")
    announced.tell_no_more(named)
    announce(harness, proxies[1], "192.0.2.9")
    assert len(link) == 5
