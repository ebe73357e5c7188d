"""Each protocol of health checks: what passes, what fails, and with which words.

A conversation is a list of what the server says; after each item stands what the check sends next.
"""

import random
from hashlib import sha1
from typing import NamedTuple

import pytest
from nginy.text.address import parse_address
from nginy.wire.checks.dns import DnsCheck
from nginy.wire.checks.http import HttpCheck
from nginy.wire.checks.ldap import BIND_REQUEST, UNBIND_REQUEST, LdapCheck
from nginy.wire.checks.mail import ImapCheck, Pop3Check, SmtpCheck
from nginy.wire.checks.mqtt import MqttCheck
from nginy.wire.checks.mysql import CACHING, COM_QUIT, MysqlCheck, scramble
from nginy.wire.checks.postgres import TERMINATE, PostgresCheck
from nginy.wire.checks.redis import RedisCheck
from nginy.wire.checks.scram import answer
from nginy.wire.checks.ssh import SshCheck
from nginy.wire.checks.steps import CheckStep, StepsCheck, parse_template
from nginy.wire.checks.talk import MAX_TALK_BYTES, Question, Talk, Target
from nginy.wire.expect import parse_expect
from nginy.wire.shown import shown

TARGET = Target(parse_address("192.0.2.1:25"), "here.test", bytes)
RANDOM = Target(parse_address("192.0.2.1:25"), "here.test", b"\xa5".__mul__)
MUTATIONS = 5000
"""Of all conversations in one protocol."""
QUIT = b"*1\r\n$4\r\nQUIT\r\n"
PING = b"*1\r\n$4\r\nPING\r\n"
ROLE = b"*1\r\n$4\r\nROLE\r\n"
EHLO = b"EHLO here.test\r\n"
MQTT = b"\x10\x1e\0\x04MQTT\x04\x02\0\x3c\0\x12nginy-000000000000"
STARTUP = b"\0\0\0\x3a\0\3\0\0user\0nginy\0database\0nginy\0application_name\0nginy\0\0"
GREETING = (
    b"\x0a10.11.4-MariaDB\0\x05\0\0\0saltsalt\0\xfe\xf7\x21\2\0\xff\x81\x15"
    + bytes(10)
    + b"saltsaltsalt\0mysql_native_password\0"
)


def packet(number: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "little") + bytes((number,)) + payload


def message(kind: bytes, body: bytes) -> bytes:
    return kind + (len(body) + 4).to_bytes(4, "big") + body


def login(answer: bytes, plugin: bytes = b"mysql_native_password") -> bytes:
    head = b"\x01\x82\x08\0\0\0\0\1\x21" + bytes(23) + b"nginy\0"
    return packet(1, head + bytes((len(answer),)) + answer + plugin + b"\0")


def result(value: bytes) -> bytes:
    end = b"\xfe\0\0\2\0"
    row = bytes((len(value),)) + value
    parts = [b"\x01", b"\x03def" + bytes(20), end, row, end]
    return b"".join(packet(number, part) for number, part in enumerate(parts, 1))


QUERY = packet(0, b"\x03SELECT @@global.read_only")


def bound(code: int, diagnostic: bytes = b"") -> bytes:
    inner = b"\x0a\x01" + bytes((code,)) + b"\x04\0\x04" + bytes((len(diagnostic),)) + diagnostic
    inner = b"\x02\x01\x01\x61" + bytes((len(inner),)) + inner
    return b"\x30" + bytes((len(inner),)) + inner


READY = message(b"Z", b"I")
TRUSTED = message(b"R", bytes(4))
STARTING = message(b"E", b"SFATAL\0VFATAL\0C57P03\0Mthe database system is starting up\0\0")
NO_DATABASE = message(b"E", b'SFATAL\0C3D000\0Mdatabase "x" does not exist\0\0')
NO_ENTRY = message(b"E", b"SFATAL\0C28000\0Mno pg_hba.conf entry\0\0")
FIRST = b"n=,r=" + b"0" * 24
SERVER_FIRST = b"r=" + b"0" * 24 + b"xyz,s=c2FsdA==,i=16"
LAST, THEIRS = answer(FIRST, SERVER_FIRST, b"pw")
IN_RECOVERY = message(b"Q", b"SELECT pg_is_in_recovery()\0")
ERR = packet(0, b"\xff\x69\x04Host 'h' is blocked")
DENIED = packet(2, b"\xff\x15\x04#28000Access denied")


