"""The path of a unix socket: a file that outlives the process that made it.

A path that a killed process has left behind keeps a listener from binding. So nginy removes such a
path before it binds, as well as its own when it closes a listener. nginx does the latter
(`ngx_close_listening_sockets`) and leaves the former to the operator.
"""

import errno
import logging
import os
import stat
from _socket import AF_UNIX, SOCK_STREAM, socket

logger = logging.getLogger("nginy.event")


def remove_stale(path: str) -> None:
    """Remove a unix socket on which no process listens; raises OSError if that fails."""
    if not _is_socket(path):
        return
    probe = socket(AF_UNIX, SOCK_STREAM)
    try:
        probe.setblocking(False)
        if probe.connect_ex(path) == errno.ECONNREFUSED:
            os.unlink(path)
    finally:
        probe.close()


def remove_socket(path: str) -> None:
    """Remove a unix socket's path; log a failure, and go on."""
    try:
        if _is_socket(path):
            os.unlink(path)
    except OSError as error:
        logger.warning("unlink() %s failed (%s: %s)", path, error.errno, error.strerror)


def _is_socket(path: str) -> bool:
    try:
        return stat.S_ISSOCK(os.stat(path).st_mode)
    except OSError:
        return False
