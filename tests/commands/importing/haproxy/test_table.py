"""Every keyword of the tables becomes what its row says; every keyword of the manual has a row."""

import pathlib
import re
from collections.abc import Iterator

import pytest
from nginy.commands.importing import haproxy
from nginy.commands.importing.haproxy.options import BIND, SERVER
from nginy.commands.importing.haproxy.table import PROXY, Row
from nginy.commands.importing.haproxy.table_global import GLOBAL, RESOLVERS, SECTIONS
from nginy.commands.importing.model import Imported, Texts
from nginy.commands.importing.report import Entry, Fate
from nginy.commands.importing.tidy import tidy
from nginy.commands.importing.writer import render
from nginy.config.load import load
from nginy.errors import ConfigError

PATH = "/etc/haproxy/haproxy.cfg"

# What the manual lists (3.5): the matrix of 4.1, and the options of 5.1 and 5.2.
MATRIX = """
acl,backlog,balance,be-unpublished,bind,capture cookie,capture request header,
capture response header,clitcpka-cnt,clitcpka-idle,clitcpka-intvl,compression,cookie,crt,
declare capture,default-server,default_backend,description,disabled,email-alert from,
email-alert level,email-alert mailers,email-alert myhostname,email-alert to,enabled,errorfile,
errorfiles,errorloc,errorloc302,errorloc303,error-log-format,external-check command,
external-check path,force-persist,force-be-switch,filter,filter-sequence,fullconn,guid,
hash-balance-factor,hash-preserve-affinity,hash-type,http-after-response,http-check comment,
http-check connect,http-check disable-on-404,http-check expect,http-check send,
http-check send-state,http-check set-var,http-check unset-var,http-error,http-request,
http-response,http-reuse,http-send-name-header,id,ignore-persist,load-server-state-from-file,log,
log-format,log-format-sd,log-tag,log-steps,max-keep-alive-queue,max-session-srv-conns,maxconn,mode,
monitor fail,monitor-uri,option abortonclose,option allbackups,option checkcache,option clitcpka,
option contstats,option disable-h2-upgrade,option dontlog-normal,option dontlognull,
option external-check,option forwardfor,option forwarded,option h1-case-adjust-bogus-client,
option h1-case-adjust-bogus-server,option http-buffer-request,option http-drop-request-trailers,
option http-drop-response-trailers,option http-ignore-probes,option http-keep-alive,
option http-no-delay,option http-pretend-keepalive,option http-restrict-req-hdr-names,
option http-server-close,option http-use-proxy-header,option httpchk,option httpclose,
option httplog,option httpslog,option idle-close-on-response,option independent-streams,
option ldap-check,option log-health-checks,option log-separate-errors,option logasap,
option mysql-check,option nolinger,option originalto,option persist,option pgsql-check,
option prefer-last-server,option redispatch,option redis-check,option smtpchk,option socket-stats,
option splice-auto,option splice-request,option splice-response,option spop-check,option srvtcpka,
option ssl-hello-chk,option tcp-check,option tcp-smart-accept,option tcp-smart-connect,option tcpka,
option tcplog,option use-small-buffers,persist rdp-cookie,quic-initial,rate-limit sessions,redirect,
retries,retry-on,server,server-state-file-name,server-template,source,srvtcpka-cnt,srvtcpka-idle,
srvtcpka-intvl,stats admin,stats auth,stats enable,stats hide-version,stats http-request,
stats realm,stats refresh,stats scope,stats show-desc,stats show-legends,stats show-node,
stats show-version,stats uri,stick match,stick on,stick store-request,stick store-response,
stick-table,tcp-check comment,tcp-check connect,tcp-check expect,tcp-check send,tcp-check send-lf,
tcp-check send-binary,tcp-check send-binary-lf,tcp-check set-var,tcp-check unset-var,
tcp-request connection,tcp-request content,tcp-request inspect-delay,tcp-request session,
tcp-response content,tcp-response inspect-delay,timeout check,timeout client,timeout client-fin,
timeout client-hs,timeout connect,timeout http-keep-alive,timeout http-request,timeout queue,
timeout server,timeout server-fin,timeout tarpit,timeout tunnel,unique-id-format,unique-id-header,
use_backend,use-fcgi-app,use-server
"""
BIND_OPTIONS = """
accept-netscaler-cip accept-proxy allow-0rtt alpn backlog ca-file ca-ignore-err ca-sign-file
ca-sign-pass ca-verify-file cc ciphers ciphersuites client-sigalgs crl-file crt crt-ignore-err
crt-list default-crt curves defer-accept ecdhe ech expose-fd force-sslv3 force-tlsv10 force-tlsv11
force-tlsv12 force-tlsv13 generate-certificates gid group guid-prefix id idle-ping interface ktls
label level maxconn mode mss name namespace nbconn nice no-alpn no-ca-names no-sslv3 no-strict-sni
no-tls-tickets no-tlsv10 no-tlsv11 no-tlsv12 no-tlsv13 npn prefer-client-ciphers proto quic-cc-algo
quic-force-retry quic-socket severity-output shards sigalgs ssl ssl-max-ver ssl-min-ver strict-sni
tcp-md5sig tcp-ss tcp-ut tfo thread tls-tickets tls-ticket-keys transparent uid user v4v6 v6only
verify
"""
SERVER_OPTIONS = """
addr agent-check agent-send agent-inter agent-addr agent-port allow-0rtt alpn backup ca-file cc
check check-reuse-pool check-send-proxy check-alpn check-pool-conn-name check-proto check-sni-auto
check-sni check-ssl check-via-socks4 ciphers ciphersuites client-sigalgs cookie crl-file crt curves
disabled enabled error-limit fall force-sslv3 force-tlsv10 force-tlsv11 force-tlsv12 force-tlsv13
guid hash-key healthcheck id idle-ping init-addr inter fastinter downinter init-state ktls
log-bufsize log-proto maxconn maxqueue max-reuse minconn namespace no-agent-check no-backup no-check
no-check-reuse-pool no-check-sni-auto no-check-ssl no-renegotiate no-send-proxy no-send-proxy-v2
no-send-proxy-v2-ssl no-send-proxy-v2-ssl-cn no-sni-auto no-ssl no-ssl-reuse no-sslv3 no-tls-tickets
no-tlsv10 no-tlsv11 no-tlsv12 no-tlsv13 no-verifyhost no-tfo non-stick npn observe on-error
on-marked-down on-marked-up pool-conn-name pool-low-conn pool-max-conn pool-purge-delay port proto
quic-cc-algo redir renegotiate rise resolve-opts resolve-prefer resolve-net resolvers send-proxy
send-proxy-v2 set-proxy-v2-tlv-fmt proxy-v2-options send-proxy-v2-ssl send-proxy-v2-ssl-cn shard
sigalgs slowstart sni sni-auto source ssl ssl-max-ver ssl-min-ver ssl-reuse stick strict-maxconn
socks4 tcp-md5sig tcp-ut tfo tls-tickets track verify verifyhost weight ws
"""

