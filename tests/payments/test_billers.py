"""Who bears a charge: the published packages of the Kenyan pay bill tariff, and each mistake of a biller's document."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.ledger.statuses import PaymentKind
from node.payments.billers import check_document, key_of, parse_biller
from node.payments.tariffs import load_tariffs

KENYA = load_tariffs().dated[0]
# What the customer pays under the package in which the customer bears it all, as published, by a band's last shilling.
WHOLE = {
    500: 5, 1_000: 10, 1_500: 15, 2_500: 20, 3_500: 25, 5_000: 34, 7_500: 42, 10_000: 48, 15_000: 57, 20_000: 62,
    25_000: 67, 30_000: 72, 35_000: 83, 40_000: 99, 45_000: 103, 250_000: 108,
}  # fmt: skip


@pytest.mark.parametrize(("shillings", "whole"), list(WHOLE.items()))
def test_the_packages_divide_the_same_charge(shillings: int, whole: int) -> None:
    def shares(bearer: str) -> tuple[int, int]:
        fee = KENYA.fee(PaymentKind.PAY_BILL, shillings * 100, bearer)
        assert fee is not None
        return fee.fee_minor, fee.payee_fee_minor

    assert shares("customer") == (whole * 100, 0)
    assert shares("business") == (0, whole * 100)
    assert sum(shares("shared")) == whole * 100
    assert shares("shared") == shares("")


@given(st.sampled_from(["customer", "business", "shared", ""]), st.integers(100, 25_000_000))
def test_the_duty_is_within_each_share(bearer: str, amount_minor: int) -> None:
    fee = KENYA.fee(PaymentKind.PAY_BILL, amount_minor, bearer)
    assert fee is not None
    assert 0 <= fee.excise_minor <= fee.fee_minor
    assert 0 <= fee.payee_excise_minor <= fee.payee_fee_minor < amount_minor


def test_a_document_says_the_bearer() -> None:
    key = key_of("KES", "paybill", "888880")
    assert check_document(key, b'bearer = "business"') == key == "KES/paybill/888880"
    assert parse_biller(b'bearer = "customer"') == "customer"


@pytest.mark.parametrize(
    ("key", "body", "complaint"),
    [
        ("888880", b'bearer = "business"', "key: must be currency, paybill or till, and number"),
        ("KES/agent/1", b'bearer = "business"', "key: must be"),
        ("KES/till/1", b'bearer = "bank"', "bearer: must be one of customer, business, shared"),
        ("KES/till/1", b"", "bearer: must be"),
        ("KES/till/1", b'bearer = "shared"\nfee = 1', "nothing else may be there"),
        ("KES/till/1", b"bearer =", "biller: "),
        ("KES/till/1", b"\xff", "biller: "),
    ],
)
def test_a_mistake_is_named(key: str, body: bytes, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        check_document(key, body)
