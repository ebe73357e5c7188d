"""The way of one client through a configuration, in words: `nginy explain`.

It answers an operator's questions before a configuration serves, and after a surprise: which
listener, which upstream, which of its backends and why not another, how long each step may take.

The balancer itself chooses, from a pool in which every backend that the configuration permits is
reachable and idle. This module does not know what only a running nginy knows (health, sessions,
the place in the round, addresses of names), and the text says so where it matters. The admin
interface of a running one passes its backends as they are (`Live`).
"""

import random
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from nginy.backend.backend import Backend
from nginy.backend.pool import BackendPool
from nginy.commands.explain_routes import FirstBytes, parse_first_bytes, route_lines, tls_lines
from nginy.commands.flow import flow
from nginy.commands.visitor import Visitor
from nginy.config.building import build
from nginy.config.checking.targets import is_routed
from nginy.config.dump import masked
from nginy.config.node import closest, did_you_mean, quote
from nginy.config.record import Entry, Key
from nginy.config.schema import LISTENER, Config, Listener
from nginy.config.upstream import UPSTREAM, Upstream
from nginy.config.variables import definitions
from nginy.errors import InvalidValueError, NginyError
from nginy.proxy.context import ConnectionContext, as_bytes
from nginy.proxy.routing.routes import RouteTarget
from nginy.text.address import Address, parse_bind_address
from nginy.text.counts import counted

ANY_TURN: Final = frozenset({"round_robin", "least_conn", "least_time"})
"""Methods whose choice depends on earlier ones: only the first after a start is known."""


Rows = Sequence[Mapping[str, Any]]
"""The addresses of one configured backend, as the admin interface lists them."""
Live = Callable[[str], Mapping[str, Rows]]
"""Returns the current backends of an upstream, by name."""


@dataclass(frozen=True, slots=True)
class Way:
    """The client, and where it connects."""

    listener: Listener
    address: Address
    client: Address
    visitor: Visitor
    """The first session, which gives variables their values."""
    first: FirstBytes
    live: Live | None = None

    @property
    def context(self) -> ConnectionContext:
        """The facts of the first session."""
        return self.visitor.context


def explain(
    config: Config,
    listener: str,
    client: str,
    words: Sequence[str] = (),
    live: Live | None = None,
) -> str:
    """Return the way of `client` ("10.1.2.3" or "10.1.2.3:5000") through a listener, as text.

    `listener` is a name or an address, followed by "/udp" or "/tcp" if both listen there.
    `words` say what the client sends first, such as "sni=www.example.com".
    Raise NginyError if there is no such listener or `client` is no IP address.
    """
    chosen, address = _find(config, listener)
    try:
        sockaddr = parse_bind_address(client)
    except InvalidValueError as error:
        raise NginyError(f"client {quote(client)} {error.clause}") from None
    name = chosen.name or str(address)
    context = ConnectionContext(
        1, chosen.protocol.upper(), name, sockaddr.sockaddr, address.sockaddr
    )
    visitor = Visitor(context, definitions(config.variables))
    way = Way(chosen, address, sockaddr, visitor, parse_first_bytes(words), live)
    return "\n".join(_lines(config, way)) + "\n"


def _find(config: Config, text: str) -> tuple[Listener, Address]:
    """Return the listener of this name or address, and which of its addresses is meant."""
    wanted, _, protocol = (
        text.rpartition("/") if text.endswith(("/tcp", "/udp")) else (text, "", "")
    )
    listeners = [each for each in config.listeners if protocol in ("", each.protocol)]
    found = [(each, each.listen[0]) for each in listeners if each.name and each.name == wanted]
    found += [
        (each, address) for each in listeners for address in each.listen if str(address) == wanted
    ]
    if not found:
        names = [each.name or str(each.listen[0]) for each in config.listeners]
        hint = did_you_mean(closest(wanted, names)) or f", expected one of {', '.join(names)}"
        raise NginyError(f"there is no listener {quote(text)}{hint}")
    if len(found) > 1:
        raise NginyError(
            f"{quote(text)} listens for TCP and UDP, expected {text}/tcp or {text}/udp"
        )
    return found[0]


