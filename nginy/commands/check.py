"""Every health check of a configuration, once and now: `nginy check`.

It shows what health each backend would have, seen from here, before a configuration serves, and why
a running nginy calls a backend down. The checks are those of the service, on a loop that lives as
long as the command; it resolves names as the service does.

The one idea: it leaves no trace. It opens no listener, writes no file, and tells the running nginy
nothing. A single check decides, so `fails`, `passes` and `interval` do not matter here.

Not here: the load check (`agent_check`), which decides nothing about health by itself.
"""

import random
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Final

from nginy.backend.backend import BackendSettings
from nginy.backend.checks.checker import Checker, ProbeSettings
from nginy.backend.checks.dialog import Result
from nginy.backend.names.answers import Endpoint, Resolution
from nginy.backend.names.expand import address_of, expand, refusal
from nginy.backend.names.resolver import Resolver
from nginy.config.building import build
from nginy.config.building.health import probe_settings, tls_towards
from nginy.config.checking.targets import by_upstream
from nginy.config.health import HealthCheck, timeout_of
from nginy.config.node import closest, did_you_mean, quote
from nginy.config.schema import Config
from nginy.config.tls import ProxyTls
from nginy.errors import NginyError
from nginy.event.loop import Loop
from nginy.wire.checks.talk import Question, Step, Talk, Target

MAX_AT_ONCE: Final = 100
"""Checks at the same time: each takes a descriptor, and an operator's limit may be 256."""
HEX_COLUMNS: Final = 16
HEX_MAX_BYTES: Final = 512
"""How much of one message is printed; a protocol is recognizable from less."""


@dataclass(slots=True)
class Asked:
    """One backend, and the result of its check."""

    upstream: str
    backend: BackendSettings
    check: HealthCheck
    proxy_protocol: str
    tls: ProxyTls | None = None
    result: Result | None = None
    """None if the backend was not asked; `reason` says why."""
    reason: str = ""
    began_at_ms: int = 0
    took_ms: int = 0
    talk: "RecordingTalk | None" = None

    @property
    def is_fine(self) -> bool:
        """Whether the backend has passed, or is down because the configuration says so."""
        return self.backend.down or (self.result is not None and not self.result.failure)


class RecordingTalk(Talk):
    """A conversation that keeps what both sides sent."""

    __slots__ = ("said",)

    def __init__(self, question: Question, target: Target, *, is_datagram: bool = False) -> None:
        super().__init__(question, target, is_datagram=is_datagram)
        self.said: list[tuple[str, bytes]] = []
        """Each with ">" if nginy sent it, or "<" if the backend did."""

    def begin(self) -> Step:
        """Keep what nginy sends."""
        step = super().begin()
        self.said += [(">", each) for each in step.sends]
        return step

    def receive(self, data: bytes | memoryview, *, is_eof: bool = False) -> Step:
        """Keep what the backend has sent."""
        if data:
            self.said.append(("<", bytes(data)))
        return super().receive(data, is_eof=is_eof)


def check(config: Config, upstream: str | None) -> list[Asked]:
    """Ask all backends of one upstream, or of every upstream, and return their answers.

    Backends that are down in the configuration are not asked, as in the service. Raise NginyError
    if there is no such upstream, or nothing to ask. It takes as long as the slowest check, and
    longer with more than MAX_AT_ONCE, of which the others wait for their turn.
    """
    asked = _backends(config, upstream)
    loop = Loop()
    try:
        _Run(loop, config, asked).run()
    finally:
        loop.close()
    return asked


def _backends(config: Config, upstream: str | None) -> list[Asked]:
    """Return the backends to ask."""
    if upstream is not None and upstream not in config.upstreams:
        hint = did_you_mean(closest(upstream, config.upstreams))
        raise NginyError(f"there is no upstream {quote(upstream)}{hint}")
    found: list[Asked] = []
    listeners = by_upstream(config.listeners)
    for name, settings in config.upstreams.items():
        health = settings.health_check
        if upstream not in (None, name) or health is None:
            continue
        leading = listeners.get(name, ())
        version = build.proxy_protocol_of(leading, health)
        tls = tls_towards(leading)
        found += [
            Asked(name, build.backend_settings(backend), health, version, tls)
            for backend in settings.backends
        ]
    if not found:
        where = "no upstream" if upstream is None else f"upstream {quote(upstream)}"
        has = "has a health_check" if upstream is None else "has no health_check"
        raise NginyError(f"{where} {has}")
    return found


