"""Conditions: what a route may ask of a client.

Each looks at `ClientFacts` and has one of three verdicts (`wire/expect.py::Verdict`): it holds, it
does not, or more bytes are needed to tell. Only some look at bytes at all. Pure;
`proxy/routing/routes.py` makes routes of them, and `config/routes.py` makes them of keys.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from nginy.proxy.access import Access
from nginy.proxy.context import as_bytes
from nginy.proxy.lookups import PATTERN_MAX_CHARACTERS, murmur_hash2
from nginy.proxy.routing.patterns import Patterns
from nginy.wire.client_hello import NOT_TLS, Hello
from nginy.wire.expect import Verdict
from nginy.wire.shown import shown
from nginy.wire.starts import Starts

YES: Final = Verdict.YES
NO: Final = Verdict.NO
MORE: Final = Verdict.MORE


@dataclass(slots=True)
class ClientFacts:
    """What nginy knows about a client whose route it is choosing."""

    host: str
    """Its IP address, "unix:" on a unix socket."""
    port: int
    """The port that it has asked; 0 on a unix socket."""
    text: Callable[[str], str]
    """Fills in a text with variables."""
    head: bytes = b""
    """The first bytes it has sent."""
    hello: Hello | None = None
    """What they say; None as long as that cannot be told."""
    is_complete: bool = False
    """Whether no more bytes will come before there is a way."""


def knows(facts: ClientFacts, head: bytes, hello: Hello | None, *, is_complete: bool) -> None:
    """Note what a client has sent; if no more will come, an incomplete hello is not TLS."""
    facts.head = head
    # After its hello a client waits for the server's.
    facts.is_complete = is_complete or (hello is not None and hello.is_tls)
    facts.hello = NOT_TLS if hello is None and is_complete else hello


class Condition(ABC):
    """One condition of a route."""

    __slots__ = ()

    key = ""
    """Its key in the configuration."""

    @property
    def needs_bytes(self) -> bool:
        """Whether it depends on what the client sends."""
        return False

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts with variables that it needs filled in."""
        return ()

    @abstractmethod
    def judge(self, facts: ClientFacts) -> Verdict:
        """Tell whether it holds."""

    @abstractmethod
    def said(self, facts: ClientFacts) -> str:
        """Return what it looks at, for people: `the name "a.example"`."""


@dataclass(frozen=True, slots=True)
class From(Condition):
    """The client is in one of these networks; all rules of the table allow."""

    key = "from"
    networks: Access

    def judge(self, facts: ClientFacts) -> Verdict:
        """Look the address up."""
        return NO if self.networks.decides(facts.host) < 0 else YES

    def said(self, facts: ClientFacts) -> str:
        """Return the address."""
        return facts.host


@dataclass(frozen=True, slots=True)
class Ports(Condition):
    """The client has asked one of these ports."""

    key = "port"
    ranges: tuple[tuple[int, int], ...]

    def judge(self, facts: ClientFacts) -> Verdict:
        """Look for a range that has the port."""
        return YES if any(low <= facts.port <= high for low, high in self.ranges) else NO

    def said(self, facts: ClientFacts) -> str:
        """Return the port."""
        return f"port {facts.port}"


class ServerName(Condition):
    """The client asks TLS for one of these servers (`sni`)."""

    __slots__ = ("patterns",)

    key = "sni"
    needs_bytes = True

    def __init__(self, texts: Sequence[str]) -> None:
        self.patterns = Patterns(texts, re.IGNORECASE)

    def judge(self, facts: ClientFacts) -> Verdict:
        """Compare the name, which `Hello` has in lower case; no name fits nothing."""
        if facts.hello is None:
            return MORE
        name = facts.hello.server_name
        return YES if name and self.patterns.fit(name) else NO

    def said(self, facts: ClientFacts) -> str:
        """Return the name."""
        name = facts.hello.server_name if facts.hello is not None else ""
        return f'name "{name}"' if name else "no name"


