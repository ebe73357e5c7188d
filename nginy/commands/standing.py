"""What a reload does to operators' changes: lines that `nginy plan` adds to its own.

Only the running process knows what operators have set; without an admin interface they could set
nothing. The rule is that of `admin/changes/book.py`: a new value in the file wins.

Tested in tests/run/test_admin_config.py.
"""

import json

from nginy.commands.running.asking import Message, ask
from nginy.commands.running.interface import interface_of
from nginy.config.schema import Config
from nginy.errors import NginyError


def standing(config: Config, path: str) -> list[str]:
    """Return a line for each change by an operator: does it survive a reload with `config`?"""
    try:
        code, text = ask(interface_of(config, path), Message("GET", "/api/v1/changes"))
        rows = json.loads(text)["changes"] if code == 200 else []
        listed = {
            value: {(row["upstream"], row["name"]) for row in rows if row["value"] == value}
            for value in ("added", "removed")
        }
        return [_line(config, row, listed) for row in rows]
    except (NginyError, ValueError, KeyError, TypeError):
        return []


def _line(config: Config, row: dict[str, str], listed: dict[str, set[tuple[str, str]]]) -> str:
    """Say whether one change survives; `listed` holds the backends that were added and removed."""
    place = f"{row['upstream']}/{row['address'] or row['name']}"
    value = row["value"] if row["key"] == "backend" else f"{row['key']} {row['value']}"
    by = f"{value} by operator {row['by']} since {row['at']}"
    upstream = config.upstreams.get(row["upstream"])
    names = {} if upstream is None else {each.address.name: each for each in upstream.backends}
    backend = names.get(row["name"])
    if row["value"] == "removed":
        left = {(row["upstream"], name) for name in names} | listed["added"]
        has_other = row["upstream"] in {each for each, _ in left - listed["removed"]}
        stays = backend is not None and has_other
    elif row["key"] == "backend":
        stays = upstream is not None and backend is None
    elif backend is None:
        stays = upstream is not None and (row["upstream"], row["name"]) in listed["added"]
    else:
        now = {
            "state": "maint" if backend.down else "ready",
            "weight": backend.weight,
            "max_conns": backend.max_conns,
        }[row["key"]]
        stays = now == row["file_value"]
    return f"~ {place} stays {by}" if stays else f"~ {place} is no longer {by}"
