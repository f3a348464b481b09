"""The features of a PaySim file, row by row in time: the nodes' own code first, then what PaySim adds.

One step is one hour; the rows of a step share its time-stamp and come in an order of ours (fraud/paysim/reading.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from fraud.compiled import njit
from fraud.paysim import features as extra
from fraud.paysim.memory import ACCOUNT_SETS, PAIR_SETS, WAYS, find, peek
from fraud.paysim.reading import CASH_IN, Block
from node.ledger import features as f
from node.ledger.columns import COLUMN_COUNT, AccountFlag, AccountKind
from node.ledger.statuses import TransferCode

START_NS = 1_767_225_600_000_000_000 - f.UTC_OFFSET_H * f.HOUR_NS  # so that step 0 is midnight to the node's code
FEATURE_NAMES = f.FEATURE_NAMES + extra.NAMES
FEATURE_COUNT = len(FEATURE_NAMES)
CUSTOMER, TILL, PRINCIPAL = int(AccountKind.CUSTOMER), int(AccountKind.TILL), int(TransferCode.PRINCIPAL)
NO_OVERDRAW = int(AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS)
D_POSTED, C_POSTED, KIND, FLAGS, CREATED = f.D_POSTED, f.C_POSTED, f.KIND, f.FLAGS, f.CREATED


MATURITY_STEPS = 72  # hours until a fraud has been reported and confirmed
LABEL_DATES = (0.2, 0.45, 0.7)  # shares of the time at which the list of confirmed frauds is made anew


@dataclass(frozen=True, slots=True)
class Labels:
    """When which labels are known. A list of accounts in confirmed frauds is made at a few dates, each with what was
    then older than MATURITY_STEPS, the last one where evaluation begins. So no row sees a label of its own period, the
    evaluated rows see none of theirs, and while learning the list is as old as it will be then."""

    dates: tuple[int, ...]  # steps, rising
    frauds_max: int

    @classmethod
    def of(cls, first_step: int, last_step: int, frauds_max: int) -> Labels:
        span = last_step - first_step + 1
        return cls(tuple(first_step + int(np.ceil(span * share)) for share in LABEL_DATES), frauds_max)


class History:
    """Everything remembered of the rows so far. `read` gives the features of the next ones and remembers those too."""

    def __init__(self, labels: Labels, account_sets: int = ACCOUNT_SETS, pair_sets: int = PAIR_SETS) -> None:
        self._dates = np.array(labels.dates, np.int64)
        self._found = np.zeros((labels.frauds_max, 2), np.uint64)
        self._found_at = np.zeros(labels.frauds_max, np.int64)
        self._counts = np.zeros(3, np.int64)  # frauds noted, frauds confirmed, dates passed
        accounts, pairs = account_sets * WAYS, pair_sets * WAYS
        self._keys, self._seen = np.zeros(accounts, np.uint64), np.zeros(accounts, np.int64)
        self._columns = np.zeros((accounts, COLUMN_COUNT), np.int64)
        self._rows = np.zeros((accounts, extra.WIDTH), np.float64)
        self._pair_keys, self._pair_seen = np.zeros(pairs, np.uint64), np.zeros(pairs, np.int64)
        self._pairs = np.zeros((pairs, extra.PAIR_WIDTH), np.float64)
        self._tick = np.zeros(1, np.int64)

    def read(self, block: Block) -> npt.NDArray[np.float32]:
        """float32 (rows, FEATURE_COUNT), each row as it was known before it."""
        out = np.zeros((len(block), FEATURE_COUNT), np.float32)
        facts = np.stack(
            [
                block.step,
                block.type,
                block.amount_minor,
                block.origin_balance_minor,
                block.destination_balance_minor,
                block.is_merchant,
            ],
            axis=1,
        )
        _read(
            facts, block.origin, block.destination, self._keys, self._seen, self._columns, self._rows,
            self._pair_keys, self._pair_seen, self._pairs, self._tick, out,
            block.fraud, self._dates, self._found, self._found_at, self._counts,
        )  # fmt: skip
        return out


@njit
def _account(keys: Any, seen: Any, columns: Any, rows: Any, key: int, tick: int, now_ns: int, is_merchant: int) -> int:
    at = find(keys, seen, key, tick)
    if at >= 0:
        return at
    at = ~at
    columns[at] = 0
    rows[at] = 0
    columns[at, CREATED] = now_ns
    columns[at, FLAGS] = NO_OVERDRAW
    columns[at, KIND] = TILL if is_merchant else CUSTOMER
    return at


@njit
def _pair(keys: Any, seen: Any, pairs: Any, key: int, tick: int) -> int:
    at = find(keys, seen, key, tick)
    if at >= 0:
        return at
    pairs[~at] = 0
    return ~at


@njit
def _confirm(keys: Any, seen: Any, rows: Any, until_step: int, found: Any, found_at: Any, counts: Any) -> None:
    """Note the frauds up to a step at the accounts in them; counts[1] = how many were noted before."""
    while counts[1] < counts[0] and found_at[counts[1]] <= until_step:
        payer, payee = peek(keys, seen, found[counts[1], 0]), peek(keys, seen, found[counts[1], 1])
        if payer >= 0:
            rows[payer, extra.CONFIRMED_OUT] += 1.0
        if payee >= 0:
            rows[payee, extra.CONFIRMED_IN] += 1.0
        counts[1] += 1


@njit
def _read(
    facts: Any, origins: Any, destinations: Any, keys: Any, seen: Any, columns: Any, rows: Any,
    pair_keys: Any, pair_seen: Any, pairs: Any, ticks: Any, out: Any,
    fraud: Any, dates: Any, found: Any, found_at: Any, counts: Any,
) -> None:  # fmt: skip
    one, two, three, four = (np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(1, np.int64), np.zeros(1, np.int64))
    stranger = np.zeros(extra.PAIR_WIDTH, np.float64)
    odd = np.uint64(0xD6E8FEB86659FD93)
    for i in range(len(facts)):
        step, kind, amount, balance, payee_balance, is_merchant = facts[i]
        now_ns = START_NS + step * f.HOUR_NS
        while counts[2] < len(dates) and step >= dates[counts[2]]:
            _confirm(keys, seen, rows, dates[counts[2]] - MATURITY_STEPS, found, found_at, counts)
            counts[2] += 1
        if fraud[i] and counts[2] < len(dates) and counts[0] < len(found):
            found[counts[0], 0], found[counts[0], 1], found_at[counts[0]] = origins[i], destinations[i], step
            counts[0] += 1
        ticks[0] += 2
        payer = _account(keys, seen, columns, rows, origins[i], ticks[0], now_ns, 0)
        # A tick later, so that the payee cannot take the payer's place.
        payee = _account(keys, seen, columns, rows, destinations[i], ticks[0] + 1, now_ns, is_merchant)
        there = _pair(pair_keys, pair_seen, pairs, origins[i] * odd + destinations[i], ticks[0])
        at_back = peek(pair_keys, pair_seen, destinations[i] * odd + origins[i])
        back = pairs[at_back] if at_back >= 0 else stranger
        columns[payer, C_POSTED], columns[payer, D_POSTED] = balance, 0
        one[0], two[0], three[0], four[0] = payer, payee, amount, kind
        f.extract(columns, one, two, three, four, now_ns, out[i : i + 1])
        extra.extract(
            rows[payer], rows[payee], pairs[there], back, step, kind, amount, balance, payee_balance,
            is_merchant, out[i, f.FEATURE_COUNT :],
        )  # fmt: skip
        if kind == CASH_IN:
            f.update(columns, payee, payer, amount, PRINCIPAL, now_ns)
        else:
            f.update(columns, payer, payee, amount, PRINCIPAL, now_ns)
        extra.update(rows[payer], rows[payee], pairs[there], step, kind, amount, balance)
