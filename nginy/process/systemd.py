"""What systemd tells a service, and what a service tells systemd: two small protocols.

Telling: with NOTIFY_SOCKET set, `Notifier` sends datagrams of lines such as READY=1 there
(sd_notify(3)). The manager then knows when nginy serves, when it reads its configuration anew and
when it is about to end. Without the variable nothing is sent.

Being told: with LISTEN_PID and LISTEN_FDS set, `passed_descriptors` says which sockets the manager
has bound for us (sd_listen_fds(3)). Which listener they belong to is found out by their address, in
`inherited.py`.

Both are protocols of environment variables and sockets; no library is needed. Others speak them,
too: podman, s6, and systemd-socket-activate for trying it out.
"""

import logging
import os
import socket
import time
from collections.abc import MutableMapping
from typing import Final

logger = logging.getLogger("nginy.server")

FIRST_FD: Final = 3
"""SD_LISTEN_FDS_START: after the standard streams."""


class Notifier:
    """Tells the service manager about changes of state; does nothing where there is none."""

    __slots__ = ("_address", "variables")

    def __init__(self, environ: MutableMapping[str, str]) -> None:
        """Take NOTIFY_SOCKET out of `environ`: the processes that nginy starts are no services."""
        path = environ.pop("NOTIFY_SOCKET", "")
        self.variables = {"NOTIFY_SOCKET": path} if path else {}
        """What a successor of this process has to find in its environment."""
        # "@" stands for the zero byte of an abstract address (unix(7)).
        self._address = f"\0{path[1:]}" if path.startswith("@") else path

    def ready(self, status: str) -> None:
        """Say that nginy serves, after its start or after a reload."""
        self._send("READY=1", f"MAINPID={os.getpid()}", f"STATUS={status}")

    def reloading(self) -> None:
        """Say that a reload begins; `ready` ends it, however it went.

        The time tells the manager's own request from an older one (Type=notify-reload).
        """
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._send("RELOADING=1", f"MONOTONIC_USEC={now_us}", "STATUS=Reloading")

    def stopping(self, status: str) -> None:
        """Say that nginy ends, now or when its last session does."""
        self._send("STOPPING=1", f"STATUS={status}")

    def _send(self, *lines: str) -> None:
        if not self._address:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.setblocking(False)
                sock.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            logger.warning("sendto() to NOTIFY_SOCKET failed (%s: %s)", error.errno, error.strerror)


def passed_descriptors(environ: MutableMapping[str, str], pid: int) -> range:
    """Return the descriptors that the service manager has passed to the process `pid`, ours.

    The variables are taken out of `environ`, since they are meant for nobody else.
    """
    variables = {name: environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS")}
    environ.pop("LISTEN_FDNAMES", None)
    if variables["LISTEN_PID"] != str(pid) or not variables["LISTEN_FDS"].isdecimal():
        return range(0)
    return range(FIRST_FD, FIRST_FD + int(variables["LISTEN_FDS"]))
