"""What `nginy -s upgrade` prints."""

from collections import Counter

import pytest
from nginy.process.takeover.report import UpgradeOutcome, upgrade_outcome_of
from nginy.process.takeover.tally import Moved

MOVED = UpgradeOutcome(5, 1234, 4711, True, Moved(800, 12, is_final=True))
LEFT = UpgradeOutcome(5, 400, 4711, True, Moved(1, 0, Counter({"that speak TLS with nginy": 3})))
BESIDE = UpgradeOutcome(5, 400, 4711, True, Moved(), ("it speaks version 99",), is_beside=True)
FAILED = UpgradeOutcome(5, 400, 0, False, Moved(), ("nginy.yml:1:1: nonsense", "exited"))


@pytest.mark.parametrize(
    ("outcome", "lines"),
    [
        (
            MOVED,
            [
                "process 4711 serves, 1.2 s after the signal",
                "moved: 812 sessions, 800 TCP and 12 UDP",
                "process 99 ends",
            ],
        ),
        (
            LEFT,
            [
                "process 4711 serves, 0.4 s after the signal",
                "moved: 1 session, 1 TCP and 0 UDP",
                "stay with process 99 until they end: 3 that speak TLS with nginy",
            ],
        ),
        (
            BESIDE,
            [
                "it speaks version 99",
                "process 4711 serves, 0.4 s after the signal",
                "process 99 serves as well, until one of the two gets QUIT",
            ],
        ),
        (FAILED, ["nginy.yml:1:1: nonsense", "exited", "process 99 goes on as before"]),
    ],
)
def test_the_outcome_in_words(outcome: UpgradeOutcome, lines: list[str]) -> None:
    assert list(outcome.lines(99)) == lines


@pytest.mark.parametrize("outcome", [MOVED, LEFT, BESIDE, FAILED])
def test_an_outcome_is_read_as_it_was_written(outcome: UpgradeOutcome) -> None:
    assert upgrade_outcome_of(outcome.to_json()) == outcome


@pytest.mark.parametrize("text", ["", "{", "{}", '{"began_ms": 1, "tally": "{}"}'])
def test_half_an_outcome_is_none(text: str) -> None:
    assert upgrade_outcome_of(text) is None
