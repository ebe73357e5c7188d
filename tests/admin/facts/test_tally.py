"""Counters of dead workers, and those of before a reset."""

from typing import Any

import pytest
from nginy.admin.facts.tally import ROWS_MAX, Tally

from kit.admin import done

Row = dict[str, Any]


def listener(total: int, name: str = "web", **ended: int) -> Row:
    counts = {"sessions_total": total, "received": 10 * total, "sent": 0, "accept_pauses": 0}
    return {
        "name": name,
        "protocol": "tcp",
        **counts,
        "ended": ended,
        "drops": {},
        "drop_times": {},
    }


def tally(*rows: Row) -> Tally:
    made = Tally()
    made.take("listeners", {"listeners": rows})
    return made


def test_what_is_known_last_counts_and_that_of_several_adds_up() -> None:
    first = tally(listener(3, CD=1))
    first.take("listeners", {"listeners": [listener(5, CD=2)]})
    both = Tally()
    both.add(first)
    both.add(tally(listener(2, SC=1), listener(1, "mail")))
    rows = [listener(10, SC=4), listener(7, "new")]
    done(both.add_to("listeners", rows))
    assert rows[0] == listener(17, SC=5, CD=2)
    # One of them is new, and one is not there any more.
    assert rows[1] == listener(7, "new")


def test_nothing_falls_below_zero() -> None:
    rows = [listener(2, SC=1)]
    done(tally(listener(5, SC=1, CD=3)).add_to("listeners", rows, -1))
    assert rows[0] == listener(0, SC=0, CD=0)


def test_a_retiring_listener_counts_with_its_successor_and_once() -> None:
    def overview(*totals: int) -> Row:
        row = {"address": "127.0.0.1:80", "protocol": "tcp", "received": 0, "sent": 0}
        rows = [{**row, "sessions_total": total} for total in totals]
        return {
            "listeners": rows,
            "sessions": {"now": 1, "total": sum(totals)},
            "bytes": {"received": 7, "sent": 8},
        }

    made = Tally()
    made.take("overview", overview(2, 3))
    found = overview(10, 20)
    done(made.add_to_overview(found))
    assert [each["sessions_total"] for each in found["listeners"]] == [15, 20]
    assert (found["sessions"], found["bytes"]) == (
        {"now": 1, "total": 35},
        {"received": 14, "sent": 16},
    )
    done(made.add_to_overview(found, -1))
    assert found == overview(10, 20)
    other = Tally()
    other.take("sessions", {"sessions": []})
    done(other.add_to_overview(found))
    assert found == overview(10, 20)


@pytest.mark.slow
def test_rows_not_heard_of_for_the_longest_time_are_forgotten() -> None:
    rows = [
        {
            "name": str(number),
            "sessions_total": 1,
            "retries": 0,
            "no_backend": {},
            "connects": {"counts": [], "sum_ms": 0},
        }
        for number in range(ROWS_MAX + 1)
    ]
    made, both = Tally(), Tally()
    for some in (rows[:-1], rows[:1], rows[-1:]):
        made.take("upstreams", {"upstreams": some})
    both.add(made)
    both.add(tally(listener(1)))
    for each in (made, both):
        known = each.rows_of["upstreams"]
        assert len(known) == ROWS_MAX
        assert ("0",) in known
        assert ("1",) not in known
