"""Transfers of the raw ledger and the fraud check: which are scored and as what, and what a decision does to the
records. Pure, on the leader alone; what it writes is described in node/ledger/records.py.

A chain stands together: when one member is refused the ledger refuses all, and when one is held all are. A hold makes
a plain transfer pending. What cannot be held so, because the client reserves or ends a reservation itself and could
move the money without an analyst, is refused instead.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from node.ledger import features as f
from node.ledger import kernel as k
from node.ledger.columns import AccountKind
from node.ledger.compiled import inlined, njit
from node.ledger.history import Int64s
from node.ledger.overlay import AMOUNT, CODE, FIELDS, KIND, PAYEE, PAYER
from node.ledger.records import SCORING_PPM_SHIFT, SCORING_REASON_SHIFT, TRANSFER_WORDS, TransferFlag
from node.ledger.statuses import PaymentKind

SCORED_CODES_MAX = 64
_MASK_32 = 0xFFFFFFFF
_LINKED, _PENDING = int(TransferFlag.LINKED), int(TransferFlag.PENDING)
_ENDS = int(TransferFlag.POST | TransferFlag.VOID)
_CUSTOMER, _TILL, _PAYBILL = int(AccountKind.CUSTOMER), int(AccountKind.TILL), int(AccountKind.PAYBILL)
_TO_AIRTIME = int(AccountKind.AIRTIME)
_SEND, _PAY_TILL, _PAY_BILL = int(PaymentKind.SEND_MONEY), int(PaymentKind.PAY_TILL), int(PaymentKind.PAY_BILL)
_BUY_AIRTIME = int(PaymentKind.BUY_AIRTIME)
_HOLD, _HOLD_UNSCORED, _REFUSE, _NOT_ZERO = k.HOLD, k.HOLD_UNSCORED, k.REFUSE, k.NOT_ZERO


def words_of(packed: bytes | bytearray | memoryview) -> Int64s:
    """Packed transfers as the kernels see them, (n, 16); writable only where the bytes are."""
    return np.frombuffer(packed, np.int64).reshape(-1, TRANSFER_WORDS)


def payments_of(columns: Int64s, words: Int64s, codes: Int64s) -> tuple[Int64s, int]:
    """int64 (n, FIELDS) as node/ledger/overlay takes them, and how many of them are to be scored.

    Those are what customers send under one of `codes`. KIND 0 = seen by the features, not scored; PAYER 0 = not even
    seen, since the ledger will not note it."""
    payments = np.zeros((len(words), FIELDS), dtype=np.int64)
    return payments, int(_read(columns, words, codes, payments))


@njit
def _read(columns: Any, words: Any, codes: Any, payments: Any) -> int:
    scored, rows = 0, columns.shape[0]
    for i in range(words.shape[0]):
        packed = words[i, k.W_CODE_FLAGS]
        code, flags = packed & 0xFFFF, (packed >> 16) & 0xFFFF
        debit, credit, amount = words[i, k.DEBIT], words[i, k.CREDIT], words[i, k.AMOUNT]
        if flags & _ENDS or amount <= 0 or debit == credit or f.is_bookkeeping(code):
            continue
        if debit <= 0 or debit >= rows or credit <= 0 or credit >= rows:
            continue
        if columns[debit, k.LEDGER] == 0 or columns[credit, k.LEDGER] == 0:
            continue
        payments[i, PAYER], payments[i, PAYEE], payments[i, AMOUNT], payments[i, CODE] = debit, credit, amount, code
        if columns[debit, f.KIND] == _CUSTOMER and _is_listed(codes, code):
            payments[i, KIND] = _kind(code, columns[credit, f.KIND])
            scored += 1
    return scored


@inlined
def _is_listed(codes: Any, code: int) -> bool:
    found = False
    for j in range(codes.shape[0]):
        found |= codes[j] == code
    return found


@inlined
def _kind(code: int, payee_kind: int) -> int:
    """As which payment the model sees it."""
    if code == f.AIRTIME or payee_kind == _TO_AIRTIME:
        return _BUY_AIRTIME
    if payee_kind == _TILL:
        return _PAY_TILL
    return _PAY_BILL if payee_kind == _PAYBILL else _SEND


@njit
def write_decisions(words: Any, payments: Any, decisions: Any, scores_ppm: Any, reasons: Any, timeout_s: int) -> None:
    """Write what was decided of the scored transfers, in their order, into the records, and let holds and refusals
    have their effect on chains. `timeout_s`: of what is held. In `payments`, what is refused is no longer in flight."""
    n, at, start = words.shape[0], 0, 0
    while start < n:
        end, holds, refusals, holdable = start, 0, 0, True
        while True:
            flags = (words[end, k.W_CODE_FLAGS] >> 16) & 0xFFFF
            _write_one(words, payments, end, at, decisions, scores_ppm, reasons)
            if payments[end, KIND] != 0:
                holds += decisions[at] in (_HOLD, _HOLD_UNSCORED)
                refusals += decisions[at] == _REFUSE
                at += 1
            holdable &= flags & (_PENDING | _ENDS) == 0 and words[end, k.W_TIMEOUT_LEDGER] & _MASK_32 == 0
            end += 1
            if end == n or not flags & _LINKED:
                break
        if holds and not refusals:
            refusals = _hold_chain(words, start, end, holdable, timeout_s)
        if refusals:
            for i in range(start, end):
                payments[i, PAYER] = 0
        start = end


@inlined
def _write_one(words: Any, payments: Any, i: int, at: int, decisions: Any, scores_ppm: Any, reasons: Any) -> None:
    packed = words[i, k.W_CODE_FLAGS]
    scoring = np.int64(0)
    if packed >> 32 != 0:
        scoring = np.int64(_NOT_ZERO)
    elif payments[i, KIND] != 0:
        scoring = np.int64(decisions[at]) | np.int64(scores_ppm[at]) << SCORING_PPM_SHIFT
        scoring |= np.int64(reasons[at]) << SCORING_REASON_SHIFT
    words[i, k.W_CODE_FLAGS] = (packed & _MASK_32) | scoring << 32


@njit
def _hold_chain(words: Any, start: int, end: int, holdable: bool, timeout_s: int) -> int:
    """Returns 1 when the chain is refused instead."""
    for i in range(start, end):
        packed = words[i, k.W_CODE_FLAGS]
        decision = (packed >> 32) & k.DECISION_MASK
        held = decision in (_HOLD, _HOLD_UNSCORED)
        if not holdable:
            if held:
                words[i, k.W_CODE_FLAGS] = (packed & ~(k.DECISION_MASK << 32)) | _REFUSE << 32
            continue
        if decision == _NOT_ZERO:
            continue
        if not held:
            packed = (packed & ~(k.DECISION_MASK << 32)) | _HOLD << 32
        words[i, k.W_CODE_FLAGS] = packed | _PENDING << 16
        words[i, k.W_TIMEOUT_LEDGER] |= timeout_s
    return 0 if holdable else 1