def step(send: str, expect: str) -> CheckStep:
    return CheckStep(parse_template(send), parse_expect(expect), has_variables=True)


STEPS = StepsCheck(
    (
        step("", "~^220 .*\n"),
        step("EHLO $hostname\r\n", "~(?m)^250 .*\n"),
        step("QUIT\r\n", "ab"),
        step("", "cd"),
        step("", "~e"),
    )
)


def recovery(value: bytes) -> bytes:
    row = message(b"T", b"\0\1pg_is_in_recovery\0" + bytes(18))
    return row + message(b"D", b"\0\1\0\0\0\1" + value) + message(b"C", b"SELECT 1\0") + READY


class Case(NamedTuple):
    """A question, what is said to it, what it says in turn, its failure and its goodbye."""

    question: Question
    said: list[bytes]
    sent: list[bytes]
    failure: str = ""
    goodbye: bytes = b""


CASES = {
    "redis": Case(RedisCheck(), [b"+PONG\r\n"], [PING], "", QUIT),
    "redis master": Case(
        RedisCheck("master"),
        [b"+PONG\r\n", b"*3\r\n$6\r\nmaster\r\n:1\r\n*0\r\n"],
        [PING, ROLE],
        "",
        QUIT,
    ),
    "redis slave": Case(
        RedisCheck("master"),
        [b"+PONG\r\n", b"*5\r\n$5\r\nslave\r\n$9\r\n127.0.0.1\r\n"],
        [PING, ROLE],
        "redis: role is slave, expected master",
        QUIT,
    ),
    "redis login": Case(
        RedisCheck("", "joe", b"a b"),
        [b"+OK\r\n", b"+PONG\r\n"],
        [b"*3\r\n$4\r\nAUTH\r\n$3\r\njoe\r\n$3\r\na b\r\n", PING],
        "",
        QUIT,
    ),
    "redis without a login": Case(
        RedisCheck(),
        [b"-NOAUTH Authentication required.\r\n"],
        [PING],
        'redis: "-NOAUTH Authentication required." came, "+PONG" was expected',
        QUIT,
    ),
    "redis is no http": Case(
        RedisCheck(),
        [b"HTTP/1.1 400 Bad Request\r\n"],
        [PING],
        'redis: the answer is not as expected: "HTTP/1.1 400 Bad Request\\r\\n" came, '
        '"+PONG" was expected',
        QUIT,
    ),
    "smtp": Case(
        SmtpCheck(),
        [b"220-hello\r\n220 mail.test ESMTP\r\n", b"250-mail.test\r\n250-SIZE\r\n250 HELP\r\n"],
        [EHLO],
        "",
        b"QUIT\r\n",
    ),
    "smtp by helo": Case(
        SmtpCheck(),
        [b"220 old\r\n", b"500 what?\r\n", b"250\r\n"],
        [EHLO, b"HELO here.test\r\n"],
        "",
        b"QUIT\r\n",
    ),
    "smtp is busy": Case(
        SmtpCheck(),
        [b"421 too many connections\r\n"],
        [],
        'smtp: "421 too many connections" came, 220 was expected',
        b"QUIT\r\n",
    ),
    "smtp changes its mind": Case(
        SmtpCheck(), [b"220-a\r\n250 b\r\n"], [], 'smtp: "250 b" came, 220 was expected'
    ),
    "pop3": Case(Pop3Check(), [b"+OK ready\r\n"], [], "", b"QUIT\r\n"),
    "pop3 fails": Case(
        Pop3Check(),
        [b"-ERR [SYS/TEMP] busy\r\n"],
        [],
        'pop3: "-ERR [SYS/TEMP] busy" came, "+OK" was expected',
        b"QUIT\r\n",
    ),
    "imap": Case(ImapCheck(), [b"* OK [CAPABILITY IMAP4rev1] hi\r\n"], [], "", b"a LOGOUT\r\n"),
    "imap preauth": Case(ImapCheck(), [b"* PREAUTH hi\r\n"], [], "", b"a LOGOUT\r\n"),
    "imap fails": Case(
        ImapCheck(), [b"* BYE full\r\n"], [], 'imap: "* BYE full" came, "* OK" was expected'
    ),
    "ssh old": Case(
        SshCheck(),
        [b"SSH-1.5-x\r\n"],
        [],
        'ssh: "SSH-1.5-x" came, "SSH-2.0-" was expected',
    ),
    "mqtt": Case(MqttCheck(), [b"\x20\2\0\0"], [MQTT], "", b"\xe0\0"),
    "mqtt refuses": Case(MqttCheck(), [b"\x20\2\0\5"], [MQTT], "mqtt: not authorized (5)"),
    "mqtt login": Case(
        MqttCheck("u", b"pw"),
        [b"\x20\2\0\0"],
        [MQTT[:1] + b"\x25" + MQTT[2:9] + b"\xc2" + MQTT[10:] + b"\0\1u\0\2pw"],
        "",
        b"\xe0\0",
    ),
    "ldap": Case(LdapCheck(), [bound(0)], [BIND_REQUEST], "", UNBIND_REQUEST),
    "ldap refuses": Case(
        LdapCheck(),
        [bound(48, b"anonymous bind disallowed")],
        [BIND_REQUEST],
        'ldap: inappropriate authentication (48): "anonymous bind disallowed"',
        UNBIND_REQUEST,
    ),
    "postgres with a password": Case(
        PostgresCheck(), [message(b"R", b"\0\0\0\x0aSCRAM-SHA-256\0\0")], [STARTUP]
    ),
    "postgres": Case(
        PostgresCheck(),
        [TRUSTED + message(b"S", b"TimeZone\0UTC\0") + message(b"K", bytes(8)) + READY],
        [STARTUP],
        "",
        TERMINATE,
    ),
    "postgres master": Case(
        PostgresCheck(role="master"),
        [TRUSTED + READY, recovery(b"f")],
        [STARTUP, IN_RECOVERY],
        "",
        TERMINATE,
    ),
    "postgres standby": Case(
        PostgresCheck(role="master"),
        [TRUSTED + READY, recovery(b"t")],
        [STARTUP, IN_RECOVERY],
        "postgres: role is slave, expected master",
        TERMINATE,
    ),
    "postgres without a row": Case(
        PostgresCheck(role="slave"),
        [TRUSTED + READY, READY],
        [STARTUP, IN_RECOVERY],
        "postgres: the answer to a query has no row",
        TERMINATE,
    ),
    "postgres wants a password for the role": Case(
        PostgresCheck(role="slave"),
        [message(b"R", b"\0\0\0\x0aSCRAM-SHA-256\0\0")],
        [STARTUP],
        "postgres: the server wants a password before it tells its role",
    ),
    "postgres login": Case(
        PostgresCheck(password=b"pw"),
        [
            message(b"R", b"\0\0\0\x0aSCRAM-SHA-256-PLUS\0SCRAM-SHA-256\0\0"),
            message(b"R", b"\0\0\0\x0b" + SERVER_FIRST),
            message(b"R", b"\0\0\0\x0c" + THEIRS) + TRUSTED + READY,
        ],
        [STARTUP, message(b"p", b"SCRAM-SHA-256\0\0\0\0\x20n,," + FIRST), message(b"p", LAST)],
        "",
        TERMINATE,
    ),
    "postgres does not know the password": Case(
        PostgresCheck(password=b"pw"),
        [
            message(b"R", b"\0\0\0\x0aSCRAM-SHA-256\0\0"),
            message(b"R", b"\0\0\0\x0b" + SERVER_FIRST),
            message(b"R", b"\0\0\0\x0cv=AAAA"),
        ],
        [STARTUP, message(b"p", b"SCRAM-SHA-256\0\0\0\0\x20n,," + FIRST), message(b"p", LAST)],
        "postgres: the server does not know the password itself",
    ),
    "postgres refuses the login": Case(
        PostgresCheck(password=b"pw"), [NO_ENTRY], [STARTUP], "postgres: 28000 no pg_hba.conf entry"
    ),
    "postgres wants md5": Case(
        PostgresCheck(password=b"pw"),
        [message(b"R", b"\0\0\0\5salt")],
        [STARTUP],
        "postgres: the server wants a login other than SCRAM-SHA-256",
    ),
    "postgres without an entry": Case(PostgresCheck(), [NO_ENTRY], [STARTUP]),
    "postgres starts": Case(
        PostgresCheck(),
        [STARTING],
        [STARTUP],
        "postgres: 57P03 the database system is starting up",
    ),
    "postgres without the database": Case(
        PostgresCheck(),
        [TRUSTED + NO_DATABASE],
        [STARTUP],
        'postgres: 3D000 database "x" does not exist',
        TERMINATE,
    ),
    "mysql": Case(MysqlCheck(), [packet(0, GREETING)], []),
    "mysql blocks": Case(MysqlCheck(), [ERR], [], "mysql: error 1129: \"Host 'h' is blocked\""),
    "mysql user": Case(
        MysqlCheck("nginy"), [packet(0, GREETING), packet(2, bytes(7))], [login(b"")], "", COM_QUIT
    ),
    "mysql login": Case(
        MysqlCheck("nginy", b"pw"),
        [packet(0, GREETING), packet(2, bytes(7))],
        [login(scramble(b"mysql_native_password", b"pw", b"salt" * 5))],
        "",
        COM_QUIT,
    ),
    "mysql denies": Case(
        MysqlCheck("nginy"),
        [packet(0, GREETING), DENIED],
        [login(b"")],
        'mysql: error 1045: "Access denied"',
    ),
    "mysql switches": Case(
        MysqlCheck("nginy", b"pw"),
        [
            packet(0, GREETING),
            packet(2, b"\xfe" + CACHING + b"\0" + b"tlas" * 5 + b"\0"),
            packet(4, b"\x01\x03") + packet(5, bytes(7)),
        ],
        [
            login(scramble(b"mysql_native_password", b"pw", b"salt" * 5)),
            packet(3, scramble(CACHING, b"pw", b"tlas" * 5)),
        ],
        "",
        COM_QUIT,
    ),
    "mysql wants tls": Case(
        MysqlCheck("nginy", b"pw"),
        [packet(0, GREETING), packet(2, b"\x01\x04")],
        [login(scramble(b"mysql_native_password", b"pw", b"salt" * 5))],
        "mysql: the server wants the password itself, which needs TLS",
    ),
    "mysql master": Case(
        MysqlCheck("nginy", b"", "master"),
        [packet(0, GREETING), packet(2, bytes(7)), result(b"0")],
        [login(b""), QUERY],
        "",
        COM_QUIT,
    ),
    "mysql slave": Case(
        MysqlCheck("nginy", b"", "master"),
        [packet(0, GREETING), packet(2, bytes(7)), result(b"ON")],
        [login(b""), QUERY],
        'mysql: role is slave (read_only is "ON"), expected master',
        COM_QUIT,
    ),
    "mysql forbids": Case(
        MysqlCheck("nginy", b"", "slave"),
        [packet(0, GREETING), packet(2, bytes(7)), packet(1, b"\xff\x20\x04#42000No")],
        [login(b""), QUERY],
        'mysql: error 1056: "No"',
        COM_QUIT,
    ),
    "mysql says too little": Case(
        MysqlCheck("nginy", b"", "slave"),
        [packet(0, GREETING), packet(2, bytes(7)), packet(1, b"\x02") + result(b"0")],
        [login(b""), QUERY],
        "mysql: the answer to a query is not one value",
        COM_QUIT,
    ),
    "steps": Case(
        STEPS,
        [b"220 mail.test\r\n", b"250-SIZE\r\n250 HELP\r\n", b"abcd.e"],
        [EHLO, b"QUIT\r\n"],
    ),
    "steps fail": Case(
        STEPS,
        [b"220 mail.test\r\n", b"250 HELP\r\n", b"abd"],
        [EHLO, b"QUIT\r\n"],
        'step 4: the answer is not as expected: "d" came, "cd" was expected',
    ),
    "mysql is old": Case(
        MysqlCheck(), [packet(0, b"\x0a3.23\0abc")], [], "mysql: the server is older than MySQL 4.1"
    ),
}
SSH = Case(SshCheck(), [b"hello\r\nSSH-2.0-OpenSSH_9.2\r\n"], [])
every_case = pytest.mark.parametrize("case", [*CASES.values(), SSH], ids=[*CASES, "ssh"])


