"""A brake for messages that a peer can provoke at will.

A process may hit its descriptor limit ten thousand times a second, and once in a while is enough
for the log. `RateLimited` decides which message gets through; it reads no clock and writes nothing.
Like `levels`, it is a leaf that every module may import.
"""

from __future__ import annotations

from collections.abc import Hashable


class RateLimited:
    """Lets `burst` messages a key through in each interval and counts the rest.

    A key names what repeats, such as ``("accept", errno)`` or a backend's address. Usage::

        suppressed = self.limited.admit("accept", now_ms)
        if suppressed is not None:
            logger.critical("accept4() failed (%d: %s)%s", ..., similar(suppressed))

    It remembers at most `max_keys` keys and forgets the one admitted longest ago first, so keys
    made of client addresses cannot fill the memory.
    """

    __slots__ = ("_burst", "_interval_ms", "_keys", "_max_keys")

    def __init__(self, interval_ms: int = 1000, max_keys: int = 1000, burst: int = 1) -> None:
        self._interval_ms = interval_ms
        self._max_keys = max_keys
        self._burst = burst
        # key -> [when its interval began, suppressed, admitted]; the oldest comes first.
        self._keys: dict[Hashable, list[int]] = {}

    def admit(self, key: Hashable, now_ms: int) -> int | None:
        """Return None to stay silent, or how many were suppressed since the key last got through.

        `now_ms` is monotonic time. The first message of a key always gets through, with 0.
        """
        entry = self._keys.get(key)
        if entry is not None and now_ms - entry[0] < self._interval_ms:
            if entry[2] < self._burst:
                entry[2] += 1
                return 0
            entry[1] += 1
            return None
        self._keys.pop(key, None)
        if len(self._keys) >= self._max_keys:
            del self._keys[next(iter(self._keys))]
        self._keys[key] = [now_ms, 0, 1]
        return entry[1] if entry is not None else 0

    def __len__(self) -> int:
        """Return how many keys it remembers."""
        return len(self._keys)


def similar(suppressed: int) -> str:
    """Return the end of a message: empty, or " (17 similar messages suppressed)"."""
    if not suppressed:
        return ""
    return f" ({suppressed} similar message{'s' if suppressed > 1 else ''} suppressed)"
