"""The table: each keyword of HAProxy's proxies, and what it becomes, or why it becomes nothing.

A row has the best fate of its keyword: the modules beside this one look at the values, and judge
worse where a value has no counterpart. `text` says, for EXACT, which key it becomes or that nginy
does so by itself; otherwise what differs, and what that means for clients.

`sides`: whether frontends (f) or backends (b) have it; `listen` has both.

Not here: options of bind and server (options.py), and the other sections (table_global.py).

Source: HAProxy's configuration manual 3.5, "Proxy keywords matrix" (4.1), and what its section 4.2
describes beside it. A test compares.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from nginy.commands.importing.report import Fate


@dataclass(frozen=True, slots=True)
class Row:
    """A keyword: its fate, and its key or the reason."""

    fate: Fate
    text: str
    sides: str = "fb"
    arguments: int = 0
    """How many words follow an option of bind or server."""
    is_read: bool = True
    """Whether a module looks at its value; if not, the fate is always the same."""


def key(text: str, sides: str = "fb", arguments: int = 0) -> Row:
    """Return the row of a keyword that becomes a key of nginy's."""
    return Row(Fate.EXACT, text, sides, arguments)


def same(text: str, sides: str = "fb", arguments: int = 0) -> Row:
    """Return the row of a keyword that needs no key: nginy does the same by itself."""
    return Row(Fate.EXACT, text, sides, arguments, is_read=False)


def close(text: str, sides: str = "fb", arguments: int = 0) -> Row:
    """Return the row of a keyword that nginy has in another form; a module adds the details."""
    return Row(Fate.CLOSE, text, sides, arguments)


def none(text: str, sides: str = "fb", arguments: int = 0) -> Row:
    """Return the row of a keyword without a counterpart."""
    return Row(Fate.LEFT_OUT, text, sides, arguments, is_read=False)


HTTP: Final = "is about HTTP, which nginy does not read; clients in mode tcp do not notice"
UNNOTICED: Final = "clients do not notice"
OWN_STATE: Final = f"nginy keeps its state at a reload by itself; {UNNOTICED}"
OWN_PAGE: Final = f"nginy has a page of its own, the key admin; {UNNOTICED}"
SPLICES: Final = "nginy splices long transfers by itself (proxy_splice)"
NAMES_ONLY: Final = f"is a name for HAProxy's statistics; {UNNOTICED}"
NO_MAIL: Final = "nginy sends no mail; its metrics and its log report a backend that goes down"
NO_TABLE: Final = "nginy has no stick tables"


def _all(rows: str, row: Row) -> dict[str, Row]:
    """Return the same row for many keywords, separated by commas."""
    return {keyword.strip(): row for keyword in rows.split(",")}


