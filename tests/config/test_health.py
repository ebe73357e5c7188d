"""The keys of health: what they become, and each mistake by its exact message."""

import pathlib

import pytest
from nginy.backend.checks.agent import AgentSettings
from nginy.backend.checks.checker import ProbeSettings
from nginy.backend.checks.settings import MonitorSettings, OnDown
from nginy.backend.health.eject import EjectSettings
from nginy.backend.health.schedule import CheckSettings
from nginy.config.building.health import monitor_settings
from nginy.config.dump import dump
from nginy.config.load import load
from nginy.config.schema import CONFIG
from nginy.errors import ConfigError
from nginy.event.tls_client import ClientTls
from nginy.wire.checks.dns import DnsCheck
from nginy.wire.checks.http import HttpCheck
from nginy.wire.checks.ldap import LdapCheck
from nginy.wire.checks.mail import ImapCheck, Pop3Check, SmtpCheck
from nginy.wire.checks.mqtt import MqttCheck
from nginy.wire.checks.mysql import MysqlCheck
from nginy.wire.checks.ntp import NtpCheck
from nginy.wire.checks.postgres import PostgresCheck
from nginy.wire.checks.radius import RadiusCheck
from nginy.wire.checks.redis import RedisCheck
from nginy.wire.checks.sip import SipCheck
from nginy.wire.checks.ssh import SshCheck
from nginy.wire.checks.steps import CheckStep, StepsCheck, single
from nginy.wire.checks.talk import Question
from nginy.wire.expect import parse_expect

from kit.tls import Authority

A_CERTIFICATE = "expected the path of a file with a certificate in PEM"
TEXT = """
upstreams:
  web:
    {balance}backends: [{backend}]
    {keys}
listeners: [{{listen: 127.0.0.1:8080, proxy_pass: web}}]
"""


def settings(
    tmp_path: pathlib.Path, keys: str, backend: str = "127.0.0.1:80", balance: str = ""
) -> MonitorSettings:
    path = tmp_path / "nginy.yml"
    path.write_text(TEXT.format(keys=keys, backend=backend, balance=balance))
    config = load(str(path), {})
    assert CONFIG.write(config)
    return monitor_settings(config.upstreams["web"])


def problem(tmp_path: pathlib.Path, keys: str, backend: str = "127.0.0.1:80", **more: str) -> str:
    """The one thing that is wrong, without its place."""
    with pytest.raises(ConfigError) as caught:
        settings(tmp_path, keys, backend, **more)
    (only,) = caught.value.problems
    assert only.line > 1
    return only.text


def test_without_any_key_nothing_is_watched(tmp_path: pathlib.Path) -> None:
    assert settings(tmp_path, "") == MonitorSettings()


def test_the_defaults_of_a_health_check(tmp_path: pathlib.Path) -> None:
    made = settings(tmp_path, "health_check: on")
    assert made == MonitorSettings(
        check=CheckSettings(5000, 5000, 1000, 0, 3, 2, True), probe=ProbeSettings()
    )


def test_every_key_arrives(tmp_path: pathlib.Path) -> None:
    check = (
        "{type: tcp, interval: 5s, interval_down: 2s, interval_changing: 1s, timeout: 700ms, "
        "jitter: 500ms, fails: 4, "
        'passes: 5, initial: down, port: 9, send: "PING\\r\\n\\\\x00", expect: "~P.NG"}'
    )
    made = settings(
        tmp_path,
        f"health_check: {check}\n    agent_check: {{port: 99, interval: 3s, send: hi}}\n"
        "    eject: {base: 10s, max: 1m, max_percent: 30}\n    fail_open: 0.3\n    on_down: reset",
    )
    assert made == MonitorSettings(
        check=CheckSettings(5000, 2000, 700, 500, 4, 5, False, 1000),
        probe=ProbeSettings(single(b"PING\r\n\x00", parse_expect("~P.NG")), port=9),
        agent=AgentSettings(99, 3000, 1000, b"hi"),
        eject=EjectSettings(10_000, 60_000, 30),
        fail_open=0.3,
        on_down=OnDown.RESET,
    )


def test_escapes_in_double_quotes_are_bytes_as_in_single_quotes(tmp_path: pathlib.Path) -> None:
    keys = r"{type: udp, send: '\xe3\x00\xff', expect: '\x85\x80'}"
    quoted_once = settings(tmp_path, f"health_check: {keys}")
    double = settings(tmp_path, "health_check: " + keys.replace("'", '"'))
    assert double == quoted_once
    assert double.probe is not None
    assert double.probe.question == single(b"\xe3\x00\xff", parse_expect(r"\x85\x80"))
    agent = settings(tmp_path, r'agent_check: {port: 1, send: "\xffé"}').agent
    assert agent is not None
    assert agent.send == b"\xff\xc3\xa9"


