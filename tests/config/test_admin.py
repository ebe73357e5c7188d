"""The keys `admin` and `ready`: their values, and what would be unsafe."""

import os
import pathlib

import pytest
from nginy.config.admin import admin_listeners
from nginy.config.checking.files import check_files, read_token
from nginy.config.checking.surprises import surprises
from nginy.config.dump import dump
from nginy.errors import NginyError

from kit.configs import LISTENER, loaded, refusals

TOKEN = "0123456789abcdef0123456789abcdef"


def shown(directory: pathlib.Path, text: str) -> list[tuple[str, str]]:
    """Where the interface listens, and what clients may do there."""
    config = loaded(directory, text + LISTENER)
    entries = admin_listeners(config.admin, config.pid)
    return [(str(each), entry.may(each)) for entry in entries for each in entry.listen]


def test_without_a_word_it_is_a_socket_beside_the_pid_file(tmp_path: pathlib.Path) -> None:
    assert shown(tmp_path, "pid: /run/nginy.pid\n") == [("unix:/run/nginy.pid.sock", "full")]
    assert shown(tmp_path, "") == []
    assert shown(tmp_path, f"pid: /{'x' * 120}/nginy.pid\n") == []
    assert shown(tmp_path, "pid: /run/nginy.pid\nadmin: off\n") == []


def test_an_address_alone_is_an_entry_and_several_are_a_list(tmp_path: pathlib.Path) -> None:
    assert shown(tmp_path, "admin: 127.0.0.1:9180\n") == [("127.0.0.1:9180", "read")]
    text = "admin: [unix:/run/x, {listen: '[::1]:9180', access: metrics}]\n"
    assert shown(tmp_path, text) == [("unix:/run/x", "full"), ("[::1]:9180", "metrics")]


@pytest.mark.parametrize(
    "text",
    [
        "admin: off",
        "admin: auto",
        "admin: {listen: unix:/run/x, mode: 660, group: adm}",
        "admin: {listen: 10.0.0.1:1, allow: [10.0.0.0/8, '::1'], hosts: lb1.example.net}",
        "admin: {listen: 127.0.0.1:1, token_file: ./token, access: full}",
        "ready: {min_up: 2}",
    ],
)
def test_what_is_dumped_is_the_same_configuration(tmp_path: pathlib.Path, text: str) -> None:
    config = loaded(tmp_path, f"{text}\n{LISTENER}")
    again = loaded(tmp_path, dump(config))
    assert again == config
    assert TOKEN not in dump(config)


@pytest.mark.parametrize(
    ("admin", "said"),
    [
        (
            "{listen: 127.0.0.1:1, access: full}",
            "access: full on 127.0.0.1:1 needs a token, expected token_file",
        ),
        (
            "10.0.0.1:1",
            "listen: other machines can reach 10.0.0.1:1, expected allow or token_file with it",
        ),
        (
            "0.0.0.0:1",
            "listen: other machines can reach 0.0.0.0:1, expected allow or token_file with it",
        ),
        ("127.0.0.1:80", "listen: 127.0.0.1:80 is already listed at"),
        ("[127.0.0.1:1, 127.0.0.1:1]", "listen: 127.0.0.1:1 is already listed at"),
        ("{listen: unix:/x, allow: 127.0.0.1}", "allow: is for TCP, unix:/x has permissions"),
        ("{listen: 127.0.0.1:1, mode: 660}", "mode: is for unix sockets, expected allow"),
        ("{listen: unix:/x, mode: 999}", 'mode: "999" is not understood, expected permissions'),
        ("{listen: 127.0.0.1:1, allow: 10.0.0.1/8}", 'allow: "10.0.0.1/8" has bits set'),
        ("{listen: 127.0.0.1:1, access: write}", 'access: "write" is not known'),
        ("{lisen: 127.0.0.1:1}", 'unknown key "lisen" in an admin listener (did you mean'),
        ("[]", "an empty list"),
    ],
)
def test_what_would_be_unsafe_is_refused(tmp_path: pathlib.Path, admin: str, said: str) -> None:
    lines = refusals(tmp_path, f"admin: {admin}\n{LISTENER}")
    assert len(lines) == 1, lines
    assert said in lines[0]
    assert lines[0].startswith("nginy.yml:1:")


