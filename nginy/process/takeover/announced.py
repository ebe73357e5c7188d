"""Announcements: which client each proxy speaks for, on the way to a new process.

With `standalone`, a PROXY header may come alone, and everything that its sender sends from then on
is that client's (`proxy/udp/header.py`). A successor that did not know this would drop these
datagrams until the sender announces its client again, and the sender has no reason to.

The old process sends all announcements of a listener before sessions move, a few in each message.
From its first message on, it sends each new one at once, before it forwards anything.

Both sides name listeners as `estate.py` does.
"""

from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Final

from nginy.process.takeover.messages import Message, MessageMembers
from nginy.process.takeover.session_record import (
    Json,
    header_to_json,
    parse_header,
    parse_sockaddr,
)
from nginy.proxy.phases.arrival import Announced, announced
from nginy.proxy.udp.base import ClientKey
from nginy.proxy.udp.handler import UdpHandler
from nginy.proxy.udp.header import note

Named = Iterable[tuple[str, UdpHandler]]
"""UDP listeners by name, with the handler that serves each."""

SLICE: Final = 20
"""Announcements in one message: some 0.3 ms."""


def tell_all(listeners: Named) -> Iterator[Message]:
    """Yield what has been announced so far."""
    for name, handler in listeners:
        noted = handler.announcements
        rest = iter(list(noted.items()))
        while some := list(islice(rest, SLICE)):
            # Whatever has changed meanwhile has been sent as news.
            yield _message(name, [_row(*each) for each in some if noted.get(each[0]) is each[1]])


def tell_news(listeners: Named, tell: Callable[[Message], None]) -> None:
    """Call `tell` with what is announced from now on."""
    for name, handler in listeners:
        handler.on_announced = partial(_tell, name, tell)


def tell_no_more(listeners: Named) -> None:
    """Undo `tell_news`."""
    for _, handler in listeners:
        handler.on_announced = None


def learn(members: MessageMembers, listeners: Named) -> None:
    """Note what a message tells, if its listener is here; raises MessageError."""
    handler = dict(listeners).get(members.text("listener"))
    if handler is None:
        return
    for row in members.objects("rows"):
        peer, local = parse_sockaddr(row.items("peer")), row.bytes("local")
        key: ClientKey = (peer, local) if local else peer
        client: Announced | None = None
        told = row.maybe_object("header")
        if told is not None:
            header = parse_header(told)
            if isinstance(header.source, tuple):
                client = announced(header.source, header)
        note(handler.announcements, key, client)


def _tell(
    name: str, tell: Callable[[Message], None], key: ClientKey, client: Announced | None
) -> None:
    tell(_message(name, [_row(key, client)]))


def _message(name: str, rows: list[Json]) -> Message:
    return Message("state", {"kind": "announced", "listener": name, "rows": rows})


def _row(key: ClientKey, client: Announced | None) -> Json:
    peer, local = (key[0], key[1]) if isinstance(key[0], tuple) else (key, b"")
    assert isinstance(peer, tuple) and isinstance(local, bytes)  # noqa: PT018 - for mypy
    header = None if client is None else header_to_json(client.header)
    return {"peer": list(peer), "local": local.hex(), "header": header}
