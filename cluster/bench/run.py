"""Ties a measurement together: accounts, every setting with its warm-up and repeats, the books checked at the end."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import uvloop

from cluster import inspection
from cluster.bench import unary
from cluster.bench.decisions import decisions
from cluster.bench.feed import TransferFeed
from cluster.bench.load import CallLoad, Load, payment_call, transfer_call
from cluster.bench.measured import Measured, Run, summary
from cluster.bench.memory import Footprint, footprint, node_memory
from cluster.bench.meters import NOISE_CORES, ROLES, Meter, cost
from cluster.bench.people import People, Size, fill, make_people
from cluster.bench.reference import synced_records_per_second
from cluster.bench.restart import Restart, measure_restart
from cluster.bench.settings import PAYMENTS, UNARY, USSD, Setting
from cluster.bench.ussd import UssdLoad
from cluster.calls import Caller, operator_caller
from cluster.clients import operator_client
from cluster.health import find_leader
from cluster.layout import Layout
from kibubu_client import Client

WARM_UP_S = 1.0
WARM_UPS_MAX = 10
UNARY_WARM_UP_TIMES = 3  # Node.js compiles what has run some thousand times
CLIENT_DEADLINE_S = 30.0
ANSWER_S_MAX = 45.0  # behind the end of a repeat: a load that hangs ends the run
SIZE = Size()
Say = Callable[[str], None]


class WrongBooksError(RuntimeError):
    """The ledger is not right after the run: its figures are worth nothing."""


@dataclass(frozen=True, slots=True)
class Pace:
    seconds: float  # of one repeat
    repeats: int
    warm_up_s: float = WARM_UP_S


@dataclass(slots=True)
class Results:
    rows: list[Measured] = field(default_factory=list)
    memory: list[Footprint] = field(default_factory=list)
    restarts: list[Restart] = field(default_factory=list)


def measure(
    layout: Layout, wanted: list[Setting], pace: Pace, say: Say, *, size: Size = SIZE, restart: bool = False
) -> Results:
    """Everything at each size of the ledger. Raises WrongBooksError when the books are not right afterwards."""
    results = Results()
    present = available(wanted, say)
    with operator_caller(layout, deadline_s=60) as caller:
        before = node_memory(layout)
        people = make_people(layout, caller, present, size, say)
        for stored in sorted(size.stored):
            fill(layout, people, stored, say)
            results.memory.append(footprint(before, node_memory(layout), size.accounts, stored))
            say(results.memory[-1].line())
            for setting in present:
                row = measure_one(layout, caller, replace(setting, stored=stored), people, pace, say)
                results.rows.append(row)
            if restart:
                results.restarts += _restarts(layout, caller, people, pace.repeats, say)
        check_books(layout, caller, say)
    return results


def _restarts(layout: Layout, caller: Caller, people: People, repeats: int, say: Say) -> list[Restart]:
    found = []
    for _ in range(repeats):
        found.append(measure_restart(layout, caller, people.accounts, people.stored))
        say(found[-1].line())
    return found


def available(wanted: list[Setting], say: Say) -> list[Setting]:
    """Without what this machine has no program for."""
    if not any(setting.what == UNARY for setting in wanted):
        return wanted
    reason = unary.ready()
    if reason:
        say(reason)
    return [setting for setting in wanted if setting.what != UNARY or not reason]


def check_books(layout: Layout, caller: Caller, say: Say) -> None:
    verdict = inspection.verify(layout, caller)
    for line in verdict.lines:
        say(line)
    if not verdict.ok:
        raise WrongBooksError("the books are not right: " + "; ".join(verdict.problems))


def measure_one(layout: Layout, caller: Caller, setting: Setting, people: People, pace: Pace, say: Say) -> Measured:
    reference = synced_records_per_second(layout.home, setting.batch)
    load_average_before = os.getloadavg()[0]
    leader_id = find_leader(caller, layout)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        before = decisions(layout, leader_id) if setting.fraud_in_path else Counter[str]()
        runs = runner.run(_repeats(layout, leader_id, setting, people, pace))
    if find_leader(caller, layout) != leader_id:
        say(f"{setting.name}: the leader changed meanwhile; the parts of leader and followers are mixed")
    if setting.fraud_in_path:
        runs[-1].tally.others.update(decisions(layout, leader_id) - before)  # the warm-up included
    measured = summary(setting, runs, reference, load_average_before)
    say(line_of(measured))
    return measured


def line_of(measured: Measured) -> str:
    parts = ", ".join(f"{role} {measured.cpu_us_by_role[role]:.2f}" for role in ROLES if measured.cpu_us_by_role[role])
    noise = measured.foreign_cores.median
    disturbed = f"; disturbed: other programs took {noise:.2f} cores" if noise > NOISE_CORES else ""
    others = f" {measured.others}" if measured.others else ""
    return (
        f"{measured.setting.name}: {measured.per_second.median:,.0f}/s, {measured.cpu_us_each.median:.2f} us CPU each "
        f"({parts}), p50 {measured.p50_ms.median:.1f} ms, p99 {measured.p99_ms.median:.1f} ms{others}{disturbed}"
    )


async def _repeats(layout: Layout, leader_id: str, setting: Setting, people: People, pace: Pace) -> list[Run]:
    async with operator_client(layout, deadline_s=CLIENT_DEADLINE_S) as client:
        load = await _load(layout, leader_id, client, setting, people)
        try:
            await _warm_up(load, pace.warm_up_s * (UNARY_WARM_UP_TIMES if setting.what == UNARY else 1))
            meter = Meter.of_cluster(layout, leader_id)  # after the warm-up: it has started the load's own processes
            return [await run_once(load, meter, pace.seconds) for _ in range(pace.repeats)]
        finally:
            await load.close()


async def _warm_up(load: Load, seconds: float) -> None:
    """Again while nothing is done: after a start the sidecar's first calls may be late, and then it is left alone."""
    for _ in range(WARM_UPS_MAX):
        async with asyncio.timeout(seconds + ANSWER_S_MAX):
            if (await load.run(seconds)).done:
                return


async def run_once(load: Load, meter: Meter, seconds: float) -> Run:
    before = meter.read()
    async with asyncio.timeout(seconds + ANSWER_S_MAX):
        tally = await load.run(seconds)
    return Run(seconds, tally, cost(before, meter.read()), os.getloadavg()[0])


async def _load(layout: Layout, leader_id: str, client: Client, setting: Setting, people: People) -> Load:
    if setting.what == UNARY:
        return await unary.UnaryLoad.start(layout, layout.api_address(leader_id), people.accounts, setting.clients)
    if setting.what in (PAYMENTS, USSD):
        if people.payers is None:
            raise ValueError(f"{setting.name}: no customers were made")
        if setting.what == USSD:
            return UssdLoad(layout.edge_address, people.payers, setting.clients)
        return CallLoad(payment_call(client, people.payers, scored=setting.fraud_in_path), setting.clients)
    feed = TransferFeed(people.accounts, setting.batch, scored=setting.fraud_in_path)
    return CallLoad(transfer_call(client, setting, feed), setting.clients)
