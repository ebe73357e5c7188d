"""Parcel: a configuration on its way to another process, in pieces.

Unpickling a configuration of 10,000 backends takes 100 ms (CPython 3.11), too long for one turn of
a loop that serves clients. So it is written as many pickles, one after the other, each of which
takes a few milliseconds to read.

`process/reader.py` sends one to the process that reloads, and `process/workers/worker.py` gets one
from its supervisor. Both ends are the same program, and the sender is trusted.
"""

import pickle
from collections.abc import Generator, Iterator
from dataclasses import replace
from typing import IO, Final, TypeAlias

from nginy.config.schema import Config, Listener
from nginy.config.upstream import Backend, Upstream

PIECE_ITEMS: Final = 500
"""Backends, or listeners, or upstreams without any, in one piece: 5 ms."""

Item: TypeAlias = tuple[str, Upstream | Backend | None] | Listener
"""A listener; or an upstream with its name; or one more backend of the upstream of that name."""


def write_parcel(config: Config, file: IO[bytes], piece_items: int = PIECE_ITEMS) -> None:
    """Write a configuration."""
    rest = replace(config, upstreams={}, listeners=())
    pickle.dump(rest, file, pickle.HIGHEST_PROTOCOL)
    piece: list[Item] = []
    for item in _items(config):
        piece.append(item)
        if len(piece) == piece_items:
            pickle.dump(piece, file, pickle.HIGHEST_PROTOCOL)
            piece = []
    pickle.dump(piece, file, pickle.HIGHEST_PROTOCOL)
    pickle.dump(None, file)


def read_parcel(file: IO[bytes]) -> Generator[None, None, Config]:
    """Return what `write_parcel` has written; yields after each piece.

    Raises EOFError or pickle.UnpicklingError if it is not whole.
    """
    rest: Config = pickle.load(file)
    upstreams: dict[str, Upstream] = {}
    backends: dict[str, list[Backend]] = {}
    listeners: list[Listener] = []
    while (piece := pickle.load(file)) is not None:
        for item in piece:
            if isinstance(item, Listener):
                listeners.append(item)
            elif isinstance(item[1], Upstream):
                upstreams[item[0]] = item[1]
                backends[item[0]] = []
            else:
                backends[item[0]].append(item[1])
        yield
    whole = {
        name: replace(upstream, backends=tuple(backends[name]))
        for name, upstream in upstreams.items()
    }
    return replace(rest, upstreams=whole, listeners=tuple(listeners))


def _items(config: Config) -> Iterator[Item]:
    for name, upstream in config.upstreams.items():
        yield name, replace(upstream, backends=())
        for backend in upstream.backends:
            yield name, backend
    yield from config.listeners
