"""Each directive of nginx: a case for each row of the table, and more for some."""

# ruff: noqa: ISC004 - a row of the table of cases is a tuple on several lines

import pathlib

import pytest
from nginy.commands.importing import nginx
from nginy.commands.importing.model import Texts
from nginy.commands.importing.nginx.table import (
    CORE,
    EVENTS,
    MAIN,
    SERVER,
    STREAM,
    STREAMS,
    UPSTREAM,
    UPSTREAMS,
    Row,
)
from nginy.commands.importing.report import Fate
from nginy.commands.importing.tidy import tidy
from nginy.commands.importing.writer import render
from nginy.config.load import load

SERVED = "listen 80; proxy_pass web;"
WEB = "upstream web { server 10.0.0.1:80; server 10.0.0.2:80; }"
OTHERS = {"/etc/more.conf": "proxy_timeout 7s;", "/etc/a/x.map": "a.example web;"}
TLS = "listen 80 ssl; ssl_certificate c.pem; ssl_certificate_key c.key; proxy_pass web;"


def conf(main: str = "", events: str = "", stream: str = "", server: str = "") -> str:
    served = server if "listen" in server else f"{SERVED} {server}"
    return f"{main} events {{ {events} }} stream {{ {WEB} {stream} server {{ {served} }} }}"


def imported(text: str) -> tuple[str, list[str]]:
    """The configuration that a text becomes, and what differs, without places."""
    made = nginx.read("/etc/n.conf", Texts({"/etc/n.conf": text, **OTHERS}))
    differences = [
        f"{entry.fate.value}: {entry.directive}: {entry.text}"
        for entry in made.entries
        if not entry.is_exact
    ]
    return render(tidy(made.document)), differences


PLAIN = imported(conf())[0]

