"""Names to addresses without blocking: /etc/hosts first, then the name servers, with a memory.

A `Resolver` is asked for the addresses of a host, or for the places of a service, and calls back
once, at once where it knows already. `getaddrinfo` would stop the loop for as long as a name server
is silent; this never does. How one question is asked is in `exchange`; who keeps asking, and what
an answer means to a pool, is in `names`.

The one idea: an answer is used for its time and kept beyond it. While a server is silent, what it
said last is better than nothing (RFC 8767), but it takes a server to say that a name is gone.

/etc/hosts and /etc/resolv.conf are read at the start and with each reload. With `nameservers` in
the configuration names are taken as they stand, as nginx's resolver does; without, they go through
the search list, as for every other program of the machine.

nginx: `ngx_resolver.c`.
"""

import logging
import random
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from nginy.backend.names.exchange import Exchange
from nginy.event.loop import Loop
from nginy.text.address import Address, parse_bind_address
from nginy.wire.dns import Answer, Outcome, RecordType, Srv, service_name
from nginy.wire.hosts import ResolvConf, candidates, parse_hosts, parse_resolv_conf

logger = logging.getLogger("nginy.backend")

DNS_PORT: Final = 53
MAX_EXCHANGES: Final = 64
"""Questions on their way at a time; a thousand names must not take a thousand descriptors."""
MAX_NEGATIVE_S: Final = 10
"""How long "there is none" is believed at most, nginx's figure: a zone may say a day, and somebody
waits for the name to appear."""
MAX_PLACES: Final = 1000
"""Addresses of a name, and records of a service, that are used: a message over TCP holds 4,000, and
to make backends of them would hold the loop for 100 ms."""
MAX_REMEMBERED: Final = 4096
"""Answers kept; the oldest go first. Names come from the configuration, and from SRV records."""

HOSTS_PATH: Final = "/etc/hosts"
RESOLV_CONF_PATH: Final = "/etc/resolv.conf"


@dataclass(frozen=True, slots=True)
class ResolverSettings:
    """What the configuration says of names."""

    nameservers: tuple[Address, ...] = ()
    """None: those of resolv.conf."""
    timeout_ms: int = 5000
    """How long one question may take, over all servers and tries."""
    valid_ms: int | None = None
    """How long answers hold; None: as long as they say."""
    ipv6: bool = True
    """Whether to ask for IPv6 addresses, too."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a service is offered: an address of a SRV record's target."""

    host: str
    """The target's name, for logs and hashes."""
    address: str
    port: int
    priority: int
    weight: int


@dataclass(frozen=True, slots=True)
class Resolution:
    """What a name stands for. With FAILED, addresses and places are what was known before."""

    outcome: Outcome
    addresses: tuple[str, ...] = ()
    places: tuple[Place, ...] = ()
    ttl_ms: int | None = None
    """How long it holds; None: until the files are read anew."""
    reason: str = ""
    """Why there is nothing, in a few words."""


Resolved = Callable[[Resolution], None]
Question = tuple[str, RecordType]


@dataclass(frozen=True, slots=True)
class _Known:
    """What was answered last, and until when that holds."""

    answer: Answer
    until_ms: int


@dataclass(frozen=True, slots=True)
class _Reply:
    """What is to be said to one question now; `is_stale` if nobody answered it this time."""

    answer: Answer | None
    is_stale: bool = False
    reason: str = ""


Replied = Callable[[_Reply], None]


