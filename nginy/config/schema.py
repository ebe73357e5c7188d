"""The language: every key of the configuration with its type, its default and what it is for.

Each class is one record of the file, each row one key. The type left of the row is what the rest
of nginy sees once a configuration has been checked: durations in milliseconds, sizes in bytes,
`off` as None, defaults filled in. The reader, `nginy -T` and the reference page are made from the
rows (record.py), so a new key is one row here.

Names, meanings and defaults are nginx's (ngx_stream_core_module, ngx_stream_proxy_module,
ngx_stream_upstream_module) where nginx has the key. What no single key can know is checked in
check.py.

Read first: Config at the end, then Listener and Upstream. Read next: load.py.
"""

# ruff: noqa: RUF009 - key() makes a field, as dataclasses.field() does

from dataclasses import dataclass
from typing import Final

from nginy.config.addresses import BindAddress, ListenAddresses, NameServers, PeerAddress
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
from nginy.config.node import Node, Reading, ScalarNode
from nginy.config.record import Entry, ListOf, MapOf, Record, Switch, key
from nginy.config.types import (
    Choice,
    Duration,
    FilePath,
    Flag,
    Integer,
    LogPath,
    OrOff,
    Size,
    Template,
    Text,
)
from nginy.proxy.variables import KEY_VARIABLES, VARIABLES
from nginy.text.address import Address

LOG_LEVELS: Final = ("debug", "info", "notice", "warn", "error", "crit")

# Ready-made formats for access_log. A file may give `main` another text; `json` is escaped as JSON.
LOG_FORMATS: Final = {
    "main": (
        "$remote_addr:$remote_port [$time_iso8601] $protocol $status $termination"
        ' $bytes_received/$bytes_sent $session_time $upstream_addr "$reason"'
    ),
    "json": (
        '{"time":"$time_iso8601","session":"$session_id","listener":"$listener",'
        '"remote_addr":"$remote_addr",'
        '"remote_port":"$remote_port","server_addr":"$server_addr","server_port":"$server_port",'
        '"protocol":"$protocol","status":"$status","termination":"$termination","reason":"$reason",'
        '"bytes_received":$bytes_received,"bytes_sent":$bytes_sent,"session_time":$session_time,'
        '"requests":$requests,"responses":$responses,'
        '"upstream_addr":"$upstream_addr","upstream_connect_time":"$upstream_connect_time",'
        '"upstream_bytes_sent":"$upstream_bytes_sent",'
        '"upstream_bytes_received":"$upstream_bytes_received"}'
    ),
}

LOG_PATH_ABOUT: Final = "A file, `stderr`, `stdout`, or `syslog:HOST:PORT`."
DURATION: Final = Duration()
SECONDS: Final = Duration(step_ms=1000)
FLAG: Final = Flag()
COUNT: Final = Integer(0)
POSITIVE: Final = Integer(1)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorLog(Entry):
    """Where nginy's own messages go."""

    path: str = key(LogPath("level", LOG_LEVELS), "stderr", LOG_PATH_ABOUT)
    level: str = key(Choice(*LOG_LEVELS), "notice", "The least severe messages to write.")


@dataclass(frozen=True, slots=True, kw_only=True)
class AccessLog(Entry):
    """Where a line for each session goes, when it has ended."""

    path: str = key(LogPath("format", LOG_FORMATS), None, LOG_PATH_ABOUT)
    format: str = key(
        Text("the name of a log format", r"[\w.-]+"),
        "main",
        "`main`, `json`, or one of log_formats.",
    )
    buffer_bytes: int | None = key(
        OrOff(Size(1024, 16 << 20)), "off", "How much is collected before it is written."
    )
    flush_ms: int | None = key(OrOff(DURATION), "off", "How long a line may wait in the buffer.")
    empty: bool = key(
        FLAG, "on", "Log sessions, too, that moved no byte before the client ended them."
    )


