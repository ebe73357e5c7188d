"""One of several workers: a server that is told by its supervisor what to serve.

A worker binds nothing and reads no file. It gets its sockets and its configuration from the
supervisor, the first ones by inheriting them at the fork, later ones through its `Channel`, and it
has its own loop, its own logs and its own sessions.

A reload is a vote (two-phase commit): `reload` has the worker open what it needs, which it answers
with `ready` or `refused`; then comes `commit`, answered with `done`, or `abort`. So either all
workers change, or none.

| from the supervisor | | from the worker | |
|---|---|---|---|
| sockets, with descriptors | what to listen on next | serving | the start has succeeded |
| reload N, with a descriptor | a configuration, pickled | ready N, refused N TEXT | can, cannot |
| commit N, abort N | do it, or forget it | done N | it is done |

If the supervisor is gone, the worker ends at once: whoever starts nginy anew needs the addresses.

nginx: `ngx_worker_process_cycle`, `ngx_channel_handler`. Read next: `supervisor.py`.
"""

import logging
import os
import pickle
import signal
import socket
from _socket import socket as c_socket
from collections.abc import Sequence

from nginy.backend.shared import MakeSharedBackend
from nginy.config import schema
from nginy.errors import NginyError
from nginy.process.inherited import adopt
from nginy.process.pidfile import PidFile
from nginy.process.server import SIGNALS, Prepared, Server
from nginy.process.workers.channel import DESCRIPTORS_MAX, Channel

logger = logging.getLogger("nginy.server")


class Worker(Server):
    """The server of a worker. Created and run by `serve`, in a process of its own."""

    def __init__(
        self,
        config: schema.Config,
        sock: socket.socket,
        sockets: Sequence[c_socket],
        make_backend: MakeSharedBackend,
    ) -> None:
        """Take orders from `sock`, and the `sockets` to listen on."""
        super().__init__("", {}, config.event_method, make_backend)
        self.services.inherited.add(sockets)
        self._prepared: Prepared | None = None
        self.channel = Channel(
            self.loop, sock, self._receive_order, self._supervisor_gone, DESCRIPTORS_MAX
        )

    # What differs from a server that is alone.

    def open_pid_file(self, path: str | None, text: str) -> PidFile | None:
        """Write none: others find nginy by its supervisor."""
        return None

    def started(self) -> None:
        """Hear signals from now on, and tell the supervisor."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, SIGNALS)
        self.channel.send("serving")

    def reload(self) -> None:
        """Do nothing: the supervisor reloads."""

    def hand_over(self) -> None:
        """Do nothing: the supervisor is who is replaced."""

    def close(self) -> None:
        """Close everything."""
        self.channel.close()
        super().close()

    # Orders.

    def _receive_order(self, word: str, number: str, fds: list[int]) -> None:
        if word == "sockets":
            self.services.inherited.add(adopt(fds))
        elif word == "reload":
            self._prepare(number, fds)
        elif word == "commit" and self._prepared is not None:
            self.commit(self._prepared)
            self._forget()
            self.channel.send("done", number)
        elif word == "abort" and self._prepared is not None:
            self.undo(self._prepared)
            self._forget()

    def _prepare(self, number: str, fds: list[int]) -> None:
        try:
            self._prepared = self.prepare(read_config(fds))
        except NginyError as error:
            self.services.inherited.close()
            self.channel.send("refused", f"{number} {error}")
        else:
            self.channel.send("ready", number)

    def _forget(self) -> None:
        self._prepared = None
        # What is left is a second copy of a UDP socket that has not been closed yet.
        self.services.inherited.close()

    def _supervisor_gone(self) -> None:
        logger.critical("the supervisor is gone, so this worker ends")
        self.loop.running = False


def serve(
    config: schema.Config,
    sock: socket.socket,
    sockets: Sequence[c_socket],
    make_backend: MakeSharedBackend,
) -> int:
    """Be a worker until the end, and return the exit status."""
    worker = Worker(config, sock, sockets, make_backend)
    try:
        worker.apply(config)
        worker.run()
    except NginyError as error:
        worker.channel.send("refused", f"0 {error}")
        return 1
    finally:
        worker.close()
    return 0


def write_config(config: schema.Config) -> int:
    """Return a descriptor of a nameless file with the configuration; raises OSError.

    The worker need not be able to read the files that it was made from.
    """
    fd = os.memfd_create("nginy-config")
    with open(fd, "wb", closefd=False) as file:
        pickle.dump(config, file)
    return fd


def read_config(fds: Sequence[int]) -> schema.Config:
    """Return what `write_config` has written, and close the descriptor; raises NginyError."""
    if len(fds) != 1:
        raise NginyError("out of descriptors")
    with open(fds[0], "rb"):
        # Not file.read(): all workers share one position in the file.
        config = pickle.loads(os.pread(fds[0], os.fstat(fds[0]).st_size, 0))
    if not isinstance(config, schema.Config):
        raise NginyError("what the supervisor has sent is no configuration")
    return config
