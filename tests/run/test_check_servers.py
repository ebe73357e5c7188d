"""Health checks over TCP against the servers that they are for, as Debian packages them.

A server that is not installed skips its test, naming the package. kit/asked.py says what each goes
through; test_check_datagram_servers.py has those that answer over UDP.
"""

import os
import pathlib
import pwd
import signal
import subprocess
from dataclasses import replace
from functools import partial

import pytest
from nginy.backend.checks.dialog import PASSED
from nginy.event.tls_client import ClientTls
from nginy.wire.checks.http import HttpCheck
from nginy.wire.checks.ldap import LdapCheck
from nginy.wire.checks.mail import ImapCheck, Pop3Check, SmtpCheck
from nginy.wire.checks.mqtt import MqttCheck
from nginy.wire.checks.mysql import MysqlCheck
from nginy.wire.checks.postgres import PostgresCheck
from nginy.wire.checks.redis import RedisCheck
from nginy.wire.checks.ssh import SshCheck
from nginy.wire.checks.talk import Question
from nginy.wire.expect import parse_expect

from kit.asked import Checks, RealServer, as_user, go_through, repeat
from kit.program import free_port, needs, wait_until
from kit.tls import Authority

pytestmark = [pytest.mark.real, pytest.mark.timeout(120)]


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
    argv += ["--loglevel", "verbose"]
    with RealServer(argv, host, port, tmp_path) as server:
        repeat(checks, server, RedisCheck("", "default", b"s 3"))
        repeat(checks, server, RedisCheck("master", "", b"s 3"))
        assert not server.lines("error|protocol|reset")
        assert "WRONGPASS" in checks.ask(RedisCheck("", "", b"no"), server.name).failure
        assert "NOAUTH" in checks.ask(RedisCheck(), server.name).failure
        go_through(checks, server, RedisCheck("master", "", b"s 3"))


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
    # Since 9.8 it turns away clients that left without a login 15 times within 15 s.
    patience = ["-o", "PerSourcePenalties=no"]
    if not subprocess.run([*argv, *patience, "-t"], capture_output=True, check=False).returncode:
        argv += patience
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
        f"listener {port} {host}\npassword_file {passwords}\nuser {user}\nlog_dest stderr\n"
    )
    argv = [program, "-c", str(tmp_path / "conf")]
    with RealServer(argv, host, port, tmp_path) as server:
        assert checks.ask(MqttCheck(), server.name).failure == "mqtt: not authorized (5)"
        assert "(5)" in checks.ask(MqttCheck("joe", b"no"), server.name).failure
        checks.rest()
        login = MqttCheck("joe", b"s3cret")
        repeat(checks, server, login, r"disconnected\.$")
        assert not server.lines("error|exceeded|malformed|closed its connection|not authori")
        go_through(checks, server, login)


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
