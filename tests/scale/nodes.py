"""What runs on the machines of a proof: nginy, keepalived or BIRD, with the files of etc/scale-out.

Timers that would make a proof take minutes are shorter here than in the files, and named in it.
"""

import contextlib
import os
import pathlib
import signal
import sys

from scale.network import CHECKOUT, Machine, Network, wait_until

NGINY = (sys.executable, str(CHECKOUT / "bin" / "nginy"))
PAIR_SERVICE = "10.1.0.10"
SERVICE = "10.9.0.1"
IDLE_S = 1
"""How long a bucket has to be idle before it moves to a node that has come; 120 in the file."""


def prepare(node: Machine, service: str) -> None:
    """Do what every node needs, and start its nginy."""
    node.sysctls("node.sysctl.conf")
    for path in ("ready", "handover.nft"):
        node.install(path)
    node.run(str(node.install("network")), service)
    start_nginy(node)


def start_nginy(node: Machine) -> None:
    config = node.install("nginy.yml")
    node.start(*NGINY, str(config), called="nginy")
    wait_until(lambda: is_ready(node), f"nginy of {node.name}")


def is_ready(node: Machine) -> bool:
    with contextlib.suppress(RuntimeError):
        return node.run(*ready_command(node)) == "ready\n"
    return False


def ready_command(node: Machine) -> list[str]:
    return [str(node.directory / "ready"), *ready_arguments(node)]


def ready_arguments(node: Machine) -> list[str]:
    return [str(node.directory / "nginy.yml"), str(node.directory / "nginy.pid.sock")]


def pid_of(node: Machine) -> int:
    """The number in the pid file, which a start writes last; 0 while it is not there."""
    try:
        return int((node.directory / "nginy.pid").read_text() or 0)
    except FileNotFoundError:  # renamed for a successor
        return 0


def is_running(pid: int) -> bool:
    """Tell whether a process runs; one that has ended and waits for its parent does not."""
    try:
        return ") Z" not in pathlib.Path(f"/proc/{pid}/stat").read_text()
    except FileNotFoundError:
        return False


def drain_nginy(node: Machine) -> None:
    """End nginy as its unit does, and wait for its end."""
    pid = pid_of(node)
    os.kill(pid, signal.SIGQUIT)
    wait_until(lambda: not is_running(pid), f"the end of nginy of {node.name}")
    node.processes.pop("nginy").wait()


def upgrade_nginy(node: Machine) -> None:
    """Let a new program take over, and wait for the end of the old process."""
    before = pid_of(node)
    os.kill(before, signal.SIGUSR2)
    wait_until(
        lambda: pid_of(node) not in (0, before) and is_ready(node),
        f"the successor on {node.name}",
    )
    wait_until(lambda: not is_running(before), f"the end of the old process on {node.name}")


# A pair.


def start_pair_node(node: Machine, peer: str) -> None:
    prepare(node, PAIR_SERVICE)
    script = f'"{" ".join(ready_command(node))}"'
    config = node.install(
        "pair/keepalived.conf",
        **{'"/usr/local/lib/nginy/ready"': script, "via 10.1.0.12": f"via {peer}"},
    )
    places = [f"--{name}={node.directory}/{name}" for name in ("pid", "vrrp_pid")]
    node.start("keepalived", "-n", "-P", "-l", "-D", "-f", str(config), *places)


def start_again(node: Machine) -> None:
    """Start the nginy of a pair's node, and wait until keepalived has found it ready twice."""
    before = _times_believed(node)
    start_nginy(node)
    wait_until(lambda: _times_believed(node) > before, f"keepalived of {node.name}")


def _times_believed(node: Machine) -> int:
    text = (node.directory / "keepalived.log").read_text(errors="replace")
    return text.count("VRRP_Script(nginy) succeeded")


def has_address(node: Machine) -> bool:
    return PAIR_SERVICE in node.run("ip", "address", "show", "dev", "eth0")


# Many.


def start_router(router: Machine) -> None:
    config = router.install("router/bird.conf")
    router.start("bird", "-f", "-c", str(config), "-s", f"{router.directory}/bird.ctl")
    script = router.install("router/resilient")
    router.start("env", f"IDLE={IDLE_S}", str(script), SERVICE, called="resilient")


def start_node(node: Machine, number: int) -> None:
    prepare(node, SERVICE)
    config = node.install("many/bird.conf", **{"NODE = 10.1.0.11": f"NODE = 10.1.0.{10 + number}"})
    socket = f"{node.directory}/bird.ctl"
    node.start("bird", "-f", "-c", str(config), "-s", socket)
    wait_until(lambda: os.path.exists(socket), f"BIRD of {node.name}")
    node.start(str(node.install("many/announce")), socket, *ready_arguments(node))


def hops(router: Machine) -> set[str]:
    """The next hops of the service address by now."""
    try:
        text = router.run("ip", "-o", "route", "show", SERVICE)
    except RuntimeError:
        return set()
    words = text.split()
    return {words[i + 1] for i, word in enumerate(words) if word == "via"}


def buckets(router: Machine, group: int = 10) -> dict[str, int]:
    """How many buckets of the group lead to each next hop."""
    counts: dict[str, int] = {}
    for line in router.run("ip", "nexthop", "bucket", "list", "id", str(group)).splitlines():
        hop = line.split("nhid ")[1].split()[0]
        counts[hop] = counts.get(hop, 0) + 1
    return counts


def start_many(network: Network) -> None:
    start_router(network.router)
    for number, node in enumerate(network.nodes, 1):
        start_node(node, number)
    wanted = {f"10.1.0.{10 + number}" for number in range(1, len(network.nodes) + 1)}
    wait_until(lambda: hops(network.router) == wanted, "all nodes in the group")