PROXY: Final[Mapping[str, Row]] = {
    "acl": key("the conditions of routes, or rules of access", "f"),
    "backlog": key("backlog", "f"),
    "balance": key("balance", "b"),
    "be-unpublished": none("nginy has no backends that routes skip", "b"),
    "bind": key("listen", "f"),
    "clitcpka-cnt": key("so_keepalive: {count: ...}", "f"),
    "clitcpka-idle": key("so_keepalive: {idle: ...}", "f"),
    "clitcpka-intvl": key("so_keepalive: {interval: ...}", "f"),
    "crt": none("names a certificate for an ACME client; nginy has certificates in tls", "f"),
    "default-server": key("the keys of each backend", "b"),
    "default_backend": key("proxy_pass", "f"),
    "description": none(NAMES_ONLY),
    "disabled": close("the section is left out; nginy cannot switch off a listener"),
    "enabled": same("everything in the configuration is enabled"),
    "error-log-format": none("nginy logs all sessions in one format; its line has the reason", "f"),
    "external-check command": key("health_check: {type: exec, command: ...}", "b"),
    "external-check path": none("nginy gives programs its own PATH", "b"),
    "force-be-switch": none("nginy has no backends that routes skip", "f"),
    "force-persist": none("nginy sends no clients to a backend that is down", "b"),
    "filter": none("nginy has no filters, so the effect of this one is missing"),
    "filter-sequence": none("nginy has no filters"),
    "fullconn": none("max_conns of a backend is fixed, whatever the load", "b"),
    "guid": none(NAMES_ONLY),
    "hash-balance-factor": key("balance: {..., bounded_load: ...}", "b"),
    "hash-preserve-affinity": none("a client whose backend is full waits for any of them", "b"),
    "hash-type": key("balance: {hash: ..., consistent: on}", "b"),
    "id": none(NAMES_ONLY),
    "ignore-persist": none("nginy has no persistence to ignore", "b"),
    "load-server-state-from-file": none(OWN_STATE, "b"),
    "log": close("access_log", "fb"),
    "log-format": close("log_formats", "f"),
    "log-format-sd": none("nginy's syslog lines have no structured data", "f"),
    "log-tag": none("lines in syslog have the tag nginy"),
    "log-steps": none("nginy logs a session once, when it ends", "f"),
    "max-session-srv-conns": none(f"keeps idle HTTP connections; {UNNOTICED}", "f"),
    "maxconn": close("limit_conn", "f"),
    "mode": key("TCP is all that a listener speaks"),
    "option abortonclose": none(
        "a client that half-closes while it waits for a backend stays in the queue", "fb"
    ),
    "option allbackups": key("nginy always uses all backups", "b"),
    "option clitcpka": key("so_keepalive", "f"),
    "option contstats": same("nginy always counts bytes as they pass", "f"),
    "option dontlog-normal": key("access_log: {if: ...}", "f"),
    "option dontlognull": key("access_log: {empty: off}", "f"),
    "option external-check": key("health_check: {type: exec}", "b"),
    "option httpchk": key("health_check: {type: http}", "b"),
    "option idle-close-on-response": none(HTTP, "f"),
    "option independent-streams": close(
        "nginy has one idle timer for both directions: a client that only reads stays", "fb"
    ),
    "option ldap-check": key("health_check: {type: ldap}", "b"),
    "option log-health-checks": none("nginy logs changes of state, not each check", "b"),
    "option log-separate-errors": none("nginy logs all sessions at one level", "f"),
    "option logasap": none("nginy logs a session when it ends", "f"),
    "option mysql-check": key("health_check: {type: mysql}", "b"),
    "option nolinger": none("nginy resets no connection that has ended well"),
    "option originalto": none(HTTP),
    "option persist": none("nginy sends no clients to a backend that is down", "b"),
    "option pgsql-check": key("health_check: {type: postgres}", "b"),
    "option prefer-last-server": none(HTTP, "b"),
    "option redispatch": key("proxy_next_upstream", "b"),
    "option redis-check": key("health_check: {type: redis}", "b"),
    "option smtpchk": key("health_check: {type: smtp}", "b"),
    "option socket-stats": none(f"nginy counts by listener; {UNNOTICED}", "f"),
    "option splice-auto": same(SPLICES),
    "option splice-request": same(SPLICES),
    "option splice-response": same(SPLICES),
    "option spop-check": none("nginy has no SPOE; the check only connects", "b"),
    "option srvtcpka": key("proxy_socket_keepalive", "b"),
    "option ssl-hello-chk": close("health_check: {type: tls}", "b"),
    "option tcp-check": key("health_check", "b"),
    "option tcp-smart-accept": none(f"saves a packet for each connection; {UNNOTICED}", "f"),
    "option tcp-smart-connect": none(f"saves a packet for each connection; {UNNOTICED}", "b"),
    "option tcpka": key("so_keepalive and proxy_socket_keepalive"),
    "option tcplog": close("access_log", "f"),
    "option transparent": none("nginy does not take connections for any address", "b"),
    "option use-small-buffers": same("an idle session of nginy has no buffer at all", "b"),
    "persist rdp-cookie": none("nginy does not read RDP cookies", "b"),
    "quic-initial": none("nginy does not speak QUIC; it passes it on as UDP", "f"),
    "rate-limit sessions": close("limit_conn_rate", "f"),
    "retries": close("proxy_next_upstream", "b"),
    "retry-on": none("nginy tries another backend only if connecting fails", "b"),
    "server": key("backends", "b"),
    "server-state-file-name": none(OWN_STATE, "b"),
    "server-template": close("backends: {resolve: on}", "b"),
    "source": key("proxy_bind", "b"),
    "srvtcpka-cnt": none("the system's times apply to keepalive towards backends", "b"),
    "srvtcpka-idle": none("the system's times apply to keepalive towards backends", "b"),
    "srvtcpka-intvl": none("the system's times apply to keepalive towards backends", "b"),
    "ssl-f-use": none("nginy has its certificates in tls; clients do not see this one", "f"),
    "stick match": none(f"{NO_TABLE}; balance alone distributes the clients", "b"),
    "stick on": close("balance: {hash: $remote_addr, consistent: on}", "b"),
    "stick store-request": none(f"{NO_TABLE}; balance alone distributes the clients", "b"),
    "stick store-response": none(f"{NO_TABLE}; balance alone distributes the clients", "b"),
    "stick-table": close("hashing, or limits of nginy's own, in place of a table"),
    "tcp-check comment": key("label of a step", "b"),
    "tcp-check connect": key("health_check", "b"),
    "tcp-check expect": key("expect of a step", "b"),
    "tcp-check send": key("send of a step", "b"),
    "tcp-check send-lf": key("send of a step", "b"),
    "tcp-check send-binary": key("send of a step", "b"),
    "tcp-check send-binary-lf": key("send of a step", "b"),
    "tcp-check set-var": none("check steps have no variables", "b"),
    "tcp-check set-var-fmt": none("check steps have no variables", "b"),
    "tcp-check unset-var": none("check steps have no variables", "b"),
    "tcp-request connection": key("access, limits or routes", "f"),
    "tcp-request content": key("routes"),
    "tcp-request inspect-delay": key("preread: {timeout: ...}"),
    "tcp-request session": key("access or routes", "f"),
    "tcp-response content": none("nginy does not look at what backends send", "b"),
    "tcp-response inspect-delay": none("nginy does not look at what backends send", "b"),
    "timeout check": key("health_check: {timeout: ...}", "b"),
    "timeout client": key("proxy_timeout", "f"),
    "timeout client-fin": key("proxy_half_close_timeout", "f"),
    "timeout client-hs": key("tls: {handshake_timeout: ...}", "f"),
    "timeout connect": key("proxy_connect_timeout", "b"),
    "timeout queue": key("queue: {timeout: ...}", "b"),
    "timeout server": key("proxy_timeout", "b"),
    "timeout server-fin": key("proxy_half_close_timeout", "b"),
    "timeout tunnel": key("proxy_timeout", "b"),
    "unique-id-format": none("nginy makes its unique ids itself, from session, host and start"),
    "use_backend": key("routes", "f"),
    "use-server": none("a condition cannot choose a backend within an upstream", "b"),
    **_all("email-alert from, email-alert level, email-alert mailers", none(NO_MAIL)),
    **_all("email-alert myhostname, email-alert to", none(NO_MAIL)),
    **_all(
        "stats admin, stats auth, stats enable, stats hide-version, stats http-request,"
        " stats realm, stats refresh, stats scope, stats show-desc, stats show-legends,"
        " stats show-modules, stats show-node, stats show-version, stats uri, monitor fail,"
        " monitor-uri, monitor-net",
        none(OWN_PAGE),
    ),
    **_all(
        "capture cookie, capture request header, capture response header, compression, cookie,"
        " declare capture, errorfile, errorfiles, errorloc, errorloc302, errorloc303,"
        " http-after-response, http-check comment, http-check connect, http-check disable-on-404,"
        " http-check send-state, http-check set-var, http-check unset-var, http-error,"
        " http-request, http-response, http-reuse, http-send-name-header, max-keep-alive-queue,"
        " option accept-invalid-http-request, option accept-invalid-http-response,"
        " option accept-unsafe-violations-in-http-request,"
        " option accept-unsafe-violations-in-http-response, option checkcache,"
        " option disable-h2-upgrade, option forwardfor, option forwarded,"
        " option h1-case-adjust-bogus-client, option h1-case-adjust-bogus-server,"
        " option http-buffer-request, option http-drop-request-trailers,"
        " option http-drop-response-trailers, option http-ignore-probes, option http-keep-alive,"
        " option http-no-delay, option http-pretend-keepalive,"
        " option http-restrict-req-hdr-names, option http-server-close,"
        " option http-use-htx, option http-use-proxy-header, option httpclose, option httplog,"
        " option httpslog, option forceclose, redirect, timeout http-keep-alive,"
        " timeout http-request, timeout tarpit, unique-id-header, use-fcgi-app",
        none(HTTP),
    ),
    "http-check expect": key("health_check: {status: ...}", "b"),
    "http-check send": key("health_check: {method: ..., path: ...}", "b"),
    "dispatch": none("is from an older HAProxy; the address gets no clients", "b"),
    "block": none(HTTP),
}

LISTS: Final = (
    *("acl", "bind", "default-server", "filter", "log", "server", "server-template"),
    *("tcp-request connection", "tcp-request content", "tcp-request session", "use_backend"),
)
"""Keywords of which all lines apply, not only the last one."""
