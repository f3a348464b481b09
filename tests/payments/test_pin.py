"""PIN rules and the keyed verifier."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.ledger.columns import COLUMN_COUNT, Column
from node.payments import pin as rules

KEY = bytes(range(32))
ANY_PIN = st.from_regex(r"[0-9]{4}", fullmatch=True).filter(str.isascii)


@pytest.mark.parametrize(
    "pin", ["", "123", "12345", "12a4", " 123", "1234\n", "١٢٣٤", "\uff11\uff12\uff13\uff14", "²²²²"]
)
def test_a_pin_is_four_ascii_digits(pin: str) -> None:
    assert not rules.is_well_formed(pin)
    assert rules.problem_with(pin) == "must be 4 digits"


@pytest.mark.parametrize("pin", ["0000", "1111", "9999", "1234", "4321", "2580"])
def test_what_everybody_guesses_first_cannot_be_set(pin: str) -> None:
    assert rules.is_well_formed(pin)
    problem = rules.problem_with(pin)
    assert problem
    assert pin not in problem


@pytest.mark.parametrize("pin", ["2468", "0918", "7350"])
def test_an_ordinary_pin_can_be_set(pin: str) -> None:
    assert rules.problem_with(pin) == ""


def row_with(stored: bytes) -> np.ndarray:
    row = np.zeros(COLUMN_COUNT, np.int64)
    row[Column.PIN_VERIFIER_0 : Column.PIN_VERIFIER_1 + 1] = np.frombuffer(stored, np.int64)
    return row


@given(ANY_PIN, ANY_PIN, st.integers(1, 1 << 40))
def test_only_the_right_pin_of_this_account_under_this_key_fits(pin: str, other: str, account: int) -> None:
    stored = rules.verifier(KEY, account, pin)
    assert len(stored) == 16
    assert rules.stored_verifier(row_with(stored)) == stored
    assert rules.is_right(KEY, account, pin, stored)
    assert rules.is_right(KEY, account, other, stored) == (other == pin)
    assert not rules.is_right(KEY, account + 1, pin, stored)
    assert not rules.is_right(KEY[::-1], account, pin, stored)


def test_without_a_pin_nothing_fits() -> None:
    assert rules.stored_verifier(np.zeros(COLUMN_COUNT, np.int64)) == b""
    assert not rules.is_right(KEY, 1, "2468", b"")
