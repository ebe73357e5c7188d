"""Every choice that a real nginx was recorded to make is made again, for the same sessions.

The recordings and how they were made: `record_nginx.py`. What nginx's core does around a choice,
and nginy's pool does in its place, is `Group`: the count of sessions, backups and retries.
"""

import json
import pathlib
from collections.abc import Callable, Sequence
from typing import Any

import pytest
from nginy.balancer.hashing import Hash
from nginy.balancer.least import LeastConn
from nginy.balancer.peer import Balancer, failure, success
from nginy.balancer.ring import Ring
from nginy.balancer.round_robin import RoundRobin

from kit.peers import FakePeer

RECORDED = sorted((pathlib.Path(__file__).parent / "recorded").glob("*.json"))

METHODS: dict[str, Callable[[Sequence[FakePeer]], Balancer[FakePeer]]] = {
    "": RoundRobin,
    "least_conn;": LeastConn,
    "hash $key;": Hash,
    "hash $key consistent;": Ring,
}

NO_KEY = "0.0.0.0"
BEGAN_S = 1_000_000
"""Any time long after 0, when all peers were last checked."""


class Group:
    """The servers of one recording: what ngx_stream_proxy_module does with its upstream."""

    def __init__(self, recording: dict[str, Any]) -> None:
        self.peers = [peer_of(server) for server in recording["servers"]]
        self.dead = {self.peers[index] for index in recording["dead"]}
        primaries, backups = [], []
        for peer, server in zip(self.peers, recording["servers"], strict=True):
            (backups if server.get("backup") else primaries).append(peer)
        method = METHODS[recording["method"]]
        self.balancers = [method(primaries)] + ([method(backups)] if backups else [])
        self.single = len(self.peers) == 1
        self.sessions: list[FakePeer] = []

    def open(self, key: bytes, now_s: int, outcomes: list[bool]) -> list[int | None]:
        """Give a session to one peer after the other while the next of `outcomes` is a failure.

        Returns the peers' indices; None stands for no peer left.
        """
        picks: list[int | None] = []
        tries = 1 if self.single else sum(not peer.down for peer in self.peers)
        balancers = list(self.balancers)
        tried: list[FakePeer] = []
        while tries:
            peer = balancers[0].pick(key, tried, now_s)
            while peer is None and len(balancers) > 1:
                del balancers[0]
                tried = []
                peer = balancers[0].pick(key, tried, now_s)
            if peer is None:
                return [*picks, None]
            picks.append(self.peers.index(peer))
            tried.append(peer)
            if outcomes[len(picks) - 1]:
                success(peer)
                peer.conns += 1
                self.sessions.append(peer)
                return picks
            if not self.single:
                failure(peer, now_s)
            tries -= 1
        return picks

    def close(self, index: int) -> None:
        peer = self.sessions.pop(index)
        success(peer)
        peer.conns -= 1


def peer_of(server: dict[str, Any]) -> FakePeer:
    return FakePeer(
        server["name"],
        server.get("weight", 1),
        max_fails=server.get("max_fails", 1),
        fail_timeout_s=server.get("fail_timeout", 10),
        max_conns=server.get("max_conns", 0),
        down=server.get("down", False),
    )


def replay(group: Group, events: list[list[Any]]) -> list[tuple[int, Any, Any]]:
    """Play the events; returns the sessions that went elsewhere: number, nginx's way, nginy's."""
    strayed = []
    for number, (event, *arguments) in enumerate(events):
        if event == "close":
            group.close(arguments[0])
            continue
        key, second, recorded, served = arguments
        # All attempts failed but the last, and that one unless the session was served. nginy may
        # want more attempts than nginx made: those fail as well.
        outcomes = [False] * (len(recorded) - 1) + [served] + [False] * len(group.peers)
        picks = group.open(b"" if key == NO_KEY else key.encode(), BEGAN_S + second, outcomes)
        if picks != recorded:
            strayed.append((number, recorded, picks))
            break
        if event == "session" and served:
            group.close(-1)
    return strayed


@pytest.mark.parametrize("path", RECORDED, ids=lambda path: path.stem)
def test_every_session_goes_where_nginx_sent_it(path: pathlib.Path) -> None:
    recording = json.loads(path.read_text())
    assert replay(Group(recording), recording["events"]) == []
