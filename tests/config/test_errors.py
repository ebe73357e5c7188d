"""One mistake, one message: its place, what is wrong, what was expected, and what was meant."""

import pathlib

import pytest

from kit.configs import LISTENER, refusals

DURATION = "a duration such as 500ms, 10s or 1m30s"
PEER = 'an address and port such as 127.0.0.1:80, "[::1]:80" or web.internal:80, or unix:/path'
BACKEND = f"the keys of a backend, or {PEER}"
SIZE = "a size from 1k to 64m, such as 16k"
LISTEN = 'an address such as 127.0.0.1:80, "[::1]:80", 127.0.0.1:8000-8010 or unix:/path'


def in_listener(key: str) -> str:
    return f"listeners:\n  - listen: 127.0.0.1:80\n    return: hello\n    {key}\n"


def in_upstream(key: str) -> str:
    return f"{LISTENER}upstreams:\n  web:\n    backends: [127.0.0.1:9001]\n    {key}\n"


def in_backend(key: str) -> str:
    backend = f"      - address: 127.0.0.1:9001\n        {key}\n"
    return f"{LISTENER}upstreams:\n  web:\n    backends:\n{backend}"


CASES = [
    # The file as a whole.
    ("", ": the file is empty, expected at least listeners"),
    ("# nothing\n", ": the file is empty, expected at least listeners"),
    ("- a\n", ":1:1: a list, expected a mapping with keys such as listeners"),
    ("hello\n", ':1:1: "hello", expected a mapping with keys such as listeners'),
    ("listeners:\n\t- a\n", ":2:1: a tab, expected spaces"),
    ("pid: [\n", ":2:1: no value, expected one (an address in brackets needs quotes)"),
    (
        "pid: /a\npid: /b\n" + LISTENER,
        ':2:1: "pid" is already set at nginy.yml:1:1',
    ),
    ("pid: off\n", ': "listeners" is missing, expected the keys of a listener, or a list of these'),
    # Keys.
    (
        "worker_conections: 5\n" + LISTENER,
        (
            ':1:1: unknown key "worker_conections" in the configuration'
            ' (did you mean "worker_connections"?)'
        ),
    ),
    (
        "inclde: x\n" + LISTENER,
        ':1:1: unknown key "inclde" in the configuration (did you mean "include"?)',
    ),
    ("xyz: 5\n" + LISTENER, ':1:1: unknown key "xyz" in the configuration'),
    (
        in_listener("proxy_tmeout: 5s"),
        ':4:5: listeners: unknown key "proxy_tmeout" in a listener (did you mean "proxy_timeout"?)',
    ),
    (
        in_upstream("backend: x"),
        ':5:5: web: unknown key "backend" in an upstream (did you mean "backends"?)',
    ),
    (
        in_backend("wieght: 1"),
        ':6:9: backends: unknown key "wieght" in a backend (did you mean "weight"?)',
    ),
    # Types.
    (
        "listeners: []\n",
        ":1:12: listeners: an empty list, expected the keys of a listener, or a list of these",
    ),
    ("listeners: 5\n", ':1:12: listeners: "5", expected the keys of a listener'),
    ("listeners:\n", ":1:11: listeners: no value, expected the keys of a listener"),
    (
        LISTENER + "upstreams: [a]\n",
        ":2:12: upstreams: a list, expected a mapping of names to upstreams",
    ),
    (
        LISTENER + "upstreams: {web: [a]}\n",
        ":2:18: web: a list, expected {backends: [10.0.0.1:80, 10.0.0.2:80]}",
    ),
    (
        LISTENER + "upstreams: {'a b': {backends: 127.0.0.1:1}}\n",
        ':2:13: upstreams: "a b" is not a name, expected no spaces, quotes or $',
    ),
    (
        in_listener("backlog: many"),
        ':4:14: backlog: "many" is not a whole number, expected a whole number from 1',
    ),
    (
        in_listener("backlog: 1.5"),
        ':4:14: backlog: "1.5" is not a whole number, expected a whole number from 1',
    ),
    (in_listener("backlog: [5]"), ":4:14: backlog: a list, expected a whole number from 1"),
    (in_listener("backlog: {a: b}"), ":4:14: backlog: a mapping, expected a whole number from 1"),
    (in_listener("backlog:"), ":4:13: backlog: no value, expected a whole number from 1"),
    (in_listener("backlog: 0"), ':4:14: backlog: "0" is too small, expected a whole number from 1'),
    (
        in_listener("backlog: 010"),
        (
            ':4:14: backlog: "010" begins with a zero, expected a whole number from 1'
            ' (did you mean "10"?)'
        ),
    ),
    (
        in_listener("backlog: 4294967296"),
        ':4:14: backlog: "4294967296" is above 2147483647, expected a whole number from 1',
    ),
    (
        in_listener("so_keepalive: {count: 128}"),
        ':4:27: count: "128" is too large, expected a whole number from 1 to 127, or off',
    ),
    (
        in_listener("tcp_nodelay: 1"),
        ':4:18: tcp_nodelay: "1" is not valid, expected on or off (did you mean "on"?)',
    ),
    (
        in_listener("so_keepalive: maybe"),
        ':4:19: so_keepalive: "maybe", expected on, off, or the keys of so_keepalive',
    ),
    (
        in_listener("so_keepalive: {idle: 1500ms}"),
        (
            ':4:26: idle: "1500ms" has a fraction of a second, expected a duration in whole seconds'
            " such as 10s or 1m30s, or off"
        ),
    ),
    (
        in_listener("protocol: upd"),
        ':4:15: protocol: "upd" is not known, expected tcp or udp (did you mean "udp"?)',
    ),
    (
        "event_method: kqueue\n" + LISTENER,
        ':1:15: event_method: "kqueue" is not known: expected auto',
    ),
    (
        "user: a/b\n" + LISTENER,
        ':1:7: user: "a/b" is not valid, expected the name of a user, or off',
    ),
    # Units.
    (
        in_listener("proxy_timeout: 0"),
        (
            f':4:20: proxy_timeout: "0" would be over at once, expected {DURATION}, or off'
            ' (did you mean "off"?)'
        ),
    ),
    (
        in_listener("proxy_timeout: 10"),
        (
            f':4:20: proxy_timeout: "10" has no unit, expected {DURATION}, or off'
            ' (did you mean "10s"?)'
        ),
    ),
    (
        in_listener("proxy_timeout: 1:30"),
        f':4:20: proxy_timeout: "1:30" is not a duration, expected {DURATION}, or off',
    ),
    (
        in_listener("proxy_timeout: 10k"),
        f':4:20: proxy_timeout: "10k" is not a duration, expected {DURATION}, or off',
    ),
    (
        in_backend("fail_timeout: 0"),
        (
            ':6:23: fail_timeout: "0" would be over at once, expected a duration in whole seconds'
            " such as 10s or 1m30s"
        ),
    ),
    (
        in_listener("proxy_buffer_size: 10s"),
        f':4:24: proxy_buffer_size: "10s" is not a size, expected {SIZE}',
    ),
    (
        in_listener("proxy_buffer_size: 0"),
        f':4:24: proxy_buffer_size: "0" is too small, expected {SIZE}',
    ),
    (
        in_listener("proxy_buffer_size: 1g"),
        f':4:24: proxy_buffer_size: "1g" is too large, expected {SIZE}',
    ),
    # Weights and addresses.
    (in_backend("weight: 0"), ':6:17: weight: "0" is too small, expected a whole number from 1'),
    (in_backend("weight: -1"), ':6:17: weight: "-1" is too small, expected a whole number from 1'),
    (
        "listeners: {listen: 127.0.0.1:0, return: hello}\n",
        f':1:21: listen: "127.0.0.1:0" has port 0, outside 1 to 65535, expected {LISTEN}',
    ),
    (
        "listeners: {listen: 127.0.0.1:70000, return: hello}\n",
        f':1:21: listen: "127.0.0.1:70000" has port 70000, outside 1 to 65535, expected {LISTEN}',
    ),
    (
        "listeners: {listen: 127.0.0.1:90-80, return: hello}\n",
        (
            ':1:21: listen: "127.0.0.1:90-80" is a range that runs backwards, '
            f'expected {LISTEN} (did you mean "127.0.0.1:80-90"?)'
        ),
    ),
    (
        "listeners: {listen: [], return: hello}\n",
        f":1:21: listen: an empty list, expected {LISTEN}, or a list of these",
    ),
    (
        "listeners: {return: hello}\n",
        f':1:12: listeners: "listen" is missing, expected {LISTEN}, or a list of these',
    ),
    (
        LISTENER + "upstreams: {web: {backends: 300.0.0.1:80}}\n",
        f':2:29: backends: "300.0.0.1:80" is not an IPv4 address, expected {PEER}',
    ),
    (
        LISTENER + "upstreams: {web: {backends: 'web.internal:www'}}\n",
        f':2:29: backends: "web.internal:www" has "www" for a port, expected {PEER}',
    ),
    (
        LISTENER + "upstreams: {web: {backends: '::1:80'}}\n",
        (
            ':2:29: backends: "::1:80" has an IPv6 address without brackets, '
            f'expected {PEER} (did you mean "[::1]:80"?)'
        ),
    ),
    (
        LISTENER + "upstreams: {web: {backends: {weight: 2}}}\n",
        f':2:29: backends: "address" is missing, expected {PEER}',
    ),
    (
        LISTENER + "upstreams: {web: {balance: round_robin}}\n",
        f':2:18: web: "backends" is missing, expected {BACKEND}, or a list of these',
    ),
    (
        in_listener("proxy_bind: eth0"),
        (
            ':4:17: proxy_bind: "eth0" is a host name, and names are not supported, expected an IP'
            ' address such as 127.0.0.2 or "[::1]", or a text such as $remote_addr'
        ),
    ),
    # Paths.
    (
        "access_log: syslog:localhost\n" + LISTENER,
        (':1:13: access_log: "syslog:localhost" has no port, expected syslog:localhost:514'),
    ),
    ("pid: ''\n" + LISTENER, ':1:6: pid: "" is not a path, expected the path of a file, or off'),
    # Variables.
    (
        "listeners: {listen: 127.0.0.1:80, return: hi $remote_adr $x}\n",
        (
            ':1:43: return: "hi $remote_adr $x" names unknown variables ($remote_adr, $x), expected'
            ' text with variables such as $remote_addr, or off (did you mean "$remote_addr"?)'
        ),
    ),
    (
        "listeners: {listen: 127.0.0.1:80, return: 5$}\n",
        (
            ':1:43: return: "5$" names unknown variables ($), expected text with variables such as'
            " $remote_addr, or off"
        ),
    ),
    (
        "listeners: {listen: 127.0.0.1:80, return: $status}\n",
        (
            ':1:43: return: "$status" names $status, which is known only when a session ends,'
            " expected text with variables such as $remote_addr, or off"
        ),
    ),
    (
        "log_formats: {main: {text: x, escape: xml}}\n" + LISTENER,
        ':1:39: escape: "xml" is not known, expected default, json or none',
    ),
    (
        "log_formats: {main: {format: x}}\n" + LISTENER,
        ':1:22: main: unknown key "format" in a log format (did you mean "text"?)',
    ),
    (
        "access_log: x-$nope.log\n" + LISTENER,
        (
            ':1:13: access_log: "x-$nope.log" names unknown variables ($nope), expected the path of'
            " a file, stderr, stdout or syslog:HOST:PORT"
        ),
    ),
    (
        "access_log: 'syslog:$pid:514'\n" + LISTENER,
        (
            ':1:13: access_log: "syslog:$pid:514" has a variable, which only the path of a file may'
            " have, expected the path of a file, stderr, stdout or syslog:HOST:PORT"
        ),
    ),
    (
        "access_log: [./x, off]\n" + LISTENER,
        (
            ':1:19: access_log: "off" is a word, not a path, expected the path of a file,'
            " stderr, stdout or syslog:HOST:PORT"
        ),
    ),
    (
        "access_log: {path: ./x, if: $nope}\n" + LISTENER,
        (
            ':1:29: if: "$nope" names unknown variables ($nope), expected text with variables such'
            " as $remote_addr, or off"
        ),
    ),
    (
        "error_log: x-$pid.log\n" + LISTENER,
        (
            ':1:12: error_log: "x-$pid.log" has a variable, which only the path of an access log'
            " may have, expected the path of a file, stderr, stdout or syslog:HOST:PORT"
        ),
    ),
    (
        "log_formats: {main: $remote_adr}\n" + LISTENER,
        (
            ':1:21: main: "$remote_adr" names unknown variables ($remote_adr), expected text with'
            ' variables such as $remote_addr (did you mean "$remote_addr"?)'
        ),
    ),
]


