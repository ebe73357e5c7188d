"""Two configurations in, the list of changes out."""

import pathlib

import pytest
from nginy.commands.moving import moved_share
from nginy.commands.plan import Plan, plan, render_plan
from nginy.config.schema import Config

from kit.configs import loaded

RING = "{hash: $remote_addr, consistent: true}"


def pools(*lines: str, listeners: str = "{listen: 127.0.0.1:80, return: hello}") -> str:
    text = "".join(f"  {line}\n" for line in lines)
    return f"upstreams:\n{text}listeners:\n- {listeners}\n"


def of(directory: pathlib.Path, old: str, new: str) -> Plan:
    return plan(loaded(directory, old), loaded(directory, new))


def changes(directory: pathlib.Path, old: str, new: str) -> list[str]:
    return [str(change) for change in of(directory, old, new).changes]


def test_equal_configurations_change_nothing_wherever_they_were_written(
    tmp_path: pathlib.Path,
) -> None:
    text = pools("web: {backends: [127.0.0.1:1, 127.0.0.1:2]}")
    made = of(tmp_path, text, f"\n# moved down\n\n{text}")
    assert made.changes == ()
    assert made.unchanged == ("upstream web", "listener 127.0.0.1:80")


def test_backends_come_go_and_change_under_their_upstream(tmp_path: pathlib.Path) -> None:
    assert changes(
        tmp_path,
        pools("web: {backends: [127.0.0.1:1, 127.0.0.1:2, 127.0.0.1:3]}"),
        pools(
            "web: {backends: [{address: 127.0.0.1:2, weight: 5, down: true}, 127.0.0.1:3,"
            " 127.0.0.1:4]}"
        ),
    ) == [
        "upstream web: backend 127.0.0.1:2 changed: weight 1 -> 5, down off -> on",
        "upstream web: backend 127.0.0.1:4 added",
        "upstream web: backend 127.0.0.1:1 removed (drains: its sessions go on)",
    ]


@pytest.mark.parametrize(
    ("keys", "limit"),
    [
        ("proxy_drain_timeout: 3s", ", 3s at most"),
        ("protocol: udp", ", 30s at most"),
        ("proxy_drain_timeout: off", ""),
    ],
)
def test_a_drain_that_ends_is_said_to_end(tmp_path: pathlib.Path, keys: str, limit: str) -> None:
    text = f"listeners: {{listen: 127.0.0.1:80, proxy_pass: web, {keys}}}\nupstreams: "
    assert changes(
        tmp_path,
        f"{text}{{web: {{backends: [127.0.0.1:1, 127.0.0.1:2]}}}}\n",
        f"{text}{{web: {{backends: [127.0.0.1:2]}}}}\n",
    ) == [f"upstream web: backend 127.0.0.1:1 removed (drains: its sessions go on{limit})"]


def test_backends_of_one_address_are_told_apart_by_their_count(tmp_path: pathlib.Path) -> None:
    assert changes(
        tmp_path,
        pools("web: {backends: [127.0.0.1:1, 127.0.0.1:1]}"),
        pools("web: {backends: [127.0.0.1:1]}"),
    ) == ["upstream web: backend 127.0.0.1:1 #2 removed (drains: its sessions go on)"]


def test_the_order_of_backends_alone_is_no_change(tmp_path: pathlib.Path) -> None:
    one, two = "127.0.0.1:1, 127.0.0.1:2", "127.0.0.1:2, 127.0.0.1:1"
    assert not changes(
        tmp_path, pools(f"web: {{backends: [{one}]}}"), pools(f"web: {{backends: [{two}]}}")
    )


def test_upstreams_come_go_and_change_their_method(tmp_path: pathlib.Path) -> None:
    assert changes(
        tmp_path,
        pools("web: {backends: 127.0.0.1:1}", "old: {backends: 127.0.0.1:1}"),
        pools(
            "web: {backends: 127.0.0.1:1, balance: least_conn}",
            "new: {backends: [127.0.0.1:1, 127.0.0.1:2]}",
        ),
    ) == [
        "upstream web changed: balance round_robin -> least_conn",
        "upstream new added: 2 backends",
        "upstream old removed (its sessions go on)",
    ]


