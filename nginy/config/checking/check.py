"""Rules that span keys: references, duplicates, and keys that conflict.

check() runs over a whole configuration that may contain mistakes already: Origin.has() tells which
keys of a record are usable, so that each mistake has one message. complete() creates upstreams for
the addresses in `proxy_pass`.

Not here: the syntax of single values (types.py, schema.py), warnings (surprises.py), missing files
(files.py), and what only a start can find out, such as an address in use.
"""

import re
from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from nginy.config.admin import check_admin
from nginy.config.checking.early import check_early
from nginy.config.checking.loops import check_loops
from nginy.config.checking.routes import check_routes
from nginy.config.checking.targets import (
    entries_of,
    is_by_variable,
    targets_of,
    upstreams_of,
    with_choices,
)
from nginy.config.checking.tls import check_tls
from nginy.config.checking.upstreams import check_upstream
from nginy.config.logs import LOG_FORMATS, AccessLogSettings
from nginy.config.node import (
    Findings,
    MappingNode,
    Mark,
    ScalarNode,
    closest,
    did_you_mean,
    quote,
)
from nginy.config.phases import LimitConn, LimitConnRate
from nginy.config.possible import is_always_empty
from nginy.config.routes import Route
from nginy.config.schema import (
    LISTENER,
    Config,
    Listener,
)
from nginy.config.upstream import UPSTREAM
from nginy.config.words.hints import value_hint
from nginy.errors import InvalidValueError
from nginy.text.address import PORT_MAX, Address, parse_peer


def check(config: Config, findings: Findings) -> None:
    """Report every mistake that shows only when keys are seen together.

    complete() has run: each address in `proxy_pass` has an upstream.
    """
    for upstream in config.upstreams.values():
        check_upstream(upstream, findings)
    for listener in config.listeners:
        check_way(listener, config, findings)
        _check_limits(listener, config, findings)
        _check_content(listener, config, findings)
        check_routes(listener, findings)
    _check_zones(config, findings)
    check_early(config, findings)
    _check_listen(config, findings)
    tcp = [each for each in config.listeners if each.protocol == "tcp"]
    taken = [(address, each.origin.of("listen")) for each in tcp for address in each.listen]
    check_admin(config.admin or (), taken, findings)
    _check_ready(config, findings)
    check_loops(config, findings)
    check_tls(config, findings)
    _check_names(config, findings)
    if "json" in config.log_formats:
        text = '"json" is a format of nginy\'s own, expected another name'
        findings.report(config.origin.of("log_formats"), text)
    _check_access_logs(config, findings)


def check_way(listener: Listener, config: Config, findings: Findings) -> None:
    """Report keys that conflict on the way from a listener to its backends."""
    _check_protocol(listener, config, findings)
    _check_headers(listener, config, findings)
    _check_ports(listener, config, findings)


def complete(config: Config, findings: Findings) -> Config:
    """Return the configuration with an upstream for each address that a `proxy_pass` names.

    The address is its name and its only backend; it inherits from `defaults` like any other.
    """
    config = with_choices(config)
    upstreams = dict(config.upstreams)
    for target, mark in (each for listener in config.listeners for each in targets_of(listener)):
        if target not in upstreams and "$" not in target and _is_peer(target):
            backend = ScalarNode(target, mark)
            pairs = ((ScalarNode("backends"), backend),)
            upstreams[target] = UPSTREAM.read(MappingNode(pairs, backend.mark), findings)
    return replace(config, upstreams=upstreams)


def _is_peer(text: str) -> bool:
    """Return whether this is an address to connect to; a host name needs a port."""
    try:
        address = parse_peer(text)
    except InvalidValueError:
        return False
    return not address.is_name or address.port > 0


def _check_protocol(listener: Listener, config: Config, findings: Findings) -> None:
    """Report keys of the other protocol, and unix sockets with UDP."""
    origin, protocol = listener.origin, listener.protocol
    if not origin.has("protocol"):
        return
    for name, mark in origin.keys.items():
        only = LISTENER.keys[name].only
        if only is not None and only != protocol:
            findings.report(mark, f"{name}: is for {only} listeners, this one is {protocol}")
    if protocol == "udp" and any(address.is_unix for address in listener.listen):
        findings.report(
            origin.of("listen"), "listen: a unix socket cannot receive UDP, expected an IP address"
        )
    for name, mark in targets_of(listener):
        upstream = config.upstreams.get(name)
        backends = upstream.backends if upstream is not None else ()
        if protocol == "udp" and any(backend.address.is_unix for backend in backends):
            text = "proxy_pass: a backend is a unix socket, expected IP addresses with udp"
            findings.report(mark, text)