def converse(case: Case, size: int) -> tuple[list[bytes], str, bytes]:
    """What the check has sent, its failure, and its goodbye, if the server says `size` at once."""
    talk = Talk(case.question, TARGET)
    step = talk.begin()
    sent = [*step.sends]
    for said in case.said:
        for start in range(0, len(said), size):
            if step.is_over:
                break
            step = talk.receive(said[start : start + size])
            sent += step.sends
    assert step.is_over
    return sent, step.failure, talk.goodbye


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_a_conversation(case: Case) -> None:
    assert converse(case, 1 << 16) == (case.sent, case.failure, case.goodbye)


@every_case
def test_the_bytes_may_come_in_any_pieces(case: Case) -> None:
    if "not as expected" in case.failure:
        return  # shows what has come so far, and is found at the first wrong byte
    whole = converse(case, 1 << 16)
    for size in range(1, max(len(said) for said in case.said)):
        assert converse(case, size) == whole


@every_case
def test_an_answer_that_is_cut_short_fails(case: Case) -> None:
    for count in range(len(case.said)):
        for end in range(len(case.said[count])):
            talk = Talk(case.question, TARGET)
            step = talk.begin()
            for said in [*case.said[:count], case.said[count][:end]]:
                if not step.is_over:
                    step = talk.receive(said)
            if step.is_over:
                continue  # the end was not needed
            assert talk.late()
            assert talk.receive(b"", is_eof=True).failure


