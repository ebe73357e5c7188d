"""Queries to the name servers: the last answers, and the questions under way.

`Queries` answers from memory as long as an answer holds. Callers that ask the same share one
exchange, and few exchanges run at a time. Each query is about one name and one type; `resolver`
knows which names make up a host or a service, `exchange` how to ask.

With several workers, one of them leads and asks for all (`checks/relay.py`). The others wait for
its answers a moment, and ask themselves only if none comes.

The one idea: keep an answer beyond its time. When no server answers, the reply says so and carries
the last answer (RFC 8767).

Tested in tests/backend/names/test_resolver_live.py.
"""

import random
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from nginy.backend.names.answers import Reply, answers_ttl_ms
from nginy.backend.names.exchange import Exchange
from nginy.backend.names.servers import ServerMemory
from nginy.event.loop import Loop
from nginy.event.timer import Timer
from nginy.text.address import Address
from nginy.wire.dns import Answer, Outcome, RecordType

MAX_EXCHANGES: Final = 64
"""Queries under way at a time; a thousand names must not take a thousand descriptors."""
MAX_IPV6_EXCHANGES: Final = 32
"""Of these, queries for IPv6: servers that never answer them must not hold up the others."""
MAX_REMEMBERED: Final = 4096
"""Answers kept; the oldest go first. Names come from the configuration, and from SRV records."""
NO_IPV6_MS: Final = 30_000
"""How long not to ask for IPv6 again where no server has answered."""

TOLD_MS: Final = 500
"""How long to wait for the answer of the worker that asks for all."""

Key = tuple[str, RecordType]
"""A full name, in lower case and without a final dot, and what to ask about it."""
Replied = Callable[[Reply], None]
Tell = Callable[[str, RecordType, Answer], None]
"""Tells the other workers an answer, if this one leads."""


@dataclass(frozen=True, slots=True)
class _Known:
    """The last answer, and until when it holds; None: no server answered."""

    answer: Answer | None
    until_ms: int
    reason: str = ""


