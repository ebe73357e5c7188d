"""Warnings of `nginy -t`, of a start and of a reload: probable mistakes in what loads.

A configuration that cannot work is an error, in check.py. files.py notes an include without a
match; this module passes that warning on.
"""

import os
from collections.abc import Iterator
from typing import Final

from nginy.backend.names.expand import refusal
from nginy.config.admin import admin_listeners, is_loopback
from nginy.config.balance import KEY_EXAMPLE
from nginy.config.building.health import proxy_protocols_of
from nginy.config.building.tls import terminations
from nginy.config.checking.check import access_logs
from nginy.config.checking.routes import idle_routes
from nginy.config.checking.targets import by_upstream, upstreams_of
from nginy.config.checking.tls import SOON_DAYS, uncovered, validities
from nginy.config.health import HASH_METHODS
from nginy.config.node import Mark, quote, quote_path
from nginy.config.schema import Config
from nginy.config.upstream import Upstream
from nginy.errors import Problem
from nginy.proxy.variables import KEY_VARIABLES
from nginy.text.address import Address
from nginy.text.mask import without_cut

# ZooKeeper's commands ("four letter words") need no line end.
WITHOUT_LINE_END: Final = frozenset({"conf", "isro", "mntr", "ruok", "srvr", "stat"})
# Types that send into a stream, where a reader of lines waits for the line end.
STREAM_TYPES: Final = frozenset({"tcp", "tls"})
UNENDED: Final = r"send has no line end, expected one such as \r\n where lines are read"
"""Without the text, which may have a password in it."""


def surprises(config: Config) -> list[str]:
    """Return the warnings about a configuration that has been checked, sorted by place.

    They go into logs, so they hide what may be a password.
    """
    found = [*config.origin.warnings]
    for name, upstream in config.upstreams.items():
        for mark, text in _of_upstream(name, upstream):
            found.append(Problem(mark.file, mark.line, mark.column, text))
    idle = [each for listener in config.listeners for each in idle_routes(listener)]
    others = (
        *_headers(config),
        *_unused(config),
        *_open_tokens(config),
        *_of_tls(config),
        *_open_sockets(config),
        *_lost_state(config),
        *_pathless(config),
    )
    for mark, text in (*idle, *others, *_conditions(config)):
        found.append(Problem(mark.file, mark.line, mark.column, text))
    values = config.origin.environment
    return [without_cut(str(problem), values) for problem in sorted(set(found))]


Warnings = Iterator[tuple[Mark, str]]


def _of_upstream(name: str, upstream: Upstream) -> Warnings:
    origin, balance = upstream.origin, upstream.balance
    if all(backend.down for backend in upstream.backends):
        text = f"all backends of upstream {quote(name)} are down, so its sessions end at once,"
        yield origin.of("backends"), f"{text} with status 502"
    yield from _repeated(upstream)
    yield from _nowhere(upstream)
    if balance.key and "$" not in balance.key:
        meant = balance.key if balance.key in KEY_VARIABLES else KEY_EXAMPLE[1:]
        text = f"the key {quote(balance.key)} has no variable, so one backend gets every client"
        yield origin.of("balance"), f"{text} (did you mean ${meant}?)"
    if upstream.agent_check is not None and balance.method in HASH_METHODS:
        text = f"balance {balance.method} ignores the weights of agent_check"
        yield origin.of("agent_check"), text
    check = upstream.health_check
    if check is not None and check.type == "mysql" and check.user is None:
        text = "health_check mysql without a user counts as a connect error: MySQL blocks it after"
        yield check.origin.of("type"), f"{text} 100 (max_connect_errors), expected a user"
    yield from _unended_lines(upstream)


def _repeated(upstream: Upstream) -> Warnings:
    """Find backends that are listed twice."""
    seen: dict[tuple[Address, str | None], Mark] = {}
    for backend in upstream.backends:
        key = (backend.address, backend.service)
        mark = backend.origin.of("address")
        if key in seen:
            text = f"backend {backend.address} is already listed at {seen[key]}"
            yield mark, f"{text}, expected it once with a weight"
        seen.setdefault(key, mark)


def _nowhere(upstream: Upstream) -> Warnings:
    """Find addresses that nginy would refuse if a name had them."""
    for backend in upstream.backends:
        address = backend.address
        why = "" if address.is_name or address.is_unix else refusal(address)
        if why:
            yield backend.origin.of("address"), f"backend {address} {why}, expected a server's own"


