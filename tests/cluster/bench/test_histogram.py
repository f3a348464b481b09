"""Quantiles against the exact ones; memory that does not grow; the same layout in the Node.js client."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.bench.histogram import BUCKETS, MICROSECONDS_MAX, Histogram, bucket_of, highest_us

Times = st.lists(st.integers(0, MICROSECONDS_MAX - 1), min_size=1, max_size=200)


def histogram_of(times_us: list[int]) -> Histogram:
    histogram = Histogram()
    for us in times_us:
        histogram.record((us + 0.5) / 1e6)
    return histogram


@given(Times, st.sampled_from([0.01, 0.5, 0.9, 0.99, 1.0]))
def test_a_quantile_is_never_too_low_and_at_most_one_part_in_128_too_high(times_us: list[int], share: float) -> None:
    exact_us = sorted(times_us)[math.ceil(share * len(times_us)) - 1]
    found_us = histogram_of(times_us).quantile_ms(share) * 1_000
    assert exact_us <= round(found_us) <= exact_us + exact_us / 128


def test_it_agrees_with_numpy_on_many_latencies() -> None:
    times_us = np.random.default_rng(3).lognormal(8, 1.5, 50_000).astype(int).tolist()
    histogram = histogram_of(times_us)
    for share in (0.5, 0.99, 0.999):
        exact_us = float(np.quantile(times_us, share, method="inverted_cdf"))
        assert exact_us <= histogram.quantile_ms(share) * 1_000 <= exact_us * 129 / 128 + 1


def test_buckets_cover_every_time_without_gap_or_overlap() -> None:
    assert [highest_us(bucket) for bucket in range(300)] == sorted({highest_us(bucket) for bucket in range(300)})
    for bucket in range(BUCKETS - 2):
        assert bucket_of(highest_us(bucket)) == bucket
        assert bucket_of(highest_us(bucket) + 1) == bucket + 1


def test_what_takes_longer_than_the_last_bucket_is_counted_there() -> None:
    histogram = Histogram()
    histogram.record(MICROSECONDS_MAX / 1e6)
    histogram.record(1e9)
    assert (histogram.counts[-1], histogram.total, len(histogram.counts)) == (2, 2, BUCKETS)


def test_record_and_bucket_of_agree() -> None:
    for us in [*range(2_000), *(1 << bits for bits in range(36)), MICROSECONDS_MAX - 1]:
        assert [bucket for bucket, _ in histogram_of([us]).nonzero()] == [bucket_of(us)]


def test_counts_of_another_process_are_added_and_an_empty_one_says_zero() -> None:
    histogram = Histogram()
    assert histogram.quantile_ms(0.99) == 0.0
    histogram.add_counts(histogram_of([10, 10, 5_000]).nonzero())
    assert histogram.total == 3
    assert histogram.quantile_ms(0.5) == pytest.approx(0.010)
