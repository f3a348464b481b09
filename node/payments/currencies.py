"""The currencies that money can be sent to: ISO 4217 number, which is the ledger, and exponent of the minor unit."""

from __future__ import annotations

from typing import NamedTuple


class Currency(NamedTuple):
    ledger: int
    exponent: int  # minor units of one unit: 10 ** exponent


CURRENCIES = {
    "KES": Currency(404, 2),
    "NGN": Currency(566, 2),
    "TZS": Currency(834, 2),
    "UGX": Currency(800, 0),  # the shilling of Uganda has no cents
    "USD": Currency(840, 2),
    "ZAR": Currency(710, 2),
}


def code_of(ledger: int) -> str:
    """ "" = none of these."""
    return next((code for code, currency in CURRENCIES.items() if currency.ledger == ledger), "")
