"""Limits: how many sessions a key may have, how many it may begin, how many bytes may pass.

- `Counts` sessions of a key at a time (`limit_conn`);
- `Rates`  new sessions of a key in a second (`limit_conn_rate`);
- `ByteRate`   bytes in a second of one direction of a session (`proxy_upload_rate` and its kin).

Pure: keys, numbers and the time go in, verdicts and delays come out. `proxy/phases/limiting.py`
decides what a key is made of and what becomes of a session over a limit; `proxy/pacing.py` has the
sessions that keep a pace.

The one idea: a stranger can make up keys without end, so a table never grows beyond its bound, and
a key costs one number. `Rates` is a token bucket for each key, kept as the instant at which the
bucket will be full again (the virtual scheduling form of the generic cell rate algorithm, ITU-T
I.371 annex A): nothing runs while nobody comes, and the table need not keep a full bucket.

nginx: ngx_stream_limit_conn_module.c; the rate of new sessions is HAProxy's src_conn_rate, as a
bucket.
"""

import math
from typing import Final

MAX_KEYS: Final = 100_000
"""Keys of one table; some 200 bytes each."""


class Counts:
    """Sessions at a time for each key. It keeps no key without a session."""

    __slots__ = ("__weakref__", "_counts", "max_keys")

    def __init__(self, max_keys: int = MAX_KEYS) -> None:
        self.max_keys = max_keys
        self._counts: dict[bytes, int] = {}

    def __len__(self) -> int:
        """Return how many keys have sessions."""
        return len(self._counts)

    def count(self, key: bytes) -> int:
        """Return how many sessions of `key` there are."""
        return self._counts.get(key, 0)

    def take(self, key: bytes, most: int) -> bool:
        """Count one more session of `key`, unless it has `most` already or the table is full.

        Returns whether it did. The caller gives each counted session back with `give_back`.
        """
        count = self._counts.get(key, 0)
        if count >= most or (not count and len(self._counts) >= self.max_keys):
            return False
        self._counts[key] = count + 1
        return True

    def add(self, key: bytes) -> None:
        """Count one more session of `key`, which has passed the limit elsewhere."""
        self._counts[key] = self._counts.get(key, 0) + 1

    def give_back(self, key: bytes) -> None:
        """Count one session of `key` less."""
        count = self._counts[key] - 1
        if count:
            self._counts[key] = count
        else:
            del self._counts[key]


class Rates:
    """New sessions in a second for each key: `rate` on average, `burst` at once.

    With more than `max_keys` keys it forgets the one that was idle longest: that key alone gets a
    full bucket too early.
    """

    __slots__ = ("__weakref__", "_full_at_us", "_interval_us", "_room_us", "max_keys")

    def __init__(self, rate: int, burst: int, max_keys: int = MAX_KEYS) -> None:
        self.max_keys = max_keys
        self._interval_us = 1_000_000 // rate
        self._room_us = (burst - 1) * self._interval_us
        self._full_at_us: dict[bytes, int] = {}
        """Key -> when its bucket is full again; the key seen longest ago comes first."""

    def __len__(self) -> int:
        """Return how many keys it remembers."""
        return len(self._full_at_us)

    def take(self, key: bytes, now_ms: int) -> bool:
        """Take a token from the bucket of `key`; return False if there is none."""
        now_us = now_ms * 1000
        full_at_us = max(self._full_at_us.pop(key, 0), now_us)
        is_allowed = full_at_us - now_us <= self._room_us
        if is_allowed:
            full_at_us += self._interval_us
        self._full_at_us[key] = full_at_us
        self._forget(now_us)
        return is_allowed

    def buckets(self) -> list[tuple[bytes, int]]:
        """Return the keys, each with when its bucket is full again, in microseconds."""
        return list(self._full_at_us.items())

    def restore(self, key: bytes, full_at_us: int) -> None:
        """Go on with the bucket of a key that another process has kept."""
        if len(self._full_at_us) < self.max_keys:
            self._full_at_us.setdefault(key, full_at_us)

    def _forget(self, now_us: int) -> None:
        """Drop at most two of the oldest keys, while their buckets are full or the table is.

        As two go for each that comes, the table shrinks by itself, and no call takes long.
        """
        for _ in range(2):
            oldest = next(iter(self._full_at_us))
            if self._full_at_us[oldest] > now_us and len(self._full_at_us) <= self.max_keys:
                return
            if len(self._full_at_us) == 1:
                return
            del self._full_at_us[oldest]


class ByteRate:
    """Bytes in a second in one direction of a session. Created when the direction begins, with a
    burst to spend at once.

    The direction may make up for unused time, but only up to `BURST_MS`, so a pause does not lead
    to a flood.
    """

    __slots__ = ("_paid_until_us", "rate")

    BURST_MS: Final = 100

    def __init__(self, rate: int, now_ms: int) -> None:
        """Allow `rate` bytes a second."""
        self.rate = rate
        self._paid_until_us = (now_ms - self.BURST_MS) * 1000.0
        """When all that has passed so far would have passed at exactly the rate."""

    def allowance(self, now_ms: int) -> int:
        """Return how many bytes may pass now; 0 or less: wait for `delay_ms`."""
        behind_us = now_ms * 1000 - self._paid_until_us
        most_us = self.BURST_MS * 1000
        if behind_us > most_us:
            self._paid_until_us += behind_us - most_us
            behind_us = most_us
        return int(behind_us * self.rate / 1_000_000)

    def is_short(self, now_ms: int) -> bool:
        """Whether so little may pass now that it is better to wait for more, if there is more.

        Otherwise nginy would read from a fast sender in every turn, as few bytes as one millisecond
        allows.
        """
        return self.allowance(now_ms) < self.rate * self.BURST_MS // 4000

    def spend(self, count: int) -> None:
        """Count `count` bytes, which may exceed the allowance; waiting pays for the rest."""
        self._paid_until_us += count * 1_000_000 / self.rate

    def delay_ms(self, now_ms: int) -> int:
        """Return how long to wait until about half a burst may pass, at least 1 ms.

        Waiting for a single byte would be too short: each wakeup costs the same, however little it
        moves.
        """
        ready_at_us = self._paid_until_us + self.BURST_MS * 500
        return max(1, math.ceil(ready_at_us / 1000) - now_ms)
