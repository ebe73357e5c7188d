"""The keys of an upstream and of its backends: who serves, and how one of them is chosen.

The records here are rows of the table (schema.py); health.py has those of checks and of ejection,
balance.py the value of `balance`. `config/building/build.py` makes pools of them.

Tested in tests/config/test_load.py.
"""

# ruff: noqa: RUF009 - key() makes a field, as dataclasses.field() does

from dataclasses import dataclass
from typing import Final

from nginy.config.addresses import PeerAddress
from nginy.config.balance import Balance, BalanceKind
from nginy.config.health import (
    AGENT_CHECK,
    EJECT,
    FAIL_OPEN,
    HEALTH_CHECK,
    ON_DOWN,
    AgentCheck,
    Eject,
    HealthCheck,
)
from nginy.config.record import Entry, ListOf, Record, Switch, key
from nginy.config.types import Choice, Duration, Flag, Integer, OrOff, Text
from nginy.text.address import Address

DURATION: Final = Duration()
SECONDS: Final = Duration(step_ms=1000)
FLAG: Final = Flag()
COUNT: Final = Integer(0)
POSITIVE: Final = Integer(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend(Entry):
    """One server of an upstream."""

    address: Address = key(PeerAddress(), None, "Where the backend listens.")
    weight: int = key(
        POSITIVE, "1", "A backend gets a share of clients in proportion to its weight."
    )
    max_conns: int = key(
        COUNT, "0", "A backend has at most this many sessions at once; 0 is no limit."
    )
    max_fails: int = key(
        COUNT, "1", "This many failures within fail_timeout take the backend out; 0 never does."
    )
    fail_timeout_ms: int = key(
        SECONDS, "10s", "How long failures count, and how long the backend then stays out."
    )
    slow_start_ms: int | None = key(
        OrOff(DURATION), "off", "How long the weight of a recovered backend takes to grow back."
    )
    backup: bool = key(FLAG, "off", "The backend serves only while no other can.")
    down: bool = key(FLAG, "off", "The backend serves no sessions, but keeps its place in a hash.")
    proxy_protocol: str = key(
        Choice("auto", "off", "v1", "v2"),
        "auto",
        "The version of the PROXY header that begins a session; auto is the listener's.",
    )
    resolve: bool = key(
        FLAG,
        "off",
        "nginy resolves the name again whenever an answer expires, not only at the start.",
    )
    service: str | None = key(
        OrOff(Text("a service such as http or _http._tcp", r"[\w-]+(\.[\w-]+)*")),
        "off",
        "Hosts, ports, weights and backups come from the SRV records of this service; a port in"
        " address replaces theirs.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue(Entry):
    """Where clients wait while every backend is at max_conns."""

    size: int = key(POSITIVE, "100", "At most this many clients wait; nginy turns others away.")
    timeout_ms: int = key(DURATION, "60s", "A client waits for at most this long.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream(Entry):
    """A group of backends, and how nginy chooses one of them."""

    balance: Balance = key(
        BalanceKind(), "round_robin", "The method that chooses a backend for each session."
    )
    backends: tuple[Backend, ...] = key(
        ListOf(Record(Backend, "a backend", shorthand="address")),
        None,
        "The servers of the group, by address or as a mapping.",
        blank=tuple,
    )
    health_check: HealthCheck | None = key(
        HEALTH_CHECK, "off", "nginy asks each backend whether it works."
    )
    agent_check: AgentCheck | None = key(
        AGENT_CHECK, "off", "nginy asks an agent beside each backend how much load it can take."
    )
    eject: Eject | None = key(
        EJECT, "off", "A backend stays out longer each time its sessions fail."
    )
    fail_open: float | None = key(
        FAIL_OPEN,
        "off",
        "While a smaller share of the backends is up, nginy ignores health and failures.",
    )
    queue: Queue | None = key(
        Switch(Record(Queue, "queue")), "off", "Clients wait while every backend is at max_conns."
    )
    max_session_time_ms: int | None = key(
        OrOff(DURATION), "off", "A session ends after this time, or up to 10 % earlier."
    )
    on_down: str = key(
        ON_DOWN, "keep", "What nginy does with the sessions of a backend that goes down."
    )


UPSTREAM: Final = Record(Upstream, "an upstream", inherits=True)
