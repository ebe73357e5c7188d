"""WaysBack: which addresses of a name would lead clients back to nginy itself.

At any time, a name may come to stand for one of our own listeners; then a single client would use
up all connections. So each address of a name is examined before its pool takes it. Addresses in the
configuration are checked when it is read (`config/checking/loops.py`).

Tested in tests/process/test_reload_names_live.py.
"""

from collections.abc import Callable, Sequence

from nginy.backend.backend import Backend
from nginy.backend.names.expand import refusal
from nginy.config import schema
from nginy.config.checking.loops import OwnListeners
from nginy.config.checking.targets import upstreams_of
from nginy.text.address import Address


class WaysBack:
    """The listeners of the present configuration, and what they lead to."""

    __slots__ = ("_backends_of", "_listeners", "_own")

    def __init__(self, backends_of: Callable[[str], Sequence[Backend]]) -> None:
        """Begin without listeners; `backends_of` returns the present backends of an upstream, by
        name.
        """
        self._backends_of = backends_of
        self._listeners: tuple[schema.Listener, ...] = ()
        self._own = OwnListeners(schema.Config())

    def follow(self, config: schema.Config) -> None:
        """Learn the listeners of a configuration."""
        self._listeners = config.listeners
        self._own = OwnListeners(config)

    def refuse(self, name: str, address: Address) -> str:
        """Return why nginy must send no client of an upstream to an address that a name has."""
        reason = refusal(address)
        for protocol in ("tcp", "udp"):
            if not reason and self._leads_back(protocol, address, name, set()):
                reason = "is a listener of our own, which leads back here"
        return reason

    def _leads_back(self, protocol: str, address: Address, name: str, seen: set[int]) -> bool:
        """Return whether a client that connects to `address` may come to the upstream `name`."""
        index = self._own.find(protocol, address)
        if index is None or index in seen:
            return False
        seen.add(index)
        targets = upstreams_of(self._listeners[index])
        if name in targets:
            return True
        backends = [backend for each in targets for backend in self._backends_of(each)]
        return any(self._leads_back(protocol, b.address, name, seen) for b in backends)
