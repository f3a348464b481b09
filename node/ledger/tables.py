"""Hash tables of 128-bit ids for the kernel: open addressing, linear probing, power-of-two capacity, never deleted
from. The caller keeps them at most half full (`grown`, `rebuilt`), so that a probe always ends."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from node.ledger.compiled import inlined, njit

Int64s = npt.NDArray[np.int64]

ID_TABLE_MIN = 1 << 12
PENDING_TABLE_MIN = 1 << 8


@inlined
def _mixed(lo: int, hi: int) -> int:
    x = np.uint64(lo) ^ (np.uint64(hi) * np.uint64(0x9E3779B97F4A7C15))
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@inlined
def _slot(lo: int, hi: int, mask: int) -> int:
    return np.int64(_mixed(lo, hi) & np.uint64(0x7FFFFFFFFFFFFFFF)) & mask


@inlined
def _is_above(lo: int, hi: int, top: Any) -> bool:
    """Greater than the greatest id so far: with ids that grow with time, nothing needs to be looked for."""
    if hi != top[1]:
        return np.uint64(hi) > np.uint64(top[1])
    return np.uint64(lo) > np.uint64(top[0])


@njit
def find_id(slots: Any, ids: Any, refs: Any, top: Any, lo: int, hi: int) -> int:
    """The reference stored for an id, 0 = none."""
    if _is_above(lo, hi, top):
        return np.int64(0)
    mask = slots.shape[0] - 1
    x = _mixed(lo, hi)
    mark, at = np.int64(x >> np.uint64(33)), np.int64(x & np.uint64(0x7FFFFFFF)) & mask
    while slots[at] != 0:
        if slots[at] >> 32 == mark:
            row = (slots[at] & 0xFFFFFFFF) - 1
            if ids[row, 0] == lo and ids[row, 1] == hi:
                return refs[row]
        at = (at + 1) & mask
    return np.int64(0)


@njit
def find_ids(slots: Any, ids: Any, refs: Any, top: Any, words: Any, out: Any) -> int:
    """Fill `out[i]` where it is 0 with the reference of transfer i's id; returns how many are still 0."""
    missing = 0
    for i in range(words.shape[0]):
        if out[i] == 0:
            out[i] = find_id(slots, ids, refs, top, words[i, 0], words[i, 1])
            if out[i] == 0:
                missing += 1
    return missing


@njit
def note_ids(slots: Any, ids: Any, refs: Any, top: Any, count: int, words: Any, position: int, known: Any) -> int:
    """Record the id of each transfer of a batch that is new; where it is not, `known` (0 on entry = not in earlier
    history) becomes the reference of its first appearance. Zero and all ones are no ids. Returns the new count."""
    mask = slots.shape[0] - 1
    for i in range(words.shape[0]):
        lo, hi = words[i, 0], words[i, 1]
        if known[i] != 0 or (lo == 0 and hi == 0) or (lo == -1 and hi == -1):
            continue
        known[i] = find_id(slots, ids, refs, top, lo, hi)
        if known[i] != 0:
            continue
        x = _mixed(lo, hi)
        mark, at = np.int64(x >> np.uint64(33)), np.int64(x & np.uint64(0x7FFFFFFF)) & mask
        while slots[at] != 0:
            at = (at + 1) & mask
        ids[count, 0], ids[count, 1], refs[count] = lo, hi, (position << 16) | i
        count += 1
        slots[at] = (mark << 32) | count
        if _is_above(lo, hi, top):
            top[0], top[1] = lo, hi
    return count


@njit
def _fill_slots(slots: Any, ids: Any, count: int) -> None:
    mask = slots.shape[0] - 1
    for row in range(count):
        x = _mixed(ids[row, 0], ids[row, 1])
        mark, at = np.int64(x >> np.uint64(33)), np.int64(x & np.uint64(0x7FFFFFFF)) & mask
        while slots[at] != 0:
            at = (at + 1) & mask
        slots[at] = (mark << 32) | (row + 1)


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
    """Ids and where they were first decided, since a checkpoint, in the order of their coming.

    A slot holds 31 bits of the id's hash and its row + 1, so that a probe touches one word where the id is not there.
    """

    def __init__(self, capacity: int = ID_TABLE_MIN) -> None:
        self.slots = np.zeros(capacity, dtype=np.int64)
        self.ids = np.zeros((capacity // 2, 2), dtype=np.int64)
        self.refs = np.zeros(capacity // 2, dtype=np.int64)
        self.top = np.zeros(2, dtype=np.int64)  # the greatest id so far, low and high word
        self.count = 0

    def successor(self) -> IdTable:
        """An empty table, as large as this one proved to be needed."""
        capacity = ID_TABLE_MIN
        while capacity < 2 * self.count:
            capacity *= 2
        return IdTable(capacity)

    def reserve(self, more: int) -> None:
        """Make room for `more` ids."""
        capacity = len(self.slots)
        if (self.count + more) * 2 <= capacity:
            return
        while (self.count + more) * 2 > capacity:
            capacity *= 2
        ids, refs = np.zeros((capacity // 2, 2), dtype=np.int64), np.zeros(capacity // 2, dtype=np.int64)
        ids[: self.count], refs[: self.count] = self.ids[: self.count], self.refs[: self.count]
        slots = np.zeros(capacity, dtype=np.int64)
        _fill_slots(slots, ids, self.count)
        self.slots, self.ids, self.refs = slots, ids, refs

    def note(self, words: Int64s, position: int, known: Int64s) -> Int64s:
        """Record the new ids of a batch (see note_ids); returns the offsets of what was recorded."""
        self.reserve(len(words))
        before = self.count
        self.count = int(note_ids(self.slots, self.ids, self.refs, self.top, before, words, position, known))
        return self.refs[before : self.count] & 0xFFFF

    def find_ids(self, words: Int64s, out: Int64s) -> int:
        return int(find_ids(self.slots, self.ids, self.refs, self.top, words, out))

    def recorded(self) -> tuple[Int64s, Int64s]:
        """(ids, references), in the order of their coming."""
        return self.ids[: self.count], self.refs[: self.count]

    def find(self, lo: int, hi: int) -> int:
        return int(find_id(self.slots, self.ids, self.refs, self.top, np.int64(_signed(lo)), np.int64(_signed(hi))))


def _signed(word: int) -> int:
    return word - (1 << 64) if word >> 63 else word


def signed_words(number: int) -> tuple[np.int64, np.int64]:
    """(low, high) word of a 128-bit id as the kernel sees them."""
    return np.int64(_signed(number & 0xFFFF_FFFF_FFFF_FFFF)), np.int64(_signed(number >> 64))
