"""What no single key can know: references, duplicates, and keys that do not go together.

check() looks at a whole configuration that may have mistakes already: Place.has() tells which
keys of a record can be trusted, so that one mistake has one message. complete() makes upstreams
of the addresses in `proxy_pass`.

Not here: what one value must be (types.py, schema.py), what is right and yet hardly meant
(surprises.py), whether files are there (check_files.py), and what only a start can tell (an
address in use).
"""

from collections.abc import Iterator
from dataclasses import replace
from typing import Final

from nginy.config.balance import METHODS
from nginy.config.check_loops import check_loops
from nginy.config.health import HASH_METHODS, check_health
from nginy.config.hints import value_hint
from nginy.config.logs import LOG_FORMATS, AccessLogSettings
from nginy.config.node import (
    MappingNode,
    Mark,
    Reading,
    ScalarNode,
    closest,
    did_you_mean,
    quote,
)
from nginy.config.schema import (
    LISTENER,
    UPSTREAM,
    Config,
    Listener,
    Upstream,
)
from nginy.errors import InvalidValueError
from nginy.text.address import Address, parse_peer

# All weights of a consistent hash; 160 points each make ten million, 40 MB and seconds of work.
RING_WEIGHT_MAX: Final = 65_536

UNIX_WITH_UDP: Final = "a unix socket, expected an IP address, as the protocol is udp"


def check(config: Config, reading: Reading) -> None:
    """Report every mistake that shows only when keys are seen together.

    The configuration has been completed: each address in `proxy_pass` that is one is an upstream.
    """
    for upstream in config.upstreams.values():
        _check_names_of_backends(upstream, reading)
        _check_backups(upstream, reading)
        _check_ring(upstream, reading)
        _check_slow_start(upstream, reading)
        addresses = [backend.address for backend in upstream.backends]
        check_health(
            upstream.health_check, upstream.agent_check, upstream.eject, addresses, reading
        )
    for listener in config.listeners:
        _check_protocol(listener, config, reading)
        _check_content(listener, config, reading)
    _check_listen(config, reading)
    check_loops(config, reading)
    _check_names(config, reading)
    if "json" in config.log_formats:
        text = '"json" is a format of nginy\'s own, expected another name'
        reading.report(config.place.of("log_formats"), text)
    _check_access_logs(config, reading)


def complete(config: Config, reading: Reading) -> Config:
    """Return the configuration with an upstream for each address that a `proxy_pass` names.

    It has the address for its name and its one backend, and inherits from `defaults` as others do.
    """
    upstreams = dict(config.upstreams)
    for listener in config.listeners:
        target = listener.proxy_pass
        if target is not None and target not in upstreams and _is_peer(target):
            backend = ScalarNode(target, listener.place.of("proxy_pass"))
            pairs = ((ScalarNode("backends"), backend),)
            upstreams[target] = UPSTREAM.read(MappingNode(pairs, backend.mark), reading)
    return replace(config, upstreams=upstreams)


def _is_peer(text: str) -> bool:
    """Return whether this is something to connect to: a host name counts with a port only."""
    try:
        address = parse_peer(text)
    except InvalidValueError:
        return False
    return not address.is_name or address.port > 0


def _check_names_of_backends(upstream: Upstream, reading: Reading) -> None:
    """Report a host name with nothing to say its port, and a service of what is no name."""
    for backend in upstream.backends:
        address, place = backend.address, backend.place
        if not place.has("address", "service"):
            continue
        name = quote(address.name)
        if backend.service is not None and not address.is_name:
            text = f"service: {name} is an address, expected a host name with service"
            reading.report(place.of("service"), text)
        elif backend.service is None and address.is_name and not address.port:
            text = f"address: {name} has no port, expected one, or service"
            reading.report(place.of("address"), text)


def _check_backups(upstream: Upstream, reading: Reading) -> None:
    """Report backups that no method would use, and a group with nothing else (nginx's rules)."""
    place = upstream.place
    method = upstream.balance.method
    backups = [backend for backend in upstream.backends if backend.backup]
    if place.has("balance") and not METHODS[method].allows_backup:
        for backend in backups:
            text = f"backup: a backend of balance {quote(method)} cannot be a backup"
            reading.report(backend.place.of("backup"), text)
    elif place.has("backends") and backups and len(backups) == len(upstream.backends):
        reading.report(place.of("backends"), "backends: all are backups, expected one that is not")


def _check_ring(upstream: Upstream, reading: Reading) -> None:
    weight = sum(backend.weight for backend in upstream.backends)
    if upstream.balance.consistent and weight > RING_WEIGHT_MAX:
        text = f"backends: weights add up to {weight}, expected {RING_WEIGHT_MAX} or less"
        reading.report(upstream.place.of("backends"), f"{text} with consistent: on")


