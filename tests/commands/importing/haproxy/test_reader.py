"""Whole configurations: the YAML that a person would write, and the report.

test_table.py has single keywords; this module tests several of them together.
"""

import pathlib
import random

import pytest
from nginy.commands.importing import haproxy
from nginy.commands.importing.model import Texts
from nginy.commands.importing.report import Fate
from nginy.commands.importing.tidy import tidy
from nginy.commands.importing.writer import render
from nginy.config.load import load
from nginy.errors import ConfigError

PATH = "/etc/haproxy/haproxy.cfg"
BACKENDS = """
backend one
    server a 10.0.0.1:80
backend two
    server b 10.0.0.2:80
"""


def yaml(text: str, **files: str) -> str:
    """Return a configuration as imported; it must load."""
    texts = {PATH: text, **{f"/etc/haproxy/{name}": text for name, text in files.items()}}
    return render(tidy(haproxy.read(PATH, Texts(texts, "/etc/haproxy")).document))


def fates(text: str) -> dict[str, tuple[Fate, str]]:
    result = haproxy.read(PATH, Texts({PATH: text}, "/etc/haproxy"))
    return {each.directive: (each.fate, each.text) for each in result.entries}


def front(*lines: str) -> str:
    """Return a frontend with these lines, before two backends."""
    inner = "".join(f"    {line}\n" for line in lines)
    return f"frontend f\n    bind :80\n{inner}    default_backend one\n{BACKENDS}"


def routes(*lines: str) -> list[str]:
    """Return the routes, access rules and limits that lines of a frontend become."""
    text = yaml(front(*lines))
    _, _, listener = text.partition("so_keepalive: off")
    return [
        line.strip().removeprefix("- ")
        for line in listener.splitlines()
        if line.strip().startswith(("- {", "access:", "routes:", "limit_", "preread:"))
        and not line.rstrip().endswith("routes:")
    ]


WHOLE = """\
# The balancer of the shop
global
    log 127.0.0.1:514 local0
    maxconn 4000
    daemon

defaults
    log global
    mode tcp
    option dontlognull
    timeout connect 5s
    timeout client 1m   # clients are slow
    timeout server 1m

# everything with TLS
frontend tls
    bind :443
    tcp-request inspect-delay 5s
    acl internal src 10.0.0.0/8
    use_backend admin if { req.ssl_sni -i admin.example.com } internal
    default_backend web

backend web
    balance leastconn
    option redispatch
    default-server check maxconn 100
    # the two big ones
    server web1 10.0.0.1:443 weight 10
    server web2 10.0.0.2:443 weight 10 send-proxy-v2
    server spare 10.0.0.3:443 backup

backend admin
    server a 10.0.1.1:443

frontend www
    mode http
    bind :80
"""


def test_a_whole_configuration() -> None:
    text = yaml(WHOLE)
    for wanted in (
        "worker_connections: 8000",
        "proxy_timeout: 1m  # clients are slow",
        "      # the two big ones\n      - {address: 10.0.0.1:443, weight: 10, max_conns: 100}\n",
        "      - {address: 10.0.0.3:443, max_conns: 100, backup: on}\n",
        "    health_check: {interval: 2s, timeout: 2s}\n",
        "    queue: {size: 4000, timeout: 5s}\n",
        "  # everything with TLS\n",
        "    preread: {timeout: 5s}\n",
        "      - {from: 10.0.0.0/8, sni: admin.example.com, proxy_pass: admin}\n",
        "# frontend www (2 lines): mode http: nginy is layer 4 and does not read HTTP\n",
    ):
        assert wanted in text, text
    assert text.startswith("# The balancer of the shop\n")


