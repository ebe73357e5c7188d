"""The load agent's line, word by word."""

import random

import pytest
from nginy.wire.agent import MAX_LINE_BYTES, AgentAnswer, Mode, OperatingWord, parse_agent_line
from nginy.wire.errors import WireError


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        (b"", AgentAnswer()),
        (b"75%", AgentAnswer(weight_percent=75)),
        (b"0%", AgentAnswer(weight_percent=0)),
        (b"250%", AgentAnswer(weight_percent=250)),
        (b"99999%", AgentAnswer(weight_percent=25_600)),
        (b"maxconn:30", AgentAnswer(max_conns=30)),
        (b"MaxConn:0", AgentAnswer(max_conns=0)),
        (b"ready", AgentAnswer(mode=Mode.READY)),
        (b"drain", AgentAnswer(mode=Mode.DRAIN)),
        (b"maint", AgentAnswer(mode=Mode.MAINT)),
        (b"up", AgentAnswer(condition=OperatingWord.UP)),
        (b"down", AgentAnswer(condition=OperatingWord.DOWN)),
        (b"FAIL", AgentAnswer(condition=OperatingWord.FAIL)),
        (
            b"stopped # going home ",
            AgentAnswer(condition=OperatingWord.STOPPED, reason="going home"),
        ),
        (b"down#no #disk", AgentAnswer(condition=OperatingWord.DOWN, reason="no #disk")),
        (
            b" up\tready,75% ,maxconn:30",
            AgentAnswer(75, 30, Mode.READY, OperatingWord.UP),
        ),
        (b"up down", AgentAnswer(condition=OperatingWord.DOWN)),
        (b"drain ready", AgentAnswer(mode=Mode.READY)),
        (b"10% 20%", AgentAnswer(weight_percent=20)),
        (b"maxconn:1 maxconn:2", AgentAnswer(max_conns=2)),
        (b"down Sideways backward", AgentAnswer(condition=OperatingWord.DOWN, unknown="Sideways")),
        (b"down # drain 5%", AgentAnswer(condition=OperatingWord.DOWN, reason="drain 5%")),
        (b"-5%", AgentAnswer(unknown="-5%")),
        (b"75", AgentAnswer(unknown="75")),
        (b"75%x", AgentAnswer(unknown="75%x")),
        (b"1234567890%", AgentAnswer(unknown="1234567890%")),
        (b"maxconn:", AgentAnswer(unknown="maxconn:")),
        (b"maxconn: 30", AgentAnswer(unknown="maxconn:")),
        (b"maxconn:-1", AgentAnswer(unknown="maxconn:-1")),
        (b"\xc3\xbcp", AgentAnswer(unknown="\\xc3\\xbcp")),
        (b"down # \xff", AgentAnswer(condition=OperatingWord.DOWN, reason="\\xff")),
    ],
)
def test_a_line_says(line, expected):
    assert parse_agent_line(line + b"\n", is_eof=False) == expected


@pytest.mark.parametrize("end", [b"\n", b"\r", b"\r\n", b"\nmaint\n"])
def test_the_line_ends_at_the_first_carriage_return_or_line_feed(end):
    assert parse_agent_line(b"up" + end, is_eof=True) == AgentAnswer(condition=OperatingWord.UP)


def test_an_incomplete_line_waits_for_more():
    line = b"down maxconn:300\n"
    heads = [line[:n] for n in range(len(line))]
    assert [parse_agent_line(head, is_eof=False) for head in heads] == [None] * len(line)


@pytest.mark.parametrize("received", [b"", b"maxconn:30"])
def test_a_line_cut_short_by_the_end_of_the_connection_is_not_believed(received):
    with pytest.raises(WireError, match="incomplete"):
        parse_agent_line(received, is_eof=True)


def test_a_line_without_an_end_is_given_up_at_its_longest():
    assert parse_agent_line(b"x" * (MAX_LINE_BYTES - 1), is_eof=False) is None
    with pytest.raises(WireError, match="too long"):
        parse_agent_line(b"x" * MAX_LINE_BYTES, is_eof=False)


def test_a_line_feed_beyond_the_longest_line_does_not_count():
    with pytest.raises(WireError, match="too long"):
        parse_agent_line(b"x" * MAX_LINE_BYTES + b"\n", is_eof=False)


def test_random_lines_never_raise():
    seed = 20265
    print("seed", seed)
    rng = random.Random(seed)
    words = [b"up", b"down", b"5%", b"maxconn:", b"maxconn:7", b"#", b",", b"\t", b"%", b":"]
    for _ in range(2000):
        pieces = (rng.choice([*words, rng.randbytes(2)]) for _ in range(rng.randrange(9)))
        line = b" ".join(pieces).replace(b"\n", b"").replace(b"\r", b"")
        answer = parse_agent_line(line + b"\r\n", is_eof=True)
        assert answer is not None
        assert "\n" not in answer.reason
        assert answer.reason.isascii()
