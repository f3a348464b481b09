"""A proposal's payments are seen in order, and the ledger's rows are left alone."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from node.ledger import features as f
from node.ledger.columns import COLUMN_COUNT, AccountFlag
from node.ledger.overlay import extract_in_order
from node.ledger.statuses import PaymentKind, TransferCode

NOW = 1_795_500_000_000_000_000
SEND, AIRTIME = int(PaymentKind.SEND_MONEY), int(PaymentKind.BUY_AIRTIME)
NONE = np.empty((0, 4), dtype=np.int64)


def town() -> np.ndarray:
    columns = np.zeros((12, COLUMN_COUNT), dtype=np.int64)
    columns[:, f.CREATED] = NOW - 10**15
    columns[:, f.FLAGS] = AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS
    columns[:, f.C_POSTED] = 1_000_000
    return columns


def one_by_one(columns: np.ndarray, payments: np.ndarray) -> np.ndarray:
    """What the ledger itself would show, applying each payment before the next is looked at."""
    columns, rows = columns.copy(), np.empty((len(payments), f.FEATURE_COUNT), np.float32)
    for number, (payer, payee, amount, kind) in enumerate(payments.tolist()):
        arrays = [np.array([value], dtype=np.int64) for value in (payer, payee, amount, kind)]
        f.extract(columns, *arrays, NOW, rows[number : number + 1])
        code = TransferCode.AIRTIME if kind == AIRTIME else TransferCode.PRINCIPAL
        f.update(columns, payer, payee, amount, int(code), NOW)
        columns[payer, f.D_PENDING] += amount
    return rows


def test_five_drains_in_one_batch_do_not_look_like_one() -> None:
    columns = town()
    before = columns.copy()
    drains = np.array([[1, 7 + k % 2, 190_000, SEND] for k in range(5)], dtype=np.int64)
    rows = extract_in_order(columns, NONE, drains, NOW)
    name = {name: rows[:, k] for k, name in enumerate(f.FEATURE_NAMES)}
    assert name["out_count_1h"].tolist() == [0, 1, 2, 3, 4]
    assert name["payee_is_new"].tolist() == [1, 1, 0, 0, 0]
    assert np.allclose(name["drained_share_1h"], [0.19, 0.38, 0.57, 0.76, 0.95], atol=1e-3)
    assert (np.diff(name["share_of_available"]) > 0).all()
    assert (columns == before).all()


def test_payments_in_flight_are_seen() -> None:
    victims = np.array([[k, 9, 500_000, SEND] for k in range(1, 4)], dtype=np.int64)
    alone = extract_in_order(town(), NONE, victims[2:], NOW)
    behind = extract_in_order(town(), victims[:2], victims[2:], NOW)
    fan_in = f.FEATURE_NAMES.index("payee_new_payers_1d")
    assert (alone[0, fan_in], behind[0, fan_in]) == (0, 2)


@given(
    payments=st.lists(
        st.tuples(
            st.integers(1, 11),
            st.integers(1, 11),
            st.sampled_from([1, 100, 999_999, 10**9]),
            st.sampled_from([SEND, AIRTIME]),
        ),
        min_size=1,
        max_size=30,
    ),
    flying=st.integers(0, 30),
)
@settings(max_examples=100, deadline=None)
def test_a_batch_is_seen_as_the_ledger_would_see_it(payments: list[tuple[int, int, int, int]], flying: int) -> None:
    matrix = np.array(payments, dtype=np.int64)
    flying = min(flying, len(matrix) - 1)
    rows = extract_in_order(town(), matrix[:flying], matrix[flying:], NOW)
    assert np.array_equal(rows, one_by_one(town(), matrix)[flying:])