def test_the_report_has_each_directive_once() -> None:
    found = fates(WHOLE)
    assert found["frontend www (2 lines)"][0] is Fate.LEFT_OUT
    assert found["timeout client 1m"] == (Fate.EXACT, "")
    assert found["maxconn 4000"][0] is Fate.CLOSE
    assert len(found) == 27


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        # Rules of the connection by network become access, in the order in which they decide.
        (
            [
                "tcp-request connection accept if { src 10.0.0.0/8 }",
                "tcp-request connection reject if { src 10.1.0.0/16 } or { src 192.0.2.1 }",
            ],
            ["access: [{allow: 10.0.0.0/8}, {deny: 10.1.0.0/16}, {deny: 192.0.2.1}]"],
        ),
        (
            [
                "tcp-request connection reject unless { src 10.0.0.0/8 } or LOCALHOST",
                "tcp-request connection reject if { src 10.1.0.0/16 }",
            ],
            [
                "access:",
                "{deny: 10.1.0.0/16}",
                "{allow: 10.0.0.0/8}",
                "{allow: 127.0.0.0/8}",
                '{allow: "::1"}',
                "{deny: all}",
            ],
        ),
        (
            ["acl a src -f nets.lst", "tcp-request connection reject if a"],
            ["access: [{deny: {file: /etc/haproxy/nets.lst}}]"],
        ),
        # All else becomes routes.
        (
            ["tcp-request connection reject if { src 10.0.0.0/8 } { dst_port 80 }"],
            ["{from: 10.0.0.0/8, port: 80, deny: on}"],
        ),
        (
            ["use_backend two if { req.ssl_sni -m beg a. } or { req.ssl_sni -m sub b.c }"],
            [r'{sni: "~^a\\.", proxy_pass: two}', r'{sni: "~b\\.c", proxy_pass: two}'],
        ),
        (
            ["use_backend two if { req_ssl_sni -m end .a.example b.example -m found }"],
            ['{sni: "~.", proxy_pass: two}'],
        ),
        (
            ["acl x req.ssl_sni -i A.example", "acl x src 10.0.0.1", "use_backend two if x"],
            ["{sni: a.example, proxy_pass: two}", "{from: 10.0.0.1, proxy_pass: two}"],
        ),
        (
            ["use_backend two unless { dst_port 81 90:99 }"],
            ["{port: [1-80, 82-89, 100-65535], proxy_pass: two}"],
        ),
        (
            ["use_backend two if { req.payload(0,4) -m str SSH- } !{ req.ssl_hello_type 1 }"],
            ["{is_tls: off, starts: SSH-, proxy_pass: two}"],
        ),
        (
            ["use_backend two if { req.payload(0,2) -m bin 0005 }"],
            [r'{starts: "\\x00\\x05", proxy_pass: two}'],
        ),
        (["use_backend two if { rand(100) lt 5 }"], ["{share: 5%, proxy_pass: two}"]),
        (["use_backend two if FALSE"], []),
        (["use_backend two"], ['{from: [all, "unix:"], proxy_pass: two}']),
        # A reject of contents is for clients that no accept has let through.
        (
            [
                "tcp-request inspect-delay 2s",
                "tcp-request content accept if { src 10.0.0.0/8 }",
                "tcp-request content reject if { req.ssl_hello_type 1 }",
            ],
            ["preread: {timeout: 2s}", "{is_tls: on, when: {$matches: out}, deny: on}"],
        ),
        # Stick tables that count become limits.
        (
            [
                "stick-table type ip size 1m expire 1m store conn_cur,conn_rate(10s)",
                "tcp-request connection accept if { src 10.0.0.0/8 }",
                "tcp-request connection track-sc0 src",
                "tcp-request connection reject if { sc_conn_cur(0) gt 20 }",
                "tcp-request connection reject if { src_conn_rate gt 100 }",
            ],
            [
                "access: [{allow: 10.0.0.0/8}]",
                "limit_conn: {key: $limited, max: 20}",
                "limit_conn_rate: {key: $limited, rate: 10, burst: 100}",
            ],
        ),
    ],
)
def test_rules_become_access_routes_and_limits(lines: list[str], wanted: list[str]) -> None:
    assert routes(*lines) == wanted


def test_rules_of_the_connection_see_the_peer_and_not_the_announced_client() -> None:
    text = front("tcp-request connection reject if { src 10.0.0.1 }").replace(
        "bind :80", "bind :80 accept-proxy"
    )
    text = yaml(text)
    assert "geo: $realip_remote_addr" in text
    assert "{when: {$matches: in}, deny: on}" in text


@pytest.mark.parametrize(
    ("lines", "reason"),
    [
        (["use_backend two if { nbsrv(one) lt 1 }"], 'it asks for "nbsrv(one)"'),
        (["use_backend two if { req.ssl_ver gt 3.1 }"], 'it asks for "req.ssl_ver"'),
        (["use_backend two if unknown"], 'it asks for "unknown"'),
        (["use_backend two if !{ req.payload(0,4) -m str SSH- }"], "it asks for first bytes"),
        (["use_backend two if { req.ssl_sni -m reg (a+)+$ }"], "it has a repetition within"),
        (["use_backend two if { req.payload(0,9) -m reg ^(a+)+$ }"], "it has a repetition within"),
        (["use_backend two if { req.ssl_sni -m reg a( }"], "it is not a regular expression"),
        (["use_backend %[req.ssl_sni]"], "it computes its backend for each client"),
        (["tcp-request content reject if { src -f no.lst } { dst_port 1 }"], "No such file"),
        (["tcp-request connection set-var(sess.a) src"], "does nothing to the stream"),
        (["tcp-request content switch-mode http if HTTP"], "nginy does not read HTTP"),
    ],
)
def test_a_rule_that_nginy_cannot_have_is_left_out_and_says_why(
    lines: list[str], reason: str
) -> None:
    found = [each for each in fates(front(*lines)).values() if each[0] is not Fate.EXACT]
    assert [(fate, reason in text) for fate, text in found] == [(Fate.LEFT_OUT, True)], found


@pytest.mark.parametrize(
    ("lines", "wanted"),
    [
        (["balance roundrobin"], "backends: [10.0.0.1:80, 10.0.0.2:80]"),
        (["balance static-rr"], "backends: [10.0.0.1:80, 10.0.0.2:80]"),
        (["balance source"], "balance: {hash: $remote_addr}"),
        (["balance hash src,ipmask(24)"], "balance: {hash: $remote_addr}"),
        (["balance random"], "balance: {random: two}"),
        (["balance random(1)"], "balance: random"),
        (["balance first"], "backends: [10.0.0.1:80, 10.0.0.2:80]"),
        (["balance source", "server z 10.0.0.9:1 backup"], "balance: {rendezvous: $remote_addr}"),
        (["balance random", "server z 10.0.0.9:1 backup"], "balance: least_conn"),
        (["server t _http._tcp.a.example resolvers x"], "{address: a.example, service: _http._tcp"),
        (["server t 10.0.0.3"], "10.0.0.3:+0"),
        (["server t unix@/run/t.sock"], "unix:/run/t.sock"),
        (["source 0.0.0.0 usesrc clientip"], "{address: $remote_addr, transparent: on}"),
        (
            ["option httpchk GET /up HTTP/1.1 www.example", "http-check expect ! rstatus ^5"],
            "type: http\n      path: /up\n      host: www.example\n      status: 100-499\n",
        ),
        (
            ["option httpchk", "http-check expect rstatus (2|3)[0-9][0-9]"],
            "{type: http, method: OPT",
        ),
    ],
)
def test_backends_become_upstreams(lines: list[str], wanted: str) -> None:
    inner = "".join(f"    {line}\n" for line in lines)
    text = (
        yaml(
            "listen one\n    bind :80\n    option redispatch\n"
            f"{inner}    server a 10.0.0.1:80 check\n"
            f"    server b 10.0.0.2:80 check\n"
        )
        .replace(", max_fails: 0}", "")
        .replace("{address: 10.0.0.", "10.0.0.")
    )
    assert wanted in text, text


def test_servers_that_sessions_cannot_take_out_say_so_unless_checks_do() -> None:
    text = yaml("listen a\n bind :1\n server b 10.0.0.1:1\n server c 10.0.0.2:1\n")
    assert "{address: 10.0.0.1:1, max_fails: 0}" in text


