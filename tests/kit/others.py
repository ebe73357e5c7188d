"""Programs of others, run for a test: nginx, HAProxy and the like."""

import contextlib
import pathlib
import socket
import subprocess
from collections.abc import Iterator, Sequence

from kit.program import wait_until

STREAM_MODULE = pathlib.Path("/usr/lib/nginx/modules/ngx_stream_module.so")


@contextlib.contextmanager
def serving(
    argv: Sequence[str], address: tuple[str, int], directory: pathlib.Path
) -> Iterator[str]:
    """Run a server until the block ends; yield its address once it takes connections."""
    with (directory / "server.out").open("wb") as output:
        process = subprocess.Popen(
            argv, cwd=directory, stdin=subprocess.DEVNULL, stdout=output, stderr=output
        )
    try:
        wait_until(lambda: is_open(address) or process.poll() is not None, argv[0])
        assert process.poll() is None, (directory / "server.out").read_text()
        yield "{}:{}".format(*address)
    finally:
        process.kill()
        process.wait()


def is_open(address: tuple[str, int]) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(address) == 0


def load_stream() -> str:
    """Return the line that nginx's configuration needs for `stream`, which may be a module."""
    return f"load_module {STREAM_MODULE};" if STREAM_MODULE.exists() else ""
