"""The key `variables`: what it defines, where its names may be used, and what is wrong with it."""

import pathlib

import pytest
from nginy.commands.explain import explain
from nginy.commands.plan import plan
from nginy.config.checking.surprises import surprises
from nginy.config.checking.targets import upstreams_of
from nginy.config.dump import dump
from nginy.config.load import load
from nginy.config.possible import possible
from nginy.config.variables import definitions

from kit.configs import LISTENER, loaded, refusals, write

ALL = """
variables:
  site:
    map: $proxy_protocol_tlv_authority
    hostnames: on
    values: {a.example.com: web, "*.example.com": api, '~^(?<name>x[0-9])(-.*)?$': "$name$2$zone"}
    default: web
  zone:
    geo: $remote_addr
    values: {10.0.0.0/8: inside, "2001:db8::/32": inside, file: networks.txt}
    default: "$protocol"
  group: {split: "$remote_addr$site", values: {5%: canary, 0.5%: ''}, default: main}
  outcome: {map: $status, values: {'200': good}, default: bad}
log_formats: {own: '$site $zone $group $outcome'}
access_log: {path: /dev/null, format: own}
upstreams: {web: {balance: {hash: "$site-$zone"}, backends: ['10.0.0.1:80', '10.0.0.2:80']}}
listeners:
- {listen: 127.0.0.1:80, proxy_pass: web, limit_conn: {key: $zone, max: 1}}
- {listen: 127.0.0.1:81, return: "$site"}
"""


def looked_up(directory: pathlib.Path, name: str, text: str, config: str = ALL) -> str:
    write(directory, "192.0.2.0/24 lab;\n\n192.0.2.1 \tdesk # mine\n", "networks.txt")
    definition = definitions(loaded(directory, config).variables)[name]
    return definition.values[definition.lookup.find(text)[0]]


def test_what_is_read_can_be_asked(tmp_path: pathlib.Path) -> None:
    for name, text, value in [
        ("site", "b.example.com", "api"),
        ("site", "x1-y", "$name$2$zone"),
        ("site", "", "web"),
        ("zone", "10.0.0.1", "inside"),
        ("zone", "192.0.2.7", "lab"),
        ("zone", "192.0.2.1", "desk"),
        ("zone", "unix:", "$protocol"),
        ("outcome", "200", "good"),
    ]:
        assert looked_up(tmp_path, name, text) == value


def test_what_is_dumped_loads_to_the_same_variables(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "192.0.2.0/24 lab\n", "networks.txt")
    config = loaded(tmp_path, ALL)
    text = dump(config)
    assert f"file: {tmp_path}/networks.txt" in text
    assert "split: off" not in text
    again = load(write(tmp_path, text, "away/dumped.yml"), {})
    assert again == config
    assert dump(again) == text


def test_files_that_are_included_define_more(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "variables: {b: {map: $a, values: {x: y}}}\n", "more.yml")
    text = f"include: more.yml\nvariables: {{a: {{map: $pid, values: {{x: y}}}}}}\n{LISTENER}"
    assert list(loaded(tmp_path, text).variables) == ["a", "b"]


def test_a_reload_sees_another_value_and_another_file(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "192.0.2.0/24 lab\n", "networks.txt")
    before = loaded(tmp_path, ALL)
    after = loaded(tmp_path, ALL.replace("10.0.0.0/8: inside", "10.0.0.0/8: outside"))
    (change,) = plan(before, after).changes
    assert str(change) == "variables changed: zone.values.10.0.0.0/8 inside -> outside"
    write(tmp_path, "192.0.2.0/24 labs\n", "networks.txt")
    (change,) = plan(before, loaded(tmp_path, ALL)).changes
    assert str(change) == "variables changed: a file that it names has changed"


