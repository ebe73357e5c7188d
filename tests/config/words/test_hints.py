"""Words of nginx, HAProxy and shells: each message says what to write instead."""

import pathlib

import pytest
from nginy.config.record import records_of
from nginy.config.schema import CONFIG
from nginy.config.words import others
from nginy.config.words.foreign import ABSENT, CONFIGURATION, NO_HTTP, RENAMED, UPSTREAM, VALUES
from nginy.config.words.foreign import LISTENER as LISTENER_
from nginy.config.words.http import HTTP_WORDS
from nginy.config.words.others import WHOLE

from kit.configs import LISTENER, refusals


def in_listener(key: str) -> str:
    return f"listeners:\n  - listen: 127.0.0.1:80\n    return: hello\n    {key}\n"


def listening_and(key: str) -> str:
    return f"listeners: [{{listen: 127.0.0.1:80, {key}}}]\n"


def in_upstream(key: str) -> str:
    return f"{LISTENER}upstreams:\n  web:\n    backends: [127.0.0.1:9001]\n    {key}\n"


def in_backend(key: str) -> str:
    backend = f"      - address: 127.0.0.1:9001\n        {key}\n"
    return f"{LISTENER}upstreams:\n  web:\n    backends:\n{backend}"


def backend(text: str) -> str:
    return f"{LISTENER}upstreams: {{web: {{backends: ['{text}']}}}}\n"


def listening(text: str) -> str:
    return f"listeners: {{listen: '{text}', return: hello}}\n"


def balance(text: str) -> str:
    return in_upstream(f"balance: {text}")


