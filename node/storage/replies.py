"""Stored outcomes as what callers see."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from node.ledger.history import AppliedBatch, Int64s
from node.ledger.records import OFFSET_BITS, OUTCOME, REPLY, REPLY_WORDS, OutcomeFlag, Records
from node.ledger.statuses import Status
from node.storage.batch_codec import OpenBatch

_DUPLICATE, _HELD = int(OutcomeFlag.DUPLICATE), int(OutcomeFlag.HELD)
_HELD_FOR_REVIEW = int(Status.HELD_FOR_REVIEW)


@dataclass(frozen=True, slots=True)
class StoredTransfer:
    record: Records  # one TRANSFER, accounts filled in for a post or void
    outcome: Records  # one OUTCOME
    position: int
    offset: int
    timestamp_ns: int


@dataclass(frozen=True, slots=True)
class StoredPayment:
    record: Records  # one PAYMENT
    legs: Records  # REPLY, one for each leg
    transfers: Records  # TRANSFER, the same legs
    position: int
    offset: int  # among the payments of its entry
    timestamp_ns: int


def replies_of(batch: AppliedBatch, first: int = 0, count: int | None = None, *, term: int = 0) -> Records:
    """REPLY records of a batch, or of some of it; a duplicate says where and when the first was decided. The term is
    that of the log's entry, which is known when it is applied and not stored: 0 later. What was held says so in its
    status: whoever looks at nothing else must not take it for moved."""
    outcomes = batch.outcomes[first:] if count is None else batch.outcomes[first : first + count]
    n = len(outcomes)
    words = np.zeros((n, REPLY_WORDS), dtype=np.int64)
    words[:, 0] = (outcomes[:, 0] & 0xFFFFFFFF) | np.arange(first, first + n, dtype=np.int64) << 32
    words[:, 1] = batch.position
    words[:, 2] = batch.timestamp_ns
    words[:, 3:7] = outcomes[:, 1:5]
    words[:, 7] = term
    for i in np.flatnonzero(outcomes[:, 0] >> 16 & _DUPLICATE).tolist():
        reference = int(outcomes[i, 7])
        words[i, 0] = (int(outcomes[i, 0]) & 0xFFFFFFFF) | (reference & ((1 << OFFSET_BITS) - 1)) << 32
        words[i, 1] = reference >> OFFSET_BITS
        words[i, 2] = batch.first_timestamps_ns.get(reference, batch.timestamp_ns)
    words[(outcomes[:, 0] >> 16 & _HELD) != 0, 0] |= _HELD_FOR_REVIEW
    return words.view(REPLY).reshape(-1)


def is_applied(outcome: Int64s) -> bool:
    """It moved or reserved money or ended a reservation, and was not merely told again; 8 words of an outcome."""
    return not int(outcome[0]) & (0xFFFF | _DUPLICATE << 16)


def stored_transfer(opened: OpenBatch, offset: int) -> StoredTransfer:
    record = opened.entry.transfers[offset : offset + 1].copy()[0]
    outcome = opened.batch.outcomes[offset : offset + 1].copy().view(OUTCOME).reshape(-1)[0]
    return StoredTransfer(record, outcome, opened.batch.position, offset, opened.batch.timestamp_ns)


def stored_payment(opened: OpenBatch, offset: int) -> StoredPayment:
    record = opened.entry.payments[offset : offset + 1].copy()[0]
    first, legs = int(record["first_transfer"]), int(record["legs"])
    transfers = opened.entry.transfers[first : first + legs].copy()
    replies = replies_of(opened.batch, first, legs)
    return StoredPayment(record, replies, transfers, opened.batch.position, offset, opened.batch.timestamp_ns)
