"""The logs of a running nginy: rotated, on a full disk, without a reader; and what lines look like.

How lines wait, are lost and counted is tested piece by piece in tests/log/test_file.py; here it is
shown that traffic does not care.
"""

import contextlib
import json
import pathlib
import re
import resource
import signal
import socket
import subprocess
from collections.abc import Iterator

import pytest

from kit.faults import Listening, Site, check, receive_all
from kit.others import load_stream, running_nginx
from kit.program import Nginy, free_port, open_paths, wait_until
from kit.servers import RefusingPort

TIME = r"\d{4}/\d\d/\d\d \d\d:\d\d:\d\d"


@pytest.fixture
def backend() -> Iterator[Listening]:
    with contextlib.closing(Listening()) as made:
        yield made


@pytest.fixture
def refusing() -> Iterator[RefusingPort]:
    with contextlib.closing(RefusingPort()) as made:
        yield made


def answering(site: Site, head: str = "") -> str:
    """A configuration that needs no backend."""
    return f"{head}\nlisteners: {{listen: '{site.address}', return: hello}}\n"


def ask(site: Site) -> None:
    """One whole session, which ends at once only if the client closes it."""
    client = site.connect()
    assert receive_all(client) == b"hello"
    client.close()


# Rotation.


def test_usr1_goes_on_in_new_files_after_a_rename(site: Site) -> None:
    nginy = site.run(answering(site, "error_log: error.log"))
    ask(site)
    nginy.sessions(1)
    for name in ("access.log", "error.log"):
        (site.directory / name).rename(site.directory / f"{name}.1")
    ask(site)  # goes to the old file, under whatever name
    old = site.directory / "access.log.1"
    wait_until(lambda: old.read_text().count("\n") == 2)
    nginy.send_signal(signal.SIGUSR1)
    wait_until((site.directory / "access.log").exists)
    ask(site)
    nginy.sessions(1)
    nginy.stop()
    assert old.read_text().count("\n") == 2
    assert "SIGUSR1" in (site.directory / "error.log.1").read_text()
    assert (site.directory / "error.log").read_text().endswith("exit\n")


# Full disks and readers that are gone.


def test_full_disks_for_all_logs_stop_nobody(site: Site, refusing: RefusingPort) -> None:
    head = "error_log: /dev/full\naccess_log: {path: /dev/full, buffer: 1k, flush: 100ms}"
    nginy = site.run(answering(site, head))
    for _ in range(50):
        ask(site)
    nginy.wait_idle()
    nginy.send_signal(signal.SIGUSR1)
    ask(site)
    assert nginy.stop() == []


def test_the_error_log_says_when_an_access_log_fails_and_when_it_works_again(site: Site) -> None:
    nginy = site.run(answering(site))
    ask(site)
    nginy.sessions(1)
    for episode in (1, 2):
        nginy.limit(resource.RLIMIT_FSIZE, nginy.access_path.stat().st_size)
        ask(site)
        failed = r'\[error\].* write\(\) to ".*access.log" failed \(File too large\), up to 256k of'
        nginy.said(failed, episode)
        nginy.limit(resource.RLIMIT_FSIZE, resource.RLIM_INFINITY)
        again = r'\[notice\].* write\(\) to ".*access.log" works again, 0 log lines lost so far'
        nginy.said(again, episode)
    nginy.stop()


def test_lines_lost_on_a_full_disk_are_counted_and_the_count_is_said(site: Site) -> None:
    nginy = site.run(answering(site))
    ask(site)
    nginy.sessions(1)
    nginy.limit(resource.RLIMIT_FSIZE, nginy.access_path.stat().st_size)
    line_bytes = nginy.access_path.stat().st_size
    # More than may wait in memory.
    count = 262_144 // line_bytes + 300
    for _ in range(count):
        ask(site)
    assert len(nginy.access_lines()) == 1
    nginy.limit(resource.RLIMIT_FSIZE, resource.RLIM_INFINITY)
    ask(site)
    lost = r"\d+ log lines lost: File too large"
    wait_until(lambda: re.search(lost, nginy.access_path.read_text()), "the count")
    ask(site)
    nginy.wait_idle()
    nginy.stop()
    lines = [json.loads(line) for line in nginy.access_lines()]
    (place,) = [i for i, line in enumerate(lines) if re.fullmatch(lost, line["reason"])]
    missing = int(lines[place]["reason"].split()[0])
    numbers = [int(line["session"]) for line in lines if "session" in line]
    assert len(numbers) + missing == count + 3
    # The count stands where the lines are missing.
    assert numbers[place] - numbers[place - 1] == missing + 1


