"""Features of a whole proposal, in order: each payment is seen with the ones before it, which the ledger has not yet
applied. Five drains towards one account in one batch do not look like five first ones.

The accounts in question are copied, and the copies are updated by the ledger's own code; the ledger's rows stay as
they are. What is seen of a payment in flight is what the ledger will do with it: the features, and the money reserved.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from node.ledger import features as f
from node.ledger.compiled import inlined, njit, unlocked

PAYER, PAYEE, AMOUNT, KIND, CODE = range(5)  # the fields of a payment here; KIND 0 = seen, but not to be scored
FIELDS = 5
TABLE_MIN = 1 << 4
_NOBODY = 0  # row of the copies that stands for every account that the proposal does not name

Payments = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Overlay:
    """Copies of the rows that a proposal names, and everything that is to happen to them, in order."""

    rows: npt.NDArray[np.int64]
    every: Payments  # what is in flight, then the proposal
    places: npt.NDArray[np.int64]  # (n, 2): rows of payer and payee
    first: int  # of the proposal
    wanted: int

    def extract(self, now_ns: int) -> npt.NDArray[np.float32]:
        """float32 (wanted, FEATURE_COUNT). Once: the rows move on. On any thread: the interpreter goes on."""
        out = np.empty((self.wanted, f.FEATURE_COUNT), dtype=np.float32)
        _in_order(self.rows, self.every, self.places, self.first, now_ns, out)
        return out


def lay_over(columns: Any, in_flight: Payments, payments: Payments) -> Overlay:
    """On the thread that may see the ledger's rows, with the interpreter's lock."""
    every = np.concatenate([in_flight, payments])
    size = TABLE_MIN
    while size < 4 * len(payments):
        size *= 2
    table = np.zeros((size, 2), dtype=np.int64)  # account, its row among the copies
    rows = np.empty((2 * len(payments) + 1, columns.shape[1]), dtype=np.int64)
    rows[_NOBODY] = 0
    places = np.empty((len(every), 2), dtype=np.int64)
    used = _copy_rows(columns, every, len(in_flight), table, rows, places)
    return Overlay(rows[:used], every, places, len(in_flight), int(np.count_nonzero(payments[:, KIND])))


def extract_in_order(columns: Any, in_flight: Payments, payments: Payments, now_ns: int) -> npt.NDArray[np.float32]:
    """float32 (n, FEATURE_COUNT) for those of `payments`, int64 (m, FIELDS), that have a kind, each after `in_flight`
    and those before it.

    `in_flight`, int64 (l, FIELDS): proposed and not yet applied. For the moment between a payment's apply and its
    answer it may be seen twice, which can only make it look busier."""
    return lay_over(columns, in_flight, payments).extract(now_ns)


@inlined
def _slot(table: Any, account: int) -> int:
    """Where an account stands in the table, or the free slot where it would."""
    mask = table.shape[0] - 1
    at = np.int64((np.uint64(account) * np.uint64(0x9E3779B97F4A7C15)) >> np.uint64(33)) & mask
    while table[at, 0] != 0 and table[at, 0] != account:
        at = (at + 1) & mask
    return at


@njit
def _copy_rows(columns: Any, every: Any, first: int, table: Any, rows: Any, places: Any) -> int:
    """Only the proposal's own accounts are copied: what is in flight between others changes nothing that is asked."""
    used = 1
    for i in range(first, every.shape[0]):
        for side in (PAYER, PAYEE):
            account = every[i, side]
            if every[i, PAYER] == 0:
                places[i, side] = _NOBODY
                continue
            at = _slot(table, account)
            if table[at, 0] == 0:
                table[at, 0], table[at, 1] = account, used
                for column in range(columns.shape[1]):
                    rows[used, column] = columns[account, column]
                used += 1
            places[i, side] = table[at, 1]
    for i in range(first):
        for side in (PAYER, PAYEE):
            at = _slot(table, every[i, side])
            places[i, side] = table[at, 1] if every[i, PAYER] != 0 and table[at, 0] != 0 else _NOBODY
    return used


@unlocked
def _in_order(rows: Any, payments: Any, places: Any, first: int, now_ns: int, out: Any) -> None:
    at = 0
    for i in range(payments.shape[0]):
        if places[i, PAYER] == _NOBODY and places[i, PAYEE] == _NOBODY:
            continue
        payer, payee = rows[places[i, PAYER]], rows[places[i, PAYEE]]
        payer_number, payee_number = payments[i, PAYER], payments[i, PAYEE]
        amount, kind = payments[i, AMOUNT], payments[i, KIND]
        if i >= first and kind != 0:
            f.extract_one(payer, payee, payer_number, payee_number, amount, kind, now_ns, out[at])
            at += 1
        f.note(payer, payee, payer_number, payee_number, amount, payments[i, CODE], now_ns)
        payer[f.D_PENDING] += min(amount, f.AMOUNT_MAX)