@every_case
def test_a_broken_answer_ends_without_a_bug(case: Case) -> None:
    rng = random.Random(str(case))
    of_protocol = sum(each.question.name == case.question.name for each in [*CASES.values(), SSH])
    for _ in range(MUTATIONS // of_protocol + 1):
        talk = Talk(case.question, TARGET)
        step = talk.begin()
        for said in case.said:
            data = bytearray(said)
            for _ in range(rng.randint(0, 3)):
                place = rng.randrange(len(data))
                data[place : place + rng.randint(0, 2)] = rng.randbytes(rng.randint(0, 2))
                data = data or bytearray(b"\xff")
            if not step.is_over:
                step = talk.receive(bytes(data), is_eof=rng.random() < 0.1)
        if not step.is_over:
            step = talk.receive(b"", is_eof=True)
        assert step.is_over


@every_case
@pytest.mark.parametrize("noise", [b"\0", b"\xff", b"220-\r\n", b"0\x7f", b"R\0\0\0\x04", b"x\n"])
def test_an_endless_stream_ends_the_check(case: Case, noise: bytes) -> None:
    talk = Talk(case.question, TARGET)
    step = talk.begin()
    for said in case.said[:-1]:
        if not step.is_over:
            step = talk.receive(said)
    count = 0
    while not step.is_over:
        step = talk.receive(noise * 1000)
        count += len(noise) * 1000
    assert count <= MAX_TALK_BYTES + len(noise) * 1000


GREETINGS = {
    "redis": b"-ERR wrong number of arguments\r\n",
    "smtp": b"220 mail.test ESMTP\r\n",
    "pop3": b"+OK ready\r\n",
    "imap": b"* OK [CAPABILITY IMAP4rev1] hi\r\n",
    "ssh": b"SSH-2.0-OpenSSH_9.2\r\nInvalid SSH identification string.\r\n",
    "mysql": packet(0, GREETING),
    "postgres": message(b"E", b"SFATAL\0C08P01\0Mno PostgreSQL user name\0\0"),
    "ldap": bound(2),
    "mqtt": b"\x20\2\0\1",
    "http": b"HTTP/1.1 400 Bad Request\r\nServer: x\r\n\r\n",
}
"""What a server says to a client, unasked or to something that it does not understand."""
QUESTIONS = (
    *(RedisCheck("master"), MysqlCheck("nginy"), PostgresCheck(), SmtpCheck(), Pop3Check()),
    *(ImapCheck(), LdapCheck(), MqttCheck(), SshCheck(), HttpCheck(name="http")),
    DnsCheck("a.test"),
)


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda question: question.name)
def test_a_server_of_another_protocol_fails_and_is_shown(question: Question) -> None:
    for protocol, said in GREETINGS.items():
        if protocol == question.name:
            continue
        talk = Talk(question, RANDOM)
        talk.begin()
        step = talk.receive(said)
        if not step.is_over:
            assert talk.late().startswith(f"{question.name}: timed out")
            step = talk.receive(b"", is_eof=True)
        assert step.failure.startswith(f"{question.name}: ")
        if (question.name, protocol) not in READ_ON:
            assert shown(said[:4])[:-1] in step.failure
    step = Talk(question, RANDOM).receive(b"", is_eof=True)
    assert "the connection was closed without an answer: nothing came, " in step.failure


