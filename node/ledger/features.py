"""Fraud features: integer columns beside each balance, updated by the kernel, read just before a payment is proposed.

The columns hold sums and counts that fade by half in an hour, a day or a week (in quarter steps of the half-life), the
last counterparties, and the hours of the day at which the account sends. They are part of the replicated state, so
they survive fail-over, need no second database, and the simulator trains on this very code.

update: integers only, the same on every node. extract: floats, on the leader alone, never in the log.
"""

from __future__ import annotations

import hashlib
from typing import Any

import numpy as np

from node.ledger.columns import AccountFlag, Column
from node.ledger.compiled import inlined, njit
from node.ledger.statuses import TransferCode

FEATURE_NAMES: tuple[str, ...] = (
    "amount_minor",
    "kind",
    "hour_of_day",
    "hour_is_usual",  # 0..9: how often the payer sent in this hour and the two beside it
    "payer_age_h",
    "payee_age_h",
    "payee_kind",
    "pin_age_h",  # -1 = no PIN was ever set
    "share_of_available",  # amount / what the payer may spend now
    "drained_share_1h",  # with this payment, of what the payer had an hour ago
    "amount_to_mean",
    "amount_to_largest",
    "s_since_out",
    "s_since_in",
    "out_count_1h",
    "out_sum_1h_minor",
    "out_count_1d",
    "out_sum_1d_minor",
    "out_count_7d",
    "out_sum_7d_minor",
    "in_count_1h",
    "in_sum_1h_minor",
    "in_count_1d",
    "in_sum_1d_minor",
    "pass_through_1d",  # with this payment: sent / received
    "amount_to_last_in",
    "payee_is_new",
    "new_payees_1d",
    "payee_in_count_1d",
    "payee_in_sum_1d_minor",
    "payee_new_payers_1d",
    "payee_pass_through_1d",
    "payee_s_since_in",
    "airtime_sum_1d_minor",
    "amount_is_round",  # a whole number of hundreds
    "payer_kind",
    "payee_knows_payer",  # one of them is among the last who paid or were paid by the other, so far as both remember
    "new_payers_1d",  # of the payer
    "payee_new_payer_share_1d",
    "payee_in_count_7d",
    "payee_drained_share_1d",  # of what the payee had a day ago or got since
    "payee_s_since_out",
    "amount_to_payee_mean_7d",  # amount / what the payee receives on average
    "amount_to_payee_last_in",
)
FEATURE_COUNT = len(FEATURE_NAMES)
FEATURE_SCHEMA = int.from_bytes(hashlib.sha256("\n".join(FEATURE_NAMES).encode()).digest()[:8], "little") >> 1
"""63 bits of a hash of the names in their order: a model that was trained on other features is refused."""

_AT = int(Column.FEATURES)
OUT, IN = _AT + 0, _AT + 7  # two blocks of seven: last time, then count and sum for 1 h, 1 d and 7 d
T, COUNT_1H, SUM_1H, COUNT_1D, SUM_1D, COUNT_7D, SUM_7D = range(7)
LARGEST, MEAN, LAST_IN_AMOUNT = _AT + 14, _AT + 15, _AT + 16
PAYEES, PAYEES_NEXT, NEW_PAYEES = _AT + 17, _AT + 21, _AT + 22  # a ring of four
PAYERS, PAYERS_NEXT, NEW_PAYERS = _AT + 23, _AT + 27, _AT + 28
HOURS = _AT + 29  # 24 counters of two bits
AIRTIME_SUM = _AT + 30
FEATURE_COLUMN_COUNT = 31
RING = 4

