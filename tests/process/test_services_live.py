"""The listeners of one configuration after the other, without the rest of a server."""

import pathlib
import socket

import pytest
from nginy.config.schema import Config
from nginy.event.bind import ListenKey
from nginy.event.listener import Listener
from nginy.process.gradual import at_once
from nginy.process.logs import LogSet
from nginy.process.pools import PoolSet
from nginy.process.services import ServiceSet

from conftest import ExpectLog
from kit.calls import calls
from kit.configs import loaded
from kit.harness import Harness
from kit.program import free_port, own_host


def begin(services: ServiceSet, pools: PoolSet, config: Config) -> dict[ListenKey, Listener]:
    """Do what comes before `services.apply`, which needs the listeners that this returns."""
    opened = services.open(config)
    at_once(pools.add(config, at_once(pools.prepare(config))))
    pools.apply()
    at_once(services.begin(config))
    return opened


@pytest.mark.parametrize("method", ["epoll"])
def test_a_range_of_ports_moves_without_comparing_each_with_each(
    harness: Harness, tmp_path: pathlib.Path
) -> None:
    def calls_to_move(count: int) -> int:
        """Return what it takes to move a range to another host."""
        pools = PoolSet(harness.loop)
        services = ServiceSet(harness.loop, LogSet(harness.loop), pools)
        cost = 0
        try:
            for host in (own_host(), own_host()):
                ports = f"{host}:4000-{3999 + count}"
                text = f'{{listen: "{ports}", protocol: udp, proxy_pass: "127.0.0.1:9"}}'
                config = loaded(tmp_path, f"listeners: [{text}]")
                opened = begin(services, pools, config)
                cost = calls(lambda: services.apply(config, opened))  # noqa: B023 - called at once
                pools.finish()
            assert len(services.retiring) == count
        finally:
            services.close()
            pools.close()
        return cost

    assert calls_to_move(200) < 5 * calls_to_move(50)


@pytest.mark.parametrize("has_successor", [False, True])
def test_a_retired_listener_reads_datagrams_once_no_other_process_does(
    harness: Harness, tmp_path: pathlib.Path, expect_log: ExpectLog, has_successor: bool
) -> None:
    """A new process may be told to end in the moment in which the old one dies. If it has a
    successor itself, that one reads.
    """
    pools = PoolSet(harness.loop)
    services = ServiceSet(harness.loop, LogSet(harness.loop), pools)
    try:
        services.holds_datagrams = True
        host = own_host()
        text = f'{{listen: "{host}:{free_port(host)}", protocol: udp, proxy_pass: "127.0.0.1:9"}}'
        config = loaded(tmp_path, f"listeners: [{text}]")
        services.apply(config, begin(services, pools, config))
        (receiver,) = services.receivers()
        services.retire_all(None, has_successor=has_successor)
        with socket.socket(type=socket.SOCK_DGRAM) as client:
            client.sendto(b"hello", receiver.socket.getsockname())
            harness.settle()
            assert receiver.received == 0
            if has_successor:
                services.read_datagrams()
                harness.settle()
                assert receiver.received == 0
                return
            with expect_log("the listener takes no new clients"):
                services.read_datagrams()
                harness.turn_until(lambda: receiver.received == len(b"hello"))
    finally:
        services.close()
        pools.close()
