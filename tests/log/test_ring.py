"""The last lines of the error log, in memory."""

import logging
from collections.abc import Iterator

import pytest
from nginy.log.error_log import BURST, ROOT_LOGGER
from nginy.log.levels import NOTICE
from nginy.log.ring import LINE_MAX_CHARACTERS, NOTICES_KEPT, TROUBLE_KEPT, LogRing

logger = logging.getLogger("nginy.proxy")


@pytest.fixture
def ring() -> Iterator[LogRing]:
    made = LogRing()
    root = logging.getLogger(ROOT_LOGGER)
    before, propagates = root.level, root.propagate
    root.setLevel(logging.DEBUG)
    root.propagate = False
    made.attach()
    yield made
    made.detach()
    root.setLevel(before)
    root.propagate = propagates


def texts(ring: LogRing, level: int = NOTICE, most: int = 1000) -> list[str]:
    return [line.text for line in ring.lines(level, most)]


def test_it_keeps_trouble_apart_from_notices_and_nothing_below(ring: LogRing) -> None:
    logger.critical("first")
    logger.info("a client came")
    for number in range(NOTICES_KEPT + 5):
        logger.log(NOTICE, "notice %d", number, extra={"number": 7})
    assert texts(ring)[:2] == ["first", "notice 5"]
    assert len(texts(ring)) == NOTICES_KEPT + 1
    assert texts(ring, logging.WARNING) == ["first"]
    assert texts(ring, most=2) == [f"notice {NOTICES_KEPT + 3}", f"notice {NOTICES_KEPT + 4}"]
    assert ring.lines(NOTICE, 1)[0].number == 7
    for number in range(TROUBLE_KEPT + 5):
        logger.error("trouble", extra={"kind": number})
    assert len(texts(ring, logging.WARNING)) == TROUBLE_KEPT
    ring.detach()
    logger.error("unheard")
    assert "unheard" not in texts(ring)


def test_what_repeats_is_left_out_and_counted(ring: LogRing) -> None:
    for _ in range(BURST + 7):
        logger.error("refused")
    assert texts(ring) == ["refused"] * BURST
    assert ring.suppressed == 7


def test_lines_are_short_and_harmless(ring: LogRing) -> None:
    logger.error("%s\x1b[2J\n", "x" * 5000)
    logger.error("\x1b" * LINE_MAX_CHARACTERS)
    found = texts(ring)
    assert len(found) == 2
    assert all(len(text) <= LINE_MAX_CHARACTERS and text.isprintable() for text in found)