# The directive, in which part of a configuration, what must be in the result, and what is said of
# the difference. A result of "" is that of a configuration without the directive.
CASES = [
    ("daemon off;", MAIN, "", ""),
    ("daemon on;", MAIN, "", "close: daemon on: nginy stays in the foreground"),
    ("error_log e.log;", MAIN, "error_log: {path: /etc/e.log, level: error}",
     "close: error_log e.log: a relative path starts at nginx's prefix"),
    ("error_log /e.log notice;", MAIN, "error_log: /e.log", ""),
    ("error_log stderr emerg;", MAIN, "error_log: {level: crit}", "close: error_log stderr emerg:"),
    ("error_log syslog:server=10.0.0.9,tag=x;", MAIN, "syslog:10.0.0.9:514", "close: error_log"),
    ("error_log memory:32m debug;", MAIN, "", "left out: error_log memory:32m debug: nginy keeps"),
    ("error_log /s.log info;", SERVER, "    error_log: {path: /s.log, level: info}", ""),
    ("events {}", MAIN, "", ""),
    ("http { server {} include more.conf; server {} }", MAIN, "# http: 2 servers; nginy is layer 4",
     "left out: http: 2 servers; nginy is layer 4 and does not read HTTP"),
    ("mail { server {} }", MAIN, "", "left out: mail: 1 server; nginy is layer 4"),
    ("include more.conf;", SERVER, "proxy_timeout: 7s", ""),
    ("load_module modules/ngx_stream_module.so;", MAIN, "", ""),
    ("load_module ngx_stream_js_module.so;", MAIN, "", "left out: load_module"),
    ("master_process off;", MAIN, "", ""),
    ("pid /run/n.pid;", MAIN, "pid: /run/n.pid", ""),
    ("pid n.pid;", MAIN, "pid: /etc/n.pid", "close: pid n.pid: a relative path"),
    ("stream {}", MAIN, "", ""),
    ("use epoll;", EVENTS, "", ""),
    ("use poll;", EVENTS, "event_method: poll", ""),
    ("use kqueue;", EVENTS, "", 'left out: use kqueue: nginy does not know "kqueue"'),
    ("user www;", MAIN, "user: www", ""),
    ("user www web;", MAIN, "user: www", "close: user www web: nginy takes the group of its user"),
    ("worker_connections 900;", EVENTS, "worker_connections: 900", ""),
    ("worker_processes 4;", MAIN, "workers: 4", ""),
    ("worker_processes auto;", MAIN, "workers: auto", ""),
    ("worker_shutdown_timeout 9;", MAIN, "worker_shutdown_timeout: 9s", ""),
    # Where it listens.
    ("listen 53 udp reuseport; proxy_pass web;", SERVER,
     "listen: 0.0.0.0:53\n    protocol: udp", ""),
    ("listen [::]:80 ipv6only=off; proxy_pass web;", SERVER, '["[::]:80", 0.0.0.0:80]', ""),
    ("listen unix:/s; listen 127.0.0.1:1000-1009 bind; return x;", SERVER,
     "[unix:/s, 127.0.0.1:1000-1009]", ""),
    ("listen 80 backlog=64 so_keepalive=30m::10; return x;", SERVER,
     "so_keepalive: {idle: 30m, interval: off, count: 10}", ""),
    ("listen 80; listen 81 so_keepalive=on; proxy_pass web;", SERVER,
     "- listen: 0.0.0.0:81\n    proxy_pass: web\n    so_keepalive: on", ""),
    ("listen 80 fastopen=9 deferred; return x;", SERVER, "listen: 0.0.0.0:80",
     "close: listen 80 fastopen=9 deferred: nginy has no TCP Fast Open"),
    ("listen 80; listen nowhere:80; return x;", SERVER, "listen: 0.0.0.0:80",
     'left out: listen nowhere:80: "nowhere:80" is a host name'),
    ("listen 80 proxy_protocol; return x;", SERVER,
     "accept_proxy_protocol: {from: all, timeout: 30s}",
     "close: listen 80 proxy_protocol: without set_real_ip_from"),
    ("listen 80 proxy_protocol; set_real_ip_from 10.0.0.0/8; proxy_protocol_timeout 5s; return x;",
     SERVER, "accept_proxy_protocol: {from: 10.0.0.0/8, timeout: 5s}",
     "close: listen 80 proxy_protocol: nginy refuses clients that are not in"),
    ("listen 80 proxy_protocol; set_real_ip_from 0.0.0.0/0; set_real_ip_from ::/0; return x;",
     SERVER, 'accept_proxy_protocol: {from: [0.0.0.0/0, "::/0"], timeout: 30s}', ""),
    ("set_real_ip_from 10.0.0.0/8;", SERVER, "", ""),
    ("proxy_protocol_timeout 5s;", SERVER, "", ""),
    ("server_name a.example;", SERVER, "", ""),
    ("tcp_nodelay off;", STREAM, "tcp_nodelay: off", ""),
    # How it proxies.
    ("proxy_bind 10.0.0.7;", SERVER, "proxy_bind: 10.0.0.7", ""),
    ("proxy_bind $remote_addr:$remote_port transparent;", SERVER,
     'proxy_bind: {address: "[$remote_addr]:$remote_port", transparent: on}', ""),
    ("proxy_bind off;", SERVER, "", ""),
    ("proxy_buffer_size 16k;", SERVER, "proxy_buffer_size: 16k", ""),
    ("proxy_buffer_size 512;", SERVER, "proxy_buffer_size: 1k", "close: proxy_buffer_size 512:"),
    ("proxy_downstream_buffer 32k;", SERVER, "proxy_buffer_size: 32k", ""),
    ("proxy_upstream_buffer 32k;", SERVER, "proxy_buffer_size: 32k", ""),
    ("proxy_connect_timeout 1500ms;", SERVER, "proxy_connect_timeout: 1s500ms", ""),
    ("proxy_download_rate 100k;", SERVER, "proxy_download_rate: 100k", ""),
    ("proxy_upload_rate 10;", SERVER, "proxy_upload_rate: 1k", "close: proxy_upload_rate 10:"),
    ("proxy_upload_rate $x;", SERVER, "", "left out: proxy_upload_rate $x: nginy has one rate"),
    ("proxy_upload_rate 0;", SERVER, "", ""),
    ("proxy_half_close on;", SERVER, "so_keepalive: off\n", ""),
    ("proxy_next_upstream off;", SERVER, "proxy_next_upstream: off", ""),
    ("proxy_next_upstream_tries 2;", SERVER, "proxy_next_upstream: {tries: 2}", ""),
    ("proxy_next_upstream_timeout 5;", SERVER, "proxy_next_upstream: {timeout: 5s}", ""),
    ("proxy_next_upstream_timeout 0;", SERVER, "", ""),
    ("listen 80; proxy_pass unix:/b;", SERVER, "proxy_pass: unix:/b", ""),
    ("listen 80; proxy_pass 10.0.0.9:$server_port;", SERVER, "proxy_pass: 10.0.0.9:+0", ""),
    ("proxy_protocol on;", SERVER, "proxy_protocol: v1", ""),
    ("listen 80 udp; proxy_pass web; proxy_protocol on;", SERVER, "protocol: udp",
     "left out: proxy_protocol on: over UDP, nginy sends version 2 only"),
    ("listen 80 udp; proxy_pass web; proxy_requests 2;", SERVER, "proxy_requests: 2", ""),
    ("listen 80 udp; proxy_pass web; proxy_responses 0;", SERVER, "proxy_responses: 0", ""),
    ("listen 80 udp; proxy_pass web;", SERVER, "proxy_timeout: 10m", ""),
    ("proxy_responses 1;", SERVER, "", ""),
    ("proxy_session_drop on;", SERVER, "on_down: close", "close: proxy_session_drop on:"),
    ("proxy_socket_keepalive on;", SERVER, "proxy_socket_keepalive: on", ""),
    ("proxy_timeout 1h 30m;", SERVER, "proxy_timeout: 1h", ""),
    ('proxy_timeout "1h 30m";', SERVER, "proxy_timeout: 1h30m", ""),
    ("proxy_timeout 0;", SERVER, "", "left out: proxy_timeout 0: nginx ends sessions at once"),
    ("proxy_timeout soon;", SERVER, "", 'left out: proxy_timeout soon: "soon" is not a time'),
    # TLS to backends.
    ("proxy_ssl on;", SERVER, "proxy_tls: {verify: off, sni: off}", ""),
    ("proxy_ssl on; proxy_ssl_verify on; proxy_ssl_trusted_certificate ca.pem;", SERVER,
     "proxy_tls: {ca: /etc/ca.pem, name: web, sni: off}", ""),
    ("proxy_ssl on; proxy_ssl_server_name on; proxy_ssl_name a.example;", SERVER,
     "proxy_tls: {verify: off, name: a.example}", ""),
    ("proxy_ssl on; proxy_ssl_certificate c.pem; proxy_ssl_certificate_key c.key;"
     " proxy_ssl_password_file pw;", SERVER,
     "      certificate: /etc/c.pem\n      key: /etc/c.key\n      password_file: /etc/pw\n", ""),
    ("proxy_ssl on; proxy_ssl_alpn h2; proxy_ssl_ciphers HIGH;", SERVER,
     "alpn: [h2], ciphers: HIGH", ""),
    ("proxy_ssl on; proxy_ssl_protocols TLSv1 TLSv1.2;", SERVER, "protocols: [TLSv1.2]",
     "close: proxy_ssl_protocols TLSv1 TLSv1.2: nginy does not speak TLSv1"),
    ("proxy_ssl on; proxy_ssl_session_reuse off;", SERVER, "proxy_tls",
     "left out: proxy_ssl_session_reuse off: nginy resumes"),
    # TLS of clients.
    (f"{TLS} ssl_password_file pw;", SERVER,
     "      key: /etc/c.key\n      password_file: /etc/pw\n      ciphers: HIGH:!aNULL:!MD5", ""),
    (f"{TLS} ssl_alpn h2 http/1.1;", SERVER, "alpn: [h2, http/1.1]", ""),
    (f"{TLS} ssl_certificate d.pem; ssl_certificate_key d.key;", SERVER,
     "- {certificate: /etc/d.pem, key: /etc/d.key}", "close: ssl_certificate d.pem: of several"),
    ("listen 80 ssl; ssl_certificate $x; ssl_certificate_key y; proxy_pass web;", SERVER, None,
     "left out: ssl_certificate $x: nginy reads certificates"),
    (f"{TLS} ssl_ciphers DEFAULT;", SERVER, "tls: {certificate: /etc/c.pem, key: /etc/c.key}", ""),
    (f"{TLS} ssl_client_certificate ca.pem; ssl_verify_client on;", SERVER,
     "      client_ca: /etc/ca.pem\n      verify_client: required", ""),
    (f"{TLS} ssl_trusted_certificate ca.pem; ssl_verify_client optional;", SERVER,
     "      client_ca: /etc/ca.pem\n      verify_client: optional", ""),
    (f"{TLS} ssl_verify_client optional_no_ca;", SERVER, "tls",
     "left out: ssl_verify_client optional_no_ca: nginy asks for no"),
    (f"{TLS} ssl_handshake_timeout 5s; ssl_session_tickets off;", SERVER,
     "session_tickets: off\n      handshake_timeout: 5s", ""),
    (f"{TLS} ssl_key_log k.log;", SERVER, "key_log: /etc/k.log", ""),
    (f"{TLS} ssl_prefer_server_ciphers on; ssl_session_cache none;", SERVER, "tls", ""),
    (f"{TLS} ssl_protocols TLSv1.3;", SERVER, "protocols: [TLSv1.3]", ""),
    (f"{TLS} ssl_protocols SSLv3;", SERVER, "tls", "left out: ssl_protocols SSLv3: nginy speaks"),
    (f"{TLS} ssl_reject_handshake on;", SERVER, "tls", "left out: ssl_reject_handshake on"),
    (f"{TLS} ssl_session_cache shared:a:1m;", SERVER, "tls", "close: ssl_session_cache"),
    (f"{TLS} ssl_session_timeout 1h;", SERVER, "tls", "close: ssl_session_timeout 1h: OpenSSL"),
    (f"{TLS} ssl_stapling on;", SERVER, "tls", "left out: ssl_stapling on: nginy staples no"),
    ("listen 80; ssl on; ssl_certificate c.pem; ssl_certificate_key c.key; proxy_pass web;", SERVER,
     "tls:", ""),
    # Which clients may connect.
    ("allow 10.1.2.3/8; allow 2001:DB8::/32; allow unix:; deny all;", SERVER,
     'access: [{allow: 10.0.0.0/8}, {allow: "2001:db8::/32"}, {allow: "unix:"}, {deny: all}]', ""),
    ("deny 10.0.0.300;", SERVER, "", "left out: deny 10.0.0.300: "),
    ("limit_conn_zone $binary_remote_addr zone=a:1m; limit_conn a 5;", STREAM,
     "limit_conn: {key: $remote_addr, max: 5, zone: a, log_level: error}", ""),
    ("limit_conn_zone $x zone=a:1m; limit_conn a 5;", STREAM, "",
     "left out: limit_conn_zone $x zone=a:1m: nginy does not know $x here"),
    ("limit_conn_zone $remote_addr zone=a:1m; limit_conn a 5; limit_conn_dry_run on;"
     " limit_conn_log_level warn;", STREAM, "max: 5, zone: a, dry_run: on}", ""),
    # Logs.
    ("log_format f escape=json '{$status' '}'; access_log /etc/a.log f if=$status gzip;", STREAM,
     "access_log: {path: /etc/a.log, format: f, if: $status, buffer: 64k}",
     "close: access_log /etc/a.log f if=$status gzip: nginy writes plain text"),
    ("log_format json $pid; access_log syslog:server=[::1]:5140 json;", STREAM,
     'access_log: {path: "syslog:[::1]:5140", format: nginx_json}', ""),
    ("access_log /a/$pid.log f buffer=8k flush=1s; ++ log_format f $remote_addr;", SERVER,
     "{path: /a/$pid.log, format: f, buffer: 8k, flush: 1s}", ""),
    ("ssl_preread on; access_log /etc/a.log f; ++ log_format f $ssl_preread_server_name;", SERVER,
     "f: $ssl_preread_server_name", "close: access_log /etc/a.log f: the log shows no names"),
    ("access_log a.log none;", STREAM, "", "left out: access_log a.log none: it names no format"),
    # Upstreams, checks, names.
    ("upstream u { server 10.0.0.5:1 weight=2 max_conns=3 max_fails=0 fail_timeout=5 slow_start=9s"
     " resolve; server b.example:1 service=x backup down; }", STREAM,
     "        max_fails: 0\n        fail_timeout: 5s\n        slow_start: 9s\n        resolve: on\n"
     "      - {address: b.example:1, service: x, backup: on, down: on}", ""),
    ("upstream u { server 10.0.0.5:1 route=a; }", STREAM, "10.0.0.5:1",
     "close: server 10.0.0.5:1 route=a: nginy does not know"),
    ("upstream u { server nowhere; }", STREAM, None, "left out: upstream u: it has no server"),
    ("upstream u { hash $remote_addr consistent; server 10.0.0.5:1; }", STREAM,
     "balance: {hash: $remote_addr, consistent: on}", ""),
    ("upstream u { hash $request; server 10.0.0.5:1; }", STREAM, "[10.0.0.5:1]",
     "left out: hash $request: nginy does not know $request here, so the backends take turns"),
    ("upstream u { least_conn; server 10.0.0.5:1; }", STREAM, "balance: least_conn", ""),
    ("upstream u { least_time first_byte inflight; server 10.0.0.5:1; }", STREAM,
     "balance: {least_time: first_byte}", "close: least_time first_byte inflight"),
    ("upstream u { random; server 10.0.0.5:1; }", STREAM, "balance: random", ""),
    ("upstream u { random two least_time=connect; server 10.0.0.5:1; }", STREAM,
     "balance: {random: two}", "close: random two least_time=connect"),
    ("upstream u { resolver 10.0.0.53; resolver_timeout 2s; server 10.0.0.5:1; }", STREAM,
     "resolver: {nameservers: 10.0.0.53, timeout: 2s}", ""),
    ("resolver 10.0.0.53 [::1]:5353 valid=30s ipv6=off;", STREAM,
     'resolver: {valid: 30s, ipv6: off, nameservers: [10.0.0.53, "[::1]:5353"], timeout: 30s}', ""),
    ("resolver ns.example; resolver_timeout 3s;", STREAM, "", "left out: resolver ns.example: "),
    ("health_check interval=9 passes=2 mandatory port=81 match=m; health_check_timeout 2s;", SERVER,
     "health_check: {interval: 9s, fails: 1, timeout: 2s, initial: down, port: 81}",
     "close: health_check interval=9 passes=2 mandatory port=81 match=m: nginy does not know"),
    ("health_check match=m; ++ match m { send 'PING\\r\\n'; expect ~ ^.PONG; }", SERVER,
     "send: \"PING\\r\\n\", expect: \"~^.PONG\"}", ""),
    ("health_check match=m udp; ++ match m { expect A; }", SERVER, "type: udp", "close: match m"),
    # Variables and routes.
    ("map $ssl_preread_server_name $n { hostnames; a.example web; .b.example 10.0.0.7:1; ~^x web;"
     " default web; }", STREAM, "", ""),
    ("listen 80; ssl_preread on; preread_buffer_size 8k; preread_timeout 5s; proxy_pass $n;"
     " ++ map $ssl_preread_server_name $n { hostnames; a.example web; .b.example 10.0.0.7:1; }",
     SERVER, "preread: {size: 8k, timeout: 5s}\n    routes:\n"
     "      - {sni: a.example, proxy_pass: web}\n"
     '      - {sni: [b.example, "*.b.example"], proxy_pass: 10.0.0.7:1}\n    so_keepalive', ""),
    ("listen 80; proxy_pass $n; ++ map $ssl_preread_server_name $n { a.example x; default web; }",
     SERVER, "proxy_pass: web", ""),
    ("listen 80; ssl_preread on; proxy_pass $n; ++ map $ssl_preread_server_name $n { include"
     " a/*.map; default b.example:1; }", SERVER, "sni: a.example, proxy_pass: web", ""),
    ("listen 80; proxy_pass $n; ++ split_clients ${remote_addr}AAA $n { 0.5% 10.0.0.7:1; * web; }",
     SERVER, "text_AAA: {map: $protocol, values: {\"\": AAA}, default: AAA}\n\nupstreams:\n  web:\n"
     "    backends: [10.0.0.1:80, 10.0.0.2:80]\n\nlisteners:\n  - listen: 0.0.0.0:80\n    routes:\n"
     "      - {share: 0.5%, key: $remote_addr$text_AAA, proxy_pass: 10.0.0.7:1}", ""),
    ("listen 80; proxy_pass $n; ++ split_clients $remote_addr-x $n { 0.5% web; 20% ''; * web; }",
     SERVER, "- {share: 0.5%, key: $remote_addr-x, proxy_pass: web}\n"
     "      - {share: 20%, key: $remote_addr-x, deny: on}\n    proxy_pass: web", ""),
    ("listen 80; proxy_pass $n; ++ geo $n { ranges; default web; 10.0.0.0-10.0.0.2 10.0.0.7:1;"
     " 10.0.0.1 web; delete 10.0.0.2; }", SERVER,
     "- {from: 10.0.0.1, proxy_pass: web}\n      - {from: 10.0.0.0/31, proxy_pass: 10.0.0.7:1}",
     ""),
    ("listen 80; proxy_pass $n; ++ map $remote_port $n { 1 web; default ''; }", SERVER,
     "- {when: {$n: web}, proxy_pass: web}", ""),
    ("listen 80; proxy_pass $n; ++ map $remote_port $n { volatile; ~^(1)$ web; default web; }",
     SERVER, 'n: {map: $remote_port, values: {"~^(1)$": web}, default: web}',
     "close: map $remote_port $n: nginy computes it once"),
    ("listen 80; return '$n'; ++ map $remote_port $n { default x; }", SERVER,
     'n: {map: $remote_port, values: {"": x}, default: x}', ""),
    ("listen 80; return '$n'; ++ geo $n { default x; }", SERVER,
     "n: {geo: $remote_addr, values: {0.0.0.0/0: x}, default: x}", ""),
    ("listen 80; return '$n'; ++ split_clients $remote_addr $n { * x; }", SERVER,
     "n: {split: $remote_addr, values: {100%: x}, default: x}", ""),
    ("listen 80; proxy_pass $remote_addr:80;", SERVER, None,
     'left out: proxy_pass $remote_addr:80: "$remote_addr:80" may be anything'),
    ("listen 80; return '$remote_addr\\n';", SERVER, 'return: "$remote_addr\\n"', ""),
    ("listen 80; set $a 'x'; return \"$a ${a}y\";", SERVER, "return: x xy", ""),
    ("pass 127.0.0.1:8000; listen 81;", SERVER, None, "left out: pass 127.0.0.1:8000: nginy hands"),
    ("server { listen 81; proxy_pass 10.0.0.8:1; }", STREAM, "listen: 0.0.0.0:81", ""),
]  # fmt: skip


def parts_of(text: str, context: str) -> str:
    """The configuration that has a directive in its place; ++ comes before what goes to stream."""
    own, _, stream = text.partition("++")
    if context == STREAM:
        return conf(stream=own)
    return conf(**{context: own, "stream": stream} if context == SERVER else {context: own})


@pytest.mark.parametrize(("text", "context", "result", "difference"), CASES)
def test_a_directive(text: str, context: str, result: str | None, difference: str | None) -> None:
    if result is None:  # nothing would be left
        text += " ++ server { listen 99; proxy_pass web; }"
    found, differences = imported(parts_of(text, context))
    if result == "" and difference == "" and "++" not in text and "map" not in text:
        assert found == PLAIN
    if result:
        assert result in found
    if difference == "":
        assert differences == []
    elif difference is not None:
        assert [each for each in differences if each.startswith(difference)], differences


ROWS = [
    *(("core", name, row) for name, row in CORE.items()),
    *(("stream", name, row) for name, row in STREAMS.items()),
    *(("upstream", name, row) for name, row in UPSTREAMS.items()),
]


def is_settled(row: Row) -> bool:
    """Whether a row is the whole verdict."""
    return row.fate is not Fate.EXACT or bool(row.text)


def test_each_row_that_code_reads_has_a_case() -> None:
    words = {word for case in CASES for word in case[0].replace(";", " ").split()}
    assert [name for _, name, row in ROWS if not is_settled(row) and name not in words] == []


