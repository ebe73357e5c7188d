"""The meaning of a file: values in nginy's own units, defaults, and inheritance."""

import dataclasses
import pathlib

import pytest
from nginy.config.balance import Balance
from nginy.config.dump import dump
from nginy.config.keepalive import SoKeepalive
from nginy.config.load import load
from nginy.config.logs import SILENT, AccessLogSettings, ErrorLogSettings
from nginy.config.schema import Config, Listener, NextUpstream
from nginy.text.address import Address

from kit.configs import LISTENER, loaded, refusals, write


def listener(directory: pathlib.Path, keys: str, above: str = "") -> Listener:
    text = f"{above}\nlisteners: [{{listen: 127.0.0.1:80, return: x, {keys}}}]\n"
    return loaded(directory, text).listeners[0]


def test_the_least_configuration_has_the_documented_defaults(tmp_path: pathlib.Path) -> None:
    config = loaded(tmp_path, LISTENER)
    assert (config.worker_connections, config.worker_shutdown_timeout_ms) == (16384, 30_000)
    assert (config.shutdown_grace_ms, config.user, config.pid) == (None, None, None)
    assert (config.error_log.path, config.error_log.level) == ("stderr", "notice")
    assert (config.access_log, config.log_formats, config.upstreams) == ((), {}, {})
    tcp = config.listeners[0]
    assert (tcp.protocol, tcp.backlog, tcp.so_keepalive, tcp.tcp_nodelay) == (
        "tcp",
        511,
        SoKeepalive(idle_ms=75_000, interval_ms=15_000, count=4),
        True,
    )
    assert (tcp.proxy_connect_timeout_ms, tcp.proxy_timeout_ms) == (60_000, 600_000)
    assert (tcp.proxy_half_close, tcp.proxy_next_upstream) == (True, NextUpstream())
    assert (tcp.proxy_buffer_size_bytes, tcp.proxy_splice) == (65_536, True)
    assert tcp.proxy_bind is None
    assert (tcp.proxy_requests, tcp.proxy_responses, tcp.max_sessions) == (0, None, None)


def test_a_backend_has_nginx_s_defaults(tmp_path: pathlib.Path) -> None:
    config = loaded(tmp_path, f"upstreams: {{web: {{backends: 127.0.0.1:1}}}}\n{LISTENER}")
    (backend,) = config.upstreams["web"].backends
    assert str(backend.address) == "127.0.0.1:1"
    assert (backend.weight, backend.max_conns) == (1, 0)
    assert (backend.max_fails, backend.fail_timeout_ms) == (1, 10_000)
    assert (backend.backup, backend.down) == (False, False)


def test_a_udp_listener_waits_a_minute_unless_told_otherwise(tmp_path: pathlib.Path) -> None:
    assert listener(tmp_path, "protocol: udp").proxy_timeout_ms == 60_000
    assert listener(tmp_path, "protocol: udp, proxy_timeout: 5s").proxy_timeout_ms == 5000
    above = "defaults: {proxy_timeout: 7s}"
    assert listener(tmp_path, "protocol: udp", above).proxy_timeout_ms == 7000
    assert listener(tmp_path, "protocol: udp", "defaults: {backlog: 1}").backlog == 511


@pytest.mark.parametrize(
    ("keys", "field", "value"),
    [
        ("proxy_timeout: 1m30s", "proxy_timeout_ms", 90_000),
        ("proxy_timeout: off", "proxy_timeout_ms", None),
        ("proxy_buffer_size: 16k", "proxy_buffer_size_bytes", 16_384),
        ("proxy_splice: off", "proxy_splice", False),
        ("proxy_half_close_timeout: off", "proxy_half_close_timeout_ms", None),
        ("proxy_half_close_timeout: 20s", "proxy_half_close_timeout_ms", 20_000),
        ("proxy_half_close: no", "proxy_half_close", False),
        ("proxy_half_close: True", "proxy_half_close", True),
        ("proxy_half_close: 'off'", "proxy_half_close", False),
        (
            "so_keepalive: on",
            "so_keepalive",
            SoKeepalive(idle_ms=None, interval_ms=None, count=None),
        ),
        (
            "so_keepalive: {idle: 30s}",
            "so_keepalive",
            SoKeepalive(idle_ms=30_000, interval_ms=15_000, count=4),
        ),
        ("so_keepalive: off", "so_keepalive", None),
        (
            "so_keepalive: {idle: 30s, interval: 10s, count: 3}",
            "so_keepalive",
            SoKeepalive(idle_ms=30_000, interval_ms=10_000, count=3),
        ),
        ("proxy_next_upstream: off", "proxy_next_upstream", None),
        (
            "proxy_next_upstream: {tries: 2, timeout: 3s}",
            "proxy_next_upstream",
            NextUpstream(tries=2, timeout_ms=3000),
        ),
        ("protocol: udp, proxy_next_upstream: off", "proxy_next_upstream", None),
        ("protocol: udp, proxy_responses: 0", "proxy_responses", 0),
        ("protocol: udp, proxy_responses: off", "proxy_responses", None),
        ("protocol: udp, max_sessions: 5", "max_sessions", 5),
        ("protocol: udp, udp_offload: off", "udp_offload", False),
        ("name: everything", "name", "everything"),
    ],
)
def test_a_key_has_its_value_in_nginy_s_units(
    tmp_path: pathlib.Path, keys: str, field: str, value: object
) -> None:
    assert getattr(listener(tmp_path, keys), field) == value


