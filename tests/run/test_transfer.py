"""A hundred transfers at once through bin/nginy, and a reload in the middle: not a byte is off.

tests/proxy/test_transfer_live.py does the same with the pump alone, for each way to wait, with
every size and pace; here it is the process, its signals and its limits that are tried.
"""

import collections
import contextlib
import hashlib
import random
import signal
import time
from collections.abc import Iterator

import pytest

from kit.ends import End, connect
from kit.faults import Site
from kit.program import PATIENCE_S
from kit.servers import Server

TRANSFERS = 100
LARGEST_BYTES = 2 << 20


class Plans:
    """What the ends send: pieces, of any size, of the same random bytes."""

    def __init__(self, seed: int) -> None:
        self._rng = random.Random(seed)
        self._bytes = self._rng.randbytes(LARGEST_BYTES)
        self.sent: collections.Counter[bytes] = collections.Counter()
        """The digests of everything sent by those ends that this object has told what to send."""

    def begin(self, end: End) -> End:
        """Let `end` send something, in pieces of some size, and then FIN."""
        largest = self._rng.choice([1, 1000, 100_000, 400_000, LARGEST_BYTES])
        data = self._bytes[: self._rng.randrange(largest)]
        self.sent[digest(data)] += 1
        end.send(data)
        end.write_bytes = end.read_bytes = self._rng.choice([8192, 65536, 1 << 20])
        end.finish()
        return end


def digest(data: bytes | bytearray) -> bytes:
    return hashlib.sha256(data).digest()


@pytest.fixture
def server() -> Iterator[Server]:
    with contextlib.closing(Server()) as made:
        yield made


@pytest.mark.slow
def test_a_reload_in_the_middle_of_a_hundred_transfers_costs_no_byte(
    site: Site, server: Server
) -> None:
    seed = random.randrange(1 << 32)
    print("seed", seed)
    asked, answered = Plans(seed), Plans(seed + 1)
    nginy = site.start([server.name])
    clients = [asked.begin(connect((site.host, site.port))) for _ in range(TRANSFERS)]
    has_reloaded = False
    deadline_s = time.monotonic() + PATIENCE_S
    while len(server.ends) < TRANSFERS or not all(end.is_over for end in (*clients, *server.ends)):
        assert time.monotonic() < deadline_s, [end for end in clients if not end.is_over]
        known = len(server.ends)
        server.step()
        for end in server.ends[known:]:
            answered.begin(end)
        for end in clients:
            end.step()
        if not has_reloaded and sum(end.has_eof for end in clients) >= TRANSFERS // 3:
            nginy.send_signal(signal.SIGHUP)
            has_reloaded = True
    for end in clients:
        end.close()
    assert [end.errno for end in (*clients, *server.ends)] == [0] * 2 * TRANSFERS
    assert collections.Counter(digest(end.received) for end in server.ends) == asked.sent
    assert collections.Counter(digest(end.received) for end in clients) == answered.sent
    nginy.said("configuration reloaded")
    assert {session["termination"] for session in nginy.sessions(TRANSFERS)} == {"--"}
    nginy.wait_idle()
    nginy.stop()
