"""Shillings as people write them, and cents as the ledger counts them; never a float between."""

from __future__ import annotations

import re

AMOUNT_MINOR_MAX = (1 << 63) - 1
_SHILLINGS = re.compile(r"(\d{1,18})(?:\.(\d{1,2}))?", re.ASCII)


class AmountError(ValueError):
    """The text is no amount of money; the message says what an amount looks like."""


def parse_amount_minor(text: str) -> int:
    match = _SHILLINGS.fullmatch(text.strip())
    if match is None:
        raise AmountError(f"{text!r} is no amount: write shillings with at most two decimals, such as 500 or 49.50")
    amount_minor = int(match[1]) * 100 + int((match[2] or "").ljust(2, "0"))
    if amount_minor == 0:
        raise AmountError("the amount must be more than zero")
    if amount_minor > AMOUNT_MINOR_MAX:
        raise AmountError(f"{text} is more than the ledger can hold")
    return amount_minor


def format_minor(amount_minor: int, exponent: int = 2) -> str:
    """`exponent`: decimals of the currency's unit."""
    sign = "-" if amount_minor < 0 else ""
    units, rest = divmod(abs(amount_minor), 10**exponent)
    return f"{sign}{units:,}.{rest:0{exponent}}" if exponent else f"{sign}{units:,}"
