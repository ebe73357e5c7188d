import pytest
from nginy.log.limit import RateLimited, similar


def test_the_first_message_of_a_key_gets_through():
    limited = RateLimited()
    assert limited.admit("a", 5) == 0
    assert limited.admit("b", 5) == 0


def test_within_the_interval_messages_are_suppressed_and_counted():
    limited = RateLimited(interval_ms=1000)
    limited.admit("a", 0)
    assert [limited.admit("a", at_ms) for at_ms in (0, 500, 999)] == [None, None, None]
    assert limited.admit("a", 1000) == 3
    assert limited.admit("a", 2000) == 0


def test_a_storm_leaves_one_message_a_second():
    limited = RateLimited()
    admitted = [limited.admit("a", at_ms) for at_ms in range(10_000)]
    assert sum(count is not None for count in admitted) == 10
    assert sum(count or 0 for count in admitted) == 9 * 999


def test_the_number_of_remembered_keys_is_bounded_and_the_oldest_goes_first():
    limited = RateLimited(max_keys=10)
    for key in range(1000):
        limited.admit(key, 0)
    assert len(limited) == 10
    assert limited.admit(999, 1) is None
    assert limited.admit(0, 1) == 0


def test_a_key_admitted_again_is_young_again():
    limited = RateLimited(interval_ms=10, max_keys=2)
    limited.admit("old", 0)
    limited.admit("other", 1)
    limited.admit("old", 20)
    limited.admit("new", 21)
    assert limited.admit("old", 22) is None


@pytest.mark.parametrize(
    ("suppressed", "text"),
    [
        (0, ""),
        (1, " (1 similar message suppressed)"),
        (17, " (17 similar messages suppressed)"),
    ],
)
def test_the_suffix_says_how_many_are_missing(suppressed, text):
    assert similar(suppressed) == text


def test_a_burst_gets_through_and_the_rest_is_counted():
    limited = RateLimited(interval_ms=1000, burst=3)
    assert [limited.admit("key", 0) for _ in range(5)] == [0, 0, 0, None, None]
    assert limited.admit("other", 0) == 0
    assert limited.admit("key", 1000) == 2
    assert [limited.admit("key", 1000) for _ in range(3)] == [0, 0, None]
