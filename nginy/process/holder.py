"""Who holds an address: the first question of anybody whose program cannot bind it.

Linux answers in two steps (proc(5)): /proc/self/net/tcp and its sisters have the inode of each
socket with its local address, and /proc/PID/fd says which process has a descriptor of that inode.
The link /proc/net is missing where a service sees only processes (ProcSubset=pid). The second step
looks at every descriptor of the machine, so this is for a start or a reload that has failed anyway.
The answer leaves out what nginy cannot find out, such as the descriptors of another user's
processes; nothing here raises.

`binding.py` turns the answer into a message.
"""

import os
import struct
from _socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from collections.abc import Iterator
from pathlib import Path
from socket import AddressFamily
from typing import Final

from nginy.text.address import Address

_LISTEN: Final = "0A"
"""TCP_LISTEN of linux/net/tcp_states.h, as /proc/net/tcp writes it."""
_UNCONNECTED: Final = "07"
"""What /proc/net/udp writes for a socket that is bound but not connected (TCP_CLOSE)."""


class Holders:
    """Finds who holds addresses. It reads /proc once, at the first question."""

    __slots__ = ("_owners", "_proc", "_tables")

    def __init__(self, proc: str = "/proc") -> None:
        self._proc = proc
        self._owners: dict[str, list[int]] | None = None
        self._tables: dict[str, dict[str, list[list[str]]]] = {}

    def of(self, address: Address, udp: bool = False) -> list[int]:
        """Return the ids of the processes that listen on `address`, as far as they can be seen."""
        if address.is_unix:
            inodes = set(_unix_inodes(address, self._proc))
        else:
            inodes = {inode for inode, _ in self._sockets(address, udp)}
        if not inodes:
            return []
        if self._owners is None:
            self._owners = _socket_owners(self._proc)
        found = (self._owners.get(f"socket:[{inode}]", ()) for inode in inodes)
        return sorted({pid for pids in found for pid in pids})

    def address(self, address: Address, udp: bool = False) -> str:
        """Return the address that is in the way of `address`; "" if it is the same, or unknown.

        A local resolver on 127.0.0.53:53 keeps others from binding 0.0.0.0:53, which puzzles people
        who are told that 0.0.0.0:53 is in use.
        """
        if address.is_unix:
            return ""
        hosts = [host for _, host in self._sockets(address, udp)]
        if not hosts or address.host in hosts:
            return ""
        family = AF_INET6 if ":" in hosts[0] else AF_INET
        return str(Address(AddressFamily(family), hosts[0], address.port))

    def _sockets(self, address: Address, udp: bool) -> Iterator[tuple[str, str]]:
        """Yield the inodes and hosts of sockets that keep others from binding `address`."""
        protocol, state = ("udp", _UNCONNECTED) if udp else ("tcp", _LISTEN)
        for name in (protocol, f"{protocol}6"):
            for fields in self._table(name).get(f"{address.port:04X}", ()):
                host = fields[1].partition(":")[0]
                if fields[3] == state and _overlaps(address, host):
                    yield fields[9], _host_text(host)

    def _table(self, name: str) -> dict[str, list[list[str]]]:
        """Return the lines of a table of /proc/net, in fields, by local port."""
        table = self._tables.get(name)
        if table is None:
            table = self._tables[name] = {}
            for line in _text(f"{self._proc}/self/net/{name}").splitlines()[1:]:
                fields = line.split()
                table.setdefault(fields[1].rpartition(":")[2], []).append(fields)
        return table


def name_of(pid: int, proc: str = "/proc") -> str:
    """Return a process as "nginx, PID 812"."""
    return f"{_text(f'{proc}/{pid}/comm').strip()}, PID {pid}"


def _socket_owners(proc: str) -> dict[str, list[int]]:
    """Return the processes of each socket, by the text of the links to it in /proc."""
    owners: dict[str, list[int]] = {}
    for pid in sorted(int(name) for name in _names(proc) if name.isdigit()):
        for link in {_link(f"{proc}/{pid}/fd/{fd}") for fd in _names(f"{proc}/{pid}/fd")}:
            if link.startswith("socket:"):
                owners.setdefault(link, []).append(pid)
    return owners


def _overlaps(address: Address, host: str) -> bool:
    """Whether a socket bound to `host`, as /proc/net has it, is in the way of `address`."""
    if not host.strip("0"):
        return True
    if address.is_wildcard:
        return len(host) == (32 if address.family == AF_INET6 else 8)
    return host == _proc_text(inet_pton(address.family, address.host))


def _host_text(host: str) -> str:
    """Return an IP address of /proc/net in its usual form."""
    words = [int(host[start : start + 8], 16) for start in range(0, len(host), 8)]
    packed = struct.pack(f"={len(words)}I", *words)
    return inet_ntop(AF_INET6 if len(words) == 4 else AF_INET, packed)


def _proc_text(packed: bytes) -> str:
    """Return an IP address as /proc/net writes it: 32-bit words in the machine's byte order."""
    words = struct.unpack(f"={len(packed) // 4}I", packed)
    return "".join(f"{word:08X}" for word in words)


def _unix_inodes(address: Address, proc: str) -> Iterator[str]:
    for line in _text(f"{proc}/self/net/unix").splitlines()[1:]:
        fields = line.split(None, 7)
        if len(fields) == 8 and fields[7] == address.path:
            yield fields[6]


def _names(directory: str) -> list[str]:
    try:
        return os.listdir(directory)
    except OSError:  # another user's, or the process has just ended
        return []


def _link(path: str) -> str:
    try:
        return os.readlink(path)
    except OSError:
        return ""


def _text(path: str) -> str:
    try:
        return Path(path).read_text(errors="replace")
    except OSError:
        return ""
