"""The same work asked for by ten and by a hundred times as many callers: how much of the best is still done by the
most, and how long what is taken takes."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

from cluster.bench.measured import Measured
from cluster.bench.settings import PAYMENTS, TRANSFERS, Setting, Target

TIMES = (1, 10, 100)
CALLERS_MAX = 10_000
TRANSFERS_IN_FLIGHT_MAX = 400_000  # 51 MB of records: what the load itself can hold
GOODPUT_SHARE_MIN = 0.9  # the target


@dataclass(frozen=True, slots=True)
class Overload:
    name: str
    callers: int
    best_per_second: float  # at whichever number of callers
    goodput_per_second: float  # at the largest
    p99_ms: float  # of what was taken, the client's own waiting and asking again included
    others: dict[str, int]  # what else was answered, by name

    @property
    def share(self) -> float:
        return self.goodput_per_second / self.best_per_second

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "share": self.share}

    def line(self) -> str:
        others = f"; also answered: {self.others}" if self.others else ""
        return (
            f"overload, {self.name}: {self.goodput_per_second:,.0f}/s with {self.callers:,} callers, "
            f"{self.share:.2f} of the best {self.best_per_second:,.0f}/s (target: {GOODPUT_SHARE_MIN:g}), "
            f"p99 {self.p99_ms:,.0f} ms{others}"
        )


def steps(setting: Setting) -> list[Setting]:
    """The setting and its overloads; none when one caller, or another program, makes the load."""
    if setting.what not in (TRANSFERS, PAYMENTS) or setting.clients == 1:
        return []
    callers = [setting.clients * times for times in TIMES]
    fitting = [one for one in callers if one <= CALLERS_MAX and one * setting.batch <= TRANSFERS_IN_FLIGHT_MAX]
    return [setting, *(replace(setting, clients=one, target=Target()) for one in fitting[1:])] if fitting[1:] else []


def with_overload(wanted: list[Setting]) -> list[Setting]:
    return [step for setting in wanted for step in steps(setting)]


def overloads(wanted: list[Setting], rows: list[Measured]) -> list[Overload]:
    """Of rows that were measured for `with_overload(wanted)`, in its order, at one or several sizes of the ledger."""
    found, remaining = [], list(rows)
    while remaining:
        for setting in wanted:
            count = len(steps(setting))
            part, remaining = remaining[:count], remaining[count:]
            if part:
                found.append(_overload(part))
    return found


def _overload(part: list[Measured]) -> Overload:
    last = part[-1]
    best = max(row.per_second.median for row in part)
    return Overload(
        part[0].setting.name, last.setting.clients, best, last.per_second.median, last.p99_ms.median, dict(last.others)
    )