def test_nobody_reads_standard_error_any_more(site: Site, refusing: RefusingPort) -> None:
    nginy = site.start([refusing.name])
    assert nginy.process.stderr is not None
    nginy.process.stderr.close()
    for _ in range(3):
        assert site.connect().recv(1) == b""
    nginy.sessions(3)
    nginy.process.stderr = None
    nginy.stop()


def test_standard_error_may_be_closed_from_the_start(site: Site, refusing: RefusingPort) -> None:
    config = site.config([refusing.name])
    shell = ("sh", "-c", 'exec "$@" 2>&-', "sh")
    nginy = site.run(config, prefix=shell, stderr=subprocess.DEVNULL)
    client = site.connect()
    # No log line may go to a connection that has got descriptor 2.
    assert client.recv(1) == b""
    nginy.session()
    nginy.stop()


def test_sigpipe_changes_nothing(site: Site, backend: Listening) -> None:
    nginy = site.start([backend.name])
    client, upstream = site.exchange(backend)
    nginy.send_signal(signal.SIGPIPE)
    check(client, upstream)
    nginy.stop()


# What lines look like.


def test_every_line_of_the_error_log_has_nginx_s_form(site: Site, refusing: RefusingPort) -> None:
    nginy = site.start([refusing.name])
    site.connect().recv(1)
    nginy.session()
    nginy.send_signal(signal.SIGHUP)
    nginy.said("reloaded")
    for line in nginy.stop():
        assert re.fullmatch(rf"{TIME} \[\w+\] {nginy.process.pid}#0: (\*\d+ )?\S.*", line)


def test_formats_render_main_json_and_ones_own(site: Site, backend: Listening) -> None:
    nginy = site.start(
        [backend.name],
        head="""
log_formats:
  own: '$protocol|$bytes_received|$upstream_bytes_sent|$remote_addr|$server_port|$status'
access_log: {path: own.log, format: own}
""",
    )
    client, upstream = site.exchange(backend)
    client.close()
    upstream.close()
    nginy.wait_idle()
    nginy.stop()
    (line,) = (site.directory / "own.log").read_text().splitlines()
    assert line == f"TCP|7|7|127.0.0.1|{site.port}|200"


def test_the_ready_made_main_format_is_one_line_a_session(site: Site, backend: Listening) -> None:
    nginy = site.start([backend.name], head="access_log: main.log")
    client, upstream = site.exchange(backend)
    port = client.getsockname()[1]
    client.close()
    upstream.close()
    nginy.wait_idle()
    nginy.stop()
    (line,) = (site.directory / "main.log").read_text().splitlines()
    assert re.fullmatch(
        rf'127\.0\.0\.1:{port} \[.{{25}}\] TCP 200 -- 7/6 0\.\d{{3}} {backend.name} "completed"',
        line,
    )


def test_empty_off_leaves_out_who_connects_and_goes(site: Site, backend: Listening) -> None:
    nginy = site.start([backend.name], head="access_log: {path: main.log, empty: off}")
    for _ in range(2):
        scanner = site.connect()
        upstream = backend.accept()
        scanner.close()
        upstream.close()
    client, upstream = site.exchange(backend)
    client.close()
    upstream.close()
    nginy.wait_idle()
    nginy.stop()
    (line,) = (site.directory / "main.log").read_text().splitlines()
    assert " 7/6 " in line


# Several logs, conditions, escapes, and paths with variables.

