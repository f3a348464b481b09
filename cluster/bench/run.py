"""Ties a measurement together: a cluster of its own, accounts, every setting, the books checked at the end."""

from __future__ import annotations

import asyncio
import os
import statistics
from collections import Counter
from collections.abc import Callable

import psutil

from cluster import inspection, processes
from cluster.bench.load import Call, payment_call, run_once, transfer_call
from cluster.bench.people import make_accounts, make_customers
from cluster.bench.reference import synced_records_per_second
from cluster.bench.settings import Measured, Run, Setting
from cluster.calls import operator_caller
from cluster.clients import operator_client
from cluster.layout import Layout

WARM_UP_S = 0.5
Say = Callable[[str], None]


def measure(layout: Layout, wanted: list[Setting], seconds: float, repeats: int, say: Say) -> list[Measured]:
    """Raises RuntimeError when the books are not right afterwards: such figures are worth nothing."""
    with operator_caller(layout, deadline_s=60) as caller:
        accounts = make_accounts(caller)
        customers = make_customers(caller) if any(s.what == "payments" for s in wanted) else []
        rows = [asyncio.run(_measure_one(layout, s, accounts, customers, seconds, repeats, say)) for s in wanted]
        verdict = inspection.verify(layout, caller)
    for line in verdict.lines:
        say(line)
    if not verdict.ok:
        raise RuntimeError("the books are not right: " + "; ".join(verdict.problems))
    return rows


async def _measure_one(
    layout: Layout, setting: Setting, accounts: list[int], customers: list[str], seconds: float, repeats: int, say: Say
) -> Measured:
    reference = synced_records_per_second(layout.home, setting.batch)
    cpu_s = _cpu_meter(layout)
    async with operator_client(layout, deadline_s=30) as client:
        call: Call
        if setting.what == "payments":
            call = payment_call(client, customers)
        else:
            call = transfer_call(client, setting, accounts)
        await run_once(setting, call, WARM_UP_S, cpu_s)
        runs = [await run_once(setting, call, seconds, cpu_s) for _ in range(repeats)]
    measured = _summary(setting, runs, reference)
    say(f"{setting.name}: {measured.per_second:,.0f}/s, {measured.cpu_us_each:.2f} us CPU each {measured.outcomes}")
    return measured


def _summary(setting: Setting, runs: list[Run], reference: float) -> Measured:
    rates = [run.per_second for run in runs]
    latencies = sorted(latency for run in runs for latency in run.latencies_ms) or [0.0]
    outcomes: Counter[str] = Counter()
    for run in runs:
        outcomes.update(run.outcomes)
    return Measured(
        setting=setting,
        repeats=len(runs),
        per_second=statistics.median(rates),
        slowest_per_second=min(rates),
        fastest_per_second=max(rates),
        cpu_us_each=statistics.median(run.cpu_us_each for run in runs),
        p50_ms=latencies[len(latencies) // 2],
        p99_ms=latencies[min(len(latencies) - 1, len(latencies) * 99 // 100)],
        reference_records_per_second=reference,
        outcomes=dict(outcomes),
    )


def _cpu_meter(layout: Layout) -> Callable[[], float]:
    found = [processes.find_process(layout.pid_file(name)) for name in layout.services]
    watched = [process for process in found if process is not None] + [psutil.Process(os.getpid())]

    def cpu_s() -> float:
        return sum(times.user + times.system for times in (process.cpu_times() for process in watched))

    return cpu_s
