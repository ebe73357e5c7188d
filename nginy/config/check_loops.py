"""Listeners whose clients would come back to them: a configuration that proxies to itself.

One client of such a listener takes every connection there is, as each session opens the next one.
A loop may lead over several listeners. Several on the way are fine as long as the last one answers
by itself or leads elsewhere, as in the demonstration of `return`.

A wildcard takes what comes to any address of this machine, unless another listener has that very
address (the kernel's choice, too). Whether an address is one of this machine's only the kernel
knows; it is asked only about backends on the port of a wildcard.

Not here: host names, which may come to mean one of our listeners at any time (backend/names/).
"""

import ipaddress
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace

from nginy.config.node import Findings, Mark
from nginy.config.schema import Backend, Config
from nginy.text.address import Address

IsLocal = Callable[[Address], bool]

LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


def is_local(address: Address) -> bool:
    """Return whether an IP address is one of this machine's; no packet is sent.

    A connected UDP socket has the local address that the kernel's routing chose, and for an address
    of the machine itself that is the address.
    """
    if ipaddress.ip_address(address.host).is_loopback:
        return True
    try:
        with socket.socket(address.family, socket.SOCK_DGRAM) as sock:
            sock.connect(address.sockaddr)
            return bool(sock.getsockname()[0] == address.host)
    except OSError:  # no route
        return False


class OwnListeners:
    """Which listener of a configuration a connection to an address comes to."""

    def __init__(self, config: Config, local: IsLocal = is_local) -> None:
        self._local = local
        self._by_address = {
            (listener.protocol, address): index
            for index, listener in enumerate(config.listeners)
            for address in listener.listen
        }

    def find(self, protocol: str, address: Address) -> int | None:
        """Return the index of the listener that takes `address`, None if none of ours does."""
        address = _as_connected(address)
        index = self._by_address.get((protocol, address))
        if index is not None or address.is_unix or address.is_name:
            return index
        host = "::" if address.family is socket.AF_INET6 else "0.0.0.0"
        index = self._by_address.get((protocol, Address(address.family, host, address.port)))
        return index if index is not None and self._local(address) else None


def check_loops(config: Config, findings: Findings, local: IsLocal = is_local) -> None:
    """Report every backend through which a listener's clients come back to that listener."""
    own = OwnListeners(config, local)
    edges: dict[int, list[tuple[int, Backend]]] = {}
    for index, listener in enumerate(config.listeners):
        upstream = config.upstreams.get(listener.proxy_pass or "")
        for backend in upstream.backends if upstream is not None else ():
            for address in _addresses(backend):
                target = own.find(listener.protocol, address)
                if target is not None:
                    edges.setdefault(index, []).append((target, backend))
    reported: set[Mark] = set()
    for index, leads in edges.items():
        for target, backend in leads:
            mark = backend.origin.of("address")
            if mark in reported or index not in _reached_from(target, edges):
                continue
            reported.add(mark)
            back = config.listeners[index].origin.of("listen")
            text = f"backend {backend.address} leads back to the listener at {back}"
            findings.report(mark, f"{text}: one client would take all connections")


def _addresses(backend: Backend) -> Iterator[Address]:
    """Yield what a backend stands for, as far as it is known before names are resolved."""
    address = backend.address
    if not address.is_name:
        yield address
    elif address.host == "localhost" and address.port:
        for family, host in LOOPBACK.items():
            yield Address(family, host, address.port)


def _as_connected(address: Address) -> Address:
    """Return where a connection to `address` arrives: a wildcard is this machine (ip(7))."""
    if address.is_unix or address.is_name:
        return address
    mapped = getattr(ipaddress.ip_address(address.host), "ipv4_mapped", None)
    if mapped is not None:
        address = replace(address, family=socket.AF_INET, host=str(mapped))
    return replace(address, host=LOOPBACK[address.family]) if address.is_wildcard else address


def _reached_from(start: int, edges: dict[int, list[tuple[int, Backend]]]) -> set[int]:
    """Return the listeners that a client of `start` may come to, itself included."""
    reached, waiting = {start}, [start]
    while waiting:
        for target, _ in edges.get(waiting.pop(), ()):
            if target not in reached:
                reached.add(target)
                waiting.append(target)
    return reached
