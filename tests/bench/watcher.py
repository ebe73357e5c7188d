"""Watches nginy while it is measured: a scrape a second, the page every two, and /healthz.

Run as a program with the path of a unix socket and a number of seconds; prints JSON: how long
scrapes, pages and probes took. Three threads, so that a probe can be late because of nginy, and
never because of a scrape. They begin when nginy has answered once: with 10,000 backends, its socket
listens for a tenth of a second or more before its loop turns.
"""

import contextlib
import http.client
import json
import socket
import sys
import threading
import time
from pathlib import Path

PATHS = {"scrape": ("/metrics", 1.0), "page": ("/", 2.0), "probe": ("/healthz", 0.1)}


class UnixConnection(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=30)
        self.path = path

    def connect(self) -> None:
        """Connect to the socket."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(30)
        self.sock.connect(self.path)


def ask(connection: UnixConnection, target: str) -> None:
    """Ask, and read the answer to its end."""
    connection.request("GET", target, headers={"Accept": "text/html"})
    connection.getresponse().read()


def watch(path: str, name: str, ends_s: float, found: dict[str, list[float]]) -> None:
    """Ask for one of `PATHS` again and again, and note how long each answer took."""
    target, interval_s = PATHS[name]
    connection = UnixConnection(path)
    while (began_s := time.monotonic()) < ends_s:
        ask(connection, target)
        took_s = time.monotonic() - began_s
        found[name].append(took_s)
        time.sleep(max(min(interval_s - took_s, ends_s - time.monotonic()), 0))
    connection.close()


def main() -> int:
    """Watch for a while, and tell."""
    path, seconds = sys.argv[1], float(sys.argv[2])
    with contextlib.closing(UnixConnection(path)) as connection:
        ask(connection, "/healthz")
    ends_s = time.monotonic() + seconds
    found: dict[str, list[float]] = {name: [] for name in PATHS}
    threads = [threading.Thread(target=watch, args=(path, name, ends_s, found)) for name in PATHS]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    print(json.dumps(found))
    return 0


COMMAND = [sys.executable, str(Path(__file__))]

if __name__ == "__main__":
    sys.exit(main())
