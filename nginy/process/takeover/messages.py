"""The protocol between a nginy and its successor: its messages, their order and their meaning.

There are two kinds of links; each is a pair of unix sockets that keep messages apart
(SOCK_SEQPACKET):

- **The main link**, between the two processes that operators deal with. The successor finds the
  number of its end in the environment, in `LINK_VARIABLE`.
- **Lanes**, which the old side makes and sends over the main link: one for each of its processes
  that serves clients. With several workers on both sides, number i hands over to number i; if there
  are fewer new ones, some have several lanes, and if there are more, some have none.

A message is a line of JSON, an object with a `word`; bytes may follow the line, and descriptors
come beside it (SCM_RIGHTS of unix(7)). A reader ignores members and words that it does not know,
and takes no more than `MESSAGE_MAX_BYTES`. Anything malformed ends the link.

| main link, old to new | | new to old | |
|---|---|---|---|
| welcome | the version to speak, the number of lanes | hello | the versions it speaks, its pid |
| no | why it cannot, in words | no | why it cannot, in words |
| lane | with a descriptor | failed | it cannot start, and why |
| book | what operators have set | serving | it serves; which pid file is its own |
| totals | some of what dead workers have counted | | |
| done | all that can move has moved | | |

| lane, old to new | | new to old | |
|---|---|---|---|
| state | something that the old one knows | | |
| known | that was all | ready | it serves: send sessions |
| rest | bytes of the next session | | |
| session | a session, with its descriptors | took | number: it is mine now |
| datagram | of a client that has moved, or is new | refused | number, why: keep it |
| read | nobody else reads the UDP sockets | | |
| back | what you have not confirmed is mine | | |
| bye | nothing more will come | bye | everything is read |

**Versions.** `hello` names all versions that the new side speaks, `welcome` the one to use: the
highest that both have. If there is none, the old side says no, and nothing moves: both accept
clients until one of them gets QUIT. `hello`, `no`, `failed` and `serving` are the same in all
versions.

**Whose session it is.** The old side stops a session, so that it neither reads nor writes and no
timer runs, and sends it. From then on, these rules say whose it is:

1. The new side resumes it only after `took` has left. The old side forgets it when it reads `took`.
2. After `refused`, or if the new side ends without `took`, the old side resumes it.
3. If the old side gives up first, it shuts its end down for reading, so no further `took` can
   leave, reads those that have left, and says `back`. Then it resumes every session without a
   `took`, and the new side drops these.
4. If the new side cannot send `took`, and reads the end of the link without a `back`, the old
   process is dead. The session belongs to the new one.

Pure: bytes and values go in and come out. `link.py` has the sockets.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from nginy.errors import NginyError

VERSION: Final = 1
VERSIONS: Final = (VERSION,)
"""The versions that this program speaks."""
LINK_VARIABLE: Final = "NGINY_LINK"
"""The environment variable with the number of the successor's end of the main link."""

MESSAGE_MAX_BYTES: Final = 96 * 1024
"""The largest datagram fits into one message, with its sender."""
DATA_MAX_BYTES: Final = 32768
"""The most bytes after the line: a longer rest comes in several messages."""
DESCRIPTORS_MAX: Final = 8
"""The most descriptors of a message: both sockets of a session, and both ends of two pipes."""
REST_MAX_BYTES: Final = 4 * 1024 * 1024
"""The longest rests of one session, both ways; a read is a mebibyte at most (`event/buffer.py`)."""


class MessageError(NginyError):
    """A message that is malformed, or too long."""


@dataclass(frozen=True, slots=True)
class Message:
    """One message, received or to be sent."""

    word: str
    members: Mapping[str, object]
    data: bytes = b""
    fds: Sequence[int] = ()
    """Received descriptors belong to the receiver of the message."""


def encode(message: Message) -> bytes:
    """Return what is sent, without the descriptors; raises MessageError if it is too long."""
    line = json.dumps({"word": message.word, **message.members}, separators=(",", ":"))
    whole = b"%b\n%b" % (line.encode(), message.data)
    if len(whole) > MESSAGE_MAX_BYTES or len(message.fds) > DESCRIPTORS_MAX:
        raise MessageError(f'"{message.word}" does not fit into a message')
    return whole


