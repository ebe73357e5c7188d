"""Several files as one, the environment in their values, and files that cannot be read."""

import os
import pathlib

import pytest
from nginy.config.load import load
from nginy.config.logs import LogFormat
from nginy.errors import ConfigError

from kit.configs import LISTENER, loaded, messages, refusals, write


def problems(path: pathlib.Path, directory: pathlib.Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        load(str(path), {})
    return messages(caught.value, directory)


# Including.


def test_included_files_are_joined_in_alphabetical_order(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "listeners: {listen: 127.0.0.1:2, return: b}\n", "conf.d/b.yml")
    write(tmp_path, "listeners: [{listen: 127.0.0.1:1, return: a}]\n", "conf.d/a.yml")
    write(tmp_path, "listeners: nonsense\n", "conf.d/c.yaml")
    config = loaded(
        tmp_path, "include: conf.d/*.yml\nlisteners: [{listen: 127.0.0.1:3, return: c}]\n"
    )
    assert [listener.return_ for listener in config.listeners] == ["c", "a", "b"]


def test_included_mappings_are_joined_by_name(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "upstreams: {a: {backends: 127.0.0.1:1}}\n", "a.yml")
    write(tmp_path, "log_formats: {x: $status}\ndefaults: {backlog: 7}\n", "b.yml")
    text = f"""\
        include: [a.yml, b.yml]
        upstreams: {{b: {{backends: 127.0.0.1:2}}}}
        defaults: {{tcp_nodelay: off}}
        {LISTENER}"""
    config = loaded(tmp_path, text)
    assert sorted(config.upstreams) == ["a", "b"]
    assert config.log_formats == {"x": LogFormat(text="$status")}
    assert (config.listeners[0].backlog, config.listeners[0].tcp_nodelay) == (7, False)


def test_no_match_of_a_pattern_is_fine_and_a_missing_file_is_not(tmp_path: pathlib.Path) -> None:
    loaded(tmp_path, f"include: none/*.yml\n{LISTENER}")
    assert refusals(tmp_path, f"include: [none/*.yml, none/a.yml]\n{LISTENER}") == [
        'nginy.yml:1:23: include: "none/a.yml" cannot be read: No such file or directory'
    ]


def test_a_file_that_is_included_may_be_empty(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "# nothing\n", "a.yml")
    loaded(tmp_path, f"include: a.yml\n{LISTENER}")


def test_relative_paths_count_from_the_file_that_names_them(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "include: sub/b.yml\npid: run/nginy.pid\n", "etc/a.yml")
    write(tmp_path, f"access_log: /var/log/x.log\n{LISTENER}", "etc/sub/b.yml")
    config = loaded(tmp_path, "include: etc/a.yml\nerror_log: logs/error.log\n")
    assert config.pid == f"{tmp_path}/etc/run/nginy.pid"
    assert config.error_log.path == f"{tmp_path}/logs/error.log"
    assert [log.path for log in config.access_log] == ["/var/log/x.log"]


def test_a_directory_with_wildcards_in_its_name_is_taken_as_it_is(tmp_path: pathlib.Path) -> None:
    write(tmp_path, LISTENER, "[x]/conf.d/a.yml")
    path = write(tmp_path, "include: conf.d/*.yml\n", "[x]/nginy.yml")
    assert len(load(path, {}).listeners) == 1


def test_a_name_or_setting_of_two_files_is_named_with_both_places(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "pid: off\nupstreams:\n  web: {backends: 127.0.0.1:1}\n", "a.yml")
    text = f"include: a.yml\npid: ./x\nupstreams: {{web: {{backends: 127.0.0.1:1}}}}\n{LISTENER}"
    assert refusals(tmp_path, text) == [
        'a.yml:1:1: include: "pid" is already set at nginy.yml:2:1',
        'a.yml:3:3: include: "web" is already set at nginy.yml:3:13',
    ]


def test_mistakes_of_all_files_are_reported(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "nonsense: 1\n", "a.yml")
    text = f"include: a.yml\nworker_connections: 0\n{LISTENER}"
    assert refusals(tmp_path, text) == [
        'a.yml:1:1: unknown key "nonsense" in the configuration',
        'nginy.yml:2:21: worker_connections: "0" is too small, expected a whole number from 1',
    ]


def test_syntax_errors_of_all_files_are_reported_and_no_others(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "a:\n\tb: 1\n", "a.yml")
    write(tmp_path, "- 1\n", "b.yml")
    assert refusals(tmp_path, "include: [a.yml, b.yml]\nworker_connections: 0\n") == [
        "a.yml:2:1: include: a tab, expected spaces",
        "b.yml:1:1: include: a list, expected a mapping with keys such as listeners",
    ]


def test_an_include_loop_is_named(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "include: b.yml\n", "a.yml")
    write(tmp_path, "include: nginy.yml\n", "b.yml")
    assert refusals(tmp_path, f"include: a.yml\n{LISTENER}") == [
        'b.yml:1:10: include: "nginy.yml" includes itself'
    ]


def test_an_include_loop_through_a_link_is_named(tmp_path: pathlib.Path) -> None:
    (tmp_path / "link.yml").symlink_to("nginy.yml")
    assert refusals(tmp_path, f"include: link.yml\n{LISTENER}") == [
        'nginy.yml:1:10: include: "link.yml" includes itself'
    ]


def test_includes_are_bounded_in_depth(tmp_path: pathlib.Path) -> None:
    for number in range(12):
        write(tmp_path, f"include: {number + 1}.yml\n", f"{number}.yml")
    assert refusals(tmp_path, f"include: 0.yml\n{LISTENER}") == [
        '7.yml:1:10: include: "8.yml" is more than 8 files deep'
    ]


def test_includes_are_bounded_in_number(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "", "a.yml")
    text = f"include: [{', '.join(['a.yml'] * 1002)}]\n{LISTENER}"
    found = refusals(tmp_path, text)
    assert len(found) == 2
    assert found[0].endswith("include: more than 1000 files")


@pytest.mark.parametrize(
    ("value", "found"), [("{a: b}", "a mapping"), ("", "no value"), ("[[a]]", "a list")]
)
def test_an_include_is_a_path(tmp_path: pathlib.Path, value: str, found: str) -> None:
    (line,) = refusals(tmp_path, f"include: {value}\n{LISTENER}")
    assert line.endswith(f"include: {found}, expected a path such as conf.d/*.yml")


# The environment.


def test_the_environment_is_filled_in_after_parsing(tmp_path: pathlib.Path) -> None:
    text = """\
        listeners:
          listen: ${HOST}:${PORT:-8080}
          return: 'to $remote_addr: ${TEXT}'
        """
    environ = {"HOST": "127.0.0.1", "TEXT": "[a, b]: {c: d}\n# e"}
    listener = loaded(tmp_path, text, environ).listeners[0]
    assert str(listener.listen[0]) == "127.0.0.1:8080"
    assert listener.return_ == "to $remote_addr: [a, b]: {c: d}\n# e"


@pytest.mark.parametrize(
    ("text", "environ", "value"),
    [
        ("${A}", {"A": "x"}, "x"),
        ("${A}", {"A": ""}, ""),
        ("${A:-}", {}, ""),
        ("${A:-b c}", {}, "b c"),
        ("${A:-b}", {"A": ""}, "b"),
        ("${A:-b}", {"A": "x"}, "x"),
        ("${A:-b:-c}", {}, "b:-c"),
        ("${A}${A}", {"A": "x"}, "xx"),
        ("${A}", {"A": "${A}"}, "${A}"),
    ],
)
def test_a_reference_is_what_a_shell_makes_of_it(
    tmp_path: pathlib.Path, text: str, environ: dict[str, str], value: str
) -> None:
    config = loaded(tmp_path, f"{LISTENER}pid: './<{text}>.pid'", environ)
    assert config.pid == f"{tmp_path}/<{value}>.pid"


def test_a_byte_of_the_environment_that_is_no_text_is_refused_or_sent_as_it_is(
    tmp_path: pathlib.Path,
) -> None:
    text = "listeners: {listen: 127.0.0.1:80, return: '${A}', name: '${A}'}\n"
    assert refusals(tmp_path, text, {"A": "x\udcff"}) == [
        'nginy.yml:1:57: name: "${A}" has a byte that is not UTF-8'
    ]
    text = text.replace(", name: '${A}'", "")
    assert loaded(tmp_path, text, {"A": "x\udcff"}).listeners[0].return_ == "x\udcff"


def test_keys_are_not_filled_in(tmp_path: pathlib.Path) -> None:
    assert refusals(tmp_path, "'${A}': 1\n" + LISTENER, {"A": "pid"}) == [
        'nginy.yml:1:1: unknown key "${A}" in the configuration'
    ]


def test_a_missing_variable_is_named_once_and_hides_no_other_mistake(
    tmp_path: pathlib.Path,
) -> None:
    text = """\
        upstreams: {web: {backends: ["${A}", {address: "${B}", backup: true}]}}
        listeners:
          - {listen: "${C}", proxy_pass: "${D}"}
          - {listen: 127.0.0.1:1, proxy_pass: web, backlog: "${E}", proxy_timeout: 0}
        """
    lines = refusals(tmp_path, text)
    assert [line.removesuffix(" is not set, expected it or a default") for line in lines] == [
        "nginy.yml:1:30: the environment variable A",
        "nginy.yml:1:48: the environment variable B",
        "nginy.yml:3:14: the environment variable C",
        "nginy.yml:3:34: the environment variable D",
        "nginy.yml:4:53: the environment variable E",
        (
            'nginy.yml:4:76: proxy_timeout: "0" would be over at once, expected a duration such as'
            ' 500ms, 10s or 1m30s, or off (did you mean "off"?)'
        ),
    ]


def test_a_value_with_two_missing_variables_has_one_message(tmp_path: pathlib.Path) -> None:
    text = "listeners: {listen: 127.0.0.1:1, return: '${A} ${B}'}"
    assert refusals(tmp_path, text) == [
        "nginy.yml:1:42: the environment variable A is not set, expected it or a default"
    ]


def test_nginx_braces_around_a_variable_are_explained(tmp_path: pathlib.Path) -> None:
    text = "listeners: {listen: 127.0.0.1:1, return: '${remote_addr}'}"
    assert refusals(tmp_path, text) == [
        (
            "nginy.yml:1:42: the environment variable remote_addr is not set, expected it or a"
            ' default (did you mean "$remote_addr"?)'
        )
    ]


@pytest.mark.parametrize("text", ["${", "${A", "${}", "${1}", "${A-b}", "${A B}"])
def test_a_malformed_reference_is_refused(tmp_path: pathlib.Path, text: str) -> None:
    assert refusals(tmp_path, f"listeners: {{listen: 127.0.0.1:1, return: '{text}'}}") == [
        f'nginy.yml:1:42: "{text}" is not understood, expected ${{NAME}} or ${{NAME:-default}}'
    ]


# Files that are none.


def test_a_missing_file_is_one_sentence(tmp_path: pathlib.Path) -> None:
    assert problems(tmp_path / "no.yml", tmp_path) == [
        "no.yml: cannot be read: No such file or directory"
    ]


def test_a_directory_is_one_sentence(tmp_path: pathlib.Path) -> None:
    (tmp_path / "d").mkdir()
    assert problems(tmp_path / "d", tmp_path) == ["d: is a directory, expected a file"]


def test_a_device_and_a_pipe_are_not_opened(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    what = "is a device, pipe or socket, expected a file"
    assert problems(tmp_path / "pipe", tmp_path) == [f"pipe: {what}"]
    assert problems(pathlib.Path("/dev/zero"), tmp_path) == [f"/dev/zero: {what}"]


def test_a_zero_byte_in_a_path_is_one_sentence(tmp_path: pathlib.Path) -> None:
    assert refusals(tmp_path, 'include: "${A}"\n' + LISTENER, {"A": "a\0b"}) == [
        'nginy.yml:1:10: include: "${A}", expected a path such as conf.d/*.yml'
    ]


def test_a_file_without_permission_is_one_sentence(
    tmp_path: pathlib.Path, request: pytest.FixtureRequest
) -> None:
    path = pathlib.Path(write(tmp_path, LISTENER))
    path.chmod(0)
    if os.geteuid() == 0:  # root may read everything
        request.addfinalizer(lambda: os.seteuid(0))
        os.seteuid(65534)
    assert problems(path, tmp_path) == ["nginy.yml: cannot be read: Permission denied"]


def test_a_huge_file_is_one_sentence(tmp_path: pathlib.Path) -> None:
    with open(tmp_path / "huge.yml", "wb") as file:
        file.truncate(1 << 40)
    assert problems(tmp_path / "huge.yml", tmp_path) == [
        "huge.yml: is larger than 16m, expected a configuration"
    ]


def test_text_that_is_not_utf_8_is_named_with_its_place(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "nginy.yml"
    path.write_bytes(b"pid: x\nuser: gr\xfcn\n")
    assert problems(path, tmp_path) == ["nginy.yml:2:9: the byte 0xfc, expected text in UTF-8"]


def test_a_byte_order_mark_is_ignored(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "nginy.yml"
    path.write_bytes(b"\xef\xbb\xbf" + LISTENER.encode())
    assert len(load(str(path), {}).listeners) == 1