def test_a_check_within_an_upstream_shows_the_key_that_differs(tmp_path: pathlib.Path) -> None:
    assert changes(
        tmp_path,
        pools("web: {backends: 127.0.0.1:1, health_check: {type: tcp, interval: 5s}}"),
        pools("web: {backends: 127.0.0.1:1, health_check: {type: tcp, interval: 9s}}"),
    ) == ["upstream web changed: health_check.interval 5s -> 9s"]


def test_secrets_are_not_shown(tmp_path: pathlib.Path) -> None:
    def checked(secret: str) -> str:
        steps = f"steps: [{{send: '{secret}', expect: '+OK'}}, {{send: QUIT}}]"
        return pools(
            "web:",
            "  backends: 127.0.0.1:1",
            f"  health_check: {{type: http, headers: {{Authorization: {secret}}}}}",
            f"  agent_check: {{port: 7, send: {secret}}}",
            "db:",
            "  backends: 127.0.0.1:2",
            f"  health_check: {{type: tcp, {steps}}}",
        )

    web, db = changes(tmp_path, checked("hush"), checked("psst"))
    assert "health_check.headers {Authorization: ***} -> {Authorization: ***}" in web
    assert "agent_check.send *** -> ***" in web
    assert db.count("{send: ***, expect: +OK") == 2
    assert "hush" not in web + db
    assert "psst" not in web + db
    bare = checked("hush").replace("http, headers: {Authorization: hush}", "tcp")
    (web,) = changes(tmp_path, bare, checked("hush"))
    assert "health_check.headers - -> {Authorization: ***}" in web


def test_listeners_are_known_by_address_and_protocol(tmp_path: pathlib.Path) -> None:
    assert changes(
        tmp_path,
        "listeners:\n- {listen: 127.0.0.1:80, return: a}\n- {listen: 127.0.0.1:81, return: b}\n",
        "listeners:\n- {listen: 127.0.0.1:81, return: c}\n"
        "- {listen: 127.0.0.1:81, protocol: udp, proxy_pass: 127.0.0.1:9}\n",
    ) == [
        "upstream 127.0.0.1:9 added: 1 backend",
        "listener 127.0.0.1:81 changed: return b -> c",
        "listener 127.0.0.1:81 udp added: to 127.0.0.1:9",
        "listener 127.0.0.1:80 removed (its sessions go on, 30s at most)",
    ]


def test_addresses_of_one_listener_that_fare_alike_share_a_line(tmp_path: pathlib.Path) -> None:
    made = of(
        tmp_path,
        "listeners: {listen: 127.0.0.1:8000-8010, return: a}\n",
        "listeners: {listen: [127.0.0.1:8000-8005, 127.0.0.1:8007-8012], return: a}\n",
    )
    assert [str(change) for change in made.changes] == [
        "listener 127.0.0.1:8011-8012 added: returns text",
        "listener 127.0.0.1:8006 removed (its sessions go on, 30s at most)",
    ]
    assert made.unchanged == ("listener 127.0.0.1:8000-8005, 127.0.0.1:8007-8010",)


def test_without_a_deadline_the_sessions_of_a_removed_listener_just_go_on(
    tmp_path: pathlib.Path,
) -> None:
    off = "worker_shutdown_timeout: off\n"
    assert changes(
        tmp_path,
        f"{off}listeners: {{listen: [127.0.0.1:1, 127.0.0.1:2], return: a}}\n",
        f"{off}listeners: {{listen: 127.0.0.1:1, return: a}}\n",
    ) == ["listener 127.0.0.1:2 removed (its sessions go on)"]