def test_the_keys_of_http_and_exec_arrive(tmp_path: pathlib.Path) -> None:
    http = settings(tmp_path, "health_check: {type: http, path: /up, host: www, status: 200 204}")
    assert http.probe == ProbeSettings(HttpCheck("/up", "www", frozenset({200, 204})))
    post = "method: POST, headers: {X-A: b}, body: '{}\\x00', expect: ~up"
    long = settings(tmp_path, f"health_check: {{type: http, {post}}}")
    assert long.probe == ProbeSettings(
        HttpCheck(
            method="POST",
            headers=(("X-A", "b"),),
            body=b"{}\0",
            expect=parse_expect("~up"),
        )
    )
    program = settings(tmp_path, "health_check: {type: exec, command: /bin/check 'a b' c}")
    assert program.probe == ProbeSettings(transport="exec", command=("/bin/check", "a b", "c"))
    listed = settings(tmp_path, "health_check: {type: exec, command: [/bin/check, a b, c]}")
    assert listed.probe == program.probe


@pytest.mark.parametrize(
    ("keys", "question"),
    [
        ("redis", RedisCheck()),
        ("{type: redis, role: master, user: joe}", RedisCheck("master", "joe")),
        ("mysql", MysqlCheck()),
        ("{type: mysql, user: joe, role: slave}", MysqlCheck("joe", b"", "slave")),
        ("postgres", PostgresCheck("nginy", "")),
        (
            "{type: postgres, user: joe, database: shop, role: master}",
            PostgresCheck("joe", "shop", b"", "master"),
        ),
        ("smtp", SmtpCheck()),
        ("pop3", Pop3Check()),
        ("imap", ImapCheck()),
        ("ldap", LdapCheck()),
        ("mqtt", MqttCheck()),
        ("{type: mqtt, user: joe}", MqttCheck("joe")),
        ("ssh", SshCheck()),
        ("{type: dns, name: a.test, transport: tcp}", DnsCheck("a.test")),
        (
            "{type: dns, name: a.test, transport: tcp, address: '2001:DB8::1'}",
            DnsCheck("a.test", "AAAA", "NOERROR", "2001:db8::1"),
        ),
        (
            "{type: dns, name: a.test, transport: tcp, record: MX, rcode: NXDOMAIN}",
            DnsCheck("a.test", "MX", "NXDOMAIN"),
        ),
    ],
)
def test_each_protocol_arrives(tmp_path: pathlib.Path, keys: str, question: Question) -> None:
    made = settings(tmp_path, f"health_check: {keys}")
    assert made.probe == ProbeSettings(question)


@pytest.mark.parametrize("kind", ["redis", "mysql", "postgres", "mqtt"])
def test_a_password_comes_from_its_file(tmp_path: pathlib.Path, kind: str) -> None:
    (tmp_path / "secret.txt").write_bytes(b"s3 cret\r\n")
    keys = f"{{type: {kind}, user: joe, password_file: secret.txt}}"
    made = settings(tmp_path, f"health_check: {keys}")
    assert made.probe is not None
    question = made.probe.question
    assert isinstance(question, RedisCheck | MysqlCheck | PostgresCheck | MqttCheck)
    assert (question.user, question.password) == ("joe", b"s3 cret")
    assert "cret" not in repr(made)


def test_the_protocols_over_udp_arrive(tmp_path: pathlib.Path) -> None:
    (tmp_path / "secret.txt").write_text("s3cret\n")
    for keys, question in (
        ("{type: dns, name: a.test}", DnsCheck("a.test")),
        ("ntp", NtpCheck()),
        ("{type: sip, status: 200 404}", SipCheck(frozenset({200, 404}))),
        ("{type: radius, password_file: secret.txt}", RadiusCheck(b"s3cret")),
    ):
        made = settings(tmp_path, f"health_check: {keys}")
        assert made.probe == ProbeSettings(question, transport="udp")


def test_a_password_needs_a_user_but_for_redis(tmp_path: pathlib.Path) -> None:
    (tmp_path / "secret.txt").write_text("s3cret")
    keys = "health_check: {type: %s, password_file: secret.txt}"
    assert settings(tmp_path, keys % "redis").probe is not None
    text = "password_file: needs a user, and none is set"
    assert problem(tmp_path, keys % "mqtt") == text


