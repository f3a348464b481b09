"""Tiers' limits against the plain model, where they are hard: at midnight, at a month's end, on leap days, in chains
that fail, and in reservations that end after the period in which they were counted."""

from __future__ import annotations

import shutil
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from kibubu.raft.v1 import raft_pb2

from node.ledger import usage
from node.ledger.records import TransferFlag
from node.ledger.statuses import COUNTED_CODES, Status, TransferCode
from tests.ledger.building import START_NS, command, transfer
from tests.ledger.model import COUNTED, Model, Tier, Transfer
from tests.ledger.twins import Twins

PRINCIPAL, FEE, AIRTIME = int(TransferCode.PRINCIPAL), int(TransferCode.FEE), int(TransferCode.AIRTIME)
LINKED, PENDING, POST, VOID = TransferFlag.LINKED, TransferFlag.PENDING, TransferFlag.POST, TransferFlag.VOID
HOUR, SECOND = 3_600 * 10**9, 10**9
NAIROBI, LAGOS = timedelta(hours=3), timedelta(hours=1)
BANK, WANJIKU, OTIENO = 1, 2, 3
TIERS = {
    1: Tier(NAIROBI, minimum=5, maximum=100, day=150, week=300, month=500, balance=2_000),
    2: Tier(LAGOS, maximum=100, day=100, month=200, balance=300, dormant=timedelta(days=30)),
    9: Tier(-timedelta(hours=12), week=1_000),
}


def nanoseconds(moment: datetime) -> int:
    return int(moment.timestamp()) * SECOND


def at(*moment: int, offset: timedelta = NAIROBI) -> int:
    """A local time as the ledger's."""
    return nanoseconds(datetime(*moment, tzinfo=UTC) - offset)  # type: ignore[arg-type, misc]


class Town:
    """Two people with tiers and the bank, at a moment."""

    def __init__(self, folder: Path, now_ns: int = START_NS, model: Model | None = None) -> None:
        shutil.rmtree(folder, ignore_errors=True)
        self.twins = Twins(folder, model=model)
        self.twins.now_ns = now_ns
        for _ in (BANK, WANJIKU, OTIENO):
            self.twins.create_account(404)
        self.twins.tiers(TIERS)
        self.tier(WANJIKU, 1)
        self.tier(OTIENO, 2)
        self.ids = 0

    def tier(self, account: int, number: int) -> None:
        self.twins.change(command(set_tier=raft_pb2.SetTier(account_number=account, tier=number)))

    def pay(self, amount: int, debit: int = WANJIKU, credit: int = BANK, **fields: int) -> Status:
        self.ids += 1
        record = transfer(self.ids, debit, credit, amount, **({"code": PRINCIPAL} | fields))
        return self.twins.transfers([record])[0].status

    def end(self, number: int, flag: TransferFlag, amount: int = 0) -> None:
        self.ids += 1
        answers = self.twins.transfers([transfer(self.ids, flags=flag, pending_id=number, amount=amount)])
        assert answers[0].status is Status.OK

    def close(self) -> None:
        self.twins.check_books()
        self.twins.store.close()


@pytest.fixture
def town(tmp_path: Path) -> Town:
    return Town(tmp_path / "town")


def test_what_counts_is_what_the_statuses_say() -> None:
    assert set(COUNTED) == COUNTED_CODES
    assert all(code < 62 for code in COUNTED_CODES)


@pytest.mark.parametrize("code", [PRINCIPAL, AIRTIME])
def test_a_payment_is_bounded_on_both_sides(town: Town, code: int) -> None:
    statuses = [town.pay(amount, code=code) for amount in (4, 5, 101, 100)]
    under, over = Status.DEBIT_ACCOUNT_UNDER_PAYMENT_MINIMUM, Status.DEBIT_ACCOUNT_OVER_PAYMENT_LIMIT
    assert statuses == [under, Status.OK, over, Status.OK]
    town.close()


