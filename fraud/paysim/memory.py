"""Bounded memory of accounts and of pairs: sets of eight places; when all eight are taken, whoever was seen longest ago
is forgotten. So a file of any size needs no more than this, and a small file touches little of it."""

from __future__ import annotations

from typing import Any

import numpy as np

from fraud.compiled import njit

WAYS = 8
ACCOUNT_SETS = 1 << 18  # two million accounts, about 2 GB when all are in use
PAIR_SETS = 1 << 19  # four million pairs, 160 MB


@njit
def find(keys: Any, seen: Any, key: int, now: int) -> int:
    """The place of `key`; negative = a new one, at ~place, whose former owner is forgotten."""
    sets = keys.shape[0] // WAYS
    mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    first = np.int64((mixed >> np.uint64(20)) & np.uint64(sets - 1)) * WAYS
    oldest: Any = first
    for at in range(first, first + WAYS):
        if keys[at] == key and seen[at] != 0:
            seen[at] = now
            return at
        if seen[at] < seen[oldest]:
            oldest = at
    keys[oldest] = key
    seen[oldest] = now
    return ~oldest


@njit
def peek(keys: Any, seen: Any, key: int) -> int:
    """The place of `key`, -1 = it is not remembered. Changes nothing."""
    sets = keys.shape[0] // WAYS
    mixed = np.uint64(key) * np.uint64(0x9E3779B97F4A7C15)
    first = np.int64((mixed >> np.uint64(20)) & np.uint64(sets - 1)) * WAYS
    for at in range(first, first + WAYS):
        if keys[at] == key and seen[at] != 0:
            return at
    return -1
