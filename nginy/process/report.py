"""The outcome of a reload, or of reopening the logs, for whoever asked for it.

The words are the same whether one process has reloaded or several workers have voted. The log gets
a `ReloadOutcome`, and so does a file beside the pid file (`pidfile.py`), as JSON. `nginy -s reload`
waits for it there, since a signal alone cannot report a failure. `nginy -s reopen` waits for a
`ReopenOutcome` in the same way.

`commands/plan.py` finds what changes between two configurations; `systemd.py` tells the service
manager.
"""

import json
import logging
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Final

from nginy.commands.plan import ChangeLine, needing_restart, plan
from nginy.config import schema
from nginy.config.checking.surprises import surprises
from nginy.log.levels import NOTICE
from nginy.text.mask import without_cut

logger = logging.getLogger("nginy.server")

CHANGES_LOGGED: Final = 100
"""Changes of one reload in the log; `nginy -s reload` and `nginy plan` show more."""
CHANGES_KEPT: Final = 1000

TEXTS: Final = ("problems", "warnings", "needs_restart")
"""Fields of a `ReloadOutcome` that are lists of texts."""


@dataclass(frozen=True, slots=True)
class ReloadOutcome:
    """The outcome of a reload. With `problems` nothing has changed."""

    began_ms: int
    """When the file began to be read, by the machine's monotonic clock, which all processes share.
    """
    took_ms: int
    problems: tuple[str, ...] = ()
    warnings: tuple[str, ...] = ()
    changes: tuple[ChangeLine, ...] = ()
    """As `nginy plan` shows them."""
    needs_restart: tuple[str, ...] = ()
    """Keys with new values in the file, while the process goes on with the old ones."""

    @property
    def summary(self) -> str:
        """The outcome in one sentence."""
        if self.problems:
            more = f" (and {len(self.problems) - 1} more)" if len(self.problems) > 1 else ""
            return f"reload refused: {self.problems[0]}{more}"
        if self.needs_restart:
            return f"reloaded; needs a restart: {', '.join(self.needs_restart)}"
        return "reloaded"

    def to_json(self) -> str:
        """Return the outcome as one line of JSON."""
        result = "refused" if self.problems else "applied"
        return json.dumps({"result": result, **asdict(self)})


def outcome_of(text: str) -> ReloadOutcome | None:
    """Return what `to_json` has written; None if it is not whole, or there is none."""
    try:
        fields = json.loads(text)
        return ReloadOutcome(
            int(fields["began_ms"]),
            int(fields["took_ms"]),
            changes=tuple(map(_change, fields["changes"])),
            **{name: tuple(map(str, fields[name])) for name in TEXTS},
        )
    except (ValueError, TypeError, KeyError):
        return None


def _change(fields: object) -> ChangeLine:
    """Return a change; a process that runs an older program writes it as a line."""
    if isinstance(fields, str):
        return ChangeLine(fields[:1], "", fields[2:])
    op, subject, text = map(str, fields if isinstance(fields, list) else ())
    return ChangeLine(op, subject, text)


@dataclass(frozen=True, slots=True)
class ReopenOutcome:
    """The outcome of reopening the logs. A log that a problem names goes on as before."""

    began_ms: int
    """When it began, by the clock of `ReloadOutcome.began_ms`."""
    problems: tuple[str, ...] = ()

    def to_json(self) -> str:
        """Return the outcome as one line of JSON."""
        return json.dumps(asdict(self))


def reopen_outcome_of(text: str) -> ReopenOutcome | None:
    """Return what `ReopenOutcome.to_json` has written; None if it is not whole, or none."""
    try:
        fields = json.loads(text)
        return ReopenOutcome(int(fields["began_ms"]), tuple(map(str, fields["problems"])))
    except (ValueError, TypeError, KeyError):
        return None


def monotonic_ms() -> int:
    """Return the time by the clock of `ReloadOutcome.began_ms`."""
    return time.monotonic_ns() // 1_000_000


@dataclass(frozen=True, slots=True)
class Difference:
    """How a configuration that was read differs from the one that runs."""

    warnings: tuple[str, ...] = ()
    changes: tuple[ChangeLine, ...] = ()
    """As `nginy plan` shows them; some are left out if there are many."""
    changes_count: int = 0
    needs_restart: tuple[str, ...] = ()


def difference(before: schema.Config, config: schema.Config) -> Difference:
    """Find what a reload of `config` changes, and which of that may surprise.

    With 10,000 backends this takes 90 ms (CPython 3.11), so a process that serves leaves it to a
    child.
    """
    changes = plan(before, config).changes
    values = (*before.origin.environment, *config.origin.environment)
    lines = (change.line for change in changes[:CHANGES_KEPT])
    return Difference(
        tuple(surprises(config)),
        tuple(ChangeLine(*(without_cut(text, values) for text in line)) for line in lines),
        len(changes),
        needing_restart(before, config),
    )


def report_reload(began_ms: int, found: Difference) -> ReloadOutcome:
    """Log what a reload has changed."""
    for warning in found.warnings:
        logger.warning("%s", warning)
    for change in found.changes[:CHANGES_LOGGED]:
        logger.log(NOTICE, "reload: %s", change.text)
    if found.changes_count > CHANGES_LOGGED:
        logger.log(NOTICE, "reload: %d more changes", found.changes_count - CHANGES_LOGGED)
    logger.log(NOTICE, "configuration reloaded")
    took_ms = monotonic_ms() - began_ms
    return ReloadOutcome(began_ms, took_ms, (), found.warnings, found.changes, found.needs_restart)


def report_refusal(began_ms: int, problems: Sequence[str]) -> ReloadOutcome:
    """Log why a reload has changed nothing."""
    for problem in problems:
        logger.error("%s", problem)
    logger.error("configuration not changed")
    return ReloadOutcome(began_ms, monotonic_ms() - began_ms, problems=tuple(problems))