@pytest.mark.parametrize(("name", "row"), [(n, row) for _, n, row in ROWS if is_settled(row)])
def test_each_other_row_is_as_it_says(name: str, row: Row) -> None:
    own = f"{name} x;"
    context = row.contexts[0]
    text = conf(**{context: own}) if context != UPSTREAM else conf(
        stream=f"upstream other {{ {own} server 10.0.0.9:1; }}"
    )  # fmt: skip
    found, differences = imported(text)
    if row.fate is Fate.EXACT:
        assert differences == []
        assert name not in found
    else:
        assert differences == [f"{row.fate.value}: {name} x: {row.text}"]
        assert f"# {name} x: {row.text}" in found


def test_every_result_loads(tmp_path: pathlib.Path) -> None:
    """Apart from certificates, which are not there."""
    for text, context, result, _ in CASES:
        if "ssl_certificate" in text or "trusted" in text or result is None:
            continue
        path = tmp_path / "nginy.yml"
        path.write_text(imported(parts_of(text, context))[0])
        load(str(path), {})


@pytest.mark.parametrize(
    ("text", "difference"),
    [
        (conf(main="proxy_timeout 5s;"), "left out: proxy_timeout 5s: nginy does not know this"),
        (conf(stream="listen 80;"), "left out: listen 80: nginx does not take it in stream"),
        (conf(server="frobnicate on;"), "left out: frobnicate on: nginy does not know this"),
    ],
)
def test_what_is_nowhere_known_is_listed(text: str, difference: str) -> None:
    found, differences = imported(text)
    assert differences[0].startswith(difference)
    assert f"# {difference.removeprefix('left out: ')}" in found


