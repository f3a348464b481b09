"""Raw transfers and the fraud check: what is scored, what a decision does, and that a retry hears the first outcome."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from node.ledger.columns import AccountFlag, AccountKind, Column
from node.ledger.entry import decode_entry, encode_entry
from node.ledger.features import FEATURE_NAMES
from node.ledger.overlay import KIND, PAYER
from node.ledger.records import SCORING_NOT_ZERO, TRANSFER, Records, TransferFlag
from node.ledger.scoring import payments_of, words_of, write_decisions
from node.ledger.statuses import FraudDecision, PaymentKind, Status, TransferCode
from node.ledger.usage import SIM_SHIFT
from node.payments.plan import HOLD_TIMEOUT_S
from node.payments.tariffs import load_tariffs
from node.service import transfer_desk
from node.service.admission import Admission
from node.service.errors import NotAppliedError, QueueFullError, UnknownOutcomeError
from node.service.fraud_client import Scores
from node.service.fraud_rules import FraudRules, Listed, Rule
from node.service.fraud_thresholds import Thresholds
from node.service.limits import SCORING_ROUNDS_MAX
from node.service.metrics import NodeMetrics
from node.service.review_book import ReviewBook
from node.service.review_desk import verdict_of
from node.service.transfer_desk import ScoringPolicy, TransferDesk
from node.warm_up import warm_up
from tests.ledger.building import decided, joined, transfer
from tests.service.one_node import START_NS, OneNode

PRINCIPAL = int(TransferCode.PRINCIPAL)
ALLOW, HOLD, REFUSE = FraudDecision.ALLOW, FraudDecision.HOLD, FraudDecision.REFUSE
NOT_SCORED, HOLD_UNSCORED = FraudDecision.NOT_SCORED, FraudDecision.HOLD_UNSCORED
LINKED, PENDING, VOID = TransferFlag.LINKED, TransferFlag.PENDING, TransferFlag.VOID
DUPLICATE, HELD = 1, 2
AMOUNT = FEATURE_NAMES.index("amount_minor")
COUNT_1H = FEATURE_NAMES.index("out_count_1h")
SMALL_MINOR = 100_000


class Sidecar:
    """Stands for the client of the sidecar: refuses what ends in 3, holds what ends in 2; None = does not answer."""

    def __init__(self) -> None:
        self.answers = True
        self.version = 7
        self.seen: list[Any] = []
        self.may_go_on = asyncio.Event()
        self.may_go_on.set()

    async def score(self, rows: Any) -> Scores | None:
        self.seen.append(rows)
        await self.may_go_on.wait()
        if not self.answers:
            return None
        last = rows[:, AMOUNT].astype(np.int64) % 10
        decisions = np.select([last == 3, last == 2], [int(REFUSE), int(HOLD)], int(ALLOW)).astype(np.uint8)
        reasons = np.zeros((len(rows), 3), dtype=np.uint8)
        reasons[:, 0] = np.where(decisions == ALLOW, 0, 9)
        return Scores((last / 10).astype(np.float32), reasons, decisions, self.version, thresholds_version=3)


class Leader:
    def __init__(self, node: OneNode, rules: FraudRules | None = None) -> None:
        self.node, self.people, self.sidecar = node, node.people(), Sidecar()
        self.metrics = NodeMetrics(CollectorRegistry())
        self.admission = Admission(node, self.metrics, leader_address=lambda: "", time_ns=lambda: START_NS)
        self.rules = rules or FraudRules()
        policy = ScoringPolicy((PRINCIPAL,), SMALL_MINOR, lambda: self.rules)
        self.desk = TransferDesk(
            node.store, self.admission, self.sidecar, self.metrics, policy,  # type: ignore[arg-type]
            listed=lambda lists: {self.people["otieno"]: lists}, time_ns=lambda: START_NS,
        )  # fmt: skip
        self.book = ReviewBook(node.store, load_tariffs(), Thresholds)

    def send(
        self, number: int, amount: int = 1_000, payer: str = "wanjiku", payee: str = "otieno", **fields: int
    ) -> Any:
        return transfer(number, self.people[payer], self.people[payee], amount, **({"code": PRINCIPAL} | fields))

    async def create(self, *records: Records) -> list[tuple[int, int]]:
        """(status, flags) of each."""
        replies = await self.desk.create(joined(list(records)).tobytes())
        return list(zip(replies["status"].tolist(), replies["flags"].tolist(), strict=True))

    def balance(self, name: str) -> tuple[int, int]:
        """(balance, of it reserved)"""
        row = self.node.store.columns[self.people[name]]
        return int(row[Column.CREDITS_POSTED] - row[Column.DEBITS_POSTED]), int(row[Column.DEBITS_PENDING])

    def stored(self, number: int) -> Any:
        found = self.node.store.lookup_transfer(number)
        assert found is not None
        return found.record


@pytest.fixture(scope="module", autouse=True)
def _compiled() -> None:
    """A compiler on the event loop would take longer than anybody waits."""
    warm_up()


@pytest.fixture
def node(tmp_path: Path) -> Iterator[OneNode]:
    node = OneNode(tmp_path)
    yield node
    node.store.close()


@pytest.fixture
async def leader(node: OneNode) -> Leader:
    return Leader(node)


OK, HELD_STATUS, REFUSED = int(Status.OK), int(Status.HELD_FOR_REVIEW), int(Status.REFUSED_BY_FRAUD_CHECK)


async def test_allowed_held_and_refused(leader: Leader) -> None:
    told = await leader.create(leader.send(1), leader.send(2, 1_002), leader.send(3, 1_003))
    assert told == [(OK, 0), (HELD_STATUS, HELD), (REFUSED, 0)]
    assert leader.balance("wanjiku") == (1_000_000 - 1_000, 1_002)
    scoring = [int(leader.stored(number)["scoring"]) for number in (1, 2, 3)]
    assert scoring == [1, 2 | 200_000 << 4 | 9 << 24, 3 | 300_000 << 4 | 9 << 24]
    held = leader.stored(2)
    assert (int(held["flags"]), int(held["timeout_s"])) == (int(PENDING), HOLD_TIMEOUT_S)
    assert len(leader.sidecar.seen) == 1


@pytest.mark.parametrize("amount", [1_000, 1_002, 1_003])
async def test_a_retry_hears_the_first_outcome_whatever_the_score_would_be_now(leader: Leader, amount: int) -> None:
    """Also without a sidecar, after a restart, and beside itself in one call."""
    first = (await leader.create(leader.send(1, amount)))[0]
    again = (first[0], first[1] | DUPLICATE)
    assert await leader.create(leader.send(1, amount), leader.send(1, amount)) == [again, again]
    leader.sidecar.answers = False
    assert await leader.create(leader.send(1, amount)) == [again]
    leader.node.store.checkpoint(wait=True)
    assert await leader.create(leader.send(1, amount)) == [again]
    unscored = leader.node.write(encode_entry(START_NS, transfers=leader.send(1, amount).tobytes()))
    assert (int(unscored.replies["status"][0]), int(unscored.replies["flags"][0])) == again
    assert await leader.create(leader.send(1, amount + 10)) == [(int(Status.ID_USED_FOR_ANOTHER_TRANSFER), 0)]


async def test_a_reservation_is_not_taken_for_the_transfer_that_was_held(leader: Leader) -> None:
    """What the leader added to a held transfer is no content: who sends just that sends something else."""
    await leader.create(leader.send(1, 1_002))
    same_bytes = leader.send(1, 1_002, flags=int(PENDING), timeout_s=HOLD_TIMEOUT_S)
    assert await leader.create(same_bytes) == [(int(Status.ID_USED_FOR_ANOTHER_TRANSFER), 0)]


async def test_a_chain_stands_together(leader: Leader) -> None:
    fee = {"payee": "fees", "code": int(TransferCode.FEE)}
    chains = [
        leader.send(1, 1_002, flags=int(LINKED)), leader.send(2, 7, **fee),
        leader.send(3, 1_003, flags=int(LINKED)), leader.send(4, 7, **fee),
        leader.send(5, 1_002, flags=int(LINKED)), leader.send(6, 1_003),
    ]  # fmt: skip
    failed = (int(Status.LINKED_CHAIN_FAILED), 0)
    assert await leader.create(*chains) == [
        (HELD_STATUS, HELD), (HELD_STATUS, HELD), (REFUSED, 0), failed, failed, (REFUSED, 0),
    ]  # fmt: skip
    assert leader.balance("wanjiku") == (1_000_000, 1_009)


async def test_what_cannot_wait_for_an_analyst_is_refused(leader: Leader) -> None:
    """A reservation whose owner may post it at any time is no hold, nor is one member of a chain with such a one."""
    reserve = leader.send(1, 1_002, flags=int(PENDING), timeout_s=60)
    assert await leader.create(reserve) == [(REFUSED, 0)]
    chain = [leader.send(2, 1_002, flags=int(LINKED)), leader.send(3, 1_000, flags=int(PENDING))]
    assert await leader.create(*chain) == [(REFUSED, 0), (int(Status.LINKED_CHAIN_FAILED), 0)]
    assert await leader.create(leader.send(4, 1_000, flags=int(PENDING))) == [(OK, 0)]
    end = transfer(5, pending_id=4, flags=int(VOID), ledger=0, code=0)
    assert await leader.create(end, leader.send(6, 1_002)) == [(OK, 0), (HELD_STATUS, HELD)]


async def test_a_client_cannot_bring_its_own_decision(leader: Leader) -> None:
    refused = (int(Status.RESERVED_MUST_BE_ZERO), 0)
    smuggled = [leader.send(n, scoring=scoring) for n, scoring in ((1, 1), (2, SCORING_NOT_ZERO), (3, 2**32 - 1))]
    assert await leader.create(*smuggled, leader.send(4, 1_003)) == [*[refused] * 3, (REFUSED, 0)]
    alone = leader.send(5, payer="issuance", scoring=int(ALLOW))
    assert await leader.create(alone) == [refused]
    assert await leader.create(leader.send(6, payer="issuance"), smuggled[0]) == [(OK, 0), (refused[0], DUPLICATE)]


async def test_only_what_customers_send_under_these_codes_is_scored(leader: Leader) -> None:
    others = [
        leader.send(1, 1_003, payer="issuance"),  # not a customer's account
        leader.send(2, 1_003, code=1_001),  # not one of the codes
        leader.send(3, 1_003, payer="till", payee="wanjiku"),
    ]
    told = await leader.create(*others)
    assert [status for status, _ in told[:2]] == [OK, OK]
    assert not leader.sidecar.seen
    assert not decode_entry(leader.node.store.export(1, leader.node.store.applied_position, 1 << 30)[-1].entry).scored
    await leader.create(*(leader.send(n + 10, 1_000, code=1_001) for n in range(3)), leader.send(20))
    assert leader.sidecar.seen[0].shape[0] == 1
    assert leader.sidecar.seen[0][0, COUNT_1H] == 4, "what is not scored is seen all the same"


async def test_an_entry_says_which_model_scored_it(leader: Leader) -> None:
    await leader.create(leader.send(1))
    entry = decode_entry(leader.node.store.export(leader.node.store.applied_position, 1 << 60, 1)[0].entry)
    assert (entry.scored, entry.model_version, entry.thresholds_version) == (True, 7, 3)


async def test_no_answer_small_amounts_pass_and_large_ones_wait(leader: Leader) -> None:
    leader.sidecar.answers = False
    told = await leader.create(leader.send(1, SMALL_MINOR), leader.send(2, SMALL_MINOR + 1))
    assert told == [(OK, 0), (HELD_STATUS, HELD)]
    decisions = [int(leader.stored(number)["scoring"]) for number in (1, 2)]
    assert decisions == [int(FraudDecision.ALLOW_UNSCORED), int(HOLD_UNSCORED)]


async def test_rules_raise_what_the_model_allows(node: OneNode) -> None:
    lists = (Listed("254712000002", Rule.REFUSE_LIST, 2 * START_NS),)
    leader = Leader(node, FraudRules(cap_minor=50_000, lists=lists))
    told = await leader.create(leader.send(1), leader.send(2, payee="till"), leader.send(3, 60_000, payee="till"))
    assert told == [(REFUSED, 0), (OK, 0), (HELD_STATUS, HELD)]
    assert int(leader.stored(3)["scoring"]) >> 24 == 200 + Rule.CAP


@pytest.mark.parametrize(
    ("pin_age_h", "sim_age_h", "expected"),
    [
        (1, 0, "held"),
        (23, 0, "held"),
        (25, 0, "ok"),
        (0, 1, "refused"),
        (0, 23, "refused"),
        (0, 25, "ok"),
        (1, 1, "refused"),
    ],
)
async def test_cool_downs_after_a_pin_reset_and_a_sim_swap(
    leader: Leader, pin_age_h: int, sim_age_h: int, expected: str
) -> None:
    """0 = it never happened."""
    row = leader.node.store.columns[leader.people["wanjiku"]]
    hour_ns = 3_600 * 10**9
    row[Column.CREATED_NS] = START_NS - 100 * hour_ns
    row[Column.PIN_SET_NS] = START_NS - pin_age_h * hour_ns if pin_age_h else row[Column.CREATED_NS]
    row[Column.TIER] |= (START_NS // 10**9 - sim_age_h * 3_600) << SIM_SHIFT if sim_age_h else 0
    told = {"ok": (OK, 0), "held": (HELD_STATUS, HELD), "refused": (REFUSED, 0)}
    rules = leader.rules
    small = min(rules.pin_cool_down_from_minor, rules.sim_cool_down_from_minor) - 100
    large = 100_000 * (-(-max(rules.pin_cool_down_from_minor, rules.sim_cool_down_from_minor) // 100_000))
    leader.node.fund(leader.people["wanjiku"], 2 * large, leader.people["issuance"])
    assert await leader.create(leader.send(1, small), leader.send(2, large)) == [(OK, 0), told[expected]]


async def test_each_row_sees_those_before_it_and_those_in_flight(leader: Leader) -> None:
    leader.node.immediate = False
    first = asyncio.ensure_future(leader.create(leader.send(1), leader.send(2), leader.send(3, 1_003)))
    while not leader.node.waiting:
        await asyncio.sleep(0)
    second = asyncio.ensure_future(leader.create(leader.send(4), leader.send(5)))
    while len(leader.node.waiting) < 2:
        await asyncio.sleep(0)
    assert [rows[:, COUNT_1H].tolist() for rows in leader.sidecar.seen] == [[0, 1, 2], [2, 3]]
    for _ in range(2):
        leader.node.apply_next()
    assert [status for status, _ in await first + await second] == [OK, OK, REFUSED, OK, OK]


async def test_calls_that_wait_share_a_round(leader: Leader) -> None:
    leader.sidecar.may_go_on.clear()
    calls = [asyncio.ensure_future(leader.create(leader.send(n))) for n in range(1, 4)]
    while len(leader.sidecar.seen) < 1:
        await asyncio.sleep(0)
    calls += [asyncio.ensure_future(leader.create(leader.send(n))) for n in range(4, 9)]
    while len(leader.sidecar.seen) < SCORING_ROUNDS_MAX:
        await asyncio.sleep(0)
    calls += [asyncio.ensure_future(leader.create(leader.send(n))) for n in range(9, 60)]
    await asyncio.sleep(0)
    leader.sidecar.may_go_on.set()
    assert {told[0] for told in await asyncio.gather(*calls)} == {(OK, 0)}
    assert [len(rows) for rows in leader.sidecar.seen] == [3, 5, 51]


async def test_models_that_change_between_two_rounds_have_entries_of_their_own(leader: Leader) -> None:
    leader.node.immediate = False
    calls = []
    for number in range(1, 7):  # more than are in the log at a time: the last ones wait in the queue together
        leader.sidecar.version = number
        calls.append(asyncio.ensure_future(leader.create(leader.send(number))))
        while len(leader.sidecar.seen) < number:
            await asyncio.sleep(0)
    while leader.node.waiting:
        leader.node.apply_next()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.gather(*calls)
    batches = leader.node.store.export(1, leader.node.store.applied_position, 1 << 30)
    assert [decode_entry(batch.entry).model_version for batch in batches][-6:] == [1, 2, 3, 4, 5, 6]


async def test_a_full_queue_is_said_at_once(leader: Leader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer_desk, "QUEUED_TRANSFERS_MAX", 2)
    leader.sidecar.may_go_on.clear()
    calls = [asyncio.ensure_future(leader.create(leader.send(1), leader.send(2)))]
    await asyncio.sleep(0)
    with pytest.raises(QueueFullError):
        await leader.create(leader.send(3))
    leader.sidecar.may_go_on.set()
    await asyncio.gather(*calls)


async def test_nobody_waits_longer_than_the_limit(leader: Leader, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfer_desk, "OUTCOME_WAIT_S", 0.01)
    leader.sidecar.may_go_on.clear()
    with pytest.raises(UnknownOutcomeError):
        await leader.create(leader.send(1))
    leader.sidecar.may_go_on.set()
    monkeypatch.setattr(transfer_desk, "OUTCOME_WAIT_S", 5.0)
    assert (await leader.create(leader.send(1)))[0][0] == OK


async def test_a_lost_lead_is_told_and_nothing_stays_in_flight(leader: Leader) -> None:
    leader.node.is_leader = False
    with pytest.raises(NotAppliedError):
        await leader.create(leader.send(1))
    leader.node.is_leader = True
    leader.node.immediate = False
    call = asyncio.ensure_future(leader.create(leader.send(1)))
    while not leader.node.waiting:
        await asyncio.sleep(0)
    leader.node.lose_next(but_apply=True)
    with pytest.raises(UnknownOutcomeError):
        await call
    leader.node.immediate = True
    assert await leader.create(leader.send(1)) == [(OK, DUPLICATE)]
    await leader.create(leader.send(2))
    assert leader.sidecar.seen[-1][0, COUNT_1H] == 1


async def test_an_analyst_releases_or_refuses_a_chain_once(leader: Leader) -> None:
    fee = {"payee": "fees", "code": int(TransferCode.FEE)}
    for first in (1, 11):
        await leader.create(leader.send(first, 1_002, flags=int(LINKED)), leader.send(first + 1, 7, **fee))
    await leader.create(leader.send(30, 50, flags=int(PENDING)))  # a client's own
    waiting, _ = leader.book.waiting(10)
    assert [int.from_bytes(held.payment_id, "big") for held in waiting] == [1, 11]
    described = waiting[0]
    assert (described.amount_minor, described.fee_minor, described.score_ppm) == (1_002, 7, 200_000)
    assert (described.decision, described.model_version, list(described.reasons)) == (
        HOLD,
        "00000007",
        [FEATURE_NAMES[8]],
    )
    assert (described.payer.name, described.payee.name) == tuple(
        leader.node.store.profile(leader.people[who]).name
        for who in ("wanjiku", "otieno")  # type: ignore[union-attr]
    )
    for number, release in ((2, True), (11, False)):  # any member leads to the chain
        held = leader.book.held(number)
        assert held is not None
        packed = verdict_of(held, number, b"amina", release=release)
        replies = (await leader.admission.submit(transfers=packed)).replies
        assert replies["status"].tolist() == [OK, OK]
        other = (
            await leader.admission.submit(transfers=verdict_of(held, number, b"brian", release=not release))
        ).replies
        assert (other["status"] != OK).all()
        assert leader.book.describe(held).analyst == "amina"
    assert leader.balance("wanjiku") == (1_000_000 - 1_009, 50)
    assert not leader.book.waiting(10)[0]
    assert leader.book.held(30) is None


async def test_a_hold_ends_by_itself(leader: Leader) -> None:
    await leader.create(leader.send(1, 1_002))
    leader.node.write(encode_entry(START_NS + (HOLD_TIMEOUT_S + 1) * 10**9))
    assert leader.balance("wanjiku") == (1_000_000, 0)
    assert await leader.create(leader.send(1, 1_002)) == [(HELD_STATUS, HELD | DUPLICATE)]


# --- the pure part ----------------------------------------------------------------------------------------------------

members = st.fixed_dictionaries(
    {
        "amount": st.sampled_from([0, 5, 1_000]),
        "flags": st.sampled_from([0, 0, 0, int(LINKED), int(LINKED), int(PENDING), int(VOID), int(PENDING | LINKED)]),
        "timeout_s": st.sampled_from([0, 0, 0, 9]),
        "scoring": st.sampled_from([0, 0, 0, 0, 1]),
        "code": st.sampled_from([PRINCIPAL, PRINCIPAL, 1_001]),
    }
)
verdicts = st.sampled_from([ALLOW, ALLOW, ALLOW, HOLD, HOLD_UNSCORED, REFUSE, FraudDecision.ALLOW_UNSCORED])


@given(st.lists(st.tuples(members, verdicts), min_size=1, max_size=12))
def test_decisions_are_written_by_the_plain_rules(batch: list[tuple[dict[str, int], FraudDecision]]) -> None:
    columns = np.zeros((4, 48), dtype=np.int64)
    columns[1:, Column.LEDGER], columns[1:, Column.KIND] = 404, AccountKind.CUSTOMER
    columns[1:, Column.FLAGS] = AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS
    records = [transfer(number, 1, 2, **fields) for number, (fields, _) in enumerate(batch, 1)]
    packed = bytearray(joined(records).tobytes())
    payments, scored = payments_of(columns, words_of(packed), np.array([PRINCIPAL], dtype=np.int64))
    wanted = payments[:, KIND] != 0
    assert scored == np.count_nonzero(wanted)
    assert [bool(one) for one in wanted] == [
        fields["amount"] > 0 and fields["code"] == PRINCIPAL and not fields["flags"] & VOID for fields, _ in batch
    ]
    found = [verdict if is_wanted else NOT_SCORED for (_, verdict), is_wanted in zip(batch, wanted, strict=True)]
    decisions = np.array([verdict for verdict in found if verdict is not NOT_SCORED], dtype=np.uint8)
    zeros = np.zeros(scored, dtype=np.int64)
    write_decisions(words_of(packed), payments, decisions, zeros, zeros.astype(np.uint8), 77)
    expected = joined(decided(records, found, timeout_s=77))
    assert np.array_equal(np.frombuffer(packed, TRANSFER), expected)
    refused = expected["scoring"] == int(REFUSE)
    assert not payments[refused, PAYER].any(), "what is refused is no longer in flight"


def test_which_payment_the_model_takes_a_transfer_for() -> None:
    columns = np.zeros((7, 48), dtype=np.int64)
    columns[1:, Column.LEDGER] = 404
    kinds = [AccountKind.CUSTOMER, AccountKind.CUSTOMER, AccountKind.TILL, AccountKind.PAYBILL, AccountKind.AIRTIME]
    columns[1:6, Column.KIND] = kinds
    records = [transfer(n, 1, n, 5, code=PRINCIPAL) for n in range(2, 7)]
    records += [transfer(9, 1, 2, 5, code=int(TransferCode.AIRTIME)), transfer(10, 1, 1, 5), transfer(11, 1, 99, 5)]
    codes = np.array([PRINCIPAL, TransferCode.AIRTIME], dtype=np.int64)
    payments, _ = payments_of(columns, words_of(joined(records).tobytes()), codes)
    assert payments[:, KIND].tolist() == [
        PaymentKind.SEND_MONEY, PaymentKind.PAY_TILL, PaymentKind.PAY_BILL, PaymentKind.BUY_AIRTIME,
        PaymentKind.SEND_MONEY, PaymentKind.BUY_AIRTIME, 0, 0,
    ]  # fmt: skip