def variable(text: str) -> str:
    return f"variables: {{v: {text}, w: {{map: $pid, values: {{x: y}}}}}}\n{LISTENER}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("web", 'v: "web", expected the keys of a variable'),
        ("{values: {a: b}}", "v: no method, expected one of map, geo and split"),
        ("{map: $pid, geo: $pid, values: {a: b}}", "v: map and geo, expected one of map, geo and"),
        ("{map: $pid}", 'v: "values" is missing, expected a mapping of texts to values'),
        ("{map: $pid, values: [a]}", "values: a list, expected a mapping of texts to values"),
        ("{map: $pid, values: {a: {b: c}}}", 'values: a mapping for "a", expected a text'),
        ("{map: $pid, values: {a: }}", 'values: no value for "a", expected a text'),
        ("{map: $pdi, values: {a: b}}", 'map: "$pdi" names unknown variables ($pdi), expected tex'),
        ("{map: $pid, values: {a: $nope}}", 'values: "$nope" names unknown variables ($nope), exp'),
        ("{map: $pid, values: {a: b}, default: $x}", 'default: "$x" names unknown variables ($x)'),
        ("{map: $pid, values: {'~(': b}}", 'values: "~(" is not a regular expression (missing ),'),
        ("{map: $pid, values: {'~(.*)*': b}}", "has a repetition within a repetition, which can t"),
        ("{map: $pid, values: {'~(.)': $2}}", 'values: "$2" names unknown variables ($2), expect'),
        ("{map: $pid, values: {'~(?<w>.)': $w}}", 'the group "w" has the name of a variable, expe'),
        ("{map: $pid, values: {'~(?<msec>.)': x}}", 'the group "msec" has the name of a variable'),
        ("{map: $pid, values: {a: b, A: c}}", '"A" is already listed at '),
        ("{geo: $pid, values: {a: b}}", '"a" is neither an IP address nor a network, expected a n'),
        ("{geo: $pid, values: {10.0.0.1/8: b}}", '(did you mean "10.0.0.0/8"?)'),
        ("{geo: $pid, values: {'::/0': a, '::0/0': b}}", '"::0/0" has another value at '),
        ("{geo: $pid, values: {file: no.txt}}", 'no.txt" cannot be read: No such file or director'),
        ("{geo: $pid, values: {file: no}}", 'values: "no" is a word, not a path, expected the '),
        ("{split: $pid, values: {x: a}}", 'values: "x" is not a share, expected a share such as 5'),
        (
            "{split: $pid, values: {0%: a}}",
            'values: "0%" is too small, expected a share such as 5%',
        ),
        ("{split: $pid, values: {'*': a}}", 'values: "*" is not a share, expected the rest in def'),
        ("{split: $pid, values: {60%: a, 41%: b}}", "values: the shares add up to 101%, expected "),
        (
            "{geo: $pid, values: {'::': b}, hostnames: on}",
            "v: hostnames: cannot be combined with geo",
        ),
        ("{mapp: $pid, values: {a: b}}", 'unknown key "mapp" in a variable (did you mean "map"?)'),
    ],
)
def test_a_mistake_has_its_place_and_what_was_expected(
    tmp_path: pathlib.Path, text: str, message: str
) -> None:
    found = refusals(tmp_path, variable(text))
    assert found[0].startswith("nginy.yml:1:")
    assert message in found[0]


def test_bad_lines_of_a_file_are_found_all_by_line(tmp_path: pathlib.Path) -> None:
    lines = ["10.0.0.0/8 one", "10.0.0.0/8 two", "bad x", "1.2.3.4", "::1 $pid", "::2 fine;"]
    write(tmp_path, "\n".join(lines), "n.txt")
    assert refusals(tmp_path, variable("{geo: $remote_addr, values: {file: n.txt}}")) == [
        'n.txt:2:1: values: "10.0.0.0/8" has another value at n.txt:1:1',
        (
            'n.txt:3:1: values: "bad" is neither an IP address nor a network, expected a network'
            " such as 10.0.0.0/8 or an address"
        ),
        'n.txt:4:1: values: "1.2.3.4" has no value after it, expected NETWORK VALUE',
        'n.txt:5:1: values: "$pid" names a variable, expected plain text in a file',
    ]


def test_a_file_of_another_format_is_not_reported_line_by_line(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "{}\n" * 1000, "n.txt")
    found = refusals(tmp_path, variable("{geo: $remote_addr, values: {file: n.txt}}"))
    assert len(found) == 21
    assert found[-1].endswith('values: 980 more lines of "n.txt" are wrong')


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{v: {map: $v, values: {a: b}}}", "variables: $v refers to itself: $v -> $v"),
        (
            "{v: {map: $w, values: {a: b}}, w: {map: $pid, values: {a: b}, default: $v}}",
            "variables: $v refers to itself: $v -> $w -> $v",
        ),
        (
            "{v: {geo: $pid, values: {10.0.0.1: x$v}}}",
            "variables: $v refers to itself: $v -> $v",
        ),
        (
            "{pid: {map: $protocol, values: {a: b}}}",
            "variables: $pid is a variable of nginy's own, expected another name",
        ),
        (
            "{proxy_protocol_tlv_0x7f: {map: $protocol, values: {a: b}}}",
            "variables: $proxy_protocol_tlv_0x7f is a variable of nginy's own, expected another n",
        ),
        ("{v-w: {map: $pid, values: {a: b}}}", '"v-w" is not a name, expected letters, digits a'),
    ],
)
def test_names_that_cannot_be(tmp_path: pathlib.Path, text: str, message: str) -> None:
    found = refusals(tmp_path, f"variables: {text}\n{LISTENER}")
    assert found[0].startswith("nginy.yml:1:")
    assert message in found[0]


