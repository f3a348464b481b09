"""The currencies that Kibubu keeps books in: ISO 4217 letters, number and exponent. The number is the ledger."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Currency:
    letters: str
    number: int
    exponent: int  # decimals of the unit: a shilling of Uganda has no cents

    @property
    def minor_per_unit(self) -> int:
        return int(10**self.exponent)

    def minor(self, amount: object) -> int:
        """Whole units, or a text such as "0.50", in minor units. Raises ValueError."""
        if isinstance(amount, bool) or not isinstance(amount, int | str):
            raise ValueError(f'must be whole {self.letters} or a text such as "0.50", is {amount!r}')
        form = _AMOUNT.fullmatch(str(amount))
        if form is None:
            raise ValueError(f"must be an amount in {self.letters}, is {amount!r}")
        whole, decimals = form[1], form[2] or ""
        if len(decimals) > self.exponent:
            raise ValueError(f"{self.letters} has {self.exponent} decimals, is {amount!r}")
        return int(whole + decimals.ljust(self.exponent, "0"))

    def text(self, minor: int) -> str:
        """As people read it: 1,234.50."""
        whole, part = divmod(abs(minor), self.minor_per_unit)
        sign = "-" if minor < 0 else ""
        return f"{sign}{whole:,}" + (f".{part:0{self.exponent}}" if self.exponent else "")


_AMOUNT = re.compile(r"(-?[0-9]{1,15})(?:\.([0-9]{1,4}))?", re.ASCII)

CURRENCIES = {
    one.letters: one
    for one in (
        Currency("KES", 404, 2),
        Currency("UGX", 800, 0),
        Currency("TZS", 834, 2),
        Currency("NGN", 566, 2),
        Currency("ZAR", 710, 2),
        Currency("USD", 840, 2),
        Currency("GHS", 936, 2),
        Currency("RWF", 646, 0),
        Currency("ZMW", 967, 2),
        Currency("MWK", 454, 2),
        Currency("MZN", 943, 2),
        Currency("LSL", 426, 2),
        Currency("SZL", 748, 2),
        Currency("EUR", 978, 2),
    )
}
BY_NUMBER = {one.number: one for one in CURRENCIES.values()}