def test_fees_and_the_operators_own_transfers_do_not_count(town: Town) -> None:
    for code in (FEE, int(TransferCode.EXCISE_DUTY), int(TransferCode.COMMISSION), 1_001, 65_535):
        assert town.pay(10**6, code=code) is Status.OK
    assert town.pay(10**6, debit=BANK, credit=OTIENO, code=FEE) is Status.OK
    assert town.pay(100) is Status.OK
    town.close()


def test_no_tier_no_limit(town: Town) -> None:
    assert town.pay(2**62, debit=BANK, credit=WANJIKU, code=1_001) is Status.OK
    assert town.pay(2**62, debit=BANK, credit=WANJIKU) is Status.CREDIT_ACCOUNT_OVER_BALANCE_LIMIT
    town.tier(WANJIKU, 0)
    assert town.pay(2**61) is Status.OK
    town.close()


@pytest.mark.parametrize(
    ("midnight", "refused"),
    [
        ((2026, 11, 25, 0, 0, 0), Status.DEBIT_ACCOUNT_OVER_DAY_LIMIT),  # Wednesday, in the middle of all else
        ((2026, 11, 30, 0, 0, 0), Status.DEBIT_ACCOUNT_OVER_DAY_LIMIT),  # a Monday
        ((2028, 2, 29, 0, 0, 0), Status.DEBIT_ACCOUNT_OVER_DAY_LIMIT),  # the leap day
        ((2028, 3, 1, 0, 0, 0), Status.DEBIT_ACCOUNT_OVER_DAY_LIMIT),
        ((2027, 1, 1, 0, 0, 0), Status.DEBIT_ACCOUNT_OVER_DAY_LIMIT),
    ],
)
def test_the_local_midnight_begins_a_day(tmp_path: Path, midnight: tuple[int, ...], refused: Status) -> None:
    town = Town(tmp_path / "town", at(*midnight) - 1_000)
    assert [town.pay(75), town.pay(75), town.pay(5)] == [Status.OK, Status.OK, refused]
    town.twins.now_ns = at(*midnight)
    assert town.pay(100) is Status.OK
    town.close()


def test_the_week_begins_on_monday_and_the_month_on_the_first(tmp_path: Path) -> None:
    town = Town(tmp_path / "town", at(2026, 11, 23))  # a Monday
    found = []
    for day in (23, 24, 25, 30, 31, 32, 33):
        town.twins.now_ns = at(2026, 11, 23) + (day - 23) * 24 * HOUR
        found += [town.pay(100), town.pay(50)]
    ok, week, month = Status.OK, Status.DEBIT_ACCOUNT_OVER_WEEK_LIMIT, Status.DEBIT_ACCOUNT_OVER_MONTH_LIMIT
    # 150 on Monday and Tuesday are the week's 300; the next Monday is of November still, the day after is of December.
    assert found == [ok, ok, ok, ok, week, week, ok, ok, ok, ok, week, week, week, week]
    assert month not in found
    town.close()


def test_a_month_is_bounded_over_its_weeks(tmp_path: Path) -> None:
    town = Town(tmp_path / "town", at(2028, 2, 1))
    town.tier(WANJIKU, 2)
    town.twins.tiers(TIERS | {2: Tier(NAIROBI, month=200)})
    found = []
    for day in (1, 10, 29, 30):  # the 30th of February 2028 is the first of March
        town.twins.now_ns = at(2028, 2, 1) + (day - 1) * 24 * HOUR
        found.append(town.pay(100))
    ok, month = Status.OK, Status.DEBIT_ACCOUNT_OVER_MONTH_LIMIT
    assert found == [ok, ok, month, ok]
    town.close()


def test_the_balance_has_an_end(town: Town) -> None:
    assert town.pay(200, BANK, OTIENO) is Status.OK
    assert town.pay(90, BANK, OTIENO, flags=PENDING) is Status.OK
    assert town.pay(11, BANK, OTIENO) is Status.CREDIT_ACCOUNT_OVER_BALANCE_LIMIT  # what is on its way counts
    assert town.pay(10, BANK, OTIENO) is Status.OK
    town.end(2, VOID)
    assert town.pay(90, BANK, OTIENO) is Status.OK
    town.close()


