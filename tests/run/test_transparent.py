"""Backends that see the client's own address, in networks of their own: TCP and UDP."""

import contextlib
import pathlib
import subprocess
import sys
from collections.abc import Iterator

import pytest

from kit.configs import write
from kit.program import PATIENCE_S, Nginy, needs, run_once, wait_until

NETWORKS = """
set -e
mount -t tmpfs none /run
ip link set lo up
connect() { # NAME NETWORK: a machine NETWORK.2 behind our interface NETWORK.1
    ip netns add $1
    ip link add to$1 type veth peer name eth0 netns $1
    ip addr add $2.1/24 dev to$1
    ip link set to$1 up
    ip -n $1 addr add $2.2/24 dev eth0
    ip -n $1 link set eth0 up
    ip -n $1 link set lo up
    ip -n $1 route add default via $2.1
}
connect client 10.1.0
connect backend 10.2.0
# What comes from backends is for sockets here, whatever its destination.
ip rule add iif tobackend lookup 100
ip route add local default dev lo table 100
exec "$@"
"""
PREFIX = ("unshare", "-rnm", "sh", "-c", NETWORKS, "sh")

BACKEND = """
import select, socket
stream = socket.create_server(("10.2.0.2", 9000))
datagrams = socket.socket(type=socket.SOCK_DGRAM)
datagrams.bind(("10.2.0.2", 9000))
print("ready", flush=True)
while True:
    for ready in select.select((stream, datagrams), (), ())[0]:
        if ready is stream:
            sock, peer = stream.accept()
            sock.sendall(peer[0].encode())
            sock.close()
        else:
            _, peer = datagrams.recvfrom(99)
            datagrams.sendto(peer[0].encode(), peer)
"""
CLIENT = """
import socket, sys
sock = socket.socket(type=getattr(socket, sys.argv[1]))
sock.settimeout(9)
sock.connect(("10.1.0.1", 8000))
sock.send(b"?")
print(sock.recv(99).decode())
"""
CONFIG = """
defaults: {proxy_bind: {address: $remote_addr, transparent: on}}
listeners:
- {listen: 10.1.0.1:8000, proxy_pass: 10.2.0.2:9000}
- {listen: 10.1.0.1:8000, protocol: udp, proxy_pass: 10.2.0.2:9000}
"""


def inside(nginy: Nginy, network: str, *command: str) -> list[str]:
    """Return a command line for one of the machines."""
    enter = ("nsenter", "-t", str(nginy.process.pid), "-U", "-n", "-m", "--preserve-credentials")
    return [*enter, "ip", "netns", "exec", network, *command]


@contextlib.contextmanager
def backend_of(nginy: Nginy) -> Iterator[None]:
    argv = inside(nginy, "backend", sys.executable, "-c", BACKEND)
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n"
            yield
        finally:
            process.kill()


@pytest.mark.real
def test_a_backend_sees_the_clients_address(tmp_path: pathlib.Path) -> None:
    needs("ip", "iproute2")
    needs("nsenter", "util-linux")
    if subprocess.call([*PREFIX, "true"], stderr=subprocess.DEVNULL) != 0:
        pytest.skip("namespaces of networks cannot be made here")
    with Nginy(tmp_path, CONFIG, prefix=PREFIX) as nginy, backend_of(nginy):
        for kind in ("SOCK_STREAM", "SOCK_DGRAM"):
            argv = inside(nginy, "client", sys.executable, "-c", CLIENT, kind)
            done = subprocess.run(
                argv, capture_output=True, text=True, timeout=PATIENCE_S, check=False
            )
            assert (done.stdout, done.stderr) == ("10.1.0.2\n", "")
        wait_until(nginy.access_lines, "the end of the TCP session")
        nginy.stop()


@pytest.mark.slow
def test_t_says_that_the_right_is_missing(tmp_path: pathlib.Path) -> None:
    path = write(tmp_path, CONFIG)
    without = (needs("setpriv", "util-linux"), "--bounding-set", "-net_admin,-net_raw")
    prefix = without if subprocess.call([*without, "true"], stderr=subprocess.DEVNULL) == 0 else ()
    status, _, errors = run_once("-t", path, prefix=prefix)
    assert status == 1
    (line,) = [line for line in errors if "transparent" in line]
    assert "nginy.yml:2:61: transparent: needs a right that this process lacks" in line
    assert line.endswith("expected the capability CAP_NET_ADMIN (systemd: AmbientCapabilities=)")
