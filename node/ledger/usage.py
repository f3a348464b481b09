"""Limits of a tier and what an account has used of them: called by the kernel, integers only.

What a person moves (statuses.COUNTED_CODES) counts in the payer's local day, week (from Monday) and month; which days
and months these are, the caller has computed once for the batch (tiers.py). A row keeps the last day on which it was
counted: sums of an earlier day, week or month are worth nothing and are begun anew.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from node.ledger.columns import Column
from node.ledger.compiled import inlined, njit
from node.ledger.features import IN, OUT, T
from node.ledger.statuses import COUNTED_CODES, Status

# Fields of a tier's row.
MINIMUM, MAXIMUM, DAY, WEEK, MONTH, BALANCE, TODAY, WEEK_START, MONTH_START, DORMANT_NS = range(10)
TIER_FIELDS = 10
TIERS_MAX = 64
NO_LIMIT = (1 << 63) - 1

TIER, USED_1, USED_2 = int(Column.TIER), int(Column.USED_1), int(Column.USED_2)
D_POSTED, C_POSTED, C_PENDING = int(Column.DEBITS_POSTED), int(Column.CREDITS_POSTED), int(Column.CREDITS_PENDING)
CREATED, PIN_SET = int(Column.CREATED_NS), int(Column.PIN_SET_NS)
LAST_OUT, LAST_IN = OUT + T, IN + T
# The column TIER: tier in bits 0..7, the last day that counted (from 1970) in 8..27, in 28..62 the second in which the
# number's SIM was last changed (0 = not that we know).
TIER_MASK, DAY_SHIFT, DAY_MAX, SIM_SHIFT = 0xFF, 8, (1 << 20) - 1, 28
BELOW_SIM = (1 << SIM_SHIFT) - 1
# The columns USED_1 and USED_2: the day's and the month's sum in 42 bits each, above them the halves of the week's.
AMOUNT_BITS, AMOUNT_MAX = 42, (1 << 42) - 1  # no sum grows beyond this, and no limit is larger
HALF_BITS, HALF_MAX = 21, (1 << 21) - 1
COUNTED = sum(1 << code for code in COUNTED_CODES)  # as bits
OK = int(Status.OK)
DORMANT, UNDER_MINIMUM, OVER_MAXIMUM = (
    int(Status.DEBIT_ACCOUNT_DORMANT),
    int(Status.DEBIT_ACCOUNT_UNDER_PAYMENT_MINIMUM),
    int(Status.DEBIT_ACCOUNT_OVER_PAYMENT_LIMIT),
)
OVER_DAY, OVER_WEEK, OVER_MONTH, OVER_BALANCE = (
    int(Status.DEBIT_ACCOUNT_OVER_DAY_LIMIT),
    int(Status.DEBIT_ACCOUNT_OVER_WEEK_LIMIT),
    int(Status.DEBIT_ACCOUNT_OVER_MONTH_LIMIT),
    int(Status.CREDIT_ACCOUNT_OVER_BALANCE_LIMIT),
)

# Fields of what is kept of a row before it was changed, for the undo of a chain.
B_ACCOUNT, B_TIER, B_USED_1, B_USED_2 = range(4)
BEFORE_FIELDS = 4

i64 = np.int64


@inlined
def is_counted(code: int) -> bool:
    return code < 62 and (COUNTED >> code) & 1 != 0


@njit
def used(columns: Any, account: int) -> tuple[int, int, int]:
    """(of its last day, of that day's week, of its month), in minor units."""
    first, second = columns[account, USED_1], columns[account, USED_2]
    week = (first >> AMOUNT_BITS) | (second >> AMOUNT_BITS) << HALF_BITS
    return first & AMOUNT_MAX, week, second & AMOUNT_MAX


@njit
def _write_used(columns: Any, account: int, day: int, week: int, month: int) -> None:
    day, week, month = (
        min(max(day, 0), AMOUNT_MAX), min(max(week, 0), AMOUNT_MAX), min(max(month, 0), AMOUNT_MAX)
    )  # fmt: skip
    columns[account, USED_1] = day | (week & HALF_MAX) << AMOUNT_BITS
    columns[account, USED_2] = month | (week >> HALF_BITS) << AMOUNT_BITS


@inlined
def last_day(word: int) -> int:
    return (word >> DAY_SHIFT) & DAY_MAX


@njit
def check_limits(columns: Any, tiers: Any, debit: int, credit: int, amount: int, timestamp_ns: int) -> int:
    """Of a transfer that counts, where one of its accounts has a tier."""
    word = columns[debit, TIER]
    if word & TIER_MASK:
        tier, last = tiers[word & TIER_MASK], last_day(word)
        if tier[DORMANT_NS] != 0:
            moved = max(columns[debit, LAST_OUT], columns[debit, LAST_IN])
            since = max(moved, max(columns[debit, CREATED], columns[debit, PIN_SET]))
            if timestamp_ns - since >= tier[DORMANT_NS]:
                return DORMANT
        if amount < tier[MINIMUM]:
            return UNDER_MINIMUM
        if amount > tier[MAXIMUM]:
            return OVER_MAXIMUM
        day, week, month = used(columns, debit)
        if amount > tier[DAY] - (day if last >= tier[TODAY] else i64(0)):
            return OVER_DAY
        if amount > tier[WEEK] - (week if last >= tier[WEEK_START] else i64(0)):
            return OVER_WEEK
        if amount > tier[MONTH] - (month if last >= tier[MONTH_START] else i64(0)):
            return OVER_MONTH
    word = columns[credit, TIER]
    if word & TIER_MASK:
        has = max(columns[credit, C_POSTED] + columns[credit, C_PENDING] - columns[credit, D_POSTED], 0)
        if amount > tiers[word & TIER_MASK, BALANCE] - has:
            return OVER_BALANCE
    return OK


@njit
def count(columns: Any, tiers: Any, account: int, amount: int, before: Any) -> int:
    """Note what a payer of a tier has moved; returns the day that it counts in."""
    keep(columns, account, before)
    word = columns[account, TIER]
    tier, last = tiers[word & TIER_MASK], last_day(word)
    day, week, month = used(columns, account)
    amount = min(amount, AMOUNT_MAX)
    day = amount + (day if last >= tier[TODAY] else i64(0))
    week = amount + (week if last >= tier[WEEK_START] else i64(0))
    month = amount + (month if last >= tier[MONTH_START] else i64(0))
    _write_used(columns, account, day, week, month)
    last = max(last, tier[TODAY])
    columns[account, TIER] = word & ~(DAY_MAX << DAY_SHIFT) | last << DAY_SHIFT
    return last


@njit
def give_back(columns: Any, account: int, amount: int, counted_day: int, before: Any) -> None:
    """What was reserved on a day and did not move counts no longer, where that day, its week or month still does."""
    keep(columns, account, before)
    last = last_day(columns[account, TIER])
    day, week, month = used(columns, account)
    amount = min(amount, AMOUNT_MAX)
    day -= amount if counted_day >= last else i64(0)
    week -= amount if counted_day >= week_start(last) else i64(0)
    month -= amount if counted_day >= month_start(last) else i64(0)
    _write_used(columns, account, day, week, month)


@njit
def keep(columns: Any, account: int, before: Any) -> None:
    before[B_ACCOUNT], before[B_TIER] = account, columns[account, TIER]
    before[B_USED_1], before[B_USED_2] = columns[account, USED_1], columns[account, USED_2]


@njit
def restore(columns: Any, before: Any) -> None:
    account = before[B_ACCOUNT]
    columns[account, TIER] = before[B_TIER]
    columns[account, USED_1], columns[account, USED_2] = before[B_USED_1], before[B_USED_2]


@njit
def week_start(day: int) -> int:
    """The Monday of a day; days count from 1 January 1970, a Thursday."""
    return (day + 3) // 7 * 7 - 3


@njit
def month_start(day: int) -> int:
    """The first of a day's month. Years are counted from March, so that the leap day is the last of its year."""
    since_march_of_0 = day + 719_468
    of_era = since_march_of_0 % 146_097
    year = (of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    month = (5 * of_year + 2) // 153
    return day - (of_year - (153 * month + 2) // 5)