def _lines(config: Config, way: Way) -> Iterator[str]:
    listener = way.listener
    name = f"{listener.name}, " if listener.name else ""
    port = "" if way.client.port else " (port 0 stands for any)"
    yield f"client    {way.client}{port}"
    yield f"listener  {name}{way.address} {listener.protocol}, at {listener.origin.mark}"
    if (yield from _phase_lines(way)):
        return
    target = RouteTarget(listener.proxy_pass, listener.return_)
    way.visitor.arrived().hello = way.first.hello
    if is_routed(listener, config, definitions(config.variables)):
        for line in route_lines(config, listener, way.address.port, way.visitor, way.first):
            if isinstance(line, str):
                yield line
            else:
                target = line
    else:
        yield from tls_lines(listener, None)
    yield from _target_lines(config, way, target)


def _target_lines(config: Config, way: Way, target: RouteTarget) -> Iterator[str]:
    listener = way.listener
    only = "" if listener.routes else "none but "
    if target.answer is not None:
        text = quote(way.visitor.filled_in(target.answer))
        yield f"rules     {only}return: the answer is {text}, then the session ends"
    if target.proxy_pass is None:
        return
    upstream = target.proxy_pass
    everybody = "the session" if listener.routes else "every client"
    if upstream.startswith("$"):
        upstream = way.visitor.filled_in(upstream)
        everybody = f"{target.proxy_pass} is {quote(upstream)}, the session"
    yield f"rules     {only}proxy_pass: {everybody} goes to upstream {upstream}"
    yield from _upstream_lines(upstream, config.upstreams[upstream], way)
    yield "settings"
    for key, row in LISTENER.keys.items():
        if (
            key.startswith("proxy_")
            and key != "proxy_pass"
            and row.only in (None, listener.protocol)
        ):
            yield f"  {_setting(row, listener)}"


def _phase_lines(way: Way) -> Generator[str, None, bool]:
    """Yield what happens before the content; return whether the client gets no further."""
    listener = way.listener
    accepted = listener.accept_proxy_protocol
    if accepted is not None:
        is_sender = accepted.from_.table.decides(way.context.remote_addr) >= 0
        who = "this client" if is_sender else "other clients than this one"
        where = " in each datagram" if listener.protocol == "udp" else ""
        yield f"header    a PROXY header is read{where} from {who} (accept_proxy_protocol)"
        if not is_sender and accepted.others == "refuse":
            end = "datagrams are dropped" if listener.protocol == "udp" else "status 403"
            yield f"choice    none: {end}, this client is not in from (others: refuse)"
            return True
        if is_sender:
            yield "client    now the one in the header; the rest assumes a header without a client:"
    for limit in listener.limit_conn:
        key = quote(way.visitor.filled_in(limit.key_))
        yield f"limit     {counted(limit.max, 'session')} at a time for the key {key} (limit_conn)"
    if listener.limit_conn_rate is not None:
        rate = listener.limit_conn_rate
        key = quote(way.visitor.filled_in(rate.key_))
        sessions = counted(rate.rate, "new session")
        yield f"limit     {sessions} a second for the key {key} (limit_conn_rate)"
    if listener.access is not None:
        access = listener.access.table
        number = access.decides(way.context.remote_addr)
        count = len(access.rules)
        if number < 0:
            yield f"access    none of {counted(count, 'rule')} matches: allowed"
        else:
            yield f"access    {access.rules[number]} (rule {number + 1} of {count})"
        if access.denies(way.context.remote_addr):
            end = "its datagrams are dropped" if listener.protocol == "udp" else "status 403"
            yield f"choice    none: {end}, denied by access"
            return True
    return False


