"""The value of `access`: rules, files of networks, and what is wrong with them."""

import pathlib

import pytest
from nginy.commands.plan import plan
from nginy.config.checking.surprises import surprises
from nginy.config.dump import dump
from nginy.config.load import load

from kit.configs import loaded, refusals, write

EXPECTED = "expected a network such as 10.0.0.0/8, an address, all, unix: or {file: PATH}"


def listening(access: str) -> str:
    return f"listeners: [{{listen: 127.0.0.1:80, return: x, access: {access}}}]\n"


def test_rules_are_read_in_their_order_and_a_single_one_needs_no_list(
    tmp_path: pathlib.Path,
) -> None:
    text = listening("[{allow: 10.1.0.0/16}, {deny: 10.0.0.0/8}, {deny: 'unix:'}, {allow: all}]")
    (listener,) = loaded(tmp_path, text).listeners
    assert listener.access is not None
    table = listener.access.table
    assert [table.decides(host) for host in ("10.1.0.1", "10.2.0.1", "unix:", "::1")] == [
        0,
        1,
        2,
        3,
    ]
    (listener,) = loaded(tmp_path, listening("{deny: all}")).listeners
    assert listener.access is not None
    assert str(listener.access.table.denies("::1")) == "deny all"


def test_what_is_dumped_loads_to_the_same_rules(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "10.0.0.0/8\n", "blocked.txt")
    config = loaded(tmp_path, listening("[{deny: {file: blocked.txt}}, {allow: '::1'}]"))
    assert f"    file: {tmp_path}/blocked.txt" in dump(config)
    assert load(write(tmp_path, dump(config), "dumped.yml"), {}) == config


def test_defaults_may_have_rules(tmp_path: pathlib.Path) -> None:
    text = "defaults: {access: {deny: all}}\nlisteners: [{listen: 127.0.0.1:80, return: x}]"
    (listener,) = loaded(tmp_path, text).listeners
    assert listener.access is not None


@pytest.mark.parametrize(
    ("access", "message"),
    [
        ("", "access: no value, expected "),
        ("'  '", 'access: "  ", expected '),
        ("[]", "access: an empty list, expected off, or a list of "),
        ("[{deny: 10.0.0.1/8}]", f'"10.0.0.1/8" has bits set beyond its prefix, {EXPECTED} '),
        ("[{deny: 10.0.0.0/33}]", f'"10.0.0.0/33" has no prefix length from /0 to /32, {EXPECTED}'),
        ("[{deny: al}]", '(did you mean "all"?)'),
        ("[{deny: }]", f"no value, {EXPECTED}"),
        ("[{dney: all}]", 'unknown key "dney" (did you mean "deny"?), expected {allow: ...}'),
        ("[deny]", '"deny", expected {allow: ...} or {deny: ...} with '),
        ("[{allow: '::1', x: all}]", "a mapping of 2 keys, expected {allow: ...}"),
        ("[{deny: {path: a.txt}}]", "a mapping, expected {file: PATH}"),
        ("[{deny: {file: blocked}}]", 'file: "blocked" is a word, not a path'),
        ("[{deny: {file: no.txt}}]", '"no.txt" cannot be read: No such file or directory'),
        ("[{deny: {file: ./.}}]", "is not a file, expected a file"),
    ],
)
def test_a_mistake_has_its_place_and_what_was_expected(
    tmp_path: pathlib.Path, access: str, message: str
) -> None:
    (found,) = refusals(tmp_path, listening(access))
    assert found.startswith("nginy.yml:1:")
    assert message in found


def test_bad_lines_of_a_file_are_found_all_by_line(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "10.0.0.1\n10.0.0.256  # no\n\n10.0.0.7/8\n", "blocked.txt")
    assert refusals(tmp_path, listening("{deny: {file: blocked.txt}}")) == [
        (
            'blocked.txt:2:1: access: "10.0.0.256" is neither an IP address nor a network,'
            " expected a network such as 10.0.0.0/8 or an address"
        ),
        (
            'blocked.txt:4:1: access: "10.0.0.7/8" has bits set beyond its prefix, expected a'
            ' network such as 10.0.0.0/8 or an address (did you mean "10.0.0.0/8"?)'
        ),
    ]


def test_a_file_of_something_else_is_reported_within_bounds(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "x\n" * 1000, "blocked.txt")
    found = refusals(tmp_path, listening("{deny: {file: blocked.txt}}"))
    assert len(found) == 21
    assert '980 more lines of "blocked.txt" are not networks' in found[-1]


def test_a_rule_that_never_decides_is_warned_of(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "# nobody yet\n", "empty.txt")
    rules = "[{deny: 10.0.0.0/8}, {allow: 10.1.0.0/16}, {deny: {file: empty.txt}}, {allow: all}]"
    found = surprises(loaded(tmp_path, listening(rules)))
    assert [each.replace(f"{tmp_path}/", "").partition(": ")[2] for each in found] == [
        'access: "allow 10.1.0.0/16" never decides: earlier rules take all its clients',
        'access: "empty.txt" has no network, so its rule never applies',
    ]


def test_a_file_that_has_changed_is_a_change(tmp_path: pathlib.Path) -> None:
    text = listening("{deny: {file: blocked.txt}}")
    write(tmp_path, "10.0.0.1\n", "blocked.txt")
    before = loaded(tmp_path, text)
    assert plan(before, loaded(tmp_path, text)).changes == ()
    write(tmp_path, "10.0.0.2\n", "blocked.txt")
    (change,) = plan(before, loaded(tmp_path, text)).changes
    assert str(change) == "listener 127.0.0.1:80 changed: access: a file that it names has changed"