def test_a_listener_has_all_addresses_of_its_lists_and_ranges(tmp_path: pathlib.Path) -> None:
    text = "listeners: {listen: [127.0.0.1:10-12, '[::1]:80', unix:/run/x], return: x}\n"
    addresses = loaded(tmp_path, text).listeners[0].listen
    assert [str(address) for address in addresses] == [
        "127.0.0.1:10",
        "127.0.0.1:11",
        "127.0.0.1:12",
        "[::1]:80",
        "unix:/run/x",
    ]


def test_what_is_bound_needs_no_port(tmp_path: pathlib.Path) -> None:
    bind = listener(tmp_path, "proxy_bind: 127.0.0.2").proxy_bind
    assert bind is not None
    assert isinstance(bind.address, Address)
    assert bind.address.sockaddr == ("127.0.0.2", 0)


@pytest.mark.parametrize(
    ("value", "balance"),
    [
        ("round_robin", Balance("round_robin")),
        ("least_conn", Balance("least_conn")),
        ("random", Balance("random")),
        ("{random: two}", Balance("random", "two")),
        ("{hash: $remote_addr}", Balance("hash", "$remote_addr")),
        (
            "{consistent: on, hash: '$remote_addr:$remote_port'}",
            Balance("hash", "$remote_addr:$remote_port", consistent=True),
        ),
        (
            "{hash: $remote_addr, consistent: on, bounded_load: 1.25}",
            Balance("hash", "$remote_addr", consistent=True, bounded_load=1.25),
        ),
        ("{maglev: $remote_addr}", Balance("maglev", "$remote_addr")),
        ("{rendezvous: $remote_addr}", Balance("rendezvous", "$remote_addr")),
        ("{least_time: first_byte}", Balance("least_time", "first_byte")),
    ],
)
def test_a_balancing_method_is_a_word_or_a_mapping(
    tmp_path: pathlib.Path, value: str, balance: Balance
) -> None:
    upstreams = f"upstreams: {{web: {{balance: {value}, backends: 127.0.0.1:1}}}}"
    assert loaded(tmp_path, f"{upstreams}\n{LISTENER}").upstreams["web"].balance == balance


METHODS = (
    "round_robin, least_conn, least_time, random, hash, maglev, rendezvous, or a mapping such as"
    " {hash: $remote_addr}"
)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("[hash]", f"28: balance: a list, expected {METHODS}"),
        ("~", f"28: balance: no value, expected {METHODS}"),
        (
            "least_con",
            (
                f'28: balance: "least_con" is not known, expected {METHODS}'
                ' (did you mean "least_conn"?)'
            ),
        ),
        (
            "{hsah: x}",
            (f'29: balance: "hsah" is not known, expected {METHODS} (did you mean "hash"?)'),
        ),
        ("hash", "28: balance: hash needs a key, expected {hash: $remote_addr}"),
        ("maglev", "28: balance: maglev needs a key, expected {maglev: $remote_addr}"),
        ("least_time", "28: balance: least_time needs a time, expected {least_time: first_byte}"),
        (
            "{least_time: middle}",
            '41: balance: "middle" is not known, expected connect, first_byte or last_byte',
        ),
        (
            "{hash: x, consistent: on, bounded_load: 0.5}",
            '68: balance: "0.5" is too small, expected a number from 1 to 100 such as 1.25, or off',
        ),
        (
            "{hash: x, consistent: on, bounded_load: lots}",
            (
                '68: balance: "lots" is not a number, expected a number from 1 to 100 such as'
                " 1.25, or off"
            ),
        ),
        ("{hash: x, bounded_load: 2}", "28: balance: bounded_load needs consistent: true"),
        ("{least_conn: x}", "41: balance: least_conn takes no value, expected the word"),
        ("{random: three}", '37: balance: "three" is not known, expected two'),
        ("{random: two, consistent: on}", "42: balance: consistent cannot be combined with random"),
        ("{hash: x, consistent: maybe}", '50: balance: "maybe" is not valid, expected on or off'),
        (
            "{hash: $x}",
            (
                '35: balance: "$x" names unknown variables ($x), expected a key such as'
                " $remote_addr or $remote_addr:$remote_port"
            ),
        ),
        ("{consistent: on}", "28: balance: no method, expected one method"),
        ("{hash: x, random: two}", "28: balance: hash and random, expected one method"),
    ],
)
def test_a_wrong_balancing_method_is_refused(
    tmp_path: pathlib.Path, value: str, message: str
) -> None:
    upstreams = f"upstreams: {{web: {{balance: {value}, backends: 127.0.0.1:1}}}}"
    assert refusals(tmp_path, f"{upstreams}\n{LISTENER}") == [f"nginy.yml:1:{message}"]


