"""Group commit: who shares an entry with whom, what each caller gets back, and what is refused at once."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from node.consensus.contract import ProposalStatus
from node.ledger.records import PAYMENT, TRANSFER, TransferFlag
from node.service.admission import Admission, Applied
from node.service.errors import NotAppliedError, QueueFullError, UnknownOutcomeError
from node.service.limits import ENTRIES_IN_FLIGHT_MAX, QUEUED_TRANSFERS_MAX
from node.service.metrics import NodeMetrics
from tests.service.hand_driven import HandDriven


def packed(*references: int, linked_last: bool = False) -> bytes:
    records = np.zeros(len(references), dtype=TRANSFER)
    records["reference"] = references
    if linked_last:
        records["flags"][-1] = TransferFlag.LINKED
    return records.tobytes()


@pytest.fixture
async def engine() -> HandDriven:
    return HandDriven()


@pytest.fixture
async def admission(engine: HandDriven) -> Admission:
    return Admission(
        engine, NodeMetrics(CollectorRegistry()), leader_address=lambda: "127.0.0.1:1", time_ns=lambda: 7_000
    )


async def settle() -> None:
    for _ in range(5):
        await asyncio.sleep(0)


async def test_callers_that_come_together_share_one_entry(engine: HandDriven, admission: Admission) -> None:
    calls = [asyncio.ensure_future(admission.submit(transfers=packed(n, n + 100))) for n in range(3)]
    await settle()
    assert len(engine.proposals) == 1
    entry = engine.apply()
    assert entry.transfers["reference"].tolist() == [0, 100, 1, 101, 2, 102]
    shares: list[Applied] = await asyncio.gather(*calls)
    assert [share.replies["debit_balance_minor"].tolist() for share in shares] == [[0, 100], [1, 101], [2, 102]]
    assert [share.replies["offset"].tolist() for share in shares] == [[0, 1], [2, 3], [4, 5]]
    assert admission.queue_length == 0


async def test_an_open_chain_never_swallows_the_next_callers_transfers(
    engine: HandDriven, admission: Admission
) -> None:
    calls = [
        asyncio.ensure_future(admission.submit(transfers=packed(1, linked_last=True))),
        asyncio.ensure_future(admission.submit(transfers=packed(2))),
    ]
    await settle()
    assert [entry.transfers["reference"].tolist() for entry, _ in engine.proposals] == [[1], [2]]
    engine.apply()
    engine.apply()
    await asyncio.gather(*calls)


async def test_entries_are_pipelined_and_the_rest_gathers(engine: HandDriven, admission: Admission) -> None:
    calls = []
    for n in range(ENTRIES_IN_FLIGHT_MAX + 3):
        calls.append(asyncio.ensure_future(admission.submit(transfers=packed(n))))
        await settle()
    assert len(engine.proposals) == ENTRIES_IN_FLIGHT_MAX
    engine.apply()
    await settle()
    gathered = engine.proposals[-1][0].transfers["reference"].tolist()
    assert gathered == [ENTRIES_IN_FLIGHT_MAX, ENTRIES_IN_FLIGHT_MAX + 1, ENTRIES_IN_FLIGHT_MAX + 2]
    while engine.proposals:
        engine.apply()
    await asyncio.gather(*calls)


async def test_first_leg_offsets_move_with_the_transfers(engine: HandDriven, admission: Admission) -> None:
    payment = np.zeros(1, dtype=PAYMENT)
    payment["legs"] = 2
    calls = [
        asyncio.ensure_future(admission.submit(transfers=packed(1, 2, 3))),
        asyncio.ensure_future(admission.submit(payments=payment.tobytes(), transfers=packed(4, 5))),
    ]
    await settle()
    entry = engine.apply()
    assert entry.payments["first_transfer"].tolist() == [3]
    await asyncio.gather(*calls)


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (ProposalStatus.REFUSED_NOT_LEADER, NotAppliedError),
        (ProposalStatus.REFUSED_STOPPING, NotAppliedError),
        (ProposalStatus.DISCARDED, NotAppliedError),
        (ProposalStatus.REFUSED_QUEUE_FULL, QueueFullError),
        (ProposalStatus.UNKNOWN, UnknownOutcomeError),
    ],
)
async def test_an_outcome_says_whether_it_surely_did_not_happen(
    engine: HandDriven, admission: Admission, status: ProposalStatus, error: type[Exception]
) -> None:
    call = asyncio.ensure_future(admission.submit(transfers=packed(1)))
    await settle()
    engine.end(status)
    with pytest.raises(error) as caught:
        await call
    assert type(caught.value) is error
    if isinstance(caught.value, NotAppliedError):
        assert dict(caught.value.trailing_metadata())["kibubu-leader-address"] == "127.0.0.1:1"


async def test_a_full_queue_refuses_at_once_and_changes_nothing(engine: HandDriven, admission: Admission) -> None:
    batch = packed(*range(8_190))
    calls = []
    for _ in range(ENTRIES_IN_FLIGHT_MAX):
        calls.append(asyncio.ensure_future(admission.submit(transfers=batch)))
        await settle()
    more = range(QUEUED_TRANSFERS_MAX // 8_190)
    calls.extend(asyncio.ensure_future(admission.submit(transfers=batch)) for _ in more)
    await settle()
    before = admission.queue_length
    with pytest.raises(QueueFullError):
        await admission.submit(transfers=batch)
    assert admission.queue_length == before
    while engine.proposals:
        engine.apply()
        await settle()
    assert len(await asyncio.gather(*calls)) == len(calls)
    assert admission.queue_length == 0


async def test_a_caller_who_gave_up_before_admission_is_not_proposed(engine: HandDriven, admission: Admission) -> None:
    kept = []
    for n in range(ENTRIES_IN_FLIGHT_MAX):
        kept.append(asyncio.ensure_future(admission.submit(transfers=packed(n))))
        await settle()
    gone = asyncio.ensure_future(admission.submit(transfers=packed(99)))
    await settle()
    gone.cancel()
    await settle()
    while engine.proposals:
        assert 99 not in engine.apply().transfers["reference"].tolist()
        await settle()
    await asyncio.gather(*kept)
    assert admission.queue_length == 0
