"""Health checks over UDP against the servers that they are for, as Debian packages them.

test_check_servers.py has those over TCP; kit/asked.py says what each goes through.
"""

import os
import pathlib

import pytest
from nginy.backend.checks.dialog import PASSED, Result
from nginy.wire.checks.dns import DnsCheck
from nginy.wire.checks.ntp import NtpCheck
from nginy.wire.checks.radius import RadiusCheck
from nginy.wire.checks.sip import SipCheck

from kit.asked import FROZEN_MS, Checks, RealServer, as_user, go_through, repeat
from kit.program import free_port, needs, wait_until

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_dns(
    checks: Checks, place: tuple[str, int], tmp_path: pathlib.Path, transport: str
) -> None:
    program = needs("dnsmasq", "dnsmasq-base")
    host, port = place
    argv = [program, "--keep-in-foreground", "--log-facility=-", "--conf-file=/dev/null"]
    argv += ["--pid-file=", f"--listen-address={host}", "--bind-interfaces", f"--port={port}"]
    argv += ["--no-resolv", "--no-hosts", "--address=/a.test/192.0.2.9", "--local=/test/"]
    with RealServer(argv, host, port, tmp_path) as server:
        for question, failure in (
            (DnsCheck("a.test"), ""),
            (DnsCheck("a.test", address="192.0.2.9"), ""),
            (DnsCheck("b.test", "AAAA", "NXDOMAIN"), ""),
            (DnsCheck("b.test"), "dns: NXDOMAIN came, NOERROR was expected"),
            (DnsCheck("elsewhere.invalid"), "dns: REFUSED came, NOERROR was expected"),
        ):
            assert checks.ask(question, server.name, transport=transport) == Result(failure)
        question = DnsCheck("a.test")
        repeat(checks, server, question, transport=transport)
        assert not server.lines("error|failed|warning|bad|dropped")
        go_through(checks, server, question, transport=transport)


NAMED_CONF = """
options {{
    directory "{0}";
    listen-on port {2} {{ {1}; }};
    listen-on-v6 {{ none; }};
    recursion no;
    pid-file none;
    session-keyfile none;
    dnssec-validation no;
}};
controls {{ }};
zone "test" {{ type master; file "{0}/zone"; }};
"""
ZONE = """$TTL 60
@ IN SOA ns.test. me.test. 1 60 60 60 60
@ IN NS ns.test.
ns IN A 192.0.2.1
a IN A 192.0.2.9
a IN AAAA 2001:db8::9
"""


@pytest.mark.parametrize("transport", ["udp", "tcp"])
def test_dns_of_bind(checks: Checks, tmp_path: pathlib.Path, transport: str) -> None:
    program = needs("named", "bind9")
    host = "127.0.0.1"  # named listens only on addresses that an interface lists
    port = free_port(host)
    (tmp_path / "zone").write_text(ZONE)
    (tmp_path / "conf").write_text(NAMED_CONF.format(tmp_path, host, port))
    argv = [program, "-g", "-c", str(tmp_path / "conf")]
    with RealServer(argv, host, port, tmp_path) as server:
        wait_until(lambda: server.lines(r"\brunning$"), "named")
        for question, failure in (
            (DnsCheck("a.test", address="192.0.2.9"), ""),
            (DnsCheck("a.test", "AAAA", address="2001:db8::9"), ""),
            (DnsCheck("test", "SOA"), ""),
            (DnsCheck("b.test", rcode="NXDOMAIN"), ""),
            (DnsCheck("b.test"), "dns: NXDOMAIN came, NOERROR was expected"),
            (DnsCheck("elsewhere.invalid"), "dns: REFUSED came, NOERROR was expected"),
            (
                DnsCheck("a.test", address="192.0.2.1"),
                "dns: 192.0.2.9 came, 192.0.2.1 was expected",
            ),
        ):
            assert checks.ask(question, server.name, transport=transport) == Result(failure)
            checks.rest()
        question = DnsCheck("a.test")
        repeat(checks, server, question, transport=transport)
        assert not server.lines("error|failed|client")
        go_through(checks, server, question, transport=transport)


CHRONY_CONF = """
port {2}
bindaddress {1}
cmdport 0
bindcmdaddress /
{3}
allow all
pidfile {0}/pid
driftfile {0}/drift
"""


