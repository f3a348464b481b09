"""Three wrong tries lock an account, a right one forgives, and a locked account stays locked."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from node.ledger.columns import COLUMN_COUNT, AccountFlag, Column
from node.ledger.statuses import PinVerdict
from node.payments.pin_tries import PIN_TRIES_MAX, apply_verdict

RIGHT, WRONG, NOT_CHECKED = PinVerdict.RIGHT, PinVerdict.WRONG, PinVerdict.NOT_CHECKED


def accounts() -> np.ndarray:
    columns = np.zeros((3, COLUMN_COUNT), np.int64)
    columns[:, Column.FLAGS] = AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS
    return columns


def is_locked(columns: np.ndarray) -> bool:
    return bool(int(columns[1, Column.FLAGS]) & AccountFlag.PIN_LOCKED)


def test_the_third_wrong_try_locks() -> None:
    columns = accounts()
    assert [apply_verdict(columns, 1, WRONG) for _ in range(2)] == [1, 2]
    assert not is_locked(columns)
    assert apply_verdict(columns, 1, WRONG) == PIN_TRIES_MAX == 3
    assert is_locked(columns)
    assert apply_verdict(columns, 1, RIGHT) == 3
    assert is_locked(columns)
    assert int(columns[1, Column.FLAGS]) & AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS
    assert (columns[[0, 2]] == accounts()[[0, 2]]).all()


@given(st.lists(st.sampled_from([RIGHT, WRONG, NOT_CHECKED]), max_size=20))
def test_locked_exactly_when_three_wrong_came_without_a_right_between(verdicts: list[PinVerdict]) -> None:
    columns, tries, locked = accounts(), 0, False
    for verdict in verdicts:
        if verdict is WRONG:
            tries += 1
            locked = locked or tries >= 3
        elif verdict is RIGHT and not locked:
            tries = 0
        assert apply_verdict(columns, 1, verdict) == tries
        assert is_locked(columns) == locked
