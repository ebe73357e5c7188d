"""The keys of phases: what is read, and what is wrong with it."""

import logging
import pathlib

import pytest
from nginy.config.building.build import backend_settings, phases, proxy_protocol_of, proxy_settings
from nginy.config.checking.surprises import surprises
from nginy.config.checking.targets import by_upstream
from nginy.config.dump import dump
from nginy.config.load import load
from nginy.proxy.phases.limiting import LimitConn, LimitConnRate, Zones
from nginy.proxy.phases.phase import AccessPhase, Phases
from nginy.proxy.phases.real_address import RealAddress

from kit.configs import loaded, refusals, write


def listening(keys: str) -> str:
    return f"listeners: [{{listen: 127.0.0.1:80, return: x, {keys}}}]\n"


def built(directory: pathlib.Path, keys: str, zones: Zones | None = None) -> Phases:
    (listener,) = loaded(directory, listening(keys)).listeners
    return phases(listener, zones or Zones(), lambda text: lambda _session: text)


def test_phases_come_in_nginxs_order_and_only_those_configured(tmp_path: pathlib.Path) -> None:
    keys = """
      access: {deny: all}, accept_proxy_protocol: {from: ['::1', 'unix:']},
      limit_conn_rate: {key: $remote_net, rate: 5}, limit_conn: {key: $remote_addr, max: 5}
    """
    order = [RealAddress, LimitConn, LimitConnRate, AccessPhase]
    assert [type(phase) for phase in built(tmp_path, keys)] == order
    assert built(tmp_path, "backlog: 1") == ()


def test_a_reload_keeps_the_counts_of_a_limit(tmp_path: pathlib.Path) -> None:
    zones = Zones()
    (before,) = built(tmp_path, "limit_conn: {key: $remote_addr, max: 5}", zones)
    (after,) = built(tmp_path, "limit_conn: {key: $remote_addr, max: 6, max_keys: 9}", zones)
    assert isinstance(before, LimitConn)
    assert isinstance(after, LimitConn)
    assert after.counts is before.counts
    assert (after.max, after.counts.max_keys) == (6, 9)
    (other,) = built(tmp_path, "limit_conn: {key: $remote_addr, max: 6, zone: z}", zones)
    assert isinstance(other, LimitConn)
    assert other.counts is not before.counts


def test_what_is_dumped_loads_to_the_same(tmp_path: pathlib.Path) -> None:
    keys = """
      accept_proxy_protocol: {from: 10.0.0.0/8, others: plain, timeout: 500ms},
      limit_conn: [{key: $remote_addr, max: 5, zone: z, dry_run: on, max_keys: 7},
        {key: all, max: 9}],
      limit_conn_rate: {key: $remote_net, rate: 5, burst: 10}
    """
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
            "limit_conn: {key: $remote_addr, max: 1, zone: 'a b'}",
            'zone: "a b" is not valid, expected a name for the zone',
        ),
        ("limit_conn: {key: $remote_addr}", 'limit_conn: "max" is missing, expected a whole'),
        ("limit_conn: {max: 1}", 'limit_conn: "key" is missing, expected a key such as'),
        ("limit_conn: {key: $remote, max: 1}", "names unknown variables ($remote)"),
        (
            "limit_conn: {key: $bytes_sent, max: 1}",
            "names $bytes_sent, which is known only when a session ends",
        ),
        ("limit_conn: {key: $remote_addr, max: 0}", 'max: "0" is too small'),
        ("limit_conn: []", "limit_conn: an empty list, expected off, the keys of limit_conn, or a"),
        ("limit_conn_rate: {key: $remote_addr, rate: 10k}", 'rate: "10k" is not a whole number'),
        (
            "limit_conn: {key: $proxy_protocol_addr, max: 1}",
            'key: "$proxy_protocol_addr" is empty for every client, expected a key such as',
        ),
        ("limit_conn_rate: {key: '', rate: 1}", 'key: "" is empty for every client'),
        (
            "limit_conn: [{key: $remote_addr, max: 1}, {key: $remote_addr, max: 2}]",
            'limit_conn: "$remote_addr" already counts this listener at nginy.yml:1:',
        ),
        (
            "protocol: udp, accept_proxy_protocol: {from: all}",
            (
                "accept_proxy_protocol: cannot be combined with return on udp listeners,"
                " expected proxy_pass"
            ),
        ),
        (
            "accept_proxy_protocol: {from: all, standalone: on}",
            "standalone: is for udp listeners, this one is tcp",
        ),
    ],
)
def test_a_mistake_has_its_place_and_what_was_expected(
    tmp_path: pathlib.Path, keys: str, message: str
) -> None:
    (found,) = refusals(tmp_path, listening(keys))
    assert found.startswith("nginy.yml:1:")
    assert message in found