@pytest.mark.parametrize(
    ("old", "new", "change"),
    [
        (
            "worker_connections: 10",
            "worker_connections: 20",
            "worker_connections changed: 10 -> 20",
        ),
        ("pid: off", "pid: /a/b", "pid changed: off -> /a/b"),
        ("user: a", "user: b", "user changed: a -> b (needs a restart)"),
        (
            "event_method: poll",
            "event_method: select",
            "event_method changed: poll -> select (needs a restart)",
        ),
        (
            "error_log: {path: stderr, level: info}",
            "error_log: {path: stderr, level: warn}",
            "error_log changed: level info -> warn",
        ),
        (
            "log_formats: {x: $status}",
            "log_formats: {y: $status}",
            "log_formats changed: x $status -> -, y - -> $status",
        ),
        (
            "resolver: {nameservers: 127.0.0.1}",
            "resolver: {nameservers: [127.0.0.2, 127.0.0.1]}",
            "resolver changed: nameservers + 127.0.0.2:53",
        ),
        (
            "resolver: {nameservers: [127.0.0.1, 127.0.0.2]}",
            "resolver: {nameservers: [127.0.0.2, 127.0.0.1]}",
            (
                "resolver changed: nameservers [127.0.0.1:53, 127.0.0.2:53] ->"
                " [127.0.0.2:53, 127.0.0.1:53]"
            ),
        ),
    ],
)
def test_settings_of_the_process_show_old_and_new(
    tmp_path: pathlib.Path, old: str, new: str, change: str
) -> None:
    listeners = "listeners: {listen: 127.0.0.1:80, return: a}\n"
    assert changes(tmp_path, f"{old}\n{listeners}", f"{new}\n{listeners}") == [change]


def test_an_inherited_access_log_shows_where_it_counts(tmp_path: pathlib.Path) -> None:
    listeners = "listeners: {listen: 127.0.0.1:80, return: a}\n"
    assert changes(
        tmp_path, f"access_log: /a\n{listeners}", f"access_log: {{path: /b}}\n{listeners}"
    ) == ["listener 127.0.0.1:80 changed: access_log.path /a -> /b"]


def test_a_long_value_is_cut_and_a_line_break_is_escaped(tmp_path: pathlib.Path) -> None:
    (change,) = changes(
        tmp_path,
        'listeners: {listen: 127.0.0.1:80, return: "a\\n"}\n',
        f"listeners: {{listen: 127.0.0.1:80, return: {'b' * 90}}}\n",
    )
    assert change == f"listener 127.0.0.1:80 changed: return 'a\\n' -> {'b' * 60}..."


# Keys that move.


def share(directory: pathlib.Path, old: str, new: str) -> float | None:
    before, after = (loaded(directory, pools(f"web: {text}")) for text in (old, new))
    return moved_share(before.upstreams["web"], after.upstreams["web"])


def backends(count: int, first: int = 1) -> str:
    return f"[{', '.join(f'10.0.0.{n}:80' for n in range(first, first + count))}]"


@pytest.mark.parametrize("method", [RING, "{maglev: $remote_addr}", "{rendezvous: $remote_addr}"])
def test_a_tenth_backend_takes_a_tenth_of_the_keys(tmp_path: pathlib.Path, method: str) -> None:
    moved = share(
        tmp_path,
        f"{{balance: {method}, backends: {backends(9)}}}",
        f"{{balance: {method}, backends: {backends(10)}}}",
    )
    assert moved == pytest.approx(0.1, abs=0.04)


def test_the_plain_hash_moves_most_keys_when_a_backend_goes(tmp_path: pathlib.Path) -> None:
    moved = share(
        tmp_path,
        f"{{balance: {{hash: $remote_addr}}, backends: {backends(10)}}}",
        f"{{balance: {{hash: $remote_addr}}, backends: {backends(9, first=2)}}}",
    )
    assert moved is not None
    assert moved > 0.8


def test_only_the_keys_of_a_backend_that_is_taken_down_move(tmp_path: pathlib.Path) -> None:
    down = "[10.0.0.1:80, 10.0.0.2:80, 10.0.0.3:80, {address: 10.0.0.4:80, down: true}]"
    moved = share(
        tmp_path,
        f"{{balance: {RING}, backends: {backends(4)}}}",
        f"{{balance: {RING}, backends: {down}}}",
    )
    assert moved == pytest.approx(0.25, abs=0.06)


