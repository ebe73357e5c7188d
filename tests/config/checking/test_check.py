"""Mistakes that show only when keys are seen together."""

import pathlib
import time

import pytest

from kit.configs import LISTENER, loaded, refusals

WEB = "upstreams: {web: {backends: 127.0.0.1:9}}\n"
TARGET = "an upstream's name, or an address and port such as 127.0.0.1:80"


def upstream(balance: str, *backends: str) -> str:
    items = ", ".join(backends)
    return f"{LISTENER}upstreams:\n  web:\n    balance: {balance}\n    backends: [{items}]\n"


def listener(keys: str) -> str:
    return f"{WEB}listeners:\n  - {{listen: 127.0.0.1:80, {keys}}}\n"


ONE = "127.0.0.1:1"
BACKUP = "{address: '127.0.0.1:2', backup: on}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        # References.
        (listener("proxy_pass: shop"), '3:40: proxy_pass: there is no upstream "shop"'),
        (
            listener("proxy_pass: we"),
            '3:40: proxy_pass: there is no upstream "we" (did you mean "web"?)',
        ),
        (
            listener("proxy_pass: 127.0.0.1"),
            f'3:40: proxy_pass: "127.0.0.1" has no port, expected {TARGET}',
        ),
        (
            listener("proxy_pass: example.com:x"),
            f'3:40: proxy_pass: "example.com:x" has "x" for a port, expected {TARGET}',
        ),
        (
            listener("proxy_pass: a..b:80"),
            (f'3:40: proxy_pass: "a..b:80" has two dots in a row, expected {TARGET}'),
        ),
        # Names.
        (
            upstream("round_robin", "web.internal"),
            '5:16: address: "web.internal" has no port, expected one, or service',
        ),
        (
            upstream("round_robin", "{address: '127.0.0.1:80', service: http}"),
            '5:51: service: "127.0.0.1:80" is an address, expected a host name with service',
        ),
        # What a listener does.
        (listener("backlog: 5"), '3:5: "proxy_pass" is missing, expected it or "return"'),
        (
            listener("proxy_pass: web, return: x"),
            "3:53: return: proxy_pass is set at nginy.yml:3:40, expected one of the two",
        ),
        # Protocols.
        (
            listener("proxy_pass: web, proxy_responses: 1"),
            "3:62: proxy_responses: is for udp listeners, this one is tcp",
        ),
        (
            listener("proxy_pass: web, protocol: udp, proxy_half_close: on"),
            "3:78: proxy_half_close: is for tcp listeners, this one is udp",
        ),
        (
            "listeners: {listen: unix:/x, protocol: udp, return: x}\n",
            "1:21: listen: a unix socket cannot receive UDP, expected an IP address",
        ),
        (
            listener("proxy_pass: unix:/x, protocol: udp"),
            "3:40: proxy_pass: a backend is a unix socket, expected IP addresses with udp",
        ),
        # Upstreams.
        (
            upstream("{hash: $remote_addr}", ONE, BACKUP),
            '5:62: backup: a backend of balance "hash" cannot be a backup',
        ),
        (
            upstream("random", BACKUP),
            '5:49: backup: a backend of balance "random" cannot be a backup',
        ),
        (
            upstream("least_conn", BACKUP, BACKUP),
            "5:15: backends: all are backups, expected one that is not",
        ),
        (
            upstream("{hash: x, consistent: on}", ONE, "{address: '127.0.0.1:2', weight: 65536}"),
            "5:15: backends: weights add up to 65537, expected 65536 or less with consistent: on",
        ),
        # Duplicates.
        (
            f"{LISTENER}".replace("{", "[{").replace("}", "}, {listen: 127.0.0.1:80, return: y}]"),
            "1:61: listen: 127.0.0.1:80 is already listed at nginy.yml:1:22",
        ),
        (
            "listeners: {listen: [127.0.0.1:80-90, 127.0.0.1:85-95], return: x}\n",
            "1:21: listen: 127.0.0.1:85 is already listed at nginy.yml:1:21",
        ),
        (
            "listeners: {listen: ['[::1]:80', '[0:0::1]:80'], return: x}\n",
            "1:21: listen: [::1]:80 is already listed at nginy.yml:1:21",
        ),
        (
            (
                "listeners:\n- {listen: 127.0.0.1:80, return: x, name: a}\n"
                "- {listen: 127.0.0.1:81, return: x, name: a}\n"
            ),
            '3:43: name: "a" is already set at nginy.yml:2:43',
        ),
        # Logs.
        (
            f"access_log: {{path: ./x, format: mian}}\n{LISTENER}",
            '1:33: format: there is no log format "mian" (did you mean "main"?)',
        ),
        (
            f"access_log: {{path: ./x, format: combined}}\n{LISTENER}",
            (
                '1:33: format: there is no log format "combined", expected main (sessions have no'
                " request to log), or json"
            ),
        ),
        (
            f"access_log: {{path: ./x, flush: 1s}}\n{LISTENER}",
            "1:32: flush: needs buffer",
        ),
        (
            f"log_formats: {{json: x}}\n{LISTENER}",
            '1:14: "json" is a format of nginy\'s own, expected another name',
        ),
        (
            "access_log: /x\n" + listener("return: x, access_log: {path: /x, buffer: 4k}"),
            "4:51: access_log: this file has another buffer or flush at nginy.yml:1:13",
        ),
    ],
)
def test_a_contradiction_is_named_with_its_place(
    tmp_path: pathlib.Path, text: str, message: str
) -> None:
    assert refusals(tmp_path, text) == [f"nginy.yml:{message}"]