def sending(listener: str = "", backend: str = "") -> str:
    return f"""
    listeners: [{{listen: 127.0.0.1:80, proxy_pass: web, {listener}}}]
    upstreams: {{web: {{backends: [{{address: "127.0.0.1:1", {backend}}}]}}}}
    """


def test_the_header_to_send_is_a_listeners_or_a_backends(tmp_path: pathlib.Path) -> None:
    config = loaded(tmp_path, sending("proxy_protocol: v1, pass_tlvs: on", "proxy_protocol: v2"))
    settings = proxy_settings(config.listeners[0], 0)
    assert (settings.proxy_protocol, settings.pass_tlvs) == ("v1", True)
    (backend,) = config.upstreams["web"].backends
    assert backend_settings(backend).proxy_protocol == "v2"
    assert load(write(tmp_path, dump(config), "dumped.yml"), {}) == config


def test_checks_send_what_all_listeners_of_the_upstream_send(tmp_path: pathlib.Path) -> None:
    text = """
    listeners:
    - {listen: 127.0.0.1:80, proxy_pass: web, proxy_protocol: v1}
    - {listen: 127.0.0.1:81, proxy_pass: web, proxy_protocol: v2}
    - {listen: 127.0.0.1:82, proxy_pass: own, proxy_protocol: v2}
    upstreams:
      web: {backends: 127.0.0.1:1, health_check: on}
      own: {backends: 127.0.0.1:1, health_check: on}
    """
    config = loaded(tmp_path, text)
    checks = {name: upstream.health_check for name, upstream in config.upstreams.items()}
    listeners = by_upstream(config.listeners)
    assert proxy_protocol_of(listeners["web"], checks["web"]) == "off"
    assert proxy_protocol_of(listeners["own"], checks["own"]) == "v2"
    (warning,) = surprises(config)
    text = 'listeners send different PROXY headers to upstream "web", its checks send none'
    assert warning.endswith(text)


def test_checks_send_what_listeners_of_their_protocol_send(tmp_path: pathlib.Path) -> None:
    text = """
    listeners:
    - {listen: 127.0.0.1:53, proxy_pass: tcp, proxy_protocol: v1}
    - {listen: 127.0.0.1:53, protocol: udp, proxy_pass: tcp, proxy_protocol: v2}
    - {listen: 127.0.0.1:54, proxy_pass: udp, proxy_protocol: v1}
    - {listen: 127.0.0.1:54, protocol: udp, proxy_pass: udp, proxy_protocol: v2}
    upstreams:
      tcp: {backends: 127.0.0.1:1, health_check: on}
      udp: {backends: 127.0.0.1:1, health_check: {type: udp}}
    """
    config = loaded(tmp_path, text)
    checks = {name: upstream.health_check for name, upstream in config.upstreams.items()}
    listeners = by_upstream(config.listeners)
    assert proxy_protocol_of(listeners["tcp"], checks["tcp"]) == "v1"
    assert proxy_protocol_of(listeners["udp"], checks["udp"]) == "v2"
    assert surprises(config) == []


def test_datagrams_may_be_announced_both_ways(tmp_path: pathlib.Path) -> None:
    keys = "protocol: udp, accept_proxy_protocol: {from: all, standalone: on}, proxy_protocol: v2"
    config = loaded(tmp_path, sending(f"{keys}, pass_tlvs: on"))
    (listener,) = config.listeners
    assert listener.accept_proxy_protocol is not None
    assert listener.accept_proxy_protocol.standalone
    assert phases(listener, Zones(), lambda text: lambda _session: text) == ()
    assert load(write(tmp_path, dump(config), "dumped.yml"), {}) == config


def test_tlvs_that_go_nowhere_are_warned_of(tmp_path: pathlib.Path) -> None:
    accepting = "accept_proxy_protocol: {from: all}, pass_tlvs: on"
    text = "pass_tlvs passes nothing on without accept_proxy_protocol and proxy_protocol v2"
    for keys in ("pass_tlvs: on, proxy_protocol: v2", f"{accepting}, proxy_protocol: v1"):
        (warning,) = surprises(loaded(tmp_path, sending(keys)))
        assert warning.endswith(text)
    assert surprises(loaded(tmp_path, sending(f"{accepting}, proxy_protocol: v2"))) == []
    assert surprises(loaded(tmp_path, sending(accepting, "proxy_protocol: v2"))) == []


