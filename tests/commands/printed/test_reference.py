"""The reference page: every key of the table and every variable is on it."""

import dataclasses
import re

import pytest
from nginy.commands.printed.reference import VARIABLES_ABOUT, WIDTH, render_reference
from nginy.config import schema, upstream
from nginy.config.record import Entry, Key, keys_of, records_of
from nginy.proxy.variables import KEY_VARIABLES, VARIABLES

ROWS = [(path, row) for path, record in records_of(schema.CONFIG) for row in record.keys.values()]


def on_one_line(text: str) -> str:
    return " ".join(text.split())


def test_every_key_of_every_record_is_on_the_page() -> None:
    page = on_one_line(render_reference())
    records = [
        value
        for value in vars(schema).values()
        if isinstance(value, type) and issubclass(value, Entry) and value is not Entry
    ]
    assert len(records) >= 8
    for record in records:
        for name, row in keys_of(record).items():
            assert on_one_line(f"- `{name}`: {row.kind.expected}.") in page
            assert on_one_line(row.about) in page


def test_every_field_of_a_record_is_a_key_or_its_place() -> None:
    for record in (schema.Config, schema.Listener, upstream.Upstream, upstream.Backend):
        fields = {field.name for field in dataclasses.fields(record)}
        # What is worked out when all has been read.
        others = {"origin", "choices"} if record is schema.Listener else {"origin"}
        assert fields == {row.field for row in keys_of(record).values()} | others


def test_a_record_that_two_keys_share_is_shown_once() -> None:
    headings = [line for line in render_reference().splitlines() if line.startswith("## ")]
    assert headings[0] == "## The whole file"
    assert len(set(headings)) == len(headings)
    assert "## access_log" in headings
    assert "## listeners.access_log" not in headings
    assert "## upstreams.backends" in headings


def test_a_default_that_depends_on_the_protocol_says_so() -> None:
    assert "Default: `10m`, with udp `60s`." in on_one_line(render_reference())


def test_the_page_fits_a_terminal() -> None:
    assert max(map(len, render_reference().splitlines())) <= WIDTH


@pytest.mark.parametrize(("path", "row"), ROWS)
def test_each_key_has_sentences(path: str, row: Key[object]) -> None:
    assert re.match("[A-Z`]|nginy ", row.about), (path, row.name)
    assert row.about.endswith("."), (path, row.name)
    assert " " in row.about, (path, row.name)


def test_every_variable_is_on_the_page() -> None:
    page = render_reference()
    assert VARIABLES_ABOUT.keys() == VARIABLES
    for name, about in VARIABLES_ABOUT.items():
        mark = " *" if name in KEY_VARIABLES else ""
        assert f"\n- `${name}`{mark}: {about}\n" in page