def _upstream_lines(name: str, upstream: Upstream, way: Way) -> Iterator[str]:
    balance = upstream.balance
    yield f"balance   {_setting(UPSTREAM.keys['balance'], upstream).partition(' ')[2]}"
    key = way.visitor.filled_in(balance.key)
    if balance.key:
        yield f"key       {quote(key)}" if key else "key       empty: chosen by turns"
    backends = [Backend(build.backend_settings(each)) for each in upstream.backends]
    for backend in backends:
        backend.down = backend.settings.down  # a host name counts without its addresses
    now = {} if way.live is None else way.live(name)
    for backend in backends:
        if backend.name in now:
            _bring_up_to_date(backend, now[backend.name])
    pool = BackendPool("", backends, build.balancer_maker(balance, random.Random(0)))
    yield "backends, as they are now" if now else "backends"
    width = max(len(backend.name) for backend in backends)
    for backend in backends:
        rows = now.get(backend.name)
        said = [_usability(backend)] if rows is None else list(map(_state, rows))
        for text in said:
            yield f"  {backend.name:{width}}  {text}"
    yield from _choice_lines(upstream, way.listener, pool, as_bytes(key))
    for key_name, row in UPSTREAM.keys.items():
        value = getattr(upstream, row.field)
        if key_name not in ("balance", "backends") and value is not None:
            yield f"upstream  {_setting(row, upstream, is_masked=way.live is not None)}"


def _bring_up_to_date(backend: Backend, rows: Rows) -> None:
    """Copy the running state to a backend; a host name is as usable as its best address."""
    backend.down = not any(row["usable"] for row in rows)
    backend.reweigh(max(row["weight"]["now"] for row in rows))
    backend.max_conns = rows[0]["max_conns"]["now"]
    backend.conns = sum(row["conns"] for row in rows)


def _state(row: Mapping[str, Any]) -> str:
    """Describe the current state of one address of a backend."""
    where = "" if row["address"] == row["name"] else f"{row['address']} "
    count = row["conns"]
    text = f"{where}{row['state']}, {count} session{'' if count == 1 else 's'}"
    if row["usable"]:
        return f"{text}, weight {row['weight']['now']}"
    reason = row["reason"] or row["why_not"]
    return f"{text}, gets no clients: {reason}"


def _usability(backend: Backend) -> str:
    """Return whether and when the configuration permits a backend to be chosen."""
    settings = backend.settings
    if settings.down:
        return "not usable: down is on"
    facts = [f"weight {settings.weight}"]
    if settings.proxy_protocol != "auto":
        facts.append(f"proxy_protocol {settings.proxy_protocol}")
    if settings.max_conns:
        facts.append(f"until it has {counted(settings.max_conns, 'session')} (max_conns)")
    if settings.max_fails:
        facts.append(
            f"out for {settings.fail_timeout_s}s after {counted(settings.max_fails, 'failure')}"
            " (max_fails)"
        )
    if settings.address.is_name:
        return f"usable once its name is resolved, {', '.join(facts)}"
    if settings.backup:
        return f"usable only while no other is (backup), {', '.join(facts)}"
    return f"usable, {', '.join(facts)}"


def _choice_lines(
    upstream: Upstream, listener: Listener, pool: BackendPool, key: bytes
) -> Iterator[str]:
    """Yield the chosen backend, and those that nginy would try next."""
    order: list[Backend] = []
    while (backend := pool.pick(key, order, 0)) is not None and backend not in order:
        order.append(backend)
    if not order:
        yield "choice    none: status 502, no usable backend"
        return
    method = upstream.balance.method
    why = ""
    if method == "random":
        why = ", for example: any usable one, in proportion to weight"
    elif method in ANY_TURN or (upstream.balance.key and not key):
        why = ", for the first client after a start; the next one takes its turn"
    yield f"choice    {order[0].name}{why}"
    next_upstream = listener.proxy_next_upstream
    if listener.protocol == "tcp" and next_upstream is not None:
        tries = next_upstream.tries or pool.tries
        others = ", ".join(backend.name for backend in order[1:tries])
        yield f"then      {others or 'no other'}, if the connection fails"


def _setting(row: Key[object], record: Entry, *, is_masked: bool = False) -> str:
    value = row.kind.write(getattr(record, row.field))
    return f"{row.name} {flow(masked(value) if is_masked else value)}"