# Each keyword whose value is read: lines of a frontend or backend, and what is then in the YAML.
LINES: dict[str, tuple[str, str]] = {
    "acl": ("acl a src 10.0.0.0/8 \n tcp-request connection reject if a", "{deny: 10.0.0.0/8}"),
    "backlog": ("backlog 900", "backlog: 900"),
    "balance": ("balance leastconn", "balance: least_conn"),
    "bind": ("bind 10.0.0.9:81", "10.0.0.9:81"),
    "clitcpka-cnt": ("clitcpka-cnt 3\n option clitcpka", "so_keepalive: {count: 3}"),
    "clitcpka-idle": ("clitcpka-idle 30s\n option clitcpka", "so_keepalive: {idle: 30s}"),
    "clitcpka-intvl": ("clitcpka-intvl 1500\n option clitcpka", "so_keepalive: {interval: 2s}"),
    "default-server": ("default-server maxconn 7\n server c 10.0.0.3:80", "max_conns: 7"),
    "default_backend": ("default_backend web", "proxy_pass: web"),
    "disabled": ("no option tcpka", "name: f"),
    "external-check command": ("external-check command /x\n option external-check", "command: /x"),
    "hash-balance-factor": (
        "hash-balance-factor 150\n balance source\n hash-type consistent",
        "bounded_load: 1.5",
    ),
    "hash-type": ("hash-type consistent\n balance source", "consistent: on"),
    "log": ("log 127.0.0.1:1514 local0", "access_log: syslog:127.0.0.1:1514"),
    "log-format": ('log-format "%ci %ts"\n log stdout local0', "f: $remote_addr $termination"),
    "maxconn": ("maxconn 500", "limit_conn: {key: $listener, max: 500}"),
    "mode": ("mode tcp", "name: f"),
    "option allbackups": ("option allbackups\n server c 10.0.0.3:80 backup", "backup: on"),
    "option clitcpka": ("option clitcpka", "so_keepalive: on"),
    "option dontlog-normal": ("option dontlog-normal\n log stdout local0", "if: $abnormal"),
    "option dontlognull": ("option dontlognull\n log stdout local0", "empty: off"),
    "option external-check": (
        "option external-check\n external-check command /bin/x",
        "type: exec",
    ),
    "option httpchk": ("option httpchk GET /up", "{type: http, path: /up,"),
    "option independent-streams": ("option independent-streams", "name: f"),
    "option ldap-check": ("option ldap-check", "type: ldap"),
    "option mysql-check": ("option mysql-check user monitor", "type: mysql, user: monitor"),
    "option pgsql-check": ("option pgsql-check user monitor", "type: postgres, user: monitor"),
    "option redispatch": ("option redispatch", "name: f"),
    "option redis-check": ("option redis-check", "type: redis"),
    "option smtpchk": ("option smtpchk", "type: smtp"),
    "option srvtcpka": ("option srvtcpka", "proxy_socket_keepalive: on"),
    "option ssl-hello-chk": ("option ssl-hello-chk", "type: tls"),
    "option tcp-check": ("option tcp-check", "interval: 2s"),
    "option tcpka": ("option tcpka", "so_keepalive: on"),
    "option tcplog": ("option tcplog\n log stdout local0", "access_log: stdout"),
    "rate-limit sessions": ("rate-limit sessions 50", "rate: 50, burst: 50"),
    "retries": ("retries 2\n option redispatch", "name: f"),
    "server": ("server c 10.0.0.3:80 weight 3 check", "weight: 3"),
    "server-template": ("server-template c 1-5 app.example:80", "resolve: on"),
    "source": ("source 10.0.0.99", "proxy_bind: 10.0.0.99"),
    "stick on": ("stick on src", "balance: {hash: $remote_addr, consistent: on}"),
    "stick-table": ("stick-table type ip size 1m", "name: f"),
    "tcp-check comment": (
        "tcp-check comment hello\n option tcp-check\n tcp-check send X",
        "label: hello",
    ),
    "tcp-check connect": ("tcp-check connect port 90\n option tcp-check", "port: 90"),
    "tcp-check expect": ("tcp-check expect string +OK\n option tcp-check", r"~\\+OK"),
    "tcp-check send": (r"tcp-check send HI\r\n" + "\n option tcp-check", r'send: "HI\r\n"'),
    "tcp-check send-lf": ("tcp-check send-lf 5%%\n option tcp-check", "send: 5%"),
    "tcp-check send-binary": ("tcp-check send-binary 4801\n option tcp-check", r"H\\x01"),
    "tcp-check send-binary-lf": ("tcp-check send-binary-lf 48\n option tcp-check", "send: H"),
    "tcp-request connection": ("tcp-request connection reject if { src 10.1.1.1 }", "10.1.1.1"),
    "tcp-request content": (
        "tcp-request content reject if !{ req.ssl_hello_type 1 }\n tcp-request inspect-delay 5s",
        "{is_tls: off, deny: on}",
    ),
    "tcp-request inspect-delay": (
        "tcp-request inspect-delay 7s\n use_backend web if { req.ssl_sni a.example }",
        "preread: {timeout: 7s}",
    ),
    "tcp-request session": ("tcp-request session reject if { src 10.1.1.1 }", "10.1.1.1"),
    "timeout check": ("timeout check 500\n timeout connect 1s", "timeout: 1s500ms"),
    "timeout client": ("timeout client 30s", "proxy_timeout: 30s"),
    "timeout client-fin": ("timeout client-fin 3s", "proxy_half_close_timeout: 3s"),
    "timeout client-hs": ("timeout client-hs 3s", "name: f"),
    "timeout connect": ("timeout connect 1s", "proxy_connect_timeout: 1s"),
    "timeout queue": (
        "timeout queue 4s\n server c 10.0.0.3:80 maxconn 2",
        "queue: {size: 16384, timeout: 4s}",
    ),
    "timeout server": ("timeout server 31s", "proxy_timeout: 31s"),
    "timeout server-fin": ("timeout server-fin 3s", "proxy_half_close_timeout: 3s"),
    "timeout tunnel": ("timeout tunnel 1h\n timeout server 5s", "proxy_timeout: 1h"),
    "use_backend": ("use_backend web if { src 10.2.0.0/16 }", "from: 10.2.0.0/16"),
    "http-check expect": ("http-check expect status 204\n option httpchk", "status: 204"),
    "http-check send": ("http-check send meth GET uri /a\n option httpchk", "path: /a"),
}
# The fate of an example that is not its row's: what the keyword can be at best.
FATES = {
    ("proxy", "disabled"): Fate.EXACT,
    ("proxy", "option pgsql-check"): Fate.CLOSE,
    ("proxy", "external-check command"): Fate.CLOSE,
    ("global", "log"): Fate.EXACT,
}

