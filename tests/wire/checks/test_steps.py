"""Several sends and expectations, and what their reasons say."""

import pytest
from nginy.text.address import parse_address
from nginy.wire.checks.steps import CheckStep, StepsCheck, parse_template, single
from nginy.wire.checks.talk import Step, Talk, Target
from nginy.wire.errors import WireError
from nginy.wire.expect import parse_expect

TARGET = Target(parse_address("[2001:db8::1]:25"), "here.test", bytes)


def step(send: str, expect: str = "", timeout_ms: int | None = None, label: str = "") -> CheckStep:
    expected = parse_expect(expect) if expect else None
    return CheckStep(parse_template(send), expected, timeout_ms, label, has_variables=True)


SMTP = StepsCheck(
    (
        step("", "~^220 .*\n", 300),
        step("EHLO $hostname\r\n", "~(?m)^250 .*\n", 500, "greeting"),
        step("QUIT\r\n"),
    )
)


def test_steps_go_on_as_answers_come() -> None:
    talk = Talk(SMTP, TARGET)
    assert talk.begin() == Step(timeout_ms=300)
    assert talk.receive(b"220 mail") == Step(timeout_ms=300)
    assert talk.receive(b" ESMTP\r\n") == Step((b"EHLO here.test\r\n",), timeout_ms=500)
    assert talk.receive(b"250-SIZE\r\n250 HELP\r\n") == Step((b"QUIT\r\n",), is_over=True)


def test_a_reason_names_the_step_by_its_label_or_its_number() -> None:
    talk = Talk(SMTP, TARGET)
    talk.begin()
    assert talk.late() == (
        "step 1: timed out while waiting for the answer: nothing came,"
        r' "~^220 .*\n" was expected'
    )
    talk.receive(b"220 mail\r\n")
    assert talk.receive(b"500 no\r\n", is_eof=True).failure == (
        'step "greeting": the answer is not as expected: "500 no\\r\\n" came,'
        r' "~(?m)^250 .*\n" was expected'
    )


def test_a_check_of_one_step_says_no_number() -> None:
    talk = Talk(single(expect=parse_expect("+")), TARGET)
    talk.begin()
    assert talk.receive(b"-").failure == (
        'the answer is not as expected: "-" came, "+" was expected'
    )


def test_steps_that_only_expect_read_on() -> None:
    talk = Talk(StepsCheck((step("", "ab"), step("", "cd"), step("", "~e"))), TARGET)
    talk.begin()
    assert talk.receive(b"abcd.e") == Step(is_over=True)


def test_what_came_before_a_send_is_no_answer_to_it() -> None:
    talk = Talk(StepsCheck((step("", "a"), step("x", "b"))), TARGET)
    talk.begin()
    assert talk.receive(b"a and more") == Step((b"x",))
    assert talk.receive(b"b") == Step(is_over=True)


def test_over_udp_each_answer_is_a_datagram() -> None:
    talk = Talk(StepsCheck((step("a", "1"), step("b", "2"))), TARGET, is_datagram=True)
    assert talk.begin() == Step((b"a",))
    assert talk.receive(b"1 and more") == Step((b"b",))
    assert talk.receive(b"1").failure.startswith("step 2: the answer is not as expected")


def test_over_udp_silence_after_the_last_step_is_fine_without_an_expectation() -> None:
    talk = Talk(StepsCheck((step("a", "1"), step("b"))), TARGET, is_datagram=True)
    talk.begin()
    assert talk.receive(b"1") == Step((b"b",))
    assert talk.is_silence_fine


@pytest.mark.parametrize(
    ("text", "sent"),
    [
        ("$address $port $hostname", b"2001:db8::1 25 here.test"),
        (r"\x24port $port\x61", b"$port 25a"),
        (r"\x00\xff$port\r\n", b"\x00\xff25\r\n"),
        ("", b""),
    ],
)
def test_what_a_step_sends_is_filled_in(text: str, sent: bytes) -> None:
    talk = Talk(StepsCheck((step(text, "x"),)), TARGET, is_datagram=True)
    assert talk.begin() == Step((sent,))


@pytest.mark.parametrize("text", ["$", "$ports", "$name", "a$\\x00", r"\q"])
def test_an_unknown_variable_or_escape_is_refused(text: str) -> None:
    with pytest.raises(WireError):
        parse_template(text)
