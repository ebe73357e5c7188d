"""The path of a unix socket: a file that outlives the process which has made it.

A path that is in the way keeps a listener from binding, so what a killed process has left behind is
removed first, and a listener that is closed removes its own. nginx does the latter
(`ngx_close_listening_sockets`) and leaves the former to the operator.
"""

import errno
import logging
import os
import stat
from _socket import AF_UNIX, SOCK_STREAM, socket

logger = logging.getLogger("nginy.event")


def remove_stale(path: str) -> None:
    """Remove a unix socket that nobody listens on any more; raises OSError if that fails."""
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
    """Remove a unix socket's path; a failure is logged and nothing else."""
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
