"""The outcome of a reload: what is kept beside the pid file, and what is logged."""

import json
import logging
import pathlib
from collections.abc import Callable
from contextlib import AbstractContextManager

import pytest
from nginy.commands.plan import ChangeLine
from nginy.config.load import load
from nginy.process.report import (
    CHANGES_KEPT,
    CHANGES_LOGGED,
    ReloadOutcome,
    difference,
    outcome_of,
    report_refusal,
    report_reload,
)

ExpectLog = Callable[..., AbstractContextManager[list[logging.LogRecord]]]

OUTCOMES = [
    ReloadOutcome(1, 2),
    ReloadOutcome(1, 2, problems=("a.yml:1:1: wrong", "a.yml:2:1: wrong, too")),
    ReloadOutcome(
        1,
        2,
        warnings=("odd",),
        changes=(ChangeLine("+", "upstream u", "upstream u added"),),
        needs_restart=("workers",),
    ),
]


@pytest.mark.parametrize("outcome", OUTCOMES)
def test_an_outcome_is_read_as_it_was_written(outcome: ReloadOutcome) -> None:
    assert outcome_of(outcome.to_json()) == outcome


def test_a_part_of_an_outcome_is_none() -> None:
    """It is read while it is written; and a file may hold anything."""
    for outcome in OUTCOMES:
        text = outcome.to_json()
        assert {outcome_of(text[:length]) for length in range(len(text))} == {None}
    for text in ("null", "7", "[]", '{"began_ms": "soon", "took_ms": 1}'):
        assert outcome_of(text) is None
    without = {**json.loads(OUTCOMES[0].to_json())}
    del without["problems"]
    assert outcome_of(json.dumps(without)) is None


def test_a_change_is_read_as_an_older_program_writes_it() -> None:
    fields = json.loads(OUTCOMES[0].to_json())
    found = outcome_of(json.dumps({**fields, "changes": ["~ workers changed"]}))
    assert found is not None
    assert list(map(str, found.changes)) == ["~ workers changed"]
    assert outcome_of(json.dumps({**fields, "changes": [["~", "workers"]]})) is None


def test_an_outcome_in_a_sentence() -> None:
    assert [outcome.summary for outcome in OUTCOMES] == [
        "reloaded",
        "reload refused: a.yml:1:1: wrong (and 1 more)",
        "reloaded; needs a restart: workers",
    ]


def test_each_problem_of_a_refusal_is_logged(expect_log: ExpectLog) -> None:
    with expect_log("", count=3) as logged:
        outcome = report_refusal(5, ["one", "two"])
    assert [record.getMessage() for record in logged] == ["one", "two", "configuration not changed"]
    assert (outcome.began_ms, outcome.problems) == (5, ("one", "two"))


def test_a_large_reload_is_logged_in_part_and_kept_in_part(
    tmp_path: pathlib.Path, expect_log: ExpectLog
) -> None:
    configs = []
    for count in (1, CHANGES_KEPT + 2):
        backends = ", ".join(f"127.0.0.1:{port}" for port in range(1, count + 1))
        (tmp_path / "nginy.yml").write_text(
            f"upstreams: {{u: {{backends: [{backends}]}}}}\n"
            "listeners: {listen: 127.0.0.1:8080, proxy_pass: u}\n"
        )
        configs.append(load(str(tmp_path / "nginy.yml"), {}))
    with expect_log("^reload: ", count=CHANGES_LOGGED + 1, level=logging.INFO) as logged:
        outcome = report_reload(5, difference(*configs))
    assert len(outcome.changes) == CHANGES_KEPT
    assert str(outcome.changes[0]) == "+ upstream u: backend 127.0.0.1:2 added"
    more = CHANGES_KEPT + 1 - CHANGES_LOGGED
    assert logged[-1].getMessage() == f"reload: {more} more changes"


def test_no_change_shows_the_beginning_of_a_secret(tmp_path: pathlib.Path) -> None:
    (tmp_path / "nginy.yml").write_text(
        'listeners: {listen: 127.0.0.1:1, return: "${A}", access_log: {path: stderr, if: "${A}"}}'
    )
    configs = [load(str(tmp_path / "nginy.yml"), {"A": word * 20}) for word in ("hush-", "hide-")]
    found = difference(*configs)
    said = "\n".join([*found.warnings, *map(str, found.changes)])
    assert "return ***... -> ***..." in said
    assert 'if: "***..." has no variable' in said
    assert "hush" not in said
    assert "hide" not in said
