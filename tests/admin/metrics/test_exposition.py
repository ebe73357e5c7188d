"""The text of /metrics, read by a strict reader; and the files that name metrics."""

import json
import pathlib
import re
from typing import Any

import pytest
import yaml
from nginy.admin.metrics.exposition import Family, families, labels, prepare, render
from nginy.admin.metrics.measured import MEASURED, PROCESS
from nginy.backend.backend import Backend, BackendSettings
from nginy.backend.pool import BackendPool
from nginy.balancer.round_robin import RoundRobin
from nginy.text.address import parse_address

from kit.admin import Made, done, pool
from kit.openmetrics import read, value
from kit.program import CHECKOUT

EVIL = 'w"e\\b\nx{y="1"}'


def facts_of(*pools: BackendPool, **wanted: object) -> Any:
    made = Made(*pools)
    with made:
        facts, _ = done(MEASURED.collect(made.subject, wanted))
    return facts


def text_of(facts: Any, *, is_openmetrics: bool = False) -> str:
    done(prepare(facts))
    pieces, _ = done(render(families(facts, ()), is_openmetrics=is_openmetrics))
    return b"".join(pieces).decode()


@pytest.mark.parametrize("is_openmetrics", [False, True])
def test_a_strict_reader_takes_all_of_it(is_openmetrics: bool) -> None:
    web = pool("web", "10.0.0.1:80", "10.0.0.2:80")
    web.backends[0].counters.count("--", 5, 70)
    web.connects.count(3)
    web.turn_away(0)
    found = read(
        text_of(facts_of(web), is_openmetrics=is_openmetrics), is_openmetrics=is_openmetrics
    )
    one = {"upstream": "web", "backend": "10.0.0.1:80"}
    assert value(found, "nginy_backend_sessions_total", **one) == 1
    assert value(found, "nginy_backend_sessions", **one) == 0
    assert value(found, "nginy_backend_sent_bytes_total", **one) == 70
    assert value(found, "nginy_backend_state", **one) == 0
    assert value(found, "nginy_upstream_backends", upstream="web", state="up") == 2
    assert value(found, "nginy_upstream_connect_seconds_count", upstream="web") == 1
    assert value(found, "nginy_upstream_connect_seconds_sum", upstream="web") == 0.003
    assert value(found, "nginy_upstream_no_backend_total", upstream="web") == 1
    assert value(found, "nginy_metrics_backends_omitted") == 0
    assert value(found, "process_open_fds", worker="0") > 2


def test_series_that_are_left_out_take_slices_and_leave_no_empty_pieces() -> None:
    facts = facts_of(*(pool(f"up{i}", "10.0.0.1:80") for i in range(200)))
    done(prepare(facts))
    pieces, slices = done(render(families(facts, ()), is_openmetrics=False))
    assert all(pieces)
    assert slices > len(pieces)


def test_no_name_breaks_out_of_its_label() -> None:
    found = read(text_of(facts_of(pool(EVIL, "10.0.0.1:80"))), is_openmetrics=False)
    assert value(found, "nginy_upstream_sessions", upstream=EVIL) == 0
    assert labels() == ""


def test_a_backend_that_stands_there_twice_is_one_series() -> None:
    found = read(text_of(facts_of(pool("web", "10.0.0.1:80", "10.0.0.1:80"))), is_openmetrics=False)
    assert value(found, "nginy_backend_usable", upstream="web") == 1


def test_scopes_and_one_upstream_alone() -> None:
    web, mail = pool("web", "10.0.0.1:80"), pool("mail", "10.0.0.2:25")
    facts = facts_of(web, mail, scopes=["upstream", "backend"], upstream="mail")
    assert [each["name"] for each in facts["upstreams"]] == ["mail"]
    assert [each["address"] for each in facts["backends"]] == ["10.0.0.2:25"]
    assert facts["processes"] == facts["listeners"] == []


def test_beyond_the_limit_upstreams_have_no_series_for_backends() -> None:
    many = [
        Backend(BackendSettings(f"10.0.0.{i}:80", parse_address(f"10.0.0.{i}:80")))
        for i in range(1, 9)
    ]
    facts = facts_of(
        BackendPool("web", many, RoundRobin), pool("mail", "10.0.0.9:25"), backends_max=5
    )
    assert (len(facts["backends"]), facts["omitted"]) == (1, 8)
    assert len(facts["upstreams"]) == 2
    found = read(text_of(facts), is_openmetrics=False)
    assert value(found, "nginy_metrics_backends_omitted") == 8


def test_many_lines_are_made_in_slices() -> None:
    samples = (("", labels(n=str(i)), i) for i in range(5000))
    family = Family("nginy_many", "gauge", "Many", samples)
    pieces, slices = done(render([family], is_openmetrics=False))
    assert len(read(b"".join(pieces).decode(), is_openmetrics=False)["nginy_many"].samples) == 5000
    assert slices >= 10


def test_labels_of_many_backends_are_made_in_slices() -> None:
    row = {"upstream": "web", "address": "10.0.0.1:80"}
    facts = {"backends": [{**row, "address": f"10.0.0.1:{port}"} for port in range(2000)]}
    facts.update(processes=[], listeners=[], upstreams=[])
    assert done(prepare(facts))[1] > 7
    assert facts["backends"][7]["labels"] == '{upstream="web",backend="10.0.0.1:7"}'


def test_what_a_worker_reports_is_kept_and_garbage_is_not() -> None:
    facts = facts_of(pool("web", "10.0.0.1:80"))
    assert MEASURED.shape(json.loads(json.dumps(facts)))["processes"] == facts["processes"]
    assert PROCESS({"cpu_s": -1, "turns": {"counts": ["x"] * 99}})["turns"]["counts"] == [0] * 32
    assert MEASURED.merge([])["omitted"] == 0


def names_in(text: str) -> set[str]:
    return set(re.findall(r"\b(?:nginy|process)_[a-z_]+\b", text))


def expressions(path: pathlib.Path) -> str:
    if path.suffix == ".yml":
        rules = yaml.safe_load(path.read_text())["groups"][0]["rules"]
        return "\n".join(rule["expr"] for rule in rules)
    dashboard = json.loads(path.read_text())
    targets = [t["expr"] for panel in dashboard["panels"] for t in panel.get("targets", ())]
    queries = [each["query"] for each in dashboard["templating"]["list"]]
    return "\n".join([*targets, *queries])


@pytest.mark.parametrize("name", ["alerts.yml", "grafana.json"])
def test_the_files_name_only_metrics_that_exist(name: str) -> None:
    web = pool("web", "10.0.0.1:80")
    existing = names_in(text_of(facts_of(web)))
    general = (CHECKOUT / "nginy" / "admin" / "metrics" / "scraping.py").read_text()
    existing |= {f"{each}{end}" for each in existing for end in ("_bucket", "_sum", "_count")}
    existing |= names_in(general)
    used = names_in(expressions(CHECKOUT / "etc" / name))
    assert len(used) >= 4
    assert used <= existing


def test_the_reader_is_strict() -> None:
    for text in (
        "nginy_a 1\n",
        '# HELP a A.\n# TYPE a gauge\na{b="1",b="2"} 1\n',
        "# HELP a A.\n# TYPE a counter\na 1\n",
        "# HELP a A.\n# TYPE a gauge\na 1\na 1\n",
        "# HELP a A.\n# TYPE a gauge\na NaN\n",
        "# TYPE a gauge\na 1\n",
    ):
        with pytest.raises((AssertionError, KeyError)):
            read(text, is_openmetrics=False)