SEVERAL = """
variables:
  is_local: {{geo: $remote_addr, values: {{127.0.0.1: 1}}, default: 0}}
  who: {{map: $remote_addr, values: {{'~(?<last>\\d+)$': "c/$last"}}}}
log_formats:
  whole: {{text: '{{"addr":"$remote_addr","backend":"$upstream_addr"}}', escape: json}}
  bare: {{text: '$remote_addr [$upstream_addr]', escape: none}}
  own: '$remote_addr [$upstream_addr] $status'
listeners:
- listen: "{address}"
  return: hello
  access_log:
  - {{path: all.log, format: own}}
  - {{path: bare.log, format: bare, buffer: 64k, flush: 10ms}}
  - {{path: local.log, format: whole, if: $is_local}}
  - {{path: "by-$who-$server_port.log", format: own, if: $status}}
- {{listen: "{address_off}", return: hello, access_log: off}}
access_log: top.log
"""


def test_a_listener_has_several_logs_each_with_its_format_and_condition(
    site: Site, tmp_path: pathlib.Path
) -> None:
    host, port = site.host, free_port(site.host)
    nginy = site.run(SEVERAL.format(address=site.address, address_off=f"{host}:{port}"))
    for client in ("127.0.0.1", "127.0.0.2", "127.0.0.1"):
        with socket.create_connection((site.host, site.port), source_address=(client, 0)) as sock:
            assert receive_all(sock) == b"hello"
    with socket.create_connection((host, port)) as sock:
        assert receive_all(sock) == b"hello"
    nginy.wait_idle()

    def lines(name: str, count: int) -> list[str]:
        path = site.directory / name
        wait_until(lambda: path.exists() and path.read_text().count("\n") >= count, name)
        return path.read_text().splitlines()

    one, two = "127.0.0.1 [-] 200", "127.0.0.2 [-] 200"
    assert lines("all.log", 3) == [one, two, one]
    assert lines("bare.log", 3) == ["127.0.0.1 []", "127.0.0.2 []", "127.0.0.1 []"]
    assert lines("local.log", 2) == ['{"addr":"127.0.0.1","backend":""}'] * 2
    # A slash in a value makes no directory.
    assert lines(f"by-c_1-{site.port}.log", 2) == [one, one]
    assert lines(f"by-c_2-{site.port}.log", 1) == [two]
    assert not (site.directory / "top.log").exists()


def test_logs_by_variables_are_rotated_like_others(site: Site) -> None:
    config = f"""
    log_formats: {{own: $status}}
    access_log: {{path: "by-$remote_addr.log", format: own}}
    listeners: {{listen: "{site.address}", return: hello}}
    """
    nginy = site.run(config)
    path, old = site.directory / "by-127.0.0.1.log", site.directory / "old.log"
    ask(site)
    wait_until(lambda: path.exists() and path.read_text() == "200\n")
    path.rename(old)
    ask(site)
    wait_until(lambda: old.read_text() == "200\n200\n")
    nginy.send_signal(signal.SIGUSR1)
    nginy.said("SIGUSR1")
    ask(site)
    wait_until(lambda: path.exists() and path.read_text() == "200\n")
    assert old.read_text() == "200\n200\n"


def test_a_reload_that_needs_no_such_log_closes_its_files(site: Site) -> None:
    listeners = f'listeners: {{listen: "{site.address}", return: hello}}'
    nginy = site.run(f"access_log: by-$remote_addr.log\n{listeners}")
    ask(site)
    name = str(site.directory / "by-127.0.0.1.log")
    wait_until(lambda: name in open_paths(nginy.process.pid))
    nginy.write(f"access_log: off\n{listeners}")
    nginy.send_signal(signal.SIGHUP)
    nginy.said("configuration reloaded")
    wait_until(lambda: name not in open_paths(nginy.process.pid))