KEYS = [
    ("worker_processes: 2\n" + LISTENER, '(did you mean "workers"?)'),
    (LISTENER + "http: {}\n", "nginy balances TCP and UDP and does not read HTTP"),
    (LISTENER + "stream: {}\n", "its keys belong at the top of the file"),
    (in_listener("bind: 127.0.0.1:81"), '(did you mean "listen"?)'),
    ("limit_conn_zone: addr\n" + LISTENER, "{key: $remote_addr, max: 10} in a listener"),
    (in_listener("accept-proxy: on"), "{from: 10.0.0.0/8}, the proxies in front"),
    (in_listener("deny: all"), "expected access: [{allow: 10.0.0.0/8}, {deny: all}]"),
    (in_listener("proxy_ssl: on"), "expected proxy_tls: on in a listener"),
    (in_listener("ssl_certificate: a.pem"), "expected tls: {certificate: site.pem, key: site.key}"),
    (in_listener("max_conns: 100"), "it belongs in a backend"),
    (in_listener("backends: 127.0.0.1:1"), "it belongs in an upstream"),
    (in_listener("workers: 2"), "it belongs at the top of the file"),
    (listening_and("server: 127.0.0.1:1"), '(did you mean "proxy_pass"?)'),
    (listening_and("to: 127.0.0.1:1"), '(did you mean "proxy_pass"?)'),
    (in_listener("servers: 127.0.0.1:1"), "{backends: [...]}} at the top, and proxy_pass: web"),
    (in_upstream("servers: 127.0.0.1:1"), '(did you mean "backends"?)'),
    (in_upstream("server: 127.0.0.1:1"), '(did you mean "backends"?)'),
    (in_upstream("check: on"), '(did you mean "health_check"?)'),
    (in_upstream("ip_hash: on"), "expected balance: {hash: $remote_addr, consistent: on}"),
    (in_upstream("least_conn: on"), "expected balance: least_conn"),
    (in_upstream("max_conns: 5"), "it belongs in a backend"),
    (in_upstream("health_check: {rise: 2}"), '(did you mean "passes"?)'),
    (in_upstream("health_check: {fall: 3}"), '(did you mean "fails"?)'),
    (in_upstream("health_check: {type: http, uri: /up}"), '(did you mean "path"?)'),
    (in_upstream("option: tcp-check"), "--help-config lists the keys"),
    (in_upstream("default-server: weight 5"), "the keys beside the address of each backend"),
    (in_upstream("stick-table: type ip"), "balance: {hash: $remote_addr, consistent: on}"),
    (in_upstream("hash-type: consistent"), "balance: {hash: $remote_addr, consistent: on}"),
    (in_upstream("maxconn: 5"), "expected max_conns in a backend"),
    (in_upstream("retries: 3"), "expected proxy_next_upstream: {tries: 3} in a listener"),
    (in_listener("proxy_next_upstream_tries: 3"), "expected proxy_next_upstream: {tries: 3}"),
    (in_listener("maxconn: 5"), "or max_conns of a backend"),
    (in_listener("limit_conn_log_level: info"), "expected log_level in limit_conn"),
    (in_listener("limit_conn_dry_run: on"), "expected dry_run: on in limit_conn"),
    (in_listener("limit_conn_zone: x"), "expected key and zone in limit_conn"),
    (in_listener("proxy_protocol_timeout: 3s"), "expected timeout in accept_proxy_protocol"),
    (in_listener("rate-limit: 5"), "expected limit_conn_rate: {key: $remote_net, rate: 10}"),
    (in_listener("source: 10.0.0.1"), "expected proxy_bind"),
    (in_backend("maxconn: 5"), '(did you mean "max_conns"?)'),
    (in_backend("health_check: on"), "it belongs in an upstream"),
    (in_backend("port: 80"), "a port is part of the address, as in 127.0.0.1:80"),
    (in_listener("client_max_body_size: 1m"), NO_HTTP),
    (in_listener("proxy_set_header: x"), NO_HTTP),
    (in_listener("Gzip: on"), NO_HTTP),
    (in_listener("root: /var/www"), NO_HTTP),
    (in_listener("http-request: deny"), NO_HTTP),
    (in_listener("timeout http-request: 3s"), NO_HTTP),
    (in_upstream("cookie: x"), NO_HTTP),
    (LISTENER + "proxy_cache_path: /x\n", NO_HTTP),
    (in_listener("send_timeout: 3s"), '(did you mean "proxy_timeout"?)'),
    (in_listener("sendfile: on"), "nginy serves no files"),
    (in_listener("option tcplog: on"), "expected access_log: stderr"),
    (in_listener("option httplog: on"), NO_HTTP),
    (in_listener("no option dontlognull: on"), "{path: stderr, empty: off}"),
    (LISTENER + "option redispatch: on\n", "proxy_next_upstream: {tries: 3} in a listener"),
    (in_upstream("option tcp-check: on"), "expected health_check: tcp in the upstream"),
    (in_upstream("option nolinger: on"), "--help-config lists the keys"),
    (in_upstream("tcp-check connect: on"), "steps: [{send: ..., expect: ...}]}"),
    (in_upstream("server s1: 127.0.0.1:1"), '(did you mean "backends"?)'),
    (in_listener("tcp-request connection: reject"), "limit_conn or limit_conn_rate"),
    (in_upstream("health_check: {check: on}"), "health_check itself turns the checks on"),
    (
        in_upstream("health_check: {agent: on}"),
        "the agent's port, in the upstream",
    ),
    # Traefik, Envoy, Caddy, Kubernetes
    (LISTENER + "entryPoints: {}\n", "this is a key of Traefik, " + WHOLE),
    (LISTENER + "tcp: {}\n", "this is a key of Traefik, " + WHOLE),
    (LISTENER + "static_resources: {}\n", "this is a key of Envoy, " + WHOLE),
    (LISTENER + "apps: {}\n", "this is a key of Caddy, " + WHOLE),
    (LISTENER + "apiVersion: v1\n", "this is a key of Kubernetes, " + WHOLE),
    (LISTENER + "upstream web: {}\n", "expected upstreams: {web: {backends: [10.0.0.1:80]}}"),
    (LISTENER + "frontend www: {}\n", "listeners: [{listen: 0.0.0.0:80, proxy_pass: web}]"),
    (listening_and("reverse_proxy: 127.0.0.1:1"), '(did you mean "proxy_pass"?)'),
    (in_listener("filter_chains: []"), "routes: [{sni: www.example.com, proxy_pass: web}]"),
    (in_listener("ipAllowList: 10.0.0.0/8"), "access: [{allow: 10.0.0.0/8}, {deny: all}]"),
    (in_listener("sticky: on"), "{hash: $remote_addr, consistent: on} in the upstream"),
    (in_listener("retries: 3"), "expected proxy_next_upstream: {tries: 3}"),
    (in_listener("log_format: x"), "log_formats at the top of the file"),
    (in_listener("ssl_protocols: TLSv1.3"), "tls: {protocols: [TLSv1.2, TLSv1.3]}"),
    (in_listener("ssl_ecdh_curve: auto"), "expected tls: {certificate: site.pem, key: site.key}"),
    (in_listener("proxy_ssl_verify: off"), "unless there is proxy_tls: {verify: off}"),
    (in_listener("proxy_ssl_crl: x"), "expected proxy_tls: on in a listener"),
    (in_listener("proxy_tls: {insecureSkipVerify: on}"), "expected verify: off"),
    (in_upstream("loadBalancing: random"), '(did you mean "balance"?)'),
    (in_upstream("sessionAffinity: ip"), "balance: {hash: $remote_addr, consistent: on}"),
    (in_upstream("circuitBreakers: {}"), "max_conns in a backend, and queue in the upstream"),
    (in_upstream("outlier_detection: {}"), "expected eject: on, or max_fails in a backend"),
    (in_upstream("health_check: {unhealthyThreshold: 3}"), '(did you mean "fails"?)'),
    ("defaults: {proxy_ssl: on}\n" + LISTENER, "expected proxy_tls: on in a listener"),
    ("defaults: {timeout: 5s}\n" + LISTENER, '(did you mean "proxy_timeout"?)'),
    ("defaults: {weight: 5}\n" + LISTENER, "it belongs in a backend"),
]