def decode(whole: bytes, fds: Sequence[int] = ()) -> Message:
    """Return the message that was received; raises MessageError."""
    line, newline, data = whole.partition(b"\n")
    if not newline or len(whole) > MESSAGE_MAX_BYTES:
        raise MessageError(f"{len(whole)} bytes are no message")
    try:
        members = json.loads(line)
    except (ValueError, RecursionError):
        raise MessageError(f"{line[:40]!r} is no JSON") from None
    if not isinstance(members, dict) or not isinstance(members.get("word"), str):
        raise MessageError(f'{line[:40]!r} has no "word"')
    return Message(members["word"], members, data, fds)


class MessageMembers:
    """The members of a message, or of an object in it, read by the type that each must have.

    Every method raises MessageError for a member of another type, or one that is missing.
    """

    __slots__ = ("_members",)

    def __init__(self, members: object) -> None:
        """Take what a JSON parser has returned."""
        if not isinstance(members, Mapping):
            raise MessageError(f"{members!r:.40} is no object")
        self._members: Mapping[str, object] = members

    def number(self, name: str) -> int:
        """Return a whole number."""
        value = self._members.get(name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise self._wrong(name)
        return value

    def count(self, name: str) -> int:
        """Return a whole number of 0 or more."""
        value = self.number(name)
        if value < 0:
            raise self._wrong(name)
        return value

    def maybe_number(self, name: str) -> int | None:
        """Return a whole number; None if it is null, or not there."""
        return None if self._members.get(name) is None else self.number(name)

    def text(self, name: str) -> str:
        """Return a text; "" if it is not there."""
        value = self._members.get(name, "")
        if not isinstance(value, str):
            raise self._wrong(name)
        return value

    def maybe_text(self, name: str) -> str | None:
        """Return a text; None if it is null, or not there."""
        return None if self._members.get(name) is None else self.text(name)

    def flag(self, name: str) -> bool:
        """Return a truth value; False if it is not there."""
        value = self._members.get(name, False)
        if not isinstance(value, bool):
            raise self._wrong(name)
        return value

    def bytes(self, name: str) -> bytes:
        """Return bytes, which are hexadecimal text in a message."""
        try:
            return bytes.fromhex(self.text(name))
        except ValueError:
            raise self._wrong(name) from None

    def items(self, name: str) -> list[object]:
        """Return a list; an empty one if it is null, or not there."""
        value = self._members.get(name)
        if value is None:
            return []
        if not isinstance(value, list):
            raise self._wrong(name)
        return value

    def object(self, name: str) -> "MessageMembers":
        """Return the members of an object."""
        return MessageMembers(self._members.get(name))

    def maybe_object(self, name: str) -> "MessageMembers | None":
        """Return the members of an object; None if it is null, or not there."""
        return None if self._members.get(name) is None else self.object(name)

    def objects(self, name: str) -> "list[MessageMembers]":
        """Return the members of each object of a list."""
        return [MessageMembers(each) for each in self.items(name)]

    def numbers(self, name: str) -> dict[str, int]:
        """Return an object whose members are all whole numbers."""
        value = self._members.get(name, {})
        if not isinstance(value, dict):
            raise self._wrong(name)
        members = MessageMembers(value)
        return {key: members.number(key) for key in value}

    def _wrong(self, name: str) -> MessageError:
        return MessageError(f'"{name}" is {self._members.get(name)!r:.40}')


def common_version(spoken: Sequence[object]) -> int | None:
    """Return the highest version that both sides speak; None if there is none."""
    return max((each for each in VERSIONS if each in spoken), default=None)


def pieces(data: bytes) -> list[bytes]:
    """Return bytes in pieces that fit into a message each; the last one may be empty."""
    count = max(1, -(-len(data) // DATA_MAX_BYTES))
    return [data[n * DATA_MAX_BYTES : (n + 1) * DATA_MAX_BYTES] for n in range(count)]
