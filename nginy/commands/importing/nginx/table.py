"""Every directive that may stand in nginx.conf outside `http` and `mail`, and what it becomes.

A row with a fate of CLOSE or LEFT_OUT is the whole verdict. A row without one becomes `key`, by the
code of this package, or nothing if `key` is "": then nginy does by itself what the directive asks
for. `text` says why a directive becomes nothing, or what that means for clients.

Sources: nginx's documentation (the modules ngx_core_module and ngx_stream_*_module, open source and
commercial) and its code, version 1.31; ngx_stream_geoip2_module and ngx_stream_js_module, which are
modules of their own.

A test has a case for each row.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from nginy.commands.importing.report import Fate

CLOSE: Final = Fate.CLOSE
LEFT_OUT: Final = Fate.LEFT_OUT

MAIN: Final = "main"
EVENTS: Final = "events"
STREAM: Final = "stream"
SERVER: Final = "server"
UPSTREAM: Final = "upstream"
BOTH: Final = (STREAM, SERVER)


@dataclass(frozen=True, slots=True)
class Row:
    """One directive."""

    contexts: tuple[str, ...]
    key: str = ""
    """The key of nginy that it becomes, at the top or in a listener; "" if none."""
    text: str = ""
    fate: Fate = Fate.EXACT
    """Its fate in any case; EXACT leaves the verdict to the code."""


def _same(text: str, *contexts: str) -> Row:
    """Return the row of a directive that asks for what nginy does anyway."""
    return Row(contexts or BOTH, text=text)


def _left_out(text: str, *contexts: str) -> Row:
    return Row(contexts or BOTH, text=text, fate=LEFT_OUT)


def _to(key: str, *contexts: str) -> Row:
    return Row(contexts or BOTH, key)


TUNING: Final = "it only tunes nginx"
NO_PIN: Final = "the system places nginy's processes; clients notice nothing"
NO_SCRIPT: Final = "nginy runs no scripts, so the effect of this one is missing"
NO_CRL: Final = "nginy checks no revocation, so certificates that were revoked are accepted"
NO_SYNC: Final = "nginy's nodes share no state, so each of them counts for itself"
NO_STAPLE: Final = (
    "nginy staples no OCSP answer, so clients ask the authority themselves or do without"
)
NO_GEOIP: Final = "nginy reads no GeoIP database, so what depends on it is left out"
NO_MQTT: Final = "nginy does not read MQTT, so sessions pass as they are"
NO_CONF: Final = "nginy hands OpenSSL no commands, so its own settings apply"
NO_CACHE: Final = "nginy keeps certificates in memory and reads them again at a reload"
NO_RESUME: Final = "nginy always resumes sessions with backends where it can"
NO_BUFFERS: Final = "the system sizes socket buffers by itself"

CORE: Final[Mapping[str, Row]] = {
    "accept_mutex": _same("nginy has no mutex around accept", EVENTS),
    "accept_mutex_delay": _same("nginy has no mutex around accept", EVENTS),
    "daemon": Row((MAIN,)),
    "debug_connection": _left_out("error_log has one level for all clients", EVENTS),
    "debug_points": _left_out("it is for debugging nginx", MAIN),
    "devpoll_changes": _same(TUNING, EVENTS),
    "devpoll_events": _same(TUNING, EVENTS),
    "env": _left_out("nginy hands its environment only to its checks", MAIN),
    "epoll_events": _same(TUNING, EVENTS),
    "error_log": _to("error_log", MAIN, STREAM, SERVER),
    "events": Row((MAIN,)),
    "google_perftools_profiles": _left_out("it is for debugging nginx", MAIN),
    "http": Row((MAIN,)),
    "include": Row((MAIN, EVENTS, STREAM, SERVER, UPSTREAM)),
    "kqueue_changes": _same(TUNING, EVENTS),
    "kqueue_events": _same(TUNING, EVENTS),
    "load_module": Row((MAIN,)),
    "lock_file": _same("nginy has no lock", MAIN),
    "mail": Row((MAIN,)),
    "master_process": Row((MAIN,)),
    "mgmt": _left_out("it is nginx's own licence and reporting", MAIN),
    "multi_accept": _same("nginy accepts several clients a turn", EVENTS),
    "pcre_jit": _same(TUNING, MAIN),
    "pid": _to("pid", MAIN),
    "poll_events": _same(TUNING, EVENTS),
    "ssl_engine": _left_out("nginy uses OpenSSL as it is", MAIN),
    "ssl_object_cache_inheritable": _same("it only speeds up nginx's reload", MAIN),
    "stall_threshold": _left_out("the metric nginy_loop_lag_seconds shows a stuck loop", MAIN),
    "stream": Row((MAIN,)),
    "thread_pool": _same("nginy needs no threads", MAIN),
    "timer_resolution": _same("nginy reads the clock once a turn", MAIN),
    "use": _to("event_method", EVENTS),
    "user": _to("user", MAIN),
    "worker_aio_requests": _same(TUNING, EVENTS),
    "worker_connections": _to("worker_connections", EVENTS),
    "worker_cpu_affinity": _left_out(NO_PIN, MAIN),
    "worker_priority": _left_out(NO_PIN, MAIN),
    "worker_processes": _to("workers", MAIN),
    "worker_rlimit_core": _left_out("a service manager limits core files", MAIN),
    "worker_rlimit_nofile": _same("nginy raises the limit as worker_connections needs it", MAIN),
    "worker_shutdown_timeout": _to("worker_shutdown_timeout", MAIN),
    "working_directory": _left_out("nginy writes no core files of its own", MAIN),
}
"""Directives of main and of `events`."""

_CORE_OF_STREAM: Final[Mapping[str, Row]] = {
    "listen": _to("listen", SERVER),
    "preread_buffer_size": _to("preread"),
    "preread_timeout": _to("preread"),
    "proxy_protocol_timeout": _to("accept_proxy_protocol"),
    "resolver": _to("resolver", STREAM, SERVER),
    "resolver_timeout": _to("resolver", STREAM, SERVER),
    "server": Row((STREAM,)),
    "server_name": _to("routes", SERVER),
    "server_names_hash_bucket_size": _same(TUNING, STREAM),
    "server_names_hash_max_size": _same(TUNING, STREAM),
    "status_zone": _same("nginy counts by listener", SERVER),
    "tcp_nodelay": _to("tcp_nodelay"),
    "upstream": Row((STREAM,)),
    "variables_hash_bucket_size": _same(TUNING, STREAM),
    "variables_hash_max_size": _same(TUNING, STREAM),
}
_PROXY: Final[Mapping[str, Row]] = {
    "proxy_bind": _to("proxy_bind"),
    "proxy_bind_dynamic": _left_out("nginy computes proxy_bind once a session"),
    "proxy_buffer_size": _to("proxy_buffer_size"),
    "proxy_connect_timeout": _to("proxy_connect_timeout"),
    "proxy_download_rate": _to("proxy_download_rate"),
    "proxy_downstream_buffer": _to("proxy_buffer_size"),
    "proxy_half_close": _to("proxy_half_close"),
    "proxy_next_upstream": _to("proxy_next_upstream"),
    "proxy_next_upstream_timeout": _to("proxy_next_upstream"),
    "proxy_next_upstream_tries": _to("proxy_next_upstream"),
    "proxy_pass": _to("proxy_pass", SERVER),
    "proxy_protocol": _to("proxy_protocol"),
    "proxy_requests": _to("proxy_requests"),
    "proxy_responses": _to("proxy_responses"),
    "proxy_session_drop": Row(BOTH),
    "proxy_socket_keepalive": _to("proxy_socket_keepalive"),
    "proxy_socket_rcvbuf": _left_out(NO_BUFFERS),
    "proxy_socket_sndbuf": _left_out(NO_BUFFERS),
    "proxy_ssl": _to("proxy_tls"),
    "proxy_ssl_alpn": _to("proxy_tls"),
    "proxy_ssl_certificate": _to("proxy_tls"),
    "proxy_ssl_certificate_cache": _same(NO_CACHE),
    "proxy_ssl_certificate_key": _to("proxy_tls"),
    "proxy_ssl_ciphers": _to("proxy_tls"),
    "proxy_ssl_conf_command": _left_out(NO_CONF),
    "proxy_ssl_crl": _left_out(NO_CRL),
    "proxy_ssl_key_log": _left_out("nginy writes keys of its clients' side only (tls: key_log)"),
    "proxy_ssl_name": _to("proxy_tls"),
    "proxy_ssl_password_file": _to("proxy_tls"),
    "proxy_ssl_protocols": _to("proxy_tls"),
    "proxy_ssl_server_name": _to("proxy_tls"),
    "proxy_ssl_session_reuse": Row(BOTH),
    "proxy_ssl_trusted_certificate": _to("proxy_tls"),
    "proxy_ssl_verify": _to("proxy_tls"),
    "proxy_ssl_verify_depth": Row(
        BOTH, "", "nginy accepts chains of any length from a backend", CLOSE
    ),
    "proxy_timeout": _to("proxy_timeout"),
    "proxy_upload_rate": _to("proxy_upload_rate"),
    "proxy_upstream_buffer": _to("proxy_buffer_size"),
}
_SSL: Final[Mapping[str, Row]] = {
    "ssl": _to("tls", STREAM, SERVER),
    "ssl_alpn": _to("tls"),
    "ssl_certificate": _to("tls"),
    "ssl_certificate_cache": _same(NO_CACHE),
    "ssl_certificate_compression": _left_out(
        "nginy does not compress certificates; handshakes are a little longer"
    ),
    "ssl_certificate_key": _to("tls"),
    "ssl_ciphers": _to("tls"),
    "ssl_client_certificate": _to("tls"),
    "ssl_conf_command": _left_out(NO_CONF),
    "ssl_crl": _left_out(NO_CRL),
    "ssl_dhparam": _left_out("nginy offers no DHE ciphers; clients use ECDHE instead"),
    "ssl_ecdh_curve": _left_out("OpenSSL chooses the curve, in its own order"),
    "ssl_ech_file": _left_out("nginy speaks no ECH; clients send their names in the clear"),
    "ssl_handshake_timeout": _to("tls"),
    "ssl_key_log": _to("tls"),
    "ssl_ocsp": _left_out(NO_CRL),
    "ssl_ocsp_cache": _same("nginy asks no OCSP responder"),
    "ssl_ocsp_responder": _left_out(NO_CRL),
    "ssl_password_file": _to("tls"),
    "ssl_prefer_server_ciphers": Row(BOTH),
    "ssl_preread": Row(BOTH),
    "ssl_protocols": _to("tls"),
    "ssl_reject_handshake": Row(BOTH, "tls"),
    "ssl_session_cache": Row(BOTH),
    "ssl_session_ticket_key": _left_out(
        "each start makes its own keys, so clients of other nodes or workers shake hands in full"
    ),
    "ssl_session_tickets": _to("tls"),
    "ssl_session_timeout": Row(BOTH),
    "ssl_stapling": Row(BOTH),
    "ssl_stapling_file": _left_out(NO_STAPLE),
    "ssl_stapling_responder": _left_out(NO_STAPLE),
    "ssl_stapling_verify": _same("nginy staples no OCSP answer, so there is none to verify"),
    "ssl_trusted_certificate": Row(BOTH, "tls"),
    "ssl_verify_client": _to("tls"),
    "ssl_verify_depth": Row(BOTH, "", "nginy accepts chains of any length from a client", CLOSE),
}
_OTHERS: Final[Mapping[str, Row]] = {
    "access_log": _to("access_log"),
    "allow": _to("access"),
    "deny": _to("access"),
    "geo": Row((STREAM,)),
    "geoip2": _left_out(NO_GEOIP, STREAM),
    "geoip2_proxy": _left_out(NO_GEOIP, STREAM),
    "geoip_city": _left_out(NO_GEOIP, STREAM),
    "geoip_country": _left_out(NO_GEOIP, STREAM),
    "geoip_org": _left_out(NO_GEOIP, STREAM),
    "health_check": Row((SERVER,)),
    "health_check_timeout": Row(BOTH),
    "keyval": _left_out("nginy has no key-value store; what depends on it is left out", STREAM),
    "keyval_zone": _left_out(
        "nginy has no key-value store; what depends on it is left out", STREAM
    ),
    "limit_conn": _to("limit_conn"),
    "limit_conn_dry_run": _to("limit_conn"),
    "limit_conn_log_level": _to("limit_conn"),
    "limit_conn_zone": Row((STREAM,)),
    "log_format": _to("log_formats", STREAM),
    "map": Row((STREAM,)),
    "map_hash_bucket_size": _same(TUNING, STREAM),
    "map_hash_max_size": _same(TUNING, STREAM),
    "match": Row((STREAM,)),
    "mqtt": _left_out(NO_MQTT),
    "mqtt_buffers": _left_out(NO_MQTT),
    "mqtt_preread": _left_out("nginy does not read MQTT; what depends on it is left out"),
    "mqtt_rewrite_buffer_size": _left_out(NO_MQTT),
    "mqtt_set_connect": _left_out(NO_MQTT, SERVER),
    "num_map": _left_out("nginy compares no numbers; what depends on it is left out", STREAM),
    "open_log_file_cache": _same("nginy keeps its log files open"),
    "pass": Row((SERVER,)),
    "return": _to("return", SERVER),
    "set": Row((SERVER,)),
    "set_real_ip_from": _to("accept_proxy_protocol"),
    "split_clients": Row((STREAM,)),
}
_SYNC: Final = (
    "buffers connect_retry_interval connect_timeout interval recv_buffer_size server ssl"
    " ssl_certificate ssl_certificate_key ssl_ciphers ssl_conf_command ssl_crl ssl_name"
    " ssl_password_file ssl_protocols ssl_server_name ssl_trusted_certificate ssl_verify"
    " ssl_verify_depth timeout"
)
_NJS: Final = (
    "access context_reuse engine fetch_buffer_size fetch_ciphers fetch_keepalive"
    " fetch_keepalive_requests fetch_keepalive_time fetch_keepalive_timeout"
    " fetch_max_response_buffer_size fetch_protocols fetch_proxy fetch_timeout"
    " fetch_trusted_certificate fetch_verify fetch_verify_depth filter import include"
    " load_stream_native_module path periodic preload_object preread set shared_dict_zone var"
)
STREAMS: Final[Mapping[str, Row]] = {
    **_CORE_OF_STREAM,
    **_PROXY,
    **_SSL,
    **_OTHERS,
    **{f"js_{name}": _left_out(NO_SCRIPT) for name in _NJS.split()},
    "zone_sync": _left_out(NO_SYNC, SERVER),
    **{f"zone_sync_{name}": _left_out(NO_SYNC) for name in _SYNC.split()},
}
"""Directives of `stream` and of `server`."""

UPSTREAMS: Final[Mapping[str, Row]] = {
    "hash": _to("balance", UPSTREAM),
    "least_conn": _to("balance", UPSTREAM),
    "least_time": _to("balance", UPSTREAM),
    "random": _to("balance", UPSTREAM),
    "resolver": _to("resolver", UPSTREAM),
    "resolver_timeout": _to("resolver", UPSTREAM),
    "server": _to("backends", UPSTREAM),
    "state": _left_out("the servers in this file are not read; list them under backends", UPSTREAM),
    "zone": _same("nginy's workers share counts without it", UPSTREAM),
}
"""Directives of `upstream`."""