BIND_EXAMPLES = {
    "alpn": ("ssl crt a.pem alpn h2,http/1.1", "alpn: [h2, http/1.1]"),
    "accept-proxy": ("accept-proxy", "accept_proxy_protocol: {from: all}"),
    "backlog": ("backlog 77", "backlog: 77"),
    "ca-file": ("ssl crt a.pem ca-file ca.pem verify required", "client_ca: /etc/haproxy/ca.pem"),
    "ciphers": ("ssl crt a.pem ciphers ECDHE+AESGCM", "ciphers: ECDHE+AESGCM"),
    "crt": ("ssl crt /a.pem", "certificate: /a.pem, key: /a.pem"),
    "default-crt": ("ssl crt /b.pem default-crt /a.pem", "- {certificate: /a.pem, key: /a.pem}"),
    "force-tlsv12": ("ssl crt /a.pem force-tlsv12", "protocols: TLSv1.2"),
    "force-tlsv13": ("ssl crt /a.pem force-tlsv13", "protocols: TLSv1.3"),
    "maxconn": ("maxconn 20", "max: 20"),
    "name": ("name public", "name: f"),
    "no-alpn": ("ssl crt /a.pem no-alpn", "tls:"),
    "no-strict-sni": ("ssl crt /a.pem no-strict-sni", "tls:"),
    "no-tls-tickets": ("ssl crt /a.pem no-tls-tickets", "session_tickets: off"),
    "no-tlsv12": ("ssl crt /a.pem no-tlsv12", "protocols: TLSv1.3"),
    "no-tlsv13": ("ssl crt /a.pem no-tlsv13", "protocols: TLSv1.2"),
    "ssl": ("ssl crt /a.pem", "tls:"),
    "ssl-max-ver": ("ssl crt /a.pem ssl-max-ver TLSv1.2", "protocols: TLSv1.2"),
    "ssl-min-ver": ("ssl crt /a.pem ssl-min-ver TLSv1.3", "protocols: TLSv1.3"),
    "strict-sni": ("ssl crt /a.pem strict-sni", "unknown_sni: reject"),
    "tls-tickets": ("ssl crt /a.pem tls-tickets", "tls:"),
    "transparent": ("transparent", "freebind: on"),
    "v4v6": ("v4v6", "[::]:8"),
    "v6only": ("v6only", "[::]:8"),
    "verify": ("ssl crt /a.pem ca-file /c.pem verify optional", "verify_client: optional"),
}
SERVER_EXAMPLES = {
    "agent-check": ("agent-check agent-port 99", "agent_check: {port: 99"),
    "agent-inter": ("agent-check agent-port 99 agent-inter 7s", "interval: 7s"),
    "agent-port": ("agent-check agent-port 99", "port: 99"),
    "agent-send": ("agent-check agent-port 99 agent-send hi", "send: hi"),
    "alpn": ("ssl verify none alpn h2", "alpn: h2"),
    "backup": ("backup", "backup: on"),
    "ca-file": ("ssl ca-file /ca.pem sni str(a.example)", "ca: /ca.pem"),
    "check": ("check", "health_check:"),
    "check-send-proxy": ("check check-send-proxy", "health_check:"),
    "check-sni": ("check check-ssl verify none check-sni a.example", "name: a.example"),
    "check-ssl": ("check check-ssl verify none", "type: tls"),
    "ciphers": ("ssl verify none ciphers HIGH", "ciphers: HIGH"),
    "crt": ("ssl verify none crt /c.pem", "certificate: /c.pem"),
    "disabled": ("disabled", "down: on"),
    "downinter": ("check downinter 9s", "interval_down: 9s"),
    "enabled": ("enabled", "10.9.9.9:80"),
    "error-limit": ("observe layer4 error-limit 4", "max_fails: 4"),
    "fall": ("check fall 5", "fails: 5"),
    "fastinter": ("check fastinter 1s", "interval_changing: 1s"),
    "force-tlsv12": ("ssl verify none force-tlsv12", "protocols: TLSv1.2"),
    "force-tlsv13": ("ssl verify none force-tlsv13", "protocols: TLSv1.3"),
    "init-addr": ("init-addr last,libc", "10.9.9.9:80"),
    "init-state": ("check init-state down", "initial: down"),
    "inter": ("check inter 9s", "interval: 9s"),
    "maxconn": ("maxconn 9", "max_conns: 9"),
    "maxqueue": ("maxconn 9 maxqueue 5", "size: 5"),
    "no-ssl": ("ssl no-ssl", "10.9.9.9:80"),
    "no-tlsv12": ("ssl verify none no-tlsv12", "protocols: TLSv1.3"),
    "no-tlsv13": ("ssl verify none no-tlsv13", "protocols: TLSv1.2"),
    "no-verifyhost": ("ssl verify none no-verifyhost", "proxy_tls:"),
    "observe": ("observe layer4", "max_fails: 10"),
    "on-error": ("observe layer4 on-error mark-down", "max_fails: 10"),
    "on-marked-down": ("on-marked-down shutdown-sessions", "on_down: close"),
    "port": ("check port 88", "port: 88"),
    "proxy-v2-options": ("send-proxy-v2 proxy-v2-options crc32c", "proxy_protocol: v2"),
    "resolvers": ("resolvers dns", "10.9.9.9:80"),
    "rise": ("check rise 4", "passes: 4"),
    "send-proxy": ("send-proxy", "proxy_protocol: v1"),
    "send-proxy-v2": ("send-proxy-v2", "proxy_protocol: v2"),
    "send-proxy-v2-ssl": ("send-proxy-v2-ssl", "proxy_protocol: v2"),
    "send-proxy-v2-ssl-cn": ("send-proxy-v2-ssl-cn", "proxy_protocol: v2"),
    "slowstart": ("slowstart 30s check", "slow_start: 30s"),
    "sni": ("ssl verify none sni str(a.example)", "name: a.example"),
    "source": ("source 10.0.0.98", "proxy_bind: 10.0.0.98"),
    "ssl": ("ssl verify none", "proxy_tls:"),
    "ssl-max-ver": ("ssl verify none ssl-max-ver TLSv1.2", "protocols: TLSv1.2"),
    "ssl-min-ver": ("ssl verify none ssl-min-ver TLSv1.3", "protocols: TLSv1.3"),
    "track": ("track other/o", "health_check:"),
    "verify": ("ssl verify none", "verify: off"),
    "verifyhost": ("ssl verify required verifyhost a.example", "name: a.example"),
    "weight": ("weight 0", "down: on"),
    **{name: (name, "10.9.9.9:80") for name in SERVER if name.startswith("no-send-proxy")},
    **{name: (name, "10.9.9.9:80") for name in ("no-agent-check", "no-backup", "no-check")},
    "no-check-ssl": ("check no-check-ssl", "health_check:"),
}
GLOBAL_EXAMPLES = {
    "ca-base": ("ca-base /cas", ""),
    "crt-base": ("crt-base /certs", ""),
    "default-path": ("default-path config", ""),
    "external-check": ("external-check", ""),
    "group": ("group haproxy", ""),
    "hard-stop-after": ("hard-stop-after 5m", "worker_shutdown_timeout: 5m"),
    "log": ("log stdout local0", ""),
    "maxconn": ("maxconn 5000", "worker_connections: 10000"),
    "nbproc": ("nbproc 2", "workers: 2"),
    "nbthread": ("nbthread 4", "workers: 4"),
    "noepoll": ("noepoll", "event_method: poll"),
    "nopoll": ("noepoll\n nopoll", "event_method: select"),
    "pidfile": ("pidfile /run/h.pid", "pid: /run/h.pid"),
    "spread-checks": ("spread-checks 10", ""),
    "ssl-default-bind-ciphers": ("ssl-default-bind-ciphers HIGH", ""),
    "ssl-default-bind-options": ("ssl-default-bind-options no-tls-tickets", ""),
    "ssl-default-server-ciphers": ("ssl-default-server-ciphers HIGH", ""),
    "ssl-default-server-options": ("ssl-default-server-options force-tlsv13", ""),
    "ssl-server-verify": ("ssl-server-verify none", ""),
    "user": ("user haproxy", "user: haproxy"),
}
RESOLVER_EXAMPLES = {
    "accepted_payload_size": ("accepted_payload_size 512", ""),
    "hold": ("hold valid 5s", "valid: 5s"),
    "nameserver": ("nameserver a 10.0.0.53:5353", "resolver: 10.0.0.53:5353"),
    "parse-resolv-conf": ("parse-resolv-conf", ""),
    "resolve_retries": ("resolve_retries 3", ""),
    "timeout": ("timeout resolve 2s", "timeout: 2s"),
}


