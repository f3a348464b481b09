"""What PaySim's columns tell beyond a node's features: balances before the row, types, merchants, and longer memories
of both sides and of the pair. All of it is known before the payment.

A hop through the graph: each account remembers how odd the last money was that it received (all that the sender had,
to somebody new, far above the sender's habit), and its own payments then carry that, faded by half a day.

What was found to be fraud counts only as an operator would have it: see `Labels` in fraud/paysim/history.py.
"""

from __future__ import annotations

import math
from typing import Any

from fraud.compiled import njit
from fraud.paysim.reading import CASH_IN

NAMES: tuple[str, ...] = (
    "old_balance_minor",
    "payee_old_balance_minor",
    "amount_to_payee_balance",
    "takes_all",  # exactly what the payer has
    "payee_is_merchant",
    "zeros",  # trailing zeros of the amount in major units
    "day_of_week",
    "payments",  # of the payer, ever
    "amount_oddness",  # deviations of log amount from the payer's own habit
    "amount_oddness_in_type",
    "type_is_new",
    "type_share",  # of the payer's earlier payments
    "h_since_type",
    "balance_to_largest",  # the payer's balance against the largest that was seen
    "amount_to_largest_ever",
    "payees",  # different ones, ever
    "payees_per_payment",
    "gap_to_mean",  # hours since the last payment against the mean
    "hour_share",  # of the payer's earlier payments in this hour and the two on each side
    "received",  # count ever
    "payers_per_receipt",
    "last_in_oddness",  # of the last money received, faded by half in 12 h
    "in_oddness_1d",  # sum, faded by half in a day
    "last_in_share",  # of its sender's balance
    "amount_to_in_1d_odd",  # this amount against odd money received
    "payee_received",
    "payee_payers_per_receipt",
    "payee_amount_oddness",  # against what the payee usually receives
    "payee_payments",
    "payee_h_since_out",
    "payee_in_oddness_1d",
    "payee_in_oddness_mean",
    "payee_in_share_mean",  # mean share of the senders' balances
    "payee_quick_out_share",  # of the payee's payments, those within three hours of a receipt
    "payee_hold_h",  # mean hours from receipt to payment
    "payee_type_share",  # of its receipts, those of this type
    "payee_was_payer",
    "pair_payments",
    "pair_h_since",
    "amount_to_pair_mean",
    "back_payments",  # payments from the payee to the payer
    "payee_last_in_oddness",
    "payee_sender_is_odd",  # two hops: what the payee's last sender had itself received
    "quick_out_share",  # the payer's own
    "hold_h",
    "typical_hour_payee",  # share of the payee's receipts near this hour
    "confirmed_out",  # frauds that the payer was found to have paid, or to have received; as of the last labels
    "confirmed_in",
    "payee_confirmed_out",
    "payee_confirmed_in",
)
COUNT = len(NAMES)

# One row of float64 an account.
(N_OUT, LOG_MEAN, LOG_VAR, OUT_MAX, BALANCE_MAX, NEW_PAYEES, LAST_OUT, GAP_MEAN, N_IN, NEW_PAYERS, LAST_IN, IN_MEAN,
 IN_VAR, ODD_LAST, ODD_SUM, ODD_AT, ODD_MEAN, SHARE_MEAN, SHARE_LAST, QUICK, HOLD_SUM, N_AFTER_IN, HOP, FIRST,
 ODD_AMOUNT, CONFIRMED_OUT, CONFIRMED_IN) = range(27)  # fmt: skip
TYPE_COUNT, TYPE_MEAN, TYPE_LAST, TYPE_IN = 27, 32, 37, 42  # five each
OUT_HOURS, IN_HOURS = 47, 71  # 24 each
WIDTH = 95
PAIR_COUNT, PAIR_LAST, PAIR_MEAN = range(3)
PAIR_WIDTH = 3
NEVER_H = 1e5


@njit
def _ratio(a: float, b: float) -> float:
    return min(a / (b + 1.0), 1_000.0)


@njit
def _near(row: Any, hours: int, hour: int, total: float) -> float:
    """Share of what happened within two hours of this hour of the day; drawn to 5/24 while little is known."""
    near = 0.0
    for k in range(-2, 3):
        near += row[hours + (hour + k) % 24]
    return (near + 1.0) / (total + 4.8)


@njit
def _fade(value: float, hours: float, half_h: float) -> float:
    return value * 0.5 ** (hours / half_h)


@njit
def _oddness(log_amount: float, mean: float, var: float, n: float) -> float:
    if n == 0.0:
        return 0.0
    return (log_amount - mean) / math.sqrt((var * n + 1.0) / (n + 1.0) + 0.05)