@pytest.mark.parametrize(
    "keys",
    [
        "{type: redis, role: master, password_file: secret.txt}",
        "{type: postgres, user: joe, database: shop}",
        "{type: dns, name: a.test, address: '2001:db8::1', transport: tcp, rcode: NOERROR}",
        "{type: radius, password_file: secret.txt}",
        r"{type: http, method: POST, headers: {X-A: b}, body: '\x00', expect: ~up}",
        r"{steps: [{expect: '220 '}, {send: '\x24 $port', expect: ~a, timeout: 1s, label: b}]}",
    ],
)
def test_a_check_is_dumped_as_it_was_read(tmp_path: pathlib.Path, keys: str) -> None:
    (tmp_path / "secret.txt").write_text("s3cret")
    file = tmp_path / "nginy.yml"
    file.write_text(
        "listeners: [{listen: 127.0.0.1:1, proxy_pass: web}]\nupstreams:\n  web:\n"
        f"    backends: [127.0.0.1:80]\n    health_check: {keys}\n"
    )
    config = load(str(file), {})
    text = dump(config)
    assert "s3cret" not in text
    file.write_text(text)
    assert load(str(file), {}) == config


def test_the_steps_arrive(tmp_path: pathlib.Path) -> None:
    steps = "[{expect: '220 '}, {send: 'EHLO $hostname', expect: '~^250', timeout: 1s, label: hi}]"
    made = settings(tmp_path, f"health_check: {{steps: {steps}}}")
    assert made.probe == ProbeSettings(
        StepsCheck(
            (
                CheckStep(b"", parse_expect("220 "), has_variables=True),
                CheckStep(b"EHLO $hostname", parse_expect("~^250"), 1000, "hi", has_variables=True),
            )
        )
    )


def test_a_timeout_that_is_not_set_ends_a_check_before_the_next_begins(
    tmp_path: pathlib.Path,
) -> None:
    for keys, timeout_ms in (
        ("interval: 10s", 1000),
        ("interval: 300ms", 300),
        ("interval: 10s, interval_down: 700ms", 700),
        ("interval: 10s, interval_changing: 200ms", 200),
    ):
        check = settings(tmp_path, f"health_check: {{{keys}}}").check
        assert check is not None
        assert check.timeout_ms == timeout_ms
    agent = settings(tmp_path, "agent_check: {port: 1, interval: 200ms}").agent
    assert agent is not None
    assert agent.timeout_ms == 200


