"""Words of nginx, HAProxy and orchestrators that nginy does not have, and what to write instead.

RENAMED maps a word to nginy's key of the same meaning. ABSENT has advice for words without a
counterpart. Both are by record; VALUES is by key, and the tables of words after an address are by
word. A test checks that no word here is a key of nginy's own.

hints.py looks the words up.

Sources: the directives of nginx's stream modules, HAProxy's configuration manual 3.0 (4.1
"Proxy keywords matrix", 5.1 "Bind options", 5.2 "Server and default-server options").

Tested in tests/config/words/test_hints.py.
"""

from collections.abc import Mapping
from typing import Final

TERMINATES: Final = "expected tls: {certificate: site.pem, key: site.key}"
SPEAKS: Final = "expected proxy_tls: on in a listener"
ACCEPT_PROXY: Final = "expected accept_proxy_protocol: {from: 10.0.0.0/8}, the proxies in front"
NO_HTTP: Final = "nginy balances TCP and UDP and does not read HTTP"
IN_ACCESS: Final = "expected access: [{allow: 10.0.0.0/8}, {deny: all}]"
IN_ROUTES: Final = "expected routes: [{sni: www.example.com, proxy_pass: web}]"
TOP_OF_FILE: Final = "its keys belong at the top of the file"
NO_OPTIONS: Final = "each option of HAProxy is a key of its own here; --help-config lists the keys"
RAISED_ALONE: Final = "nginy raises the limit itself, according to worker_connections"

SOURCE_HASH: Final = "{hash: $remote_addr, consistent: on}"

CONFIGURATION: Final = "the configuration"
LISTENER: Final = "a listener"
UPSTREAM: Final = "an upstream"
BACKEND: Final = "a backend"
HEALTH_CHECK: Final = "health_check"

# nginy's key for a word, by the record in which the word was found.
RENAMED: Final[Mapping[str, Mapping[str, str]]] = {
    CONFIGURATION: {
        "backend": "upstreams",
        "backends": "upstreams",
        "frontend": "listeners",
        "frontends": "listeners",
        "geo": "variables",
        "listen": "listeners",
        "log": "error_log",
        "log_format": "log_formats",
        "map": "variables",
        "maxconn": "worker_connections",
        "nbproc": "workers",
        "nbthread": "workers",
        "pidfile": "pid",
        "resolvers": "resolver",
        "server": "listeners",
        "servers": "listeners",
        "split_clients": "variables",
        "upstream": "upstreams",
        "use": "event_method",
        "worker_processes": "workers",
    },
    LISTENER: {
        "address": "listen",
        "backend": "proxy_pass",
        "bind": "listen",
        "connect_timeout": "proxy_connect_timeout",
        "default_backend": "proxy_pass",
        "destination": "proxy_pass",
        "forward": "proxy_pass",
        "idle_timeout": "proxy_timeout",
        "log": "access_log",
        "port": "listen",
        "proto": "protocol",
        "proxy_buffer": "proxy_buffer_size",
        "proxy_read_timeout": "proxy_timeout",
        "proxy_send_timeout": "proxy_timeout",
        "send_timeout": "proxy_timeout",
        "server": "proxy_pass",
        "target": "proxy_pass",
        "timeout": "proxy_timeout",
        "timeout client": "proxy_timeout",
        "timeout connect": "proxy_connect_timeout",
        "timeout server": "proxy_timeout",
        "timeout tunnel": "proxy_timeout",
        "to": "proxy_pass",
        "upstream": "proxy_pass",
        "use_backend": "proxy_pass",
    },
    UPSTREAM: {
        "algorithm": "balance",
        "check": "health_check",
        "endpoints": "backends",
        "health": "health_check",
        "healthcheck": "health_check",
        "healthchecks": "health_check",
        "lb_policy": "balance",
        "member": "backends",
        "members": "backends",
        "method": "balance",
        "nodes": "backends",
        "policy": "balance",
        "server": "backends",
        "servers": "backends",
        "targets": "backends",
    },
    BACKEND: {
        "addr": "address",
        "disabled": "down",
        "host": "address",
        "ip": "address",
        "maxconn": "max_conns",
        "server": "address",
        "slowstart": "slow_start",
        "uri": "address",
        "url": "address",
    },
    HEALTH_CHECK: {
        "check_interval": "interval",
        "check_timeout": "timeout",
        "cmd": "command",
        "downinter": "interval_down",
        "endpoint": "path",
        "expected_codes": "status",
        "expected_status": "status",
        "fall": "fails",
        "fastinter": "interval_changing",
        "healthy_threshold": "passes",
        "hostname": "host",
        "inter": "interval",
        "max_fails": "fails",
        "program": "command",
        "retries": "fails",
        "rise": "passes",
        "script": "command",
        "sni": "name",
        "statuses": "status",
        "unhealthy_threshold": "fails",
        "uri": "path",
        "url": "path",
    },
    "agent_check": {"agent-port": "port", "agent-inter": "interval", "inter": "interval"},
    "a log format": {"format": "text", "log_format": "text"},
    "access_log": {"file": "path", "buffer_size": "buffer"},
    "error_log": {"file": "path", "severity": "level", "log_level": "level"},
    "queue": {"maxqueue": "size", "max": "size", "length": "size"},
    "resolver": {"nameserver": "nameservers", "servers": "nameservers", "ttl": "valid"},
    "so_keepalive": {
        "keepidle": "idle",
        "keepintvl": "interval",
        "keepcnt": "count",
        "time": "idle",
        "probes": "count",
    },
}

