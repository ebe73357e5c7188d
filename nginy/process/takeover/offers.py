"""Offers: which sessions can move to another process, what their messages consist of, and how one
goes on that has not moved after all.

`giving.py` decides when each is sent; `tcp_session.py` and `udp_session.py` know their fields.

Tested in tests/process/takeover/test_giving_live.py.
"""

from typing import Final

from nginy.process.takeover import tcp_session, udp_session
from nginy.process.takeover.session_record import TcpRecord
from nginy.process.takeover.udp_session import UdpRecord
from nginy.proxy.movable import SOON
from nginy.proxy.phases.limiting import Zones
from nginy.proxy.reply import ReplySession
from nginy.proxy.session import Session
from nginy.proxy.tcp import TcpSession
from nginy.proxy.udp.session import UdpSession

OWN_ANSWER: Final = "that nginy answers itself"

PENDING: Final = frozenset((SOON, OWN_ANSWER))
"""The reasons that will be gone in a moment: the session moves then, or has ended."""


Movable = TcpSession | UdpSession


def why_unmovable(session: Session) -> str:
    """Return why a session cannot move, or not yet; "" if it can."""
    if isinstance(session, TcpSession):
        return session.why_unmovable
    if isinstance(session, UdpSession):
        return "" if session.upstream is not None else SOON
    return OWN_ANSWER if isinstance(session, ReplySession) else SOON


def parts_of(
    session: Movable, listener: str, zones: Zones
) -> tuple[TcpRecord | UdpRecord, bytes, list[int]]:
    """Return what a session's message consists of: its record, bytes and descriptors."""
    if isinstance(session, TcpSession):
        return tcp_session.record_of(session, listener, zones), *tcp_session.parts_of(session)
    assert session.upstream is not None
    first = session.handler.firsts.get(session, b"")
    return udp_session.record_of(session, listener, zones), first, [session.upstream.fd]


def resume(session: Movable) -> None:
    """Go on with a session where it was."""
    try:
        session.watch()
        session.take_up()
    except (OSError, MemoryError):  # the selector, or the process, has no room any more
        session.abort()
