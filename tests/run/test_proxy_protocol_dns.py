"""The PROXY protocol with name servers: dnsdist in front of nginy, Unbound and PowerDNS behind it.

By UDP, where each datagram has its header, and by TCP. The client has an address of its own, which
each server behind must have in its own log. A program that is not installed skips its test.
"""

import contextlib
import pathlib
import re
import subprocess
from collections.abc import Iterator

import pytest

from kit.others import serving
from kit.program import PATIENCE_S, Nginy, free_port, needs, own_host, wait_until

CLIENT = "127.0.0.77"
ANSWER = "192.0.2.1"

UNBOUND = """
server:
  interface: {host}@{port}
  proxy-protocol-port: {port}
  access-control: 127.0.0.0/8 allow
  do-daemonize: no
  username: ""
  chroot: ""
  directory: "{directory}"
  pidfile: ""
  use-syslog: no
  logfile: ""
  log-queries: yes
  module-config: "iterator"
  local-zone: "test." static
  local-data: "a.test. A 192.0.2.1"
remote-control:
  control-enable: no
"""
ZONE = """$ORIGIN test.
@ 60 IN SOA a.test. b.test. 1 2 3 4 5
@ 60 IN NS a.test.
a 60 IN A 192.0.2.1
"""
DNSDIST = """
setSecurityPollSuffix("")
setACL("127.0.0.0/8")
setLocal("{front}")
newServer({{address="{back}", useProxyProtocol=true, checkName="a.test.", maxCheckFailures=1}})
"""


def place() -> tuple[str, int]:
    """Return an address that is free for TCP, and most likely for UDP as well."""
    host = own_host()
    return host, free_port(host)


def ask(address: tuple[str, int], by: str) -> str:
    """Return what dig prints."""
    host, port = address
    argv = (needs("dig", "bind9-dnsutils"), by, "+short", "+tries=1", "+time=2", "-b", CLIENT)
    command = [*argv, f"@{host}", "-p", str(port), "a.test"]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=PATIENCE_S, check=False
    ).stdout.strip()


@contextlib.contextmanager
def unbound(directory: pathlib.Path) -> Iterator[tuple[str, int]]:
    program = needs("unbound", "unbound")
    host, port = place()
    text = UNBOUND.format(host=host, port=port, directory=directory)
    (directory / "unbound.conf").write_text(text)
    with serving((program, "-d", "-c", "unbound.conf"), (host, port), directory):
        yield host, port


@contextlib.contextmanager
def recursor(directory: pathlib.Path) -> Iterator[tuple[str, int]]:
    program = needs("pdns_recursor", "pdns-recursor")
    host, port = place()
    (directory / "zone").write_text(ZONE)
    options = {
        "config-dir": directory,
        "socket-dir": directory,
        "local-address": host,
        "local-port": port,
        "proxy-protocol-from": "127.0.0.0/8",
        "allow-from": "127.0.0.0/8",
        "auth-zones": f"test={directory}/zone",
        "security-poll-suffix": "",
        "daemon": "no",
        "disable-syslog": "yes",
        "write-pid": "no",
        "quiet": "no",
        "loglevel": 6,
        "threads": 1,
    }
    argv = [program, *(f"--{name}={value}" for name, value in options.items())]
    with serving(argv, (host, port), directory):
        yield host, port


SEEN = {
    "unbound": rf"info: {re.escape(CLIENT)} a\.test\. A IN",
    "recursor": rf'proto="{{proto}}".*remote="{re.escape(CLIENT)}:\d+ \(proxied by 127\.',
}


def wait_to_be_seen(server: str, by: str, directory: pathlib.Path, count: int) -> None:
    """Wait until a server's log has the client this many times."""
    pattern = SEEN[server].format(proto=by.removeprefix("+").replace("notcp", "udp"))
    log = directory / "server.out"
    wait_until(lambda: len(re.findall(pattern, log.read_text())) >= count, f"{pattern} in {log}")


def relay(front: tuple[str, int], back: tuple[str, int], keys: str = "") -> str:
    """A configuration that leads DNS by UDP and TCP to a name server."""
    return f"""
        defaults: {{proxy_protocol: v2}}
        listeners:
        - {{listen: "{front[0]}:{front[1]}", proxy_pass: names{keys}}}
        - {{listen: "{front[0]}:{front[1]}", protocol: udp, proxy_responses: 1,
           proxy_pass: names{keys}}}
        upstreams:
          names:
            backends: "{back[0]}:{back[1]}"
            health_check: {{type: dns, name: a.test, interval: 200ms, initial: down}}
    """


@pytest.mark.real
@pytest.mark.parametrize("server", ["unbound", "recursor"])
def test_a_name_server_behind_sees_the_client(tmp_path: pathlib.Path, server: str) -> None:
    front = place()
    start = unbound if server == "unbound" else recursor
    with start(tmp_path) as back, Nginy(tmp_path, relay(front, back)) as nginy:
        # The checks say LOCAL, and the server answers them.
        nginy.said("-> up: check passed")
        for count, by in enumerate(("+notcp", "+tcp"), 1):
            assert ask(front, by) == ANSWER
            wait_to_be_seen(server, by, tmp_path, count if server == "unbound" else 1)
        nginy.stop()
        assert {each["remote_addr"] for each in nginy.sessions(2)} == {CLIENT}


@pytest.mark.real
@pytest.mark.parametrize("by", ["+notcp", "+tcp"])
def test_a_client_is_seen_through_dnsdist_and_nginy(tmp_path: pathlib.Path, by: str) -> None:
    program = needs("dnsdist", "dnsdist")
    outer, middle = place(), place()
    directory = tmp_path / "dnsdist"
    directory.mkdir()
    text = DNSDIST.format(front="{}:{}".format(*outer), back="{}:{}".format(*middle))
    (directory / "dnsdist.conf").write_text(text)
    accepting = ", accept_proxy_protocol: {from: 127.0.0.0/8}"
    argv = (program, "--supervised", "--disable-syslog", "-C", "dnsdist.conf")
    with contextlib.ExitStack() as stack:
        back = stack.enter_context(unbound(tmp_path))
        nginy = stack.enter_context(Nginy(tmp_path, relay(middle, back, accepting)))
        nginy.said("-> up: check passed")
        stack.enter_context(serving(argv, outer, directory))
        # dnsdist asks nobody before its own check, whose header says LOCAL, was answered.
        wait_until(lambda: ask(outer, by) == ANSWER, "an answer through dnsdist")
        wait_to_be_seen("unbound", by, tmp_path, 1)
        client = f'"remote_addr":"{CLIENT}"'
        wait_until(lambda: any(client in line for line in nginy.access_lines()), client)