def _check_slow_start(upstream: Upstream, reading: Reading) -> None:
    """Report a weight that would move in tables that must not (nginx's rule)."""
    method = upstream.balance.method
    for backend in upstream.backends:
        if backend.slow_start_ms is not None and method in HASH_METHODS:
            text = f"slow_start: does not go with balance {quote(method)}"
            reading.report(backend.place.of("slow_start"), text)


def _check_protocol(listener: Listener, config: Config, reading: Reading) -> None:
    """Report keys that mean nothing for the protocol, and unix sockets on UDP's way."""
    place, protocol = listener.place, listener.protocol
    if not place.has("protocol"):
        return
    for name, mark in place.keys.items():
        only = LISTENER.keys[name].only
        if only is not None and only != protocol:
            reading.report(mark, f"{name}: is for {only} listeners, and this one is {protocol}")
    if protocol == "udp" and any(address.is_unix for address in listener.listen):
        reading.report(place.of("listen"), f"listen: {UNIX_WITH_UDP}")
    upstream = config.upstreams.get(listener.proxy_pass or "")
    backends = upstream.backends if upstream is not None else ()
    if protocol == "udp" and any(backend.address.is_unix for backend in backends):
        reading.report(place.of("proxy_pass"), f"proxy_pass: leads to {UNIX_WITH_UDP}")


def _check_content(listener: Listener, config: Config, reading: Reading) -> None:
    """Report a listener without one thing to do, and one that leads nowhere."""
    place, target = listener.place, listener.proxy_pass
    if not place.has("proxy_pass", "return"):
        return
    if target is not None and listener.return_ is not None:
        other = place.of("proxy_pass")
        text = f"return: proxy_pass is set at {other}, expected one of the two"
        reading.report(place.of("return"), text)
    if target is None and listener.return_ is None:
        reading.report(place.mark, '"proxy_pass" is missing, expected it or "return"')
    if target is None or target in config.upstreams:
        return
    mark = place.of("proxy_pass")
    if ":" not in target and target.strip("0123456789."):
        hint = did_you_mean(closest(target, config.upstreams))
        reading.report(mark, f"proxy_pass: there is no upstream {quote(target)}{hint}")
        return
    try:
        parse_peer(target)
    except InvalidValueError as error:
        advice = value_hint("proxy_pass", target)
        if advice is not None:
            reading.report(mark, f"proxy_pass: {quote(target)} {advice}")
            return
        expected = "an upstream's name, or an address and port such as 127.0.0.1:80"
        hint = did_you_mean(error.hint)
        text = f"proxy_pass: {quote(target)} {error.clause}, expected {expected}{hint}"
        reading.report(mark, text)


def _check_listen(config: Config, reading: Reading) -> None:
    """Report addresses that are listened on twice; of a range, the first is enough."""
    seen: dict[tuple[str, Address], Mark] = {}
    for listener in config.listeners:
        mark = listener.place.of("listen")
        keys = [(listener.protocol, address) for address in listener.listen]
        taken = [key for index, key in enumerate(keys) if key in seen or key in keys[:index]]
        if taken and listener.place.has("protocol"):
            first = seen.get(taken[0], mark)
            reading.report(mark, f"listen: {taken[0][1]} is already listened on at {first}")
        seen.update((key, seen.get(key, mark)) for key in keys)


def _check_names(config: Config, reading: Reading) -> None:
    """Report two listeners of one name."""
    seen: dict[str, Mark] = {}
    for listener in config.listeners:
        mark = listener.place.of("name")
        if listener.name in seen:
            text = f"name: {quote(listener.name)} is already set at {seen[listener.name]}"
            reading.report(mark, text)
        elif listener.name:
            seen[listener.name] = mark


def _check_access_logs(config: Config, reading: Reading) -> None:
    """Report formats that are not there, and two ways of writing one file (as nginx does)."""
    seen: dict[str, AccessLogSettings] = {}
    formats = {**LOG_FORMATS, **config.log_formats}
    for log in access_logs(config):
        place = log.place
        if log.format not in formats and place.has("format"):
            hint = did_you_mean(closest(log.format, formats))
            text = f"format: there is no log format {quote(log.format)}{hint}"
            reading.report(place.of("format"), text)
        if log.flush_ms is not None and log.buffer_bytes is None and place.has("buffer"):
            reading.report(place.of("flush"), "flush: has no meaning without buffer")
        first = seen.setdefault(log.path, log)
        if (log.buffer_bytes, log.flush_ms) != (first.buffer_bytes, first.flush_ms):
            text = (
                f"access_log: buffer or flush differ from those for this file at {first.place.mark}"
            )
            reading.report(place.mark, text)


def access_logs(config: Config) -> Iterator[AccessLogSettings]:
    """Yield the access logs that the configuration names, those of listeners after its own."""
    for log in (config.access_log, *(listener.access_log for listener in config.listeners)):
        if log is not None:
            yield log