def test_an_account_falls_asleep_and_wakes_with_a_new_pin(town: Town) -> None:
    assert town.pay(1, OTIENO) is Status.OK
    town.twins.wait(30 * 24 * HOUR - 1_000)
    assert town.pay(1, OTIENO) is Status.OK
    town.twins.wait(30 * 24 * HOUR)
    assert town.pay(1, OTIENO) is Status.DEBIT_ACCOUNT_DORMANT
    verifier = raft_pb2.SetPinVerifier(account_number=OTIENO, pin_verifier=bytes(15) + b"\1")
    town.twins.model.accounts[OTIENO].moved_ns = town.twins.now_ns + 1_000
    assert town.twins._command(command(set_pin_verifier=verifier)).status == 0
    assert town.pay(1, OTIENO) is Status.OK
    town.close()


def test_a_failed_chain_leaves_every_column_as_it_was(town: Town) -> None:
    assert town.pay(100) is Status.OK
    town.twins.wait(24 * HOUR)  # so that the chain begins a day anew, and must give the old one back
    before = town.twins.plain.state.columns.copy()
    chain = [
        transfer(90, WANJIKU, BANK, 100, flags=LINKED, code=PRINCIPAL),
        transfer(91, WANJIKU, BANK, 51, code=AIRTIME),
    ]
    answers = town.twins.transfers(chain)
    assert [a.status for a in answers] == [Status.LINKED_CHAIN_FAILED, Status.DEBIT_ACCOUNT_OVER_DAY_LIMIT]
    assert np.array_equal(town.twins.plain.state.columns, before)
    town.close()


@pytest.mark.parametrize("how", ["void", "expire", "part"])
@pytest.mark.parametrize("later_ns", [0, 24 * HOUR, 7 * 24 * HOUR, 30 * 24 * HOUR])
def test_what_did_not_move_is_given_back_where_it_still_counts(tmp_path: Path, how: str, later_ns: int) -> None:
    town = Town(tmp_path / "town", at(2026, 11, 23, 12, 0, 0))
    timeout_s = (later_ns + HOUR) // SECOND if how == "expire" else 0
    assert town.pay(100, flags=PENDING, timeout_s=timeout_s) is Status.OK
    assert town.pay(50) is Status.OK
    assert town.pay(50) is Status.DEBIT_ACCOUNT_OVER_DAY_LIMIT
    town.twins.wait(later_ns)
    if later_ns:
        assert town.pay(10) is Status.OK
    if how == "expire":
        town.twins.wait(HOUR + SECOND)
        assert town.pay(5) is Status.OK
    else:
        town.end(1, VOID if how == "void" else POST, 0 if how == "void" else 40)
    if not later_ns:
        assert town.pay(60) is Status.OK
    town.close()


def test_limits_survive_a_restart(town: Town) -> None:
    assert town.pay(100) is Status.OK
    town.twins.restart()
    assert town.pay(51) is Status.DEBIT_ACCOUNT_OVER_DAY_LIMIT
    town.twins.crash()
    assert town.pay(51) is Status.DEBIT_ACCOUNT_OVER_DAY_LIMIT
    assert town.pay(50) is Status.OK
    town.close()


@given(st.dates(date(1970, 1, 5), date(2400, 12, 31)))
def test_the_kernels_calendar_is_the_calendar(day: date) -> None:
    number = (day - date(1970, 1, 1)).days
    epoch = date(1970, 1, 1)
    assert epoch + timedelta(days=int(usage.month_start(number))) == day.replace(day=1)
    assert epoch + timedelta(days=int(usage.week_start(number))) == day - timedelta(days=day.weekday())


# --- random lives ---------------------------------------------------------------------------------------------------

