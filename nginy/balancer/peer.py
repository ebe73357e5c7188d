"""What an algorithm may see of a backend, what it must do, and how passive failures are counted.

`Peer` is the view and `Balancer` the contract. A few small functions hold the rules that all
algorithms share: which peers are usable, when the one probe of a failed peer is due, and what a
failure or a success changes. `backend.backend` is the backend itself, with its address, its health
and its counters; `backend.pool` calls `failure` and `success`.

The one idea: the peers' own numbers are the state. A balancer keeps at most a table made from names
and weights, so that a reload, or a simulation, carries the state over by carrying the peers over.
One number is an exception: among many peers `current_weight` is kept in sorted lists (`turns`), and
is up to date only after `write_back`.

Source: nginx ngx_stream_upstream_round_robin.h ngx_stream_upstream_rr_peer_t.
Read next: `round_robin`.
"""

from collections.abc import Collection, Iterator, Sequence
from typing import Protocol, TypeVar


class Peer(Protocol):
    """A backend as the algorithms see it: they read the properties, they change the attributes.

    Peers are told apart by identity: an implementation defines no `__eq__`.
    """

    effective_weight: int
    """The weight in use: falls with each failure, climbs back to `weight` by one a pick."""
    current_weight: int
    """The account of smooth round robin; 0 at first. Out of date while the peer stands in the
    sorted lists of `turns`."""
    fails: int
    """Failures since the last success that followed a probe."""
    accessed_s: int
    """When the last failure was seen: whole seconds of a clock that never runs backwards."""
    checked_s: int
    """When the window of `fail_timeout_s` began: at a failure, or at the pick that probes."""

    @property
    def name(self) -> str:
        """The address as configured, "127.0.0.1:9001" or "unix:/path"; consistent methods hash
        it."""

    @property
    def weight(self) -> int:
        """The nominal weight now, at least 1; slow start and agents may change it between picks."""

    @property
    def conns(self) -> int:
        """Sessions that the peer serves now."""

    @property
    def max_conns(self) -> int:
        """The most it may serve; 0 is no limit."""

    @property
    def max_fails(self) -> int:
        """Failures that take the peer out for `fail_timeout_s`; 0 is never."""

    @property
    def fail_timeout_s(self) -> int:
        """How long `max_fails` failures take the peer out, in seconds."""

    @property
    def is_shared(self) -> bool:
        """Whether `conns` changes without notice: other processes count their sessions, too."""

    @property
    def down(self) -> bool:
        """Whether the configuration, a health check or an operator keeps it from being picked."""


P = TypeVar("P", bound=Peer)


class Balancer(Protocol[P]):
    """One way to choose among the peers of a group. The pool creates it; it needs no closing."""

    __slots__ = ()

    def pick(self, key: bytes, tried: Collection[P], now_s: int) -> P | None:
        """Choose the peer for a session.

        Hash methods hash `key`, the others ignore it. `tried` are the peers that this session has
        had before. Returns None if no usable peer is left. It keeps the books of round robin and of
        probes in the peers, but counts no session: the pool owns `conns`. The same state gives the
        same answer.
        """

    @property
    def is_sorted(self) -> bool:
        """Whether peers stand in sorted lists, so that the pool must tell each change of one."""
        return False

    def look_at(self, peer: P) -> None:
        """Take note that `peer` has changed, other than by a pick. With `is_sorted` the pool calls
        this before the next pick. Ignores a peer of another group."""

    def write_back(self) -> None:
        """Bring the peers' own numbers up to date, so that another balancer can go on with them."""

    def rebuild_steps(self, peers: Sequence[P]) -> Iterator[None]:
        """Take a changed list of peers, in steps of about a millisecond, for several turns.

        The pool does this when members, their order, their names or their weights have changed.
        Only here do hash methods see weights. The old list serves until the last step, so a peer
        that has left it must be `down`. The pool may drop a rebuild half-way for a newer one.
        """

    def reweigh(self) -> None:
        """Take note that weights have changed; they count from the next pick.

        Hash methods keep the tables that they have, so that no key moves.
        """

    def rebuild(self, peers: Sequence[P]) -> None:
        """Do all of `rebuild_steps` at once."""
        for _ in self.rebuild_steps(peers):
            pass


def group_by_name(peers: Sequence[P]) -> dict[str, list[P]]:
    """Put peers of one name together: the addresses of one configured host name.

    They share a place in the tables of the consistent methods, and take turns there.
    """
    groups: dict[str, list[P]] = {}
    for peer in peers:
        groups.setdefault(peer.name, []).append(peer)
    return groups


def is_usable(peer: Peer, now_s: int) -> bool:
    """Whether a session may go to `peer`: not down, not full, and not failed too often."""
    is_full = 0 < peer.max_conns <= peer.conns
    return not (peer.down or is_full or has_failed(peer, now_s))


def has_failed(peer: Peer, now_s: int) -> bool:
    """Whether `peer` has failed too often in the present window of `fail_timeout_s`."""
    return 0 < peer.max_fails <= peer.fails and now_s - peer.checked_s <= peer.fail_timeout_s


def open_window(peer: Peer, now_s: int) -> None:
    """Note a pick of `peer`: if it had failed, it gets no other session for `fail_timeout_s`.

    Source: the end of nginx ngx_stream_upstream_round_robin.c ngx_stream_upstream_get_peer.
    """
    if now_s - peer.checked_s > peer.fail_timeout_s:
        peer.checked_s = now_s


def failure(peer: Peer, now_s: int) -> None:
    """Count a failed session against `peer`: it weighs less, and after `max_fails` it is out.

    The pool spares the last peer that could serve.

    Source: nginx ngx_stream_upstream_round_robin.c ngx_stream_upstream_free_round_robin_peer.
    """
    peer.fails += 1
    peer.accessed_s = peer.checked_s = now_s
    if peer.max_fails:
        loss = peer.weight // peer.max_fails
        peer.effective_weight = max(0, peer.effective_weight - loss)


def success(peer: Peer) -> bool:
    """Forget the failures of `peer` if this session was the probe after the last of them.

    Returns whether it was. Source: as for `failure`.
    """
    if peer.accessed_s >= peer.checked_s:
        return False
    peer.fails = 0
    return True
