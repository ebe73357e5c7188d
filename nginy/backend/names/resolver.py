"""Names to addresses without blocking: /etc/hosts first, then the name servers, with a memory.

A `Resolver` looks up the addresses of a host, or the endpoints of a service, and calls back once,
immediately if it knows them already. `getaddrinfo` would stop the loop for as long as a name server
is silent; this never does. `queries` asks and remembers, and `answers` says what answers mean
together. `watch` keeps asking, and `members` keeps a pool in step.

The one idea: a name means here what it means to every other program of the machine, with the same
files and the same search list (glibc's), but nothing waits.

With `nameservers` in the configuration, it takes names as they stand, as nginx's resolver does;
without, they go through the search list of resolv.conf.

nginx: `ngx_resolver.c`.
"""

import random
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

from nginy.backend.names.answers import (
    Endpoint,
    Reply,
    Resolution,
    join,
    merge,
    preferred,
)
from nginy.backend.names.files import SystemFiles
from nginy.backend.names.queries import Queries
from nginy.event.loop import Loop
from nginy.event.timer import Timer
from nginy.text.address import Address
from nginy.wire.dns import Outcome, RecordType, Srv, service_name
from nginy.wire.hosts import candidates

DNS_PORT: Final = 53
FILE_MS: Final = 5000
"""How long /etc/hosts is believed; what it says is then compared with the file as it is."""
PATIENCE_MS: Final = 500
"""How long to wait for the other family once one family has addresses. RFC 8305 §3 waits 50 ms,
as a user looks on."""

HOSTS_PATH: Final = "/etc/hosts"
RESOLV_CONF_PATH: Final = "/etc/resolv.conf"


@dataclass(frozen=True, slots=True)
class ResolverSettings:
    """What the configuration says about names."""

    nameservers: tuple[Address, ...] = ()
    """None: those of resolv.conf."""
    timeout_ms: int = 5000
    """How long one question may take, over all servers and tries."""
    valid_ms: int | None = None
    """How long answers hold; None: as long as they say."""
    hold_ms: int = 30_000
    """How long an answer that leaves a name without an address must last to be believed."""
    ipv6: bool = True
    """Whether to ask for IPv6 addresses, too."""


