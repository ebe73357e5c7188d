"""Health checks against the servers that they are for, as Debian packages them.

A server that is not installed skips its test, naming the package. Each is asked a hundred times
before its log is read, so a complaint about a client that leaves without a word would show; then it
is frozen, and at last it is stopped.
"""

import contextlib
import os
import pathlib
import pwd
import re
import signal
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import pytest
from nginy.backend.checks.checker import Checker, ProbeSettings
from nginy.backend.checks.dialog import PASSED, Result
from nginy.event.clock import MonotonicClock
from nginy.event.tls_client import ClientTls
from nginy.text.address import parse_address
from nginy.wire.checks.dns import DnsCheck
from nginy.wire.checks.http import HttpCheck
from nginy.wire.checks.ldap import LdapCheck
from nginy.wire.checks.mail import ImapCheck, Pop3Check, SmtpCheck
from nginy.wire.checks.mqtt import MqttCheck
from nginy.wire.checks.mysql import MysqlCheck
from nginy.wire.checks.ntp import NtpCheck
from nginy.wire.checks.postgres import PostgresCheck
from nginy.wire.checks.redis import RedisCheck
from nginy.wire.checks.ssh import SshCheck
from nginy.wire.checks.talk import Question
from nginy.wire.expect import parse_expect

from kit.harness import Harness
from kit.others import is_bound
from kit.program import free_port, needs, own_host, wait_until
from kit.tls import Authority

TIMES = 100
TIMEOUT_MS = 8000  # a server that has just started on a busy machine takes its time
FROZEN_MS = 300

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]


class Checks:
    """Makes checks, and waits for their results."""

    def __init__(self, harness: Harness) -> None:
        self.harness = harness
        self.checker = Checker(harness.loop)

    def ask(
        self,
        question: Question,
        address: str,
        timeout_ms: int = TIMEOUT_MS,
        transport: str = "tcp",
        tls: ClientTls | None = None,
        name: str | None = None,
    ) -> Result:
        results: list[Result] = []
        deadline_ms = self.harness.loop.clock.now_ms + timeout_ms
        target = parse_address(address)
        probe = ProbeSettings(question, transport, tls=tls, name=name)
        self.checker.start(probe, target, deadline_ms, results.append, name=address)
        self.harness.turn_until(lambda: results)
        return results[0]

    def rest(self) -> None:
        """Wait until the last check has closed its connection."""
        self.harness.turn_until(lambda: not self.checker.open)


@pytest.fixture
def checks() -> Iterator[Checks]:
    with Harness(clock=MonotonicClock()) as harness:
        made = Checks(harness)
        yield made
        made.checker.close()


