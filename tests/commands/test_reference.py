"""The reference page: every key of the table is on it."""

import dataclasses

from nginy.commands.reference import render_reference
from nginy.config import schema
from nginy.config.record import Entry, keys_of


def test_every_key_of_every_record_is_on_the_page() -> None:
    page = render_reference()
    records = [
        value
        for value in vars(schema).values()
        if isinstance(value, type) and issubclass(value, Entry) and value is not Entry
    ]
    assert len(records) >= 8
    for record in records:
        for name, row in keys_of(record).items():
            assert f"\n| `{name}` | {row.kind.expected} |" in page
            assert row.about in page


def test_every_field_of_a_record_is_a_key_or_its_place() -> None:
    for record in (schema.Config, schema.Listener, schema.Upstream, schema.Backend):
        fields = {field.name for field in dataclasses.fields(record)}
        assert fields == {row.field for row in keys_of(record).values()} | {"place"}


def test_a_record_that_two_keys_share_is_shown_once() -> None:
    headings = [line for line in render_reference().splitlines() if line.startswith("## ")]
    assert headings[0] == "## The whole file"
    assert len(set(headings)) == len(headings)
    assert "## access_log" in headings
    assert "## listeners.access_log" not in headings
    assert "## upstreams.backends" in headings


def test_a_default_that_depends_on_the_protocol_says_so() -> None:
    assert "| `10m`, with udp `60s` |" in render_reference()


def test_no_cell_breaks_its_table() -> None:
    rows = [line for line in render_reference().splitlines() if line.startswith("|")]
    assert {line.count("|") for line in rows} == {5}
