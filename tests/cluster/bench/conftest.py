"""Measurements as a run would have made them, for the parts that read them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable

import pytest

from cluster.bench.histogram import Histogram
from cluster.bench.load import Tally
from cluster.bench.measured import Measured, Run, summary
from cluster.bench.meters import ROLES, Cost
from cluster.bench.settings import Setting

Make = Callable[..., Measured]


def a_run(
    done: int, *, latency_ms: float = 2.0, foreign_cores: float = 0.0, others: dict[str, int] | None = None
) -> Run:
    latencies = Histogram()
    for _ in range(100):
        latencies.record(latency_ms / 1_000)
    cost = Cost({role: number * 1e-3 for number, role in enumerate(ROLES, start=1)}, done * 384, foreign_cores)
    return Run(2.0, Tally(done, Counter(others or {}), latencies), cost, 0.5)


@pytest.fixture
def measured() -> Make:
    """A setting measured three times, each repeat of two seconds and 15 ms of CPU."""

    def make(setting: Setting, *done: int, latency_ms: float = 2.0, foreign_cores: float = 0.0) -> Measured:
        runs = [a_run(count, latency_ms=latency_ms, foreign_cores=foreign_cores) for count in done or (200, 600, 400)]
        return summary(setting, runs, 1_000.0, 0.25)

    return make