def imported(front: str = "", back: str = "", *, top: str = "", bind: str = ":80") -> Imported:
    text = f"""
{top}
frontend f
 bind {bind}
 {front}
 default_backend web
backend web
 {back}
 server a 10.0.0.1:80 check
 server b 10.0.0.2:80 check
backend other
 server o 10.9.9.9:80 check
"""
    return haproxy.read(PATH, Texts({PATH: text}, PATH.rpartition("/")[0]))


def entry_of(result: Imported, words: str) -> Entry:
    """Return the entry of the line with this beginning."""
    found = [each for each in result.entries if each.directive.startswith(words)]
    assert found, (words, [each.directive for each in result.entries])
    return found[0]


def yaml_of(result: Imported) -> str:
    return render(tidy(result.document))


def problems(path: pathlib.Path) -> list[str]:
    """Say what is wrong with a configuration, apart from missing certificates."""
    try:
        load(str(path), {})
    except ConfigError as error:
        return [text for text in str(error).splitlines() if "No such file" not in text]
    return []


def rows() -> Iterator[tuple[str, str, Row]]:
    for where, table in (("proxy", PROXY), ("bind", BIND), ("server", SERVER)):
        for keyword, row in table.items():
            yield where, keyword, row
    for where, table in (("global", GLOBAL), ("resolvers", RESOLVERS)):
        for keyword, row in table.items():
            yield where, keyword, row