@pytest.mark.parametrize(("text", "advice"), KEYS)
def test_a_foreign_key_is_answered(tmp_path: pathlib.Path, text: str, advice: str) -> None:
    (message,) = refusals(tmp_path, text)
    assert "unknown key" in message
    assert message.endswith(advice)


VALUES_WRITTEN = [
    (listening("0.0.0.0:53 udp"), 'has "udp" after the address: expected protocol: udp'),
    (listening("0.0.0.0:443 ssl"), "expected tls: {certificate: site.pem, key: site.key}"),
    (listening("0.0.0.0:80 backlog=5"), "expected backlog: 5"),
    (listening("0.0.0.0:80;"), 'ends in a ";", expected 0.0.0.0:80'),
    (listening("tcp://0.0.0.0:80"), "is a URL, expected 0.0.0.0:80"),
    (listening("udp://0.0.0.0:80"), "is a URL, expected 0.0.0.0:80, and protocol: udp"),
    (backend("10.0.0.1:53 backup"), "expected {address: 10.0.0.1:53, backup: on}"),
    (
        backend("10.0.0.1:53 weight=5 down"),
        "expected {address: 10.0.0.1:53, weight: 5, down: on}",
    ),
    (backend("10.0.0.1:53 weight 5"), "expected {address: 10.0.0.1:53, weight: 5}"),
    (backend("10.0.0.1:53 check"), "expected health_check in the upstream"),
    (backend("10.0.0.1:53 source 10.0.0.9"), "expected proxy_bind in the listener"),
    (backend("http://10.0.0.1"), "is a URL, expected 10.0.0.1:80"),
    (backend("https://web.internal/x"), "is a URL, expected web.internal:443"),
    (backend("10.0.0.1:80, 10.0.0.2:80"), "expected a list: [10.0.0.1:80, 10.0.0.2:80]"),
    (backend("10.0.0.1:80 10.0.0.2:80"), "expected a list: [10.0.0.1:80, 10.0.0.2:80]"),
    (listening("80,443"), "expected a list: [80, 443]"),
    (listening("[::1]:80 *:443"), 'expected a list: ["[::1]:80", "*:443"]'),
    (backend("10.0.0.1:80;"), 'ends in a ";", expected 10.0.0.1:80'),
    (backend("10.0.0.1:$PORT"), "expected 10.0.0.1:${PORT}"),
    (
        "listeners: {listen: 127.0.0.1:80, proxy_pass: 'http://web:80/'}\n",
        "is a URL, expected web:80",
    ),
    (
        "listeners: {listen: 127.0.0.1:80, proxy_pass: 'http://web'}\n",
        "is a URL, expected web for an upstream of that name, or web:80",
    ),
    (
        "listeners: {listen: 127.0.0.1:80, proxy_pass: 'https://web.internal'}\n",
        "is a URL, expected web.internal:443",
    ),
    (balance("ip_hash"), "expected {hash: $remote_addr, consistent: on}"),
    (balance("source"), "expected {hash: $remote_addr, consistent: on}"),
    (balance("hash $remote_addr consistent"), "expected {hash: $remote_addr, consistent: on}"),
    (balance("hash $remote_addr"), "expected {hash: $remote_addr}"),
    (balance("random two"), "expected {random: two}"),
    (balance("roundrobin"), "expected round_robin"),
    (balance("uri"), "does not read HTTP"),
    (
        balance("{hash: $remote_addr consistent}"),
        'has "consistent" after the key, expected $remote_addr, consistent: on in the braces',
    ),
    (
        balance("{hash: $remote_addr x}"),
        "has a blank, expected a key such as $remote_addr or $remote_addr:$remote_port",
    ),
    (
        "resolver: 192.0.2.1 192.0.2.2 valid=30s\n" + LISTENER,
        "expected {nameservers: [192.0.2.1, 192.0.2.2], valid: 30s}",
    ),
    ("user: nobody nogroup\n" + LISTENER, "nginy takes the group of that user"),
    (
        in_listener("proxy_bind: $remote_addr transparent"),
        "has a word after the address, expected {address: $remote_addr, transparent: on}",
    ),
    (in_listener("proxy_bind: 127.0.0.1 eth0"), "expected only the address"),
    (in_listener("protocol: http"), "does not read HTTP, expected tcp"),
    (in_upstream("health_check: {interval: 10sec}"), '(did you mean "10s"?)'),
    (in_upstream("health_check: {interval: 1 minute}"), '(did you mean "1m"?)'),
    (in_upstream("health_check: {interval: 1.5s}"), '(did you mean "1s500ms"?)'),
    (in_listener("proxy_buffer_size: 64kb"), '(did you mean "64k"?)'),
    (in_listener("proxy_buffer_size: 1 MiB"), '(did you mean "1m"?)'),
    (in_listener("proxy_timeout: 10s;"), 'ends in a ";", expected 10s'),
    (in_listener("tcp_nodelay: 1"), '(did you mean "on"?)'),
    ("error_log: {level: warning}\n" + LISTENER, "expected warn"),
    (
        "access_log: /tmp/x main\n" + LISTENER,
        'has "main" after the path, expected {path: /tmp/x, format: main}',
    ),
    (
        "access_log: /tmp/x buffer=32k\n" + LISTENER,
        'has "buffer=32k" after the path, expected {path: /tmp/x, buffer: 32k}',
    ),
    (
        "error_log: stderr warn\n" + LISTENER,
        'has "warn" after the path, expected {path: stderr, level: warn}',
    ),
    (
        "access_log: json\n" + LISTENER,
        "is a format and not a path, expected {path: stderr, format: json}",
    ),
    (
        "error_log: debug\n" + LISTENER,
        "is a level and not a path, expected {path: stderr, level: debug}",
    ),
    ("pid: /run/nginy.pid;\n" + LISTENER, 'ends in a ";", expected /run/nginy.pid'),
    (balance("{hash: $remote_addr;}"), 'ends in a ";", expected $remote_addr'),
    (balance("{random: two least_conn}"), "has words after the method, expected two"),
    (in_listener("proxy_timeout: 1h 30m"), '(did you mean "1h30m"?)'),
    ("listeners: {listen: 127.0.0.1:80, proxy_pass: 'u;'}\n", 'ends in a ";", expected u'),
    ("access_log: none\n" + LISTENER, '"none" is not a path, expected off'),
    (
        "access_log: debug\n" + LISTENER,
        "a level of error_log and not a path, expected stderr or the path of a file",
    ),
    ("access_log: syslog\n" + LISTENER, '"syslog" is not a server, expected syslog:127.0.0.1:514'),
    (
        "access_log: syslog:server=10.0.0.1,tag=a\n" + LISTENER,
        "expected syslog:10.0.0.1:514",
    ),
    ("access_log: syslog:server=a.test:515\n" + LISTENER, "expected syslog:a.test:515"),
    ("access_log: syslog:server=unix:/dev/log,a=b\n" + LISTENER, "sends syslog over UDP only"),
    ("access_log: syslog:10.0.0.1\n" + LISTENER, "expected syslog:10.0.0.1:514"),
    ("access_log: json /tmp/x\n" + LISTENER, "expected {path: /tmp/x, format: json}"),
    ("error_log: none\n" + LISTENER, '"none" is not a path, expected /dev/null'),
    ("error_log: journald\n" + LISTENER, "expected stderr, which journald has"),
    (
        "error_log: info /tmp/x\n" + LISTENER,
        "has the level before the path, expected {path: /tmp/x, level: info}",
    ),
    # shapes
    (listening(":80"), 'has no host, expected "*:80" for all addresses'),
    (listening("53/udp"), "has a protocol, expected 53, and protocol: udp"),
    (listening("udp/:53"), 'has a protocol, expected "*:53", and protocol: udp'),
    (listening("*:https"), 'has "https" for a port, expected *:443'),
    (backend("web.internal:http"), 'has "http" for a port, expected web.internal:80'),
    (backend("s1 10.0.0.1:80"), 'has the name "s1" before the address: expected 10.0.0.1:80'),
    (backend("s1 10.0.0.1:80 check"), "before the address: expected health_check in the upstream"),
    (in_listener("protocol: tcp+udp"), "expected two listeners, one with tcp and one with udp"),
    (in_listener("protocol: [tcp, udp]"), "expected two listeners, one with tcp and one with udp"),
    (in_listener("proxy_pass: [a, b]"), "a list, expected one upstream with these backends"),
    (in_listener("proxy_pass: {a: 1, b: 1}"), "routes with share where several divide the clients"),
    (in_listener("limit_conn: addr 10"), "expected {key: $remote_addr, max: 10}"),
    (in_listener("limit_conn: 10"), "expected {key: $remote_addr, max: 10}"),
    (in_listener("access: {allow: '::1', deny: all}"), "of rules: [{allow: ...}, {deny: ...}]"),
    (in_listener("access: [deny all]"), '"deny all", expected {deny: all}'),
    (in_upstream("health_check: GET /up"), "is a request, expected {type: http, path: /up}"),
    (in_upstream("health_check: {type: http, status: '2xx, 304'}"), "expected 200-299, 304"),
    (
        "listeners: {web: {listen: 127.0.0.1:80, return: hello}}\n",
        "a mapping of names, expected a list: [{name: web, listen: 0.0.0.0:80, ...}]",
    ),
    (
        LISTENER + "upstreams: [{name: web, backends: ['127.0.0.1:1']}]\n",
        "a list, expected a mapping of names: {web: ...}",
    ),
    (
        LISTENER + "upstreams: {web: ['10.0.0.1:80', '10.0.0.2:80']}\n",
        "a list, expected {backends: [10.0.0.1:80, 10.0.0.2:80]}",
    ),
    (
        LISTENER + "upstreams: {web: '10.0.0.1:80'}\n",
        '"10.0.0.1:80", expected {backends: [10.0.0.1:80]}',
    ),
    (
        LISTENER + "upstreams: {web: {backends: {10.0.0.1: 80, b2: '10.0.0.2:81'}}}\n",
        "a mapping of names, expected a list: [10.0.0.1:80, 10.0.0.2:81]",
    ),
    (
        LISTENER + "upstreams: {web: {backends: {one: {address: '10.0.0.1:80'}}}}\n",
        "a mapping of names, expected a list: [{address: 10.0.0.1:80, ...}]",
    ),
    ("listeners:\n  - listen: *:80\n", "what begins with * or & needs quotes"),
    ("listeners:\n  - listen:127.0.0.1:80\n", "expected a blank after the colon"),
    ("pid: nginy\n" + LISTENER, '(did you mean "./nginy"?)'),
    ("access_log: on\n" + LISTENER, "stderr, stdout or syslog:HOST:PORT"),
    (
        "access_log: combined\n" + LISTENER,
        "is a format of HTTP and not a path, expected {path: stderr, format: main}",
    ),
    (
        "access_log: /tmp/x combined\n" + LISTENER,
        'has "combined" after the path, expected {path: /tmp/x, format: main}',
    ),
]


@pytest.mark.parametrize(("text", "advice"), VALUES_WRITTEN)
def test_a_foreign_value_is_answered(tmp_path: pathlib.Path, text: str, advice: str) -> None:
    (message,) = refusals(tmp_path, text)
    assert message.endswith(advice)


@pytest.mark.parametrize(
    "text",
    [
        "listeners: {lisen: 127.0.0.1:80, return: hello}\n",
        "listeners: {bind: 127.0.0.1:80, return: hello}\n",
        "upstreams: {web: {backend: 127.0.0.1:1}}\n" + LISTENER,
        "upstreams: {web: {servers: 127.0.0.1:1}}\n" + LISTENER,
        "upstreams: {web: {backends: {adress: '127.0.0.1:1'}}}\n" + LISTENER,
        "listener: {listen: 127.0.0.1:80, return: hello}\n",
        "http: {server: {listen: 80}}\n",
        "kind: Service\n",
        "server web: {listen: 80}\n",
        "upstream web: {}\nlisteners: {listen: 127.0.0.1:80, proxy_pass: web}\n",
        "listeners: {listen: 127.0.0.1:80, proxypass: 127.0.0.1:1}\n",
        "listeners: {listen: 127.0.0.1:80, retrun: hello}\n",
        in_upstream("health_check: {type: exec, comand: /bin/true}"),
    ],
)
def test_a_key_is_not_missing_where_one_like_it_is_unknown(
    tmp_path: pathlib.Path, text: str
) -> None:
    (message,) = refusals(tmp_path, text)
    assert "unknown key" in message


