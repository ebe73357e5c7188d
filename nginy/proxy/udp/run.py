"""Run: datagrams of a flood that came from one client in a row, and that leave together.

While datagrams come faster than nginy receives them, those of one client and one length gather in a
`Run` until all datagrams of the event are there, then leave by one call, which the kernel cuts up
again (UDP_SEGMENT of udp(7)). They arrive as if each had left by itself. The receiver holds the
runs of an event (`event/datagram.py::DatagramReceiver`) and has each finished at its end; no run
outlives the event, so the datagrams stay where they were received.

If the session ends meanwhile, the rest of its run goes on like any datagrams of the client.

Tested in tests/proxy/udp/test_many.py.
"""

from collections.abc import Callable
from typing import Final

from nginy.proxy.udp.session import UdpSession

RUN_MAX: Final = 32
"""Datagrams in a run: no more come with one event, and the kernel takes 64."""
RUN_DATAGRAM_BYTES: Final = 1400
"""Length up to which a datagram joins a run: what fits into a packet on any usual path, and so that
32 of them stay below 65,535 bytes."""


class Run:
    """Some datagrams of one session, all of one length. Created by
    `proxy/udp/handler.py::UdpHandler`."""

    __slots__ = ("_datagrams", "_pass_on", "_session")

    def __init__(
        self, session: UdpSession, first: memoryview, pass_on: Callable[[memoryview], None]
    ) -> None:
        """Hold `first`; `pass_on` takes what is left over if the session ends."""
        self._session = session
        self._datagrams = [first]
        self._pass_on = pass_on

    def add(self, datagram: memoryview) -> bool:
        """Hold one more; return False if the run is full, or of another length."""
        datagrams = self._datagrams
        if len(datagrams[0]) != len(datagram) or len(datagrams) >= RUN_MAX:
            return False
        datagrams.append(datagram)
        return True

    def finish(self) -> None:
        """Send them all."""
        self._session.is_bursting = len(self._datagrams) > 1
        for datagram in self._session.send_run(self._datagrams):
            self._pass_on(datagram)


def may_wait(session: UdpSession, datagram: memoryview) -> bool:
    """Whether a datagram may wait for others like it: nothing may depend on its departure."""
    settings = session.handler.settings
    return (
        settings.udp_offload
        and session.can_run
        and 0 < len(datagram) <= RUN_DATAGRAM_BYTES
        and not settings.requests
        and settings.responses != 0
    )