Resolved = Callable[[Resolution], None]


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
        """Read nothing yet; `rng` makes the ids, so it must be unpredictable.

        `port` is that of the servers in resolv.conf, which names none.
        """
        self.loop = loop
        self._port = port
        self.settings = ResolverSettings()
        self._files = SystemFiles(hosts_path, resolv_conf_path)
        self.queries = Queries(loop, rng)
        self._lookups: set[NameLookup] = set()

    def apply(self, settings: ResolverSettings) -> None:
        """Adopt settings, read both files, and use an earlier answer only if no server answers.

        Reading takes no longer than reading the configuration, which comes before it.
        """
        self.settings = settings
        self._files.read(self.loop.clock.now_ms)
        self._take_files()

    def close(self) -> None:
        """Stop asking, and call nobody back."""
        self.queries.close()
        for lookup in tuple(self._lookups):
            lookup.close()

    # Files.

    def _take_files(self) -> None:
        """Ask the name servers that the files now name, and ask everything anew."""
        settings = self.settings
        servers = settings.nameservers or tuple(
            _nameserver(text, self._port) for text in self._files.conf.nameservers
        )
        self.queries.apply(servers, settings.timeout_ms, settings.valid_ms)

    def _look_at_files(self) -> None:
        if self._files.refresh(self.loop.clock.now_ms):
            self._take_files()

    def _listed(self, host: str) -> tuple[str, ...]:
        """Return the addresses that /etc/hosts has for a host."""
        # No zones: a backend at fe80::1%eth0 could not be written in the configuration either.
        return tuple(
            address
            for address in self._files.hosts.get(host.lower().removesuffix("."), ())
            if "%" not in address and (self.settings.ipv6 or ":" not in address)
        )

    def _candidates(self, host: str) -> tuple[str, ...]:
        """Return the full names to ask for, one at least."""
        if self.settings.nameservers:
            return (host.removesuffix("."),)
        return candidates(host, self._files.conf)

    @property
    def _types(self) -> tuple[RecordType, ...]:
        ipv6 = self.settings.ipv6
        return (RecordType.A, RecordType.AAAA) if ipv6 else (RecordType.A,)

    # Hosts.

    def resolve(self, host: str, resolved: Resolved) -> None:
        """Call `resolved` once, with the addresses of a host."""
        self._look_at_files()
        addresses = self._listed(host)
        if addresses:
            resolved(Resolution(Outcome.FOUND, addresses, ttl_ms=FILE_MS))
        else:
            self._resolve_first(self._candidates(host), None, resolved)

    def _resolve_first(
        self, names: Sequence[str], failed: Resolution | None, resolved: Resolved
    ) -> None:
        """Ask for one candidate after the other, until one exists.

        It passes over a domain whose servers fail, as glibc does, and returns to that failure,
        `failed`, if no other name exists. Two things end the search: silence, which says nothing of
        any name, and a failure about a name that existed before and may come back.
        """
        name, *others = names

        def take(found: Resolution) -> None:
            failure = found if found.outcome is Outcome.FAILED else failed
            if found.addresses or found.outcome is Outcome.FOUND:
                resolved(found)
            elif others and not found.is_silent:
                self._resolve_first(others, failure, resolved)
            else:
                resolved(failure or found)

        lookup = NameLookup(self, name, self._types, take)
        self._lookups.add(lookup)
        for record_type in lookup.types:
            self.queries.ask(name, record_type, lookup.collect)

    def recall(self, host: str) -> tuple[str, ...]:
        """Return what we know of a host, however old it is, without asking; maybe nothing."""
        addresses = self._listed(host)
        names = iter(self._candidates(host))
        while not addresses and (name := next(names, None)) is not None:
            addresses = self.merged(name, self._types, {}).addresses
        return addresses

    def merged(
        self, name: str, types: Sequence[RecordType], replies: dict[RecordType, Reply]
    ) -> Resolution:
        """Return what the replies about a name say; where one is missing, what we know counts."""
        all_types = [replies.get(t) or self.queries.recall(name, t) for t in types]
        return merge(all_types, self.settings.valid_ms)

    def forget(self, lookup: "NameLookup") -> None:
        """Take out a lookup that has ended."""
        self._lookups.discard(lookup)

    # Services.

    def resolve_service(self, service: str, host: str, port: int, resolved: Resolved) -> None:
        """Call `resolved` once, with the endpoints of a service: nginx's `service=`.

        `port` takes the place of the ports of its records; 0 leaves those.
        """
        self._look_at_files()

        def listed(reply: Reply) -> None:
            listing = merge([reply], self.settings.valid_ms)
            if reply.answer is None or not reply.answer.services:
                resolved(listing)
            else:
                services = preferred(reply.answer.services)
                self._resolve_targets(services, listing, port, resolved)

        self.queries.ask(_service_query(service, host), RecordType.SRV, listed)

    def _resolve_targets(
        self, services: Sequence[Srv], listing: Resolution, port: int, resolved: Resolved
    ) -> None:
        """Ask for the addresses of all targets, and leave out those that have none."""
        targets = {srv.target for srv in services}
        found: dict[str, Resolution] = {}

        def collect_for(target: str) -> Resolved:
            def collect(resolution: Resolution) -> None:
                found[target] = resolution
                if len(found) == len(targets):
                    resolved(join(services, listing, found, port))

            return collect

        for target in targets:
            # The dot keeps it out of the search list: a target is a full name (RFC 2782).
            self.resolve(f"{target}.", collect_for(target))

    def recall_service(self, service: str, host: str, port: int) -> tuple[Endpoint, ...]:
        """Return what we know of a service, however old it is, without asking."""
        reply = self.queries.recall(_service_query(service, host), RecordType.SRV)
        services = preferred(reply.answer.services if reply.answer else ())
        known = {s.target: Resolution(Outcome.FOUND, self.recall(f"{s.target}.")) for s in services}
        return join(services, Resolution(Outcome.FAILED), known, port).endpoints


class NameLookup:
    """The lookup of one name in one family or both. Created by the `Resolver`; tells it once."""

    __slots__ = ("_name", "_replies", "_resolved", "_resolver", "_timer", "types")

    def __init__(
        self, resolver: Resolver, name: str, types: Sequence[RecordType], resolved: Resolved
    ) -> None:
        """Call `resolved` when all replies are in, or enough of them."""
        self._resolver = resolver
        self._name = name
        self.types = types
        self._resolved: Resolved | None = resolved
        self._replies: dict[RecordType, Reply] = {}
        self._timer: Timer | None = None

    def collect(self, reply: Reply) -> None:
        """Take a reply; ignore one that comes too late, which `queries` remembers anyway."""
        if self._resolved is None:
            return
        self._replies[reply.type] = reply
        if len(self._replies) == len(self.types):
            self._finish()
        elif not reply.is_stale and reply.answer and reply.answer.outcome is Outcome.FOUND:
            # There are addresses of one family; the other one gets little time.
            self._timer = Timer(self._patience_handler, self)
            loop = self._resolver.loop
            loop.timers.start(self._timer, loop.clock.now_ms + PATIENCE_MS)

    def close(self) -> None:
        """Wait no more, and do not call back."""
        self._resolved = None
        if self._timer is not None:
            self._resolver.loop.timers.cancel(self._timer)
            self._timer = None
        self._resolver.forget(self)

    def __str__(self) -> str:
        """Return what log lines call it."""
        return f"name {self._name}"

    def abort(self) -> None:
        """Do without the other family, after a bug."""
        self._finish()

    def _patience_handler(self, _timer: Timer) -> None:
        self._finish()

    def _finish(self) -> None:
        resolved = self._resolved
        self.close()
        if resolved is not None:
            resolved(self._resolver.merged(self._name, self.types, self._replies))


def _service_query(service: str, host: str) -> str:
    return service_name(service, host.removesuffix(".")).lower()


def _nameserver(text: str, port: int) -> Address:
    """Return the address of a name server as resolv.conf writes it, maybe with an IPv6 zone."""
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    return Address(family, text, port)