# Inheritance.


def test_defaults_reach_listeners_and_upstreams_that_do_not_set_the_key(
    tmp_path: pathlib.Path,
) -> None:
    text = """\
        listeners:
          - {listen: 127.0.0.1:1, proxy_pass: web}
          - {listen: 127.0.0.1:2, proxy_pass: own, backlog: 5}
        upstreams:
          web: {backends: 127.0.0.1:9}
          own: {backends: 127.0.0.1:9, balance: random}
        defaults: {backlog: 9, balance: least_conn, proxy_responses: 3}
        """
    config = loaded(tmp_path, text)
    assert [listener.backlog for listener in config.listeners] == [9, 5]
    assert [listener.proxy_responses for listener in config.listeners] == [None, None]
    assert config.upstreams["web"].balance.method == "least_conn"
    assert config.upstreams["own"].balance.method == "random"


def test_the_protocol_may_be_a_default_and_decides_about_the_others(
    tmp_path: pathlib.Path,
) -> None:
    above = "defaults: {protocol: udp, proxy_responses: 3, backlog: 9}"
    udp = listener(tmp_path, "", above)
    assert (udp.protocol, udp.proxy_responses, udp.backlog) == ("udp", 3, 511)
    assert udp.proxy_timeout_ms == 60_000


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ("5", '11: defaults: "5", expected keys of listeners and upstreams'),
        (
            "{listen: 127.0.0.1:1}",
            "12: defaults: listen cannot have a default, expected it in each listener or upstream",
        ),
        (
            "{bcklog: 1}",
            '12: defaults: unknown key "bcklog" (did you mean "backlog"?)',
        ),
        ("{backlog: 0}", '21: backlog: "0" is too small, expected a whole number from 1'),
    ],
)
def test_wrong_defaults_are_refused_once(tmp_path: pathlib.Path, value: str, message: str) -> None:
    listeners = "[{listen: 127.0.0.1:1, return: x}, {listen: 127.0.0.1:2, return: x}]"
    assert refusals(tmp_path, f"defaults: {value}\nlisteners: {listeners}\n") == [
        f"nginy.yml:1:{message}"
    ]


def test_the_access_log_of_the_file_is_that_of_listeners_without_one(
    tmp_path: pathlib.Path,
) -> None:
    above = "access_log: {path: /a, format: json, buffer: 64k, flush: 1s}"
    whole = AccessLogSettings(path="/a", format="json", buffer_bytes=65_536, flush_ms=1000)
    assert listener(tmp_path, "", above).access_log == (whole,)
    assert listener(tmp_path, "access_log: off", above).access_log == ()
    b, c = AccessLogSettings(path="/b"), AccessLogSettings(path="/c", if_="$status")
    assert listener(tmp_path, "access_log: /b", above).access_log == (b,)
    above += "\ndefaults: {access_log: [/b, {path: /c, if: $status}]}"
    assert listener(tmp_path, "", above).access_log == (b, c)


@pytest.mark.parametrize(
    "path",
    [
        "stderr",
        "stdout",
        "/var/log/x",
        "syslog:127.0.0.1:514",
        "syslog:[::1]:514",
        "syslog:unix:/dev/log",
    ],
)
def test_a_log_goes_to_a_file_to_stderr_or_to_syslog(tmp_path: pathlib.Path, path: str) -> None:
    config = loaded(tmp_path, f"error_log: '{path}'\naccess_log: {{path: '{path}'}}\n{LISTENER}")
    assert config.error_log.path == path
    assert config.access_log == (AccessLogSettings(path=path),)


