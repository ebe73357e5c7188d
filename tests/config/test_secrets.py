"""What is never said of a configuration: passwords in it, and those of the environment."""

import pathlib

import pytest
from nginy.config.load import load
from nginy.config.node import NOWHERE, Findings
from nginy.config.secrets import hide_arguments, hide_query, may_be_secret
from nginy.errors import ConfigError

from kit.configs import write

FILE = """
upstreams:
  web:
    backends: 127.0.0.1:1
    health_check: {%s}
listeners: {listen: 127.0.0.1:80, proxy_pass: web}
"""
HUSH = "hush-Hush.42"


def problems(directory: pathlib.Path, text: str, environ: dict[str, str]) -> str:
    with pytest.raises(ConfigError) as caught:
        load(write(directory, text), environ)
    return str(caught.value)


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        (r"type: tcp, send: '%s \q'", 'send: "***" cannot be used (an escape is one of'),
        (r"type: tcp, send: 'say \"%s\" \q'", 'send: "***" cannot be used'),
        (r"type: tcp, steps: [{send: '%s $nobody'}]", 'send: "***" cannot be used'),
        (r"type: tcp, steps: [{send: $%s}]", 'send: "***" '),
        (r"type: http, body: '%s \xZZ'", 'body: "***" cannot be used'),
        ('type: http, headers: {A: "%s\\x01"}', 'A: "***" is not valid, expected the value of'),
        ("type: http, headers: [%s]", "headers: a list, expected"),
        ("type: http, headers: '%s'", 'headers: "***", expected a mapping of names'),
        ("type: http, path: 'x?key=%s'", 'path: "x?***" '),
        ("type: http, path: '/x?key=%s y'", 'path: "/x?***" '),
        ("type: exec, command: ask -p %s", 'command: "ask ***" is not valid'),
        ("type: exec, command: '/bin/ask -p \"%s'", 'command: "/bin/ask ***" cannot be split'),
        # A value of the environment, where nobody expects it.
        ("type: tcp, interval: '${HUSH}'", 'interval: "${HUSH}" is not a duration, expected'),
        ("type: '${HUSH}'", 'type: "${HUSH}" is not known, expected'),
        ("type: tcp, '${HUSH}'", "health_check: "),
        ("type: ['${HUSH}']", "type: a list, expected"),
    ],
)
def test_no_problem_quotes_a_secret(tmp_path: pathlib.Path, keys: str, said: str) -> None:
    text = FILE % (keys % HUSH if "%s" in keys else keys)
    found = problems(tmp_path, text, {"HUSH": HUSH})
    assert said in found
    for part in ("hush", "Hush"):
        assert part not in found


def test_a_value_of_the_environment_is_said_nowhere_else(tmp_path: pathlib.Path) -> None:
    """A check over several keys quotes what another one says."""
    text = """
variables: {a: {map: $remote_addr, values: {"1": "${HUSH}"}}}
upstreams: {web: {backends: ["127.0.0.1:1", "127.0.0.1:1"]}}
listeners: {listen: 127.0.0.1:80, proxy_pass: "${HUSH}"}
"""
    found = problems(tmp_path, text, {"HUSH": "hush-hush"})
    assert "hush" not in found
    assert "proxy_pass: " in found


def test_a_value_that_begins_with_another_leaves_nothing() -> None:
    findings = Findings()
    findings.environment |= {"hush-hush" + "!" * count for count in range(20)}
    findings.warn(NOWHERE, "it is hush-hush" + "!" * 19)
    assert [each.text for each in findings.warnings] == ["it is ***"]


@pytest.mark.parametrize("value", ["hush hush; x", "hush:hush;", "hu'sh\"hush!"])
@pytest.mark.parametrize(
    ("balance", "command", "target", "said"),
    [
        ("${HUSH}", "/bin/true", "web", 'balance: "${HUSH}" is not '),
        ("http://${HUSH}", "/bin/true", "web", 'balance: "http://${HUSH}" is not '),
        ("random", "${HUSH}", "web", 'command: "***'),
        ("random", "/bin/true", "${HUSH};", 'proxy_pass: "${HUSH};" is not valid'),
    ],
)
def test_no_hint_has_a_part_of_a_secret(
    tmp_path: pathlib.Path, balance: str, command: str, target: str, said: str, value: str
) -> None:
    text = f"""
upstreams:
  web:
    backends: 127.0.0.1:1
    balance: "{balance}"
    health_check: {{type: exec, command: ["{command}"]}}
listeners: {{listen: 127.0.0.1:80, proxy_pass: "{target}"}}
"""
    found = problems(tmp_path, text, {"HUSH": value})
    assert "hush" not in found
    assert said in found


def test_a_value_that_a_problem_cuts_short_is_not_said(tmp_path: pathlib.Path) -> None:
    """The place of the problem has no variable: another one quotes the value."""
    text = """
listeners:
  - {listen: 127.0.0.1:80, return: a, limit_conn: {key: "${HUSH}$remote_addr", max: 1, zone: z}}
  - {listen: 127.0.0.1:81, return: a, limit_conn: {key: $remote_port, max: 1, zone: z}}
"""
    found = problems(tmp_path, text, {"HUSH": "hush-" * 20})
    assert 'zone: "z" counts by "***..." at ' in found
    assert "hush" not in found


def test_what_looks_like_nothing_else_may_be_a_password() -> None:
    for text in ("hush-hush", "Basic aHVzaA==", "p4ssw0rd", "a b c d", "https://x/y?z"):
        assert may_be_secret(text)
    addresses = "10.0.0.1 10.0.0.1:8080 2001:db8::1 [2001:db8::1]:80 web.internal db1.example.net:5"
    for text in ("", "on", "1000000", "30s", "64k", "/run/nginy/nginy.pid", *addresses.split()):
        assert not may_be_secret(text)


def test_what_helps_is_left() -> None:
    assert hide_arguments("/bin/true") == "/bin/true"
    assert hide_arguments("/bin/ask -p x") == "/bin/ask ***"
    assert hide_arguments("/bin/ask\tx\ny z") == "/bin/ask ***"
    assert hide_query("/ready") == "/ready"
    assert hide_query("/ready?a=b?c") == "/ready?***"
