"""The table of the sections that are not proxies: global, resolvers, and those left out whole.

The rest is as in table.py. A keyword of `global` that is not here tunes HAProxy itself.

Source: HAProxy's configuration manual 3.5, 3 "Global section", 5.3.2 "The resolvers section".

Tested in tests/commands/importing/haproxy/test_table.py.
"""

from collections.abc import Mapping
from typing import Final

from nginy.commands.importing.haproxy.table import (
    HTTP,
    OWN_PAGE,
    OWN_STATE,
    UNNOTICED,
    Row,
    close,
    key,
    none,
    same,
)

TUNES: Final = f"tunes HAProxy itself; {UNNOTICED}"
MODULES: Final = f"nginy has no such modules; {UNNOTICED}"
TLS_DEFAULTS: Final = "each tls and proxy_tls has settings of its own"

GLOBAL: Final[Mapping[str, Row]] = {
    "ca-base": key("the directory of certificates"),
    "chroot": none(f"nginy needs its files for reloads, and stays in its root; {UNNOTICED}"),
    "crt-base": key("the directory of certificates"),
    "daemon": none(f"nginy stays in the foreground, for a service manager; {UNNOTICED}"),
    "default-path": close("paths are relative to the directory of this file"),
    "external-check": key("health_check: {type: exec} needs no permission"),
    "gid": none("nginy takes the group of its user"),
    "grace": none("expected shutdown_grace"),
    "group": close("nginy takes the group of its user"),
    "hard-stop-after": key("worker_shutdown_timeout"),
    "insecure-fork-wanted": same("checks may run programs"),
    "key-base": none("is for crt-store, and nginy has its certificates in tls"),
    "localpeer": none("nginy has no peers"),
    "log": close("access_log"),
    "log-send-hostname": none(f"a line in syslog has the name of this host; {UNNOTICED}"),
    "log-tag": none("lines in syslog have the tag nginy"),
    "lua-load": none("nginy runs no Lua, so the effect of this script is missing"),
    "lua-load-per-thread": none("nginy runs no Lua, so the effect of this script is missing"),
    "lua-prepend-path": none("nginy runs no Lua"),
    "master-worker": none(f"nginy is one program, which reloads by itself; {UNNOTICED}"),
    "max-spread-checks": none(f"first checks are spread over one interval; {UNNOTICED}"),
    "maxconn": close("worker_connections"),
    "maxconnrate": none("nginy accepts as fast as it can"),
    "maxsessrate": none("nginy begins sessions as fast as it can"),
    "maxsslconn": none("TLS sessions have no limit of their own"),
    "maxsslrate": none("handshakes are spread over turns of the loop, with no limit"),
    "nbproc": close("workers"),
    "nbthread": close("workers"),
    "node": none(f"nginy uses the name of this host; {UNNOTICED}"),
    "noepoll": key("event_method: poll"),
    "nopoll": key("event_method"),
    "noreuseport": none(f"nginy shares its ports between workers only; {UNNOTICED}"),
    "nosplice": none(f"nginy splices long transfers (proxy_splice); {UNNOTICED}"),
    "pidfile": key("pid"),
    "pp2-never-send-local": none("checks of backends with proxy_protocol: v2 send LOCAL"),
    "presetenv": none("nginy uses its environment unchanged; set the variable there"),
    "resetenv": none("nginy uses its environment unchanged; set the variable there"),
    "server-state-base": none(OWN_STATE),
    "server-state-file": none(OWN_STATE),
    "set-var": none("nginy has no variables of the process"),
    "setenv": none("nginy uses its environment unchanged; set the variable there"),
    "spread-checks": key("health_check: {jitter: ...}"),
    "ssl-default-bind-ciphers": key("tls: {ciphers: ...}"),
    "ssl-default-bind-ciphersuites": none("OpenSSL's ciphers for TLS 1.3 apply"),
    "ssl-default-bind-client-sigalgs": none("OpenSSL's settings apply"),
    "ssl-default-bind-curves": none("OpenSSL's curves apply"),
    "ssl-default-bind-options": key("tls"),
    "ssl-default-bind-sigalgs": none("OpenSSL's settings apply"),
    "ssl-default-server-ciphers": key("proxy_tls: {ciphers: ...}"),
    "ssl-default-server-ciphersuites": none("OpenSSL's ciphers for TLS 1.3 apply"),
    "ssl-default-server-client-sigalgs": none("OpenSSL's settings apply"),
    "ssl-default-server-curves": none("OpenSSL's curves apply"),
    "ssl-default-server-options": key("proxy_tls"),
    "ssl-default-server-sigalgs": none("OpenSSL's settings apply"),
    "ssl-dh-param-file": none("OpenSSL's parameters apply"),
    "ssl-server-verify": key("proxy_tls: {verify: ...}"),
    "stats": none(OWN_PAGE),
    "uid": none("expected user, by name"),
    "ulimit-n": none(f"nginy raises the limit itself; {UNNOTICED}"),
    "unix-bind": none("a unix socket belongs to nginy's user"),
    "unsetenv": none("nginy uses its environment unchanged; set the variable there"),
    "user": key("user"),
    **dict.fromkeys(
        ("h1-case-adjust", "h1-case-adjust-file", "h2-workaround-bogus-websocket-clients"),
        none(HTTP),
    ),
    **dict.fromkeys(
        ("51degrees-data-file", "deviceatlas-json-file", "wurfl-data-file"), none(MODULES)
    ),
}

RESOLVERS: Final[Mapping[str, Row]] = {
    "accepted_payload_size": none("nginy asks again over TCP when an answer is cut"),
    "hold": key("resolver: {hold: ..., valid: ...}"),
    "nameserver": key("resolver: {nameservers: ...}"),
    "parse-resolv-conf": key("resolver: auto"),
    "resolve_retries": close("a lookup has one timeout, retries included"),
    "timeout": close("resolver: {timeout: ...}"),
}

SECTIONS: Final[Mapping[str, str]] = {
    "acme": "nginy gets no certificates by itself; have an ACME client renew the files",
    "cache": HTTP,
    "crt-store": "nginy has its certificates in tls",
    "dynamic-update": "nginy has no such section",
    "fcgi-app": HTTP,
    "http-errors": HTTP,
    "log-forward": "nginy forwards no logs; a UDP listener can pass syslog on",
    "log-profile": "log_formats define the lines",
    "mailers": "nginy sends no mail; its metrics and its log report a backend that goes down",
    "peers": "nginy has no stick tables to share; hashing gives every node the same choice",
    "program": "a service manager starts programs",
    "ring": "nginy has no ring buffers",
    "traces": TUNES,
    "userlist": HTTP,
}
"""Sections without a counterpart, and why."""
