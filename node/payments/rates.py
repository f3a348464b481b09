"""Rates between currencies and quotes that promise one for a while. Pure, integers only, never a float.

A rate is what the receiver gets for one unit, a decimal number in a document of the kind `rates` under KES/UGX. What is
converted is rounded down to the receiver's minor unit: the fraction stays with the operator, never the other way. A
quote is sealed with the operator's key and names everything that it is for, so nothing needs to be stored to keep it.
"""

from __future__ import annotations

import hmac
import re
import struct
from dataclasses import dataclass
from typing import Any

from node.ledger.currencies import CURRENCIES

DIGITS_MAX = 12  # on each side of the point
VALID_S_MIN, VALID_S_MAX = 10, 24 * 3_600
_DECIMAL = re.compile(rf"([0-9]{{1,{DIGITS_MAX}}})(?:\.([0-9]{{1,{DIGITS_MAX}}}))?", re.ASCII)
_QUOTE = struct.Struct("<BHHQQqqqIq")
_VERSION, _SEAL_BYTES = 1, 16


class RateError(ValueError):
    """A rate breaks a rule; the message names the field."""


@dataclass(frozen=True, slots=True)
class Rate:
    """numerator / denominator units of the receiver's currency for one of the payer's."""

    numerator: int
    denominator: int
    valid_s: int  # how long a quote of it holds


@dataclass(frozen=True, slots=True)
class Quote:
    from_ledger: int
    to_ledger: int
    payer_account: int
    payee_account: int
    amount_minor: int
    payee_amount_minor: int
    fee_minor: int
    rate_version: int
    expires_ns: int

    def sealed(self, key: bytes) -> bytes:
        packed = _QUOTE.pack(
            _VERSION, self.from_ledger, self.to_ledger, self.payer_account, self.payee_account, self.amount_minor,
            self.payee_amount_minor, self.fee_minor, self.rate_version, self.expires_ns,
        )  # fmt: skip
        return packed + _seal(key, packed)


def opened(key: bytes, sealed: bytes) -> Quote | None:
    """None = not one that this operator gave."""
    packed, seal = sealed[: _QUOTE.size], sealed[_QUOTE.size :]
    if len(packed) != _QUOTE.size or not hmac.compare_digest(seal, _seal(key, packed)):
        return None
    version, *fields = _QUOTE.unpack(packed)
    return _quote(fields) if version == _VERSION else None


def _quote(fields: list[int]) -> Quote:
    from_ledger, to_ledger, payer, payee, amount, payee_amount, fee, rate_version, expires_ns = fields
    return Quote(from_ledger, to_ledger, payer, payee, amount, payee_amount, fee, rate_version, expires_ns)


def _seal(key: bytes, packed: bytes) -> bytes:
    return hmac.digest(key, b"quote" + packed, "sha256")[:_SEAL_BYTES]


def converted_minor(amount_minor: int, rate: Rate, from_exponent: int, to_exponent: int) -> int:
    """Rounded down, which is the customer's loss and never the operator's."""
    scaled = amount_minor * rate.numerator * int(10**to_exponent)
    return scaled // (rate.denominator * int(10**from_exponent))


def parse_rate(raw: dict[str, Any]) -> Rate:
    """Of a document's table. Raises RateError."""
    unknown = sorted(set(raw) - {"rate", "valid_s"})
    if unknown:
        raise RateError(f"{unknown[0]}: unknown; there are rate and valid_s")
    text, valid_s = raw.get("rate"), raw.get("valid_s", 300)
    match = _DECIMAL.fullmatch(text) if isinstance(text, str) else None
    if match is None:
        raise RateError(f'rate: must be a decimal number in quotes such as "28.45", is {text!r}')
    if type(valid_s) is not int or not VALID_S_MIN <= valid_s <= VALID_S_MAX:
        raise RateError(f"valid_s: must be a whole number from {VALID_S_MIN} to {VALID_S_MAX}, is {valid_s!r}")
    fraction = match[2] or ""
    numerator = int(match[1] + fraction)
    if not numerator:
        raise RateError("rate: must be more than zero")
    return Rate(numerator, int(10 ** len(fraction)), valid_s)


def check_pair(key: str) -> str:
    """`KES/UGX`, as a rate is filed. Raises RateError."""
    parts = key.split("/")
    if len(parts) != 2 or parts[0] == parts[1] or not set(parts) <= set(CURRENCIES):
        raise RateError(f"key: must be two of {', '.join(CURRENCIES)}, such as KES/UGX, is {key[:40]!r}")
    return key
