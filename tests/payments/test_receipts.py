"""Receipts: the field's scheme, unique, and leading back to the payment."""

from __future__ import annotations

from datetime import date

import pytest
from hypothesis import given
from hypothesis import strategies as st

from node.ledger.entry import BATCH_PAYMENTS_MAX
from node.payments.receipts import POSITIONS, place_of, receipt_of

NOON_2019_12_19_NS = 1_576_749_600 * 10**9


@pytest.mark.parametrize(
    ("sample", "day"),
    [
        ("NLJ7RT61SV", date(2019, 12, 19)),
        ("RKL51ZDR4F", date(2023, 11, 21)),
        ("SG632NMUAB", date(2024, 7, 6)),
        ("TCO3V7DGN3", date(2025, 3, 24)),
        ("PDU91HIVIT", date(2021, 4, 30)),
    ],
)
def test_the_first_three_are_the_day_as_in_the_field(sample: str, day: date) -> None:
    stamp_ns = (day.toordinal() - date(1970, 1, 1).toordinal()) * 86_400 * 10**9
    assert receipt_of(1, 0, stamp_ns, 404)[:3] == sample[:3]


def test_a_day_is_the_country_s_own() -> None:
    late_ns = NOON_2019_12_19_NS + 11 * 3_600 * 10**9  # 21:00 UTC: the next day in Nairobi, not in Lagos or London
    assert [receipt_of(1, 0, late_ns, ledger)[2] for ledger in (404, 566, 840)] == ["K", "J", "J"]


@given(st.integers(1, 1 << 47), st.integers(0, BATCH_PAYMENTS_MAX - 1), st.integers(1_136_073_600, 2_240_611_199))
def test_a_receipt_leads_back(position: int, offset: int, second: int) -> None:
    receipt = receipt_of(position, offset, second * 10**9, 404)
    assert len(receipt) == 10
    place = place_of(receipt.lower())
    assert place is not None
    assert (place.residue, place.offset) == (position % POSITIONS, offset)
    first_ns, last_ns = place.span_ns
    assert first_ns <= second * 10**9 < last_ns
    assert place.first_position_from(position) == position
    assert place.first_position_from(position + 1) == position + POSITIONS


def test_receipts_of_a_day_differ() -> None:
    places = [(position, offset) for position in range(1, 300) for offset in range(0, 2_048, 64)]
    receipts = {receipt_of(position, offset, NOON_2019_12_19_NS, 404) for position, offset in places}
    assert len(receipts) == len(places)
    assert receipt_of(1 + POSITIONS, 0, NOON_2019_12_19_NS, 404) in receipts  # the bound that the module states


@pytest.mark.parametrize(
    "text", ["", "SG632NMUA", "SG632NMUABC", "SG632NM-AB", "SM632NMUAB", "SBV32NMUAB", "S0632NMUAB"]
)
def test_what_is_no_receipt_is_told(text: str) -> None:
    assert place_of(text) is None
