"""Hash tables of 128-bit ids for the kernel: open addressing, linear probing, power-of-two capacity, never deleted
from. The caller keeps them at most half full (`grown`, `rebuilt`), so that a probe always ends."""

from __future__ import annotations

from typing import Any

import numpy as np

from node.ledger.compiled import njit

ID_TABLE_MIN = 1 << 12
PENDING_TABLE_MIN = 1 << 8


@njit
def _slot(lo: int, hi: int, mask: int) -> int:
    x = np.uint64(lo) ^ (np.uint64(hi) * np.uint64(0x9E3779B97F4A7C15))
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.int64((x ^ (x >> np.uint64(31))) & np.uint64(0x7FFFFFFFFFFFFFFF)) & mask


@njit
def find_id(ids: Any, refs: Any, lo: int, hi: int) -> int:
    """The reference stored for an id, 0 = none."""
    mask = ids.shape[0] - 1
    at = _slot(lo, hi, mask)
    while refs[at] != 0:
        if ids[at, 0] == lo and ids[at, 1] == hi:
            return refs[at]
        at = (at + 1) & mask
    return np.int64(0)


@njit
def insert_id(ids: Any, refs: Any, lo: int, hi: int, ref: int) -> None:
    """Add an id that is not there yet."""
    mask = ids.shape[0] - 1
    at = _slot(lo, hi, mask)
    while refs[at] != 0:
        at = (at + 1) & mask
    ids[at, 0] = lo
    ids[at, 1] = hi
    refs[at] = ref


@njit
def copy_ids(old_ids: Any, old_refs: Any, ids: Any, refs: Any) -> None:
    for at in range(old_ids.shape[0]):
        if old_refs[at] != 0:
            insert_id(ids, refs, old_ids[at, 0], old_ids[at, 1], old_refs[at])


@njit
def find_pending(keys: Any, rows: Any, lo: int, hi: int) -> int:
    """The row of a pending transfer's id, -1 = none. Field 0 of a row is its state, 0 = the slot is free."""
    mask = keys.shape[0] - 1
    at = _slot(lo, hi, mask)
    while rows[at, 0] != 0:
        if keys[at, 0] == lo and keys[at, 1] == hi:
            return at
        at = (at + 1) & mask
    return np.int64(-1)


@njit
def insert_pending(keys: Any, rows: Any, lo: int, hi: int) -> int:
    """A free row for an id that is not there yet; the caller sets its state."""
    mask = keys.shape[0] - 1
    at = _slot(lo, hi, mask)
    while rows[at, 0] != 0:
        at = (at + 1) & mask
    keys[at, 0] = lo
    keys[at, 1] = hi
    return at


@njit
def copy_pending(old_keys: Any, old_rows: Any, keys: Any, rows: Any, keep_state: int) -> int:
    """Copy the rows of one state; returns how many."""
    kept = 0
    for at in range(old_keys.shape[0]):
        if old_rows[at, 0] == keep_state:
            to = insert_pending(keys, rows, old_keys[at, 0], old_keys[at, 1])
            for field in range(rows.shape[1]):
                rows[to, field] = old_rows[at, field]
            kept += 1
    return kept


class IdTable:
    """Ids and where they were first decided, since a checkpoint."""

    def __init__(self, capacity: int = ID_TABLE_MIN) -> None:
        self.ids = np.zeros((capacity, 2), dtype=np.int64)
        self.refs = np.zeros(capacity, dtype=np.int64)
        self.count = 0

    def reserve(self, more: int) -> None:
        """Make room for `more` ids."""
        capacity = len(self.refs)
        if (self.count + more) * 2 <= capacity:
            return
        while (self.count + more) * 2 > capacity:
            capacity *= 2
        ids, refs = np.zeros((capacity, 2), dtype=np.int64), np.zeros(capacity, dtype=np.int64)
        copy_ids(self.ids, self.refs, ids, refs)
        self.ids, self.refs = ids, refs

    def find(self, lo: int, hi: int) -> int:
        return int(find_id(self.ids, self.refs, np.int64(_signed(lo)), np.int64(_signed(hi))))


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


def signed_words(number: int) -> tuple[np.int64, np.int64]:
    """(low, high) word of a 128-bit id as the kernel sees them."""
    return np.int64(_signed(number & 0xFFFF_FFFF_FFFF_FFFF)), np.int64(_signed(number >> 64))
