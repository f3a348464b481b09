"""One ordeal from beginning to end."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np
from kibubu.ledger.v1 import ledger_pb2

from cluster import inspection
from cluster.accounts import LEDGER_KES
from cluster.calls import operator_caller
from cluster.chaos.faults import LeaderKiller
from cluster.chaos.history import History
from cluster.chaos.observe import observe
from cluster.chaos.traffic import Traffic, answer, note
from cluster.chaos.validation import problems_of
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
Say = Callable[[str], None]


@dataclass(slots=True)
class Report:
    kills: int = 0
    sent: int = 0
    acknowledged: int = 0
    resolved: int = 0  # unanswered in the turmoil, found in the ledger afterwards
    never_applied: int = 0
    longest_silence_s: float = 0.0
    problems: list[str] = field(default_factory=list)

    def lines(self) -> list[str]:
        return [
            f"leaders killed with -9: {self.kills}",
            f"transfers sent: {self.sent:,}; acknowledged: {self.acknowledged:,}; unanswered but applied: "
            f"{self.resolved:,}; unanswered and never applied: {self.never_applied:,}",
            f"longest time without an acknowledgement: {self.longest_silence_s:.2f} s",
        ]


def ordeal(layout: Layout, kills: int, seconds: float, seed: int, say: Say) -> Report:
    return asyncio.run(_ordeal(layout, kills, seconds, seed, say))


async def _ordeal(layout: Layout, kills: int, seconds: float, seed: int, say: Say) -> Report:
    history = History()
    async with operator_client(layout, deadline_s=8.0) as client:
        issuance, accounts = await _accounts(client)
        await _fund(client, history, issuance, accounts)
        traffic = Traffic(client, accounts, history, seed)
        killer = LeaderKiller(layout, kills, seconds, say)
        running = asyncio.create_task(traffic.run())
        killer.start()
        await asyncio.to_thread(killer.join)
        await asyncio.sleep(1.0)
        traffic.stop()
        await running
    await asyncio.to_thread(_settle, layout)
    async with operator_client(layout, deadline_s=30.0) as client:
        with operator_caller(layout) as caller:
            total = max(s.accounts_total for s in (node_status(caller, a) for a in layout.api_addresses) if s)
            verdict = await asyncio.to_thread(inspection.verify, layout, caller)
        observed = await observe(client, history, [issuance, *accounts], total)
    observed.may_go_below = frozenset({issuance})
    observed.node_problems = verdict.problems
    for line in verdict.lines:
        say(line)
    unanswered = [observed.transfers[sent.id] for sent in history.sent if sent.status is None]
    applied = sum(found.status is not None for found in unanswered)
    return Report(
        kills=len(killer.log.killed),
        sent=len(history.sent),
        acknowledged=sum(sent.status is not None for sent in history.sent),
        resolved=applied,
        never_applied=len(unanswered) - applied,
        longest_silence_s=history.longest_silence_s(),
        problems=[*killer.log.problems, *problems_of(history, observed)],
    )


async def _accounts(client: Client) -> tuple[int, list[int]]:
    """An account that money is issued from, and those that it moves between."""
    new = [
        ledger_pb2.NewAccount(
            request_id=fixed_id(f"chaos account {number}"),
            ledger=LEDGER_KES,
            kind=int(AccountKind.OTHER),
            flags=DEBITS_MUST_NOT_EXCEED_CREDITS if number else 0,
            name=f"Chaos {number}",
        )
        for number in range(ACCOUNTS + 1)
    ]
    answer_ = await client.create_accounts(ledger_pb2.CreateAccountsRequest(accounts=new))
    numbers = [result.account_number for result in answer_.results]
    return numbers[0], numbers[1:]


async def _fund(client: Client, history: History, issuance: int, accounts: list[int]) -> None:
    form = template(len(accounts), amount_minor=OPENING_MINOR, ledger=LEDGER_KES, code=CODE_ISSUE)
    batch = fresh_batch(
        form, IdSource(), np.full(len(accounts), issuance, np.uint64), np.array(accounts, dtype=np.uint64)
    )
    sent = note(history, batch)
    answer(history, sent, await client.create_transfers(batch.tobytes()))
    history.acknowledged_at_s.clear()  # the clock of silence starts with the traffic


def _settle(layout: Layout) -> None:
    """Wait until all nodes have applied the same; what does not settle is for the validation to say."""
    end_s = time.monotonic() + SETTLE_S
    with operator_caller(layout) as caller:
        while time.monotonic() < end_s:
            states = [node_status(caller, address) for address in layout.api_addresses]
            positions = {state.applied_position if state else -1 for state in states}
            if len(positions) == 1 and -1 not in positions and find_leader(caller, layout):
                return
            time.sleep(0.1)