@pytest.mark.parametrize(
    "text",
    [
        upstream("round_robin", ONE, BACKUP),
        upstream("round_robin", "{address: '127.0.0.1:2', down: on}"),
        upstream("round_robin", ONE, ONE),
        (
            "listeners: [{listen: 127.0.0.1:80, return: x},"
            " {listen: 127.0.0.1:80, protocol: udp, return: x}]\n"
        ),
        "listeners: [{listen: 127.0.0.1:80, return: x}, {listen: '[::]:80', return: x}]\n",
        "access_log: {path: /x, buffer: 4k}\n"
        + listener("return: x, access_log: {path: /x, buffer: 4k, format: json}"),
        "log_formats: {main: $status, own: $pid}\naccess_log: {path: /x, format: own}\n" + LISTENER,
    ],
)
def test_what_only_looks_like_a_contradiction_is_taken(tmp_path: pathlib.Path, text: str) -> None:
    assert loaded(tmp_path, text).listeners


@pytest.mark.parametrize(
    "text",
    [
        # The one mistake each has would make other checks fail as well.
        listener("proxy_pass: [web]"),
        listener("proxy_pass: web, protocol: upd, proxy_responses: 1"),
        listener("return: $nonsense"),
        upstream("hsh", ONE, BACKUP),
        upstream("round_robin", BACKUP, "nonsense"),
        upstream("{hash: x}", "{address: '127.0.0.1:2', backup: maybe}"),
        LISTENER.replace("return: hello", "proxy_pass: web") + "upstreams: {web: nonsense}\n",
        "log_formats: {own: $nonsense}\naccess_log: {path: /x, format: own}\n" + LISTENER,
        "access_log: {path: /x, buffer: many, flush: 1s}\n" + LISTENER,
    ],
)
def test_one_mistake_has_one_message(tmp_path: pathlib.Path, text: str) -> None:
    assert len(refusals(tmp_path, text)) == 1


@pytest.mark.parametrize(
    ("more", "problem"),
    [
        (
            "format: combined",
            (
                '1:22: format: there is no log format "combined", expected main (sessions have no'
                " request to log), or json"
            ),
        ),
        ("flush: 1s", "1:21: flush: needs buffer"),
    ],
)
def test_an_access_log_without_a_path_is_checked_as_any_other(
    tmp_path: pathlib.Path, more: str, problem: str
) -> None:
    text = f"access_log: {{{more}}}\n{LISTENER}"
    assert refusals(tmp_path, text) == [f"nginy.yml:{problem}"]


def test_access_logs_without_a_path_share_standard_error(tmp_path: pathlib.Path) -> None:
    (log,) = loaded(tmp_path, f"access_log: {{empty: off}}\n{LISTENER}").access_log
    assert (log.path, log.empty) == ("stderr", False)
    logs = "access_log: [{buffer: 4k}, {path: stderr, buffer: 8k}]\n"
    (problem,) = refusals(tmp_path, logs + LISTENER)
    assert "this file has another buffer or flush" in problem


def test_a_wildcard_and_addresses_that_it_includes_are_fine(tmp_path: pathlib.Path) -> None:
    text = "listeners: {listen: ['0.0.0.0:80', '127.0.0.1:79-81'], return: x}\n"
    assert len(loaded(tmp_path, text).listeners[0].listen) == 4


def test_a_range_of_many_ports_takes_no_time(tmp_path: pathlib.Path) -> None:
    text = "listeners: {listen: '127.0.0.1:20000-45000', return: x}\n"
    began = time.process_time()
    assert len(loaded(tmp_path, text).listeners[0].listen) == 25001
    assert time.process_time() - began < 2
