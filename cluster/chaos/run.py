"""One ordeal from beginning to end: load, calm, faults, healing, the nodes' logs, the judgement."""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from kibubu.ledger.v1 import ledger_pb2

from cluster import inspection
from cluster.accounts import LEDGER_KES
from cluster.calls import Caller, operator_caller
from cluster.chaos import measures
from cluster.chaos.arena import Arena
from cluster.chaos.ballast import Ballast
from cluster.chaos.checker import Evidence, Outcome, check
from cluster.chaos.checker.records import Records
from cluster.chaos.comparing import Comparison
from cluster.chaos.ground import Ground, open_ground
from cluster.chaos.history import History, numbers_of
from cluster.chaos.observe import read_balances, read_logs, resolve
from cluster.chaos.people import People, customers, judge_people, moved_money
from cluster.chaos.report import Report
from cluster.chaos.scenarios import HARMLESS, Plan, carry_out
from cluster.chaos.traffic import Traffic
from cluster.clients import operator_client
from cluster.health import find_leader, node_status
from cluster.ids import fixed_id
from cluster.layout import Layout
from cluster.packed import IdSource, fresh_batch, template
from cluster.vocabulary import CODE_ISSUE, DEBITS_MUST_NOT_EXCEED_CREDITS, AccountKind
from kibubu_client import Client

ACCOUNTS = 40
OPENING_MINOR = 20_000
SETTLE_S = 60.0
CLIENT_DEADLINE_S = 8.0
CALM_S_MIN, CALM_S_MAX = 3.0, 10.0
WARM_OPERATIONS = 1_000
AFTER_S = 1.0
Say = Callable[[str], None]


def ordeal(arena: Arena, name: str, plan: Plan, seed: int, say: Say, stored: int = 0) -> tuple[Report, Evidence]:
    """`stored`: so many transfers are in the ledger before it begins."""
    started_at = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    return asyncio.run(_ordeal(arena, Report(name, seed, started_at), plan, say, stored))


@dataclass(slots=True)
class Load:
    """All that goes on while the faults come."""

    history: History
    traffic: Traffic
    people: People
    comparison: Comparison

    async def run(self) -> None:
        await asyncio.gather(self.traffic.run(), self.people.run(), self.comparison.run())

    def stop(self) -> None:
        self.traffic.stop()
        self.people.stop()
        self.comparison.stop()


async def _ordeal(arena: Arena, report: Report, plan: Plan, say: Say, stored: int) -> tuple[Report, Evidence]:
    history, layout = History(), arena.layout
    ballast = Ballast(layout, say)
    if stored:
        await asyncio.to_thread(ballast.store, stored)
    with operator_caller(layout, deadline_s=30.0) as caller:
        numbers = await asyncio.to_thread(customers, caller)
        async with operator_client(layout, deadline_s=CLIENT_DEADLINE_S) as client:
            issuance, accounts = await _accounts(client)
            await _fund(client, history, issuance, accounts)
            traffic = Traffic(client, accounts, history, report.seed)
            load = Load(history, traffic, People(layout, client, numbers), Comparison(layout, caller))
            await _storm(arena, load, report, plan, say, ballast)
        operations = history.operations()
        await asyncio.to_thread(_resolve, caller, operations, report)
        await asyncio.to_thread(_settle, layout, caller)
        evidence = await asyncio.to_thread(
            _gather, layout, caller, operations, history.reads(), [issuance, *accounts], ballast, report
        )
        moved = await asyncio.to_thread(moved_money, caller, numbers)
    report.states_compared = load.comparison.positions
    report.problems += load.comparison.problems
    report.note_people(load.people.paid, judge_people(load.people.paid, moved))
    judge(evidence, report)
    arena.keep |= bool(report.problems)  # whatever may explain them
    return report, evidence


def _gather(
    layout: Layout, caller: Caller, operations: Records, reads: Records, accounts: list[int], ballast: Ballast,
    report: Report,
) -> Evidence:  # fmt: skip
    """The nodes' own verification, their logs, and the balances at the end."""
    verdict = inspection.verify(layout, caller)
    report.verify_lines = verdict.lines
    report.problems += verdict.problems
    nodes = read_logs(caller, layout, report.problems, ballast.accounts)
    states = [node_status(caller, address) for address in layout.api_addresses]
    aside = frozenset(ballast.accounts)
    balances = read_balances(caller, max((state.accounts_total for state in states if state), default=0))
    return Evidence(
        operations,
        reads,
        {node_id: node.log for node_id, node in nodes.items()},
        {node_id: node.repeats for node_id, node in nodes.items()},
        {node_id: node.expired for node_id, node in nodes.items()},
        final_balances_minor={number: minor for number, minor in balances.minor.items() if number not in aside},
        aside_minor=sum(minor for number, minor in balances.minor.items() if number in aside),
        guarded=balances.guarded - aside,
        own_accounts=frozenset(accounts),
    )


