"""The packed forms of a transfer and of its reply, as documented in proto/kibubu/ledger/v1/ledger.proto.

The client's own definition, so that it needs nothing of a node; a test holds the two equal byte for byte.
"""

from __future__ import annotations

import struct
from typing import Any

import numpy as np
import numpy.typing as npt

BATCH_TRANSFERS_MAX = 8_190
LINKED, PENDING, POST, VOID = 1, 2, 4, 8
DUPLICATE, HELD = 1, 2  # in a reply's flags
HELD_FOR_REVIEW = 121  # a reply's status: the money is reserved, not moved; an analyst or a time-out ends it
REFUSED_BY_FRAUD_CHECK = 120

TRANSFER = np.dtype(
    [
        ("id_lo", "<u8"),
        ("id_hi", "<u8"),
        ("debit_account", "<u8"),
        ("credit_account", "<u8"),
        ("amount_minor", "<i8"),
        ("pending_id_lo", "<u8"),
        ("pending_id_hi", "<u8"),
        ("group_id_lo", "<u8"),
        ("group_id_hi", "<u8"),
        ("reference", "<u8"),
        ("timeout_s", "<u4"),
        ("ledger", "<u4"),
        ("code", "<u2"),
        ("flags", "<u2"),
        ("scoring", "<u4"),  # zero when sent; in an exported log what the fraud check said
        ("narrative", "V32"),
    ]
)
REPLY = np.dtype(
    [
        ("status", "<u2"),
        ("flags", "<u2"),
        ("offset", "<u4"),
        ("position", "<u8"),
        ("timestamp_ns", "<i8"),
        ("debit_balance_minor", "<i8"),
        ("debit_available_minor", "<i8"),
        ("credit_balance_minor", "<i8"),
        ("credit_available_minor", "<i8"),
        ("term", "<u8"),
    ]
)
_TRANSFER = struct.Struct("<QQQQqQQQQQIIHHI32s")
_FLAGS = struct.Struct("<H")
_FLAGS_AT = 90
_WORD_MAX = (1 << 64) - 1
Records = npt.NDArray[Any]


def pack_transfer(
    transfer_id: int,
    debit_account: int,
    credit_account: int,
    amount_minor: int,
    *,
    ledger: int,
    code: int,
    flags: int = 0,
    pending_id: int = 0,
    group_id: int = 0,
    reference: int = 0,
    timeout_s: int = 0,
    narrative: bytes = b"",
) -> bytes:
    """128 bytes. Raises struct.error for a number that does not fit its field, ValueError for a long narrative."""
    if len(narrative) > 32:
        raise ValueError(f"narrative: at most 32 bytes, is {len(narrative)}")
    return _TRANSFER.pack(
        transfer_id & _WORD_MAX, transfer_id >> 64, debit_account, credit_account, amount_minor,
        pending_id & _WORD_MAX, pending_id >> 64, group_id & _WORD_MAX, group_id >> 64, reference,
        timeout_s, ledger, code, flags, 0, narrative,
    )  # fmt: skip


def chain_is_open(packed: bytes) -> bool:
    """The last transfer says that the next one belongs to it."""
    flags: int = _FLAGS.unpack_from(packed, len(packed) - TRANSFER.itemsize + _FLAGS_AT)[0]
    return bool(flags & LINKED)


def replies_from_bytes(packed: bytes) -> Records:
    return np.frombuffer(packed, REPLY)
