"""What the checker takes: the clients' operations and reads, and the log of each node, as arrays.

Every time is nanoseconds of one process's monotonic clock; times of nodes (`timestamp_ns`) are never compared with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

import numpy as np
import numpy.typing as npt

Records = npt.NDArray[Any]  # a structured array of one of the dtypes below
NEVER_NS = (1 << 63) - 1  # completion of what was not answered

_TRANSFER: list[tuple[str, str]] = [
    ("id_hi", "<u8"),
    ("id_lo", "<u8"),
    ("debit_account", "<u8"),
    ("credit_account", "<u8"),
    ("amount_minor", "<i8"),
    ("pending_id_hi", "<u8"),
    ("pending_id_lo", "<u8"),
    ("flags", "<u2"),
    ("timeout_s", "<u4"),
]
_RESULT: list[tuple[str, str]] = [
    ("status", "<u2"),
    ("position", "<u8"),
    ("offset", "<u4"),
    ("timestamp_ns", "<i8"),
    ("debit_balance_minor", "<i8"),
    ("debit_available_minor", "<i8"),
    ("credit_balance_minor", "<i8"),
    ("credit_available_minor", "<i8"),
]
CONTENT = tuple(name for name, _ in _TRANSFER[2:])
RESULT = tuple(name for name, _ in _RESULT)
BALANCES = RESULT[4:]

# One attempt of a client to make one transfer; a retry is another row with the same id. The result is zero when there
# was no answer. `term`: of the leader that answered; `repeated`: the answer is an older one, given again.
OPERATION = np.dtype(
    [
        *_TRANSFER,
        *_RESULT,
        ("term", "<u8"),
        ("repeated", "u1"),
        ("outcome", "u1"),
        ("invoked_ns", "<i8"),
        ("completed_ns", "<i8"),
    ]
)

# One transfer as a node has it, in any order. Flags and time-out are the client's; `decision` is the leader's, which
# makes a transfer wait or refuses it: FraudDecision, 0 = the fraud check did not look at it.
LOGGED = np.dtype([*_TRANSFER, *_RESULT, ("decision", "u1")])

# A pending transfer that timed out: where, when, and the place of the pending one.
EXPIRED = np.dtype(
    [("position", "<u8"), ("timestamp_ns", "<i8"), ("pending_position", "<u8"), ("pending_offset", "<u4")]
)

# One answered linearizable read of an account. `version`: the position of its newest transfer.
READ = np.dtype(
    [
        ("account", "<u8"),
        ("as_of_position", "<u8"),
        ("balance_minor", "<i8"),
        ("available_minor", "<i8"),
        ("version", "<u8"),
        ("term", "<u8"),
        ("invoked_ns", "<i8"),
        ("completed_ns", "<i8"),
    ]
)


class Outcome(IntEnum):
    ACKNOWLEDGED = 0
    NOT_APPLIED = 1  # the client was told that it surely did not happen
    UNKNOWN = 2


@dataclass(slots=True)
class Evidence:
    """All that one judgement rests on."""

    operations: Records  # OPERATION
    reads: Records  # READ
    logs: Mapping[str, Records]  # node: LOGGED, everything from the first position on
    repeats: Mapping[str, Records] = field(default_factory=dict)  # node: LOGGED, what had been decided before
    expired: Mapping[str, Records] = field(default_factory=dict)  # node: EXPIRED, in the order in which it happened
    opening_minor: Mapping[int, int] = field(default_factory=dict)  # account: before the first operation
    final_balances_minor: Mapping[int, int] = field(default_factory=dict)  # account: read after everything was over
    aside_minor: int = 0  # what all accounts have together whose transfers among themselves are left out of the logs
    guarded: frozenset[int] = frozenset()  # accounts whose debits must not exceed their credits
    own_accounts: frozenset[int] = frozenset()  # nobody but the clients moves money of these; none = of all accounts


def order_of(records: Records) -> npt.NDArray[np.int64]:
    """The place in the ledger's one order: position, then place in the batch."""
    order: npt.NDArray[np.int64] = records["position"].astype(np.int64) << 16 | records["offset"].astype(np.int64)
    return order


def id_at(records: Records, row: int) -> int:
    return int(records["id_hi"][row]) << 64 | int(records["id_lo"][row])