def test_a_long_chain_of_variables_is_left_out() -> None:
    maps = "".join(f"map $v{i + 1} $v{i} {{ a b; default $v{i + 1}; }}" for i in range(900))
    text = conf(
        server="listen 80; return '$v0';", stream=f"{maps} map $remote_port $v900 {{ a b; }}"
    )
    _, differences = imported(text)
    assert [each for each in differences if "more than 32 variables depend on one another" in each]


def test_files_of_http_that_include_one_another_are_counted_once() -> None:
    part = "server {}" + "include b.conf;" * 20
    files = {"/etc/nginx.conf": "http { include b.conf; }" + conf(), "/etc/b.conf": part}
    result = nginx.read("/etc/nginx.conf", Texts(files))
    assert [e.text[:9] for e in result.entries if e.directive == "http"] == ["1 server;"]


def test_limits_and_max_conns_of_several_workers_differ() -> None:
    zone = "limit_conn_zone $remote_addr zone=a:1m; limit_conn a 5;"
    stream = f"{zone} upstream u {{ server 10.0.0.1:80 max_conns=3; }}"
    _, differences = imported(conf(main="worker_processes 2;", stream=stream))
    starts = {each.partition(": nginy")[0].partition(": each")[0] for each in differences}
    assert starts == {"close: upstream u", "close: limit_conn a 5"}