def test_a_name_that_was_probably_meant_is_offered(tmp_path: pathlib.Path) -> None:
    text = "variables: {tenant: {map: $pid, values: {a: b}}}\nlisteners: {listen: 127.0.0.1:80, "
    (found,) = refusals(tmp_path, text + "return: $tennant}\n")
    assert found.endswith('(did you mean "$tenant"?)')


LATE = """
variables:
  outcome: {map: $status, values: {'200': good}}
  through: {map: $outcome, values: {good: yes}}
"""


@pytest.mark.parametrize(
    ("listener", "key"),
    [
        ("{listen: 127.0.0.1:80, return: $through}", "return"),
        ("{listen: 127.0.0.1:80, return: x, limit_conn: {key: $through, max: 1}}", "key"),
    ],
)
def test_what_is_known_at_the_end_is_no_key(
    tmp_path: pathlib.Path, listener: str, key: str
) -> None:
    (found,) = refusals(tmp_path, f"{LATE}listeners: {listener}\n")
    clause = "names $through, which needs $status, which is known only when a session ends"
    assert f'{key}: "$through" {clause}, expected' in found


def test_a_hash_key_must_be_known_at_the_beginning(tmp_path: pathlib.Path) -> None:
    upstream = "upstreams: {u: {balance: {hash: $outcome}, backends: '10.0.0.1:80'}}\n"
    found = refusals(tmp_path, f"{LATE}{upstream}listeners: {{listen: 127.0.0.1:80, return: x}}")
    assert "balance: " in found[0]
    assert "names $outcome, which needs $status, which is known only when a session" in found[0]


# What a variable may be.

CHOICES = """
variables:
  site: {map: $remote_addr, values: {a: web, b: $zone, c: $site2}, default: $remote_addr}
  site2: {map: $remote_addr, values: {a: "x$zone"}, default: web}
  zone: {geo: $remote_addr, values: {10.0.0.0/8: in, file: networks.txt}, default: out}
  whole: {split: $remote_addr, values: {50%: one, 50.00%: two}}
  part: {split: $remote_addr, values: {50%: one}}
"""


@pytest.mark.parametrize(
    ("name", "texts"),
    [
        ("site", ["web", "in", "lab", "out", "x$zone", "web", "$remote_addr"]),
        ("zone", ["in", "lab", "out"]),
        ("whole", ["one", "two"]),
        ("part", ["one", ""]),
    ],
)
def test_what_a_variable_may_be(tmp_path: pathlib.Path, name: str, texts: list[str]) -> None:
    write(tmp_path, "192.0.2.0/24 lab\n192.0.3.0/24 in\n", "networks.txt")
    config = loaded(tmp_path, CHOICES + LISTENER)
    found = list(possible(name, config.variables))
    assert [each.text for each in found] == texts
    assert all(each.mark.line for each in found)


@pytest.mark.parametrize("values", ["{a: ''}", "{a: '', b: $other}"])
def test_a_limit_by_a_variable_that_is_always_empty_limits_nobody(
    tmp_path: pathlib.Path, values: str
) -> None:
    variables = f"v: {{map: $remote_addr, values: {values}}}"
    other = "other: {split: $remote_addr, values: {50%: ''}}"
    listener = "{listen: 127.0.0.1:80, return: x, limit_conn: {key: $v, max: 1}}"
    found = refusals(tmp_path, f"variables: {{{variables}, {other}}}\nlisteners: {listener}\n")
    assert [line.partition(", expected")[0] for line in found] == [
        'nginy.yml:2:64: key: "$v" is empty for every client'
    ]
    text = variables.replace("b: $other", "b: x").replace("''}", "x}")
    loaded(tmp_path, f"variables: {{{text}, {other}}}\nlisteners: {listener}\n")


# proxy_pass by a variable.

