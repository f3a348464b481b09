"""Rates and quotes: nothing is made by converting, and a quote is good for what it names alone."""

from __future__ import annotations

from dataclasses import replace
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.ledger.currencies import CURRENCIES
from node.payments.rates import Quote, Rate, RateError, check_pair, converted_minor, opened, parse_rate

KEY = b"k" * 32
QUOTE = Quote(404, 800, 7, 9, 123_456, 35_123, 700, 3, 1_795_500_000_000_000_000)


def test_the_six_currencies_have_their_iso_numbers_and_exponents() -> None:
    codes = ("KES", "UGX", "TZS", "NGN", "ZAR", "USD")
    assert {code: (CURRENCIES[code].number, CURRENCIES[code].exponent) for code in codes} == {
        "KES": (404, 2), "UGX": (800, 0), "TZS": (834, 2), "NGN": (566, 2), "ZAR": (710, 2), "USD": (840, 2),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("amount_minor", "rate", "pair", "minor"),
    [
        (100_000, "28.45", "KES/UGX", 28_450),  # 1,000.00 shillings
        (100, "28.45", "KES/UGX", 28),
        (3, "28.45", "KES/UGX", 0),
        (28_450, "0.0351", "UGX/KES", 99_859),
        (10_000, "129.5", "USD/KES", 1_295_000),
        (1, "0.0077", "KES/USD", 0),
        (1_000_000, "0.0077", "KES/USD", 7_700),
    ],
)
def test_what_is_converted_is_rounded_down(amount_minor: int, rate: str, pair: str, minor: int) -> None:
    source, target = (CURRENCIES[code] for code in pair.split("/"))
    assert converted_minor(amount_minor, parse_rate({"rate": rate}), source.exponent, target.exponent) == minor


@given(
    st.integers(1, 25_000_000),
    st.integers(1, 10**9),
    st.integers(0, 9),
    st.sampled_from([0, 2]),
    st.sampled_from([0, 2]),
)
def test_the_receiver_never_gets_more_than_the_rate_says(
    amount: int, numerator: int, digits: int, a: int, b: int
) -> None:
    rate = Rate(numerator, 10**digits, 300)
    minor = converted_minor(amount, rate, a, b)
    exact = Fraction(amount, 10**a) * Fraction(numerator, 10**digits) * 10**b
    assert minor <= exact < minor + 1


def test_a_quote_comes_back_as_it_was_and_no_other_way() -> None:
    sealed = QUOTE.sealed(KEY)
    assert opened(KEY, sealed) == QUOTE
    assert opened(b"z" * 32, sealed) is None
    assert replace(QUOTE, payee_amount_minor=35_124).sealed(KEY) != sealed
    for at in range(len(sealed)):
        bent = bytearray(sealed)
        bent[at] ^= 1
        assert opened(KEY, bytes(bent)) is None


@given(st.binary(max_size=120))
def test_rubbish_is_no_quote(raw: bytes) -> None:
    assert opened(KEY, raw) is None


@pytest.mark.parametrize(
    ("raw", "complaint"),
    [
        ({}, "rate: must be a decimal number"),
        ({"rate": 28.45}, "rate: must be a decimal number"),
        ({"rate": "28,45"}, "rate: must be a decimal number"),
        ({"rate": "-1"}, "rate: must be a decimal number"),
        ({"rate": "1e5"}, "rate: must be a decimal number"),
        ({"rate": "1" * 13}, "rate: must be a decimal number"),
        ({"rate": "0.00"}, "rate: must be more than zero"),
        ({"rate": "1", "valid_s": 9}, "valid_s: must be a whole number from 10 to 86400"),
        ({"rate": "1", "valid_s": True}, "valid_s: must be a whole number"),
        ({"rate": "1", "spread": 3}, "spread: unknown"),
    ],
)
def test_a_mistake_in_a_rate_names_the_field(raw: dict[str, object], complaint: str) -> None:
    with pytest.raises(RateError) as caught:
        parse_rate(raw)
    assert str(caught.value).startswith(complaint)


@pytest.mark.parametrize("key", ["", "KES", "KES/KES", "KES/XXX", "KES/UGX/TZS", "kes/ugx"])
def test_a_pair_is_two_known_currencies(key: str) -> None:
    with pytest.raises(RateError, match="key: must be two of"):
        check_pair(key)