def test_a_listener_may_have_an_error_log_of_its_own(tmp_path: pathlib.Path) -> None:
    assert listener(tmp_path, "", "error_log: /x").error_log is None
    assert listener(tmp_path, "error_log: auto").error_log is None
    assert listener(tmp_path, "error_log: off").error_log == SILENT
    own = ErrorLogSettings(path="/y", level="info")
    assert listener(tmp_path, "error_log: {path: /y, level: info}").error_log == own
    above = "defaults: {error_log: {path: /y, level: info}}"
    assert listener(tmp_path, "", above).error_log == own


@pytest.mark.parametrize("text", ["auto", "off", "/y", "{path: /y, level: debug}"])
def test_an_error_log_of_a_listener_is_dumped_as_it_is_read(
    tmp_path: pathlib.Path, text: str
) -> None:
    config = loaded(tmp_path, f"listeners: {{listen: 127.0.0.1:80, return: x, error_log: {text}}}")
    assert load(write(tmp_path, dump(config), "dumped.yml"), {}) == config


def test_words_that_are_no_error_log(tmp_path: pathlib.Path) -> None:
    text = "listeners: {listen: 127.0.0.1:80, return: x, error_log: "
    assert refusals(tmp_path, f"{text}on}}") == [
        (
            'nginy.yml:1:57: error_log: "on" is a word, not a path, expected the path of a file,'
            " stderr, stdout or syslog:HOST:PORT"
        )
    ]


# What follows from other keys.


def test_an_address_in_proxy_pass_is_an_upstream_of_one_backend(tmp_path: pathlib.Path) -> None:
    text = """\
        listeners: {listen: 127.0.0.1:1, proxy_pass: "[::1]:9"}
        defaults: {balance: least_conn}
        """
    config = loaded(tmp_path, text)
    assert config.listeners[0].proxy_pass == "[::1]:9"
    upstream = config.upstreams["[::1]:9"]
    assert [backend.address.name for backend in upstream.backends] == ["[::1]:9"]
    assert upstream.balance.method == "least_conn"


def test_an_upstream_named_like_an_address_comes_before_the_address(
    tmp_path: pathlib.Path,
) -> None:
    text = """\
        listeners: {listen: 127.0.0.1:1, proxy_pass: 127.0.0.1:9}
        upstreams: {127.0.0.1:9: {backends: 127.0.0.1:10}}
        """
    upstream = loaded(tmp_path, text).upstreams["127.0.0.1:9"]
    assert [str(backend.address) for backend in upstream.backends] == ["127.0.0.1:10"]


# The value as a whole.


def test_where_a_value_was_written_does_not_count_for_equality(tmp_path: pathlib.Path) -> None:
    first = loaded(tmp_path, LISTENER)
    second = loaded(tmp_path, f"# moved\n\n{LISTENER}")
    assert first == second
    assert first.listeners[0].origin != second.listeners[0].origin
    assert str(second.listeners[0].origin.of("listen")) == f"{tmp_path}/nginy.yml:3:21"
    assert second != loaded(tmp_path, f"worker_connections: 5\n{LISTENER}")


def test_a_configuration_cannot_be_changed(tmp_path: pathlib.Path) -> None:
    config = loaded(tmp_path, LISTENER)
    with pytest.raises(dataclasses.FrozenInstanceError):
        setattr(config, "pid", "x")  # noqa: B010 - what mypy would refuse


def test_a_configuration_can_be_made_without_a_file() -> None:
    assert Config().listeners == ()


@pytest.mark.parametrize(
    ("text", "directory", "pid"),
    [
        ("", "", None),
        ("", "/run/nginy", "/run/nginy/nginy.pid"),
        ("", "/run/a:/run/b", "/run/a/nginy.pid"),
        ("pid: off\n", "/run/nginy", None),
        ("pid: /run/x\n", "/run/nginy", "/run/x"),
    ],
)
def test_a_service_has_its_pid_file_where_the_manager_wants_it(
    tmp_path: pathlib.Path, text: str, directory: str, pid: str | None
) -> None:
    environ = {"RUNTIME_DIRECTORY": directory} if directory else {}
    assert loaded(tmp_path, f"{text}{LISTENER}", environ).pid == pid
