"""How many sessions have moved, in words and numbers."""

from collections import Counter

import pytest
from nginy.process.takeover.messages import MessageError
from nginy.process.takeover.tally import STAYS_MAX, Moved, tally_of, total

TLS = "that speak TLS with nginy"


@pytest.mark.parametrize(
    ("tally", "text"),
    [
        (Moved(), "0 sessions moved"),
        (Moved(1), "1 session moved (1 TCP, 0 UDP)"),
        (Moved(800, 12), "812 sessions moved (800 TCP, 12 UDP)"),
        (Moved(0, 0, Counter({TLS: 1})), f"0 sessions moved, 1 stays: 1 {TLS}"),
        (
            Moved(1, 1, Counter({TLS: 2, "over UDP": 3})),
            f"2 sessions moved (1 TCP, 1 UDP), 5 stay: 3 over UDP, 2 {TLS}",
        ),
    ],
)
def test_a_tally_in_words(tally: Moved, text: str) -> None:
    assert str(tally) == text


def test_a_tally_with_too_many_reasons_counts_the_rest_together() -> None:
    tally = Moved(stays=Counter({f"with backend {n}": 1 for n in range(STAYS_MAX + 2)}))
    assert str(tally).endswith("with backend 19, 2 others")
    assert sum(tally_of(tally.to_json()).stays.values()) == STAYS_MAX


def test_a_tally_arrives_as_it_left() -> None:
    tally = Moved(1, 2, Counter({TLS: 3}), 4, is_final=True, problem="why")
    assert tally_of(tally.to_json()) == tally


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"tcp": -1, "udp": 0, "pending": 0}'])
def test_what_is_no_tally_is_refused(text: str) -> None:
    with pytest.raises((ValueError, MessageError)):
        tally_of(text)


def test_the_tallies_of_several_processes_add_up_and_end_with_the_last() -> None:
    first = Moved(1, 2, Counter({TLS: 3}), 4, is_final=True)
    second = Moved(10, 20, Counter({TLS: 30, "over UDP": 1}), 40, problem="gone")
    both = total([first, second])
    assert both == Moved(11, 22, Counter({TLS: 33, "over UDP": 1}), 44, problem="gone")
    assert total([first, first]).is_final