class Resolver:
    """Looks names up for a process. Created and closed by the server."""

    def __init__(
        self,
        loop: Loop,
        rng: random.Random,
        hosts_path: str = HOSTS_PATH,
        resolv_conf_path: str = RESOLV_CONF_PATH,
        port: int = DNS_PORT,
    ) -> None:
        """Read nothing yet; `rng` makes the ids, so nobody must be able to predict it.

        `port` is that of the servers in resolv.conf, which names none.
        """
        self._loop = loop
        self._rng = rng
        self._hosts_path = hosts_path
        self._resolv_conf_path = resolv_conf_path
        self._port = port
        self._settings = ResolverSettings()
        self._conf: ResolvConf | None = None
        self._hosts: dict[str, tuple[str, ...]] = {}
        self._known: dict[Question, _Known] = {}
        self._askers: dict[Question, list[Replied]] = {}
        self._running: dict[Question, Exchange] = {}
        self._queue: deque[Question] = deque()

    def configure(self, settings: ResolverSettings) -> None:
        """Take settings over, read both files, and believe no earlier answer but for want of one.

        Reading takes no longer than reading the configuration, which comes before it.
        """
        self._hosts = parse_hosts(_content(self._hosts_path))
        self._conf = None
        if not settings.nameservers:
            self._conf = parse_resolv_conf(_content(self._resolv_conf_path))
            nameservers = tuple(_nameserver(text, self._port) for text in self._conf.nameservers)
            settings = replace(settings, nameservers=nameservers)
        self._settings = settings
        now_ms = self._loop.clock.now_ms
        self._known = {
            question: _Known(known.answer, min(known.until_ms, now_ms))
            for question, known in self._known.items()
        }

    def close(self) -> None:
        """Stop asking; nobody is called any more."""
        self._askers.clear()
        self._queue.clear()
        for exchange in self._running.values():
            exchange.close()
        self._running.clear()

    # Hosts.

    def resolve(self, host: str, resolved: Resolved) -> None:
        """Have `resolved` called with the addresses of a host, once."""
        name = host.lower().removesuffix(".")
        has_ipv6 = self._settings.ipv6
        # No zones: fe80::1%eth0 is nobody whom one could send clients to.
        addresses = [
            a for a in self._hosts.get(name, ()) if "%" not in a and (has_ipv6 or ":" not in a)
        ]
        if addresses:
            resolved(Resolution(Outcome.FOUND, tuple(addresses)))
            return
        if self._conf is None:
            names: tuple[str, ...] = (host.removesuffix("."),)
        else:
            names = candidates(host, self._conf)
        self._resolve_first(names, resolved)

    def _resolve_first(self, names: tuple[str, ...], resolved: Resolved) -> None:
        """Ask for one candidate after the other, until one exists or nobody can tell."""
        name, *others = names

        def settle(resolution: Resolution) -> None:
            if others and resolution.outcome in (Outcome.EMPTY, Outcome.NO_NAME):
                self._resolve_first(tuple(others), resolved)
            else:
                resolved(resolution)

        self._resolve_all_types(name, settle)

    def _resolve_all_types(self, name: str, resolved: Resolved) -> None:
        types = (RecordType.A, RecordType.AAAA) if self._settings.ipv6 else (RecordType.A,)
        replies: list[_Reply] = []

        def collect(reply: _Reply) -> None:
            replies.append(reply)
            if len(replies) == len(types):
                resolved(merge(replies, self._settings.valid_ms))

        for record_type in types:
            self._ask((name, record_type), collect)

    # Services.

    def resolve_service(self, service: str, host: str, resolved: Resolved) -> None:
        """Have `resolved` called with the places of a service, once: nginx's `service=`."""

        def listed(reply: _Reply) -> None:
            resolution = merge([reply], self._settings.valid_ms)
            if reply.answer is None or reply.is_stale or not reply.answer.services:
                resolved(resolution)
            else:
                services = sorted(reply.answer.services, key=_preference)[:MAX_PLACES]
                self._resolve_targets(services, resolution, resolved)

        self._ask((service_name(service, host.removesuffix(".")), RecordType.SRV), listed)

    def _resolve_targets(
        self, services: Sequence[Srv], listing: Resolution, resolved: Resolved
    ) -> None:
        """Ask for the addresses of all targets; those that have none are left out."""
        targets = {srv.target for srv in services}
        found: dict[str, Resolution] = {}

        def collect_for(target: str) -> Resolved:
            def collect(resolution: Resolution) -> None:
                found[target] = resolution
                if len(found) == len(targets):
                    resolved(_join(services, listing, found))

            return collect

        for target in targets:
            # The dot keeps it out of the search list: a target is a full name (RFC 2782).
            self.resolve(f"{target}.", collect_for(target))

    # Questions.

    def _ask(self, question: Question, replied: Replied) -> None:
        """Answer from memory, wait with others who asked the same, or ask."""
        known = self._known.get(question)
        if known is not None and known.until_ms > self._loop.clock.now_ms:
            replied(_Reply(known.answer))
            return
        askers = self._askers.setdefault(question, [])
        askers.append(replied)
        if len(askers) == 1:
            self._queue.append(question)
            self._start_queued()

    def _start_queued(self) -> None:
        while self._queue and len(self._running) < MAX_EXCHANGES:
            question = self._queue.popleft()
            settings = self._settings

            def done(answer: Answer | None, why: str, question: Question = question) -> None:
                self._answered(question, answer, why)

            exchange = Exchange(
                self._loop, settings.nameservers, settings.timeout_ms, self._rng, done
            )
            self._running[question] = exchange
            exchange.start(*question)

    def _answered(self, question: Question, answer: Answer | None, why: str) -> None:
        del self._running[question]
        if answer is None:
            known = self._known.get(question)
            reply = _Reply(known.answer if known is not None else None, is_stale=True, reason=why)
        else:
            self._remember(question, answer)
            reply = _Reply(answer)
        for replied in self._askers.pop(question, ()):
            replied(reply)
        self._start_queued()

    def _remember(self, question: Question, answer: Answer) -> None:
        ttl_ms = _ttl_ms([answer], self._settings.valid_ms)
        self._known.pop(question, None)
        self._known[question] = _Known(answer, self._loop.clock.now_ms + ttl_ms)
        while len(self._known) > MAX_REMEMBERED:
            del self._known[next(iter(self._known))]


