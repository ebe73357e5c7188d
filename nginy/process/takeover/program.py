"""Starting this program again, with descriptors that the new process finds in its environment.

nginx: `ngx_execute_proc`, `ngx_add_inherited_sockets`.

Tested in tests/run/test_upgrade.py.
"""

import os
import socket
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from typing import Final

from nginy.event.signals import HELD_SIGNALS
from nginy.process.takeover.messages import LINK_VARIABLE

SOCKETS_VARIABLE: Final = "NGINY"
"""The environment variable with the numbers of the listening sockets, as "5;6;7;" (nginx)."""


def handed_descriptors(environ: MutableMapping[str, str]) -> list[int]:
    """Return the descriptors that the previous process has left to us, and remove the variable."""
    texts = environ.pop(SOCKETS_VARIABLE, "").split(";")
    return [int(text) for text in texts if text.isdecimal()]


def start_program(fds: Sequence[int], link: int, environ: Mapping[str, str]) -> int:
    """Start this program anew with `fds` and a link; return its process id, raise OSError."""
    variables = {
        **environ,
        SOCKETS_VARIABLE: "".join(f"{fd};" for fd in fds),
        LINK_VARIABLE: f"{link};{os.getpid()}",
    }
    for fd in (*fds, link):
        os.set_inheritable(fd, True)
    try:
        return os.posix_spawn(
            sys.executable,
            [sys.executable, *sys.orig_argv[1:]],
            variables,
            setsigmask=HELD_SIGNALS,
        )
    finally:
        for fd in (*fds, link):
            os.set_inheritable(fd, False)


def closed(lane: socket.socket, _has_left: bool) -> None:
    """Close our copy of a lane, once the new process has its own."""
    lane.close()
