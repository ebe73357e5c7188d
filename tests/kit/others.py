"""Programs of others, run for a test: nginx, HAProxy and the like."""

import contextlib
import pathlib
import socket
import subprocess
import sys
from collections.abc import Iterator, Sequence

from kit.program import PATIENCE_S, needs, wait_until

LISTEN = "0A"  # TCP_LISTEN
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


def running_nginx(
    text: str, address: tuple[str, int], directory: pathlib.Path
) -> contextlib.AbstractContextManager[str]:
    """Run nginx with this configuration until the block ends, as `serving` does."""
    (directory / "nginx.conf").write_text(text)
    argv = (needs("nginx", "nginx"), "-p", str(directory), "-c", "nginx.conf", "-e", "stderr")
    return serving(argv, address, directory)


def output_of(*argv: str, given: str = "", patience_s: float = PATIENCE_S) -> str:
    """Run a client to its end, which must be a success; return what it has printed."""
    done = subprocess.run(
        argv,
        input=given,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        errors="replace",
        timeout=patience_s,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


def is_open(address: tuple[str, int]) -> bool:
    with socket.socket() as sock:
        return sock.connect_ex(address) == 0


def is_bound(host: str, port: int, table: str = "tcp") -> bool:
    """Whether a socket waits at an IPv4 address; unlike with `is_open` nobody there notices."""
    place = f"{int.from_bytes(socket.inet_aton(host), sys.byteorder):08X}:{port:04X}"
    for line in pathlib.Path(f"/proc/net/{table}").read_text().splitlines():
        _, local, _, state, *_ = line.split()
        if local == place and (state == LISTEN or table == "udp"):
            return True
    return False


def load_stream() -> str:
    """Return the line that nginx's configuration needs for `stream`, which may be a module."""
    return f"load_module {STREAM_MODULE};" if STREAM_MODULE.exists() else ""
