"""What one failing part of an answer may do to the rest: nothing."""

import itertools

import pytest
from nginy.backend.names.answers import Reply, Resolution, join, merge
from nginy.wire.dns import Answer, Outcome, RecordType, Srv

A, AAAA, SRV = RecordType.A, RecordType.AAAA, RecordType.SRV
FOUND, EMPTY, NO_NAME, FAILED = Outcome.FOUND, Outcome.EMPTY, Outcome.NO_NAME, Outcome.FAILED


def found(*addresses: str, ttl_s: int = 60) -> Answer:
    return Answer(FOUND, addresses=addresses, ttl_s=ttl_s)


def said(record_type: RecordType, answer: Answer) -> Reply:
    return Reply(record_type, answer)


def unanswered(record_type: RecordType, known: Answer | None = None) -> Reply:
    return Reply(record_type, known, is_stale=True, reason="timed out", is_silent=True)


V4, V6 = "10.0.0.1", "fd00::1"


@pytest.mark.parametrize(
    ("a", "aaaa", "outcome", "addresses"),
    [
        (said(A, found(V4)), said(AAAA, found(V6)), FOUND, (V4, V6)),
        # One type answers with addresses: the other cannot take them away.
        (said(A, found(V4)), said(AAAA, Answer(NO_NAME)), FOUND, (V4,)),
        (said(A, found(V4)), said(AAAA, Answer(EMPTY)), FOUND, (V4,)),
        (said(A, found(V4)), unanswered(AAAA), FOUND, (V4,)),
        (said(A, found(V4)), unanswered(AAAA, found(V6)), FOUND, (V4, V6)),
        (unanswered(A, found(V4)), said(AAAA, found(V6)), FOUND, (V4, V6)),
        # One type has no answer: what was known about it stays, whatever the other one says.
        (unanswered(A, found(V4)), said(AAAA, Answer(NO_NAME)), FAILED, (V4,)),
        (unanswered(A, found(V4)), said(AAAA, Answer(EMPTY)), FAILED, (V4,)),
        (said(A, Answer(NO_NAME)), unanswered(AAAA, found(V6)), FAILED, (V6,)),
        (said(A, Answer(EMPTY)), unanswered(AAAA, found(V6)), FAILED, (V6,)),
        (unanswered(A, found(V4)), unanswered(AAAA, found(V6)), FAILED, (V4, V6)),
        (unanswered(A), unanswered(AAAA), FAILED, ()),
        # Nothing was known: AAAA says nothing of A, but A is what most names have.
        (unanswered(A), said(AAAA, Answer(NO_NAME)), FAILED, ()),
        (unanswered(A), said(AAAA, Answer(EMPTY)), FAILED, ()),
        (said(A, Answer(NO_NAME)), unanswered(AAAA), NO_NAME, ()),
        (said(A, Answer(EMPTY)), unanswered(AAAA, Answer(EMPTY)), EMPTY, ()),
        # Both are answered for.
        (said(A, Answer(NO_NAME)), said(AAAA, Answer(NO_NAME)), NO_NAME, ()),
        (said(A, Answer(EMPTY)), said(AAAA, Answer(NO_NAME)), NO_NAME, ()),
        (said(A, Answer(EMPTY)), said(AAAA, Answer(EMPTY)), EMPTY, ()),
    ],
)
def test_two_types_of_one_name(
    a: Reply, aaaa: Reply, outcome: Outcome, addresses: tuple[str, ...]
) -> None:
    for replies in itertools.permutations((a, aaaa)):
        resolution = merge(replies, None)
        assert (resolution.outcome, resolution.addresses) == (outcome, addresses)


def test_an_answer_with_a_part_missing_does_not_hold_for_long() -> None:
    day = found(V4, ttl_s=86_400)
    assert merge([said(A, day), unanswered(AAAA)], None).ttl_ms == 10_000
    assert merge([said(A, day), said(AAAA, Answer(EMPTY))], None).ttl_ms == 86_400_000


def test_only_silence_of_all_who_failed_is_silence() -> None:
    refused = Reply(AAAA, None, is_stale=True, reason="SERVFAIL")
    assert merge([unanswered(A), unanswered(AAAA)], None).is_silent
    assert not merge([unanswered(A), refused], None).is_silent


# Services.


def listing(outcome: Outcome = FOUND, ttl_ms: int = 60_000) -> Resolution:
    return Resolution(outcome, ttl_ms=None if outcome is FAILED else ttl_ms, reason="timed out")


def resolved(*addresses: str, ttl_ms: int = 60_000) -> Resolution:
    return Resolution(FOUND, addresses, ttl_ms=ttl_ms)


GOOD, BAD = Srv(1, 5, 81, "good.example"), Srv(1, 5, 82, "bad.example")
NONE = Resolution(NO_NAME, ttl_ms=1000, reason="no such name")
UNKNOWN = Resolution(FAILED, reason="timed out")


@pytest.mark.parametrize(
    ("bad", "ttl_ms"), [(NONE, 10_000), (UNKNOWN, 10_000), (resolved(V6), 60_000)]
)
def test_a_target_that_fails_leaves_the_others(bad: Resolution, ttl_ms: int) -> None:
    resolution = join([GOOD, BAD], listing(), {GOOD.target: resolved(V4), BAD.target: bad})
    assert resolution.outcome is FOUND
    assert [e.address for e in resolution.endpoints] == [V4, *bad.addresses]
    assert resolution.ttl_ms == ttl_ms


def test_without_any_address_a_failure_is_no_empty_answer() -> None:
    known = {GOOD.target: NONE, BAD.target: UNKNOWN}
    assert join([GOOD, BAD], listing(), known).outcome is FAILED
    assert join([GOOD], listing(), {GOOD.target: NONE}).outcome is EMPTY


def test_records_without_a_port_are_left_out_and_named() -> None:
    portless = Srv(1, 5, 0, "portless.example")
    known = {GOOD.target: resolved(V4), portless.target: resolved(V6)}
    resolution = join([GOOD, portless], listing(), known)
    assert [e.address for e in resolution.endpoints] == [V4]
    assert resolution.left_out == ("the SRV record of portless.example has port 0",)
    alone = join([portless], listing(), known)
    assert (alone.outcome, alone.reason) == (EMPTY, "no SRV record has a port")


def test_a_configured_port_takes_the_place_of_each_record() -> None:
    portless = Srv(1, 5, 0, "portless.example")
    known = {GOOD.target: resolved(V4), portless.target: resolved(V6)}
    resolution = join([GOOD, portless], listing(), known, 9000)
    assert [(e.address, e.port) for e in resolution.endpoints] == [(V4, 9000), (V6, 9000)]
    assert resolution.left_out == ()


def test_records_of_before_lead_to_addresses_of_now() -> None:
    resolution = join([GOOD], listing(FAILED), {GOOD.target: resolved(V4)})
    assert (resolution.outcome, resolution.reason) == (FAILED, "timed out")
    assert [e.address for e in resolution.endpoints] == [V4]