def example(where: str, keyword: str, row: Row) -> tuple[Imported, str, str]:
    """Return an example as imported, the beginning of its line, and what is in the YAML."""
    if where == "proxy":
        text, wanted = LINES[keyword] if row.is_read else (f"{keyword} x", "")
        line = text.partition("\n")[0]
        is_back = "f" not in row.sides or keyword == "option external-check"
        sides = {"back": text} if is_back else {"front": text}
        result = imported(**sides)
        return result, re.sub(r'[\r\n\\"].*', "", line).rstrip(), wanted
    if where == "bind":
        text, wanted = BIND_EXAMPLES.get(keyword, ("", ""))
        text = text if row.is_read else " ".join([keyword, *["1"] * row.arguments])
        address = "[::]:8" if keyword in ("v4v6", "v6only") else ":80"
        return imported(bind=f"{address} {text}"), f"bind {address}", wanted
    if where == "server":
        text, wanted = SERVER_EXAMPLES.get(keyword, ("", ""))
        text = text if row.is_read else " ".join(["check", keyword, *["1"] * row.arguments])
        return imported(back=f"server x 10.9.9.9:80 {text}"), "server x", wanted
    examples = GLOBAL_EXAMPLES if where == "global" else RESOLVER_EXAMPLES
    text, wanted = examples.get(keyword, (keyword, ""))
    head = "global" if where == "global" else "resolvers dns"
    return imported(top=f"{head}\n {text}"), text.partition("\n")[0], wanted