async def _storm(arena: Arena, load: Load, report: Report, plan: Plan, say: Say, ballast: Ballast) -> None:
    """Load all the time; first calm, for comparison, then the faults."""
    running = asyncio.create_task(load.run())
    with open_ground(arena, say, report.seed, ballast) as ground:
        await _until_warm(load)
        memory_before = _memory_mib(ground)
        calm_from_ns = time.monotonic_ns()
        await asyncio.sleep(min(max(CALM_S_MIN, plan.seconds / 4), CALM_S_MAX))
        faulted_from_ns = time.monotonic_ns()
        report.problems += await asyncio.to_thread(carry_out, plan, ground)
        faulted_to_ns = time.monotonic_ns()
        await asyncio.sleep(AFTER_S)
        report.events = ground.events
        now = _memory_mib(ground)
        report.memory_mib = {node_id: (before, now[node_id]) for node_id, before in memory_before.items()}
    load.stop()
    await running
    report.problems += [f"a client's call was refused: {text}" for text in load.traffic.refused_calls]
    _measure(load.history, load.traffic, report, (calm_from_ns, faulted_from_ns, faulted_to_ns))


def _memory_mib(ground: Ground) -> dict[str, int]:
    return {node_id: ground.memory_bytes(node_id) >> 20 for node_id in ground.layout.node_ids}


async def _until_warm(load: Load) -> None:
    """The first calls of a fresh cluster are slow; they are no measure of calm."""
    while load.history.count < WARM_OPERATIONS:
        await asyncio.sleep(0.1)


def _measure(history: History, traffic: Traffic, report: Report, marks_ns: tuple[int, int, int]) -> None:
    """`marks_ns`: when the calm began, when the faults began, when they ended."""
    calm_ns, from_ns, to_ns = marks_ns
    operations = history.operations()
    times = measures.acknowledgement_times(operations)
    report.seconds = (traffic.ended_ns - traffic.started_ns) / 1e9
    report.calm_rate = measures.rate(times, calm_ns, from_ns)
    report.calm_latency_p99_ms = measures.latency_p99_ms(operations, [(calm_ns, from_ns)])
    report.faulted_rate = measures.rate(times, from_ns, to_ns)
    report.silence_max_s = measures.silence_s(times, calm_ns, traffic.ended_ns)
    report.figures = measures.figures_by_fault(operations, report.events)
    report.sent = len(operations)
    counts = np.bincount(operations["outcome"], minlength=3).tolist()
    report.acknowledged = counts[Outcome.ACKNOWLEDGED]
    report.surely_not, report.unknown = counts[Outcome.NOT_APPLIED], counts[Outcome.UNKNOWN]
    unanswered = report.surely_not + report.unknown
    if unanswered and all(event.fault.startswith(HARMLESS) for event in report.events):
        report.problems.append(f"{unanswered} transfers had no answer in time, though only the sidecar was away")


def _resolve(caller: Caller, operations: Records, report: Report) -> None:
    """How long it takes until the outcome of everything that stayed open is known."""
    started_s = time.monotonic()
    is_open = operations["outcome"] == Outcome.UNKNOWN
    answered = set(numbers_of(operations[operations["outcome"] == Outcome.ACKNOWLEDGED]))
    resolve(caller, [number for number in numbers_of(operations[is_open]) if number not in answered])
    report.resolved_s = time.monotonic() - started_s


def judge(evidence: Evidence, report: Report) -> None:
    started_s = time.process_time()
    verdict = check(evidence)
    report.checked_per_second = (verdict.operations + verdict.reads) / max(time.process_time() - started_s, 1e-9)
    report.reads = verdict.reads
    report.note_verdict(verdict)


async def _accounts(client: Client) -> tuple[int, list[int]]:
    """An account that money is issued from, and those that it moves between."""
    new = [
        ledger_pb2.NewAccount(
            request_id=fixed_id(f"chaos account {number}"),
            ledger=LEDGER_KES,
            kind=int(AccountKind.CUSTOMER if number else AccountKind.ISSUANCE),
            flags=DEBITS_MUST_NOT_EXCEED_CREDITS if number else 0,
            name=f"Chaos {number}",
        )
        for number in range(ACCOUNTS + 1)
    ]
    answer = await client.create_accounts(ledger_pb2.CreateAccountsRequest(accounts=new))
    numbers = [result.account_number for result in answer.results]
    return numbers[0], numbers[1:]


async def _fund(client: Client, history: History, issuance: int, accounts: list[int]) -> None:
    form = template(len(accounts), amount_minor=OPENING_MINOR, ledger=LEDGER_KES, code=CODE_ISSUE)
    batch = fresh_batch(
        form, IdSource(), np.full(len(accounts), issuance, np.uint64), np.array(accounts, dtype=np.uint64)
    )
    rows = history.begin(batch)
    history.acknowledged(rows, await client.create_transfers(batch.tobytes()))


def _settle(layout: Layout, caller: Caller) -> None:
    """Wait until all nodes have applied the same; what does not settle is for the checker to say."""
    end_s = time.monotonic() + SETTLE_S
    while time.monotonic() < end_s:
        states = [node_status(caller, address) for address in layout.api_addresses]
        positions = {state.applied_position if state else -1 for state in states}
        if len(positions) == 1 and -1 not in positions and find_leader(caller, layout):
            return
        time.sleep(0.1)