def test_hash_methods_keep_their_weights(tmp_path: pathlib.Path) -> None:
    made = settings(tmp_path, "agent_check: 99", balance="balance: {hash: $remote_addr}\n    ")
    assert made.has_weights is False


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            "health_check: {jitter: 5s}",
            "jitter: 5s, expected less than an interval (5s)",
        ),
        (
            "health_check: {jitter: 1s, interval_down: 500ms}",
            "jitter: 1s, expected less than an interval (500ms)",
        ),
        (
            "health_check: {interval: 1s, timeout: 5s}",
            "timeout: 5s, expected at most interval (1s)",
        ),
        (
            "health_check: {interval: 9s, interval_down: 2s, timeout: 3s}",
            "timeout: 3s, expected at most interval_down (2s)",
        ),
        (
            "health_check: {interval: 9s, interval_changing: 1s, timeout: 3s}",
            "timeout: 3s, expected at most interval_changing (1s)",
        ),
        (
            "agent_check: {port: 1, timeout: 6s}",
            "timeout: 6s, expected at most interval (5s)",
        ),
        (
            "health_check: {type: exec, command: [check, x]}",
            (
                'command: "check", expected the absolute path of a program and its arguments, as '
                "one text or a list, or off"
            ),
        ),
        (
            "health_check: {type: http, headers: {Host: x}}",
            'headers: "Host" cannot be the name of a header',
        ),
        (
            "health_check: {type: http, method: HEAD, expect: x}",
            "expect: an answer to HEAD has no body",
        ),
        (
            "health_check: {type: http, method: get}",
            'method: "get" is not known, expected GET, HEAD, OPTIONS, POST or PUT',
        ),
        ("health_check: dns", 'health_check: "name" is missing, expected a host\'s name'),
        (
            "health_check: {type: dns, name: a..test}",
            'name: "a..test", expected a host\'s name',
        ),
        (
            "health_check: {type: dns, name: a.test, record: MX, address: 192.0.2.1}",
            "address: 192.0.2.1 cannot be in a record of type MX",
        ),
        (
            "health_check: {type: dns, name: a.test, address: '192.0.2.1:53'}",
            (
                'address: "192.0.2.1:53" has a port, expected an IP address such as 192.0.2.1 or '
                '2001:db8::1, or off (did you mean "192.0.2.1"?)'
            ),
        ),
        (
            "health_check: radius",
            (
                'health_check: "password_file" is missing, expected the path of a file with a '
                "password in its only line"
            ),
        ),
        ("health_check: {role: master}", "role: is for type redis, mysql or postgres, not tcp"),
        (
            "health_check: {type: mysql, role: master}",
            "role: needs a login, and user is not set",
        ),
        (
            "health_check: {type: redis, role: leader}",
            'role: "leader" is not known, expected master or slave, or off',
        ),
        (
            "health_check: {type: mysql, password_file: /dev/null}",
            (
                'password_file: "/dev/null" is empty, expected the path of a file with a password '
                "in its only line, or off"
            ),
        ),
        (
            "health_check: {type: mysql, password_file: /no/such/file}",
            (
                'password_file: "/no/such/file" cannot be read (No such file or directory), '
                "expected the path of a file with a password in its only line, or off"
            ),
        ),
        (
            "health_check: {type: mysql, password_file: /etc/passwd}",
            (
                'password_file: "/etc/passwd" has more than one line, '
                "expected the path of a file with a password in its only line, or off"
            ),
        ),
        (
            "health_check: {steps: [{send: x}], send: y}",
            "send: belongs in a step when there are steps",
        ),
        ("health_check: {steps: [{label: a}]}", "a step that neither sends nor expects anything"),
        (
            "health_check: {steps: [{send: x, timeout: 1s}]}",
            "timeout: is for a step with expect",
        ),
        (
            "health_check: {steps: [{expect: x, timeout: 2s}]}",
            "timeout: 2s, expected at most that of the check (1s)",
        ),
        (
            "health_check: {type: http, steps: [{send: x}]}",
            "steps: is for type tcp, udp or tls, not http",
        ),
        (
            "health_check: {steps: [{send: $host}]}",
            (
                'send: "***" cannot be used (the variables are $address, $port, $hostname; a '
                r"dollar sign is \x24), expected text, with escapes such as \r\n and \x00, and "
                "with $address, $port and $hostname"
            ),
        ),
        ("health_check: {type: http, send: x}", "send: is for type tcp, udp or tls, not http"),
        ("health_check: {path: /x}", "path: is for type http or https, not tcp"),
        (
            "health_check: {type: exec}",
            (
                'health_check: "command" is missing, expected the absolute path of a program and '
                "its arguments, as one text or a list"
            ),
        ),
        (
            "health_check: {type: exec, command: check}",
            (
                'command: "check" is not valid, expected the absolute path of a program and its '
                "arguments, as one text or a list, or off"
            ),
        ),
        (
            'health_check: {expect: ""}',
            (
                'expect: "" cannot be used (an expected text has 1 to 4096 bytes), expected a text '
                "to begin with, or ~ and a regular expression, or off"
            ),
        ),
        (
            "health_check: {send: '\\q'}",
            (
                'send: "***" cannot be used (an escape is one of \\xNN \\r \\n \\t \\\\ \\" and '
                "\\'), expected text, with escapes such as \\r\\n and \\x00"
            ),
        ),
        (
            "health_check: {type: http, status: ok}",
            (
                'status: "ok" cannot be used (a status is a number of three digits, or a range '
                "such as 200-399), expected statuses such as 200 or 200-399"
            ),
        ),
        (
            "health_check: {type: http, path: up}",
            (
                'path: "up" cannot be used (a path starts with / and has neither spaces nor '
                "characters beyond ASCII), expected a path such as /health"
            ),
        ),
        ("eject: {base: 10m}", "max: 5m, expected at least base (10m)"),
        (
            "eject: {base: 0}",
            'base: "0" would be over at once, expected a duration such as 500ms, 10s or 1m30s',
        ),
        (
            "fail_open: 0",
            (
                'fail_open: "0" would never apply, expected a number above 0 and up to 1, '
                'such as 0.3, or off (did you mean "off"?)'
            ),
        ),
        (
            "fail_open: 30%",
            (
                'fail_open: "30%" is not valid, expected a number above 0 and up to 1, such as '
                "0.3, or off"
            ),
        ),
        (
            "on_down: rest",
            'on_down: "rest" is not known, expected keep, close or reset (did you mean "reset"?)',
        ),
    ],
)
def test_each_mistake_is_named(tmp_path: pathlib.Path, keys: str, message: str) -> None:
    assert problem(tmp_path, keys) == message


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("health_check: udp", "type: udp cannot check a backend on a unix socket"),
        ("health_check: {port: 9}", "port: a backend on a unix socket has none"),
        ("agent_check: 9", "agent_check: a backend on a unix socket has no agent"),
    ],
)
def test_what_unix_sockets_cannot_have(tmp_path: pathlib.Path, keys: str, message: str) -> None:
    assert problem(tmp_path, keys, "unix:/tmp/x") == message


