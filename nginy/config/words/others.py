"""Words of Traefik, Envoy, Caddy and Kubernetes, and nginx's directives for TLS.

As in foreign.py, which has the words of nginx's and HAProxy's other parts: RENAMED maps a word to
nginy's key of the same meaning, ABSENT has advice, both by record. The words are in the spelling of
hints.py: loadBalancer is load_balancer here.

Sources: Traefik's reference of the file provider, Envoy's config.listener.v3 and
config.cluster.v3, Caddy's layer4 app, nginx's ngx_stream_ssl_module and
ngx_stream_proxy_module.

Tested in tests/config/words/test_hints.py.
"""

from collections.abc import Mapping
from typing import Final

from nginy.config.words.foreign import (
    BACKEND,
    CONFIGURATION,
    HEALTH_CHECK,
    IN_ACCESS,
    IN_ROUTES,
    LISTENER,
    SOURCE_HASH,
    SPEAKS,
    TERMINATES,
    UPSTREAM,
)

WHOLE: Final = "expected listeners: [{listen: 0.0.0.0:80, proxy_pass: web}], upstreams: {web: ...}"
OF_TRAEFIK: Final = f"this is a key of Traefik, {WHOLE}"
OF_ENVOY: Final = f"this is a key of Envoy, {WHOLE}"
OF_CADDY: Final = f"this is a key of Caddy, {WHOLE}"
OF_KUBERNETES: Final = f"this is a key of Kubernetes, {WHOLE}"

WHOLE_FILES: Final = frozenset(
    (
        *(
            "http",
            "stream",
            "tcp",
            "udp",
            "services",
            "routers",
            "entry_points",
            "static_resources",
        ),
        *("apps", "layer4", "api_version", "kind", "spec"),
    )
)
"""Keys at the top of other programs' files that hold listeners, or stand beside them."""

SECTIONS: Final[Mapping[str, str]] = {
    **dict.fromkeys(("backend", "cluster", "upstream"), "upstreams"),
    **dict.fromkeys(("frontend", "listen", "server"), "listeners"),
}
"""The first words of sections with a name after it, and the key that has such sections."""

_OUTLIERS: Final = "expected eject: on in the upstream, or max_fails in a backend"
_FULL: Final = "expected max_conns in a backend, and queue in the upstream"
_STICKY: Final = f"expected balance: {SOURCE_HASH}"
_STICKIES: Final = ("affinity", "persistence", "session_affinity", "session_persistence", "sticky")

RENAMED: Final[Mapping[str, Mapping[str, str]]] = {
    CONFIGURATION: {"clusters": "upstreams"},
    LISTENER: {
        "cluster": "proxy_pass",
        "entry_points": "listen",
        "forward_to": "proxy_pass",
        "pool": "proxy_pass",
        "reverse_proxy": "proxy_pass",
        "service": "proxy_pass",
        "upstreams": "proxy_pass",
    },
    UPSTREAM: {
        "addresses": "backends",
        "health_checks": "health_check",
        "hosts": "backends",
        "instances": "backends",
        "lb": "balance",
        "load_balancer": "balance",
        "load_balancing": "balance",
        "load_balancing_policy": "balance",
        "loadbalancer": "balance",
        "loadbalancing": "balance",
        "peers": "backends",
        "strategy": "balance",
    },
    BACKEND: {"target": "address", "dial": "address"},
    "tls": {
        "ca": "client_ca",
        "ca_file": "client_ca",
        "cert": "certificate",
        "cert_file": "certificate",
        "certfile": "certificate",
        "certificate_file": "certificate",
        "cipher_suites": "ciphers",
        "client_auth": "verify_client",
        "client_ca_file": "client_ca",
        "crt": "certificate",
        "fullchain": "certificate",
        "key_file": "key",
        "keyfile": "key",
        "private_key": "key",
        "ssl_certificate": "certificate",
        "ssl_certificate_key": "key",
        "ssl_ciphers": "ciphers",
        "ssl_protocols": "protocols",
        "versions": "protocols",
    },
    "proxy_tls": {
        "ca_file": "ca",
        "cert": "certificate",
        "key_file": "key",
        "server_name": "name",
        "trusted_certificate": "ca",
    },
}

