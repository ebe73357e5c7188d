"""The way of one client, as text."""

import pathlib
import re

import pytest
from nginy.commands.explain import explain
from nginy.errors import NginyError
from nginy.proxy.variables import KEY_VARIABLES

from kit.configs import loaded

TEXT = """
upstreams:
  web:
    backends:
    - 10.0.0.1:80
    - {address: 10.0.0.2:80, weight: 2, max_conns: 7, max_fails: 3, fail_timeout: 5s}
    - {address: 10.0.0.3:80, down: true}
    - {address: 10.0.0.4:80, backup: true, max_fails: 0}
  ring: {balance: {hash: $remote_addr, consistent: true}, backends: [10.0.0.1:80, 10.0.0.2:80]}
  none: {backends: {address: 10.0.0.1:80, down: true}}
  lot: {balance: random, backends: [10.0.0.1:80, 10.0.0.2:80]}
  name: {backends: 'web.internal:80'}
listeners:
- {name: front, listen: [127.0.0.1:80, 127.0.0.1:81], proxy_pass: web, proxy_timeout: 7s}
- {listen: 127.0.0.1:82, proxy_pass: ring, proxy_next_upstream: off}
- {listen: 127.0.0.1:83, proxy_pass: none}
- {listen: 127.0.0.1:84, proxy_pass: lot}
- {listen: 127.0.0.1:85, proxy_pass: name}
- {listen: 127.0.0.1:86, return: "$remote_addr:$remote_port asked $server_addr"}
- {listen: 127.0.0.1:82, protocol: udp, proxy_pass: ring, proxy_responses: 1}
"""


def lines(directory: pathlib.Path, listener: str, client: str = "10.1.2.3:4000") -> list[str]:
    return explain(loaded(directory, TEXT), listener, client).splitlines()


def line(directory: pathlib.Path, listener: str, word: str, client: str = "10.1.2.3:4000") -> str:
    """Return what follows `word` on the one line that it begins."""
    (found,) = [each for each in lines(directory, listener, client) if each.startswith(word)]
    return found.removeprefix(word).strip()


def test_the_whole_way_is_told(tmp_path: pathlib.Path) -> None:
    assert lines(tmp_path, "front")[:12] == [
        "client    10.1.2.3:4000",
        f"listener  front, 127.0.0.1:80 tcp, at {tmp_path}/nginy.yml:14:3",
        "rules     none but proxy_pass: every client goes to upstream web",
        "balance   round_robin",
        "backends",
        "  10.0.0.1:80  usable, weight 1, out for 10s after 1 failure (max_fails)",
        (
            "  10.0.0.2:80  usable, weight 2, until it has 7 sessions (max_conns),"
            " out for 5s after 3 failures (max_fails)"
        ),
        "  10.0.0.3:80  not usable: down is on",
        "  10.0.0.4:80  usable only while no other is (backup), weight 1",
        "choice    10.0.0.2:80, for the first client after a start; the next one takes its turn",
        "then      10.0.0.1:80, 10.0.0.4:80, if the connection fails",
        "upstream  on_down keep",
    ]


def test_effective_timeouts_are_told(tmp_path: pathlib.Path) -> None:
    told = lines(tmp_path, "front")
    assert "  proxy_timeout 7s" in told
    assert "  proxy_connect_timeout 1m" in told
    assert not [each for each in told if "proxy_responses" in each]
    told = lines(tmp_path, "127.0.0.1:82/udp")
    assert "  proxy_timeout 1m" in told
    assert "  proxy_responses 1" in told
    assert not [each for each in told if "proxy_connect_timeout" in each]


def test_a_listener_is_known_by_each_of_its_addresses(tmp_path: pathlib.Path) -> None:
    assert line(tmp_path, "127.0.0.1:81", "listener").startswith("front, 127.0.0.1:81 tcp, at ")


def test_one_key_always_has_one_backend(tmp_path: pathlib.Path) -> None:
    assert line(tmp_path, "127.0.0.1:82/tcp", "key") == '"10.1.2.3"'
    choices = {
        (client, line(tmp_path, f"127.0.0.1:82/{protocol}", "choice", client))
        for client in ("10.1.2.3:1", "10.1.2.3:2", "10.9.9.9", "10.9.9.9:5")
        for protocol in ("tcp", "udp")
    }
    by_host = {(client.split(":")[0], choice) for client, choice in choices}
    assert len(by_host) == 2


def test_without_next_upstream_nobody_else_is_tried(tmp_path: pathlib.Path) -> None:
    assert not [each for each in lines(tmp_path, "127.0.0.1:82/tcp") if each.startswith("then")]


def test_nobody_usable_is_said(tmp_path: pathlib.Path) -> None:
    assert line(tmp_path, "127.0.0.1:83", "choice") == "none: status 502, no usable backend"


def test_a_random_choice_is_called_an_example(tmp_path: pathlib.Path) -> None:
    choice = line(tmp_path, "127.0.0.1:84", "choice")
    assert re.fullmatch(
        r"10\.0\.0\.[12]:80, for example: any usable one, in proportion to weight", choice
    )


def test_a_name_counts_as_a_backend_that_is_to_be_resolved(tmp_path: pathlib.Path) -> None:
    told = lines(tmp_path, "127.0.0.1:85")
    assert any("web.internal:80  usable once its name is resolved" in each for each in told)
    assert line(tmp_path, "127.0.0.1:85", "choice").startswith("web.internal:80")


