"""`proxy_bind`: an address, or a text with variables, and whether it may be anybody's."""

import pathlib
import socket
from collections.abc import Callable

import pytest
from nginy.config.building.build import fixed_bind, local_end
from nginy.config.checking.files import Rights, check_files
from nginy.config.dump import dump
from nginy.config.load import load
from nginy.config.schema import Listener
from nginy.proxy.session import Session
from nginy.text.address import Address, TransparentAddress

from kit.configs import loaded, refusals, write


def binding(keys: str) -> str:
    return f"listeners: [{{listen: 127.0.0.1:80, proxy_pass: 127.0.0.1:1, {keys}}}]\n"


def listener(directory: pathlib.Path, keys: str) -> Listener:
    config = loaded(directory, binding(keys))
    assert load(write(directory, dump(config), "dumped.yml"), {}) == config
    return config.listeners[0]


def as_it_is(text: str) -> Callable[[Session], str]:
    return lambda _session: text


def test_an_address_is_the_same_for_all(tmp_path: pathlib.Path) -> None:
    for keys in ("proxy_bind: 192.0.2.1", "proxy_bind: {address: 192.0.2.1}"):
        bind = listener(tmp_path, keys).proxy_bind
        assert fixed_bind(bind) == Address(socket.AF_INET, "192.0.2.1")
        assert local_end(bind, as_it_is) is None


def test_it_may_be_transparent(tmp_path: pathlib.Path) -> None:
    bind = listener(tmp_path, 'proxy_bind: {address: "2001:db8::1", transparent: on}').proxy_bind
    assert fixed_bind(bind) == TransparentAddress(socket.AF_INET6, "2001:db8::1")


@pytest.mark.parametrize("text", ["$remote_addr", "[$remote_addr]:$remote_port", "$pool"])
def test_a_text_with_variables_is_worked_out_for_each(tmp_path: pathlib.Path, text: str) -> None:
    variables = "variables: {pool: {geo: $remote_addr, values: {10.0.0.0/8: 192.0.2.1}}}\n"
    config = loaded(tmp_path, variables + binding(f'proxy_bind: "{text}"'))
    bind = config.listeners[0].proxy_bind
    assert fixed_bind(bind) is None
    assert local_end(bind, as_it_is) is not None
    listener(tmp_path, "proxy_bind: off")


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            'proxy_bind: "$remote_addr:$remote_port"',
            (
                'brackets, expected an IP address such as 127.0.0.2 or "[::1]", or a text such as'
                ' $remote_addr (did you mean "[$remote_addr]:$remote_port"?)'
            ),
        ),
        ("proxy_bind: $remote", "names unknown variables ($remote)"),
        ("proxy_bind: $bytes_sent", "which is known only when a session ends"),
        ("proxy_bind: $remote_addr x", "has words after the address"),
        ("proxy_bind: {transparent: on}", '"address" is missing'),
        ("proxy_bind: {address: 192.0.2.1, transparent: often}", 'transparent: "often"'),
        ("proxy_bind: on", 'proxy_bind: "on" is a host name'),
        ("proxy_bind: unix:/run/x", "is not an IP address"),
    ],
)
def test_a_mistake_is_named(tmp_path: pathlib.Path, keys: str, message: str) -> None:
    (found,) = refusals(tmp_path, binding(keys))
    assert message in found


def without_right(_sock: socket.socket) -> None:
    raise PermissionError(1, "Operation not permitted")


def with_right(_sock: socket.socket) -> None:
    pass


def test_a_start_without_the_right_is_refused(tmp_path: pathlib.Path) -> None:
    config = loaded(tmp_path, binding("proxy_bind: {address: $remote_addr, transparent: on}"))
    (problem,) = check_files(config, Rights(without_right))
    assert str(problem).endswith(
        "transparent: needs a right that this process lacks (Operation not permitted), expected"
        " the capability CAP_NET_ADMIN (systemd: AmbientCapabilities=)"
    )
    assert (problem.line, problem.column) == (1, 110)
    assert check_files(config, Rights(with_right, lambda: 1)) == []


def test_a_user_that_root_becomes_has_no_such_right(tmp_path: pathlib.Path) -> None:
    text = "user: nobody\n" + binding("proxy_bind: {address: $remote_addr, transparent: on}")
    config = loaded(tmp_path, text)
    (problem,) = check_files(config, Rights(with_right, lambda: 0))
    assert 'transparent: needs a right that user "nobody" lacks' in str(problem)


def test_without_the_key_nobody_asks_for_the_right(tmp_path: pathlib.Path) -> None:
    config = loaded(tmp_path, binding("proxy_bind: $remote_addr"))
    assert check_files(config, Rights(without_right)) == []
