"""What systemd tells a service, and what a service tells systemd: two small protocols.

Telling: with NOTIFY_SOCKET set, `Notifier` sends datagrams of lines such as READY=1 there
(sd_notify(3)). So the manager knows when nginy serves, when it reloads and when it is about to end.
With WATCHDOG_USEC set as well, `Watchdog` tells it from a timer that the loop still turns
(sd_watchdog_enabled(3)); the manager kills and restarts a service that has been silent for so long.
Without the variables nginy sends nothing.

Being told: with LISTEN_PID and LISTEN_FDS set, `passed_descriptors` says which sockets the manager
has bound for us (sd_listen_fds(3)). `inherited.py` finds the listener they belong to by their
address.

Both are protocols of environment variables and sockets, and need no library. Other programs speak
them, too: podman, s6, and systemd-socket-activate for trying it out.
"""

import logging
import os
import socket
import time
from collections.abc import MutableMapping
from typing import Final

from nginy.event.loop import Loop
from nginy.event.timer import Timer

logger = logging.getLogger("nginy.server")

FIRST_FD: Final = 3
"""SD_LISTEN_FDS_START: after the standard streams."""
SIGNS_OF_LIFE: Final = 3
"""How many fall into the time that the manager allows: one may get lost, or be late."""


class Notifier:
    """Tells the service manager about changes of state; does nothing where there is none."""

    __slots__ = ("_address", "_socket", "variables", "watchdog_usec")

    def __init__(self, environ: MutableMapping[str, str], pid: int = 0) -> None:
        """Take the variables for `pid`, ours, out of `environ`: programs that nginy starts are no
        services.

        It opens the socket now and keeps it: a process without a free descriptor is still alive.
        """
        path = environ.pop("NOTIFY_SOCKET", "")
        watched_pid = environ.pop("WATCHDOG_PID", str(pid))
        usec = environ.pop("WATCHDOG_USEC", "")
        self.variables = {"NOTIFY_SOCKET": path} if path else {}
        """What a successor of this process must find in its environment."""
        self.watchdog_usec = 0
        """How long nginy may be silent; 0: the manager does not watch it."""
        if path and usec.isdecimal() and watched_pid == str(pid):
            self.watchdog_usec = int(usec)
            # without WATCHDOG_PID, so that the successor takes it as meant for itself
            self.variables["WATCHDOG_USEC"] = usec
        # "@" stands for the zero byte of an abstract address (unix(7)).
        self._address = f"\0{path[1:]}" if path.startswith("@") else path
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) if path else None
        if self._socket is not None:
            self._socket.setblocking(False)

    def close(self) -> None:
        """Say nothing more."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

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

    def alive(self) -> None:
        """Say that the loop turns."""
        self._send("WATCHDOG=1")

    def _send(self, *lines: str) -> None:
        if self._socket is None:
            return
        try:
            self._socket.sendto("\n".join(lines).encode(), self._address)
        except OSError as error:
            logger.warning("sendto() to NOTIFY_SOCKET failed (%s: %s)", error.errno, error.strerror)


class Watchdog:
    """Tells the service manager that the loop turns. Created and closed by `Control`. With several
    workers it is the supervisor's loop; the supervisor replaces a worker that is stuck.
    """

    __slots__ = ("_loop", "_notifier", "_period_ms", "_timer")

    def __init__(self, loop: Loop, notifier: Notifier) -> None:
        self._loop = loop
        self._notifier = notifier
        self._period_ms = max(1, notifier.watchdog_usec // 1000 // SIGNS_OF_LIFE)
        self._timer = Timer(self._sign_of_life_handler, self)

    def start(self) -> None:
        """Give signs of life from now on, if the manager wants them."""
        if self._notifier.watchdog_usec:
            self._sign_of_life_handler(self._timer)

    def close(self) -> None:
        """Give no more."""
        self._loop.timers.cancel(self._timer)

    def __str__(self) -> str:
        """Return what log lines call it."""
        return "the watchdog of the service manager"

    def abort(self) -> None:
        """Give none after a bug: then the manager restarts nginy."""

    def _sign_of_life_handler(self, timer: Timer) -> None:
        self._notifier.alive()
        self._loop.timers.start(timer, self._loop.clock.now_ms + self._period_ms)


def passed_descriptors(environ: MutableMapping[str, str], pid: int) -> range:
    """Return the descriptors that the service manager has passed to the process `pid`, ours.

    Takes the variables out of `environ`, since they are meant for this process alone.
    """
    variables = {name: environ.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS")}
    environ.pop("LISTEN_FDNAMES", None)
    if variables["LISTEN_PID"] != str(pid) or not variables["LISTEN_FDS"].isdecimal():
        return range(0)
    return range(FIRST_FD, FIRST_FD + int(variables["LISTEN_FDS"]))