def test_a_server_that_tracks_another_one_is_checked_like_that() -> None:
    text = yaml(
        "listen a\n bind :1\n server b 10.0.0.1:1 track c/d\n"
        "backend c\n option redis-check\n server d 10.0.0.1:1 check\n"
    )
    assert text.count("type: redis") == 1, text  # moved to defaults, as both upstreams have it
    assert "defaults:\n  health_check: {type: redis" in text


def test_settings_of_another_backend_are_judged() -> None:
    text = front("use_backend two if { src 10.0.0.1 }").replace(
        "backend two\n", "backend two\n    timeout connect 9s\n"
    )
    why = "for clients of f, timeout connect of one applies"
    assert fates(text)["timeout connect 9s"] == (Fate.CLOSE, why)


def test_binds_with_other_options_are_listeners_of_their_own() -> None:
    text = yaml(front("bind :81", "bind 10.0.0.1:443 ssl crt /a.pem", "bind :::82"))
    assert 'listen: ["*:80", "*:81", "*:82", "[::]:82"]' in text
    assert "name: f_2\n    listen: 10.0.0.1:443\n" in text


def test_a_backend_that_a_map_names_is_a_variable() -> None:
    text = yaml(
        front("use_backend %[req.ssl_sni,lower,map(hosts.map,two)]"),
        **{"hosts.map": "# names\na.example one\nb.example  two\nc.example gone\n"},
    )
    assert "{a.example: one, b.example: two, c.example: one}" in text
    assert "default: two" in text
    assert "proxy_pass: $backend}" in text
    text = yaml(front("use_backend %[src,map_ip(n)]"), n="10.1.2.3/8 two\n")
    assert "{geo: $remote_addr, values: {10.0.0.0/8: two}, default: one}" in text


def test_certificates_of_a_directory_and_keys_of_their_own() -> None:
    text = yaml(
        front("bind :443 ssl crt certs/"),
        **{"certs/a.pem": "CERTIFICATE PRIVATE KEY", "certs/b.pem": "CERTIFICATE"},
        **{"certs/b.pem.key": "PRIVATE KEY"},
    )
    assert "{certificate: /etc/haproxy/certs/a.pem, key: /etc/haproxy/certs/a.pem}" in text
    assert "{certificate: /etc/haproxy/certs/b.pem, key: /etc/haproxy/certs/b.pem.key}" in text


def test_a_log_format_has_nginys_variables() -> None:
    text = yaml(front("log stdout local0", r"log-format %ci:%cp\ %ft\ %Tw\ %[src]\ 100%%"))
    assert "f: $remote_addr:$remote_port $listener - $remote_addr 100%" in text
    assert "a dash stands for %Tw" in text