@dataclass(slots=True)
class _Run:
    """Names, then checks; all on a loop that nothing else uses."""

    loop: Loop
    config: Config
    asked: list[Asked]
    talks: list[RecordingTalk] = field(default_factory=list)
    unresolved: int = 0
    unfinished: int = 0

    def run(self) -> None:
        """Ask, and wait for all answers and for the ends of all connections."""
        self._resolve()
        checker = Checker(self.loop, self._make_talk)
        waiting = deque(each for each in self.asked if not each.reason)
        while waiting or self.unfinished or checker.open:
            while waiting and self.unfinished < MAX_AT_ONCE:
                self._start(checker, waiting.popleft())
            if self.unfinished or checker.open:
                self.loop.turn()

    def _make_talk(self, question: Question, target: Target, *, is_datagram: bool) -> Talk:
        self.talks.append(RecordingTalk(question, target, is_datagram=is_datagram))
        return self.talks[-1]

    def _start(self, checker: Checker, each: Asked) -> None:
        self.unfinished += 1
        self.loop.clock.update()
        each.began_at_ms = now_ms = self.loop.clock.now_ms
        probe: ProbeSettings = probe_settings(each.check, each.proxy_protocol, each.tls)
        self.talks.clear()
        checker.start(
            probe,
            each.backend.address,
            now_ms + timeout_of(each.check),
            partial(self._ended, each),
            each.backend.proxy_protocol,
            each.backend.name,
        )
        each.talk = self.talks[0] if self.talks else None

    def _ended(self, each: Asked, result: Result) -> None:
        self.unfinished -= 1
        each.result = result
        each.took_ms = self.loop.clock.now_ms - each.began_at_ms

    # Names.

    def _resolve(self) -> None:
        """Replace names by their addresses."""
        resolver = Resolver(self.loop, random.SystemRandom())
        resolver.apply(build.resolver_settings(self.config.resolver))
        found: list[list[Asked]] = [[each] for each in self.asked]
        for place, each in enumerate(self.asked):
            backend = each.backend
            if backend.down:
                each.reason = "down in the configuration"
            elif backend.address.is_name:
                self.unresolved += 1
                resolved = partial(self._resolved, each, found[place])
                host, port = backend.address.host, backend.address.port
                if backend.service:
                    resolver.resolve_service(backend.service, host, port, resolved)
                else:
                    resolver.resolve(host, resolved)
        while self.unresolved:
            self.loop.turn()
        resolver.close()
        self.asked[:] = [each for backends in found for each in backends]

    def _resolved(self, each: Asked, place: list[Asked], resolution: Resolution) -> None:
        """Replace a backend by one for each address of its name."""
        self.unresolved -= 1
        host, port = each.backend.address.host, each.backend.address.port
        found = resolution.endpoints or tuple(
            Endpoint(host, address, port) for address in resolution.addresses
        )
        endpoints = [endpoint for endpoint in found if not refusal(address_of(endpoint))]
        if endpoints:
            backends = expand(each.backend, endpoints)
            place[:] = [replace(each, backend=backend) for backend in backends]
        else:
            each.reason = f"has no address ({resolution.reason or 'none that can serve'})"


def render_checks(asked: Sequence[Asked], *, is_verbose: bool = False) -> str:
    """Return a line for each backend; if `is_verbose`, below it what both sides sent."""
    columns = [(each.upstream, _address(each), _verdict(each)) for each in asked]
    widths = [max(map(len, column)) for column in zip(*columns, strict=True)]
    lines = []
    for each, cells in zip(asked, columns, strict=True):
        words = [cell.ljust(width) for cell, width in zip(cells, widths, strict=True)]
        if each.result is not None:
            words.append(f"{each.took_ms} ms".rjust(7))
        words.append(_reason(each))
        lines.append("  ".join(words).rstrip())
        if is_verbose and each.talk is not None:
            secret = each.check.password_file
            lines += _dump(each.talk, b"" if secret is None else secret.content)
    return "\n".join(lines)


def _address(each: Asked) -> str:
    """Return the name of a backend, and its address if the name does not show it."""
    backend = each.backend
    is_known = backend.address.is_name or backend.name == str(backend.address)
    return backend.name if is_known else f"{backend.name} ({backend.address})"


def _verdict(each: Asked) -> str:
    if each.result is None or each.result.is_ours:
        return "not asked"
    return "failed" if each.result.failure else "passed"


def _reason(each: Asked) -> str:
    if each.result is None:
        return each.reason
    return "no answer" if each.result.is_silent else each.result.failure


def _dump(talk: RecordingTalk, secret: bytes) -> Iterator[str]:
    """Yield the conversation in hexadecimal, each line with its direction and the text.

    Stars hide the password.
    """
    for speaker, said in talk.said:
        data = said.replace(secret, b"*" * len(secret)) if secret else said
        for start in range(0, min(len(data), HEX_MAX_BYTES), HEX_COLUMNS):
            part = data[start : start + HEX_COLUMNS]
            text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in part)
            yield f"  {speaker} {part.hex(' '):<{3 * HEX_COLUMNS - 1}}  {text}"
        if len(data) > HEX_MAX_BYTES:
            yield f"  {speaker} ... {len(data) - HEX_MAX_BYTES} more bytes"
    if talk.goodbye and not talk.is_eof:
        yield f"  > {talk.goodbye.hex(' ')} (goodbye)"