@pytest.mark.parametrize("where", ["proxy", "bind", "server", "global", "resolvers"])
def test_each_keyword_becomes_what_its_row_says(where: str, tmp_path: pathlib.Path) -> None:
    wrong: list[object] = []
    for place, keyword, row in rows():
        if place != where:
            continue
        result, words, wanted = example(where, keyword, row)
        entry = entry_of(result, words)
        fate = FATES.get((where, keyword), row.fate)
        if where in ("bind", "server") and row.is_read:
            # Other options of the example, and its verdict on all others, may be worse.
            if fate is Fate.CLOSE and entry.fate is Fate.EXACT:
                wrong.append((keyword, entry))
        elif entry.fate is not fate:
            wrong.append((keyword, entry))
        if not entry.is_exact and not entry.text:
            wrong.append((keyword, "no reason"))
        text = yaml_of(result)
        if wanted not in text:
            wrong.append((keyword, f"{wanted} is not in\n{text}"))
        if row.is_read:
            (tmp_path / "nginy.yml").write_text(text)
            wrong += problems(tmp_path / "nginy.yml")
    assert wrong == []


def test_each_keyword_that_the_manual_lists_for_proxies_has_a_row() -> None:
    listed = [each.strip() for each in MATRIX.replace("\n", " ").split(",")]
    assert [each for each in listed if each not in PROXY] == []


@pytest.mark.parametrize(("listed", "table"), [(BIND_OPTIONS, BIND), (SERVER_OPTIONS, SERVER)])
def test_each_option_that_the_manual_lists_has_a_row(listed: str, table: dict[str, Row]) -> None:
    assert [each for each in listed.split() if each not in table] == []


def test_each_keyword_that_is_read_has_an_example() -> None:
    examples = {"proxy": LINES, "bind": BIND_EXAMPLES, "server": SERVER_EXAMPLES}
    examples |= {"global": GLOBAL_EXAMPLES, "resolvers": RESOLVER_EXAMPLES}
    missing = [(w, k) for w, k, row in rows() if row.is_read and k not in examples[w]]
    assert missing == []


@pytest.mark.parametrize("kind", SECTIONS)
def test_other_sections_are_one_entry_each(kind: str) -> None:
    entry = entry_of(imported(top=f"{kind} x\n something else"), f"{kind} x (1 line)")
    assert (entry.fate, bool(entry.text)) == (Fate.LEFT_OUT, True)