# Advice for words without a counterpart.
ABSENT: Final[Mapping[str, Mapping[str, str]]] = {
    CONFIGURATION: {
        "limit_conn_zone": "expected limit_conn: {key: $remote_addr, max: 10} in a listener",
        "daemon": "nginy stays in the foreground; let a service manager start it",
        "events": TOP_OF_FILE,
        "global": TOP_OF_FILE,
        "group": "nginy takes the group of its user",
        "http": NO_HTTP,
        "load_module": "nginy has no modules",
        "sendfile": "nginy serves no files",
        "tcp_nopush": "nginy serves no files",
        "master_process": "expected workers: 1 for a single process",
        "stream": TOP_OF_FILE,
        "worker_rlimit_nofile": RAISED_ALONE,
        "ulimit-n": RAISED_ALONE,
    },
    LISTENER: {
        "accept-proxy": ACCEPT_PROXY,
        "acl": IN_ACCESS,
        "allow": IN_ACCESS,
        "default_server": "expected the keys beside the address of each backend",
        "deny": IN_ACCESS,
        "limit_conn_dry_run": "expected dry_run: on in limit_conn",
        "limit_conn_log_level": "expected log_level in limit_conn",
        "limit_conn_zone": "expected key and zone in limit_conn",
        "limit_rate": "expected proxy_download_rate: 1m",
        "maxconn": "expected limit_conn, worker_connections at the top, or max_conns of a backend",
        "mode": "expected protocol: tcp or protocol: udp",
        "option": NO_OPTIONS,
        "servers": "expected upstreams: {web: {backends: [...]}} at the top, and proxy_pass: web",
        "proxy_next_upstream_timeout": "expected proxy_next_upstream: {timeout: 10s}",
        "proxy_next_upstream_tries": "expected proxy_next_upstream: {tries: 3}",
        "proxy_ssl": SPEAKS,
        "reuseport": "nginy sets it itself when there are several workers",
        "rules": IN_ROUTES,
        "server_name": IN_ROUTES,
        "proxy_protocol_timeout": "expected timeout in accept_proxy_protocol",
        "rate_limit": "expected limit_conn_rate: {key: $remote_net, rate: 10}",
        "set_real_ip_from": ACCEPT_PROXY,
        "sni": IN_ROUTES,
        "source": "expected proxy_bind",
        "ssl": TERMINATES,
        "ssl_certificate": TERMINATES,
        "ssl_certificate_key": TERMINATES,
        "sendfile": "nginy serves no files",
        "tcp_nopush": "nginy serves no files",
        "tcp_request": "expected access, limit_conn or limit_conn_rate",
        "ssl_preread": "nginy looks at first bytes where a route needs them; expected routes",
        "udp": "expected protocol: udp",
    },
    UPSTREAM: {
        "default_server": "expected the keys beside the address of each backend",
        "fall": "expected health_check: {fails: 3}",
        "inter": "expected health_check: {interval: 5s}",
        "ip_hash": "expected balance: {hash: $remote_addr, consistent: on}",
        "hash_type": f"expected balance: {SOURCE_HASH}",
        "http_check": "expected health_check: {type: http}",
        "tcp_check": "expected health_check: {type: tcp, steps: [{send: ..., expect: ...}]}",
        "keepalive": "nginy opens a connection for each session",
        "maxconn": "expected max_conns in a backend",
        "option": NO_OPTIONS,
        "retries": "expected proxy_next_upstream: {tries: 3} in a listener",
        "rise": "expected health_check: {passes: 2}",
        "ssl": SPEAKS,
        "stick": f"expected balance: {SOURCE_HASH}",
        "stick_table": f"expected balance: {SOURCE_HASH}",
        "sticky": f"expected balance: {SOURCE_HASH}",
        "timeout connect": "expected proxy_connect_timeout in a listener",
        "timeout queue": "expected queue: {timeout: 5s}",
        "zone": "nginy's workers share their counts without it",
        **{
            word: f"expected balance: {word}"
            for word in ("least_conn", "least_time", "random", "round_robin")
        },
        **{
            word: f"expected balance: {{{word}: $remote_addr}}"
            for word in ("hash", "maglev", "rendezvous")
        },
    },
    BACKEND: {
        "check": "expected health_check in the upstream",
        "fall": "expected health_check: {fails: 3} in the upstream",
        "inter": "expected health_check: {interval: 5s} in the upstream",
        "port": "a port is part of the address, as in 127.0.0.1:80",
        "rise": "expected health_check: {passes: 2} in the upstream",
        "send-proxy": "expected proxy_protocol: v1",
        "send-proxy-v2": "expected proxy_protocol: v2",
        "ssl": SPEAKS,
        "tls": SPEAKS,
    },
    HEALTH_CHECK: {
        "agent": "expected agent_check: 9001, the agent's port, in the upstream",
        "agent_check": "expected agent_check: 9001, the agent's port, in the upstream",
        "check": "health_check itself turns the checks on",
        "enabled": "health_check itself turns the checks on",
        "mandatory": "expected initial: down",
        "match": "expected expect, or with type http status",
        "ssl": "expected type: tls",
        "tls": "expected type: tls",
    },
    "resolver": {"ipv4": "nginy always asks for IPv4 addresses"},
}

