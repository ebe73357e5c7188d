from nginy.event.buffer import Buffer
from nginy.event.connection import AGAIN, ERROR, Connection


class Taker(Connection):
    """Not connected: takes as much of what it is offered as it was told to."""

    def __init__(self, *outcomes: int) -> None:
        self.outcomes = list(outcomes)
        self.offered: list[bytes] = []

    def send(self, memory: bytes | memoryview) -> int:
        self.offered.append(bytes(memory))
        return self.outcomes.pop(0)


def test_bytes_are_taken_at_pos_until_none_are_left() -> None:
    b = Buffer(b"hello")
    c = Taker(2, AGAIN, ERROR, 3)
    assert len(b) == 5
    assert [b.send_to(c) for _ in range(4)] == [2, AGAIN, ERROR, 3]
    assert c.offered == [b"hello", b"llo", b"llo", b"llo"]
    assert not b


def test_a_buffer_keeps_a_copy() -> None:
    shared = bytearray(b"hello")
    b = Buffer(memoryview(shared)[1:4])
    shared[:] = b"xxxxx"
    c = Taker(3)
    b.send_to(c)
    assert c.offered == [b"ell"]