TARGETS = """
variables:
  site: {map: $remote_addr, values: {a: web, b: '127.0.0.1:9', c: $zone}, default: 'unix:/tmp/x'}
  zone: {geo: $remote_addr, values: {10.0.0.0/8: api, file: networks.txt}, default: web}
defaults: {balance: least_conn}
upstreams: {web: {backends: '10.0.0.1:80'}, api: {backends: '10.0.0.2:80'}}
"""
SITE = "listeners:\n- {listen: 127.0.0.1:80, proxy_pass: $site}\n"


def test_a_listener_leads_wherever_its_variable_may_lead(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "192.0.2.0/24 10.0.0.3:80\n", "networks.txt")
    config = loaded(tmp_path, TARGETS + SITE)
    names = ["web", "127.0.0.1:9", "api", "10.0.0.3:80", "unix:/tmp/x"]
    assert upstreams_of(config.listeners[0]) == names
    assert sorted(config.upstreams) == sorted(names)
    assert config.upstreams["127.0.0.1:9"].balance.method == "least_conn"
    assert not [text for text in surprises(config) if "no listener leads to" in text]


def test_a_route_may_lead_by_a_variable(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "", "networks.txt")
    listener = "{listen: 127.0.0.1:80, proxy_pass: web, routes: {from: all, proxy_pass: $zone}}"
    config = loaded(tmp_path, f"{TARGETS}listeners: {listener}\n")
    assert upstreams_of(config.listeners[0]) == ["web", "api"]


def test_such_a_listener_is_dumped_as_it_is_read(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "", "networks.txt")
    config = loaded(tmp_path, TARGETS + SITE)
    assert "  proxy_pass: $site\n" in dump(config)
    assert load(write(tmp_path, dump(config), "dumped.yml"), {}) == config


def test_explain_says_which_value_a_client_has(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "", "networks.txt")
    config = loaded(tmp_path, TARGETS + SITE.replace("$site", "$zone"))
    for client, name in [("10.0.0.1", "api"), ("11.0.0.1", "web")]:
        lines = explain(config, "127.0.0.1:80", client).splitlines()
        text = f'$zone is "{name}", the session goes to upstream {name}'
        assert f"rules     none but proxy_pass: {text}" in lines
        assert sum(line.startswith("choice    10.0.0.") for line in lines) == 1


def test_a_reload_says_what_becomes_of_backends_behind_a_variable(tmp_path: pathlib.Path) -> None:
    write(tmp_path, "", "networks.txt")
    text = TARGETS + SITE.replace("$site", "$site, proxy_drain_timeout: 7s")
    before = loaded(tmp_path, text)
    after = loaded(tmp_path, text.replace("'10.0.0.2:80'", "'10.0.0.3:80'"))
    assert "upstream api: backend 10.0.0.2:80 removed (drains: its sessions go on, 7s at most)" in [
        str(change) for change in plan(before, after).changes
    ]


@pytest.mark.parametrize(
    ("values", "default", "message"),
    [
        ("{a: webb}", "web", 'may be "webb", expected an upstream\'s name or an address'),
        ("{a: webb}", "web", '(did you mean "web"?)'),
        ("{a: web}", "''", "may be empty, expected an upstream's name or an address"),
        ("{'~(.*)': $1}", "web", 'may be "$1", which depends on the client, expected an upstre'),
        ("{a: web}", "$remote_addr", 'may be "$remote_addr", which depends on the client'),
        ("{a: '127.0.0.1'}", "web", 'may be "127.0.0.1", expected an upstream\'s name or an ad'),
        ("{a: $other}", "web", 'may be "nowhere", expected an upstream\'s name or an address'),
    ],
)
def test_a_value_that_is_no_upstream_is_refused(
    tmp_path: pathlib.Path, values: str, default: str, message: str
) -> None:
    text = (
        f"variables:\n  v: {{map: $remote_addr, values: {values}, default: {default}}}\n"
        "  other: {map: $remote_addr, values: {a: nowhere}, default: web}\n"
        "upstreams: {web: {backends: '10.0.0.1:80'}}\n"
        "listeners:\n- {listen: 127.0.0.1:80, proxy_pass: $v}\n"
        "- {listen: 127.0.0.1:81, proxy_pass: $v}\n"
    )
    found = refusals(tmp_path, text)
    assert len(found) == 2
    for each, line in zip(found, (6, 7), strict=True):
        assert each.startswith(("nginy.yml:2:", "nginy.yml:3:"))
        assert ": $v may be" in each
        assert message in each
        assert f"as proxy_pass at nginy.yml:{line}:" in each