def test_a_path_that_cannot_be_opened_costs_its_lines_and_is_said(site: Site) -> None:
    (site.directory / "by-127.0.0.1.log").mkdir()
    config = f"""
    access_log: [{{path: "by-$remote_addr.log"}}, all.log]
    listeners: {{listen: "{site.address}", return: hello}}
    """
    nginy = site.run(config)
    ask(site)
    nginy.said(r'open\(\) ".*by-127\.0\.0\.1\.log" failed \(Is a directory\), 1 lines of access')
    wait_until(lambda: (site.directory / "all.log").read_text().count("\n") == 1)


NGINX_LOGS = """
{load}
daemon off; master_process off; error_log stderr; pid nginx.pid;
events {{ worker_connections 64; }}
stream {{
    map $protocol $odd {{ default "q\\"b\\\\s\ttab é \x7f"; }}
    map $protocol $nothing {{ default ""; }}
    log_format a           '$odd|$nothing|$upstream_addr|$status';
    log_format b escape=json '$odd|$nothing|$upstream_addr|$status';
    log_format c escape=none '$odd|$nothing|$upstream_addr|$status';
    server {{
        listen {front};
        access_log a.log a; access_log b.log b if=$odd; access_log c.log c;
        access_log d.log a if=$nothing;
        access_log d.log a if=0;
        return hello;
    }}
}}
"""
OURS = """
variables:
  odd: {{map: $protocol, values: {{TCP: "q\\"b\\\\s\ttab é \\x7f"}}}}
  nothing: {{map: $protocol, values: {{TCP: ""}}}}
log_formats:
  a: '$odd|$nothing|$upstream_addr|$status'
  b: {{text: '$odd|$nothing|$upstream_addr|$status', escape: json}}
  c: {{text: '$odd|$nothing|$upstream_addr|$status', escape: none}}
listeners:
- listen: "{front}"
  access_log:
  - {{path: a.log, format: a}}
  - {{path: b.log, format: b, if: $odd}}
  - {{path: c.log, format: c}}
  - {{path: d.log, format: a, if: $nothing}}
  - {{path: d.log, format: a, if: "0"}}
  return: hello
"""


@pytest.mark.real
def test_escapes_and_conditions_are_those_of_nginx(site: Site, tmp_path: pathlib.Path) -> None:
    theirs = (site.host, free_port(site.host))
    directory = tmp_path / "nginx"
    directory.mkdir()
    text = NGINX_LOGS.format(load=load_stream(), front="{}:{}".format(*theirs))
    with running_nginx(text, theirs, directory), socket.create_connection(theirs) as sock:
        receive_all(sock)
        # The check whether it serves was a client, too.
        wait_until(lambda: (directory / "c.log").read_bytes().count(b"\n") == 2)
    site.run(OURS.format(front=site.address))
    ask(site)
    wait_until(lambda: (site.directory / "c.log").read_bytes().count(b"\n") == 1)
    for name in "abcd":
        expected = (directory / f"{name}.log").read_bytes().splitlines()[:1]
        assert (site.directory / f"{name}.log").read_bytes().splitlines() == expected


# Error logs of listeners.


def denying(site: Site, own: str, top: str = "stderr") -> str:
    """A listener that denies everybody, with an error log of its own."""
    return f"""
    error_log: {top}
    listeners:
    - {{listen: "{site.address}", return: hello, access: {{deny: all}}, error_log: {own}}}
    """


def test_a_listener_s_error_log_has_what_its_sessions_say_and_nothing_else(site: Site) -> None:
    host, udp = site.host, free_port(site.host, socket.SOCK_DGRAM)
    silent, brief = free_port(host), free_port(host)
    nginy = site.run(f"""
    defaults: {{access: {{deny: all}}}}
    listeners:
    - {{listen: "{site.address}", return: x, error_log: {{path: own.log, level: info}}}}
    - listen: "{host}:{udp}"
      protocol: udp
      return: x
      error_log: {{path: own.log, level: info}}
    - {{listen: "{host}:{silent}", return: x, error_log: off}}
    - {{listen: "{host}:{brief}", return: x, error_log: {{path: brief.log, level: warn}}}}
    """)
    for port in (silent, brief, site.port):
        with socket.create_connection((host, port)) as client:
            assert receive_all(client) == b""
    own = site.directory / "own.log"
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        sock.sendto(b"x", (host, udp))
        wait_until(lambda: own.read_text().count("denied by") == 2)
    said = [
        line.partition("#0: ")[2].partition(", client")[0] for line in own.read_text().split("\n")
    ]
    denied = 'denied by the access rule "deny all"'
    assert said == ["*3 client connected", f"*3 {denied}", denied, ""]
    assert (site.directory / "brief.log").read_text() == ""
    assert not [line for line in nginy.stop() if "denied" in line or "connected" in line]


