"""A proposal's payments are seen in order, and the ledger's rows are left alone."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from node.ledger import features as f
from node.ledger.columns import COLUMN_COUNT, AccountFlag
from node.ledger.overlay import FIELDS, KIND, extract_in_order
from node.ledger.statuses import PaymentKind, TransferCode

NOW = 1_795_500_000_000_000_000
SEND, AIRTIME, SEEN_ONLY = int(PaymentKind.SEND_MONEY), int(PaymentKind.BUY_AIRTIME), 0
NONE = np.empty((0, FIELDS), dtype=np.int64)


def rows_of(payments: list[tuple[int, int, int, int]]) -> np.ndarray:
    """With the code that the ledger will see."""
    codes = [TransferCode.AIRTIME if kind == AIRTIME else TransferCode.PRINCIPAL for *_, kind in payments]
    rows = [(*payment, int(code)) for payment, code in zip(payments, codes, strict=True)]
    return np.array(rows, dtype=np.int64).reshape(-1, FIELDS)


def town() -> np.ndarray:
    columns = np.zeros((12, COLUMN_COUNT), dtype=np.int64)
    columns[:, f.CREATED] = NOW - 10**15
    columns[:, f.FLAGS] = AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS
    columns[:, f.C_POSTED] = 1_000_000
    return columns


def one_by_one(columns: np.ndarray, payments: np.ndarray) -> np.ndarray:
    """What the ledger itself would show, applying each payment before the next is looked at."""
    columns, rows = columns.copy(), np.empty((len(payments), f.FEATURE_COUNT), np.float32)
    for number, (payer, payee, amount, kind, code) in enumerate(payments.tolist()):
        arrays = [np.array([value], dtype=np.int64) for value in (payer, payee, amount, kind)]
        f.extract(columns, *arrays, NOW, rows[number : number + 1])
        f.update(columns, payer, payee, amount, code, NOW)
        columns[payer, f.D_PENDING] += amount
    return rows


def test_five_drains_in_one_batch_do_not_look_like_one() -> None:
    columns = town()
    before = columns.copy()
    drains = rows_of([(1, 7 + k % 2, 190_000, SEND) for k in range(5)])
    rows = extract_in_order(columns, NONE, drains, NOW)
    name = {name: rows[:, k] for k, name in enumerate(f.FEATURE_NAMES)}
    assert name["out_count_1h"].tolist() == [0, 1, 2, 3, 4]
    assert name["payee_is_new"].tolist() == [1, 1, 0, 0, 0]
    assert np.allclose(name["drained_share_1h"], [0.19, 0.38, 0.57, 0.76, 0.95], atol=1e-3)
    assert (np.diff(name["share_of_available"]) > 0).all()
    assert (columns == before).all()


def test_payments_in_flight_are_seen() -> None:
    victims = rows_of([(k, 9, 500_000, SEND) for k in range(1, 4)])
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
            st.sampled_from([SEND, AIRTIME, SEEN_ONLY]),
        ),
        min_size=1,
        max_size=30,
    ),
    flying=st.integers(0, 30),
)
@settings(max_examples=100, deadline=None)
def test_a_batch_is_seen_as_the_ledger_would_see_it(payments: list[tuple[int, int, int, int]], flying: int) -> None:
    matrix = rows_of(payments)
    flying = min(flying, len(matrix) - 1)
    rows = extract_in_order(town(), matrix[:flying], matrix[flying:], NOW)
    wanted = matrix[flying:, KIND] != SEEN_ONLY
    assert np.array_equal(rows, one_by_one(town(), matrix)[flying:][wanted])


def test_what_the_ledger_will_not_note_is_passed_over() -> None:
    """PAYER 0, as a refused or malformed transfer has it, whatever else stands there."""
    drains = rows_of([(1, 7, 190_000, SEND), (0, 7, 190_000, SEND), (1, 7, 190_000, SEND)])
    drains[1, KIND] = SEEN_ONLY
    rows = extract_in_order(town(), drains[1:2], drains, NOW)
    assert rows[:, f.FEATURE_NAMES.index("out_count_1h")].tolist() == [0, 1]