class Protocols(Condition):
    """The client offers one of these protocols in TLS (`alpn`)."""

    __slots__ = ("patterns",)

    key = "alpn"
    needs_bytes = True

    def __init__(self, texts: Sequence[str]) -> None:
        self.patterns = Patterns(texts)

    def judge(self, facts: ClientFacts) -> Verdict:
        """Look for one that fits, whatever the client prefers."""
        if facts.hello is None:
            return MORE
        return YES if any(each and self.patterns.fit(each) for each in facts.hello.alpn) else NO

    def said(self, facts: ClientFacts) -> str:
        """Return the protocols."""
        offered = facts.hello.alpn if facts.hello is not None else ()
        return f"protocols {', '.join(offered)}" if offered else "no protocols"


@dataclass(frozen=True, slots=True)
class IsTls(Condition):
    """The client begins with a ClientHello, or does not."""

    key = "is_tls"
    needs_bytes = True
    wanted: bool

    def judge(self, facts: ClientFacts) -> Verdict:
        """Wait for the first byte, or for the whole hello."""
        if facts.hello is None:
            return MORE
        return YES if facts.hello.is_tls is self.wanted else NO

    def said(self, facts: ClientFacts) -> str:
        """Return which it is."""
        is_tls = facts.hello is not None and facts.hello.is_tls
        return "TLS" if is_tls else "not TLS"


@dataclass(frozen=True, slots=True)
class StartsWith(Condition):
    """The client's first bytes are these."""

    key = "starts"
    needs_bytes = True
    starts: Starts

    def judge(self, facts: ClientFacts) -> Verdict:
        """Compare as far as they have come."""
        return self.starts.judge(facts.head, is_complete=facts.is_complete)

    def said(self, facts: ClientFacts) -> str:
        """Return the head of the bytes."""
        return f"first bytes {shown(facts.head)}"


@dataclass(frozen=True, slots=True)
class Share(Condition):
    """The client belongs to a share of all clients: the same ones every time."""

    key = "share"
    text: str
    """A text with variables, by which clients are told apart."""
    low: int
    high: int
    """Which hashes belong to it: from `low`, below `high`."""
    is_late: bool = False
    """Whether the text depends on what the client sends."""

    @property
    def texts(self) -> tuple[str, ...]:
        """The key."""
        return (self.text,)

    @property
    def needs_bytes(self) -> bool:
        """Only for variables that do."""
        return self.is_late

    def judge(self, facts: ClientFacts) -> Verdict:
        """Hash the key."""
        if self.is_late and facts.hello is None:
            return MORE
        return YES if self.low <= self._hash(facts) < self.high else NO

    def _hash(self, facts: ClientFacts) -> int:
        return murmur_hash2(as_bytes(facts.text(self.text)))

    def said(self, facts: ClientFacts) -> str:
        """Return the key, and where it is among all clients."""
        place = self._hash(facts) / (1 << 32)
        return f'key "{facts.text(self.text)}" is at {place:.2%}'


@dataclass(frozen=True, slots=True)
class Known(Condition):
    """nginy knows what the client has sent first, or that it sends nothing."""

    key = ""
    needs_bytes = True

    def judge(self, facts: ClientFacts) -> Verdict:
        """Wait for the rest of a ClientHello, if the bytes begin one."""
        return MORE if facts.hello is None else YES

    def said(self, facts: ClientFacts) -> str:
        """Return what nginy knows."""
        return shown(facts.head)


@dataclass(frozen=True, slots=True)
class When(Condition):
    """A variable has one of these values."""

    key = "when"
    name: str
    values: frozenset[str]
    patterns: tuple[re.Pattern[str], ...] = ()
    is_late: bool = False
    """Whether the variable depends on what the client sends."""

    @property
    def texts(self) -> tuple[str, ...]:
        """The variable."""
        return (f"${self.name}",)

    @property
    def needs_bytes(self) -> bool:
        """Only for variables that do."""
        return self.is_late

    def judge(self, facts: ClientFacts) -> Verdict:
        """Compare its value."""
        if self.is_late and facts.hello is None:
            return MORE
        value = facts.text(self.texts[0])
        if value in self.values:
            return YES
        is_short = len(value) <= PATTERN_MAX_CHARACTERS
        return YES if is_short and any(each.search(value) for each in self.patterns) else NO

    def said(self, facts: ClientFacts) -> str:
        """Return the value."""
        return f'${self.name} "{facts.text(self.texts[0])}"'
