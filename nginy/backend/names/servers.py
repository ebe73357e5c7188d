"""What nginy knows about the name servers themselves: which are silent, which do not know EDNS.

A dead server must not cost every query its timeout, so the resolver asks the others first. A server
that drops or refuses queries with EDNS (RFC 6891 §7) gets them without it from then on. It forgets
both after a while, as servers come back and give way to others.

State and time go in, an order comes out; `exchange` sends the queries.

nginx has no such memory; BIND keeps the same in its address database.
"""

from collections.abc import Sequence
from typing import Final

from nginy.text.address import Address

SILENT_MS: Final = 30_000
"""How long a server that did not answer is asked after the others."""
PLAIN_MS: Final = 300_000
"""How long a server is asked without EDNS once that has helped."""


class ServerMemory:
    """What the questions of one `Resolver` have learned about its servers."""

    __slots__ = ("_answered_at_ms", "_plain_until_ms", "_silent_until_ms")

    def __init__(self) -> None:
        self._answered_at_ms: dict[Address, int] = {}
        self._silent_until_ms: dict[Address, int] = {}
        self._plain_until_ms: dict[Address, int] = {}

    def order(self, servers: Sequence[Address], now_ms: int) -> list[Address]:
        """Return the servers in the order in which to ask them: silent ones last."""
        return sorted(servers, key=lambda server: self._silent_until_ms.get(server, 0) > now_ms)

    def note_silence(self, server: Address, asked_at_ms: int, now_ms: int) -> None:
        """Note that a query got no answer.

        This says nothing of a server that has answered another query meanwhile.
        """
        if self._answered_at_ms.get(server, -1) < asked_at_ms:
            self._silent_until_ms[server] = now_ms + SILENT_MS

    def note_answer(self, server: Address, now_ms: int) -> None:
        """Note that a server has answered, whatever it said."""
        self._answered_at_ms[server] = now_ms
        self._silent_until_ms.pop(server, None)

    def note_plain(self, server: Address, now_ms: int) -> None:
        """Note that a server answered a query without EDNS that it did not answer with it."""
        self._plain_until_ms[server] = now_ms + PLAIN_MS

    def has_edns(self, server: Address, now_ms: int) -> bool:
        """Return whether to ask a server with EDNS."""
        return self._plain_until_ms.get(server, 0) <= now_ms