def _check_headers(listener: Listener, config: Config, findings: Findings) -> None:
    """Report PROXY headers that do not go with UDP."""
    origin, accepted = listener.origin, listener.accept_proxy_protocol
    if accepted is not None and accepted.standalone and listener.protocol == "tcp":
        text = "standalone: is for udp listeners, this one is tcp"
        findings.report(accepted.origin.of("standalone"), text)
    if listener.protocol != "udp":
        return
    returns = [listener.return_, *(route.return_ for route in listener.routes)]
    if accepted is not None and any(text is not None for text in returns):
        text = "accept_proxy_protocol: cannot be combined with return on udp listeners, expected"
        findings.report(origin.of("accept_proxy_protocol"), f"{text} proxy_pass")
    if listener.proxy_protocol == "v1":
        text = 'proxy_protocol: "v1" is for streams, expected off or v2 with udp'
        findings.report(origin.of("proxy_protocol"), text)
    upstreams = [config.upstreams.get(name) for name in upstreams_of(listener)]
    for backend in (each for upstream in upstreams if upstream for each in upstream.backends):
        if backend.proxy_protocol == "v1":
            where = origin.of("listen")
            text = f'proxy_protocol: "v1" is for streams; {where} is udp and leads here, expected'
            findings.report(backend.origin.of("proxy_protocol"), f"{text} off or v2")


def _check_ports(listener: Listener, config: Config, findings: Findings) -> None:
    """Report backends that would have the listener's port, where that is none."""
    upstreams = [config.upstreams.get(name) for name in upstreams_of(listener)]
    for backend in (each for upstream in upstreams if upstream for each in upstream.backends):
        if backend.address.offset is None:
            continue
        where, mark = listener.origin.of("listen"), backend.origin.of("address")
        highest = max(address.port for address in listener.listen) if listener.listen else 1
        text = f"address: {quote(backend.address.name)} takes the port of the listener at {where}"
        if any(address.is_unix for address in listener.listen):
            findings.report(mark, f"{text}, which is a unix socket")
        elif highest + backend.address.offset > PORT_MAX:
            reached = highest + backend.address.offset
            findings.report(mark, f"{text} and leads to {reached}, expected {PORT_MAX} or less")


def _limits(listener: Listener) -> tuple[LimitConn | LimitConnRate, ...]:
    rate = listener.limit_conn_rate
    return (*listener.limit_conn, *(() if rate is None else (rate,)))


def _check_limits(listener: Listener, config: Config, findings: Findings) -> None:
    """Report keys that are empty for every client, and limits that would count one thing twice."""
    for limit in _limits(listener):
        names = re.findall(r"\$(\w+)", limit.key_)
        names = [name for name in names if not is_always_empty(name, config.variables)]
        rest = re.sub(r"\$\w+", "", limit.key_)
        # Limits come before the handshake.
        names = [name for name in names if not name.startswith("ssl_")]
        if listener.accept_proxy_protocol is None:
            names = [name for name in names if not name.startswith("proxy_protocol_")]
        if not names and not rest and limit.origin.has("key"):
            text = f"key: {quote(limit.key_)} is empty for every client"
            hint = ", expected a key such as $remote_addr, or accept_proxy_protocol"
            findings.report(limit.origin.of("key"), f"{text}{hint}")
    seen: dict[str, Mark] = {}
    for each in listener.limit_conn:
        zone = each.zone or each.key_
        mark = each.origin.of("zone" if each.zone else "key")
        if zone in seen:
            text = f"limit_conn: {quote(zone)} already counts this listener at {seen[zone]}"
            findings.report(mark, text)
        seen.setdefault(zone, mark)


def _check_zones(config: Config, findings: Findings) -> None:
    """Report zones that count by different keys (nginx's rule)."""
    seen: dict[tuple[str, str], LimitConn | LimitConnRate] = {}
    for listener in config.listeners:
        for limit in _limits(listener):
            if not limit.zone or not limit.origin.has("zone", "key"):
                continue
            first = seen.setdefault((type(limit).__name__, limit.zone), limit)
            if first.key_ != limit.key_:
                where = first.origin.of("key")
                text = f"zone: {quote(limit.zone)} counts by {quote(first.key_)} at {where}"
                findings.report(limit.origin.of("zone"), f"{text}, expected the same key")


def _check_content(listener: Listener, config: Config, findings: Findings) -> None:
    """Report a listener with two targets, or none, and targets that do not exist."""
    origin, target = listener.origin, listener.proxy_pass
    for entry in entries_of(listener):
        if is_by_variable(entry):
            _check_choices(entry, config, findings)
        elif entry.proxy_pass is not None and entry.origin.has("proxy_pass"):
            _check_target(entry.proxy_pass, entry.origin.of("proxy_pass"), config, findings)
    if not origin.has("proxy_pass", "return"):
        return
    if target is not None and listener.return_ is not None:
        other = origin.of("proxy_pass")
        text = f"return: proxy_pass is set at {other}, expected one of the two"
        findings.report(origin.of("return"), text)
    if target is None and listener.return_ is None and "routes" not in origin.keys:
        findings.report(origin.mark, '"proxy_pass" is missing, expected it or "return"')


