"""PortSet: the listening sockets that the supervisor has bound for its workers, and keeps.

Each address has as many sockets as there are workers, with SO_REUSEPORT (socket(7)): the kernel
gives each socket its share of the clients, and the datagrams of one UDP client always to the same
socket. The supervisor holds copies of all sockets, so the queue of a worker that dies waits for its
replacement. All workers share one unix socket, or one that another program has bound without
SO_REUSEPORT: whichever comes first accepts.

The supervisor itself accepts no client. So it must close its copies in time: a socket that only the
supervisor has open takes clients that no process will ever serve.

nginx: `ngx_open_listening_sockets`, `ngx_clone_listening`.

Tested in tests/run/test_workers.py.
"""

from _socket import SO_REUSEPORT, SOL_SOCKET, socket
from collections.abc import Mapping, Sequence
from dataclasses import replace

from nginy.config import schema
from nginy.errors import NginyError
from nginy.event.bind import ListenKey, ListenOptions, Neighbors
from nginy.event.listener import Listener
from nginy.process.binding import in_binding_order, refusal, wanted_by
from nginy.process.inherited import Inherited, bound_listener

OpenPorts = dict[ListenKey, list[Listener]]
"""The sockets of each address: one for each worker, or one for all."""


class PortSet:
    """All sockets by address. Created and closed by the supervisor."""

    __slots__ = ("_ports", "_retired", "_workers", "inherited")

    def __init__(self, workers: int) -> None:
        self._workers = workers
        self._ports: OpenPorts = {}
        self._retired: OpenPorts = {}
        self.inherited = Inherited()
        """Sockets to be taken instead of binding new ones."""

    # Starting and reloading.

    def open(self, config: schema.Config) -> OpenPorts:
        """Return sockets for the addresses of `config` that are not served yet: all, or none.
        Raises NginyError. Give the result to `apply` or to `undo`.
        """
        opened: OpenPorts = {}
        errors: list[NginyError] = []
        neighbors = self._neighbors()
        for options in in_binding_order(wanted_by(config), self.inherited):
            key = options.key
            if key in self._ports:
                continue
            try:
                beside = neighbors.of(options)
                opened[key] = self._retired.get(key) or self._bind(options, beside)
            except NginyError as error:
                errors.append(error)
                continue
            for listener in opened[key]:
                neighbors.add(options, listener.socket)
        if errors:
            self.undo(opened)
            raise refusal(errors)
        return opened

    def undo(self, opened: OpenPorts) -> None:
        """Close what `open` has bound."""
        _close({key: group for key, group in opened.items() if key not in self._retired})

    def apply(self, config: schema.Config, opened: OpenPorts) -> None:
        """Adopt what `open` has returned for `config`, and close what it does not name. UDP sockets
        only retire. The workers answer old clients from theirs, and while the kernel has the whole
        group it finds the right worker for each; closing them, or taking them back, comes later.
        Where a wildcard goes on, this closes them at once: they would keep its clients.
        """
        wanted = wanted_by(config)
        for key in [key for key in self._ports if key not in wanted]:
            address, is_udp = key
            if (address.wildcard, is_udp) in wanted:
                _close({key: self._ports.pop(key)})
            else:
                self._retire(key)
        for key, group in opened.items():
            self._retired.pop(key, None)
            self._ports[key] = group

    def listeners(self) -> list[Listener]:
        """Return all sockets that get clients."""
        return [listener for group in self._ports.values() for listener in group]

    def retire_all(self) -> None:
        """Let no more clients come: the workers serve those that they have."""
        for key in list(self._ports):
            self._retire(key)

    def has_retired(self) -> bool:
        """Whether there is something that `close_retired` would close."""
        return bool(self._retired)

    def close_retired(self) -> None:
        """Close the UDP sockets whose workers have finished with them."""
        _close(self._retired)
        self._retired.clear()

    def close(self) -> None:
        """Close everything."""
        self.close_retired()
        _close(self._ports)
        self._ports.clear()
        self.inherited.close()

    # What a worker gets.

    def sockets_of(self, worker: int, ports: Mapping[ListenKey, list[Listener]]) -> list[socket]:
        """Return a worker's socket of each of `ports`."""
        return [group[worker % len(group)].socket for group in ports.values()]

    def leave_to(self, worker: int) -> list[socket]:
        """Return a worker's sockets and close all others: for that worker, right after the fork."""
        kept = self.sockets_of(worker, self._ports)
        for group in (*self._ports.values(), *self._retired.values()):
            for listener in group:
                if listener.socket not in kept:
                    # Not the listener: a unix socket's path stays.
                    listener.socket.close()
        self.inherited.close()
        return kept

    # Binding.

    def _neighbors(self) -> Neighbors:
        """Return all sockets that the supervisor has bound."""
        neighbors = Neighbors()
        for group in (*self._ports.values(), *self._retired.values()):
            for listener in group:
                neighbors.add(listener.options, listener.socket)
        return neighbors

    def _bind(self, options: ListenOptions, neighbors: Sequence[socket]) -> list[Listener]:
        group: list[Listener] = []
        try:
            while len(group) < self._workers:
                if not self.inherited.has(options.key):
                    break
                group.append(self.inherited.listener(options, neighbors))
            if not options.address.is_unix:
                self._fill(group, options, neighbors)
            elif not group:
                group.append(Listener(options))
        except NginyError:
            _close({options.key: group})
            raise
        return group

    def _fill(
        self, group: list[Listener], options: ListenOptions, neighbors: Sequence[socket]
    ) -> None:
        """Bind the sockets that `group` lacks, if an inherited socket permits others beside it."""
        if not group:
            # With SO_REUSEPORT alone, it would go unnoticed that another nginy has the address.
            bound_listener(options, neighbors).close()
        elif not group[0].socket.getsockopt(SOL_SOCKET, SO_REUSEPORT):
            if options.udp:
                raise NginyError(
                    f"the inherited UDP socket {options.address} cannot be shared by"
                    f" {self._workers} workers, it was bound without SO_REUSEPORT"
                )
            return
        shared = replace(options, reuse_port=True)
        while len(group) < self._workers:
            group.append(bound_listener(shared, neighbors))

    def _retire(self, key: ListenKey) -> None:
        group = self._ports.pop(key)
        _, is_udp = key
        if is_udp:
            self._retired[key] = group
        else:
            _close({key: group})


def _close(ports: OpenPorts) -> None:
    for group in ports.values():
        for listener in group:
            listener.close()
