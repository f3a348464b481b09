"""Latencies in a fixed number of counters: a long run needs no more memory than a short one, and each quantile is at
most one part in 128 too high (the layout of HdrHistogram: straight below 256 us, then 128 steps for each doubling)."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

STEP_BITS = 7  # 128 steps for each doubling
MICROSECONDS_MAX = 1 << 36  # 19 hours; what took longer counts as this
_STEPS = 1 << STEP_BITS
BUCKETS = (36 - STEP_BITS + 1) * _STEPS + 1


def bucket_of(us: int) -> int:
    shift = max(us.bit_length() - STEP_BITS - 1, 0)
    return (shift << STEP_BITS) + (us >> shift)


def highest_us(bucket: int) -> int:
    """The largest value that this bucket counts."""
    if bucket < 2 * _STEPS:
        return bucket
    shift = (bucket >> STEP_BITS) - 1
    return ((bucket - (shift << STEP_BITS) + 1) << shift) - 1


class Histogram:
    __slots__ = ("counts", "total")

    def __init__(self) -> None:
        self.counts = [0] * BUCKETS
        self.total = 0

    def record(self, seconds: float) -> None:
        us = int(seconds * 1e6)
        shift = us.bit_length() - 8  # as `bucket_of`, written out: this runs once for each call of the load
        self.counts[us if shift <= 0 else (shift << 7) + (us >> shift) if us < MICROSECONDS_MAX else -1] += 1
        self.total += 1

    def add_counts(self, counts: Iterable[tuple[int, int]]) -> None:
        """(bucket, count) of a histogram that another process kept."""
        for bucket, count in counts:
            self.counts[bucket] += count
            self.total += count

    def quantile_ms(self, share: float) -> float:
        """The latency that this share of the calls did not exceed; 0 when there was none."""
        wanted, seen = share * self.total, 0
        for bucket, count in self.nonzero():
            seen += count
            if seen >= wanted:
                return highest_us(bucket) / 1_000
        return 0.0

    def nonzero(self) -> Iterator[tuple[int, int]]:
        return ((bucket, count) for bucket, count in enumerate(self.counts) if count)