def _check_choices(entry: Listener | Route, config: Config, findings: Findings) -> None:
    """Report values of a variable that are no place to send a client to."""
    expected = "expected an upstream's name or an address"
    where = f"as proxy_pass at {entry.origin.of('proxy_pass')} leads there"
    for each in entry.choices:
        if each.text in config.upstreams:
            continue
        what = f"may be {quote(each.text)}" if each.text else "may be empty"
        if "$" in each.text:
            what += ", which depends on the client"
        hint = did_you_mean(closest(each.text, config.upstreams))
        findings.report(each.mark, f"{entry.proxy_pass} {what}, {expected}, {where}{hint}")


def _check_target(target: str, mark: Mark, config: Config, findings: Findings) -> None:
    """Report a `proxy_pass` that is neither an upstream nor an address."""
    if target in config.upstreams:
        return
    if ":" not in target and target.strip("0123456789."):
        is_unread = not config.origin.has("upstreams") and all(map(_is_peer, config.upstreams))
        if is_unread and not target.endswith(";"):
            return  # it may be among upstreams with a mistake of their own
        hint = did_you_mean(closest(target, config.upstreams))
        text = f"proxy_pass: there is no upstream {quote(target)}{hint}"
        if target.endswith(";"):
            text = f"proxy_pass: {quote(target)} {value_hint('proxy_pass', target)}"
        findings.report(mark, text)
        return
    try:
        parse_peer(target)
    except InvalidValueError as error:
        advice = value_hint("proxy_pass", target)
        if advice is not None:
            findings.report(mark, f"proxy_pass: {quote(target)} {advice}")
            return
        expected = "an upstream's name, or an address and port such as 127.0.0.1:80"
        hint = did_you_mean(error.hint)
        text = f"proxy_pass: {quote(target)} {error.clause}, expected {expected}{hint}"
        findings.report(mark, text)


def _check_listen(config: Config, findings: Findings) -> None:
    """Report addresses that occur twice; of a range, only the first."""
    seen: dict[tuple[str, Address], Mark] = {}
    for listener in config.listeners:
        mark = listener.origin.of("listen")
        keys = [(listener.protocol, address) for address in listener.listen]
        counts = Counter(keys)
        taken = [key for key in keys if key in seen or counts[key] > 1]
        if taken and listener.origin.has("protocol"):
            first = seen.get(taken[0], mark)
            findings.report(mark, f"listen: {taken[0][1]} is already listed at {first}")
        seen.update((key, seen.get(key, mark)) for key in keys)


def _check_ready(config: Config, findings: Findings) -> None:
    """Report upstreams that do not exist."""
    names = ("min_up", *config.upstreams)
    for name in config.ready:
        if name not in names:
            text = f"ready: there is no upstream {quote(name)}{did_you_mean(closest(name, names))}"
            findings.report(config.origin.of("ready"), text)


def _check_names(config: Config, findings: Findings) -> None:
    """Report two listeners with the same name."""
    seen: dict[str, Mark] = {}
    for listener in config.listeners:
        mark = listener.origin.of("name")
        if listener.name in seen:
            text = f"name: {quote(listener.name)} is already set at {seen[listener.name]}"
            findings.report(mark, text)
        elif listener.name:
            seen[listener.name] = mark


def _check_access_logs(config: Config, findings: Findings) -> None:
    """Report missing formats, and one file with different buffers (as nginx does)."""
    seen: dict[str, AccessLogSettings] = {}
    formats = {**LOG_FORMATS, **config.log_formats}
    for log in access_logs(config):
        origin = log.origin
        if log.format not in formats and origin.has("format"):
            hint = did_you_mean(closest(log.format, formats))
            if log.format == "combined":
                # The default of nginx's http, which logs requests; streams have none.
                hint = ", expected main (sessions have no request to log), or json"
            text = f"format: there is no log format {quote(log.format)}{hint}"
            findings.report(origin.of("format"), text)
        if log.flush_ms is not None and log.buffer_bytes is None and origin.has("buffer"):
            findings.report(origin.of("flush"), "flush: needs buffer")
        if not origin.has("path"):
            continue
        first = seen.setdefault(log.path, log)
        if (log.buffer_bytes, log.flush_ms) != (first.buffer_bytes, first.flush_ms):
            text = f"access_log: this file has another buffer or flush at {first.origin.mark}"
            findings.report(origin.mark, text)


def access_logs(config: Config) -> Iterator[AccessLogSettings]:
    """Yield the access logs that the configuration names, those of listeners after its own."""
    yield from config.access_log
    for listener in config.listeners:
        yield from listener.access_log