def test_slow_start_does_not_go_with_a_hash(tmp_path: pathlib.Path) -> None:
    text = problem(
        tmp_path,
        "",
        "{address: 127.0.0.1:80, slow_start: 5s}",
        balance="balance: {hash: $remote_addr}\n    ",
    )
    assert text == 'slow_start: cannot be combined with balance "hash"'


def test_https_verifies_unless_told_otherwise(tmp_path: pathlib.Path) -> None:
    probe = settings(tmp_path, "health_check: https").probe
    assert probe is not None
    assert probe.question == HttpCheck(name="https")
    assert probe.tls == ClientTls(alpn=("http/1.1",))
    assert probe.name is None
    probe = settings(tmp_path, "health_check: {type: tls}").probe
    assert probe is not None
    assert probe.tls == ClientTls(verify=False)


@pytest.mark.parametrize(
    ("keys", "name"),
    [
        ("name: a.test, host: b.test", "a.test"),
        ("host: 'b.test:8443'", "b.test"),
        ("host: b.test", "b.test"),
        ("host: '[2001:db8::1]:443'", None),
        ("path: /", None),
    ],
)
def test_the_name_within_tls_is_that_of_the_host(
    tmp_path: pathlib.Path, keys: str, name: str | None
) -> None:
    probe = settings(tmp_path, f"health_check: {{type: https, {keys}}}").probe
    assert probe is not None
    assert probe.name == name


def test_the_files_of_tls_are_read_with_the_configuration(tmp_path: pathlib.Path) -> None:
    authority = Authority(tmp_path / "authority")
    pem = authority.issue("DNS:nginy.test")
    keys = f"{{type: https, ca: {authority.certificate}, certificate: {pem}, key: {pem}}}"
    probe = settings(tmp_path, f"health_check: {keys}").probe
    assert probe is not None
    mine = pem.read_bytes()
    ca = authority.certificate.read_bytes()
    assert probe.tls == ClientTls(True, ca, mine, mine, ("http/1.1",))
    assert "PRIVATE" not in repr(probe)


def test_files_of_tls_that_are_of_no_use_are_refused(tmp_path: pathlib.Path) -> None:
    authority = Authority(tmp_path / "authority")
    one, other = (authority.issue(f"DNS:{name}.test") for name in ("one", "other"))
    broken = tmp_path / "broken.pem"
    broken.write_text("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")
    key = tmp_path / "other.key"
    key.write_bytes(other.read_bytes().partition(b"-----BEGIN CERT")[0])
    certificate = tmp_path / "one.crt"
    certificate.write_bytes(b"-----BEGIN CERT" + one.read_bytes().partition(b"-----BEGIN CERT")[2])
    for keys, message in (
        ("ca: broken.pem", f'ca: "{broken}" holds a damaged certificate'),
        ("ca: other.key", f'ca: "other.key" holds no certificate, {A_CERTIFICATE}, or system'),
        ("key: other.key", "key: needs a certificate, and none is set"),
        ("certificate: one.crt", f'certificate: "{certificate}" needs a key'),
        (
            "certificate: one.crt, key: other.key",
            f'key: "{key}" does not belong to the certificate',
        ),
        (
            "certificate: one.crt, key: one.crt",
            'key: "one.crt" holds no key, expected the path of a file with a key in PEM, or off',
        ),
        (
            "certificate: none.pem",
            (
                'certificate: "none.pem" cannot be read (No such file or directory), '
                f"{A_CERTIFICATE}, or off"
            ),
        ),
        ("verify: off, ca: one.crt", "ca: is for verify: on"),
        ("name: a..test", 'name: "a..test", expected a host\'s name'),
        ("verify: maybe", 'verify: "maybe" is not valid, expected on or off, or auto'),
    ):
        assert problem(tmp_path, f"health_check: {{type: https, {keys}}}") == message


def test_so_many_checks_are_made_at_once(tmp_path: pathlib.Path) -> None:
    path = tmp_path / "nginy.yml"
    text = TEXT.format(keys="health_check: on", backend="127.0.0.1:80", balance="")
    for more, most in (("", 100), ("max_checks: 7\n", 7)):
        path.write_text(more + text)
        assert load(str(path), {}).max_checks == most
    path.write_text("max_checks: 0\n" + text)
    with pytest.raises(ConfigError, match=r"max_checks: .*too small"):
        load(str(path), {})
