"""What the layers below are given: sockets' options as the kernel wants them."""

import pathlib

import pytest
from nginy.config.building.build import listen_options
from nginy.event.bind import KeepAlive

from kit.configs import loaded


@pytest.mark.parametrize(
    ("keys", "keepalive"),
    [
        ("", KeepAlive(idle_s=75, interval_s=15, count=4)),
        (", so_keepalive: {idle: 2m, count: off}", KeepAlive(idle_s=120, interval_s=15)),
        (", so_keepalive: on", KeepAlive()),
        (", so_keepalive: off", None),
        (", protocol: udp", None),
    ],
)
def test_clients_of_tcp_are_probed_unless_told_otherwise(
    tmp_path: pathlib.Path, keys: str, keepalive: KeepAlive | None
) -> None:
    config = loaded(tmp_path, f"listeners: [{{listen: 127.0.0.1:80, return: x{keys}}}]")
    (options,) = listen_options(config.listeners[0])
    assert options.keepalive == keepalive