_VERSIONS: Final = "expected protocols: [TLSv1.2, TLSv1.3]"

ABSENT: Final[Mapping[str, Mapping[str, str]]] = {
    CONFIGURATION: {
        **dict.fromkeys(
            ("entry_points", "providers", "routers", "services", "tcp", "udp"), OF_TRAEFIK
        ),
        **dict.fromkeys(("dynamic_resources", "static_resources"), OF_ENVOY),
        **dict.fromkeys(("apps", "layer4"), OF_CADDY),
        **dict.fromkeys(("api_version", "kind", "metadata", "spec"), OF_KUBERNETES),
    },
    LISTENER: {
        **dict.fromkeys(
            (
                *("allowlist", "allow_list", "blacklist", "block_list", "blocklist", "deny_list"),
                *("denylist", "ip_allow_list", "ip_white_list", "remote_ip", "source_range"),
                *("white_list", "whitelist"),
            ),
            IN_ACCESS,
        ),
        **dict.fromkeys(("filter_chains", "filters", "handle", "match", "rule"), IN_ROUTES),
        **dict.fromkeys(("circuit_breaker", "circuit_breakers"), _FULL),
        **dict.fromkeys(_STICKIES, f"{_STICKY} in the upstream"),
        "log_format": "expected access_log: {path: stderr, format: NAME}, and log_formats at the"
        " top of the file",
        "outlier_detection": _OUTLIERS,
        "retries": "expected proxy_next_upstream: {tries: 3}",
        "tls_passthrough": "nginy passes TLS through unless there is tls",
    },
    UPSTREAM: {
        **dict.fromkeys(("circuit_breaker", "circuit_breakers"), _FULL),
        **dict.fromkeys(_STICKIES, _STICKY),
        "connect_timeout": "expected proxy_connect_timeout in a listener",
        "outlier_detection": "expected eject: on, or max_fails in a backend",
        "passive_health_check": "expected eject: on, or max_fails in a backend",
        "timeout": "expected proxy_timeout in a listener",
    },
    HEALTH_CHECK: {
        "scheme": "expected type: http or type: https",
    },
    "tls": dict.fromkeys(
        ("max_version", "min_version", "tls_max_version", "tls_min_version"), _VERSIONS
    ),
    "proxy_tls": dict.fromkeys(
        ("insecure", "insecure_skip_verify", "skip_verify"), "expected verify: off"
    ),
}

# nginx's directives, whose names begin alike, and the keys below `tls` and `proxy_tls`.
TLS_DIRECTIVES: Final[Mapping[str, str]] = {
    "ssl_alpn": "expected tls: {alpn: [h2, http/1.1]}",
    "ssl_ciphers": "expected tls: {ciphers: ...}",
    "ssl_client_certificate": "expected tls: {client_ca: ca.pem, verify_client: required}",
    "ssl_handshake_timeout": "expected tls: {handshake_timeout: 60s}",
    "ssl_password_file": "expected tls: {password_file: keys.pass}",
    "ssl_protocols": "expected tls: {protocols: [TLSv1.2, TLSv1.3]}",
    "ssl_session_tickets": "expected tls: {session_tickets: off}",
    "ssl_verify_client": "expected tls: {client_ca: ca.pem, verify_client: required}",
    "proxy_ssl_certificate": "expected proxy_tls: {certificate: client.pem, key: client.key}",
    "proxy_ssl_certificate_key": "expected proxy_tls: {certificate: client.pem, key: client.key}",
    "proxy_ssl_ciphers": "expected proxy_tls: {ciphers: ...}",
    "proxy_ssl_name": "expected proxy_tls: {name: www.example.com}",
    "proxy_ssl_protocols": "expected proxy_tls: {protocols: [TLSv1.2, TLSv1.3]}",
    "proxy_ssl_server_name": "nginy sends the name unless there is proxy_tls: {sni: off}",
    "proxy_ssl_trusted_certificate": "expected proxy_tls: {ca: ca.pem}",
    "proxy_ssl_verify": "nginy verifies unless there is proxy_tls: {verify: off}",
}
TLS_PREFIXES: Final = (("proxy_ssl_", SPEAKS), ("ssl_", TERMINATES))
