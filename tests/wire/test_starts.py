r"""Starts: verdicts come with the first byte that decides, and never too early."""

import itertools
import random
import re

import pytest
from nginy.wire.errors import WireError
from nginy.wire.expect import Verdict
from nginy.wire.starts import parse_starts, partial

YES, NO, MORE = Verdict.YES, Verdict.NO, Verdict.MORE


@pytest.mark.parametrize(
    ("text", "head", "expected"),
    [
        ("SSH-", b"", MORE),
        ("SSH-", b"SS", MORE),
        ("SSH-", b"SSH-", YES),
        ("SSH-", b"SSH-2.0-x\r\n", YES),
        ("SSH-", b"G", NO),
        ("SSH-", b"SSX", NO),
        (r"\x03\x00", b"\x03", MORE),
        (r"\x03\x00", b"\x03\x00\x01", YES),
        ("~(GET|POST) ", b"", MORE),
        ("~(GET|POST) ", b"PO", MORE),
        ("~(GET|POST) ", b"POST /", YES),
        ("~(GET|POST) ", b"PUT", NO),
        ("~^(?:GET|POST) ", b"GE", MORE),
        ("~^[A-Z]+ /", b"OPTIONS", MORE),
        ("~^[A-Z]+ /", b"OPTIONS *", NO),
        ("~^[A-Z]{3,7} /", b"ABCDEFGH", NO),
        ("~GET", b" GET", NO),
        ("~a$", b"a", YES),
        ("~a$", b"ab", NO),
        (r"~\x00.{3}\x03", b"\x00\n", NO),
        (r"~(?s:\x00.{3}\x03)", b"\x00abcd", MORE),
        ("~(?i)get", b"ge", MORE),
        ("~(?i)get", b"GET", YES),
        ("~a(?=b)", b"a", MORE),
        ("~a(?=b)", b"ab", YES),
    ],
)
def test_a_head_is_judged_by_the_first_byte_that_decides(
    text: str, head: bytes, expected: Verdict
) -> None:
    starts = parse_starts(text)
    assert starts.judge(head, is_complete=False) is expected
    if expected is MORE:
        assert starts.judge(head, is_complete=True) is NO


def test_a_pattern_that_cannot_be_rewritten_waits_for_all() -> None:
    starts = parse_starts("~a(?=b)")
    assert starts.can_match is None
    assert starts.judge(b"x", is_complete=False) is MORE
    assert starts.judge(b"x", is_complete=True) is NO


@pytest.mark.parametrize(
    ("text", "reason"),
    [("", "1 to 4096"), ("~(", "not a regular"), ("~(a+)+b", "repetition"), (r"\q", "escape")],
)
def test_a_text_that_is_none_is_refused(text: str, reason: str) -> None:
    with pytest.raises(WireError, match=reason):
        parse_starts(text)


def test_what_is_shown_is_what_was_written() -> None:
    assert str(parse_starts("SSH-")) == '"SSH-"'
    assert str(parse_starts("~GET ")) == '"~GET "'


ATOMS = (b"a", b"b", b".", b"[ab]", b"[^a]", rb"\x61", rb"\.")
REPEATED = (b"a", b"b", b"[ab]", b"(a|b)", b"(?:ab)", b"(?:ab|a)")


def some_pattern(rng: random.Random, depth: int = 0) -> bytes:
    draw = rng.random()
    if depth > 2 or draw < 0.35:
        return rng.choice(ATOMS)
    if draw < 0.6:
        return some_pattern(rng, depth + 1) + some_pattern(rng, depth + 1)
    if draw < 0.75:
        return b"(?:%s|%s)" % (some_pattern(rng, depth + 1), some_pattern(rng, depth + 1))
    return rng.choice(REPEATED) + rng.choice((b"*", b"+", b"?", b"{2}", b"{1,2}", b"*?", b"{,2}"))


def test_no_head_is_given_up_that_more_bytes_may_complete() -> None:
    seed = 15
    print("seed", seed)
    rng = random.Random(seed)
    texts = [bytes(text) for size in range(6) for text in itertools.product(b"ab.", repeat=size)]
    given_up = 0
    for _ in range(300):
        pattern = some_pattern(rng)
        rewritten = partial(pattern)
        assert rewritten is not None, pattern
        full, possible = re.compile(pattern), re.compile(rewritten)
        matching = [text for text in texts if full.match(text)]
        open_heads = {text[:size] for text in matching for size in range(len(text) + 1)}
        for text in texts:
            is_given_up = possible.match(text) is None
            given_up += is_given_up
            assert not (is_given_up and text in open_heads), (pattern, text)
    assert given_up > 10_000