@pytest.mark.parametrize("way", ["%s", "%s, routes: [{from: 10.0.0.0/8, return: x}]"])
def test_a_session_goes_on_with_the_error_log_that_it_began_with(
    site: Site, backend: Listening, way: str
) -> None:
    """Its file is closed when the last such session has ended."""
    leads = way % f'proxy_pass: "{backend.name}"'
    config = f"""
    listeners: {{listen: "{site.address}", {leads}, error_log: %s}}
    """
    nginy = site.run(config % "{path: old.log, level: info}")
    client, upstream = site.exchange(backend)
    nginy.write(config % "{path: new.log, level: info}")
    nginy.send_signal(signal.SIGHUP)
    nginy.said("configuration reloaded")
    old, new = site.directory / "old.log", site.directory / "new.log"
    assert str(old) in open_paths(nginy.process.pid)
    client.close()
    upstream.close()
    wait_until(lambda: "*1 completed" in old.read_text())
    wait_until(lambda: str(old) not in open_paths(nginy.process.pid))
    client, upstream = site.exchange(backend)
    client.close()
    upstream.close()
    wait_until(lambda: "*2 completed" in new.read_text())
    assert "*2" not in old.read_text()


def test_the_log_at_the_top_may_become_that_of_a_listener_and_back(site: Site) -> None:
    nginy = site.run(denying(site, "{path: own.log, level: info}", "top.log"))
    top, own = site.directory / "top.log", site.directory / "own.log"
    receive_all(site.connect())
    wait_until(lambda: own.read_text().count("*1 denied") == 1)
    nginy.write(denying(site, "{path: top.log, level: info}", "own.log"))
    nginy.send_signal(signal.SIGHUP)
    wait_until(lambda: "configuration reloaded" in own.read_text())
    receive_all(site.connect())
    wait_until(lambda: top.read_text().count("*2 denied") == 1)
    assert "*2 denied" not in own.read_text()
    nginy.write(denying(site, "auto", "own.log"))
    nginy.send_signal(signal.SIGHUP)
    wait_until(lambda: own.read_text().count("configuration reloaded") == 2)
    wait_until(lambda: str(top) not in open_paths(nginy.process.pid))


def test_error_logs_of_listeners_are_rotated_too(site: Site) -> None:
    nginy = site.run(denying(site, "{path: own.log, level: info}"))
    own = site.directory / "own.log"
    own.rename(site.directory / "own.log.1")
    nginy.send_signal(signal.SIGUSR1)
    wait_until(own.exists)
    receive_all(site.connect())
    wait_until(lambda: "denied" in own.read_text())
    assert (site.directory / "own.log.1").read_text() == ""


def test_an_error_log_that_cannot_be_opened_refuses_the_reload(site: Site) -> None:
    nginy = site.run(denying(site, "auto"))
    (site.directory / "own.log").symlink_to(site.directory / "none" / "own.log")
    nginy.write(denying(site, "own.log"))
    nginy.send_signal(signal.SIGHUP)
    nginy.said(r'open\(\) ".*/own.log" failed \(2: No such file or directory\)')
    nginy.said("configuration not changed")
    assert receive_all(site.connect()) == b""


# Bytes that are no text.


def test_return_sends_the_bytes_of_escapes_in_double_quotes(site: Site) -> None:
    site.run(f"listeners: {{listen: '{site.address}', return: \"\\xff\\xfb\\x01é\"}}\n")
    client = site.connect()
    assert receive_all(client) == b"\xff\xfb\x01\xc3\xa9"


# Reload with a bad file.


