"""Features of a whole proposal, in order: each payment is seen with the ones before it, which the ledger has not yet
applied. Five drains towards one account in one batch do not look like five first ones.

The accounts in question are copied, and the copies are updated by the ledger's own code; the ledger's rows stay as
they are. What is seen of a payment in flight is what the ledger will do with it: the features, and the money reserved.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from node.ledger import features as f
from node.ledger.compiled import njit
from node.ledger.statuses import PaymentKind, TransferCode

PAYER, PAYEE, AMOUNT, KIND = range(4)  # the fields of a payment here
FIELDS = 4
BUY_AIRTIME = int(PaymentKind.BUY_AIRTIME)
PRINCIPAL, AIRTIME = int(TransferCode.PRINCIPAL), int(TransferCode.AIRTIME)

Payments = npt.NDArray[np.int64]


def extract_in_order(columns: Any, in_flight: Payments, payments: Payments, now_ns: int) -> npt.NDArray[np.float32]:
    """float32 (n, FEATURE_COUNT) for `payments`, int64 (n, FIELDS), each after `in_flight` and those before it.

    `in_flight`, int64 (m, FIELDS): decided, proposed and not yet applied. For the moment between a payment's apply and
    its answer it may be seen twice, which can only make it look busier."""
    every = np.concatenate([in_flight, payments])
    accounts, places = np.unique(every[:, : PAYEE + 1], return_inverse=True)
    rows = np.ascontiguousarray(columns[accounts])
    out = np.empty((len(payments), f.FEATURE_COUNT), dtype=np.float32)
    _in_order(rows, every, places.reshape(-1, 2), len(in_flight), now_ns, out)
    return out


@njit
def _in_order(rows: Any, payments: Any, places: Any, first: int, now_ns: int, out: Any) -> None:
    for i in range(payments.shape[0]):
        payer, payee = rows[places[i, PAYER]], rows[places[i, PAYEE]]
        payer_number, payee_number = payments[i, PAYER], payments[i, PAYEE]
        amount, kind = payments[i, AMOUNT], payments[i, KIND]
        if i >= first:
            f.extract_one(payer, payee, payer_number, payee_number, amount, kind, now_ns, out[i - first])
        code = AIRTIME if kind == BUY_AIRTIME else PRINCIPAL
        f.note(payer, payee, payer_number, payee_number, amount, code, now_ns)
        payer[f.D_PENDING] += min(amount, f.AMOUNT_MAX)
