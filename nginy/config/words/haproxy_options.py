"""HAProxy's options, which a key `option tcplog` has, and nginy's keys of the same meaning.

foreign.py has the other words of HAProxy, and http.py those of HTTP.

Source: HAProxy's configuration manual 3.0, 4.2 "Alphabetically sorted keywords reference", all that
begins with "option".

Tested in tests/config/words/test_hints.py.
"""

from collections.abc import Mapping
from typing import Final

from nginy.config.words.foreign import NO_HTTP

BY_ITSELF: Final = "nginy does so by itself"

OPTIONS: Final[Mapping[str, str]] = {
    "abortonclose": BY_ITSELF,
    "clitcpka": "expected so_keepalive: on",
    "dontlognull": "expected access_log: {path: stderr, empty: off}",
    "dontlog-normal": "expected if in access_log",
    "external-check": "expected health_check: {type: exec, command: ...} in the upstream",
    "httpchk": "expected health_check: {type: http, path: /} in the upstream",
    "ldap-check": "expected health_check: ldap in the upstream",
    "log-health-checks": BY_ITSELF,
    "mysql-check": "expected health_check: {type: mysql, user: ...} in the upstream",
    "pgsql-check": "expected health_check: {type: postgres, user: ...} in the upstream",
    "redis-check": "expected health_check: redis in the upstream",
    "redispatch": "expected proxy_next_upstream: {tries: 3} in a listener",
    "smtpchk": "expected health_check: smtp in the upstream",
    "splice-auto": "expected proxy_splice: on",
    "splice-request": "expected proxy_splice: on",
    "splice-response": "expected proxy_splice: on",
    "srvtcpka": "expected proxy_socket_keepalive: on",
    "ssl-hello-chk": "expected health_check: tls in the upstream",
    "tcp-check": "expected health_check: tcp in the upstream",
    "tcp-smart-accept": BY_ITSELF,
    "tcp-smart-connect": BY_ITSELF,
    "tcpka": "expected so_keepalive: on",
    "tcplog": "expected access_log: stderr",
    "transparent": "expected proxy_bind: {address: $remote_addr, transparent: on}",
    **dict.fromkeys(("forwardfor", "httplog", "http-server-close", "http-keep-alive"), NO_HTTP),
    **dict.fromkeys(("forwarded", "httpclose", "http-buffer-request"), NO_HTTP),
}
