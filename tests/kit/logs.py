"""A log line that no test has announced fails the test, as in tornado's test suite."""

import contextlib
import logging
import re
from collections.abc import Iterator

ROOT_LOGGER = "nginy"


class LogWatch(logging.Handler):
    """Collects what nginy logs at warning or above; `expect` takes out what a test announces.

    It stands at the root of all loggers: a test that opens an error log of its own reads that one.
    """

    def __init__(self) -> None:
        super().__init__()
        self.records: list[logging.LogRecord] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep the record if it is one of nginy's."""
        if record.name.split(".")[0] == ROOT_LOGGER:
            self.records.append(record)

    @contextlib.contextmanager
    def expect(
        self,
        pattern: str,
        *,
        count: int | None = None,
        level: int = logging.WARNING,
    ) -> Iterator[list[logging.LogRecord]]:
        """Announce records whose message contains a match of the regular expression `pattern`.

        At least one, or exactly `count` of them, must be logged in the block. With a `level` below
        warning, nginy logs lower levels too, and this watch sees them. Yields a list that holds the
        matching records afterwards.
        """
        matching: list[logging.LogRecord] = []
        logger = logging.getLogger(ROOT_LOGGER)
        before, level_before = len(self.records), logger.level
        logger.setLevel(level)
        try:
            yield matching
        finally:
            logger.setLevel(level_before)
        new = self.records[before:]
        matching += [record for record in new if re.search(pattern, record.getMessage())]
        self.records[before:] = [
            record for record in new if record not in matching and record.levelno >= logging.WARNING
        ]
        logged = [record.getMessage() for record in new]
        if count is None:
            assert matching, f"nothing like {pattern!r} was logged, but {logged}"
        else:
            assert len(matching) == count, f"not {count} records like {pattern!r}: {logged}"

    def unannounced(self) -> list[str]:
        """What was logged and not announced, one text a record."""
        formatter = logging.Formatter("%(levelname)s %(name)s: %(message)s")
        return [
            formatter.format(record) for record in self.records if record.levelno >= logging.WARNING
        ]