def test_names_of_servers_stand_in_the_order_in_which_nginx_prefers_them() -> None:
    server = "listen 80; ssl_preread on; proxy_pass web;"
    others = "".join(
        f"server {{ listen 80; ssl_preread on; server_name {name}; proxy_pass 10.0.0.9:{port}; }}"
        for port, name in enumerate(("~^r", "*.example", "www.*", "*.b.example", "a.example"), 1)
    )
    text = f"events {{}} stream {{ {WEB} server {{ {server} }} {others} }}"
    found, differences = imported(text)
    assert differences == []
    order = [line.partition(", proxy")[0] for line in found.splitlines() if "sni" in line]
    assert [each.strip() for each in order] == [
        "- {sni: a.example",
        '- {sni: "*.b.example"',
        '- {sni: "*.example"',
        '- {sni: "~^r"',
        '- {sni: "~^www\\\\."',
    ]


def test_a_comment_stands_where_its_directive_does() -> None:
    text = """\
# first
worker_processes 2; # two
# about events
events { worker_connections 9; } # few
stream {
    # of the group
    upstream web { # web
        server 10.0.0.1:80; # one
        # no more
    }
    # above the server
    server { # the server
        # of nothing
        zone_sync;
        # who
        listen 80;
        proxy_pass web; # where
        # end of server
    }
    # end of stream
}
# end of file
"""
    found, _ = imported(text)
    assert (
        found
        == """\
# first
workers: 2  # two
# about events
# few
worker_connections: 9
worker_shutdown_timeout: off

upstreams:
  # of the group
  web:  # web
    backends:
      - 10.0.0.1:80  # one
    # no more

listeners:
  # above the server
  # the server
  # of nothing
  # zone_sync: nginy's nodes share no state, so each of them counts for itself
  # who
  - listen: 0.0.0.0:80
    proxy_pass: web  # where
    so_keepalive: off
    proxy_half_close: off
    # end of server

# end of stream
# end of file
"""
    )