def test_the_environment_is_filled_in_by_nginy(tmp_path: pathlib.Path) -> None:
    text = yaml('listen a\n bind "${HOST-127.0.0.1}:80"\n server b "$BACK:81" maxconn "${N}"')
    (tmp_path / "nginy.yml").write_text(text)
    config = load(str(tmp_path / "nginy.yml"), {"BACK": "10.9.9.9", "N": "7"})
    assert str(config.listeners[0].listen[0]) == "127.0.0.1:80"
    backend = config.upstreams["a"].backends[0]
    assert (str(backend.address), backend.max_conns) == ("10.9.9.9:81", 7)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "defaults\n mode http\nfrontend a\n bind :80\nbackend b\n",
            "2:1: all 2 proxies are in mode http; nginy is layer 4 and does not read HTTP",
        ),
        ("backend b\n", " no frontend and no listen section in mode tcp, expected one"),
        (
            "listen a\n bind :80\n default_backend bb\nbackend b\n server s 1.1.1.1:1",
            '3:1: default_backend: there is no backend "bb" (did you mean "b"?)',
        ),
        ("listen a\n bind\n", '2:1: bind "" has no address'),
        ("listen a\n bind :x\n", '2:1: bind ":x" has "x" for a port'),
        ("listen a\n bind :80 crt\n", '2:1: bind ":80" has no value after "crt"'),
        ("listen a\n bind :80\n server s\n", '3:1: server "s" has no address'),
        (
            "listen a\n bind :1\n server s 1.1.1.1:1 weight 300",
            '3:1: weight "300" is not between 0 and',
        ),
        ("listen a\n bind :1\n timeout client 5x\n", '3:1: timeout client "5x" is not a time'),
        (
            "listen a\n bind :1\n balance best\n server s 1.1.1.1:1",
            '3:1: balance "best", expected roundrobin, leastconn, source, hash or random',
        ),
        ("global\n nbthread x\nlisten a\n bind :1\n", '2:1: nbthread "x" is not a number'),
    ],
)
def test_what_cannot_be_imported_has_one_sentence_with_its_place(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as raised:
        haproxy.read(PATH, Texts({PATH: text}))
    assert str(raised.value).startswith(f"{PATH}:{message}")
    assert "\n" not in str(raised.value)


def test_a_haproxy_cfg_is_told_from_an_nginx_conf() -> None:
    assert haproxy.recognizes(WHOLE)
    assert haproxy.recognizes("# x\n  listen a # comment\n bind :80")
    assert not haproxy.recognizes("stream { server { listen 80; } }")
    assert not haproxy.recognizes("server {\n    listen 80;\n}")


@pytest.mark.slow
def test_mutilated_configurations_are_read_or_refused_in_one_sentence() -> None:
    """Words and lines are lost, doubled, swapped and made up; only ConfigError may come out."""
    seed = random.randrange(1 << 32)
    dice = random.Random(seed)
    lines = (WHOLE + front(*LINES)).splitlines()
    words = sorted({word for line in lines for word in line.split()})
    strange = [
        "",
        '"',
        "'",
        "\\",
        "\\x4",
        "${X}",
        "%[src]",
        "{",
        "}",
        "!",
        "if",
        "-f",
        "\0",
        "é",
        "0",
    ]
    read = 0
    for _ in range(400):
        mutated = list(lines)
        for _ in range(dice.randint(1, 6)):
            at = dice.randrange(len(mutated))
            parts = mutated[at].split(" ")
            place = dice.randrange(len(parts))
            what = dice.choice(("drop", "word", "strange", "line", "swap", "double"))
            if what == "drop":
                del parts[place]
            elif what == "word":
                parts.insert(place, dice.choice(words))
            elif what == "strange":
                parts[place] = dice.choice(strange)
            elif what == "swap":
                other = dice.randrange(len(mutated))
                mutated[at], mutated[other] = mutated[other], mutated[at]
                continue
            elif what == "double":
                mutated.insert(at, mutated[at])
                continue
            mutated[at] = " ".join(parts) if what != "line" else ""
        text = "\n".join(mutated)
        outcome = _outcome(text)
        if outcome is None:
            read += 1
        else:
            assert outcome.startswith(f"{PATH}:"), (seed, text)
            assert len(outcome) < 400, (seed, text)
            assert "\n" not in outcome, (seed, text)
    assert read > 20, "nearly all were refused, so this shows little"


def _outcome(text: str) -> str | None:
    """Return why a configuration is refused; None if it is read."""
    try:
        result = haproxy.read(PATH, Texts({PATH: text}))
    except ConfigError as error:
        return str(error)
    assert render(tidy(result.document))
    return None


LINES = [
    "acl tls req.ssl_hello_type 1",
    "acl ours src 10.0.0.0/8 -f no.lst",
    "tcp-request connection reject if { src 192.0.2.0/24 } !ours",
    "tcp-request content reject if !tls",
    "use_backend two if tls { req.ssl_sni -m end .example.com } or { dst_port 80:90 }",
    "stick-table type ip size 1m store conn_rate(10s)",
    "tcp-request connection reject if { src_conn_rate gt 10 }",
    "bind :8443 ssl crt /x.pem alpn h2 ssl-min-ver TLSv1.2 verify none",
    'log-format "%ci %[src]"',
]