class Queries:
    """All queries of one `Resolver`, which creates and closes it."""

    __slots__ = (
        "_askers",
        "_ipv6_queue",
        "_known",
        "_loop",
        "_memory",
        "_queue",
        "_rng",
        "_running",
        "_servers",
        "_timeout_ms",
        "_timer",
        "_valid_ms",
        "_waiting",
        "is_leading",
        "tell",
    )

    def __init__(self, loop: Loop, rng: random.Random) -> None:
        """`rng` makes the ids, so it must be unpredictable."""
        self._loop = loop
        self._rng = rng
        self._servers: Sequence[Address] = ()
        self._timeout_ms = 0
        self._valid_ms: int | None = None
        self._memory = ServerMemory()
        self._known: dict[Key, _Known] = {}
        self._askers: dict[Key, list[Replied]] = {}
        self._running: dict[Key, Exchange] = {}
        self._queue: deque[Key] = deque()
        self._ipv6_queue: deque[Key] = deque()
        self._timer: Timer | None = None
        self._waiting: dict[Key, int] = {}
        """Queries that wait for another worker's answer, and until when."""
        self.is_leading: Callable[[], bool] = lambda: True
        self.tell: Tell | None = None

    def apply(self, servers: Sequence[Address], timeout_ms: int, valid_ms: int | None) -> None:
        """Ask these servers from now on, and use an earlier answer only if none of them answers."""
        self._servers = servers
        self._timeout_ms = timeout_ms
        self._valid_ms = valid_ms
        now_ms = self._loop.clock.now_ms
        self._known = {
            key: _Known(known.answer, min(known.until_ms, now_ms))
            for key, known in self._known.items()
        }

    def remembered(self) -> Iterator[tuple[str, RecordType, Answer]]:
        """Yield the answers that still hold, for another process."""
        for (name, record_type), known in self._known.items():
            if known.answer is not None and known.until_ms > self._loop.clock.now_ms:
                yield name, record_type, known.answer

    def close(self) -> None:
        """Stop asking, and call nobody back."""
        if self._timer is not None:
            self._loop.timers.cancel(self._timer)
            self._timer = None
        self._waiting.clear()
        self._askers.clear()
        self._queue.clear()
        self._ipv6_queue.clear()
        for exchange in self._running.values():
            exchange.close()
        self._running.clear()

    def ask(self, name: str, record_type: RecordType, replied: Replied) -> None:
        """Call `replied` once: from memory, with the answer to a query under way, or to a new
        one."""
        key = name.lower(), record_type
        known = self._known.get(key)
        if known is not None and known.until_ms > self._loop.clock.now_ms:
            is_silent = known.answer is None
            replied(Reply(record_type, known.answer, is_silent, known.reason, is_silent))
            return
        askers = self._askers.setdefault(key, [])
        askers.append(replied)
        if len(askers) > 1:
            return
        if self.is_leading():
            self._enqueue((key,))
        else:
            self._waiting[key] = self._loop.clock.now_ms + TOLD_MS
            self._arm()

    def take(self, name: str, record_type: RecordType, answer: Answer) -> None:
        """Take over an answer that another worker has got."""
        key = name.lower(), record_type
        if key in self._running:  # our own answer is near, unless no server answers
            self._remember(key, answer, answers_ttl_ms([answer], self._valid_ms))
            return
        for queue in (self._queue, self._ipv6_queue):
            if key in queue:
                queue.remove(key)
        self._waiting.pop(key, None)
        self._remember(key, answer, answers_ttl_ms([answer], self._valid_ms))
        self._reply(key, Reply(record_type, answer))

    def stop_waiting(self) -> None:
        """Ask now instead of waiting for another worker's answers: this one leads from now on."""
        waiting, self._waiting = tuple(self._waiting), {}
        self._enqueue(waiting)

    def __str__(self) -> str:
        """Return what log lines call it."""
        return "the answers expected from another worker"

    def abort(self) -> None:
        """Go on after a bug, with questions of our own."""
        self.stop_waiting()

    def _arm(self) -> None:
        if self._waiting:
            self._timer = self._timer or Timer(self._patience_handler, self)
            self._loop.timers.start(self._timer, min(self._waiting.values()))

    def _patience_handler(self, _timer: Timer) -> None:
        now_ms = self._loop.clock.now_ms
        due = [key for key, until_ms in self._waiting.items() if until_ms <= now_ms]
        for key in due:
            del self._waiting[key]
        self._enqueue(due)
        self._arm()

    def _enqueue(self, keys: Iterable[Key]) -> None:
        for key in keys:
            queue = self._ipv6_queue if key[1] is RecordType.AAAA else self._queue
            queue.append(key)
        self._start_queued()

    def recall(self, name: str, record_type: RecordType) -> Reply:
        """Return the last answer, however old it is, without asking."""
        known = self._known.get((name.lower(), record_type))
        answer = None if known is None else known.answer
        return Reply(record_type, answer, is_stale=True, reason="no answer yet")

    def _start_queued(self) -> None:
        while len(self._running) < MAX_EXCHANGES:
            ipv6 = sum(record_type is RecordType.AAAA for _, record_type in self._running)
            if self._ipv6_queue and ipv6 < MAX_IPV6_EXCHANGES:
                self._start(self._ipv6_queue.popleft())
            elif self._queue:
                self._start(self._queue.popleft())
            else:
                return

    def _start(self, key: Key) -> None:
        def done(answer: Answer | None, why: str) -> None:
            self._answered(key, answer, why)

        exchange = Exchange(
            self._loop, self._servers, self._memory, self._timeout_ms, self._rng, done
        )
        self._running[key] = exchange
        exchange.start(*key)

    def _answered(self, key: Key, answer: Answer | None, why: str) -> None:
        del self._running[key]
        record_type = key[1]
        if answer is None or answer.outcome is Outcome.FAILED:
            known = self._known.get(key)
            before = None if known is None else known.answer
            reply = Reply(record_type, before, is_stale=True, reason=why, is_silent=answer is None)
            if answer is None and before is None and record_type is RecordType.AAAA:
                self._remember(key, None, NO_IPV6_MS, why)
        else:
            self._remember(key, answer, answers_ttl_ms([answer], self._valid_ms))
            reply = Reply(record_type, answer)
            if self.tell is not None:
                self.tell(*key, answer)
        self._reply(key, reply)
        self._start_queued()

    def _reply(self, key: Key, reply: Reply) -> None:
        for replied in self._askers.pop(key, ()):
            replied(reply)

    def _remember(self, key: Key, answer: Answer | None, ttl_ms: int, why: str = "") -> None:
        self._known.pop(key, None)
        self._known[key] = _Known(answer, self._loop.clock.now_ms + ttl_ms, why)
        while len(self._known) > MAX_REMEMBERED:
            del self._known[next(iter(self._known))]
