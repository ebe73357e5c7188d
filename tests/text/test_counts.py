"""Numbers of things in sentences."""

import pytest
from nginy.text.counts import counted


@pytest.mark.parametrize(
    ("number", "noun", "text"),
    [
        (0, "session", "0 sessions"),
        (1, "session", "1 session"),
        (2, "session", "2 sessions"),
        (1, "process", "1 process"),
        (3, "process", "3 processes"),
        (2, "match", "2 matches"),
    ],
)
def test_one_is_not_many(number: int, noun: str, text: str) -> None:
    assert counted(number, noun) == text
