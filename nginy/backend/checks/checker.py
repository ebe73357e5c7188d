"""Active health checks: how each kind of check reaches a backend.

`Checker` makes checks on one loop. A check is a small session: it begins with an address and a
deadline, has one `Result`, and cleans up after itself. What a check asks is a `Question` of
`nginy.wire.checks`; `dialog` carries it by a stream connection, `datagram` by UDP, and `program`
runs programs. `health/schedule.py` and `watch` decide when to check, `health/health.py` what a
result means.

The one idea: checks share only the loop. Each has its own descriptor and its own timer, none waits
for another, and none ever blocks, so one backend's trouble never delays another's check.
"""

import os
import socket
from collections.abc import Hashable
from dataclasses import dataclass, replace
from typing import Final, Protocol

from nginy.backend.backend import Backend
from nginy.backend.checks.datagram import DatagramCheck
from nginy.backend.checks.dialog import Dialog, Ended, Inquiry
from nginy.backend.checks.open_checks import Check, OpenChecks
from nginy.backend.checks.program import ProgramCheck
from nginy.backend.checks.sharing import Groups
from nginy.backend.health.schedule import CheckSettings
from nginy.event.loop import Loop
from nginy.event.tls_client import ClientContexts, ClientTls
from nginy.text.address import Address
from nginy.wire.checks.steps import StepsCheck
from nginy.wire.checks.talk import Question, Talk, Target
from nginy.wire.dns_names import is_host_name
from nginy.wire.proxy_protocol import ANNOUNCES_NOBODY

CONNECT_ONLY: Final = StepsCheck()
MAX_CONTEXTS: Final = 64
"""Contexts of TLS that are kept, 150 KB each with the authorities of the system."""


@dataclass(frozen=True, slots=True)
class ProbeSettings:
    """What a check asks, and how: the part of `health_check` that is not policy.

    `transport` is "tcp", "udp" or "exec". `port` takes the place of the backend's own. With `tls`
    the check asks within TLS, of the server called `name`; None is the name that the configuration
    has for the backend. exec runs `command` and has no question.
    """

    question: Question = CONNECT_ONLY
    transport: str = "tcp"
    port: int | None = None
    tls: ClientTls | None = None
    name: str | None = None
    command: tuple[str, ...] = ()
    proxy_protocol: str = "off"
    """The PROXY header of listeners that lead here: "off", "v1" or "v2"."""


class MakeTalk(Protocol):
    """Begins a conversation."""

    def __call__(self, question: Question, target: Target, *, is_datagram: bool) -> Talk:
        """Return a talk that has not begun."""


class Checker:
    """Makes checks on one loop and knows the open ones. Created and closed by the server."""

    __slots__ = ("_contexts", "_hostname", "_make_talk", "groups", "loop", "open")

    def __init__(self, loop: Loop, make_talk: MakeTalk = Talk) -> None:
        """Ask nothing yet; `make_talk` may make talks that keep what both sides say."""
        self.loop = loop
        self._make_talk = make_talk
        self.open = OpenChecks(loop)
        self.groups = Groups()
        self._hostname = socket.gethostname()
        self._contexts: dict[ClientTls, ClientContexts] = {}

    def start(
        self,
        probe: ProbeSettings,
        address: Address,
        deadline_ms: int,
        ended: Ended,
        proxy_protocol: str = "auto",
        name: str = "",
    ) -> Check:
        """Start a check of the backend at `address`, to end by `deadline_ms`.

        `proxy_protocol` and `name` are the backend's own, the latter with its port. A check with a
        port of its own asks another server than clients do, and sends no PROXY header (as HAProxy).

        The check calls `ended` once, maybe before this returns, unless somebody closes it first.
        """
        version = header_of(probe, proxy_protocol)
        if probe.port is not None:
            address = replace(address, port=probe.port)
        if probe.transport == "exec":
            program = ProgramCheck(self.loop, self.open, ended)
            program.start(probe.command, address, deadline_ms, name)
            return program
        if probe.transport == "udp":
            talk = self._make_talk(probe.question, self._target(address), is_datagram=True)
            # Version 1 is for streams.
            head = ANNOUNCES_NOBODY["v2"] if version == "v2" else b""
            check = DatagramCheck(self.loop, self.open, talk, ended, head)
            check.start(address, deadline_ms)
            return check
        talk = self._make_talk(probe.question, self._target(address), is_datagram=False)
        # It says that the connection is the proxy's own, and no client's.
        head = ANNOUNCES_NOBODY.get(version, b"")
        inquiry = Inquiry(talk, head)
        if probe.tls is not None:
            host = host_of(address, name) if probe.name is None else probe.name
            inquiry = Inquiry(talk, head, self._contexts_of(probe.tls), host)
        return self._converse(inquiry, address, deadline_ms, ended)

    def _contexts_of(self, tls: ClientTls) -> ClientContexts:
        contexts = self._contexts.get(tls)
        if contexts is None:
            if len(self._contexts) >= MAX_CONTEXTS:  # from former configurations
                self._contexts.clear()
            contexts = self._contexts[tls] = ClientContexts(tls)
        return contexts

    def ask(self, question: Question, address: Address, deadline_ms: int, ended: Ended) -> Check:
        """Ask a question other than a health check's, such as the load check's."""
        inquiry = Inquiry(Talk(question, self._target(address)))
        return self._converse(inquiry, address, deadline_ms, ended)

    def close(self) -> None:
        """Give up all checks, without results."""
        self.open.close()

    def _target(self, address: Address) -> Target:
        return Target(address, self._hostname, os.urandom)

    def _converse(
        self, inquiry: Inquiry, address: Address, deadline_ms: int, ended: Ended
    ) -> Check:
        dialog = Dialog(self.loop, self.open, inquiry, ended)
        dialog.start(address, deadline_ms)
        return dialog


def header_of(probe: ProbeSettings, proxy_protocol: str) -> str:
    """Return the version of the PROXY header that a check of a backend begins with.

    `proxy_protocol` is the backend's own key.
    """
    if probe.port is not None:
        return "off"
    return probe.proxy_protocol if proxy_protocol == "auto" else proxy_protocol


def question_key(probe: ProbeSettings, check: CheckSettings, backend: Backend) -> Hashable:
    """Return a key that is equal where the check asks the same of two backends: see `sharing`."""
    address = backend.address
    if probe.port is not None:
        address = replace(address, port=probe.port)
    has_name = probe.transport == "exec" or (probe.tls is not None and probe.name is None)
    name = backend.name if has_name else ""
    return address, header_of(probe, backend.settings.proxy_protocol), name, probe, check


def host_of(address: Address, name: str) -> str:
    """Return the host in a backend's configured name, which has a port, or in its address."""
    if address.is_unix:
        return "localhost"
    host = name.rpartition(":")[0].strip("[]")
    return host if is_host_name(host) else address.host
