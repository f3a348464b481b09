"""Group commit: who shares an entry with whom, what each caller gets back, and what is refused at once."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest
from prometheus_client import CollectorRegistry

from node.consensus.contract import ProposalStatus
from node.ledger.records import PAYMENT, TRANSFER, TransferFlag
from node.service import admission as admission_module
from node.service.admission import Admission, Applied
from node.service.errors import NotAppliedError, QueueFullError, UnknownOutcomeError
from node.service.limits import (
    CROWD_MIN,
    ENTRIES_IN_FLIGHT_MAX,
    QUEUED_TRANSFERS_MAX,
    SMALL_ENTRIES_IN_FLIGHT_MAX,
    SMALL_ENTRY_MAX,
    TINY_ENTRY_MAX,
)
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


@pytest.mark.parametrize(
    ("transfers", "in_flight_max"), [(1, SMALL_ENTRIES_IN_FLIGHT_MAX), (SMALL_ENTRY_MAX + 1, ENTRIES_IN_FLIGHT_MAX)]
)
async def test_entries_are_pipelined_and_the_rest_gathers(
    engine: HandDriven, admission: Admission, transfers: int, in_flight_max: int
) -> None:
    calls = []
    for n in range(in_flight_max + 3):
        calls.append(asyncio.ensure_future(admission.submit(transfers=packed(*[n] * transfers))))
        await settle()
    assert len(engine.proposals) == in_flight_max
    engine.apply()
    await settle()
    gathered = engine.proposals[-1][0].transfers["reference"][::transfers].tolist()
    assert gathered == [in_flight_max, in_flight_max + 1, in_flight_max + 2]
    while engine.proposals:
        engine.apply()
        await settle()
    await asyncio.gather(*calls)


async def test_few_callers_of_a_crowd_wait_for_the_rest_of_it(
    engine: HandDriven, admission: Admission, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(admission_module, "LINGER_S", 3_600)
    crowd = [asyncio.ensure_future(admission.submit(transfers=packed(n))) for n in range(CROWD_MIN)]
    await settle()
    first = asyncio.ensure_future(admission.submit(transfers=packed(100)))
    await settle()
    assert len(engine.proposals) == 1, "a round of its own, while one is on its way"
    rest = asyncio.ensure_future(admission.submit(transfers=packed(*range(101, 101 + TINY_ENTRY_MAX))))
    await settle()
    assert len(engine.proposals) == 2, "all of them are worth a round"
    engine.apply()
    engine.apply()
    await asyncio.gather(*crowd, first, rest)


async def test_a_crowd_that_does_not_come_again_is_waited_for_only_a_moment(
    engine: HandDriven, admission: Admission
) -> None:
    crowd = [asyncio.ensure_future(admission.submit(transfers=packed(n))) for n in range(CROWD_MIN)]
    await settle()
    engine.apply()
    await asyncio.gather(*crowd)
    alone = asyncio.ensure_future(admission.submit(transfers=packed(100)))
    async with asyncio.timeout(30):
        while not engine.proposals:
            await asyncio.sleep(0)
    engine.apply()
    await alone


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
