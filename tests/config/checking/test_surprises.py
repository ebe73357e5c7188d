"""Warnings: configurations that load, but are probably a mistake."""

import pathlib

import pytest
from nginy.config.checking.surprises import surprises
from nginy.config.load import load

from kit.configs import LISTENER, loaded, write


def warned(directory: pathlib.Path, text: str) -> list[str]:
    return [w.replace(f"{directory}/", "") for w in surprises(loaded(directory, text))]


def serving(keys: str, backends: str = "127.0.0.1:1") -> str:
    """An upstream that is used."""
    return (
        "listeners: {listen: 127.0.0.1:80, proxy_pass: web}\n"
        f"upstreams:\n  web:\n    backends: [{backends}]\n    {keys}\n"
    )


def test_an_upstream_that_can_serve_nobody_is_warned_of(tmp_path: pathlib.Path) -> None:
    down = "{address: '127.0.0.1:1', down: on}"
    assert warned(tmp_path, serving("", f"{down}, 127.0.0.1:2")) == []
    assert warned(tmp_path, serving("", down)) == [
        (
            'nginy.yml:4:15: all backends of upstream "web" are down, so its sessions end at once,'
            " with status 502"
        )
    ]


def test_a_check_that_mysql_counts_as_an_error_is_warned_of(tmp_path: pathlib.Path) -> None:
    assert warned(tmp_path, serving("health_check: {type: mysql, user: nginy}")) == []
    assert warned(tmp_path, serving("health_check: mysql")) == [
        (
            "nginy.yml:5:19: health_check mysql without a user counts as a connect error: MySQL"
            " blocks it after 100 (max_connect_errors), expected a user"
        )
    ]


def test_a_backend_that_is_there_twice_is_warned_of(tmp_path: pathlib.Path) -> None:
    repeated = "127.0.0.1:1, 127.0.0.1:2, {address: '127.0.0.1:1', weight: 2}"
    assert warned(tmp_path, serving("", repeated)) == [
        (
            "nginy.yml:4:52: backend 127.0.0.1:1 is already listed at nginy.yml:4:16, expected it"
            " once with a weight"
        )
    ]
    services = "{address: a.test, service: http}, {address: a.test, service: imap}"
    assert warned(tmp_path, serving("", services)) == []


def test_an_address_that_no_server_has_is_warned_of(tmp_path: pathlib.Path) -> None:
    """As where a name has it (backend/names/), but a literal address may be meant."""
    nobody, group = "is not the address of a server", "is the address of a group of machines"
    cases = {
        "0.0.0.0:81": nobody,
        "[::]:81": nobody,
        "[::ffff:0.0.0.0]:81": nobody,
        "224.0.0.1:81": group,
        "255.255.255.255:81": group,
        "[ff02::1]:81": group,
    }
    backends = ", ".join(f"'{address}'" for address in cases)
    found = warned(tmp_path, serving("", f"{backends}, '127.0.0.1:1', 'unix:/x', 'a.test:80'"))
    assert [warning.partition(": ")[2] for warning in found] == [
        f"backend {address} {why}, expected a server's own" for address, why in cases.items()
    ]
    assert found[0].startswith("nginy.yml:4:16: ")


def test_a_log_of_a_listener_that_seems_to_take_the_path_from_above_is_warned_of(
    tmp_path: pathlib.Path,
) -> None:
    own = "{listen: 127.0.0.1:80, return: hello, access_log: {empty: off}}\n"
    assert warned(tmp_path, f"listeners: {own}") == []
    assert warned(tmp_path, f"access_log: stderr\nlisteners: {own}") == [
        (
            "nginy.yml:2:62: access_log has no path, so this listener's lines go to stderr, not"
            " where access_log at the top says"
        )
    ]


def test_an_upstream_that_nobody_uses_is_warned_of(tmp_path: pathlib.Path) -> None:
    text = f"{LISTENER}upstreams: {{old: {{backends: 127.0.0.1:1}}}}\n"
    assert warned(tmp_path, text) == ['nginy.yml:2:18: no listener leads to upstream "old"']


def test_an_include_that_matches_nothing_is_warned_of(tmp_path: pathlib.Path) -> None:
    (tmp_path / "there").mkdir()
    write(tmp_path, "pid: off\n", "there/a.yml")
    text = f"include: [conf.d/*.yml, there/*.yml]\n{LISTENER}"
    assert warned(tmp_path, text) == ['nginy.yml:1:11: include: no file matches "conf.d/*.yml"']


@pytest.mark.parametrize(("key", "hint"), [("abc", "remote_addr"), ("server_port", "server_port")])
def test_a_key_without_a_variable_is_warned_of(tmp_path: pathlib.Path, key: str, hint: str) -> None:
    (warning,) = warned(tmp_path, serving(f"balance: {{hash: {key}}}"))
    assert warning == (
        f'nginy.yml:5:14: the key "{key}" has no variable, so one backend gets every client'
        f" (did you mean ${hint}?)"
    )


def test_weights_that_do_not_act_are_warned_of(tmp_path: pathlib.Path) -> None:
    keys = "balance: {maglev: $remote_addr}\n    agent_check: 99"
    assert warned(tmp_path, serving(keys)) == [
        "nginy.yml:6:18: balance maglev ignores the weights of agent_check"
    ]
    assert warned(tmp_path, serving("agent_check: 99")) == []


@pytest.mark.parametrize(
    ("keys", "is_odd"),
    [
        ("health_check: {send: PING}", True),
        ("health_check: {type: tls, send: HELP}", True),
        ("agent_check: {port: 1, send: web1}", True),
        (r'health_check: {send: "PING\r\n"}', False),
        (r"health_check: {send: PING\n}", False),
        (r"health_check: {send: '\x01\x02'}", False),
        ("health_check: {type: udp, send: PING}", False),
        ("health_check: {send: ruok, expect: imok}", False),
    ],
)
def test_a_line_without_its_end_is_warned_of(
    tmp_path: pathlib.Path, keys: str, is_odd: bool
) -> None:
    found = warned(tmp_path, serving(keys))
    assert len(found) == is_odd
    assert all("has no line end, expected" in warning for warning in found)
    # it may be a password
    assert not any(text in warning for text in ("PING", "HELP", "web1") for warning in found)


def test_no_warning_quotes_a_value_of_the_environment(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path, serving("balance: {hash: '${HUSH}'}"))
    for value in ("hush-hush", "hush-" * 20):
        (warning,) = surprises(load(path, {"HUSH": value}))
        assert 'the key "***' in warning
        assert "hush" not in warning


def test_a_condition_without_a_variable_is_warned_of(tmp_path: pathlib.Path) -> None:
    config = loaded(
        tmp_path,
        "access_log: [{path: ./a, if: on}, {path: ./b, if: $status}]\n" + LISTENER,
    )
    (found,) = surprises(config)
    assert found.endswith('1:30: if: "on" has no variable, so it is the same for every session')
