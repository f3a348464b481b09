"""Every refusal can be told in the GSMA API's own words."""

from __future__ import annotations

import pytest

from node.ledger.statuses import PaymentStatus
from node.payments.gsma import CATEGORIES, CODES, GSMA, gsma_error

NOT_ERRORS = {
    PaymentStatus.OK,
    PaymentStatus.HELD_FOR_REVIEW,
    PaymentStatus.REVERSAL_IS_RESERVED,
    PaymentStatus.VOUCHER_WAITS,
    PaymentStatus.PROVIDER_HAS_NOT_ANSWERED,
}


def test_the_api_has_38_codes() -> None:
    assert len(CODES) == 38


@pytest.mark.parametrize("status", PaymentStatus)
def test_every_status_has_a_code_of_the_api(status: PaymentStatus) -> None:
    error = GSMA[status]
    if status in NOT_ERRORS:
        assert error == ("", "")
    else:
        assert error.code in CODES
        assert error.category in CATEGORIES


def test_a_status_of_a_later_version_is_an_error_all_the_same() -> None:
    assert gsma_error(9_999) == ("internal", "genericError")
