"""The compiled loops of the index of ids: rows of two int64 words, low first, which compare as unsigned numbers."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

from node.ledger.compiled import inlined, njit, unlocked

FILTER_BLOCK_WORDS = 8  # a cache line
_PROBES = 6


@inlined
def _is_less(lo: int, hi: int, other_lo: int, other_hi: int) -> bool:
    if hi != other_hi:
        return np.uint64(hi) < np.uint64(other_hi)
    return np.uint64(lo) < np.uint64(other_lo)


@inlined
def _mixed(lo: int, hi: int) -> int:
    x = (np.uint64(lo) + np.uint64(0x9E3779B97F4A7C15)) ^ (np.uint64(hi) * np.uint64(0xD6E8FEB86659FD93))
    x = (x ^ (x >> np.uint64(32))) * np.uint64(0xD6E8FEB86659FD93)
    x = (x ^ (x >> np.uint64(29))) * np.uint64(0xBF58476D1CE4E5B9)
    return x ^ (x >> np.uint64(32))


@unlocked
def fill_filter(words: Any, ids: Any) -> None:
    """Note ids in a filter of whole blocks: one block and six bits of it for each id."""
    blocks = np.uint64(words.shape[0] // FILTER_BLOCK_WORDS)
    for i in range(ids.shape[0]):
        x = _mixed(ids[i, 0], ids[i, 1])
        at = np.int64((x >> np.uint64(20)) % blocks) * FILTER_BLOCK_WORDS
        y = x * np.uint64(0x9E3779B97F4A7C15)
        for _ in range(_PROBES):
            bit = y >> np.uint64(55)
            words[at + np.int64(bit >> np.uint64(6))] |= np.uint64(1) << (bit & np.uint64(63))
            y = y << np.uint64(9)


@njit
def _may_have(words: Any, lo: int, hi: int) -> bool:
    blocks = np.uint64(words.shape[0] // FILTER_BLOCK_WORDS)
    x = _mixed(lo, hi)
    at = np.int64((x >> np.uint64(20)) % blocks) * FILTER_BLOCK_WORDS
    y = x * np.uint64(0x9E3779B97F4A7C15)
    for _ in range(_PROBES):
        bit = y >> np.uint64(55)
        if words[at + np.int64(bit >> np.uint64(6))] >> (bit & np.uint64(63)) & np.uint64(1) == 0:
            return False
        y = y << np.uint64(9)
    return True


@njit
def candidates(bounds: Any, filter_words: Any, words: Any, out: Any, where: Any) -> int:
    """Offsets, into `where`, of the ids that are not found yet and that this run may have; returns how many."""
    count = 0
    for i in range(words.shape[0]):
        lo, hi = words[i, 0], words[i, 1]
        if out[i] != 0 or _is_less(bounds[1, 0], bounds[1, 1], lo, hi) or _is_less(lo, hi, bounds[0, 0], bounds[0, 1]):
            continue
        if _may_have(filter_words, lo, hi):
            where[count] = i
            count += 1
    return count


@njit
def chunk_of(fences: Any, lo: int, hi: int) -> int:
    """The last chunk whose first id is not above this one; 0 when there is none."""
    low, high = 0, fences.shape[0]
    while high - low > 1:
        middle = (low + high) // 2
        if _is_less(lo, hi, fences[middle, 0], fences[middle, 1]):
            high = middle
        else:
            low = middle
    return low


@njit
def search_chunk(ids: Any, refs: Any, words: Any, wanted: Any, out: Any) -> None:
    """Fill `out` for the transfers `wanted` whose ids are in this chunk."""
    for k in range(wanted.shape[0]):
        i = wanted[k]
        lo, hi = words[i, 0], words[i, 1]
        at = chunk_of(ids, lo, hi)
        if ids[at, 0] == lo and ids[at, 1] == hi:
            out[i] = refs[at]


@unlocked
def is_sorted(ids: Any) -> bool:
    for i in range(1, ids.shape[0]):  # noqa: SIM110 - a generator is no business of a compiled kernel
        if not _is_less(ids[i - 1, 0], ids[i - 1, 1], ids[i, 0], ids[i, 1]):
            return False
    return True


@numba.njit(cache=True, nogil=True)
def merge_two(ids_a: Any, refs_a: Any, ids_b: Any, refs_b: Any) -> Any:
    """Two sorted runs as one."""
    n_a, n_b = refs_a.shape[0], refs_b.shape[0]
    ids, refs = np.empty((n_a + n_b, 2), dtype=np.int64), np.empty(n_a + n_b, dtype=np.int64)
    a = b = 0
    for at in range(n_a + n_b):
        take_a = b == n_b or (a < n_a and _is_less(ids_a[a, 0], ids_a[a, 1], ids_b[b, 0], ids_b[b, 1]))
        if take_a:
            ids[at, 0], ids[at, 1], refs[at] = ids_a[a, 0], ids_a[a, 1], refs_a[a]
            a += 1
        else:
            ids[at, 0], ids[at, 1], refs[at] = ids_b[b, 0], ids_b[b, 1], refs_b[b]
            b += 1
    return ids, refs
