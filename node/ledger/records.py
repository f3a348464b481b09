"""The packed records of the hot path: one numpy dtype each, the same bytes on the wire, in the log and on disk.

Everything is little-endian and a whole number of 64-bit words, so that the kernel can read a batch as a matrix of
words. Fields are only ever added out of the reserved bytes, which must be zero until then.

128-bit ids are stored as two words, low first. As LMDB keys they are big-endian (`id_keys`), so that time-ordered
ids (ULID) are appended in key order.
"""

from __future__ import annotations

from enum import IntFlag
from typing import Any

import numpy as np
import numpy.typing as npt

Records = npt.NDArray[Any]  # a structured array of one of the dtypes below
Words = npt.NDArray[np.uint64]  # the same bytes, shape (n, words), for the kernel

BATCH_TRANSFERS_MAX = 8_190  # transfers in one call and in one log entry; keeps an entry near 1 MiB
OFFSET_BITS = 16  # a reference is position << 16 | offset in the batch
AMOUNT_MINOR_MAX = (1 << 63) - 1

# --- one transfer, 128 bytes = 16 words -----------------------------------------------------------------------------
TRANSFER = np.dtype(
    [
        ("id_lo", "<u8"),  # word 0   client-chosen 128-bit id: the idempotency key, kept for ever
        ("id_hi", "<u8"),  # word 1
        ("debit_account", "<u8"),  # word 2   account numbers as the ledger gave them; 0 only with post and void
        ("credit_account", "<u8"),  # word 3
        ("amount_minor", "<i8"),  # word 4   > 0; 0 with POST or VOID means the whole pending amount
        ("pending_id_lo", "<u8"),  # word 5   with POST or VOID: the id of the pending transfer
        ("pending_id_hi", "<u8"),  # word 6
        ("group_id_lo", "<u8"),  # word 7   the payment that this transfer is a leg of, or the client's own grouping
        ("group_id_hi", "<u8"),  # word 8
        ("reference", "<u8"),  # word 9   the client's own number; the ledger only stores it
        ("timeout_s", "<u4"),  # word 10  with PENDING: seconds until it ends by itself; 0 = never
        ("ledger", "<u4"),  #          the currency: its ISO 4217 number (KES 404)
        ("code", "<u2"),  # word 11  what kind of transfer, TransferCode or the client's own; not 0
        ("flags", "<u2"),  #          TransferFlag
        ("scoring", "<u4"),  #          zero from clients; in an entry that says so, what the fraud check said (below)
        ("narrative", "V32"),  # words 12..15  UTF-8, NUL padded; the ledger only stores it
    ]
)
TRANSFER_WORDS = 16

# --- what the ledger decided, stored beside the transfer, 64 bytes = 8 words ------------------------------------------
# Balance = credits posted - debits posted. Available = balance - reserved debits (+ nothing for the overdraft).
OUTCOME = np.dtype(
    [
        ("status", "<u2"),  # word 0   Status
        ("flags", "<u2"),  #          OutcomeFlag
        ("reserved", "<u4"),
        ("debit_balance_minor", "<i8"),  # word 1   after this transfer; 0 when refused
        ("debit_available_minor", "<i8"),  # word 2
        ("credit_balance_minor", "<i8"),  # word 3
        ("credit_available_minor", "<i8"),  # word 4
        ("debit_previous", "<u8"),  # word 5   reference of the debit account's previous transfer, 0 = none
        ("credit_previous", "<u8"),  # word 6
        ("original", "<u8"),  # word 7   duplicate: reference of the first; post or void: of the pending transfer
    ]
)
OUTCOME_WORDS = 8

# --- what the client gets, 64 bytes = 8 words -------------------------------------------------------------------------
REPLY = np.dtype(
    [
        ("status", "<u2"),  # word 0
        ("flags", "<u2"),
        ("offset", "<u4"),  #          place in the batch at `position`
        ("position", "<u8"),  # word 1   commit index at which this outcome was decided (a duplicate: the first one)
        ("timestamp_ns", "<i8"),  # word 2   of that position, Unix time
        ("debit_balance_minor", "<i8"),  # word 3
        ("debit_available_minor", "<i8"),  # word 4
        ("credit_balance_minor", "<i8"),  # word 5
        ("credit_available_minor", "<i8"),  # word 6
        ("term", "<u8"),  # word 7   of the leader under whom this was answered (a duplicate: under whom it came again)
    ]
)
REPLY_WORDS = 8

