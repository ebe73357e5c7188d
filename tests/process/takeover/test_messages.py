"""What a nginy and its successor say to each other: message by message, and what is malformed."""

import pytest
from nginy.process.takeover.link import link_pair
from nginy.process.takeover.messages import (
    DATA_MAX_BYTES,
    DESCRIPTORS_MAX,
    LINK_VARIABLE,
    MESSAGE_MAX_BYTES,
    VERSIONS,
    Message,
    MessageError,
    MessageMembers,
    common_version,
    decode,
    encode,
    pieces,
)
from nginy.process.takeover.predecessor import PROBLEM_CHARACTERS, PROBLEMS_MAX, tell_failure


@pytest.mark.parametrize("letter", ["x", "\u00fc", "\U0001f600"])
def test_many_long_problems_in_any_script_fit_into_a_message(letter: str) -> None:
    ours, theirs = link_pair()
    with ours:
        tell_failure({LINK_VARIABLE: f"{theirs.detach()};1"}, [letter * 2000] * 50)
        members = MessageMembers(decode(ours.recv(MESSAGE_MAX_BYTES)).members)
    assert members.text("word") == "failed"
    assert members.items("problems") == [letter * PROBLEM_CHARACTERS] * PROBLEMS_MAX


@pytest.mark.parametrize(
    "message",
    [
        Message("hello", {"speaks": [1, 2], "pid": 4711}),
        Message("known", {}),
        Message("rest", {"number": 1}, b"a line\nand another\n\x00\xff"),
        Message("session", {"text": "ü\ud800 \n"}, b"", [7, 8]),
        Message("rest", {}, bytes(DATA_MAX_BYTES)),
    ],
)
def test_a_message_arrives_as_it_left(message: Message) -> None:
    assert decode(encode(message), message.fds) == Message(
        message.word, {"word": message.word, **message.members}, message.data, message.fds
    )


@pytest.mark.parametrize(
    "message",
    [
        Message("known", {"text": "x" * MESSAGE_MAX_BYTES}),
        Message("rest", {}, bytes(MESSAGE_MAX_BYTES)),
        Message("session", {}, b"", range(DESCRIPTORS_MAX + 1)),
    ],
)
def test_what_does_not_fit_is_not_sent(message: Message) -> None:
    with pytest.raises(MessageError, match="does not fit"):
        encode(message)


@pytest.mark.parametrize(
    ("whole", "wrong"),
    [
        (b"", "0 bytes are no message"),
        (b'{"word":"known"}', "16 bytes are no message"),
        (b'{"word":"kno\n', "is no JSON"),
        (b"\xff\n", "is no JSON"),
        (b"[" * 60000 + b"\n", "is no JSON"),
        (b"[]\n", 'has no "word"'),
        (b'{"words":"known"}\n', 'has no "word"'),
        (b'{"word":1}\n', 'has no "word"'),
        (b'{"word":"rest"}\n' + bytes(MESSAGE_MAX_BYTES), "are no message"),
    ],
)
def test_half_a_message_and_nonsense_are_refused(whole: bytes, wrong: str) -> None:
    with pytest.raises(MessageError, match=wrong):
        decode(whole)


MEMBERS = MessageMembers(
    {
        "n": 3,
        "minus": -1,
        "null": None,
        "t": "text",
        "hex": "00ff",
        "yes": True,
        "list": [1, {"n": 2}],
        "objects": [{"n": 2}],
        "o": {"n": 4},
        "numbers": {"a": 1, "b": 2},
        "newer": "than this program",
    }
)


def test_members_have_the_type_that_is_asked_for() -> None:
    assert MEMBERS.number("n") == MEMBERS.count("n") == MEMBERS.maybe_number("n") == 3
    assert MEMBERS.number("minus") == -1
    assert MEMBERS.maybe_number("null") is MEMBERS.maybe_number("absent") is None
    assert MEMBERS.text("t") == MEMBERS.maybe_text("t") == "text"
    assert (MEMBERS.text("absent"), MEMBERS.maybe_text("absent")) == ("", None)
    assert MEMBERS.bytes("hex") == b"\x00\xff"
    assert (MEMBERS.flag("yes"), MEMBERS.flag("absent")) == (True, False)
    assert (MEMBERS.items("list"), MEMBERS.items("absent")) == ([1, {"n": 2}], [])
    assert [each.number("n") for each in MEMBERS.objects("objects")] == [2]
    assert MEMBERS.object("o").number("n") == 4
    assert MEMBERS.maybe_object("null") is None
    assert (MEMBERS.numbers("numbers"), MEMBERS.numbers("absent")) == ({"a": 1, "b": 2}, {})


@pytest.mark.parametrize(
    ("method", "name"),
    [
        ("number", "t"),
        ("number", "yes"),
        ("number", "absent"),
        ("count", "minus"),
        ("maybe_number", "t"),
        ("text", "n"),
        ("maybe_text", "n"),
        ("flag", "n"),
        ("bytes", "t"),
        ("items", "o"),
        ("objects", "list"),
        ("object", "absent"),
        ("object", "list"),
        ("numbers", "list"),
    ],
)
def test_members_of_another_type_are_refused(method: str, name: str) -> None:
    with pytest.raises(MessageError):
        getattr(MEMBERS, method)(name)


def test_both_go_on_with_the_highest_version_that_both_speak() -> None:
    assert common_version([*VERSIONS, VERSIONS[-1] + 1]) == VERSIONS[-1]
    assert common_version([VERSIONS[-1] + 1, "1", None]) is None
    assert common_version([]) is None


@pytest.mark.parametrize(
    ("size", "sizes"),
    [
        (0, [0]),
        (1, [1]),
        (DATA_MAX_BYTES, [DATA_MAX_BYTES]),
        (DATA_MAX_BYTES + 1, [DATA_MAX_BYTES, 1]),
    ],
)
def test_long_rests_come_in_pieces(size: int, sizes: list[int]) -> None:
    data = bytes(range(256)) * (size // 256 + 1)
    parts = pieces(data[:size])
    assert list(map(len, parts)) == sizes
    assert b"".join(parts) == data[:size]