def test_readiness_names_upstreams_that_are_there(tmp_path: pathlib.Path) -> None:
    text = "upstreams: {web: {backends: 10.0.0.1:80}}\nready: {%s: 2}\n"
    rest = "listeners: {listen: 127.0.0.1:1, proxy_pass: web}\n"
    assert loaded(tmp_path, text % "web" + rest).ready == {"web": 2}
    assert refusals(tmp_path, text % "webb" + rest) == [
        'nginy.yml:2:8: ready: there is no upstream "webb" (did you mean "web"?)'
    ]


def token_file(directory: pathlib.Path, text: str, mode: int = 0o600) -> str:
    path = directory / "token"
    path.write_text(text)
    os.chmod(path, mode)
    return str(path)


def test_a_token_is_read_without_the_line_end(tmp_path: pathlib.Path) -> None:
    assert read_token(token_file(tmp_path, f"{TOKEN}\n")) == TOKEN.encode()
    assert read_token(token_file(tmp_path, TOKEN, 0o640)) == TOKEN.encode()


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        (TOKEN, 0o644, "is open to others, expected a file with mode 0600 or 0640"),
        (TOKEN, 0o660, "is open to others"),
        (TOKEN[1:], 0o600, "holds no token, expected one of 32 characters or more"),
        (f"{TOKEN} x", 0o600, "holds no token"),
        ("x" * 5000, 0o600, "holds no token"),
    ],
)
def test_a_token_that_is_none_is_refused_before_a_start(
    tmp_path: pathlib.Path, text: str, mode: int, said: str
) -> None:
    path = token_file(tmp_path, text, mode)
    config = loaded(tmp_path, f"admin: {{listen: 127.0.0.1:1, token_file: {path}}}\n{LISTENER}")
    [problem] = check_files(config)
    assert "token_file: " in str(problem)
    assert said in str(problem)


def test_a_token_that_is_not_there_is_no_long_wait(tmp_path: pathlib.Path) -> None:
    with pytest.raises(NginyError, match="cannot be read: No such file"):
        read_token(str(tmp_path / "none"))
    os.mkfifo(tmp_path / "pipe", 0o600)
    with pytest.raises(NginyError, match="expected a file"):
        read_token(str(tmp_path / "pipe"))


def test_a_directory_is_no_token_and_does_not_stay_open(tmp_path: pathlib.Path) -> None:
    before = os.listdir("/proc/self/fd")
    with pytest.raises(NginyError, match="cannot be read: Is a directory"):
        read_token(str(tmp_path))
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_token_that_a_network_sees_is_a_warning(tmp_path: pathlib.Path) -> None:
    for address, warnings in (("127.0.0.1:1", 0), ("10.0.0.1:1", 1)):
        text = f"admin: {{listen: {address}, token_file: ./token}}\n{LISTENER}"
        found = surprises(loaded(tmp_path, text))
        assert len(found) == warnings
        assert all("is sent without TLS" in each for each in found)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("pid: ./a\nadmin_state: ./b", ""),
        ("admin_state: ./b", "1:14: admin_state keeps nothing without an admin interface"),
        (
            "pid: ./a\nadmin_state: ./d",
            '2:14: admin_state keeps nothing because "d" is a directory',
        ),
        (
            "pid: ./a\nadmin_state: no/b",
            "2:14: admin_state keeps nothing because there is no",
        ),
        ("admin: {listen: unix:/run/a, mode: 0662}", "1:36: mode: every user of this machine may"),
        ("admin: {listen: unix:/run/a, mode: 0662, access: read}", ""),
        ("admin: {listen: unix:/run/a, mode: 0660}", ""),
    ],
)
def test_what_is_of_no_use_or_open_to_everybody_is_a_warning(
    tmp_path: pathlib.Path, text: str, said: str
) -> None:
    (tmp_path / "d").mkdir()
    found = surprises(loaded(tmp_path, f"{text}\n{LISTENER}"))
    told = [each.replace(f"{tmp_path}/", "").removeprefix("nginy.yml:") for each in found]
    assert [each[: len(said)] for each in told] == ([said] if said else [])
