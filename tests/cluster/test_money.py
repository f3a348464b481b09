"""Shillings as people write them."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cluster.money import AMOUNT_MINOR_MAX, AmountError, format_minor, parse_amount_minor


@given(st.integers(1, AMOUNT_MINOR_MAX))
def test_what_is_written_is_read_again(amount_minor: int) -> None:
    assert parse_amount_minor(format_minor(amount_minor).replace(",", "")) == amount_minor
    assert format_minor(-amount_minor) == "-" + format_minor(amount_minor)


@pytest.mark.parametrize(
    ("text", "minor"),
    [("500", 50_000), (" 49.5 ", 4_950), ("0.01", 1), ("007", 700), ("92233720368547758.07", AMOUNT_MINOR_MAX)],
)
def test_amounts(text: str, minor: int) -> None:
    assert parse_amount_minor(text) == minor


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "is no amount"), ("-5", "is no amount"), ("1.234", "is no amount"), ("1e3", "is no amount"),
        ("1,000", "is no amount"), (".5", "is no amount"), ("5.", "is no amount"), ("NaN", "is no amount"),
        ("٥", "is no amount"), ("1" * 19, "is no amount"), ("0", "more than zero"), ("0.00", "more than zero"),
        ("92233720368547758.08", "more than the ledger can hold"),
    ],
)  # fmt: skip
def test_what_is_no_amount_says_why(text: str, complaint: str) -> None:
    with pytest.raises(AmountError, match=complaint):
        parse_amount_minor(text)


def test_format() -> None:
    assert [format_minor(minor) for minor in (0, 5, 100, 123_456_789, -1)] == [
        "0.00",
        "0.05",
        "1.00",
        "1,234,567.89",
        "-0.01",
    ]


def test_a_currency_without_cents() -> None:
    assert [format_minor(minor, 0) for minor in (0, 28_450, -5)] == ["0", "28,450", "-5"]