@pytest.mark.parametrize(("text", "message"), CASES)
def test_a_mistake_is_named_with_its_place(tmp_path: pathlib.Path, text: str, message: str) -> None:
    assert refusals(tmp_path, text) == [f"nginy.yml{message}"]


def test_a_long_or_unprintable_value_is_quoted_on_one_line(tmp_path: pathlib.Path) -> None:
    found = refusals(tmp_path, in_listener(f'backlog: "a\\nb{"x" * 100}"'))
    assert found == [
        (
            f'nginy.yml:4:14: backlog: "a\\nb{"x" * 57}..." is not a whole number,'
            " expected a whole number from 1"
        )
    ]


def test_all_mistakes_are_found_in_one_run_and_sorted(tmp_path: pathlib.Path) -> None:
    text = """\
        listeners:
          - listen: [127.0.0.1:8080, localhost:1, 127.0.0.1:0]
            proxy_pass: wev
            proxy_timeout: 0
            nonsense: 1
          - {listen: 127.0.0.1:8080, proxy_pass: web, backlog: 0}
          - {listen: 127.0.0.1:8081, proxy_pass: broken}
        upstreams:
          web:
            balance: least_con
            backends: ["127.0.0.1:1", "127.0.0.1:0", {address: "127.0.0.1:2", weight: x}]
          broken: 127.0.0.1:1
        worker_connections: -1
        """
    places = [line.split(" ")[0] for line in refusals(tmp_path, text)]
    assert places == [
        "nginy.yml:2:30:",
        "nginy.yml:2:43:",
        "nginy.yml:3:17:",
        "nginy.yml:4:20:",
        "nginy.yml:5:5:",
        "nginy.yml:6:14:",
        "nginy.yml:6:56:",
        "nginy.yml:10:14:",
        "nginy.yml:11:31:",
        "nginy.yml:11:79:",
        "nginy.yml:12:11:",
        "nginy.yml:13:21:",
    ]
