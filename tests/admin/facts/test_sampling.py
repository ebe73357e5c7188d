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


def test_after_a_pause_it_begins_anew_and_it_has_an_end() -> None:
    samples = Samples()
    for second in range(KEPT + 10):
        samples.add(Sample(float(second)))
    assert len(samples.all()) == KEPT
    samples.add(Sample(KEPT + 10 + LEASE_S + 1))
    assert len(samples.all()) == 1
    assert samples.rate("total") is None
