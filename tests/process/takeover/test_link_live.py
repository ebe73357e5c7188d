"""The way between a nginy and its successor: order, room, descriptors, and both kinds of ends."""

import os
import socket
from collections.abc import Iterator

import pytest
from nginy.process.takeover.link import READ_QUOTA, Link, link_pair
from nginy.process.takeover.messages import DATA_MAX_BYTES, Message, MessageError

from conftest import ExpectLog
from kit.harness import Harness


class Side:
    """A link, and what it has heard."""

    def __init__(self, harness: Harness, sock: socket.socket) -> None:
        self.heard: list[Message] = []
        self.ends: list[str] = []
        self.link = Link(harness.loop, sock, self.hear, self.ends.append)

    def hear(self, message: Message) -> None:
        self.heard.append(message)
        if message.word == "nonsense":
            raise MessageError("what is this")

    @property
    def words(self) -> list[str]:
        return [message.word for message in self.heard]


@pytest.fixture
def pair(harness: Harness) -> Iterator[tuple[Side, socket.socket]]:
    ours, theirs = link_pair()
    theirs.setblocking(False)
    side = Side(harness, ours)
    with theirs:
        yield side, theirs
        side.link.close()


def test_messages_arrive_in_order_however_many_wait_for_room(
    harness: Harness, pair: tuple[Side, socket.socket]
) -> None:
    near, far_sock = pair
    left: list[bool] = []
    for number in range(100):
        near.link.send(Message("rest", {"number": number}, bytes(DATA_MAX_BYTES)), left.append)
    assert near.link.backlog
    assert len(left) + near.link.backlog == 100
    far = Side(harness, far_sock)
    harness.turn_until(lambda: len(far.heard) == 100)
    assert [message.members["number"] for message in far.heard] == list(range(100))
    harness.turn_until(lambda: len(left) == 100)
    assert all(left)
    far.link.close()


def test_descriptors_arrive_and_no_later_program_inherits_them(
    harness: Harness, pair: tuple[Side, socket.socket]
) -> None:
    near, far_sock = pair
    read_fd, write_fd = os.pipe()
    near.link.send(Message("session", {}, b"x", [read_fd, write_fd]))
    far = Side(harness, far_sock)
    harness.turn_until(lambda: far.heard)
    (message,) = far.heard
    assert len(message.fds) == 2
    assert not any(map(os.get_inheritable, message.fds))
    os.write(message.fds[1], b"through")
    assert os.read(read_fd, 10) == b"through"
    for fd in (read_fd, write_fd, *message.fds):
        os.close(fd)
    far.link.close()


def test_the_end_of_the_other_side_comes_after_all_that_it_has_said(
    harness: Harness, pair: tuple[Side, socket.socket]
) -> None:
    near, far_sock = pair
    far = Side(harness, far_sock)
    for word in ("took", "took", "bye"):
        far.link.send(Message(word, {}))
    near.link.send(Message("unread", {}))  # which makes the kernel report a reset, too
    far.link.close()
    harness.turn_until(lambda: near.ends)
    assert near.words == ["took", "took", "bye"]
    assert near.ends == [""]
    left: list[bool] = []
    near.link.send(Message("late", {}), left.append)
    assert left == [False]


def test_what_has_left_before_the_cut_is_heard_and_later_words_cannot_leave(
    harness: Harness, pair: tuple[Side, socket.socket]
) -> None:
    near, far_sock = pair
    far = Side(harness, far_sock)
    left: list[bool] = []
    far.link.send(Message("took", {}), left.append)
    far.link.send(Message("nonsense", {}))
    far.link.send(Message("took", {}), left.append)
    near.link.cut_off()
    far.link.send(Message("took", {}), left.append)
    assert near.words == ["took", "nonsense", "took"]
    assert left == [True, True, False]
    near.link.send(Message("back", {}))
    harness.turn_until(lambda: far.heard)
    assert far.words == ["back"]
    far.link.close()


@pytest.mark.parametrize(
    ("whole", "what"),
    [(b'{"word":"kno', "12 bytes are no message"), (b'{"word":"nonsense"}\n', "what is this")],
)
def test_half_a_message_and_nonsense_end_the_link(
    harness: Harness, pair: tuple[Side, socket.socket], whole: bytes, what: str
) -> None:
    near, far_sock = pair
    far_sock.send(whole)
    far_sock.send(b'{"word":"took"}\n')
    harness.turn_until(lambda: near.ends)
    assert what in near.ends[0]
    harness.settle()
    assert "took" not in near.words
    assert len(near.ends) == 1


class StarvedLink(Link):
    """Has no memory for a message."""

    __slots__ = ()

    @staticmethod
    def decode(_whole: bytes, _fds: list[int]) -> Message:
        raise MemoryError


def test_descriptors_of_a_message_that_there_is_no_memory_for_are_closed(
    harness: Harness, pair: tuple[Side, socket.socket], expect_log: ExpectLog
) -> None:
    near, far_sock = pair
    near.link.__class__ = StarvedLink
    read_fd, write_fd = os.pipe()
    socket.send_fds(far_sock, [b"{}\n"], [write_fd])
    os.close(write_fd)
    with expect_log("out of memory"):
        harness.turn_until(lambda: near.ends)
    assert os.read(read_fd, 1) == b""
    os.close(read_fd)


def test_a_message_may_close_the_link_whatever_comes_behind_it(harness: Harness) -> None:
    ours, theirs = link_pair()
    seen: list[Message] = []

    def take(message: Message) -> None:
        seen.append(message)
        if len(seen) == READ_QUOTA:
            last.close()

    last, sender = Link(harness.loop, ours, take, lambda _: None), Side(harness, theirs)
    for _ in range(2 * READ_QUOTA):
        sender.link.send(Message("bye", {}))
    harness.turn_until(lambda: len(seen) == READ_QUOTA)
    harness.settle()
    assert len(seen) == READ_QUOTA
    sender.link.close()


def test_what_waits_for_room_never_leaves_once_the_link_is_closed(
    pair: tuple[Side, socket.socket],
) -> None:
    near, _ = pair
    left: list[bool] = []
    while not near.link.backlog:
        near.link.send(Message("rest", {}, bytes(DATA_MAX_BYTES)), left.append)
    near.link.close()
    assert left[-1] is False
    assert all(left[:-1])