@pytest.mark.parametrize(
    ("listener", "backend", "message"),
    [
        ("proxy_protocol: on", "", 'proxy_protocol: "on" is not known: expected v1, which nginx'),
        ("proxy_protocol: v3", "", 'proxy_protocol: "v3" is not known, expected off, v1 or v2'),
        ("", "proxy_protocol: v3", '"v3" is not known, expected auto, off, v1 or v2'),
        (
            "protocol: udp, proxy_protocol: v1",
            "",
            'proxy_protocol: "v1" is for streams, expected off or v2 with udp',
        ),
        (
            "protocol: udp",
            "proxy_protocol: v1",
            'proxy_protocol: "v1" is for streams; nginy.yml:2:22 is udp and leads here, expected',
        ),
    ],
)
def test_a_header_that_cannot_be_sent_is_refused(
    tmp_path: pathlib.Path, listener: str, backend: str, message: str
) -> None:
    (found,) = refusals(tmp_path, sending(listener, backend))
    assert message in found


def test_a_zone_counts_by_one_key(tmp_path: pathlib.Path) -> None:
    text = """
    listeners:
    - {listen: 127.0.0.1:80, return: x, limit_conn: {key: $remote_addr, max: 1, zone: z}}
    - {listen: 127.0.0.1:81, return: x, limit_conn: {key: $remote_addr, max: 9, zone: z}}
    - {listen: 127.0.0.1:82, return: x, limit_conn: {key: $remote_net, max: 1, zone: z}}
    """
    (found,) = refusals(tmp_path, text)
    assert found.startswith("nginy.yml:5:")
    assert 'zone: "z" counts by "$remote_addr" at nginy.yml:3:' in found
    assert found.endswith("expected the same key")


def test_rates_are_bytes_a_second(tmp_path: pathlib.Path) -> None:
    config = loaded(tmp_path, sending("proxy_upload_rate: 100k, proxy_download_rate: 10m"))
    settings = proxy_settings(config.listeners[0], 0)
    assert (settings.upload_rate, settings.download_rate) == (100 << 10, 10 << 20)
    assert load(write(tmp_path, dump(config), "dumped.yml"), {}) == config
    settings = proxy_settings(loaded(tmp_path, sending()).listeners[0], 0)
    assert (settings.upload_rate, settings.download_rate) == (0, 0)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("proxy_upload_rate: 0", 'proxy_upload_rate: "0"'),
        ("proxy_upload_rate: 10", '"10" is too small, expected a size from 1k to 1g'),
        ("proxy_download_rate: 10m/s", 'proxy_download_rate: "10m/s"'),
    ],
)
def test_a_rate_that_is_none_is_refused(tmp_path: pathlib.Path, keys: str, message: str) -> None:
    (found,) = refusals(tmp_path, sending(keys))
    assert message in found


def test_a_limit_says_at_which_level_it_is_logged(tmp_path: pathlib.Path) -> None:
    keys = """
      limit_conn: [{key: $remote_addr, max: 5}, {key: $remote_net, max: 5, log_level: info}],
      limit_conn_rate: {key: $remote_net, rate: 5, log_level: error}
    """
    first, second, rate = built(tmp_path, keys)
    assert isinstance(first, LimitConn)
    assert isinstance(second, LimitConn)
    assert isinstance(rate, LimitConnRate)
    levels = [first.log_level, second.log_level, rate.log_level]
    assert levels == [logging.WARNING, logging.INFO, logging.ERROR]
    config = loaded(tmp_path, listening(keys))
    assert load(write(tmp_path, dump(config), "dumped.yml"), {}) == config
    (found,) = refusals(
        tmp_path, listening("limit_conn: {key: $remote_addr, max: 5, log_level: all}")
    )
    assert 'log_level: "all" is not known, expected info, notice, warn or error' in found


def test_networks_that_say_nothing_new_are_warned_of(tmp_path: pathlib.Path) -> None:
    text = "accept_proxy_protocol: {from: [10.0.0.0/8, 10.1.0.0/16, 192.0.2.1]}"
    (warning,) = surprises(loaded(tmp_path, listening(text)))
    assert warning.endswith('from: "10.1.0.0/16" is redundant: earlier entries contain it')
