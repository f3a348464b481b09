"""What a measurement is: repeats of one setting, each figure with median and range, and how it stands to its target."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from cluster.bench.load import Tally
from cluster.bench.meters import ROLES, Cost
from cluster.bench.settings import Setting, Target


@dataclass(frozen=True, slots=True)
class Spread:
    median: float
    low: float
    high: float


def spread(values: Iterable[float]) -> Spread:
    """Of at least one value."""
    listed = list(values)
    return Spread(statistics.median(listed), min(listed), max(listed))


@dataclass(frozen=True, slots=True)
class Run:
    """One repeat."""

    seconds: float
    tally: Tally
    cost: Cost
    load_average: float  # of the last minute, when it ended


@dataclass(frozen=True, slots=True)
class Measured:
    """The repeats of one setting. "Each" is one transfer, payment or screen that was done."""

    setting: Setting
    repeats: int
    per_second: Spread
    cpu_us_each: Spread  # of all processes of the cluster and of the load generator
    cpu_us_by_role: dict[str, float]  # medians
    written_bytes_each: Spread  # by all nodes together
    p50_ms: Spread
    p99_ms: Spread
    others: dict[str, int]  # what else was answered, all repeats together
    reference_records_per_second: float  # blocks of one batch, written and synced by one process on the same disk
    foreign_cores: Spread  # CPU that other programs took meanwhile
    load_average_before: float
    load_average_after: float

    @property
    def ratio_to_reference(self) -> float:
        reference = self.reference_records_per_second
        return self.per_second.median / reference if reference else 0.0

    def ratios_to_target(self) -> dict[str, float]:
        """By figure of the target; 1 is reached, above 1 is better than asked."""
        return target_ratios(self.setting.target, self.figures())

    def figures(self) -> dict[str, float]:
        return {
            "per_second": self.per_second.median,
            "cpu_us_each": self.cpu_us_each.median,
            "p50_ms": self.p50_ms.median,
            "p99_ms": self.p99_ms.median,
        }

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.setting.name,
            **asdict(self),
            "ratios_to_target": self.ratios_to_target(),
            "ratio_to_reference": self.ratio_to_reference,
        }


def target_ratios(target: Target, figures: dict[str, float]) -> dict[str, float]:
    ratios = {}
    for name, wanted in asdict(target).items():
        if wanted is None:
            continue
        got = figures[name]
        if name == "per_second":
            ratios[name] = got / wanted
        else:
            ratios[name] = wanted / got if got else 0.0  # nothing was measured: nothing was reached
    return ratios


def summary(setting: Setting, runs: list[Run], reference: float, load_average_before: float) -> Measured:
    """Raises ValueError when a repeat did nothing at all: it has no cost and no latency."""
    if not all(run.tally.done for run in runs):
        others = sum((run.tally.others for run in runs), Counter[str]())
        raise ValueError(f"{setting.name}: nothing was done in one of its repeats; answers: {dict(others)}")
    return Measured(
        setting=setting,
        repeats=len(runs),
        per_second=spread(run.tally.done / run.seconds for run in runs),
        cpu_us_each=spread(sum(run.cost.cpu_s.values()) * 1e6 / run.tally.done for run in runs),
        cpu_us_by_role={
            role: statistics.median(run.cost.cpu_s[role] * 1e6 / run.tally.done for run in runs) for role in ROLES
        },
        written_bytes_each=spread(run.cost.written_bytes / run.tally.done for run in runs),
        p50_ms=spread(run.tally.latencies.quantile_ms(0.5) for run in runs),
        p99_ms=spread(run.tally.latencies.quantile_ms(0.99) for run in runs),
        others=dict(sum((run.tally.others for run in runs), Counter[str]())),
        reference_records_per_second=reference,
        foreign_cores=spread(run.cost.foreign_cores for run in runs),
        load_average_before=load_average_before,
        load_average_after=runs[-1].load_average,
    )