@njit
def _zeros(amount_minor: int) -> float:
    if amount_minor == 0 or amount_minor % 100:
        return -1.0
    whole, zeros = amount_minor // 100, 0
    while zeros < 6 and whole % 10 == 0:
        whole //= 10
        zeros += 1
    return float(zeros)


@njit
def _since(then: float, n: float, now: float) -> float:
    return now - then if n > 0 else NEVER_H


@njit
def extract(
    o: Any, d: Any, pair: Any, back: Any, step: int, kind: int, amount_minor: int, balance: int, payee_balance: int,
    is_merchant: int, out: Any,
) -> None:  # fmt: skip
    """Fill out, float32 (COUNT,): o and d are the accounts' rows, pair and back the rows of both directions."""
    now, hour, amount = float(step), step % 24, float(amount_minor)
    log_amount, t = math.log(amount + 100.0), kind - 1
    faded_last = _fade(o[ODD_LAST], _since(o[LAST_IN], o[N_IN], now), 12.0)
    odd_1d = _fade(o[ODD_SUM], now - o[ODD_AT], 24.0)
    out[0] = balance
    out[1] = payee_balance
    out[2] = _ratio(amount, max(0.0, float(payee_balance)))
    out[3] = 1.0 if amount_minor == balance and balance > 0 else 0.0
    out[4] = is_merchant
    out[5] = _zeros(amount_minor)
    out[6] = (step // 24) % 7
    out[7] = o[N_OUT]
    out[8] = _oddness(log_amount, o[LOG_MEAN], o[LOG_VAR], o[N_OUT])
    out[9] = _oddness(log_amount, o[TYPE_MEAN + t], o[LOG_VAR], o[TYPE_COUNT + t])
    out[10] = 1.0 if o[TYPE_COUNT + t] == 0 else 0.0
    out[11] = (o[TYPE_COUNT + t] + 0.2) / (o[N_OUT] + 1.0)
    out[12] = _since(o[TYPE_LAST + t], o[TYPE_COUNT + t], now)
    out[13] = _ratio(float(balance), o[BALANCE_MAX])
    out[14] = _ratio(amount, o[OUT_MAX])
    out[15] = o[NEW_PAYEES]
    out[16] = o[NEW_PAYEES] / (o[N_OUT] + 1.0)
    out[17] = _since(o[LAST_OUT], o[N_OUT], now) / (o[GAP_MEAN] + 1.0)
    out[18] = _near(o, OUT_HOURS, hour, o[N_OUT])
    out[19] = o[N_IN]
    out[20] = o[NEW_PAYERS] / (o[N_IN] + 1.0)
    out[21] = faded_last
    out[22] = odd_1d
    out[23] = o[SHARE_LAST]
    out[24] = _ratio(amount, _fade(o[ODD_AMOUNT], now - o[ODD_AT], 24.0))
    out[25] = d[N_IN]
    out[26] = d[NEW_PAYERS] / (d[N_IN] + 1.0)
    out[27] = _oddness(log_amount, d[IN_MEAN], d[IN_VAR], d[N_IN])
    out[28] = d[N_OUT]
    out[29] = _since(d[LAST_OUT], d[N_OUT], now)
    out[30] = _fade(d[ODD_SUM], now - d[ODD_AT], 24.0)
    out[31] = d[ODD_MEAN]
    out[32] = d[SHARE_MEAN]
    out[33] = d[QUICK] / (d[N_AFTER_IN] + 1.0)
    out[34] = d[HOLD_SUM] / (d[N_AFTER_IN] + 1.0)
    out[35] = (d[TYPE_IN + t] + 0.2) / (d[N_IN] + 1.0)
    out[36] = 1.0 if d[N_OUT] > 0 else 0.0
    out[37] = pair[PAIR_COUNT]
    out[38] = _since(pair[PAIR_LAST], pair[PAIR_COUNT], now)
    out[39] = _ratio(amount, pair[PAIR_MEAN]) if pair[PAIR_COUNT] > 0 else -1.0
    out[40] = back[PAIR_COUNT]
    out[41] = _fade(d[ODD_LAST], _since(d[LAST_IN], d[N_IN], now), 12.0)
    out[42] = d[HOP]
    out[43] = o[QUICK] / (o[N_AFTER_IN] + 1.0)
    out[44] = o[HOLD_SUM] / (o[N_AFTER_IN] + 1.0)
    out[45] = _near(d, IN_HOURS, hour, d[N_IN])
    out[46] = o[CONFIRMED_OUT]
    out[47] = o[CONFIRMED_IN]
    out[48] = d[CONFIRMED_OUT]
    out[49] = d[CONFIRMED_IN]


@njit
def _blend(row: Any, mean: int, var: int, n: float, value: float) -> None:
    """Mean and variance that follow: exact for the first sixteen values, then fading."""
    weight = 1.0 / (min(n, 15.0) + 1.0)
    away = value - row[mean]
    row[mean] += weight * away
    row[var] = (1.0 - weight) * (row[var] + weight * away * away)


@njit
def update(o: Any, d: Any, pair: Any, step: int, kind: int, amount_minor: int, balance: int) -> None:
    """Note a row: o is the origin and d the destination, whichever way the money goes."""
    now, hour, amount = float(step), step % 24, float(amount_minor)
    log_amount, t = math.log(amount + 100.0), kind - 1
    is_new = pair[PAIR_COUNT] == 0
    odd = _fade(o[ODD_LAST], _since(o[LAST_IN], o[N_IN], now), 12.0)  # before this row changes it
    share = min(1.0, amount / (balance + 1.0)) if balance > 0 else 0.0
    oddness = max(0.0, min(4.0, _oddness(log_amount, o[LOG_MEAN], o[LOG_VAR], o[N_OUT])))
    oddness = (share + 0.25 * oddness) * (1.0 if is_new else 0.2)
    if kind == CASH_IN:
        oddness, share = 0.0, 0.0
        _receive(o, kind, now, hour, amount, log_amount, 0.0, 0.0, 0.0, True)
    _pay(o, t, now, hour, amount, log_amount, balance, is_new)
    if kind != CASH_IN:
        _receive(d, kind, now, hour, amount, log_amount, oddness, share, odd, is_new)
    pair[PAIR_MEAN] += (amount - pair[PAIR_MEAN]) / (min(pair[PAIR_COUNT], 7.0) + 1.0)
    pair[PAIR_COUNT] += 1.0
    pair[PAIR_LAST] = now


@njit
def _pay(o: Any, t: int, now: float, hour: int, amount: float, log_amount: float, balance: int, is_new: bool) -> None:
    if o[N_OUT] > 0:
        o[GAP_MEAN] += (now - o[LAST_OUT] - o[GAP_MEAN]) / (min(o[N_OUT], 15.0) + 1.0)
    if o[N_IN] > 0 and t != CASH_IN - 1:
        held = min(now - o[LAST_IN], 720.0)
        o[HOLD_SUM] += held
        o[N_AFTER_IN] += 1.0
        if held <= 3.0:
            o[QUICK] += 1.0
    _blend(o, LOG_MEAN, LOG_VAR, o[N_OUT], log_amount)
    o[TYPE_MEAN + t] += (log_amount - o[TYPE_MEAN + t]) / (min(o[TYPE_COUNT + t], 15.0) + 1.0)
    o[TYPE_COUNT + t] += 1.0
    o[TYPE_LAST + t] = now
    o[OUT_MAX] = max(o[OUT_MAX], amount)
    o[BALANCE_MAX] = max(o[BALANCE_MAX], float(balance))
    o[OUT_HOURS + hour] += 1.0
    o[N_OUT] += 1.0
    o[LAST_OUT] = now
    if is_new:
        o[NEW_PAYEES] += 1.0


@njit
def _receive(
    d: Any, kind: int, now: float, hour: int, amount: float, log_amount: float, oddness: float, share: float,
    hop: float, is_new: bool,
) -> None:  # fmt: skip
    weight = 1.0 / (min(d[N_IN], 15.0) + 1.0)
    d[ODD_MEAN] += weight * (oddness - d[ODD_MEAN])
    d[SHARE_MEAN] += weight * (share - d[SHARE_MEAN])
    d[ODD_SUM] = _fade(d[ODD_SUM], now - d[ODD_AT], 24.0) + oddness
    d[ODD_AMOUNT] = _fade(d[ODD_AMOUNT], now - d[ODD_AT], 24.0) + min(oddness, 1.0) * amount
    d[ODD_AT], d[ODD_LAST], d[SHARE_LAST], d[HOP] = now, oddness, share, hop
    _blend(d, IN_MEAN, IN_VAR, d[N_IN], log_amount)
    d[TYPE_IN + kind - 1] += 1.0
    d[IN_HOURS + hour] += 1.0
    d[N_IN] += 1.0
    d[LAST_IN] = now
    if is_new:
        d[NEW_PAYERS] += 1.0