def _unended_lines(upstream: Upstream) -> Warnings:
    """Find texts without the line end that their reader probably waits for."""
    check, agent = upstream.health_check, upstream.agent_check
    if check is not None and check.type in STREAM_TYPES and _is_unended(check.send):
        yield check.origin.of("send"), UNENDED
    if agent is not None and _is_unended(agent.send):
        yield agent.origin.of("send"), UNENDED


def _is_unended(text: str) -> bool:
    """Return whether this is one line of text without its end."""
    is_text = text.isascii() and text.isprintable() and "\\" not in text
    return bool(text) and is_text and text not in WITHOUT_LINE_END


def _conditions(config: Config) -> Warnings:
    """Find conditions of access logs that are the same for every session."""
    for log in access_logs(config):
        if log.if_ is not None and "$" not in log.if_:
            text = f"if: {quote(log.if_)} has no variable, so it is the same for every session"
            yield log.origin.of("if"), text


def _pathless(config: Config) -> Warnings:
    """Find access logs of listeners without a path, where the one above may seem to give it."""
    if any("path" in log.origin.keys for log in config.access_log):
        for log in (each for listener in config.listeners for each in listener.access_log):
            if "path" not in log.origin.keys:
                text = "access_log has no path, so this listener's lines go to stderr, not where"
                yield log.origin.mark, f"{text} access_log at the top says"


def _unused(config: Config) -> Warnings:
    """Find upstreams that no listener uses."""
    used = {name for listener in config.listeners for name in upstreams_of(listener)}
    for name, upstream in config.upstreams.items():
        if name not in used:
            yield upstream.origin.mark, f"no listener leads to upstream {quote(name)}"


def _headers(config: Config) -> Warnings:
    """Find TLVs that go nowhere, and checks that cannot know which PROXY header is expected."""
    for listener in config.listeners:
        upstreams = [config.upstreams[name] for name in upstreams_of(listener)]
        own = {each.proxy_protocol for upstream in upstreams for each in upstream.backends}
        sends_v2 = "v2" in own or (listener.proxy_protocol == "v2" and "auto" in own)
        if listener.pass_tlvs and not (sends_v2 and listener.accept_proxy_protocol):
            text = "pass_tlvs passes nothing on without accept_proxy_protocol and proxy_protocol v2"
            yield listener.origin.of("pass_tlvs"), text
    listeners = by_upstream(config.listeners)
    for name, upstream in config.upstreams.items():
        leading = listeners.get(name, ())
        versions = proxy_protocols_of(leading, upstream.health_check)
        is_open = any(backend.proxy_protocol == "auto" for backend in upstream.backends)
        if upstream.health_check is not None and len(versions) > 1 and is_open:
            text = f"listeners send different PROXY headers to upstream {quote(name)}, its checks"
            yield upstream.origin.of("health_check"), f"{text} send none"


def _open_tokens(config: Config) -> Warnings:
    """Find tokens that a network sees."""
    for entry in config.admin or ():
        for address in entry.listen:
            if entry.token_file is not None and not is_loopback(address):
                text = (
                    f"the token for {address} is sent without TLS, expected a tunnel in front of it"
                )
                yield entry.origin.of("token_file"), text


def _open_sockets(config: Config) -> Warnings:
    """Find unix sockets through which everybody on this machine may end nginy."""
    for entry in config.admin or ():
        for address in entry.listen:
            if address.is_unix and entry.mode & 0o002 and entry.may(address) == "full":
                text = f"mode: every user of this machine may change and end nginy at {address}"
                yield entry.origin.of("mode"), f"{text}, expected 0660 and group"


def _lost_state(config: Config) -> Warnings:
    """Find an admin_state that no change can reach, or that cannot be written."""
    path = config.admin_state
    if path is None:
        return
    mark, directory = config.origin.of("admin_state"), os.path.dirname(path)
    if not admin_listeners(config.admin, config.pid):
        yield mark, "admin_state keeps nothing without an admin interface, expected admin or pid"
    elif os.path.isdir(path):
        yield mark, f"admin_state keeps nothing because {quote_path(path)} is a directory"
    elif not os.path.isdir(directory):
        yield (
            mark,
            f"admin_state keeps nothing because there is no directory {quote_path(directory)}",
        )


def _of_tls(config: Config) -> Warnings:
    """Find certificates that are about to expire, and keys of sessions that are written down."""
    for each in validities(config):
        if each.days < SOON_DAYS:
            yield each.mark, f"{each}, expected a renewed one"
    yield from uncovered(config)
    for listener in config.listeners:
        for tls in terminations(listener):
            if tls.key_log is not None:
                text = f"key_log: ALL TLS KEYS of this listener go to {quote(tls.key_log)}"
                yield tls.origin.of("key_log"), f"{text}, WHOEVER HAS IT CAN READ ALL TRAFFIC"
