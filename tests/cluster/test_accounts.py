"""Accounts as people name them."""

from __future__ import annotations

import pytest

from cluster.accounts import AccountNameError, handle_of


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("254712000001", "msisdn", "254712000001"), ("+254712000001", "msisdn", "254712000001"),
        ("till:123456", "till", "123456"), ("system:KES/fees", "system", "KES/fees"), ("agent:7:8", "agent", "7:8"),
    ],
)  # fmt: skip
def test_names(name: str, key: str, value: str) -> None:
    handle = handle_of(name)
    assert (handle.key, handle.value) == (key, value)


@pytest.mark.parametrize(
    ("name", "complaint"),
    [
        ("shop:1", "'shop' is no kind of handle; there are msisdn, till"), ("wanjiku", "write a phone number in full"),
        ("12345", "write a phone number in full"), ("1" * 16, "write a phone number in full"),
        ("\uff12\uff15\uff14712000001", "write a phone number in full"), ("", "write a phone number in full"),
    ],
)  # fmt: skip
def test_what_is_no_name(name: str, complaint: str) -> None:
    with pytest.raises(AccountNameError, match=complaint):
        handle_of(name)