@pytest.mark.parametrize(
    ("target", "message"),
    [
        ("$nope", 'proxy_pass: "$nope" names unknown variables ($nope), expected an upstream'),
        ("$remote_addr", '"$remote_addr" could be anything, not only what `variables` lists,'),
        (
            "$v$v",
            'proxy_pass: "$v$v" is not a single variable, expected an upstream\'s name, an ad',
        ),
        ("x$v", 'proxy_pass: "x$v" is not a single variable, expected an upstream\'s name, an add'),
        ("$late", "names $late, which needs $status, which is known only when a session ends"),
    ],
)
def test_a_target_that_is_no_variable_of_the_configuration(
    tmp_path: pathlib.Path, target: str, message: str
) -> None:
    text = (
        "variables:\n  v: {map: $remote_addr, values: {a: web}, default: web}\n"
        "  late: {map: $status, values: {a: web}, default: web}\n"
        "upstreams: {web: {backends: '10.0.0.1:80'}}\n"
        f"listeners:\n- {{listen: 127.0.0.1:80, proxy_pass: {target}}}\n"
    )
    (found,) = refusals(tmp_path, text)
    assert found.startswith("nginy.yml:6:")
    assert message in found


def test_a_backend_behind_a_variable_that_leads_back_is_refused(tmp_path: pathlib.Path) -> None:
    text = (
        "variables: {v: {map: $remote_addr, values: {a: '127.0.0.1:80'}, default: '10.0.0.1:80'}}\n"
        "listeners: {listen: 127.0.0.1:80, proxy_pass: $v}\n"
    )
    (found,) = refusals(tmp_path, text)
    assert "backend 127.0.0.1:80 leads back to the listener" in found


EARLY = """
variables:
  site: {map: $ssl_preread_server_name, values: {a: web}, default: web}
  group: {map: $remote_addr, values: {a: $site}, default: x}
  trusted: {map: $ssl_client_verify, values: {SUCCESS: 'yes'}}
upstreams: {web: {backends: '10.0.0.1:80'}}
listeners:
"""


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        (
            "limit_conn: {key: $site, max: 1}",
            "key: $site needs $ssl_preread_server_name, which is not known yet when limits are che",
        ),
        (
            "limit_conn_rate: {key: '$remote_addr$group', rate: 1}",
            "key: $group needs $ssl_preread_server_name, which is not known yet when limits are ch",
        ),
        (
            "limit_conn: {key: $trusted, max: 1}",
            "key: $trusted needs $ssl_client_verify, which is not known yet when limits are check",
        ),
        (
            "routes: {when: {$trusted: 'yes'}, deny: on}",
            "when: $trusted needs $ssl_client_verify, which is not known yet when a route is chos",
        ),
        (
            "routes: {when: {$ssl_client_verify: NONE}, deny: on}",
            "when: $ssl_client_verify is not known yet when a route is chosen",
        ),
        (
            "routes: {share: 5%, key: $ssl_server_name, deny: on}",
            "key: $ssl_server_name is not known yet when a route is chosen",
        ),
    ],
)
def test_a_variable_that_is_asked_for_too_early_is_refused(
    tmp_path: pathlib.Path, keys: str, message: str
) -> None:
    """Its value would be that of a client who has sent nothing, and would be kept."""
    (found,) = refusals(tmp_path, f"{EARLY}- {{listen: 127.0.0.1:80, proxy_pass: web, {keys}}}\n")
    assert found.startswith("nginy.yml:8:")
    assert message in found


def test_a_circle_is_reported_and_followed_no_further(tmp_path: pathlib.Path) -> None:
    text = (
        "variables:\n  v: {map: $w, values: {a: $v}, default: $w}\n"
        "  w: {map: $v, values: {a: b}, default: $v}\n"
        "listeners:\n- {listen: 127.0.0.1:80, proxy_pass: $v, limit_conn: {key: $v, max: 1},"
        " routes: {when: {$w: a}, share: 5%, key: $v, proxy_pass: $w}}\n"
    )
    found = refusals(tmp_path, text)
    assert sum("refers to itself" in each for each in found) == 2


def test_a_variable_that_is_asked_for_in_time_is_fine(tmp_path: pathlib.Path) -> None:
    keys = "routes: {when: {$site: web}, share: 5%, key: $group, deny: on}"
    limit = "limit_conn: {key: $remote_addr$ssl_preread_server_name, max: 1}"
    loaded(tmp_path, f"{EARLY}- {{listen: 127.0.0.1:80, proxy_pass: $site, {keys}, {limit}}}\n")