# Values that nginy spells differently, by key.
VALUES: Final[Mapping[str, Mapping[str, str]]] = {
    "proxy_protocol": {"on": "expected v1, which nginx sends, or v2"},
    "balance": {
        "first": "expected round_robin",
        "hash": f"expected {SOURCE_HASH}",
        "ip_hash": f"expected {SOURCE_HASH}",
        "least": "expected least_conn",
        "leastconn": "expected least_conn",
        "least_connections": "expected least_conn",
        "ring_hash": f"expected {SOURCE_HASH}",
        "roundrobin": "expected round_robin",
        "rr": "expected round_robin",
        "source": f"expected {SOURCE_HASH}",
        "static-rr": "expected round_robin",
        "sticky": f"expected {SOURCE_HASH}",
        "weighted": "expected round_robin, which goes by weight",
        "wrr": "expected round_robin, which goes by weight",
        **dict.fromkeys(("cookie", "hdr", "uri", "url_param"), NO_HTTP),
    },
    "protocol": {
        **dict.fromkeys(("http", "https"), f"{NO_HTTP}, expected tcp"),
        **dict.fromkeys(("ssl", "tls"), "expected tcp, and tls for TLS"),
        **dict.fromkeys(
            ("all", "any", "both", "tcp+udp", "tcp/udp", "tcp_udp", "tcpudp"),
            "expected two listeners, one with tcp and one with udp",
        ),
        "quic": "expected udp",
        "http3": "expected udp",
    },
    "type": {
        "grpc": "nginy does not speak gRPC, expected tcp",
        "ping": "nginy does not ping, expected tcp",
        "icmp": "nginy does not ping, expected tcp",
        "script": "expected exec",
        "ssl": "expected tls",
        "mariadb": "expected mysql",
        "pgsql": "expected postgres",
        "postgresql": "expected postgres",
    },
    "level": {
        "warning": "expected warn",
        "err": "expected error",
        "information": "expected info",
        **dict.fromkeys(("alert", "critical", "emerg", "fatal"), "expected crit"),
        "trace": "expected debug",
    },
    "event_method": {
        **dict.fromkeys(("kqueue", "io_uring", "eventport", "/dev/poll"), "expected auto"),
    },
    "on_down": {"shutdown-sessions": "expected close or reset"},
    "proxy_next_upstream": {"error": "expected on", "timeout": "expected on"},
}

