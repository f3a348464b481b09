"""What the `kibubu fraud` commands do, apart from their options: each says what it does through `say`."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

from fraud import report, train
from fraud.comparison import compare
from fraud.fitting import Budget
from fraud.paysim import train as paysim
from fraud.simulate import simulate
from fraud.simulate.files import read_history, write_simulated

Say = Callable[[str], None]
EVALUATION_BUDGET = Budget(trees_max=200, seeds=1, settings=((6, 0.1, 6.0, 0.7),))


@dataclass(frozen=True, slots=True)
class Search:
    """For settings, beyond the ones that a training tries anyway; both 0 = none."""

    trials: int = 0
    minutes: float = 0.0

    def of(self, budget: Budget, seed: int) -> Budget:
        return budget.searching(self.trials, self.minutes, seed)


def train_paysim(data: Path, output: Path, seed: int, say: Say, search: Search, *, allow_leaky: bool) -> None:
    """Raises DataError (a ValueError). The last line said is the report's."""
    card = paysim.train(data, output, seed, search.of(Budget(), seed), say, allow_leaky=allow_leaky)
    say(f"written {output}/model.cbm {card['model_sha256'][:8]}, its card and metrics.json")
    say(paysim.last_line(card["report"]))


def train_kibubu(
    data: Path | None,
    customers: int,
    days: int,
    seed: int,
    output: Path,
    say: Say,
    search: Search,
    *,
    allow_leaky: bool,
) -> None:
    """From a Parquet file, or from a town that is simulated for it. Raises DataError (a ValueError)."""
    if data is None:
        history = simulate(customers, days, seed)
        source = {"source": "fraud/simulate", "customers": customers, "days": days, "seed": seed}
    else:
        history, source = read_history(data), {"source": data.name}
    card = train.train(history, source, seed, output, search.of(train.BUDGET, seed), say, allow_leaky=allow_leaky)
    say(f"written {output}/model.cbm {card['model_sha256'][:8]}, its card and metrics.json")
    say(train.last_line(card["report"]))


def evaluate(
    data: Path | None, customers: int, days: int, seed: int, output: Path, say: Say, *, leave_one_out: bool
) -> list[list[str]]:
    """Writes report.html and report.json; returns the main table, header first. Raises DataError (a ValueError)."""
    history = simulate(customers, days, seed) if data is None else read_history(data)
    source = f"{customers:,} simulated customers, {days} days, seed {seed}" if data is None else str(data.name)
    compared = compare(history, seed, EVALUATION_BUDGET, say, leave_one_out=leave_one_out)
    for path in report.write(compared, source, output):
        say(f"written {path}")
    return report.rows_of(compared)


def simulate_to(output: Path, customers: int, days: int, seed: int, say: Say) -> None:
    """Writes Parquet, with a progress bar on a terminal. Raises ValueError."""
    with Progress(TextColumn("payments"), BarColumn(), TimeRemainingColumn(), disable=not sys.stderr.isatty(),
                  console=Console(stderr=True)) as bar:  # fmt: skip
        task = bar.add_task("events", total=None)
        started_at = time.perf_counter()
        rows = write_simulated(
            output, customers, days, seed, lambda done, total: bar.update(task, completed=done, total=total)
        )
    seconds = time.perf_counter() - started_at
    say(f"written {output}: {rows:,} payments in {seconds:.1f} s ({rows / seconds * 60 / 1e6:.1f} million a minute)")
