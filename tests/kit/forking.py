"""The starter: a process that has imported nginy, and forks to become nginy.

    python tests/kit/forking.py DESCRIPTOR ROOM

A message on the socket DESCRIPTOR is either a start, with its arguments, its limits of descriptors
and its three standard streams, and the answer is the process id of the fork; or it is such an id,
and the answer is the exit status. At the end of the messages the starter ends. ROOM is any text as
long as a command line may be.

A fork runs what bin/nginy runs. Others cannot tell it from a start: it has the command line, which
a running nginy starts anew for an upgrade and others read in /proc, and no descriptor of the
starter. For what asks the starter, see `kit/starter.py`.
"""

import json
import os
import pathlib
import resource
import signal
import socket
import sys
import warnings
from collections.abc import Sequence

CHECKOUT = pathlib.Path(__file__).parent.parent.parent
PROGRAM = str(CHECKOUT / "bin" / "nginy")
MESSAGE_BYTES = 4096


def main(link: socket.socket) -> None:
    """Fork for each message; return in the fork to become nginy, and at the end of all."""
    while True:
        data, fds, _, _ = socket.recv_fds(link, MESSAGE_BYTES, 3)
        if not data:
            return
        message = json.loads(data)
        if isinstance(message, int):
            _, status = os.waitpid(message, 0)
            link.send(str(os.waitstatus_to_exitcode(status)).encode())
            continue
        arguments, limits = message
        pid = os.fork()
        if not pid:
            link.close()
            become(arguments, limits, fds)
            sys.exit(run_nginy())
        for fd in fds:
            os.close(fd)
        link.send(str(pid).encode())


def become(arguments: list[str], limits: tuple[int, int], fds: list[int]) -> None:
    """Make this fork look like a process that was started."""
    for number, fd in enumerate(fds):
        os.dup2(fd, number)
        os.close(fd)
    resource.setrlimit(resource.RLIMIT_NOFILE, limits)
    sys.argv = [PROGRAM, *arguments]
    sys.orig_argv = [sys.executable, *sys.argv]
    show_command_line(sys.orig_argv)
    signal.signal(signal.SIGINT, signal.default_int_handler)


def show_command_line(arguments: Sequence[str]) -> None:
    """Show these arguments in /proc/PID/cmdline, which is memory of the process."""
    fields = pathlib.Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    begin, end = int(fields[45]), int(fields[46])  # arg_start and arg_end, fields 48 and 49
    text = b"".join(os.fsencode(argument) + b"\0" for argument in arguments)
    with open("/proc/self/mem", "r+b", buffering=0) as memory:
        memory.seek(begin)
        memory.write(text.ljust(end - begin, b"\0"))


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # that of a terminal reaches the forks as well
    sys.path[0] = str(CHECKOUT)
    from nginy.__main__ import begin
    from nginy.__main__ import run as run_nginy

    begin()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # docopt's, see nginy/cli.py
        import docopt  # noqa: F401
    import nginy.cli_questions
    import nginy.process.single
    import nginy.process.workers.supervisor  # noqa: F401

    main(socket.socket(fileno=int(sys.argv[1])))