ACCESS_LOG: Final = Switch(Record(AccessLog, "access_log", shorthand="path"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Backend(Entry):
    """One server of an upstream."""

    address: Address = key(PeerAddress(), None, "Where it listens.")
    weight: int = key(POSITIVE, "1", "Its share, beside the weights of the others.")
    max_conns: int = key(COUNT, "0", "The most sessions it may have at once; 0 is no limit.")
    max_fails: int = key(COUNT, "1", "Failures within fail_timeout that take it out; 0 never does.")
    fail_timeout_ms: int = key(
        SECONDS, "10s", "How long failures are counted, and how long it is left out then."
    )
    slow_start_ms: int | None = key(
        OrOff(DURATION), "off", "How long its weight grows after it has come back."
    )
    backup: bool = key(FLAG, "off", "Serves only while no other backend can.")
    down: bool = key(FLAG, "off", "Serves no sessions, but keeps its place in a hash.")
    resolve: bool = key(
        FLAG, "off", "Resolve its name again whenever an answer expires, not only at a start."
    )
    service: str | None = key(
        OrOff(Text("a service such as http or _http._tcp", r"[\w-]+(\.[\w-]+)*")),
        "off",
        "Take hosts, ports, weights and backups from the SRV records of this service.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Resolver(Entry):
    """How the names of backends become addresses. /etc/hosts comes first in any case."""

    nameservers: tuple[Address, ...] = key(
        NameServers(), "auto", "Whom to ask; auto is whoever is in /etc/resolv.conf."
    )
    timeout_ms: int = key(DURATION, "5s", "How long one question may take, all tries included.")
    valid_ms: int | None = key(
        OrOff(SECONDS), "off", "How long an answer holds; off is as long as it says."
    )
    ipv6: bool = key(FLAG, "on", "Ask for IPv6 addresses, too.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Queue(Entry):
    """Where clients wait while every backend is at max_conns."""

    size: int = key(POSITIVE, "100", "How many may wait; more are turned away.")
    timeout_ms: int = key(DURATION, "60s", "How long a client waits.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Upstream(Entry):
    """A group of backends, and how one of them is chosen."""

    balance: Balance = key(BalanceKind(), "round_robin", "The balancing method.")
    backends: tuple[Backend, ...] = key(
        ListOf(Record(Backend, "a backend", shorthand="address")),
        None,
        "The servers of the group.",
        blank=tuple,
    )
    health_check: HealthCheck | None = key(HEALTH_CHECK, "off", "Ask the backends how they are.")
    agent_check: AgentCheck | None = key(
        AGENT_CHECK, "off", "Ask an agent beside each backend for its load."
    )
    eject: Eject | None = key(
        EJECT, "off", "Leave a backend out for longer each time that its sessions fail."
    )
    fail_open: float | None = key(
        FAIL_OPEN, "off", "Under this share of backends up, health and failures are ignored."
    )
    queue: Queue | None = key(
        Switch(Record(Queue, "queue")), "off", "Wait for a backend that is below max_conns."
    )
    max_session_time_ms: int | None = key(
        OrOff(DURATION), "off", "A session ends after this time, or up to 10 % earlier."
    )
    on_down: str = key(ON_DOWN, "keep", "What becomes of the sessions of a backend that goes down.")


@dataclass(frozen=True, slots=True, kw_only=True)
class SoKeepalive(Entry):
    """TCP keepalive with its own times; None leaves the system's."""

    idle_ms: int | None = key(
        OrOff(SECONDS), "75s", "Silence before the first probe (TCP_KEEPIDLE)."
    )
    interval_ms: int | None = key(OrOff(SECONDS), "15s", "Time between probes (TCP_KEEPINTVL).")
    count: int | None = key(OrOff(Integer(1, 127)), "4", "Probes without an answer (TCP_KEEPCNT).")


class Keepalive(Switch[SoKeepalive]):
    """TCP keepalive, where `on` means what it means elsewhere: the system's own times."""

    def __init__(self) -> None:
        super().__init__(Record(SoKeepalive, "so_keepalive"))

    def read(self, node: Node, reading: Reading) -> SoKeepalive | None:
        """Return the times, None for `off`."""
        if isinstance(node, ScalarNode) and node.text == "on":
            return SoKeepalive(idle_ms=None, interval_ms=None, count=None)
        return super().read(node, reading)


@dataclass(frozen=True, slots=True, kw_only=True)
class NextUpstream(Entry):
    """How far to look for a backend that can be connected to."""

    tries: int = key(COUNT, "0", "The most backends to try; 0 is each of them once.")
    timeout_ms: int | None = key(
        OrOff(DURATION), "off", "No further try this long after the first began."
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener(Entry):
    """One or more addresses where clients connect, and what happens to their sessions.

    Either `proxy_pass` or `return_` is set. `proxy_pass` is always the name of one of
    Config.upstreams: where the file has an address, an upstream of that name is made for it.
    """

    listen: tuple[Address, ...] = key(
        ListenAddresses(), None, "Where clients connect.", blank=tuple
    )
    protocol: str = key(Choice("tcp", "udp"), "tcp", "What is accepted there.")
    name: str = key(
        Text("a name for logs and counters", r"[^\x00-\x1f]*"), "", "Default: the address."
    )
    proxy_pass: str | None = key(
        OrOff(Text("an upstream's name or an address")), "off", "Where sessions go."
    )
    return_: str | None = key(
        OrOff(Template(KEY_VARIABLES, has_bytes=True)),
        "off",
        "Answer this text and end the session, as nginx's return.",
    )
    backlog: int = key(POSITIVE, "511", "Connections that may wait to be accepted.", only="tcp")
    so_keepalive: SoKeepalive | None = key(
        Keepalive(),
        "{idle: 75s, interval: 15s, count: 4}",
        "End the sessions of clients that are gone; on takes the system's times.",
        blank=SoKeepalive,
        only="tcp",
    )
    freebind: bool = key(
        FLAG, "off", "Bind addresses that this machine does not have yet, as with VRRP."
    )
    tcp_nodelay: bool = key(FLAG, "on", "Send small pieces at once.", only="tcp")
    proxy_connect_timeout_ms: int | None = key(
        OrOff(DURATION), "60s", "How long a backend may take to accept.", only="tcp"
    )
    proxy_timeout_ms: int | None = key(
        OrOff(DURATION),
        "10m",
        "A session ends when nothing has moved in either direction for this long.",
        udp_default="60s",
    )
    proxy_half_close: bool = key(
        FLAG, "on", "The end of one direction does not end the other.", only="tcp"
    )
    proxy_half_close_timeout_ms: int | None = key(
        OrOff(DURATION),
        "off",
        "In place of proxy_timeout, once one direction has ended.",
        only="tcp",
    )
    proxy_next_upstream: NextUpstream | None = key(
        Switch(Record(NextUpstream, "proxy_next_upstream")),
        "on",
        "Try another backend if one cannot be connected to.",
        only="tcp",
    )
    proxy_buffer_size_bytes: int = key(
        Size(1024, 64 << 20), "64k", "What a direction may hold unsent.", only="tcp"
    )
    proxy_splice: bool = key(
        FLAG, "on", "Let long transfers stay in the kernel (Linux).", only="tcp"
    )
    proxy_bind: Address | None = key(
        OrOff(BindAddress()), "off", "The local address to connect from."
    )
    proxy_socket_keepalive: bool = key(FLAG, "off", "Probe silent backends.", only="tcp")
    proxy_requests: int = key(
        COUNT, "0", "A session ends after this many datagrams; 0 is no limit.", only="udp"
    )
    proxy_responses: int | None = key(
        OrOff(COUNT), "off", "Answers expected for each datagram; off is any number.", only="udp"
    )
    max_sessions: int | None = key(
        OrOff(POSITIVE, "auto"),
        "auto",
        "New sessions beyond these are refused; auto is 70 % of the descriptor limit.",
        only="udp",
    )
    udp_offload: bool = key(
        FLAG, "on", "Let the kernel cut and join runs of equal datagrams.", only="udp"
    )
    access_log: AccessLog | None = key(
        ACCESS_LOG,
        "off",
        "Default: the access_log of the whole file.",
    )


UPSTREAM: Final = Record(Upstream, "an upstream", inherits=True)
LISTENER: Final = Record(Listener, "a listener", inherits=True)

# What makes a listener or an upstream the one it is cannot be the same for all of them.
NOT_FOR_DEFAULTS: Final = frozenset({"listen", "name", "proxy_pass", "return", "backends"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Entry):
    """A whole configuration, checked."""

    workers: int | None = key(
        OrOff(Integer(1, 512), "auto"), "1", "Processes that serve; auto is one a processor."
    )
    worker_connections: int = key(
        POSITIVE, "16384", "The most connections, to clients and backends together."
    )
    worker_shutdown_timeout_ms: int | None = key(
        OrOff(DURATION), "30s", "After a graceful stop, sessions still open are closed then."
    )
    shutdown_grace_ms: int | None = key(
        OrOff(DURATION), "off", "Keep accepting this long after a graceful stop."
    )
    user: str | None = key(
        OrOff(Text("the name of a user", r"[\w.-]+\$?")),
        "off",
        "Become this user once all listeners are bound; only root can.",
    )
    pid: str | None = key(OrOff(FilePath()), "off", "The file that holds the process id.")
    event_method: str = key(
        Choice("auto", "epoll", "poll", "select"), "auto", "How to wait; nginx's `use`."
    )
    error_log: ErrorLog = key(
        Record(ErrorLog, "error_log", shorthand="path"), "stderr", "nginy's own messages."
    )
    log_formats: dict[str, str] = key(
        MapOf(Template(VARIABLES), "log formats", str),
        "{}",
        "Lines for access_log, by name.",
        blank=dict,
    )
    access_log: AccessLog | None = key(ACCESS_LOG, "off", "A line for each session.")
    resolver: Resolver = key(
        Record(Resolver, "resolver", shorthand="nameservers"), "auto", "Names of backends."
    )
    upstreams: dict[str, Upstream] = key(
        MapOf(UPSTREAM, "upstreams", Upstream), "{}", "Groups of backends, by name.", blank=dict
    )
    listeners: tuple[Listener, ...] = key(
        ListOf(LISTENER), None, "Where clients connect.", blank=tuple
    )


# Keys of a file that are used up while it is loaded.
DIRECTIVES: Final = ("include", "defaults")

CONFIG: Final = Record(Config, "the configuration", directives=DIRECTIVES)