def test_an_answer_is_shown_as_the_client_gets_it(tmp_path: pathlib.Path) -> None:
    rules = line(tmp_path, "127.0.0.1:86", "rules")
    answer = '"10.1.2.3:4000 asked 127.0.0.1"'
    assert rules == f"none but return: the answer is {answer}, then the session ends"


def test_a_client_without_a_port_has_any(tmp_path: pathlib.Path) -> None:
    assert line(tmp_path, "front", "client", "::1") == "[::1]:0 (port 0 stands for any)"


@pytest.mark.parametrize(
    ("listener", "client", "message"),
    [
        ("fromt", "10.0.0.1", 'there is no listener "fromt" (did you mean "front"?)'),
        ("127.0.0.1:82", "10.0.0.1", '"127.0.0.1:82" listens for TCP and UDP, expected'),
        ("front/udp", "10.0.0.1", 'there is no listener "front/udp"'),
        ("front", "nobody", 'client "nobody" is a host name'),
        ("front", "10.0.0.1:x", 'client "10.0.0.1:x" has "x" for a port'),
        ("front", "unix:/a", 'client "unix:/a" is not an IP address'),
    ],
)
def test_a_question_that_makes_no_sense_is_refused(
    tmp_path: pathlib.Path, listener: str, client: str, message: str
) -> None:
    with pytest.raises(NginyError) as caught:
        lines(tmp_path, listener, client)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("name", sorted(KEY_VARIABLES))
def test_every_variable_of_a_key_is_known(tmp_path: pathlib.Path, name: str) -> None:
    config = loaded(
        tmp_path, f"listeners: {{name: front, listen: 127.0.0.1:80, return: 'is ${name}'}}\n"
    )
    assert re.search('"is [^$]*"', explain(config, "front", "10.1.2.3:4"))


def test_the_access_rule_that_decides_is_told(tmp_path: pathlib.Path) -> None:
    text = """
    listeners:
    - {listen: 127.0.0.1:80, return: x, access: [{deny: 10.0.0.0/8}, {allow: 11.0.0.0/8}]}
    - {listen: 127.0.0.1:80, protocol: udp, return: x, access: {deny: 10.0.0.0/8}}
    """
    config = loaded(tmp_path, text)

    def told(listener: str, client: str) -> list[str]:
        return explain(config, listener, client).splitlines()[2:]

    assert told("127.0.0.1:80/tcp", "10.1.2.3") == [
        "access    deny 10.0.0.0/8 (rule 1 of 2)",
        "choice    none: status 403, denied by access",
    ]
    assert told("127.0.0.1:80/tcp", "11.1.2.3")[0] == "access    allow 11.0.0.0/8 (rule 2 of 2)"
    assert told("127.0.0.1:80/tcp", "12.1.2.3")[0] == "access    none of 2 rules matches: allowed"
    assert told("127.0.0.1:80/udp", "10.1.2.3")[1] == (
        "choice    none: its datagrams are dropped, denied by access"
    )


def test_a_proxy_and_a_stranger_are_told_apart(tmp_path: pathlib.Path) -> None:
    text = """
    listeners:
    - {listen: 127.0.0.1:80, return: x, accept_proxy_protocol: {from: 10.0.0.0/8}}
    - {listen: 127.0.0.1:81, return: x, accept_proxy_protocol: {from: 10.0.0.0/8, others: plain}}
    """
    config = loaded(tmp_path, text)

    def told(listener: str, client: str) -> list[str]:
        return explain(config, listener, client).splitlines()[2:4]

    assert told("127.0.0.1:80", "10.1.2.3") == [
        "header    a PROXY header is read from this client (accept_proxy_protocol)",
        "client    now the one in the header; the rest assumes a header without a client:",
    ]
    assert told("127.0.0.1:80", "11.1.2.3") == [
        "header    a PROXY header is read from other clients than this one (accept_proxy_protocol)",
        "choice    none: status 403, this client is not in from (others: refuse)",
    ]
    assert told("127.0.0.1:81", "11.1.2.3")[1].startswith("rules     none but return")


def test_a_proxy_in_front_of_a_udp_listener_is_told_of_as_well(tmp_path: pathlib.Path) -> None:
    text = """
    listeners:
    - listen: 127.0.0.1:53
      protocol: udp
      proxy_pass: 127.0.0.1:5353
      accept_proxy_protocol: {from: 10.0.0.0/8}
    """
    config = loaded(tmp_path, text)
    assert "in each datagram from this client" in explain(config, "127.0.0.1:53", "10.1.2.3")
    assert explain(config, "127.0.0.1:53", "11.1.2.3").endswith(
        "choice    none: datagrams are dropped, this client is not in from (others: refuse)\n"
    )


def test_the_limits_of_a_client_are_told_with_its_key(tmp_path: pathlib.Path) -> None:
    text = """
    listeners:
    - listen: 127.0.0.1:80
      return: x
      limit_conn: [{key: $remote_addr, max: 5}, {key: all, max: 9}]
      limit_conn_rate: {key: $remote_net, rate: 7}
    """
    told = explain(loaded(tmp_path, text), "127.0.0.1:80", "2001:db8::1").splitlines()[2:5]
    assert told == [
        'limit     5 sessions at a time for the key "2001:db8::1" (limit_conn)',
        'limit     9 sessions at a time for the key "all" (limit_conn)',
        'limit     7 new sessions a second for the key "2001:db8::/64" (limit_conn_rate)',
    ]
