"""The language: every key of the configuration with its type, its default and its purpose.

Each class is one record of the file, each row one key. The type of a field is the value in a
checked configuration: durations are milliseconds, sizes are bytes, `off` is None, and defaults are
filled in. The reader, `nginy -T` and the reference page use the rows (record.py), so a new key is
one row here.

Names, meanings and defaults are nginx's (ngx_stream_core_module, ngx_stream_proxy_module,
ngx_stream_upstream_module) where nginx has the key. checking/check.py checks rules that span keys.

Read first: Config at the end, then Listener, and upstream.py. Read next: load.py.

Tested in tests/config/test_load.py.
"""

# ruff: noqa: RUF009 - key() makes a field, as dataclasses.field() does

from dataclasses import dataclass, field
from typing import Final

from nginy.config.access import AccessKind, AccessRules
from nginy.config.addresses import ListenAddresses
from nginy.config.admin import ADMIN, READY, AdminListener
from nginy.config.bind import PROXY_BIND, ProxyBind
from nginy.config.keepalive import Keepalive, SoKeepalive
from nginy.config.logs import (
    ACCESS_LOG,
    ERROR_LOG,
    AccessLogSettings,
    ErrorLogSettings,
    LogFormat,
    LogFormatKind,
    blank_format,
)
from nginy.config.paths import FilePath
from nginy.config.phases import (
    ACCEPT_PROXY_PROTOCOL,
    LIMIT_CONN,
    LIMIT_CONN_RATE,
    AcceptProxyProtocol,
    LimitConn,
    LimitConnRate,
)
from nginy.config.possible import Possible
from nginy.config.record import TOP, Entry, ListOf, MapOf, Record, Switch, key
from nginy.config.resolver import Resolver
from nginy.config.routes import PREREAD, ROUTES, Preread, Route
from nginy.config.tls import PROXY_TLS, TLS, ProxyTls, Tls
from nginy.config.types import (
    Choice,
    Duration,
    Flag,
    Integer,
    OrOff,
    Size,
    TargetName,
    Template,
    Text,
)
from nginy.config.upstream import UPSTREAM, Upstream
from nginy.config.variables import VARIABLES_KIND, VariableSettings
from nginy.proxy.variables import KEY_VARIABLES
from nginy.text.address import Address

DURATION: Final = Duration()
FLAG: Final = Flag()
COUNT: Final = Integer(0)
POSITIVE: Final = Integer(1)
RATE: Final = Size(1024, 1 << 30)


