"""The keys of phases: what is read, and what is wrong with it."""

import pathlib

import pytest
from nginy.config.build import phases
from nginy.config.dump import dump
from nginy.config.load import load
from nginy.proxy.phases import AccessPhase
from nginy.proxy.real_address import RealAddress

from kit.configs import loaded, refusals, write


def listening(keys: str) -> str:
    return f"listeners: [{{listen: 127.0.0.1:80, return: x, {keys}}}]\n"


def test_phases_come_in_nginxs_order_and_only_those_configured(tmp_path: pathlib.Path) -> None:
    keys = "access: {deny: all}, accept_proxy_protocol: {from: ['::1', 'unix:']}"
    (listener,) = loaded(tmp_path, listening(keys)).listeners
    assert [type(phase) for phase in phases(listener)] == [RealAddress, AccessPhase]
    (listener,) = loaded(tmp_path, listening("backlog: 1")).listeners
    assert phases(listener) == ()


def test_what_is_dumped_loads_to_the_same(tmp_path: pathlib.Path) -> None:
    keys = "accept_proxy_protocol: {from: 10.0.0.0/8, others: plain, timeout: 500ms}"
    config = loaded(tmp_path, listening(keys))
    assert load(write(tmp_path, dump(config), "dumped.yml"), {}) == config


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("accept_proxy_protocol: on", 'accept_proxy_protocol: "on", expected off, or the keys'),
        ("accept_proxy_protocol: {timeout: 1s}", 'accept_proxy_protocol: "from" is missing'),
        ("accept_proxy_protocol: {from: []}", "from: an empty list, expected a network such as"),
        ("accept_proxy_protocol: {from: 10.1}", 'from: "10.1" is neither an IP address nor a'),
        ("accept_proxy_protocol: {from: [{a: b}]}", "from: a mapping, expected a network such as"),
        ("accept_proxy_protocol: {from: all, others: drop}", 'others: "drop" is not known'),
        ("accept_proxy_protocol: {from: all, timeout: 0}", 'timeout: "0"'),
        (
            "protocol: udp, accept_proxy_protocol: {from: all}",
            "accept_proxy_protocol: is for tcp listeners, this one is udp",
        ),
    ],
)
def test_a_mistake_has_its_place_and_what_was_expected(
    tmp_path: pathlib.Path, keys: str, message: str
) -> None:
    (found,) = refusals(tmp_path, listening(keys))
    assert found.startswith("nginy.yml:1:")
    assert message in found