# --- what a person did, stored beside its transfers, 128 bytes = 16 words ---------------------------------------------
PAYMENT = np.dtype(
    [
        ("id_lo", "<u8"),  # word 0   client-chosen payment id; legs have ids derived from it (leg_id)
        ("id_hi", "<u8"),  # word 1
        ("payer_account", "<u8"),  # word 2
        ("payee_account", "<u8"),  # word 3
        ("amount_minor", "<i8"),  # word 4   what the payee gets
        ("fee_minor", "<i8"),  # word 5   all the payer pays on top, excise included
        ("excise_minor", "<i8"),  # word 6   the tax within the fee
        ("content_hash", "<u8"),  # word 7   of what the person asked for: tells a retry from a reused id
        ("first_transfer", "<u4"),  # word 8   offset of the first leg in the entry's transfers
        ("kind", "<u2"),  #          PaymentKind
        ("legs", "<u2"),  #          0 when refused before any money moved
        ("status", "<u2"),  # word 9   PaymentStatus decided by the leader; OK = the legs decide
        ("decision", "u1"),  #          FraudDecision
        ("pin_verdict", "u1"),  #          PinVerdict
        ("score_ppm", "<u4"),  #          fraud probability in parts per million
        ("model_version", "<u4"),  # word 10  first 4 bytes of the model's sha256, 0 = not scored
        ("reason_1", "u1"),  #          feature number + 1 of the strongest reasons, 0 = none
        ("reason_2", "u1"),
        ("reason_3", "u1"),
        ("signer", "u1"),  #          whose PIN: 0 the payer's, 1 the payee's, 2 nobody's
        ("tariff_version", "<u4"),  # word 11  effective date as yyyymmdd
        ("ledger", "<u4"),
        ("reference", "V20"),  # words 12..14.5  bill account reference, UTF-8, NUL padded
        ("thresholds_version", "<u4"),  # of the document whose costs decided, 0 = the model's card
        ("reserved", "V8"),
    ]
)
PAYMENT_WORDS = 16


# --- word 11's high half, `scoring`, where the entry's header has HeaderFlag.SCORED: written by the leader alone
# bits 0..3    FraudDecision; SCORING_NOT_ZERO = the client's own word was not zero, and the transfer is refused for it
# bits 4..23   probability of fraud in parts per million, 0 where nothing was scored
# bits 24..31  the strongest reason: feature number + 1, or a rule (node/service/fraud_rules), 0 = none
# A transfer that is held has TransferFlag.PENDING and a time-out from the leader, too. Whether a record is the same as
# one before is judged by what the client sent: without this word, and without what a hold added (kernel.same_asked).
SCORING_DECISION_MASK = 0xF
SCORING_NOT_ZERO = 15
SCORING_PPM_SHIFT, SCORING_PPM_MASK = 4, 0xFFFFF
SCORING_REASON_SHIFT = 24


class TransferFlag(IntFlag):
    LINKED = 1  # this one and the next apply together or not at all
    PENDING = 2  # reserve; a later POST or VOID, or the time-out, ends it
    POST = 4  # move a pending transfer's money, all or part; the rest is released
    VOID = 8  # release a pending transfer


class OutcomeFlag(IntFlag):
    DUPLICATE = 1  # the same id with the same content came before: this is that first outcome
    HELD = 2  # the fraud check held it: the money is reserved, status OK here and HELD_FOR_REVIEW in replies


def transfers_from_bytes(packed: bytes | memoryview) -> Records:
    """View packed transfers without copying. Raises ValueError when the length is no multiple of 128."""
    if len(packed) % TRANSFER.itemsize:
        raise ValueError(f"packed transfers: {len(packed)} bytes is not a multiple of {TRANSFER.itemsize}")
    return np.frombuffer(packed, dtype=TRANSFER)


def id_keys(records: Records) -> bytes:
    """The ids of `records` as 16-byte big-endian keys, one after the other."""
    keys = np.empty((len(records), 2), dtype=">u8")
    keys[:, 0] = records["id_hi"]
    keys[:, 1] = records["id_lo"]
    return keys.tobytes()


def split_id(number: int) -> tuple[int, int]:
    """(low word, high word) of a 128-bit id."""
    return number & 0xFFFF_FFFF_FFFF_FFFF, number >> 64


def leg_id(payment_id: int, leg: int) -> int:
    """The transfer id of leg 0..15 of a payment. Leg 0 has the payment's own id; the others differ in the top four
    bits, which a ULID's clock does not reach before the year 6429, so ids of other payments are not met in practice,
    and when they are the ledger refuses the chain."""
    return payment_id ^ (leg << 124)


def reference_of(position: int, offset: int) -> int:
    return position << OFFSET_BITS | offset
