"""Features: integers that fade, rings that remember, and numbers that are always numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from node.ledger import features as f
from node.ledger.columns import COLUMN_COUNT, AccountFlag
from node.ledger.statuses import TransferCode

NOW = 1_795_500_000_000_000_000
PRINCIPAL = int(TransferCode.PRINCIPAL)
MINUTE = 60 * 10**9
HOUR = 60 * MINUTE
Columns = np.ndarray


def town() -> Columns:
    columns = np.zeros((8, COLUMN_COUNT), dtype=np.int64)
    columns[:, f.CREATED] = NOW - 100 * 24 * HOUR
    columns[:, f.FLAGS] = AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS
    columns[:, f.C_POSTED] = 1_000_000
    return columns


def seen(columns: Columns, payer: int, payee: int, amount: int, now_ns: int, kind: int = 1) -> dict[str, float]:
    out = np.full((1, f.FEATURE_COUNT), np.nan, dtype=np.float32)
    one = [np.array([value], dtype=np.int64) for value in (payer, payee, amount, kind)]
    f.extract(columns, *one, now_ns, out)
    return dict(zip(f.FEATURE_NAMES, out[0].tolist(), strict=True))


def test_the_columns_are_within_their_room() -> None:
    assert f._AT + f.FEATURE_COLUMN_COUNT <= COLUMN_COUNT
    assert f.AIRTIME_SUM == f._AT + f.FEATURE_COLUMN_COUNT - 1
    assert len(set(f.FEATURE_NAMES)) == f.FEATURE_COUNT < 255
    assert 0 < f.FEATURE_SCHEMA < 1 << 63


def test_a_payment_is_seen_on_both_sides() -> None:
    columns = town()
    f.update(columns, 1, 2, 50_000, PRINCIPAL, NOW)
    payer = seen(columns, 1, 2, 10_000, NOW)
    assert (payer["out_count_1h"], payer["out_sum_1h_minor"], payer["out_sum_7d_minor"]) == (1, 50_000, 50_000)
    assert (payer["payee_is_new"], payer["new_payees_1d"], payer["payee_in_count_1d"]) == (0, 1, 1)
    assert (payer["s_since_out"], payer["s_since_in"]) == (0, 1e9)
    stranger = seen(columns, 1, 3, 10_000, NOW)
    assert stranger["payee_is_new"] == 1
    payee = seen(columns, 2, 3, 50_000, NOW + MINUTE)
    assert (payee["in_sum_1h_minor"], payee["s_since_in"]) == (50_000, 60)
    assert payee["pass_through_1d"] == pytest.approx(1.0, abs=0.01)
    assert payee["amount_to_last_in"] == pytest.approx(1.0, abs=0.01)


@pytest.mark.parametrize("code", [TransferCode.FEE, TransferCode.EXCISE_DUTY, TransferCode.COMMISSION])
def test_fees_are_not_what_a_person_did(code: TransferCode) -> None:
    columns = town()
    before = columns.copy()
    f.update(columns, 1, 2, 700, int(code), NOW)
    assert (columns == before).all()


def test_issued_money_is_received_and_not_sent() -> None:
    columns = town()
    f.update(columns, 1, 2, 700, int(TransferCode.ISSUE), NOW)
    assert not columns[1, f._AT :].any()
    assert seen(columns, 2, 3, 1, NOW)["in_sum_1d_minor"] == 700


def test_sums_fade_by_half_in_their_window() -> None:
    columns = town()
    f.update(columns, 1, 2, 1_000_000, PRINCIPAL, NOW)
    for name, hours in (("out_sum_1h_minor", 1), ("out_sum_1d_minor", 24), ("out_sum_7d_minor", 168)):
        assert seen(columns, 1, 2, 1, NOW + hours * HOUR)[name] == pytest.approx(500_000, rel=0.01)
        assert seen(columns, 1, 2, 1, NOW + 2 * hours * HOUR)[name] == pytest.approx(250_000, rel=0.01)
    assert seen(columns, 1, 2, 1, NOW + 10_000 * HOUR)["out_sum_1h_minor"] == 0


@given(value=st.integers(0, (1 << 46) - 1), quarters=st.integers(-5, 400))
@settings(max_examples=200, deadline=None)
def test_fading_is_a_power_of_two_in_integers(value: int, quarters: int) -> None:
    exact = value * 2 ** (-max(quarters, 0) / 4)
    got = int(f.faded(value, quarters))
    assert abs(got - exact) <= 1 + exact * 1e-4
    assert 0 <= got <= value


def test_the_ring_remembers_four_counterparties() -> None:
    columns = town()
    for payee in (2, 3, 4, 5):
        f.update(columns, 1, payee, 100, PRINCIPAL, NOW)
    assert [seen(columns, 1, p, 1, NOW)["payee_is_new"] for p in (2, 3, 4, 5, 6)] == [0, 0, 0, 0, 1]
    f.update(columns, 1, 6, 100, PRINCIPAL, NOW)
    assert [seen(columns, 1, p, 1, NOW)["payee_is_new"] for p in (2, 3, 6)] == [1, 0, 0]


def test_two_who_have_met_know_each_other() -> None:
    columns = town()
    assert seen(columns, 1, 2, 1, NOW)["payee_knows_payer"] == 0
    f.update(columns, 1, 2, 100, PRINCIPAL, NOW)
    assert (seen(columns, 1, 2, 1, NOW)["payee_knows_payer"], seen(columns, 2, 1, 1, NOW)["payee_knows_payer"]) == (
        1,
        1,
    )
    for payee in (3, 4, 5, 6):  # the payer forgets, the payee does not
        f.update(columns, 1, payee, 100, PRINCIPAL, NOW)
    again = seen(columns, 1, 2, 1, NOW)
    assert (again["payee_is_new"], again["payee_knows_payer"]) == (1, 1)


def test_what_the_payee_does_with_money_is_seen() -> None:
    columns = town()
    for payer in (1, 2):
        f.update(columns, payer, 3, 40_000, PRINCIPAL, NOW)
    columns[3, f.D_POSTED] += 1_000_000
    f.update(columns, 3, 4, 1_000_000, PRINCIPAL, NOW + MINUTE)
    payee = seen(columns, 5, 3, 80_000, NOW + 2 * MINUTE)
    assert (payee["payee_new_payer_share_1d"], payee["payee_in_count_7d"], payee["payee_s_since_out"]) == (1, 2, 60)
    assert payee["payee_drained_share_1d"] == pytest.approx(1, abs=0.01)
    assert payee["amount_to_payee_mean_7d"] == pytest.approx(2, rel=0.01)
    assert payee["amount_to_payee_last_in"] == pytest.approx(2, rel=0.01)
    assert (payee["payer_kind"], seen(columns, 3, 5, 1, NOW)["new_payers_1d"]) == (0, 2)


def test_hours_become_usual() -> None:
    columns = town()
    assert seen(columns, 1, 2, 1, NOW)["hour_is_usual"] == 0
    for day in range(5):
        f.update(columns, 1, 2, 100, PRINCIPAL, NOW + day * 24 * HOUR)
    assert seen(columns, 1, 2, 1, NOW)["hour_is_usual"] == 3
    assert seen(columns, 1, 2, 1, NOW + HOUR)["hour_is_usual"] == 3
    assert seen(columns, 1, 2, 1, NOW + 5 * HOUR)["hour_is_usual"] == 0


extreme = st.sampled_from([1, 2, 99, 10**6, f.AMOUNT_MAX, (1 << 62), (1 << 63) - 1])


@given(
    steps=st.lists(
        st.tuples(
            st.integers(1, 7), st.integers(1, 7), extreme, st.sampled_from([1, 2, 6, 1_001]), st.integers(0, 10**16)
        ),
        max_size=40,
    )
)
@settings(max_examples=100, deadline=None)
def test_no_amount_and_no_pause_breaks_a_number(steps: list[tuple[int, int, int, int, int]]) -> None:
    columns = town()
    columns[3, f.C_POSTED], columns[4, f.D_POSTED] = (1 << 63) - 1, (1 << 63) - 1
    again, now_ns = columns.copy(), NOW
    for payer, payee, amount, code, pause in steps:
        now_ns += pause
        f.update(columns, payer, payee, amount, code, now_ns)
        f.update(again, payer, payee, amount, code, now_ns)
        features = seen(columns, payer, payee, amount, now_ns)
        assert all(math.isfinite(value) for value in features.values())
        assert all(value >= 0 for name, value in features.items() if name != "pin_age_h")
    assert (columns == again).all()
    assert (columns[:, f._AT :] >= 0).all()
