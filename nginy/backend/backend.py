"""Backend: one server address, with its weight, its counters and its health.

A balancing algorithm sees a backend as a `Peer` (`balancer/peer.py`): it reads the weights and
counts, and keeps its own books there. So a reload that keeps the backend also keeps its place in
the round. `backend/pool.py` makes groups of backends and picks from them;
`backend/health/health.py` moves a backend between its states.

nginx: `ngx_stream_upstream_rr_peer_t` in `ngx_stream_upstream_round_robin.h`, less the links and
locks that its shared memory needs.

Tested in tests/backend/test_pool.py.
"""

from collections import defaultdict
from dataclasses import dataclass, field

from nginy.backend.health.health import Health
from nginy.backend.health.states import State
from nginy.backend.override import Override
from nginy.text.address import Address


@dataclass(frozen=True, slots=True)
class BackendSettings:
    """The configuration of a backend. A reload with equal settings changes nothing."""

    name: str
    """The address as configured: the backend's identity within its pool."""
    address: Address
    weight: int = 1
    max_conns: int = 0
    """Sessions at a time; 0 is no limit."""
    max_fails: int = 1
    """Failed attempts within `fail_timeout_s` that take the backend out; 0: never."""
    fail_timeout_s: int = 10
    backup: bool = False
    down: bool = False
    resolve: bool = False
    """Of a name: resolve it again whenever its answer expires."""
    service: str = ""
    """Of a name: the service to ask SRV records for."""
    proxy_protocol: str = "auto"
    """The PROXY header that sessions begin with: "off", "v1", "v2", "auto" is the listener's."""
    slow_start_ms: int | None = None
    """How long the weight grows after the backend has come back; None: it is full at once."""


@dataclass(slots=True)
class Counters:
    """Counts of a listener, or of a backend, since the process started."""

    sessions: int = 0
    bytes_received: int = 0
    """From the client."""
    bytes_sent: int = 0
    """To the client."""
    terminations: dict[str, int] = field(default_factory=lambda: defaultdict(int))
    """Ended sessions by termination code."""

    told_received: int = 0
    """The most bytes that the admin interface has reported, those of open sessions included, so no
    counter ever falls."""
    told_sent: int = 0

    @property
    def received(self) -> int:
        """Bytes from clients, with those of open sessions when the admin interface last looked."""
        return max(self.told_received, self.bytes_received)

    @property
    def sent(self) -> int:
        """The same, to clients."""
        return max(self.told_sent, self.bytes_sent)

    def count(self, termination: str, received: int, sent: int) -> None:
        """Count one ended session."""
        self.sessions += 1
        self.bytes_received += received
        self.bytes_sent += sent
        self.terminations[termination] += 1


class Backend:
    """One server of a pool (nginx `ngx_stream_upstream_rr_peer_t`); satisfies `balancer.Peer`.

    Created by the `Members` of its pool, and kept for as long as the configuration, or an answer
    for one of its names, lists it, and for a while beyond (`names/left.py`).
    """

    __slots__ = (
        "accessed_s",
        "addr_text",
        "address",
        "answered_at_ms",
        "average_ms",
        "checked_s",
        "connect_ms",
        "conns",
        "counters",
        "current_weight",
        "down",
        "effective_weight",
        "fail_timeout_s",
        "fails",
        "failures",
        "health",
        "left_at_ms",
        "max_conns",
        "max_fails",
        "missed",
        "name",
        "override",
        "selected_at_ms",
        "settings",
        "weight",
    )

    is_shared = False

    def __init__(self, settings: BackendSettings) -> None:
        self.current_weight = 0
        self.effective_weight = settings.weight
        self._begin_to_count()
        self.fails = 0
        self.accessed_s = 0
        self.checked_s = 0
        self.failures = 0
        """Failed attempts since the process started."""
        self.missed = 0
        """Attempts that led to no session: another one followed, or the session ended."""
        self.selected_at_ms = 0
        """When the last attempt began; 0 before the first one."""
        self.connect_ms: int | None = None
        """How long the last successful connect took."""
        self.answered_at_ms = 0
        """When it last answered a client over UDP."""
        self.average_ms = 0
        """Average of the time that `least_time` chooses by; 0 before the first session."""
        self.counters = Counters()
        self.left_at_ms: int | None = None
        """When it left its pool's list; None while it is there."""
        self.override: Override | None = None
        """What an operator has set in place of the configuration's values."""
        # For pools without a `PoolMonitor`; a monitor puts its own here.
        self.health = Health(
            None, 0, is_down=settings.down, is_resolved=not settings.address.is_name
        )
        self.apply(settings)

    conns: int
    """Sessions, and attempts to connect, at this moment; `take` and `give_back` change it."""

    def _begin_to_count(self) -> None:
        self.conns = 0

    @property
    def own_conns(self) -> int:
        """How many of `conns` are this process's own."""
        return self.conns

    @property
    def sessions_total(self) -> int:
        """How many sessions have come to it, those included that then went to another one."""
        return self.counters.sessions + self.missed + self.own_conns

    def take(self) -> None:
        """Count one more session."""
        self.conns += 1

    def give_back(self) -> None:
        """Count one session less."""
        self.conns -= 1

    def apply(self, settings: BackendSettings) -> None:
        """Take over new settings, and keep counts, failures and the place in the round."""
        self.settings = settings
        self.name = settings.name
        self.address = settings.address
        self.addr_text = str(settings.address)
        """The address for logs; `name` may be a name that stands for several."""
        self.weight = settings.weight
        self.effective_weight = min(self.effective_weight, settings.weight)
        self.max_conns = settings.max_conns
        self.max_fails = settings.max_fails
        self.fail_timeout_s = settings.fail_timeout_s
        # A name without an address keeps its place in the list until it has one.
        self.down = settings.down or settings.address.is_name

    @property
    def is_held_back(self) -> bool:
        """Whether anything but failures of its sessions keeps the backend from serving."""
        return self.down and self.health.state is not State.EJECTED

    def reweigh(self, weight: int) -> None:
        """Use another weight than the configured one for now; failures go on lowering it."""
        gained = max(weight - self.weight, 0)
        self.effective_weight = min(self.effective_weight + gained, weight)
        self.weight = weight

    def __repr__(self) -> str:
        """Show address, weights and counts."""
        return (
            f"<Backend {self.name} weight={self.effective_weight}/{self.weight} "
            f"conns={self.conns} fails={self.fails}{' down' if self.down else ''}>"
        )