def merge(replies: list[_Reply], valid_ms: int | None) -> Resolution:
    """Return what the replies about one name, of different types, say together.

    One type is enough to be found, and where nobody answered about the other, what was known of it
    stays. That a name does not exist holds for all types (RFC 8020); that it has no record holds
    for one.
    """
    said = [reply.answer for reply in replies if reply.answer is not None]
    fresh = [reply.answer for reply in replies if reply.answer and not reply.is_stale]
    addresses = tuple(sorted({a for answer in said for a in answer.addresses})[:MAX_PLACES])
    outcomes = {answer.outcome for answer in fresh}
    reason = next((reply.reason for reply in replies if reply.is_stale), "")
    if Outcome.FOUND in outcomes:
        found = [a for a in fresh if a.outcome is Outcome.FOUND]
        return Resolution(Outcome.FOUND, addresses, ttl_ms=_ttl_ms(found, valid_ms))
    if Outcome.NO_NAME not in outcomes and len(fresh) < len(replies):
        return Resolution(Outcome.FAILED, addresses, reason=reason)
    outcome = Outcome.NO_NAME if Outcome.NO_NAME in outcomes else Outcome.EMPTY
    return Resolution(outcome, ttl_ms=_ttl_ms(fresh, valid_ms), reason=outcome.value)


def _ttl_ms(answers: list[Answer], valid_ms: int | None) -> int:
    """Return how long the answers hold together: as long as the one that ends first."""
    if valid_ms is not None:
        return valid_ms
    return 1000 * min(
        a.ttl_s if a.outcome is Outcome.FOUND else min(a.ttl_s, MAX_NEGATIVE_S) for a in answers
    )


def _preference(srv: Srv) -> tuple[int, str, int]:
    return srv.priority, srv.target, srv.port


def _join(services: Sequence[Srv], listing: Resolution, found: dict[str, Resolution]) -> Resolution:
    """Return the places of a service, from its SRV records and the addresses of their targets."""
    places = tuple(
        Place(srv.target, address, srv.port, srv.priority, srv.weight)
        for srv in services
        for address in found[srv.target].addresses
    )[:MAX_PLACES]
    if not places:
        failed = [r for r in found.values() if r.outcome is Outcome.FAILED]
        outcome = Outcome.FAILED if failed else Outcome.EMPTY
        reason = failed[0].reason if failed else "no target of its SRV records has an address"
        return Resolution(outcome, ttl_ms=listing.ttl_ms, reason=reason)
    ttls_ms = [r.ttl_ms for r in (listing, *found.values()) if r.ttl_ms is not None]
    return Resolution(Outcome.FOUND, places=places, ttl_ms=min(ttls_ms))


def _nameserver(text: str, port: int) -> Address:
    """Return the address of a name server as resolv.conf writes it, with an IPv6 zone maybe."""
    host, percent, zone = text.partition("%")
    address = parse_bind_address(host)
    return Address(address.family, f"{address.host}{percent}{zone}", port)


def _content(path: str) -> bytes:
    """Return a file's content, or nothing if it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except FileNotFoundError:
        return b""
    except OSError as error:
        logger.warning('open() "%s" failed (%s: %s)', path, error.errno, error.strerror)
        return b""
