"""Binding all addresses of a configuration: in which order, and what is in the way.

A start or a reload that cannot bind reports each address with its holder, so that one look is
enough. `binding_problems` finds the same for `nginy -t`, without a start: it binds each address for
a moment. What the running nginy of this configuration holds is not in the way.

`holder.py` finds out which process holds an address, and `event/bind.py` binds one.

Tested in tests/run/test_binding.py.
"""

import contextlib
import errno
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from pathlib import Path

from nginy.config import schema
from nginy.config.addresses import ListenAddresses
from nginy.config.building import build
from nginy.errors import NginyError
from nginy.event.bind import ListenError, ListenKey, ListenOptions, Neighbors
from nginy.event.listener import Listener
from nginy.process.holder import Holders, name_of
from nginy.process.inherited import Inherited, bound_listener
from nginy.process.pidfile import read_pid

Wanted = tuple[ListenOptions, schema.Listener]
"""An address to listen on, and the listener of the configuration it belongs to."""


def wanted_by(config: schema.Config) -> dict[ListenKey, Wanted]:
    """Return every address that `config` listens on, with its options and its listener."""
    return {
        options.key: (options, listener)
        for listener in config.listeners
        for options in build.listen_options(listener)
    }


def in_binding_order(
    wanted: Mapping[ListenKey, Wanted], inherited: Inherited
) -> list[ListenOptions]:
    """Return what to open in an order that finds ports of other processes: see `Neighbors`."""
    options = [each for each, _ in wanted.values()]
    return sorted(options, key=lambda o: (not inherited.has(o.key), not o.address.is_wildcard))


def in_ranges(listeners: Iterable[Listener]) -> Iterator[str]:
    """Yield the addresses of listeners, for the log: consecutive ports of one host as a range."""
    for udp, run in groupby(listeners, key=lambda listener: listener.options.udp):
        written = ListenAddresses().write(tuple(listener.address for listener in run))
        for where in written if isinstance(written, list) else [written]:
            yield f"{where} udp" if udp else str(where)


def refusal(errors: Sequence[NginyError]) -> NginyError:
    """Return all `errors` as one, a line each, with the holders of addresses that are in use."""
    holders = Holders()
    return NginyError("\n".join(_explained(error, holders) for error in errors))


def binding_problems(config: schema.Config, path: str) -> list[str]:
    """Return what would keep a start with `config`, read from `path`, from binding."""
    is_ours = _ownership(config.pid, path)
    neighbors, opened, problems = Neighbors(), list[Listener](), list[str]()
    holders = Holders()
    admin = [ListenOptions(address) for each in config.admin or () for address in each.listen]
    for options in [*in_binding_order(wanted_by(config), Inherited()), *admin]:
        if options.address.is_unix and any(map(is_ours, holders.of(options.address))):
            continue  # trying it would give it a client
        try:
            listener = bound_listener(options, neighbors.of(options))
        except ListenError as error:
            pids = holders.of(options.address, options.udp)
            if not (any(map(is_ours, pids)) if pids else _is_in_use(error) and is_ours(0)):
                problems.append(_explained(error, holders))
        else:
            neighbors.add(options, listener.socket)
            opened.append(listener)
    for listener in opened:
        listener.close()
    return problems


def _is_in_use(error: NginyError) -> bool:
    return isinstance(error, ListenError) and error.errno == errno.EADDRINUSE


def _explained(error: NginyError, holders: Holders) -> str:
    """Return the message, with the holder of an address in use, and the address it holds if that is
    another one.
    """
    if not isinstance(error, ListenError) or not _is_in_use(error):
        return str(error)
    address, udp = error.options.address, error.options.udp
    held, pids = holders.address(address, udp), holders.of(address, udp)
    by = f" by {name_of(pids[0])}" if pids else ""
    on = f" on {held}" if held else ""
    return f"{error}, held{by}{on}" if by or on else str(error)


def _ownership(pid_path: str | None, path: str) -> Callable[[int], bool]:
    """Return a test for whether a process is the nginy that runs the configuration of `path`.

    Its workers count, too, and so does the systemd that keeps sockets for it. Process 0 stands for
    a holder that we cannot see: if an nginy runs, the test assumes that it is the holder.
    """
    running = -1
    if pid_path is not None:
        with contextlib.suppress(NginyError):
            running = read_pid(pid_path)
    if not os.path.exists(f"/proc/{running}"):
        running = -1

    def is_ours(pid: int) -> bool:
        if pid == 0:
            return running > 0
        if pid == running or _parent_of(pid) == running:
            return True
        return name_of(pid) == "systemd, PID 1" or _runs(pid, path)

    return is_ours


def _parent_of(pid: int) -> int:
    with contextlib.suppress(OSError, ValueError, IndexError):
        stat = Path(f"/proc/{pid}/stat").read_text(errors="replace")
        return int(stat.rpartition(")")[2].split()[1])
    return 0


def _runs(pid: int, path: str) -> bool:
    """Whether a process is nginy, started with the configuration file `path`."""
    try:
        words = Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
        directory = os.readlink(f"/proc/{pid}/cwd")
        if "nginy" not in map(os.path.basename, words):
            return False
        return os.path.realpath(path) in {
            os.path.realpath(os.path.join(directory, word)) for word in words if word
        }
    except OSError:
        return False