def test_names_that_nobody_has_resolved_have_their_share_of_the_keys(
    tmp_path: pathlib.Path,
) -> None:
    moved = share(
        tmp_path,
        f"{{balance: {RING}, backends: ['a.internal:80', 'b.internal:80']}}",
        f"{{balance: {RING}, backends: ['a.internal:80', 'c.internal:80']}}",
    )
    assert moved is not None
    assert 0.3 < moved < 0.8


def test_methods_without_keys_have_no_share(tmp_path: pathlib.Path) -> None:
    assert share(tmp_path, "{backends: 10.0.0.1:80}", f"{{backends: {backends(2)}}}") is None


# For reading.


def rendered(directory: pathlib.Path, old: str, new: str) -> str:
    configs: list[Config] = [loaded(directory, text) for text in (old, new)]
    return render_plan(*configs)


def test_the_text_is_marked_as_a_diff(tmp_path: pathlib.Path) -> None:
    text = rendered(
        tmp_path,
        pools(f"web: {{balance: {RING}, backends: [10.0.0.1:80]}}", "a: {backends: 10.0.0.1:80}"),
        pools(
            f"web: {{balance: {RING}, backends: [10.0.0.1:80]}}",
            "b: {backends: 10.0.0.1:80}",
            listeners="{listen: 127.0.0.1:80, return: bye}",
        ),
    )
    assert text.splitlines() == [
        "+ upstream b added: 1 backend",
        "- upstream a removed (its sessions go on)",
        "~ listener 127.0.0.1:80 changed: return hello -> bye",
        "= upstream web unchanged",
    ]


def test_the_text_tells_how_many_keys_move(tmp_path: pathlib.Path) -> None:
    text = rendered(
        tmp_path,
        pools(f"web: {{balance: {RING}, backends: [10.0.0.1:80, 10.0.0.2:80]}}"),
        pools(f"web: {{balance: {RING}, backends: [10.0.0.1:80, 10.0.0.3:80]}}"),
    )
    (line,) = [line for line in text.splitlines() if "keys" in line]
    assert line.startswith("~ upstream web: ")
    assert line.endswith("% of keys move to another backend")


def test_the_text_says_when_there_is_nothing_to_do(tmp_path: pathlib.Path) -> None:
    text = pools("web: {backends: 127.0.0.1:1}")
    assert rendered(tmp_path, text, text).splitlines()[-1] == "nothing changes"


def routing(*routes: str) -> str:
    lines = "".join(f"  - {{{route}}}\n" for route in routes)
    head = "upstreams: {a: {backends: 127.0.0.1:1}}\n"
    return f"{head}listeners:\n- listen: 127.0.0.1:10000-10499\n  proxy_pass: a\n  routes:\n{lines}"


def test_routes_that_come_go_and_move_are_named(tmp_path: pathlib.Path) -> None:
    old = loaded(tmp_path, routing("sni: a, deny: on", "sni: b, deny: on", "sni: c, deny: on"))
    new = loaded(tmp_path, routing("sni: c, deny: on", "sni: a, deny: on", "sni: d, return: x"))
    (change,) = plan(old, new).changes
    assert str(change) == (
        "listener 127.0.0.1:10000-10499 changed: route + {sni: [d], return: x},"
        " route - {sni: [b], deny: on}, routes in another order"
    )
    assert plan(new, new).changes == ()


def test_a_new_listener_with_routes_says_where_it_leads(tmp_path: pathlib.Path) -> None:
    old = loaded(tmp_path, "listeners: {listen: 127.0.0.1:80, return: x}\n")
    new = loaded(tmp_path, routing("sni: a, deny: on"))
    added = [str(change) for change in plan(old, new).changes if change.action == "added"]
    assert added[-1] == "listener 127.0.0.1:10000-10499 added: 1 route, else to a"