QUARTER_1H, QUARTER_1D, QUARTER_7D = (h * 3_600_000_000_000 // 4 for h in (1, 24, 168))
ONE = 1_024  # counts are kept in 1/1024
AMOUNT_MAX = 1 << 40  # larger amounts count as this, so that no sum can overflow
_KEEP = (65_536, 55_109, 46_341, 38_968)  # 2^16 * 2^(-k/4)
KEEP = np.array(_KEEP, dtype=np.int64)
HOUR_NS = 3_600_000_000_000
UTC_OFFSET_H = 3  # of the hour features only
FEE, EXCISE, COMMISSION = int(TransferCode.FEE), int(TransferCode.EXCISE_DUTY), int(TransferCode.COMMISSION)
PAYEE_FEE, REVERSAL = int(TransferCode.PAYEE_FEE), int(TransferCode.REVERSAL)
FEE_BACK, EXCISE_BACK = int(TransferCode.FEE_RETURNED), int(TransferCode.EXCISE_RETURNED)
ISSUE, AIRTIME = int(TransferCode.ISSUE), int(TransferCode.AIRTIME)
LEDGER, KIND, FLAGS, CREATED = int(Column.LEDGER), int(Column.KIND), int(Column.FLAGS), int(Column.CREATED_NS)
D_POSTED, C_POSTED = int(Column.DEBITS_POSTED), int(Column.CREDITS_POSTED)
D_PENDING, OVERDRAFT, PIN_SET = int(Column.DEBITS_PENDING), int(Column.OVERDRAFT_LIMIT), int(Column.PIN_SET_NS)
NO_OVERDRAW = int(AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS)


@njit
def faded(value: int, quarters: int) -> int:
    """value * 2^(-quarters / 4), in integers; value < 2^47."""
    if quarters <= 0 or value == 0:
        return value
    if quarters >= 188:
        return 0
    return (value * KEEP[quarters & 3] >> 16) >> (quarters >> 2)


@njit
def _quarters(last_ns: int, now_ns: int, quarter_ns: int) -> int:
    return now_ns // quarter_ns - last_ns // quarter_ns


@njit
def _add(row: Any, at: int, amount: int, now_ns: int) -> None:
    last = row[at + T]
    hours, days, weeks = (
        _quarters(last, now_ns, QUARTER_1H),
        _quarters(last, now_ns, QUARTER_1D),
        _quarters(last, now_ns, QUARTER_7D),
    )
    row[at + COUNT_1H] = _sum(faded(row[at + COUNT_1H], hours), ONE)
    row[at + SUM_1H] = _sum(faded(row[at + SUM_1H], hours), amount)
    row[at + COUNT_1D] = _sum(faded(row[at + COUNT_1D], days), ONE)
    row[at + SUM_1D] = _sum(faded(row[at + SUM_1D], days), amount)
    row[at + COUNT_7D] = _sum(faded(row[at + COUNT_7D], weeks), ONE)
    row[at + SUM_7D] = _sum(faded(row[at + SUM_7D], weeks), amount)
    row[at + T] = now_ns


@njit
def _sum(a: int, b: int) -> int:
    return min(a + b, (1 << 46) - 1)


@njit
def _is_in_ring(row: Any, ring: int, account: int) -> bool:
    for k in range(RING):  # noqa: SIM110 - a generator is no business of a compiled kernel
        if row[ring + k] == account:
            return True
    return False


@njit
def _meet(row: Any, ring: int, account: int) -> bool:
    """Note a counterparty; True = it was none of the last four different ones."""
    if _is_in_ring(row, ring, account):
        return False
    row[ring + (row[ring + RING] & (RING - 1))] = account
    row[ring + RING] += 1
    return True


@njit
def _hour(now_ns: int) -> int:
    return (now_ns // HOUR_NS + UTC_OFFSET_H) % 24


@inlined
def is_bookkeeping(code: int) -> bool:
    return code in (FEE, EXCISE, COMMISSION, PAYEE_FEE, REVERSAL, FEE_BACK, EXCISE_BACK)


@njit
def update(columns: Any, debit_row: int, credit_row: int, amount_minor: int, code: int, timestamp_ns: int) -> None:
    """Note one transfer that moves or reserves money. Fees, duties, commissions and what takes a payment back are not
    what a person did."""
    if is_bookkeeping(code):
        return
    note(columns[debit_row], columns[credit_row], debit_row, credit_row, amount_minor, code, timestamp_ns)


@njit
def note(
    payer: Any, payee: Any, debit_row: int, credit_row: int, amount_minor: int, code: int, timestamp_ns: int
) -> None:
    """`update` on the rows themselves, wherever they lie; the numbers are the accounts'."""
    amount = min(amount_minor, AMOUNT_MAX)
    if code != ISSUE:
        days = _quarters(payer[OUT + T], timestamp_ns, QUARTER_1D)
        weeks = _quarters(payer[OUT + T], timestamp_ns, QUARTER_7D)
        payer[NEW_PAYEES] = faded(payer[NEW_PAYEES], days)
        payer[AIRTIME_SUM] = faded(payer[AIRTIME_SUM], days)
        payer[LARGEST] = max(faded(payer[LARGEST], weeks >> 2), amount)
        payer[MEAN] = amount if payer[MEAN] == 0 else payer[MEAN] + (amount - payer[MEAN]) // 8
        _add(payer, OUT, amount, timestamp_ns)
        if _meet(payer, PAYEES, credit_row):
            payer[NEW_PAYEES] = _sum(payer[NEW_PAYEES], ONE)
        if code == AIRTIME:
            payer[AIRTIME_SUM] = _sum(payer[AIRTIME_SUM], amount)
        shift = 2 * _hour(timestamp_ns)
        if (payer[HOURS] >> shift) & 3 != 3:
            payer[HOURS] += 1 << shift
    payee[NEW_PAYERS] = faded(payee[NEW_PAYERS], _quarters(payee[IN + T], timestamp_ns, QUARTER_1D))
    _add(payee, IN, amount, timestamp_ns)
    payee[LAST_IN_AMOUNT] = amount
    if _meet(payee, PAYERS, debit_row):
        payee[NEW_PAYERS] = _sum(payee[NEW_PAYERS], ONE)


@njit
def _now(row: Any, block: int, which: int, now_ns: int, quarter_ns: int) -> float:
    return float(faded(row[block + which], _quarters(row[block + T], now_ns, quarter_ns)))


@njit
def _since_s(then_ns: int, now_ns: int) -> float:
    """Seconds; 1e9 = never."""
    return max(0.0, (now_ns - then_ns) / 1e9) if then_ns else 1e9


@njit
def _ratio(a: float, b: float) -> float:
    return min(a / (b + 1.0), 1_000.0)


@njit
def _usual(hours: int, hour: int) -> float:
    total = 0
    for near in (hour - 1, hour, hour + 1):
        total += (hours >> (2 * (near % 24))) & 3
    return float(total)


@njit
def extract(columns: Any, payers: Any, payees: Any, amounts: Any, kinds: Any, timestamp_ns: int, out: Any) -> None:
    """Fill out, float32 (n, FEATURE_COUNT), with what is known before each payment. Rows are account numbers."""
    for i in range(len(amounts)):
        payer, payee = payers[i], payees[i]
        extract_one(columns[payer], columns[payee], payer, payee, amounts[i], kinds[i], timestamp_ns, out[i])


@njit
def _available(row: Any) -> float:
    if not row[FLAGS] & NO_OVERDRAW:
        return 1e15
    return max(0.0, float(row[C_POSTED]) - float(row[D_POSTED]) - float(row[D_PENDING]) + float(row[OVERDRAFT]))


@njit
def extract_one(
    payer: Any, payee: Any, payer_number: int, payee_number: int, amount_minor: int, kind: int, now_ns: int, out: Any
) -> None:
    amount = float(amount_minor)
    hour = _hour(now_ns)
    available = _available(payer)
    out_1h = _now(payer, OUT, SUM_1H, now_ns, QUARTER_1H)
    out_1d = _now(payer, OUT, SUM_1D, now_ns, QUARTER_1D)
    in_1d = _now(payer, IN, SUM_1D, now_ns, QUARTER_1D)
    payee_in_1d = _now(payee, IN, SUM_1D, now_ns, QUARTER_1D)
    payee_out_1d = _now(payee, OUT, SUM_1D, now_ns, QUARTER_1D)
    payee_in_count_1d = _now(payee, IN, COUNT_1D, now_ns, QUARTER_1D) / ONE
    payee_in_count_7d = _now(payee, IN, COUNT_7D, now_ns, QUARTER_7D) / ONE
    payee_in_7d = _now(payee, IN, SUM_7D, now_ns, QUARTER_7D)
    payee_new_payers_1d = float(faded(payee[NEW_PAYERS], _quarters(payee[IN + T], now_ns, QUARTER_1D))) / ONE
    out[0] = amount
    out[1] = kind
    out[2] = hour
    out[3] = _usual(payer[HOURS], hour)
    out[4] = _since_s(payer[CREATED], now_ns) / 3_600.0
    out[5] = _since_s(payee[CREATED], now_ns) / 3_600.0
    out[6] = payee[KIND]
    out[7] = _since_s(payer[PIN_SET], now_ns) / 3_600.0 if payer[PIN_SET] else -1.0
    out[8] = _ratio(amount, available)
    out[9] = _ratio(out_1h + amount, available + out_1h)
    out[10] = _ratio(amount, float(payer[MEAN]))
    out[11] = _ratio(amount, float(payer[LARGEST]))
    out[12] = _since_s(payer[OUT + T], now_ns)
    out[13] = _since_s(payer[IN + T], now_ns)
    out[14] = _now(payer, OUT, COUNT_1H, now_ns, QUARTER_1H) / ONE
    out[15] = out_1h
    out[16] = _now(payer, OUT, COUNT_1D, now_ns, QUARTER_1D) / ONE
    out[17] = out_1d
    out[18] = _now(payer, OUT, COUNT_7D, now_ns, QUARTER_7D) / ONE
    out[19] = _now(payer, OUT, SUM_7D, now_ns, QUARTER_7D)
    out[20] = _now(payer, IN, COUNT_1H, now_ns, QUARTER_1H) / ONE
    out[21] = _now(payer, IN, SUM_1H, now_ns, QUARTER_1H)
    out[22] = _now(payer, IN, COUNT_1D, now_ns, QUARTER_1D) / ONE
    out[23] = in_1d
    out[24] = _ratio(out_1d + amount, in_1d)
    out[25] = _ratio(amount, float(payer[LAST_IN_AMOUNT]))
    out[26] = 0.0 if _is_in_ring(payer, PAYEES, payee_number) else 1.0
    out[27] = float(faded(payer[NEW_PAYEES], _quarters(payer[OUT + T], now_ns, QUARTER_1D))) / ONE
    out[28] = payee_in_count_1d
    out[29] = payee_in_1d
    out[30] = payee_new_payers_1d
    out[31] = _ratio(payee_out_1d, payee_in_1d)
    out[32] = _since_s(payee[IN + T], now_ns)
    out[33] = float(faded(payer[AIRTIME_SUM], _quarters(payer[OUT + T], now_ns, QUARTER_1D)))
    out[34] = 1.0 if amount_minor % 10_000 == 0 else 0.0
    out[35] = payer[KIND]
    knows = _is_in_ring(payee, PAYERS, payer_number) or _is_in_ring(payee, PAYEES, payer_number)
    out[36] = 1.0 if knows or _is_in_ring(payer, PAYERS, payee_number) else 0.0
    out[37] = float(faded(payer[NEW_PAYERS], _quarters(payer[IN + T], now_ns, QUARTER_1D))) / ONE
    out[38] = payee_new_payers_1d / payee_in_count_1d if payee_in_count_1d > 0.01 else 0.0
    out[39] = payee_in_count_7d
    out[40] = _ratio(payee_out_1d, _available(payee) + payee_out_1d)
    out[41] = _since_s(payee[OUT + T], now_ns)
    out[42] = _ratio(amount, payee_in_7d / payee_in_count_7d) if payee_in_count_7d > 0.01 else 0.0
    out[43] = _ratio(amount, float(payee[LAST_IN_AMOUNT]))
