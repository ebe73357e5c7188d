"""The proofs: what happens to clients when a node is killed, drained or upgraded.

Each builds its network, lets clients come, does something to the nodes, and returns numbers by
their names. They judge nothing: `main.py` prints them, and a test checks the promises.
"""

import itertools
import json
import pathlib
import subprocess
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from functools import partial
from typing import Final

from scale.client import NO_CONNECTION, Record
from scale.network import Machine, Network, wait_until
from scale.nodes import (
    PAIR_SERVICE,
    SERVICE,
    buckets,
    drain_nginy,
    has_address,
    hops,
    is_ready,
    start_again,
    start_many,
    start_nginy,
    start_pair_node,
    upgrade_nginy,
)

Numbers = dict[str, float]
CLIENTS_A_PROOF: Final = ("short:8", "long:10", "asleep:10", "dns:4")
BRIEF_CLIENTS: Final = ("short:8", "long:10", "dns:4:5")
"""Without those that stay for ever, which a node must cut when it ends."""
SETTLE_S: Final = 1.0
"""How long clients come before anything happens, and after it."""
RECOVERY_S: Final = 5.0
"""The same after a death, whose end is measured."""


def pair_kill(directory: pathlib.Path) -> Numbers:
    """The active nginy of a pair is killed with -9."""
    with closing(Network(directory, 2)) as network:
        active, _ = start_pair(network)
        return under_load(
            network, PAIR_SERVICE, CLIENTS_A_PROOF, lambda: active.kill("nginy"), is_death=True
        )


def pair_death(directory: pathlib.Path) -> Numbers:
    """The active node of a pair loses its power."""
    with closing(Network(directory, 2)) as network:
        active, _ = start_pair(network)
        return under_load(
            network,
            PAIR_SERVICE,
            CLIENTS_A_PROOF,
            lambda: active.die(network.router),
            is_death=True,
        )


def pair_drain(directory: pathlib.Path) -> Numbers:
    """The active node of a pair is drained and comes back, then the other one."""
    with closing(Network(directory, 2)) as network:
        nodes = start_pair(network)

        def drain() -> None:
            for node, other in (nodes, nodes[::-1]):
                drain_nginy(node)
                wait_until(partial(has_address, other), "the other node to take over")
                start_again(node)

        numbers = under_load(network, PAIR_SERVICE, BRIEF_CLIENTS, drain)
        return {**numbers, "handed over": handed_over(network)}


def many_death(directory: pathlib.Path) -> Numbers:
    """One of four nodes loses its power."""
    with closing(Network(directory, 4)) as network:
        start_many(network)
        before = network.flows(SERVICE)
        victim = network.nodes[1]
        numbers = under_load(
            network, SERVICE, CLIENTS_A_PROOF, lambda: victim.die(network.router), is_death=True
        )
        wait_until(lambda: len(hops(network.router)) == 3, "the node to leave the group")
        return {**numbers, **moved(before, network.flows(SERVICE))}


def many_upgrade(directory: pathlib.Path) -> Numbers:
    """All four nodes get another process, one after the other; no route changes."""
    with closing(Network(directory, 4)) as network:
        start_many(network)

        def upgrade() -> None:
            for node in network.nodes:
                upgrade_nginy(node)

        return under_load(network, SERVICE, BRIEF_CLIENTS, upgrade)


def many_restart(directory: pathlib.Path) -> Numbers:
    """All four nodes are drained, ended and started again, one after the other."""
    with closing(Network(directory, 4)) as network:
        start_many(network)

        def restart() -> None:
            for node in network.nodes:
                drain_nginy(node)
                start_nginy(node)
                wait_until(lambda: len(hops(network.router)) == 4, "the node in the group")
                wait_until(lambda: min(buckets(network.router).values()) > 200, "its share")

        numbers = under_load(network, SERVICE, BRIEF_CLIENTS, restart)
        return {**numbers, "handed over": handed_over(network)}


PROOFS: Final[dict[str, Callable[[pathlib.Path], Numbers]]] = {
    "pair-kill": pair_kill,
    "pair-death": pair_death,
    "pair-drain": pair_drain,
    "death": many_death,
    "upgrade": many_upgrade,
    "restart": many_restart,
}


# The pair.


def start_pair(network: Network) -> tuple[Machine, Machine]:
    """Start both nodes; return the active one, and the other."""
    first, second = network.nodes
    start_pair_node(first, "10.1.0.12")
    wait_until(lambda: has_address(first), "the first node to be active")
    start_pair_node(second, "10.1.0.11")
    wait_until(lambda: is_ready(second), "the second node")
    return first, second


# What the clients have seen.


def under_load(
    network: Network,
    address: str,
    kinds: Sequence[str],
    act: Callable[[], None],
    *,
    is_death: bool = False,
) -> Numbers:
    """Do something while clients come; return what they saw."""
    clients = network.load(address, *kinds)
    time.sleep(SETTLE_S)
    began_s = time.monotonic()
    act()
    time.sleep(RECOVERY_S if is_death else SETTLE_S)
    records = records_of(clients)
    failed = [each for each in records if each[4].startswith("!")]
    numbers: Numbers = {
        "connections": sum(each[0] != "dns" for each in records),
        "failed": sum(each[0] != "dns" for each in failed),
        "questions": sum(each[0] == "dns" for each in records),
        "unanswered": sum(each[0] == "dns" for each in failed),
        "changed backend": changed_backend(records),
    }
    if is_death:
        numbers |= outage(records, began_s)
    return numbers


def records_of(clients: "subprocess.Popen[str]") -> list[Record]:
    """End the clients, and return what they saw."""
    text, _ = clients.communicate("")
    return [
        (kind, begin, end, client, answer) for kind, begin, end, client, answer in json.loads(text)
    ]


def outage(records: Sequence[Record], began_s: float) -> Numbers:
    """Return what a death has cost: sessions that were established, clients that got no connection,
    and how long it was felt."""
    failed = [each for each in records if each[4].startswith("!") and each[0] != "dns"]
    answered = sorted(each[2] for each in records if not each[4].startswith("!"))
    turned_away = [each for each in failed if each[4].startswith(f"!{NO_CONNECTION}")]
    lost = [each[1] - began_s for each in records if each[4].startswith("!")]
    return {
        "lost": len(failed) - len(turned_away),
        "turned away": len(turned_away),
        "in vain, s": max(0.0, *lost) if lost else 0.0,
        "silence, s": max(
            (after - before for before, after in itertools.pairwise(answered)),
            default=0.0,
        ),
    }


def changed_backend(records: Sequence[Record]) -> int:
    """How many clients had answers of more than one backend of an upstream."""
    seen: dict[tuple[str, bool], set[str]] = {}
    for kind, _, _, client, answer in records:
        if not answer.startswith("!"):
            seen.setdefault((client, kind == "dns"), set()).add(answer.split()[0])
    return sum(len(backends) > 1 for backends in seen.values())


def moved(before: dict[str, str], after: dict[str, str]) -> Numbers:
    """Return how many flows reach another node than before, and how many clients a backend."""
    pairs = [(before[flow].split(), after[flow].split(), flow) for flow in before]
    return {
        "flows": len(pairs),
        "moved": sum(a[1] != b[1] for a, b, _ in pairs),
        "moved to another backend": sum(a[0] != b[0] for a, b, _ in pairs),
    }


def handed_over(network: Network) -> int:
    """How many packets the nodes forwarded to the node that was leaving."""
    total = 0
    for node in network.nodes:
        text = node.run("nft", "list", "table", "ip", "nginy_handover")
        total += int(text.split("counter packets ")[1].split()[0])
    return total