# Words in place of a log's path, by the key beside it.
_NO_SERVER: Final = "is not a server, expected syslog:127.0.0.1:514"
LOG_WORDS: Final[Mapping[str, Mapping[str, str]]] = {
    "format": {
        **dict.fromkeys(("none", "no", "false", "null", "disabled"), "is not a path, expected off"),
        **dict.fromkeys(
            ("debug", "info", "notice", "warn", "error", "crit"),
            "is a level of error_log and not a path, expected stderr or the path of a file",
        ),
        "syslog": _NO_SERVER,
        **dict.fromkeys(
            ("journal", "journald"), "is not a path, expected stderr, which journald has"
        ),
    },
    "level": {
        **dict.fromkeys(
            ("none", "no", "false", "null", "disabled", "off"), "is not a path, expected /dev/null"
        ),
        "syslog": _NO_SERVER,
        **dict.fromkeys(
            ("journal", "journald"), "is not a path, expected stderr, which journald has"
        ),
    },
}

# Words after an address in `listen`.
LISTEN_WORDS: Final[Mapping[str, str]] = {
    "accept-proxy": ACCEPT_PROXY,
    "backlog": "expected backlog: {value}",
    "bind": "nginy binds each address separately",
    "default_server": "proxy_pass serves clients that no route matches",
    "freebind": "expected freebind: on",
    "http2": NO_HTTP,
    "ipv6only": "an IPv6 listener takes IPv6 clients only",
    "name": "expected name: {value}",
    "proxy_protocol": ACCEPT_PROXY,
    "quic": "expected protocol: udp",
    "reuseport": "nginy sets it itself when there are several workers",
    "so_keepalive": "expected so_keepalive: {value}",
    "ssl": TERMINATES,
    "tcp": "expected protocol: tcp",
    "tls": TERMINATES,
    "transparent": "expected freebind: on",
    "udp": "expected protocol: udp",
}

# Words after a backend's address: the key of a backend, and its value if the word has none.
BACKEND_WORDS: Final[Mapping[str, tuple[str, str]]] = {
    "backup": ("backup", "on"),
    "disabled": ("down", "on"),
    "down": ("down", "on"),
    "fail_timeout": ("fail_timeout", "10s"),
    "max_conns": ("max_conns", "100"),
    "max_fails": ("max_fails", "1"),
    "maxconn": ("max_conns", "100"),
    "resolve": ("resolve", "on"),
    "service": ("service", "http"),
    "slow_start": ("slow_start", "30s"),
    "slowstart": ("slow_start", "30s"),
    "weight": ("weight", "1"),
}
BACKEND_WORDS_ABSENT: Final[Mapping[str, str]] = {
    "send-proxy": "expected {address: ..., proxy_protocol: v1}",
    "send-proxy-v2": "expected {address: ..., proxy_protocol: v2}",
    "check": "expected health_check in the upstream",
    "fall": "expected health_check: {fails: 3} in the upstream",
    "inter": "expected health_check: {interval: 5s} in the upstream",
    "port": "expected health_check: {port: 80} in the upstream",
    "rise": "expected health_check: {passes: 2} in the upstream",
    "source": "expected proxy_bind in the listener",
    "ssl": SPEAKS,
    "udp": "expected protocol: udp in the listener",
}

PORTS_OF_SCHEMES: Final[Mapping[str, int]] = {"http": 80, "https": 443}
