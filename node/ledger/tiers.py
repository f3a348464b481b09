"""KYC tiers: what an account may move in a payment, a day, a week and a month, and hold at most.

They are a document (kind and key "tiers", TOML) with all tiers of all currencies. Every node reads it from the log, so
a tier means the same everywhere from one position on. Tiers are changed and added, never taken away: accounts have
them.
"""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from datetime import date
from typing import Any

import numpy as np

from node.ledger import usage
from node.ledger.currencies import CURRENCIES
from node.ledger.history import Int64s

KIND = KEY = "tiers"
NAME_CHARACTERS_MAX = 40
DAY_S, NS = 86_400, 1_000_000_000
DORMANT_DAYS_MAX = 36_500
_EPOCH = date(1970, 1, 1).toordinal()
_AMOUNTS = ("payment_minimum", "payment_maximum", "day", "week", "month", "balance_maximum")
_KNOWN = frozenset({"number", "name", "currency", "utc_offset_minutes", "dormant_after_days", *_AMOUNTS})


class TierError(ValueError):
    """The message names the field and the rule that it breaks."""


@dataclass(frozen=True, slots=True)
class Tier:
    number: int
    name: str
    ledger: int
    utc_offset_s: int
    payment_minimum_minor: int
    payment_maximum_minor: int
    day_minor: int
    week_minor: int
    month_minor: int
    balance_maximum_minor: int
    dormant_after_days: int  # 0 = never


@dataclass(slots=True)
class Tiers:
    by_number: dict[int, Tier] = field(default_factory=dict)
    _at: tuple[int, int, Int64s] | None = None  # from, until (ns), and the rows in between

    def rows_at(self, timestamp_ns: int) -> Int64s:
        """What the kernel needs, int64 (TIERS_MAX, TIER_FIELDS); the same array until a local day ends."""
        if self._at is None or not self._at[0] <= timestamp_ns < self._at[1]:
            self._at = self._rows(timestamp_ns)
        return self._at[2]

    def _rows(self, timestamp_ns: int) -> tuple[int, int, Int64s]:
        rows = np.zeros((usage.TIERS_MAX, usage.TIER_FIELDS), dtype=np.int64)
        until_ns = (timestamp_ns // (DAY_S * NS) + 1) * DAY_S * NS
        for number, tier in self.by_number.items():
            today = (timestamp_ns // NS + tier.utc_offset_s) // DAY_S
            until_ns = min(until_ns, ((today + 1) * DAY_S - tier.utc_offset_s) * NS)
            rows[number] = (
                tier.payment_minimum_minor, tier.payment_maximum_minor, tier.day_minor, tier.week_minor,
                tier.month_minor, tier.balance_maximum_minor, today, today - (today + 3) % 7, _month_start(today),
                tier.dormant_after_days * DAY_S * NS,
            )  # fmt: skip
        return timestamp_ns, until_ns, rows


def _month_start(day: int) -> int:
    return date.fromordinal(_EPOCH + day).replace(day=1).toordinal() - _EPOCH


def parse_tiers(body: bytes, before: Tiers | None = None) -> Tiers:
    """Raises TierError; `before`: what is in force, of which no tier may be missing or change its currency."""
    try:
        raw = tomllib.loads(body.decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise TierError(f"tiers: {error}") from error
    tables = raw.get("tier")
    if set(raw) != {"tier"} or not isinstance(tables, list) or not tables:
        raise TierError("tier: there must be [[tier]] tables, and nothing else")
    found: dict[int, Tier] = {}
    for at, table in enumerate(tables):
        tier = _tier(table, f"tier[{at}]")
        if tier.number in found:
            raise TierError(f"tier[{at}].number: {tier.number} is there twice")
        found[tier.number] = tier
    for number, old in (before.by_number if before is not None else {}).items():
        if number not in found:
            raise TierError(
                f"tier: {number} is missing; accounts may have it, so a tier is changed but never taken away"
            )
        if found[number].ledger != old.ledger:
            raise TierError(f"tier: {number} must keep its currency")
    return Tiers(found)


def _tier(table: Any, at: str) -> Tier:
    if not isinstance(table, dict):
        raise TierError(f"{at}: must be a table")
    unknown = sorted(set(table) - _KNOWN)
    if unknown:
        raise TierError(f"{at}.{unknown[0]}: unknown; there are {', '.join(sorted(_KNOWN))}")
    name, currency = table.get("name"), CURRENCIES.get(str(table.get("currency")))
    if not isinstance(name, str) or not 0 < len(name) <= NAME_CHARACTERS_MAX:
        raise TierError(f"{at}.name: must be a text of 1 to {NAME_CHARACTERS_MAX} characters, is {name!r}")
    if currency is None:
        raise TierError(f"{at}.currency: must be one of {', '.join(CURRENCIES)}, is {table.get('currency')!r}")
    minor: dict[str, int] = {}
    for key in _AMOUNTS:
        default = 0 if key == "payment_minimum" else usage.NO_LIMIT
        try:
            minor[key] = currency.minor(table[key]) if key in table else default
        except ValueError as error:
            raise TierError(f"{at}.{key}: {error}") from error
        if minor[key] < 0 or (key != "payment_minimum" and minor[key] == 0):
            raise TierError(f"{at}.{key}: must be more than 0, is {table[key]!r}; leave it out for no limit")
        if key in table and minor[key] > usage.AMOUNT_MAX:
            raise TierError(f"{at}.{key}: at most {usage.AMOUNT_MAX} minor units, is {table[key]!r}")
    if minor["payment_minimum"] > minor["payment_maximum"]:
        raise TierError(f"{at}.payment_minimum: is more than payment_maximum")
    return Tier(
        number=_whole(table, "number", at, 1, usage.TIERS_MAX - 1),
        name=name,
        ledger=currency.number,
        utc_offset_s=60 * _whole(table, "utc_offset_minutes", at, -720, 840),
        payment_minimum_minor=minor["payment_minimum"],
        payment_maximum_minor=minor["payment_maximum"],
        day_minor=minor["day"],
        week_minor=minor["week"],
        month_minor=minor["month"],
        balance_maximum_minor=minor["balance_maximum"],
        dormant_after_days=_whole(table, "dormant_after_days", at, 0, DORMANT_DAYS_MAX, default=0),
    )


def _whole(table: dict[str, Any], key: str, at: str, low: int, high: int, default: int | None = None) -> int:
    value = table.get(key, default)
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise TierError(f"{at}.{key}: must be a whole number from {low} to {high}, is {value!r}")
    return value
