"""Machines and the network between them, made of network namespaces; all of it ends with us.

    clients 10.0.0.10-49 -- 10.0.0.1 router 10.1.0.1 -- nodes 10.1.0.11-14, backends 10.1.0.101-104

The files of etc/scale-out are used as they are; only the address of a node and the places of files
are put in.
"""

import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence

from kit.waiting import comes_true

CHECKOUT = pathlib.Path(__file__).parents[2]
FILES = CHECKOUT / "etc" / "scale-out"
CLIENT = str(pathlib.Path(__file__).with_name("client.py"))
PATIENCE_S = 30.0
POLL_S = 0.02  # most conditions start programs
PROGRAMS = {
    "ip": "iproute2",
    "nft": "nftables",
    "keepalived": "keepalived",
    "bird": "bird2",
    "birdc": "bird2",
    "curl": "curl",
    "unshare": "util-linux",
}
"""What the proofs need, and Debian's packages."""


def shell(*command: str) -> str:
    """Run a command; return what it prints, or raise with what it says."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr.strip()}")
    return done.stdout


def wait_until(condition: Callable[[], object], what: str) -> None:
    """Return as soon as the condition holds."""
    if not comes_true(condition, PATIENCE_S, POLL_S):
        raise RuntimeError(f"waited in vain for {what}")


class Machine:
    """A network namespace, a directory for its files, and the processes that run there."""

    def __init__(self, name: str, directory: pathlib.Path) -> None:
        self.name = name
        self.directory = directory / name
        self.directory.mkdir()
        self.processes: dict[str, subprocess.Popen[str]] = {}
        shell("ip", "netns", "add", name)
        self.run("ip", "link", "set", "lo", "up")

    def run(self, *command: str) -> str:
        return shell("ip", "netns", "exec", self.name, *command)

    def start(self, *command: str, called: str = "", piped: bool = False) -> subprocess.Popen[str]:
        """Start a program; what it says goes to a file named like it."""
        called = called or pathlib.Path(command[0]).name
        pipe = subprocess.PIPE if piped else None
        with open(self.directory / f"{called}.log", "ab") as log:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.name, *command],
                stdin=pipe or subprocess.DEVNULL,
                stdout=pipe or log,
                stderr=log,
                text=True,
            )
        self.processes[called] = process
        return process

    def install(self, path: str, **replaced: str) -> pathlib.Path:
        """Write a file of etc/scale-out into the directory, with other addresses and places."""
        text = (FILES / path).read_text()
        for before, after in {
            **replaced,
            "/etc/nginy/": f"{self.directory}/",
            "/run/nginy/": f"{self.directory}/",
            "/usr/local/lib/nginy/": f"{self.directory}/",
        }.items():
            text = text.replace(before, after)
        target = self.directory / pathlib.Path(path).name
        target.write_text(text)
        target.chmod((FILES / path).stat().st_mode)
        return target

    def sysctls(self, path: str) -> None:
        self.run("sysctl", "-q", "-p", str(FILES / path))

    def plug(self, switch: "Machine", address: str, bridge: str = "lan") -> None:
        """Connect eth0 to another machine: to its bridge, or by a cable alone."""
        cable = f"to-{self.name}"
        shell(
            *("ip", "link", "add", "eth0", "netns", self.name),
            *("type", "veth", "peer", "name", cable, "netns", switch.name),
        )
        if bridge:
            switch.run("ip", "link", "set", cable, "master", bridge)
        switch.run("ip", "link", "set", cable, "up")
        self.run("ip", "address", "add", f"{address}/24", "dev", "eth0")
        self.run("ip", "link", "set", "eth0", "up")

    def kill(self, called: str) -> None:
        """Kill one process with -9; `ip netns exec` has become the program itself."""
        process = self.processes.pop(called)
        process.kill()
        process.wait()

    def die(self, switch: "Machine") -> None:
        """Lose power: the cable is dead before any process could say a word."""
        switch.run("ip", "link", "set", f"to-{self.name}", "down")
        self.kill_all()

    def kill_all(self) -> None:
        """Kill what was started, and what that has started."""
        for called in list(self.processes):
            self.kill(called)
        for pid in shell("ip", "netns", "pids", self.name).split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)


class Network:
    """The router, the clients, four backends and some nodes."""

    def __init__(self, directory: pathlib.Path, nodes: int) -> None:
        self.router = Machine("router", directory)
        self.router.sysctls("router/router.sysctl.conf")
        self.router.run("ip", "link", "add", "lan", "type", "bridge")
        self.router.run("ip", "address", "add", "10.1.0.1/24", "dev", "lan")
        self.router.run("ip", "link", "set", "lan", "up")
        self.clients = Machine("clients", directory)
        self.clients.plug(self.router, "10.0.0.10", bridge="")
        self.router.run("ip", "address", "add", "10.0.0.1/24", "dev", "to-clients")
        self.clients.run("ip", "route", "add", "default", "via", "10.0.0.1")
        for number in range(11, 50):
            self.clients.run("ip", "address", "add", f"10.0.0.{number}/24", "dev", "eth0")
        self.backends = [self._member("backend", 100, i, directory) for i in range(1, 5)]
        for number, machine in enumerate(self.backends, 1):
            machine.start(sys.executable, CLIENT, "backend", f"b{number}", called="backend")
        self.nodes = [self._member("node", 10, i, directory) for i in range(1, nodes + 1)]

    def _member(self, kind: str, base: int, number: int, directory: pathlib.Path) -> Machine:
        machine = Machine(f"{kind}{number}", directory)
        machine.plug(self.router, f"10.1.0.{base + number}")
        machine.run("ip", "route", "add", "default", "via", "10.1.0.1")
        return machine

    def flows(self, address: str) -> dict[str, str]:
        """Return the answer to each flow of the clients."""
        text = self.clients.run(sys.executable, CLIENT, "flows", address)
        answers: dict[str, str] = json.loads(text)
        return answers

    def load(self, address: str, *kinds: str) -> subprocess.Popen[str]:
        """Start clients; they end when their input does, and print their records."""
        process = self.clients.start(
            sys.executable, CLIENT, "load", address, *kinds, called="load", piped=True
        )
        assert process.stdout is not None
        if process.stdout.readline() != "ready\n":
            raise RuntimeError("the clients did not start")
        return process

    def close(self) -> None:
        everyone: Sequence[Machine] = (self.clients, *self.nodes, *self.backends, self.router)
        for machine in everyone:
            machine.kill_all()
            shell("ip", "netns", "del", machine.name)
