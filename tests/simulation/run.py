"""Runs of one seed and of many: what each found, and how fast."""

from __future__ import annotations

import gc
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing import get_context
from pathlib import Path

from tests.simulation.canaries import switched_on
from tests.simulation.plan import Plan, make_plan
from tests.simulation.world import World

SEEDS_IN_TASK = 10


@dataclass
class Result:
    """Of one seed."""

    seed: int
    violations: list[str]
    trace_hash: str
    seconds: float  # virtual
    entries: int
    acknowledgements: int
    reads: int
    faults: Counter[str]
    reached: Counter[str]
    died: Counter[str]
    lines: list[str] = field(default_factory=list)


@dataclass
class Summary:
    """Of many seeds."""

    seeds: int = 0
    failed: list[Result] = field(default_factory=list)
    seconds: float = 0.0
    entries: int = 0
    acknowledgements: int = 0
    reads: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    reached: Counter[str] = field(default_factory=Counter)
    died: Counter[str] = field(default_factory=Counter)

    def add(self, result: Result) -> None:
        self.seeds += 1
        self.seconds += result.seconds
        self.entries += result.entries
        self.acknowledgements += result.acknowledgements
        self.reads += result.reads
        self.faults += result.faults
        self.reached += result.reached
        self.died += result.died
        if result.violations:
            self.failed.append(result)


class _ErrorHandler(logging.Handler):
    def __init__(self, tell: Callable[[str], None]) -> None:
        super().__init__(logging.ERROR)
        self._tell = tell

    def emit(self, record: logging.LogRecord) -> None:
        self._tell(f"a node logged: {record.getMessage()}")


@contextmanager
def _logged_errors(tell: Callable[[str], None]) -> Iterator[None]:
    """What the service catches, logs and answers with `unknown` is a bug of the service all the same."""
    handler, logger = _ErrorHandler(tell), logging.getLogger("kibubu")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


def run_plan(plan: Plan, canary: str = "", *, keep_trace: bool = False, disk_folder: Path | None = None) -> Result:
    with switched_on(canary) as core_class:
        world = World(plan, core_class=core_class, keep_trace=keep_trace, disk_folder=disk_folder)
        try:
            with _logged_errors(world.oracles.violation):
                world.run()
        finally:
            world.close()
    return Result(
        seed=plan.seed,
        violations=world.oracles.violations,
        trace_hash=world.trace.hash(),
        seconds=world.timeline.now,
        entries=world.oracles.entries,
        acknowledgements=world.oracles.acknowledgements,
        reads=world.oracles.reads,
        faults=world.faults,
        reached=world.points.reached,
        died=world.points.died,
        lines=world.trace.lines,
    )


def run_seed(seed: int, canary: str = "") -> Result:
    return run_plan(make_plan(seed), canary)


def _run_seeds(seeds: list[int], canary: str) -> list[Result]:
    """A whole world becomes garbage at once, so it is collected once in a while, not all the time."""
    gc.disable()
    try:
        return [run_seed(seed, canary) for seed in seeds]
    finally:
        gc.collect()


def run_many(
    seeds: range, jobs: int, *, canary: str = "", stop_at_first: bool = True,
    say: Callable[[Summary, float], None] = lambda summary, seconds: None,
) -> tuple[Summary, float]:  # fmt: skip
    """The summary and the wall-clock seconds."""
    summary, started_at = Summary(), time.perf_counter()
    for result in _results(seeds, jobs, canary):
        summary.add(result)
        say(summary, time.perf_counter() - started_at)
        if summary.failed and stop_at_first:
            break
    return summary, time.perf_counter() - started_at


def _results(seeds: range, jobs: int, canary: str) -> Iterator[Result]:
    if jobs <= 1:
        yield from (run_seed(seed, canary) for seed in seeds)
        return
    tasks: Iterable[list[int]] = [list(seeds[at : at + SEEDS_IN_TASK]) for at in range(0, len(seeds), SEEDS_IN_TASK)]
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:
        futures = [pool.submit(_run_seeds, task, canary) for task in tasks]
        try:
            for future in futures:
                yield from future.result()
        finally:
            for future in futures:
                future.cancel()