class RealServer:
    """A server that runs until the block ends. Its output is its log."""

    def __init__(
        self,
        argv: Sequence[str],
        host: str,
        port: int,
        directory: pathlib.Path,
        transport: str = "tcp",
    ) -> None:
        self.name = f"{host}:{port}"
        self.log = directory / "server.out"
        with self.log.open("wb") as output:
            self.process = subprocess.Popen(
                argv,
                cwd=directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            )
        is_over = self.process.poll
        wait_until(lambda: is_bound(host, port, transport) or is_over() is not None, argv[0])
        assert self.process.poll() is None, self.log.read_text()
        self.begin = 0

    def __enter__(self) -> "RealServer":
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()

    def signal(self, number: int) -> None:
        """Send a signal to all processes of the server."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)

    def kill(self) -> None:
        """End it, at once."""
        self.signal(signal.SIGKILL)
        self.process.wait()

    def lines(self, pattern: str) -> list[str]:
        """The lines of the log that match a pattern, in any case."""
        lines = self.log.read_text(errors="replace")[self.begin :].splitlines()
        return [line for line in lines if re.search(pattern, line, re.IGNORECASE)]


def repeat(
    checks: Checks,
    server: RealServer,
    question: Question,
    sign: str = "",
    tls: ClientTls | None = None,
    transport: str = "tcp",
) -> None:
    """Ask a hundred times, from here on to be read in the log, where each leaves a `sign`."""
    ask = partial(checks.ask, question, server.name, transport=transport, tls=tls)
    assert ask() == PASSED
    checks.rest()
    if sign:
        wait_until(lambda: server.lines(sign), sign)
    server.begin = len(server.log.read_text(errors="replace"))
    for _ in range(TIMES):
        assert ask() == PASSED
        checks.rest()
    if sign:
        wait_until(lambda: len(server.lines(sign)) >= TIMES, sign)


def go_through(
    checks: Checks,
    server: RealServer,
    question: Question,
    tls: ClientTls | None = None,
    transport: str = "tcp",
) -> None:
    """Ask a server that is up, frozen and stopped, and one that speaks something else."""
    wrong = RedisCheck() if isinstance(question, (Pop3Check, ImapCheck)) else Pop3Check()
    ask = partial(checks.ask, address=server.name, transport=transport)
    assert ask(wrong, timeout_ms=FROZEN_MS).failure
    checks.rest()
    server.signal(signal.SIGSTOP)
    frozen = ask(question, timeout_ms=FROZEN_MS, tls=tls)
    server.signal(signal.SIGCONT)
    assert ("no answer in time" if transport == "udp" else "timed out") in frozen.failure
    checks.rest()
    assert ask(question, tls=tls) == PASSED
    server.kill()
    wait_until(lambda: ask(question, tls=tls).failure)
    assert "Connection refused" in ask(question, tls=tls).failure


@pytest.fixture
def place() -> tuple[str, int]:
    host = own_host()
    return host, free_port(host)


def as_user(name: str, directory: pathlib.Path) -> list[str]:
    """Return the beginning of a command line that runs as a user, to whom the directory goes."""
    if os.geteuid():
        return []
    try:
        user = pwd.getpwnam(name)
    except KeyError:
        pytest.skip(f"there is no user {name}")
    os.chown(directory, user.pw_uid, user.pw_gid)
    for parent in directory.parents[:-1]:
        if not os.stat(parent).st_mode & 0o001:
            pytest.skip(f"the user {name} cannot get to {directory}")
    return [needs("setpriv", "util-linux"), f"--reuid={name}", f"--regid={name}", "--clear-groups"]


@pytest.fixture
def open_directory() -> Iterator[pathlib.Path]:
    """A directory that servers under users of their own can get to."""
    with tempfile.TemporaryDirectory() as name:
        os.chmod(name, 0o755)
        yield pathlib.Path(name)


def test_redis(checks: Checks, place: tuple[str, int], tmp_path: pathlib.Path) -> None:
    program = needs("redis-server", "redis-server")
    host, port = place
    argv = [program, "--bind", host, "--port", str(port), "--save", "", "--loglevel", "verbose"]
    with RealServer(argv, host, port, tmp_path) as server:
        assert checks.ask(RedisCheck("slave"), server.name).failure == (
            "redis: role is master, expected slave"
        )
        assert checks.ask(RedisCheck("", "", b"wrong"), server.name).failure.startswith("redis: ")
        repeat(checks, server, RedisCheck("master"))
        assert not server.lines("error|protocol|reset")
        go_through(checks, server, RedisCheck("master"))


def test_redis_that_follows_another_one(
    checks: Checks, place: tuple[str, int], tmp_path: pathlib.Path
) -> None:
    program = needs("redis-server", "redis-server")
    host, port = place
    argv = [program, "--bind", host, "--port", str(port), "--save", ""]
    argv += ["--replicaof", host, str(free_port(host))]
    with RealServer(argv, host, port, tmp_path) as server:
        failure = checks.ask(RedisCheck("master"), server.name).failure
        assert failure == "redis: role is slave, expected master"
        assert checks.ask(RedisCheck("slave"), server.name) == PASSED


def test_redis_behind_a_password(
    checks: Checks, place: tuple[str, int], tmp_path: pathlib.Path
) -> None:
    program = needs("redis-server", "redis-server")
    host, port = place
    argv = [program, "--bind", host, "--port", str(port), "--save", "", "--requirepass", "s 3"]
    with RealServer(argv, host, port, tmp_path) as server:
        assert checks.ask(RedisCheck("master", "", b"s 3"), server.name) == PASSED
        assert checks.ask(RedisCheck("", "default", b"s 3"), server.name) == PASSED
        assert "WRONGPASS" in checks.ask(RedisCheck("", "", b"no"), server.name).failure
        assert "NOAUTH" in checks.ask(RedisCheck(), server.name).failure


NGINX_CONF = """
daemon off;
master_process off;
pid {0}/pid;
error_log stderr info;
events {{ worker_connections 256; }}
http {{
    access_log /dev/stdout;
    server {{
        listen {1} ssl;
        ssl_certificate {2};
        ssl_certificate_key {2};
        {3}
        location = /up {{ return 200 "all is well"; }}
        location = /down {{ return 503; }}
    }}
}}
"""


def web_server(
    place: tuple[str, int], directory: pathlib.Path, pem: pathlib.Path, more: str = ""
) -> RealServer:
    program = needs("nginx", "nginx")
    host, port = place
    conf = directory / "conf"
    conf.write_text(NGINX_CONF.format(directory, f"{host}:{port}", pem, more))
    argv = [program, "-p", str(directory), "-e", "stderr", "-c", str(conf)]
    return RealServer(argv, host, port, directory)


def test_https(checks: Checks, place: tuple[str, int], tmp_path: pathlib.Path) -> None:
    authority = Authority(tmp_path / "authority")
    pem = authority.issue(f"DNS:a.test,IP:{place[0]}")
    tls = ClientTls(authorities=authority.certificate.read_bytes(), alpn=("http/1.1",))
    question = HttpCheck("/up", expect=parse_expect("all is"), name="https")
    with web_server(place, tmp_path, pem) as server:
        ask = partial(checks.ask, address=server.name, tls=tls)
        assert ask(HttpCheck("/down", name="https")).failure == (
            "https: status 503 came, 200-399 was expected"
        )
        assert ask(question, name="a.test") == PASSED
        failure = ask(question, name="b.test").failure
        assert failure == f"https: certificate is for a.test, {place[0]}, not for b.test"
        checks.rest()
        repeat(checks, server, question, "GET /up", tls=tls)
        assert not server.lines(r"\[(info|notice|warn|error|crit)\].*(SSL|client|reset)")
        go_through(checks, server, question, tls=tls)


def test_https_with_an_expired_certificate(
    checks: Checks, place: tuple[str, int], tmp_path: pathlib.Path
) -> None:
    authority = Authority(tmp_path / "authority")
    tls = ClientTls(authorities=authority.certificate.read_bytes())
    with web_server(place, tmp_path, authority.issue(f"IP:{place[0]}", -9, -3)) as server:
        result = checks.ask(HttpCheck("/up", name="https"), server.name, tls=tls)
        assert result.failure == "https: certificate expired 3 days ago"


def test_https_that_wants_a_certificate(
    checks: Checks, place: tuple[str, int], tmp_path: pathlib.Path
) -> None:
    authority = Authority(tmp_path / "authority")
    pem, mine = (authority.issue(name) for name in (f"IP:{place[0]}", "DNS:me.test"))
    more = f"ssl_client_certificate {authority.certificate}; ssl_verify_client on;"
    question = HttpCheck("/up", name="https")
    unknown = ClientTls(authorities=authority.certificate.read_bytes())
    known = replace(unknown, certificate=mine.read_bytes())
    with web_server(place, tmp_path, pem, more) as server:
        result = checks.ask(question, server.name, tls=unknown)
        assert result.failure == "https: status 400 came, 200-399 was expected"
        assert checks.ask(question, server.name, tls=known) == PASSED


def test_ssh(checks: Checks, place: tuple[str, int], tmp_path: pathlib.Path) -> None:
    program = needs("sshd", "openssh-server")
    if not os.geteuid():
        os.makedirs("/run/sshd", exist_ok=True)  # where sshd locks itself in, else it ends
    host, port = place
    key = tmp_path / "key"
    keygen = [
        needs("ssh-keygen", "openssh-client"),
        "-q",
        "-t",
        "ed25519",
        "-N",
        "",
        "-f",
        str(key),
    ]
    subprocess.run(keygen, check=True)
    options = [f"ListenAddress={host}:{port}", f"HostKey={key}", "PidFile=none", "UsePAM=no"]
    options += ["MaxStartups=200"]
    argv = [program, "-D", "-e", "-f", "/dev/null"]
    argv += [word for option in options for word in ("-o", option)]
    with RealServer(argv, host, port, tmp_path) as server:
        repeat(checks, server, SshCheck(), "Received disconnect")
        assert not server.lines("error|kex_exchange|invalid|reset")
        go_through(checks, server, SshCheck())


def test_mqtt(checks: Checks, place: tuple[str, int], tmp_path: pathlib.Path) -> None:
    program = needs("mosquitto", "mosquitto")
    host, port = place
    (tmp_path / "conf").write_text(
        f"listener {port} {host}\nallow_anonymous true\nlog_dest stderr\n"
    )
    argv = [program, "-c", str(tmp_path / "conf")]
    with RealServer(argv, host, port, tmp_path) as server:
        repeat(checks, server, MqttCheck(), r"disconnected\.$")
        assert not server.lines("error|exceeded|malformed|closed its connection")
        go_through(checks, server, MqttCheck())


def test_mqtt_that_wants_a_login(
    checks: Checks, place: tuple[str, int], tmp_path: pathlib.Path
) -> None:
    program = needs("mosquitto", "mosquitto")
    passwords = tmp_path / "passwords"
    passwords.write_text("joe:s3cret\n")
    subprocess.run([needs("mosquitto_passwd", "mosquitto"), "-U", passwords], check=True)
    passwords.chmod(0o644)
    host, port = place
    user = pwd.getpwuid(os.geteuid()).pw_name
    (tmp_path / "conf").write_text(
        f"listener {port} {host}\npassword_file {passwords}\nuser {user}\n"
    )
    argv = [program, "-c", str(tmp_path / "conf")]
    with RealServer(argv, host, port, tmp_path) as server:
        assert checks.ask(MqttCheck(), server.name).failure == "mqtt: not authorized (5)"
        assert "(5)" in checks.ask(MqttCheck("joe", b"no"), server.name).failure
        assert checks.ask(MqttCheck("joe", b"s3cret"), server.name) == PASSED


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
        for _ in range(TIMES):
            assert checks.ask(DnsCheck("a.test"), server.name, transport=transport) == PASSED
            checks.rest()
        question = DnsCheck("a.test")
        server.signal(signal.SIGSTOP)
        frozen = checks.ask(question, server.name, FROZEN_MS, transport)
        server.signal(signal.SIGCONT)
        late = "no answer in time" if transport == "udp" else "timed out while"
        assert late in frozen.failure
        server.kill()
        wait_until(
            lambda: "refused" in checks.ask(question, server.name, transport=transport).failure
        )


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


DOVECOT_CONF = """
base_dir = {0}/run
state_dir = {0}/run
log_path = /dev/stderr
protocols = imap pop3
listen = {1}
ssl = no
passdb {{
  driver = static
  args = nopassword=y
}}
userdb {{
  driver = static
  args = uid=nobody gid=nogroup home={0}
}}
default_internal_user = nobody
default_login_user = nobody
default_internal_group = nogroup
service imap-login {{
  chroot =
  inet_listener imap {{
    port = {2}
  }}
  inet_listener imaps {{
    port = 0
  }}
}}
service pop3-login {{
  chroot =
  inet_listener pop3 {{
    port = {3}
  }}
  inet_listener pop3s {{
    port = 0
  }}
}}
service anvil {{
  chroot =
}}
"""


@pytest.mark.parametrize("question", [ImapCheck(), Pop3Check()], ids=["imap", "pop3"])
def test_a_mailbox(
    checks: Checks, place: tuple[str, int], open_directory: pathlib.Path, question: Question
) -> None:
    program = needs("dovecot", "dovecot-imapd and dovecot-pop3d")
    if os.geteuid():
        pytest.skip("dovecot runs as root only")
    host, port = place
    ports = (port, free_port(host))[:: 1 if isinstance(question, ImapCheck) else -1]
    conf = open_directory / "conf"
    conf.write_text(DOVECOT_CONF.format(open_directory, host, *ports))
    with RealServer([program, "-F", "-c", str(conf)], host, port, open_directory) as server:
        repeat(checks, server, question, "logging out|disconnected")
        assert not server.lines("error|warning|fatal|too many|unexpected")
        go_through(checks, server, question)


EXIM_CONF = """
exim_user = nobody
exim_group = nogroup
keep_environment =
spool_directory = {0}
log_file_path = {0}/%slog
log_selector = +smtp_connection +smtp_incomplete_transaction +smtp_protocol_error +smtp_syntax_error
primary_hostname = mail.test
local_interfaces = {1}
daemon_smtp_ports = {2}
host_lookup =
rfc1413_query_timeout = 0s
tls_advertise_hosts =
smtp_accept_max = 200
acl_smtp_connect = {3}
acl_smtp_rcpt = deny
begin acl
begin routers
begin transports
"""


@pytest.mark.parametrize(
    ("rule", "failure"),
    [
        ("accept", ""),
        ("drop message = not today", 'smtp: "550 not today" came, 220 was expected'),
    ],
)
def test_smtp(
    checks: Checks, place: tuple[str, int], open_directory: pathlib.Path, rule: str, failure: str
) -> None:
    program = needs("exim4", "exim4-daemon-light")
    if os.geteuid():
        pytest.skip("exim runs as root only")
    host, port = place
    spool = open_directory / "spool"
    spool.mkdir()
    os.chown(spool, pwd.getpwnam("nobody").pw_uid, -1)
    conf = open_directory / "conf"
    conf.write_text(EXIM_CONF.format(spool, host, port, rule))
    argv = [program, "-C", str(conf), "-bdf", "-oX", "", "-oP", str(spool / "pid")]
    with RealServer(argv, host, port, open_directory) as server:
        server.log = spool / "mainlog"
        if failure:
            assert checks.ask(SmtpCheck(), server.name).failure == failure
            return
        repeat(checks, server, SmtpCheck(), "closed by QUIT")
        assert not server.lines("error|lost|incomplete|dropped|rejected|unexpected")
        go_through(checks, server, SmtpCheck())


SLAPD_CONF = """
include /etc/ldap/schema/core.schema
modulepath /usr/lib/ldap
moduleload back_mdb
{0}
database mdb
suffix "dc=example,dc=test"
directory {1}
"""


@pytest.mark.parametrize(
    ("line", "failure"),
    [
        ("", ""),
        (
            "disallow bind_anon",
            'ldap: inappropriate authentication (48): "anonymous bind disallowed"',
        ),
    ],
)
def test_ldap(
    checks: Checks, place: tuple[str, int], tmp_path: pathlib.Path, line: str, failure: str
) -> None:
    program = needs("slapd", "slapd")
    host, port = place
    (tmp_path / "data").mkdir()
    (tmp_path / "conf").write_text(SLAPD_CONF.format(line, tmp_path / "data"))
    argv = [program, "-d", "stats", "-f", str(tmp_path / "conf"), "-h", f"ldap://{host}:{port}"]
    with RealServer(argv, host, port, tmp_path) as server:
        if failure:
            assert checks.ask(LdapCheck(), server.name).failure == failure
            return
        repeat(checks, server, LdapCheck(), "UNBIND")
        assert not server.lines("connection lost|error|deferring")
        go_through(checks, server, LdapCheck())


def postgres_program(name: str) -> str:
    """Return the path of a program that Debian keeps out of PATH, in a folder a version."""
    found = sorted(pathlib.Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))
    return str(found[-1]) if found else needs(name, "postgresql")


def new_cluster(prefix: list[str], directory: pathlib.Path) -> str:
    """Make a cluster that trusts everybody, with a user nginy; return its directory."""
    initdb, data = postgres_program("initdb"), str(directory / "data")
    secret = directory / "secret"
    secret.write_text("s3cret")
    secret.chmod(0o644)
    command = [*prefix, initdb, "-D", data, "--auth=trust", "--no-sync", "-U", "nginy"]
    command += [f"--pwfile={secret}"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, cwd=directory)
    return data


def test_postgres(checks: Checks, place: tuple[str, int], open_directory: pathlib.Path) -> None:
    program = postgres_program("postgres")
    host, port = place
    prefix = as_user("postgres", open_directory)
    data = new_cluster(prefix, open_directory)
    argv = [*prefix, program, "-D", data, "-h", host, "-p", str(port), "-k", "", "-F"]
    with RealServer(argv, host, port, open_directory) as server:
        question = PostgresCheck("nginy", "postgres")
        wait_until(lambda: checks.ask(question, server.name) == PASSED)
        repeat(checks, server, question)
        assert not server.lines("FATAL|ERROR|WARNING|could not")
        failure = checks.ask(PostgresCheck("nginy", "shop"), server.name).failure
        assert failure == 'postgres: 3D000 database "shop" does not exist'
        checks.rest()
        assert checks.ask(PostgresCheck("nginy", "postgres", b"", "master"), server.name) == PASSED
        checks.rest()
        (open_directory / "data/pg_hba.conf").write_text("host all all all scram-sha-256\n")
        server.process.send_signal(signal.SIGHUP)
        wait_until(lambda: server.lines("reloading configuration"))
        repeat(checks, server, question)
        assert not server.lines("FATAL|ERROR|WARNING|could not")
        login = PostgresCheck("nginy", "postgres", b"s3cret", "master")
        repeat(checks, server, login)
        assert not server.lines("FATAL|ERROR|WARNING|could not")
        standby = replace(login, role="slave")
        failure = checks.ask(standby, server.name).failure
        assert failure == "postgres: role is master, expected slave"
        failure = checks.ask(replace(login, password=b"no"), server.name).failure
        assert failure == 'postgres: 28P01 password authentication failed for user "nginy"'
        checks.rest()
        go_through(checks, server, login)
    (open_directory / "data/standby.signal").touch()
    with RealServer(argv, host, port, open_directory) as server:
        wait_until(lambda: checks.ask(standby, server.name) == PASSED)
        failure = checks.ask(login, server.name).failure
        assert failure == "postgres: role is slave, expected master"


def test_mysql(checks: Checks, place: tuple[str, int], open_directory: pathlib.Path) -> None:
    program, install = (
        needs(name, "mariadb-server") for name in ("mariadbd", "mariadb-install-db")
    )
    client = needs("mariadb", "mariadb-client")
    host, port = place
    prefix = as_user("mysql", open_directory)
    data, unix = f"--datadir={open_directory / 'data'}", f"--socket={open_directory / 'socket'}"
    method = "--auth-root-authentication-method=normal"
    common = ["--no-defaults", data]
    subprocess.run(
        [*prefix, install, *common, method, "--skip-test-db"],
        check=True,
        stdout=subprocess.DEVNULL,
        cwd=open_directory,
    )
    argv = [*prefix, program, *common, unix, f"--bind-address={host}", f"--port={port}"]
    argv += ["--skip-name-resolve", "--log-warnings=2", "--innodb-fast-shutdown=2"]
    with RealServer(argv, host, port, open_directory) as server:
        users = "CREATE USER nginy@'%'; CREATE USER joe@'%' IDENTIFIED BY 's3cret';"
        subprocess.run([client, "--no-defaults", unix, "-u", "root", "-e", users], check=True)
        # The first login waits for what MariaDB still sets up, on a busy machine for long.
        login = MysqlCheck("joe", b"s3cret")
        wait_until(lambda: checks.ask(login, server.name) == PASSED, "the first login")
        checks.rest()
        repeat(checks, server, MysqlCheck("nginy"))
        assert not server.lines("aborted|warning.*(connect|packet)")
        assert checks.ask(MysqlCheck(), server.name) == PASSED
        failure = checks.ask(MysqlCheck("joe", b"wrong"), server.name).failure
        assert failure.startswith("mysql: error 1045: \"Access denied for user 'joe'@")
        assert checks.ask(MysqlCheck("nginy", b"", "master"), server.name) == PASSED
        read_only = "SET GLOBAL read_only = 1"
        subprocess.run([client, "--no-defaults", unix, "-u", "root", "-e", read_only], check=True)
        failure = checks.ask(MysqlCheck("nginy", b"", "master"), server.name).failure
        assert failure == 'mysql: role is slave (read_only is "1"), expected master'
        go_through(checks, server, MysqlCheck("nginy", b"", "slave"))