READ_ON = {("postgres", "mysql"), ("mysql", "postgres"), ("mysql", "mqtt")}
"""What can be the beginning of a message, so that the failure comes with the next one."""


@pytest.mark.parametrize(
    ("question", "said"),
    [
        (LdapCheck(), b"\x30\x84\xff\xff\xff\xff"),
        (LdapCheck(), b"\x30\x80"),
        (LdapCheck(), b"\x30\x8f"),
        (LdapCheck(), b"\x30\x05\x02\x7f\x01\x61\x00"),
        (LdapCheck(), b"\x30\x06\x02\x84\x01\x61\x00\x00"),
        (PostgresCheck(), b"R\xff\xff\xff\xff"),
        (PostgresCheck(), b"E\0\0\0\0"),
        (MysqlCheck(), b"\xff\xff\xff\0"),
        (MysqlCheck(), b"\0\0\0\0"),
        (MqttCheck(), b"\x20\x7f"),
        (RedisCheck("master"), b"+PONG\r\n*x\r\n"),
    ],
)
def test_a_length_that_lies_fails_at_once(question: Question, said: bytes) -> None:
    talk = Talk(question, TARGET)
    step = talk.begin()
    for byte in said:
        if not step.is_over:
            step = talk.receive(bytes((byte,)))
    assert step.failure


def test_ssh_leaves_by_a_disconnect_message() -> None:
    talk = Talk(SshCheck(), TARGET)
    talk.begin()
    assert talk.receive(b"SSH-2.0-x\r\n").is_over
    identification, _, packet_ = talk.goodbye.partition(b"\r\n")
    assert identification == b"SSH-2.0-nginy"
    assert int.from_bytes(packet_[:4], "big") == len(packet_) - 4
    assert len(packet_) % 8 == 0
    assert packet_[4] >= 4
    assert packet_[5:10] == b"\1\0\0\0\x0b"


def test_the_native_password_is_mysqls() -> None:
    """SHA1(password) XOR SHA1(salt + SHA1(SHA1(password))), undone as the server does it."""
    salt, stored = bytes(range(20)), sha1(sha1(b"secret").digest()).digest()
    answer = scramble(b"mysql_native_password", b"secret", salt)
    mask = sha1(salt + stored).digest()
    once = bytes(a ^ b for a, b in zip(answer, mask, strict=True))
    assert sha1(once).digest() == stored
