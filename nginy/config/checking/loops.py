"""A configuration that proxies to itself: listeners that their own clients come back to.

One client of such a listener uses up all connections, as each session opens the next one. A loop
may span several listeners. A listener may lead to another one, as in the demonstration of
`return`, as long as the last of them answers itself or leads elsewhere.

A wildcard accepts connections to every address of this machine, except those on which another
listener has its own socket; the kernel prefers that one. Only the kernel knows whether an address
belongs to this machine, so is_local() asks it, about backends on the port of a wildcard only.

Not here: host names, which may resolve to one of our listeners at any time (backend/names/).
"""

import ipaddress
import socket
from collections.abc import Callable, Iterator
from dataclasses import replace

from nginy.config.checking.targets import upstreams_of
from nginy.config.node import Findings, Mark
from nginy.config.schema import Config, Listener
from nginy.config.upstream import Backend
from nginy.text.address import Address

IsLocal = Callable[[Address], bool]

LOOPBACK = {socket.AF_INET: "127.0.0.1", socket.AF_INET6: "::1"}


def is_local(address: Address) -> bool:
    """Return whether an IP address belongs to this machine; sends no packet.

    The kernel gives a connected UDP socket the local address of the route, which is the address
    itself if the machine has it.
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
    """Finds the listener of a configuration that accepts connections to an address."""

    def __init__(self, config: Config, local: IsLocal = is_local) -> None:
        self._local = local
        self._by_address = {
            (listener.protocol, address): index
            for index, listener in enumerate(config.listeners)
            for address in listener.listen
        }
        # Nearly all backends have another port, and need no further look.
        self._ports = {(protocol, address.port) for protocol, address in self._by_address}

    def find(self, protocol: str, address: Address) -> int | None:
        """Return the index of the listener that accepts for `address`; None if none does."""
        if (protocol, address.port) not in self._ports:
            return None
        address = _as_connected(address)
        index = self._by_address.get((protocol, address))
        if index is not None or address.is_unix or address.is_name:
            return index
        index = self._by_address.get((protocol, address.wildcard))
        return index if index is not None and self._local(address) else None


def check_loops(config: Config, findings: Findings, local: IsLocal = is_local) -> None:
    """Report each backend that leads a listener's clients back to that listener."""
    own = OwnListeners(config, local)
    edges: dict[int, list[tuple[int, Backend]]] = {}
    for index, listener in enumerate(config.listeners):
        upstreams = [config.upstreams.get(name) for name in upstreams_of(listener)]
        for backend in (each for upstream in upstreams if upstream for each in upstream.backends):
            for address in _addresses(backend, listener):
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


def _addresses(backend: Backend, listener: Listener) -> Iterator[Address]:
    """Yield the addresses of a backend that are known before any name is resolved."""
    address = backend.address
    if address.offset is not None:
        yield from (address.for_port(each.port) for each in listener.listen)
    elif not address.is_name:
        yield address
    elif address.host == "localhost" and address.port:
        for family, host in LOOPBACK.items():
            yield Address(family, host, address.port)


def _as_connected(address: Address) -> Address:
    """Return where a connection to `address` arrives: a wildcard means this machine (ip(7))."""
    if address.is_unix or address.is_name:
        return address
    mapped = getattr(ipaddress.ip_address(address.host), "ipv4_mapped", None)
    if mapped is not None:
        address = replace(address, family=socket.AF_INET, host=str(mapped))
    return replace(address, host=LOOPBACK[address.family]) if address.is_wildcard else address


def _reached_from(start: int, edges: dict[int, list[tuple[int, Backend]]]) -> set[int]:
    """Return the listeners that a client of `start` may reach, including `start`."""
    reached, waiting = {start}, [start]
    while waiting:
        for target, _ in edges.get(waiting.pop(), ()):
            if target not in reached:
                reached.add(target)
                waiting.append(target)
    return reached
