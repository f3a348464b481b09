"""A rolling restart under load: no request fails, nothing is lost, and every node was really restarted."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable

import pytest

from cluster import inspection, processes
from cluster import rolling as rolling_restart
from cluster.accounts import LEDGER_KES, find_account
from cluster.calls import Caller
from cluster.clients import operator_client
from cluster.health import find_leader
from cluster.layout import NODE_IDS, Layout
from cluster.vocabulary import CODE_OPERATOR
from kibubu_client import Client, KibubuError, new_id, pack_transfer

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
Customer = Callable[..., str]
WORKERS = 16


class Load:
    """Workers that move one cent to and fro, each as soon as the one before is answered."""

    def __init__(self, accounts: tuple[int, int]) -> None:
        self._accounts = accounts
        self.answered_at_s: list[float] = []
        self.failures: list[str] = []
        self.stopping = False

    async def run(self, client: Client) -> None:
        await asyncio.gather(*(self._worker(client, at) for at in range(WORKERS)))

    async def _worker(self, client: Client, at: int) -> None:
        debit, credit = self._accounts if at % 2 else self._accounts[::-1]
        while not self.stopping:
            packed = pack_transfer(
                transfer_id=new_id(), debit_account=debit, credit_account=credit, amount_minor=1, ledger=LEDGER_KES,
                code=CODE_OPERATOR,
            )  # fmt: skip
            try:
                replies = await client.transfer(packed)
                if replies["status"][0]:
                    self.failures.append(f"status {replies['status'][0]}")
                self.answered_at_s.append(time.monotonic())
            except KibubuError as error:
                self.failures.append(repr(error))

    def longest_gap_s(self) -> float:
        times = self.answered_at_s
        return max(after - before for before, after in itertools.pairwise(times))


async def test_rolling_restart_fails_no_request(cluster: Layout, operator: Caller, customer: Customer) -> None:
    accounts = tuple(find_account(operator, customer()).account_number for _ in range(2))
    before = {node: processes.read_pid_file(cluster.pid_file(node)) for node in NODE_IDS}
    leader = find_leader(operator, cluster)
    load = Load((accounts[0], accounts[1]))
    async with operator_client(cluster, deadline_s=30) as client:
        running = asyncio.create_task(load.run(client))
        await asyncio.to_thread(rolling_restart.restart, cluster, operator, NODE_IDS, print)
        load.stopping = True
        await running
    after = {node: processes.read_pid_file(cluster.pid_file(node)) for node in NODE_IDS}
    print(
        f"{len(load.answered_at_s):,} transfers, longest time without an answer {load.longest_gap_s() * 1_000:.0f} ms"
    )
    assert not load.failures
    assert all(before[node] != after[node] for node in NODE_IDS)
    assert find_leader(operator, cluster) not in ("", leader)
    assert inspection.verify(cluster, operator).ok
