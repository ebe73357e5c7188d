"""`-T`: what is printed loads to the same configuration, whatever it is."""

import pathlib
import random
import textwrap
import time

import pytest
import yaml
from nginy.config.dump import dump, scalar
from nginy.config.load import load
from nginy.errors import ConfigError

from kit.configs import LISTENER, loaded, write

EVERYTHING = """\
    worker_connections: 20000
    worker_shutdown_timeout: off
    shutdown_grace: 1m30s
    user: nobody
    pid: run/nginy.pid
    event_method: poll
    error_log: {path: "syslog:[::1]:514", level: debug}
    log_formats: {main: "$remote_addr: #\\t\\"$reason\\"", own: "ü 😀"}
    access_log: {path: a.log, format: own, buffer: 64k, flush: 1s}
    defaults: {proxy_timeout: 7s, balance: least_conn, protocol: tcp}
    upstreams:
      web:
        backends:
          - {address: "[2001:DB8::1]:9", weight: 2, max_conns: 3, max_fails: 0, fail_timeout: 1m}
          - {address: unix:/run/x, backup: on, down: on}
      hash: {balance: {hash: $remote_addr, consistent: on}, backends: 127.0.0.1:1}
      two: {balance: {random: two}, backends: 127.0.0.1:1}
      any: {balance: random, backends: 127.0.0.1:1}
    listeners:
      - listen: [127.0.0.1:10-20, 127.0.0.1:22, "[::1]:23", unix:/run/y, 127.0.0.2:24]
        name: 'a "name": # of all'
        proxy_pass: web
        backlog: 1
        so_keepalive: {idle: 1s, interval: 2s, count: 3}
        tcp_nodelay: off
        proxy_connect_timeout: off
        proxy_timeout: off
        proxy_half_close: off
        proxy_half_close_timeout: 5s
        proxy_next_upstream: {tries: 1, timeout: 2s}
        proxy_buffer_size: 1000000
        proxy_splice: off
        proxy_bind: "[::1]:99"
        proxy_socket_keepalive: on
        access_log: off
      - listen: 127.0.0.1:30
        protocol: udp
        proxy_pass: 127.0.0.1:31
        proxy_requests: 1
        proxy_responses: 0
        max_sessions: 9
        udp_offload: off
        proxy_bind: 127.0.0.3
      - {listen: 127.0.0.1:31, return: "hello\\n $remote_addr\\n", so_keepalive: on}
      - {listen: 127.0.0.1:32, return: "", proxy_next_upstream: off}
    """


def test_a_dump_of_every_key_loads_to_the_same_configuration(tmp_path: pathlib.Path) -> None:
    config = loaded(tmp_path, EVERYTHING)
    text = dump(config)
    again = loaded(tmp_path / "elsewhere", text)
    assert again == config
    assert dump(again) == text
    names = [backend.address.name for backend in again.upstreams["web"].backends]
    assert names[0] == "[2001:DB8::1]:9"


def test_the_least_configuration_is_printed_with_its_defaults(tmp_path: pathlib.Path) -> None:
    lines = iter(dump(loaded(tmp_path, LISTENER)).splitlines())
    shown = """\
        worker_connections: 16384
        worker_shutdown_timeout: 30s
        shutdown_grace: off
        user: off
        pid: off
        event_method: auto
        error_log:
          path: stderr
          level: notice
        log_formats: {}
        access_log: off
        upstreams: {}
        listeners:
        - listen:
          - 127.0.0.1:80
          protocol: tcp
          name: ""
          proxy_pass: off
          return: hello
          backlog: 511
          so_keepalive:
            idle: 1m15s
            interval: 15s
            count: 4
          tcp_nodelay: on
          proxy_connect_timeout: 1m
          proxy_timeout: 10m
          proxy_half_close: on
          proxy_half_close_timeout: off
          proxy_next_upstream:
            tries: 0
            timeout: off
          proxy_buffer_size: 64k
          proxy_splice: on
          proxy_bind: off
          proxy_socket_keepalive: off
          access_log: off
        """
    assert [line for line in textwrap.dedent(shown).splitlines() if line not in lines] == []


def test_a_range_of_ports_is_printed_as_one(tmp_path: pathlib.Path) -> None:
    text = "listeners: {listen: [127.0.0.1:1-3, 127.0.0.1:4, 127.0.0.1:6], return: x}\n"
    assert "  - 127.0.0.1:1-4\n  - 127.0.0.1:6\n" in dump(loaded(tmp_path, text))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_any_text_survives(tmp_path: pathlib.Path, seed: int) -> None:
    rng = random.Random(seed)
    letters = "ab :#-?!&*@`'\"\\%{}[],|>~<=\n\t\r é\u2028\x85\u00a0😀\udcff\udc80"
    for _ in range(100):
        text = "".join(rng.choice(letters) for _ in range(rng.randint(0, 8)))
        config = loaded(
            tmp_path, "listeners: {listen: 127.0.0.1:1, return: '${TEXT}'}", {"TEXT": text}
        )
        assert config.listeners[0].return_ == (None if text == "off" else text)
        assert load(write(tmp_path, dump(config), "again.yml"), {}) == config


@pytest.mark.parametrize("seed", range(3))
def test_any_text_alone_is_one_scalar_of_yaml(seed: int) -> None:
    rng = random.Random(seed)
    letters = "ab1 .:#-?!&*@`'\"\\%{}[],|>~<=\n\t\r é\u2028\x85\u00a0\ufeff😀\x1b"
    for _ in range(500):
        text = "".join(rng.choice(letters) for _ in range(rng.randint(0, 8)))
        assert yaml.load(f"- {scalar(text)}\n", yaml.BaseLoader) == [text]
        assert yaml.load(f"{scalar(text)}: x\n", yaml.BaseLoader) == {text: "x"}


def test_a_thousand_upstreams_are_written_within_the_time_of_reading_them(
    tmp_path: pathlib.Path,
) -> None:
    backends = [f"10.0.{n >> 8}.{n & 255}:80" for n in range(1000)]
    config = loaded(tmp_path, f"upstreams: {{many: {{backends: {backends}}}}}\n{LISTENER}")
    started_s = time.process_time()
    dump(config)
    dumped_s = time.process_time() - started_s
    load(str(tmp_path / "nginy.yml"), {})
    assert dumped_s < (time.process_time() - started_s - dumped_s) * 2


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_a_damaged_file_is_refused_or_survives(tmp_path: pathlib.Path, seed: int) -> None:
    rng = random.Random(seed)
    text = textwrap.dedent(EVERYTHING)
    pieces = [
        "",
        "\t",
        "\n",
        ":",
        "[",
        "]",
        "{",
        "}",
        "&a",
        "*a",
        "!",
        "'",
        '"',
        "-",
        "0",
        "${",
        "#",
    ]
    for _ in range(100):
        position = rng.randrange(len(text))
        damaged = text[:position] + rng.choice(pieces) + text[position + rng.randint(0, 2) :]
        path = write(tmp_path, damaged)
        try:
            config = load(path, {})
        except ConfigError:
            continue
        assert load(write(tmp_path, dump(config), "again.yml"), {}) == config