def test_ntp(checks: Checks, place: tuple[str, int], tmp_path: pathlib.Path) -> None:
    program = needs("chronyd", "chrony")
    if os.geteuid():
        pytest.skip("chronyd runs as root only")
    host, port = place
    argv = [program, "-d", "-x", "-u", "root", "-f", str(tmp_path / "conf")]
    config = CHRONY_CONF.format(tmp_path, host, port, "{}")
    (tmp_path / "conf").write_text(config.format("local stratum 8"))
    with RealServer(argv, host, port, tmp_path, "udp") as server:
        repeat(checks, server, NtpCheck(), transport="udp")
        assert not server.lines("error|invalid|could not")
        go_through(checks, server, NtpCheck(), transport="udp")
    (tmp_path / "conf").write_text(config.format(""))  # nobody has told it the time
    with RealServer(argv, host, port, tmp_path, "udp") as server:
        result = checks.ask(NtpCheck(), server.name, transport="udp")
        assert result == Result("ntp: the server's clock is not set (stratum 0)")


KAMAILIO_CONF = """
debug=2
log_stderror=yes
children=1
disable_tcp=yes
auto_aliases=no
listen=udp:{0}:{1}
loadmodule "sl.so"
request_route {{ sl_send_reply("{2}", "Whatever"); }}
"""


def test_sip(checks: Checks, place: tuple[str, int], tmp_path: pathlib.Path) -> None:
    program = needs("kamailio", "kamailio")
    host, port = place
    conf = tmp_path / "conf"
    argv = [program, "-DD", "-E", "-f", str(conf), "-Y", str(tmp_path), "-w", str(tmp_path)]
    argv += ["-m", "16", "-M", "2"]  # it takes as many MiB of memory
    conf.write_text(KAMAILIO_CONF.format(host, port, 503))
    with RealServer(argv, host, port, tmp_path, "udp") as server:
        result = checks.ask(SipCheck(), server.name, transport="udp")
        assert result == Result("sip: status 503 came, 200-399 was expected")
        assert checks.ask(SipCheck(frozenset({503})), server.name, transport="udp") == PASSED
    conf.write_text(KAMAILIO_CONF.format(host, port, 200))
    with RealServer(argv, host, port, tmp_path, "udp") as server:
        repeat(checks, server, SipCheck(), transport="udp")
        assert not server.lines("error|warning|critical|parse")
        go_through(checks, server, SipCheck(), transport="udp")


RADIUS_CONF = """
name = nginy
run_dir = {0}
pidfile = {0}/pid
log {{
    destination = stdout
}}
security {{
    status_server = {4}
}}
client everybody {{
    ipaddr = 127.0.0.0/8
    secret = s3cret
}}
server default {{
    listen {{
        type = {3}
        ipaddr = {1}
        port = {2}
    }}
    authorize {{
    }}
}}
"""


@pytest.mark.parametrize("kind", ["auth", "acct"])
def test_radius(
    checks: Checks, place: tuple[str, int], open_directory: pathlib.Path, kind: str
) -> None:
    program = needs("freeradius", "freeradius")
    host, port = place
    prefix = as_user("freerad", open_directory)
    conf = open_directory / "radiusd.conf"
    argv = [*prefix, program, "-f", "-l", "stdout", "-d", str(open_directory), "-n", "radiusd"]
    question = RadiusCheck(b"s3cret")
    conf.write_text(RADIUS_CONF.format(open_directory, host, port, kind, "yes"))
    with RealServer(argv, host, port, open_directory, "udp") as server:
        wait_until(lambda: server.lines("ready to process requests"), "freeradius")
        repeat(checks, server, question, transport="udp")
        assert not server.lines("error|warning|invalid|ignoring|dropping")
        stranger = RadiusCheck(b"another")
        refused = checks.ask(stranger, server.name, FROZEN_MS, "udp")
        assert refused.failure == (
            "radius: no answer in time: nothing came, an answer with our secret was expected"
        )
        go_through(checks, server, question, transport="udp")
    conf.write_text(RADIUS_CONF.format(open_directory, host, port, kind, "no"))
    with RealServer(argv, host, port, open_directory, "udp") as server:
        wait_until(lambda: server.lines("ready to process requests"), "freeradius")
        assert checks.ask(question, server.name, FROZEN_MS, "udp").failure
