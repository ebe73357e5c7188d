"""RunningConfig: the configuration that runs, for the admin interface.

It is shown from memory, as `nginy -T` prints it, in slices, and without the values of secret keys.
`file` says whether the file has changed since. A child process works out which way a client would
go, and what a reload would do (`errand.py`).

Tested in tests/run/test_admin_config.py.
"""

import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from nginy.admin.answer import Facts, Slices
from nginy.admin.changes.book import Newcomer
from nginy.admin.subject import RowsOf
from nginy.backend.listing import AS_CONFIGURED, Listing, parse_settings, settings_to_json
from nginy.commands.explain import explain
from nginy.config.checking.files import check_files
from nginy.config.dump import masked_steps, yaml_steps
from nginy.config.schema import Config
from nginy.errors import NginyError
from nginy.event.loop import Loop
from nginy.process.binding import binding_problems
from nginy.process.errand import Errands
from nginy.process.newcomers import newcomer, present
from nginy.process.reader import read
from nginy.text.mask import without_cut
from nginy.text.times import utc_text
from nginy.wire.request import RequestError

CHUNKS_A_SLICE = 500
"""Pieces of JSON: some 0.5 ms."""

Signature = tuple[int, int, int]
"""What changes whenever a file does: its time, its size and its inode."""


class RunningConfig:
    """What an `AdminSet` knows of its configuration. An `admin/subject.py::Configuration`."""

    def __init__(self, loop: Loop, path: str) -> None:
        self._path = path
        self._errands = Errands(loop)
        self._config = Config(listeners=())
        self._loaded: Signature | None = None

    def follow(self, config: Config) -> None:
        """Learn what runs from now on."""
        self._config = config
        self._loaded = _signature(self._path)

    def to_yaml(self) -> Slices[str]:
        """Return the configuration as YAML."""
        plain = yield from masked_steps(self._config)
        return (yield from yaml_steps(plain))

    def to_json(self) -> Slices[str]:
        """Return the configuration as JSON; values are the texts of YAML."""
        plain = yield from masked_steps(self._config)
        parts = []
        for part in json.JSONEncoder(separators=(",", ":")).iterencode(plain):
            parts.append(part)
            if len(parts) % CHUNKS_A_SLICE == 0:
                yield None
        return "".join([*parts, "\n"])

    def file(self) -> Facts:
        """Return where the file is, and whether it has changed since it was loaded."""
        now = _signature(self._path)
        return {
            "path": os.path.abspath(self._path),
            "modified_at": None if now is None else utc_text(now[0] // 1_000_000),
            "changed": now != self._loaded,
            "exists": now is not None,
        }

    def explain(
        self,
        asked: Sequence[str],
        rows: RowsOf,
        listings: Mapping[str, Listing],
        *,
        is_reader: bool,
    ) -> Slices[Any]:
        """Return the way of a client, and the upstreams whose backends matter for it.

        `asked` are the words of the command: listener, client, and what the client sends first.
        The child asks `rows` for the backends of an upstream as they are now.
        """
        config = self._config
        listener, client, *words = asked
        wanted: list[str] = []

        def live(upstream: str) -> Mapping[str, Sequence[Facts]]:
            wanted.append(upstream)
            found: dict[str, list[Facts]] = {}
            for row in rows(upstream):
                found.setdefault(row["name"], []).append(row)
            return found

        def work() -> Facts:
            upstreams = {
                name: present(each, listings.get(name, AS_CONFIGURED))
                for name, each in config.upstreams.items()
            }
            now = replace(config, upstreams=upstreams)
            try:
                text = explain(now, listener, client, words, live)
            except NginyError as error:
                return {"problem": str(error)}
            return {"text": without_cut(text, config.origin.environment), "upstreams": wanted}

        found = yield from self._errands.run(work, is_reader=is_reader)
        if "problem" in found:
            raise RequestError(400, "bad_parameter", found["problem"])
        return found

    def newcomer(self, upstream: str, keys: Facts, listing: Listing) -> Slices[Newcomer]:
        """Return the backend of an upstream that has these keys, or what is wrong with it.

        `listing` is what operators have changed of the upstream before.
        """
        config = self._config

        def work() -> Facts:
            found = newcomer(config, listing, upstream, keys)
            settings = None if found.settings is None else settings_to_json(found.settings)
            return {
                "problems": [dict(each) for each in found.problems],
                "keys": dict(found.keys),
                "settings": settings,
                "moved_percent": found.moved_percent,
            }

        told = yield from self._errands.run(work)
        settings = None if told["settings"] is None else parse_settings(told["settings"])
        return Newcomer(tuple(told["problems"]), told["keys"], settings, told["moved_percent"])

    def rehearse(self) -> Slices[Any]:
        """Return what a reload would do."""
        path, config = self._path, self._config
        return (yield from self._errands.run(lambda: _rehearsal(path, config)))


def _rehearsal(path: str, running: Config) -> Facts:
    result = read(path, os.environ, running)
    problems = [str(problem) for problem in result.problems]
    if result.config is not None:
        problems = [str(problem) for problem in check_files(result.config)]
        problems = problems or binding_problems(result.config, path)
    found = result.difference
    return {
        "problems": problems,
        "warnings": [] if found is None else list(found.warnings),
        "changes": [] if found is None else [change._asdict() for change in found.changes],
        "needs_restart": [] if found is None else list(found.needs_restart),
    }


def _signature(path: str) -> Signature | None:
    try:
        status = os.stat(path)
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino
