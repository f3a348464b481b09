"""A stored batch: one value per position, holding the entry as it was logged and all that came of it."""

from __future__ import annotations

import struct
from dataclasses import dataclass

import numpy as np

from node.ledger.entry import Entry, decode_entry
from node.ledger.history import AppliedBatch, BrokenHistoryError, FirstSeen, Int64s
from node.ledger.records import OUTCOME, OUTCOME_WORDS, TRANSFER_WORDS, Records

_HEADER = struct.Struct("<HHIqqII32s")  # version, zero, expired, position, timestamp_ns, entry bytes, outcomes, hash
_VERSION = 1


def encode_batch(batch: AppliedBatch) -> bytes:
    header = _HEADER.pack(
        _VERSION, 0, len(batch.expired), batch.position, batch.timestamp_ns, len(batch.entry), len(batch.outcomes),
        batch.chain_hash,
    )  # fmt: skip
    expired = np.array(batch.expired, dtype="<i8").tobytes()
    return b"".join((header, batch.entry, batch.outcomes.tobytes(), expired))


def decode_batch(value: bytes) -> AppliedBatch:
    """Raises BrokenHistoryError when lengths do not fit; the content is proven by the hash chain.

    A view of LMDB's memory does for the bytes, as long as its transaction lives."""
    if len(value) < _HEADER.size:
        raise BrokenHistoryError(f"stored batch of {len(value)} bytes is shorter than its header")
    version, zero, n_expired, position, timestamp_ns, entry_bytes, n, chain = _HEADER.unpack_from(value)
    outcomes_at = _HEADER.size + entry_bytes
    expired_at = outcomes_at + n * OUTCOME.itemsize
    if version != _VERSION or zero or len(value) != expired_at + n_expired * 8:
        raise BrokenHistoryError(f"stored batch at {position} does not fit its own lengths")
    outcomes = np.frombuffer(value, np.int64, n * OUTCOME_WORDS, outcomes_at).reshape(n, OUTCOME_WORDS)
    expired = tuple(np.frombuffer(value, "<i8", n_expired, expired_at).tolist())
    return AppliedBatch(position, timestamp_ns, value[_HEADER.size : outcomes_at], outcomes, expired, chain)


def chain_hash_of(value: bytes) -> bytes:
    """The chain hash out of a stored batch, without decoding the rest."""
    chain: bytes = _HEADER.unpack_from(value)[7]
    return chain


@dataclass(frozen=True, slots=True)
class OpenBatch:
    """A batch with its entry decoded, for lookups."""

    batch: AppliedBatch
    entry: Entry

    def words(self, offset: int) -> Int64s:
        row: Int64s = self.entry.transfers[offset : offset + 1].copy().view(np.int64).reshape(TRANSFER_WORDS)
        return row

    def outcome_records(self) -> Records:
        return np.ascontiguousarray(self.batch.outcomes).view(OUTCOME).reshape(-1)


def first_seen_in(opened: OpenBatch, offset: int) -> FirstSeen:
    """A copy of one transfer and its outcome."""
    outcome, timestamp_ns = opened.batch.outcomes[offset].copy(), opened.batch.timestamp_ns
    return FirstSeen(opened.words(offset), outcome, timestamp_ns, opened.entry.scored)


def open_batch(batch: AppliedBatch) -> OpenBatch:
    if not batch.entry:
        raise BrokenHistoryError(f"the entry at {batch.position} is a no-op and holds no transfers")
    return OpenBatch(batch, decode_entry(batch.entry))
