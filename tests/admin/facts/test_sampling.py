"""Requests take samples, which make rates."""

from nginy.admin.facts.sampling import KEPT, LEASE_S, Sample, Samples


def test_a_rate_needs_two_samples_a_second_apart() -> None:
    samples = Samples()
    assert samples.rate("total") is None
    samples.add(Sample(10.0, total=5))
    samples.add(Sample(10.5, total=9))
    assert samples.rate("total") is None
    samples.add(Sample(12.0, total=25))
    assert samples.rate("total") == 10.0
    samples.add(Sample(13.0, total=20))
    assert samples.rate("total") == 0.0


def test_a_sample_waits_until_bytes_have_been_counted_since_the_last_one() -> None:
    samples = Samples()
    samples.add(Sample(1.0), None)
    assert samples.all() == ()
    # The report of the third second took 20 ms longer than that of the second one.
    for second, counted_at_s in ((2, 2), (3, 2.02), (4, 4), (5, 4), (6, 6)):
        samples.add(Sample(second, sent=100 * int(counted_at_s)), second - counted_at_s)
        assert samples.rate("sent") == (None if second < 4 else 100.0)
    assert [each.at_s for each in samples.all()] == [2, 4, 6]


def test_after_a_pause_it_begins_anew_and_it_has_an_end() -> None:
    samples = Samples()
    for second in range(KEPT + 10):
        samples.add(Sample(float(second)))
    assert len(samples.all()) == KEPT
    samples.add(Sample(KEPT + 10 + LEASE_S + 1))
    assert len(samples.all()) == 1
    assert samples.rate("total") is None
