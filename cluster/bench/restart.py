"""From kill -9 of all nodes at once to the first transfer that is taken again, with whatever the ledger holds."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

from kibubu.ledger.v1 import ledger_pb2, ledger_pb2_grpc

from cluster import lifecycle, processes
from cluster.accounts import LEDGER_KES
from cluster.calls import Caller, CallError
from cluster.health import checks, wait_healthy
from cluster.ids import new_id
from cluster.layout import Layout
from cluster.vocabulary import CODE_BENCH, STATUS_OK

SERVING_S_MAX = 10.0  # the target
GIVE_UP_S = 600.0
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Restart:
    """Seconds since the kill."""

    stored: int
    first_transfer_s: float  # answered: an order has been agreed on and is on a majority's disks
    all_nodes_s: float  # every node serves

    def as_json(self) -> dict[str, Any]:
        return asdict(self)

    def line(self) -> str:
        return (
            f"restart after kill -9 with {self.stored:,} transfers stored: the first transfer after "
            f"{self.first_transfer_s:.1f} s (target: {SERVING_S_MAX:g}), every node serves after "
            f"{self.all_nodes_s:.1f} s"
        )


def measure_restart(layout: Layout, caller: Caller, accounts: list[int], stored: int) -> Restart:
    """Raises RuntimeError when the cluster does not come back in ten minutes."""
    started_s = time.monotonic()
    for node_id in layout.node_ids:
        processes.kill(layout.pid_file(node_id))
    for node_id in layout.node_ids:
        lifecycle.start_service(layout, node_id)
    _transfer_until_taken(caller, accounts, started_s + GIVE_UP_S)
    first_transfer_s = time.monotonic() - started_s
    every = checks(layout, caller, prometheus=False)
    problems = wait_healthy({node_id: every[node_id] for node_id in layout.node_ids}, GIVE_UP_S, lambda _: False)
    if problems:
        raise RuntimeError(f"not every node came back: {problems}")
    return Restart(stored, first_transfer_s, time.monotonic() - started_s)


def _transfer_until_taken(caller: Caller, accounts: list[int], end_s: float) -> None:
    transfer = ledger_pb2.Transfer(
        id=new_id(), debit_account=accounts[0], credit_account=accounts[1], amount_minor=1, ledger=LEDGER_KES,
        code=CODE_BENCH,
    )  # fmt: skip
    request = ledger_pb2.CreateTransfersRequest(transfers=[transfer])
    while True:
        try:
            answer = caller.leader(lambda c: ledger_pb2_grpc.LedgerServiceStub(c).CreateTransfers, request)
        except CallError as error:
            if time.monotonic() > end_s:
                raise RuntimeError(f"no transfer is taken: {error}") from error
            continue
        if answer.results[0].status != STATUS_OK:
            raise RuntimeError(f"the first transfer is refused: {answer.results[0].status_name}")
        return