def test_a_garbage_configuration_under_hup_is_refused_line_by_line(
    site: Site, backend: Listening
) -> None:
    nginy = site.start([backend.name])
    client, upstream = site.exchange(backend)
    nginy.path.write_text("listener: x\nworker_connections: -3\npid: nginy.pid\n")
    nginy.send_signal(signal.SIGHUP)
    nginy.said("configuration not changed")
    errors = [line.partition("#0: ")[2] for line in nginy.errors if " [error] " in line]
    assert errors[:2] == [
        (
            f'{nginy.path}:1:1: unknown key "listener" in the configuration'
            ' (did you mean "listeners"?)'
        ),
        f'{nginy.path}:2:21: worker_connections: "-3" is too small, expected a whole number from 1',
    ]
    nginy.path.write_bytes(bytes(range(256)) * 40)
    nginy.send_signal(signal.SIGHUP)
    nginy.said("configuration not changed", 2)
    check(client, upstream)
    site.exchange(backend)
    nginy.stop()


# Each way to wait.


@pytest.mark.parametrize("method", ["epoll", "poll", "select"])
def test_the_configured_event_method_is_the_one_that_waits(
    site: Site, backend: Listening, method: str
) -> None:
    nginy = site.start([backend.name], head=f"event_method: {method}")
    client, upstream = site.exchange(backend)
    client.shutdown(socket.SHUT_WR)
    assert receive_all(upstream) == b""
    upstream.sendall(b"the rest")
    upstream.close()
    assert receive_all(client) == b"the rest"
    assert nginy.session()["termination"] == "--"
    assert has_epoll(nginy) is (method == "epoll")
    nginy.stop()


def has_epoll(nginy: Nginy) -> bool:
    return "anon_inode:[eventpoll]" in open_paths(nginy.pid)


# What is said on a good day.

CHECKED = "health_check: {interval: 50ms, timeout: 40ms}"


def test_level_info_tells_connects_and_ends(site: Site, backend: Listening) -> None:
    nginy = site.start([backend.name], head="error_log: {path: stderr, level: info}")
    client, upstream = site.exchange(backend)
    client.close()
    upstream.close()
    (ended,) = nginy.said("completed")
    assert re.search(rf"\[info\] .*\*1 completed while .*upstream: {backend.name}, bytes", ended)
    (begun,) = nginy.said("client connected")
    assert re.search(r"\[info\] .*\*1 client connected, client: .*, listener: ", begun)
    (connected,) = nginy.said("connected to upstream")
    assert re.search(rf"\*1 connected to upstream while .*, upstream: {backend.name}", connected)
    assert not [line for line in nginy.errors if "[debug]" in line]


def test_level_debug_tells_picks_checks_and_timers(site: Site, backend: Listening) -> None:
    text = (
        "error_log: {path: stderr, level: debug}\n"
        f"upstreams: {{web: {{backends: '{backend.name}', {CHECKED}}}}}\n"
        f"listeners: {{listen: '{site.address}', proxy_pass: web}}\n"
    )
    nginy = site.run(text)
    nginy.said(rf"\[debug\] .*check of {backend.name}: passed")
    nginy.said(rf"\[debug\] .*timer is due: next step of backend {backend.name}$")
    site.connect()
    nginy.said(rf"\[debug\] .*\*1 picked {backend.name}, with 1 session now")


def test_level_notice_is_silent_about_sessions(site: Site, backend: Listening) -> None:
    nginy = site.start([backend.name])
    client, upstream = site.exchange(backend)
    client.close()
    upstream.close()
    nginy.session()
    assert not [line for line in nginy.stop() if "client" in line]


def test_a_level_changed_by_a_reload_is_that_of_new_sessions(site: Site) -> None:
    nginy = site.run(answering(site, "error_log: stderr"))
    ask(site)
    nginy.write(answering(site, "error_log: {path: stderr, level: info}"))
    nginy.send_signal(signal.SIGHUP)
    nginy.said("configuration reloaded")
    ask(site)
    (line,) = nginy.said("completed")
    assert "*2 completed" in line
