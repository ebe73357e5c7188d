"""The table for people: every record and key of the language as one Markdown page.

Nothing is said here that the table does not say: whoever adds a key to schema.py finds it on the
page. Records are found by walking from the configuration through the kinds that hold other kinds.
"""

from typing import Final

from nginy.config.record import Entry, Key, Record, records_of
from nginy.config.schema import CONFIG, NOT_FOR_DEFAULTS

INTRODUCTION: Final = f"""# The configuration of nginy

A YAML file. Durations are `500ms`, `10s`, `1m30s`, `2h` or `7d`; sizes `512`, `16k` or `1m`. What
takes a list takes one item as well. `${{NAME}}` and `${{NAME:-default}}` are filled in from the
environment, in values only. A relative path counts from the directory of the file that has it.

Two more keys may be at the top of a file. `include` is a path, a pattern such as `conf.d/*.yml`, or
a list of these; the files are joined with this one. `defaults` holds any keys of listeners and
upstreams but {", ".join(f"`{name}`" for name in sorted(NOT_FOR_DEFAULTS))}, for all that do not set
them themselves.
"""


def render_reference() -> str:
    """Return the page, each record after the one that holds it."""
    sections: dict[str, str] = {}
    for path, record in records_of(CONFIG):
        sections.setdefault(record.noun, _section(path, record))
    return "\n".join([INTRODUCTION, *sections.values()])


def _section(path: str, record: Record[Entry]) -> str:
    """Return a heading and a table."""
    lines = [
        f"## {path or 'The whole file'}\n",
        "| Key | Value | Default | |",
        "|---|---|---|---|",
    ]
    lines.extend(_line(row) for row in record.keys.values())
    return "\n".join(lines) + "\n"


def _line(row: Key[object]) -> str:
    default = "must be set" if row.default is None else f"`{row.default}`" if row.default else ""
    if row.udp_default is not None:
        default += f", with udp `{row.udp_default}`"
    only = f" Only with {row.only}." if row.only is not None else ""
    return f"| `{row.name}` | {row.kind.expected} | {default} | {row.about}{only} |"