@dataclass(frozen=True, slots=True, kw_only=True)
class NextUpstream(Entry):
    """How long nginy looks for a backend that accepts the connection."""

    tries: int = key(COUNT, "0", "nginy tries at most this many backends; 0 is each of them once.")
    timeout_ms: int | None = key(
        OrOff(DURATION),
        "off",
        "nginy begins no further try once this long has passed since the first.",
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Listener(Entry):
    """Addresses where clients connect, and what happens to their sessions.

    Either `proxy_pass` or `return_` is set, or there are `routes`. `proxy_pass`, theirs too, is
    always a name in Config.upstreams: complete() creates an upstream for an address.
    """

    listen: tuple[Address, ...] = key(
        ListenAddresses(), None, "Where clients connect.", blank=tuple
    )
    protocol: str = key(
        Choice("tcp", "udp"), "tcp", "Whether nginy accepts connections or receives datagrams."
    )
    name: str = key(
        Text("a name for logs and counters", r"[^\x00-\x1f]*"),
        "",
        "The name in logs and counters; by default the address.",
    )
    routes: tuple[Route, ...] = ROUTES
    preread: Preread = PREREAD
    proxy_pass: str | None = key(
        OrOff(TargetName()),
        "off",
        "Where sessions without a route go.",
    )
    return_: str | None = key(
        OrOff(Template(KEY_VARIABLES, has_bytes=True)),
        "off",
        "nginy answers with this text and ends the session, as nginx's return does.",
    )
    backlog: int = key(
        POSITIVE, "511", "At most this many connections wait to be accepted.", only="tcp"
    )
    so_keepalive: SoKeepalive | None = key(
        Keepalive(),
        "{idle: 75s, interval: 15s, count: 4}",
        "Probes end the sessions of clients that are gone; on uses the system's times.",
        blank=SoKeepalive,
        only="tcp",
    )
    freebind: bool = key(
        FLAG, "off", "nginy binds addresses that this machine does not have yet, as with VRRP."
    )
    accept_proxy_protocol: AcceptProxyProtocol | None = key(
        ACCEPT_PROXY_PROTOCOL,
        "off",
        "The client is who a PROXY header says it is, for rules, hash keys, variables and logs.",
    )
    limit_conn: tuple[LimitConn, ...] = key(
        LIMIT_CONN,
        "off",
        "How many sessions with one key may be open at once; each worker counts its own.",
    )
    limit_conn_rate: LimitConnRate | None = key(
        LIMIT_CONN_RATE,
        "off",
        "How many sessions with one key may begin in a second; each worker counts its own.",
    )
    access: AccessRules | None = key(
        AccessKind(),
        "off",
        "Which clients may connect: the first rule that matches decides; if none does, any may.",
    )
    tls: Tls | None = TLS
    tcp_nodelay: bool = key(FLAG, "on", "nginy sends small pieces at once, both ways.", only="tcp")
    proxy_connect_timeout_ms: int | None = key(
        OrOff(DURATION), "60s", "A backend may take this long to accept a connection.", only="tcp"
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
        "Replaces proxy_timeout once one direction has ended.",
        only="tcp",
    )
    proxy_drain_timeout_ms: int | None = key(
        OrOff(DURATION),
        "off",
        "A session may stay this long with a backend that has left the list.",
        udp_default="30s",
    )
    proxy_next_upstream: NextUpstream | None = key(
        Switch(Record(NextUpstream, "proxy_next_upstream")),
        "on",
        "nginy tries another backend if one cannot be reached, or refuses a first datagram.",
    )
    proxy_buffer_size_bytes: int = key(
        Size(1024, 64 << 20),
        "64k",
        "Each direction holds at most this much unsent data.",
        only="tcp",
    )
    proxy_splice: bool = key(FLAG, "on", "Long transfers stay in the kernel (Linux).", only="tcp")
    proxy_upload_rate_bytes: int | None = key(
        OrOff(RATE), "off", "A session passes on at most this many bytes a second from its client."
    )
    proxy_download_rate_bytes: int | None = key(
        OrOff(RATE), "off", "A session passes on at most this many bytes a second to its client."
    )
    proxy_bind: ProxyBind | None = key(
        PROXY_BIND,
        "off",
        "nginy connects to backends from this address, which may be the client's own.",
    )
    proxy_protocol: str = key(
        Choice("off", "v1", "v2"),
        "off",
        "A PROXY header tells backends who the client is; a backend's own key wins. UDP takes v2.",
    )
    pass_tlvs: bool = key(FLAG, "off", "A header of v2 also passes on the TLVs of an accepted one.")
    proxy_tls: ProxyTls | None = PROXY_TLS
    proxy_socket_keepalive: bool = key(
        FLAG, "off", "TCP keepalive probes find backends that are gone.", only="tcp"
    )
    proxy_requests: int = key(
        COUNT,
        "0",
        "A session ends after this many datagrams of the client; 0 is no limit.",
        only="udp",
    )
    proxy_responses: int | None = key(
        OrOff(COUNT),
        "off",
        "A backend answers each datagram with this many; off is any number.",
        only="udp",
    )
    max_sessions: int | None = key(
        OrOff(POSITIVE, "auto"),
        "auto",
        "nginy refuses new sessions beyond this; auto is 70 % of the descriptor limit.",
        only="udp",
    )
    udp_offload: bool = key(
        FLAG, "on", "The kernel cuts and joins runs of datagrams of equal size.", only="udp"
    )
    access_log: tuple[AccessLogSettings, ...] = key(
        ACCESS_LOG,
        "off",
        "Replaces the access_log at the top of the file for this listener.",
    )
    error_log: ErrorLogSettings | None = key(
        ERROR_LOG,
        "auto",
        "Where messages about this listener's sessions go; auto is the log at the top.",
    )
    choices: tuple[Possible, ...] = field(default=(), compare=False, repr=False)
    """Where a `proxy_pass` by a variable may lead (checking/targets.py)."""


LISTENER: Final = Record(Listener, "a listener", inherits=True)

# Each listener or upstream has its own; a common value makes no sense.
NOT_FOR_DEFAULTS: Final = frozenset({"listen", "name", "proxy_pass", "return", "backends"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(Entry):
    """A whole configuration, checked."""

    workers: int | None = key(
        OrOff(Integer(1, 512), "auto"),
        "1",
        "How many processes serve; auto is one for each processor.",
    )
    worker_connections: int = key(
        POSITIVE,
        "16384",
        "A worker holds at most this many connections, to clients and backends together.",
    )
    max_checks: int = key(
        POSITIVE, "100", "At most this many health checks run at once; others wait."
    )
    worker_shutdown_timeout_ms: int | None = key(
        OrOff(DURATION),
        "30s",
        "A graceful stop closes the sessions that are still open after this time.",
    )
    shutdown_grace_ms: int | None = key(
        OrOff(DURATION),
        "off",
        "A graceful stop keeps accepting for this long, so that an outer balancer notices.",
    )
    user: str | None = key(
        OrOff(Text("the name of a user", r"[\w.-]+\$?")),
        "off",
        "nginy becomes this user once all listeners are bound; only root can.",
    )
    pid: str | None = key(
        OrOff(FilePath()), "off", "Holds the process id; -s and plan need it. systemd sets one."
    )
    admin: tuple[AdminListener, ...] | None = ADMIN
    admin_state: str | None = key(
        OrOff(FilePath()), "off", "This file keeps the changes of operators, also over a restart."
    )
    ready: dict[str, int] = READY
    metrics_backends: int = key(
        COUNT, "1000", "At most this many backends have their own metrics; each has 16."
    )
    event_method: str = key(
        Choice("auto", "epoll", "poll", "select"),
        "auto",
        "How nginy waits for events, as with nginx's `use`.",
    )
    error_log: ErrorLogSettings = key(
        Record(ErrorLogSettings, "error_log", shorthand="path"),
        "stderr",
        "Where nginy's own messages go.",
    )
    log_formats: dict[str, LogFormat] = key(
        MapOf(LogFormatKind(), "log formats", blank_format),
        "{}",
        "Each name is a format that access_log may use.",
        blank=dict,
    )
    access_log: tuple[AccessLogSettings, ...] = key(
        ACCESS_LOG, "off", "nginy writes a line here when a session ends."
    )
    resolver: Resolver = key(
        Record(Resolver, "resolver", shorthand="nameservers"),
        "auto",
        "How the names of backends become addresses.",
    )
    variables: dict[str, VariableSettings] = key(
        VARIABLES_KIND,
        "{}",
        "Each name is a variable computed from others, once for each session.",
        blank=dict,
    )
    upstreams: dict[str, Upstream] = key(
        MapOf(UPSTREAM, "upstreams", Upstream),
        "{}",
        "Each name is a group of backends that proxy_pass may name.",
        blank=dict,
    )
    listeners: tuple[Listener, ...] = key(
        ListOf(LISTENER), None, "Where clients connect.", blank=tuple
    )


# Keys that loading a file uses up.
DIRECTIVES: Final = ("include", "defaults")

CONFIG: Final = Record(Config, TOP, directives=DIRECTIVES)