waits = st.sampled_from(
    [1, SECOND, HOUR, 11 * HOUR, 24 * HOUR, 25 * HOUR, 3 * 24 * HOUR, 7 * 24 * HOUR, 31 * 24 * HOUR]
)
parts = st.tuples(
    st.sampled_from([(WANJIKU, BANK), (WANJIKU, OTIENO), (OTIENO, WANJIKU), (BANK, OTIENO), (BANK, WANJIKU)]),
    st.sampled_from([1, 5, 40, 50, 51, 75, 100, 101]),
    st.sampled_from([PRINCIPAL, PRINCIPAL, PRINCIPAL, AIRTIME, FEE, int(TransferCode.ISSUE), 1_001]),
    st.sampled_from([0, 0, 0, int(PENDING)]),
    st.sampled_from([0, 3_600, 100_000]),
)
lives = st.one_of(
    st.tuples(st.just("wait"), waits),
    st.tuples(st.just("chain"), st.lists(parts, min_size=1, max_size=4)),
    st.tuples(st.just("end"), st.integers(1, 40), st.sampled_from([POST, VOID]), st.sampled_from([0, 30])),
    st.tuples(st.just("tier"), st.sampled_from([WANJIKU, OTIENO]), st.sampled_from([0, 1, 2, 9])),
    st.tuples(st.just("document"), st.sampled_from([150, 90, 500])),
    st.tuples(st.just("crash")),
)
starts = st.sampled_from([at(2026, 11, 29, 23, 59, 59), at(2027, 12, 31, 22, 0, 0), at(2028, 2, 28, 23, 0, 0)])


def live(folder: Path, start_ns: int, script: list[tuple[object, ...]], model: Model | None = None) -> None:
    town = Town(folder, start_ns, model)
    try:
        for kind, *details in script:
            _step(town, str(kind), *details)
        town.twins.check_histories()
        town.twins.check_books()
    finally:
        town.twins.store._db.close()


def _step(town: Town, kind: str, *details: object) -> None:
    if kind == "wait":
        town.twins.wait(int(details[0]))  # type: ignore[call-overload]
    elif kind == "chain":
        records = []
        for (debit, credit), amount, code, flags, timeout_s in details[0]:  # type: ignore[attr-defined]
            town.ids += 1
            is_last = len(records) + 1 == len(details[0])  # type: ignore[arg-type]
            fields = {"flags": flags | (0 if is_last else int(LINKED)), "timeout_s": timeout_s if flags else 0}
            records.append(transfer(town.ids, debit, credit, amount, code=code, **fields))
        town.twins.transfers(records)
    elif kind == "end":
        number, flag, amount = details
        town.ids += 1
        record = transfer(town.ids, flags=int(flag), pending_id=int(number), amount=int(amount))  # type: ignore[call-overload]
        town.twins.transfers([record])
    elif kind == "tier":
        town.tier(*details)  # type: ignore[arg-type]
    elif kind == "document":
        day = int(details[0])  # type: ignore[call-overload]
        town.twins.tiers(TIERS | {1: Tier(NAIROBI, maximum=100, day=day, month=day * 3, balance=1_000)})
    else:
        town.twins.crash()


@settings(deadline=None)
@given(starts, st.lists(lives, min_size=1, max_size=16))
def test_same_as_the_model(tmp_path_factory: pytest.TempPathFactory, start_ns: int, script: list[object]) -> None:
    live(tmp_path_factory.getbasetemp() / "limits", start_ns, script)  # type: ignore[arg-type]


class GenerousModel(Model):
    """A planted bug: a day's limit is one unit larger."""

    def _rule_of_tiers(self, t: Transfer) -> Status:
        tiers = self.tiers
        self.tiers = {
            n: Tier(o.offset, o.minimum, o.maximum, o.day + 1, o.week, o.month, o.balance, o.dormant)
            for n, o in tiers.items()
        }
        status = super()._rule_of_tiers(t)
        self.tiers = tiers
        return status


def test_the_comparison_finds_a_planted_bug(tmp_path: Path) -> None:
    day = [("chain", [((WANJIKU, BANK), 100, PRINCIPAL, 0, 0)]), ("chain", [((WANJIKU, BANK), 51, PRINCIPAL, 0, 0)])]
    live(tmp_path / "right", at(2026, 11, 24), day)
    with pytest.raises(AssertionError):
        live(tmp_path / "wrong", at(2026, 11, 24), day, GenerousModel())