def test_the_value_of_a_renamed_key_is_read(tmp_path: pathlib.Path) -> None:
    found = refusals(tmp_path, "upstreams: {web: {servers: '127.0.0.1:70000'}}\n" + LISTENER)
    assert len(found) == 2
    assert "has port 70000, outside 1 to 65535" in found[1]


def test_a_key_of_the_other_protocol_is_not_suggested(tmp_path: pathlib.Path) -> None:
    (message,) = refusals(tmp_path, in_listener("max_session: 5"))
    assert "max_sessions" not in message
    udp = "listeners: {listen: 127.0.0.1:80, protocol: udp, return: hello, max_session: 5}\n"
    (message,) = refusals(tmp_path, udp)
    assert 'did you mean "max_sessions"' in message


def test_limits_are_in_the_message(tmp_path: pathlib.Path) -> None:
    (port,) = refusals(tmp_path, in_upstream("health_check: {port: 65536}"))
    assert "expected a whole number from 1 to 65535" in port
    (weight,) = refusals(tmp_path, in_backend(f"weight: {'9' * 30}"))
    assert "is above 2147483647" in weight
    (backlog,) = refusals(tmp_path, in_listener("backlog: 4294967296"))
    assert "is above 2147483647" in backlog
    (label,) = refusals(tmp_path, backend(f"{'a' * 64}.test:80"))
    assert "has a name between dots above 63 characters" in label
    (name,) = refusals(tmp_path, backend(f"{'a.' * 127}:80"))
    assert "has a host name above 253 characters" in name


def test_a_value_that_stands_for_its_record_is_named_by_the_key_that_was_typed(
    tmp_path: pathlib.Path,
) -> None:
    (message,) = refusals(tmp_path, "access_log: on\n" + LISTENER)
    assert message.startswith('nginy.yml:1:13: access_log: "on" is a word, not a path')


def test_no_foreign_word_is_one_of_nginys_own() -> None:
    records = {record.noun: record for _, record in records_of(CONFIG)}
    for table in (RENAMED, ABSENT, others.RENAMED, others.ABSENT):
        for noun, words in table.items():
            assert not words.keys() & records[noun].keys.keys(), noun
    for record in records.values():
        assert not HTTP_WORDS & record.keys.keys(), record.noun
    for noun in (CONFIGURATION, LISTENER_, UPSTREAM):
        assert not HTTP_WORDS & (RENAMED[noun].keys() | ABSENT[noun].keys() - {"http_check"}), noun
    for noun, words in (*RENAMED.items(), *others.RENAMED.items()):
        assert set(words.values()) <= records[noun].keys.keys(), noun
    keys = {name for record in records.values() for name in record.keys}
    assert VALUES.keys() <= keys
