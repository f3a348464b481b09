"""A hash of all account rows that costs only what changed: the sum of a digest of each row, so that nodes can compare
their states at agreed positions while they run. It finds a node that went another way; against a forger stands the
hash chain.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from node.ledger.compiled import inlined, njit
from node.ledger.history import Int64s

LANES = 2  # 64 bits each


@inlined
def _stirred(x: Any) -> Any:
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return x ^ (x >> np.uint64(31))


@inlined
def _digest_row(row: Any, number: int, out: Any) -> None:
    a = _stirred(np.uint64(number) + np.uint64(0x9E3779B97F4A7C15))
    b = _stirred(np.uint64(number) ^ np.uint64(0xD1B54A32D192ED03))
    for at in range(row.shape[0]):
        word = np.uint64(row[at])
        a = (a ^ word) * np.uint64(0x9FB21C651E98DF25)
        a ^= a >> np.uint64(29)
        b = (b + word) * np.uint64(0xC2B2AE3D27D4EB4F)
        b ^= b >> np.uint64(32)
    out[0], out[1] = np.int64(_stirred(a)), np.int64(_stirred(b))


@njit
def rehash_rows(rows: Any, numbers: Any, digests: Any, total: Any) -> None:
    """Of each row in `numbers` the digest anew, and in `total` its difference to the old one."""
    for i in range(numbers.shape[0]):
        number = numbers[i]
        digest = digests[number]
        total[0] -= digest[0]
        total[1] -= digest[1]
        _digest_row(rows[number], number, digest)
        total[0] += digest[0]
        total[1] += digest[1]


@njit
def add_rows(rows: Any, numbers: Any, digest: Any, total: Any) -> None:
    """The same for rows without a place of their own: only what they hold counts. `digest` is scratch."""
    for i in range(numbers.shape[0]):
        _digest_row(rows[numbers[i]], 0, digest)
        total[0] += digest[0]
        total[1] += digest[1]


class StateDigest:
    """Of a table of rows that only grows."""

    def __init__(self) -> None:
        self._digests: Int64s = np.zeros((0, LANES), dtype=np.int64)
        self._changed = np.zeros(0, dtype=np.uint8)
        self._total: Int64s = np.zeros(LANES, dtype=np.int64)

    def changed(self, numbers: Int64s) -> None:
        """Rows that changed since `update`, and that the next one will not be told of."""
        if len(numbers):
            self._reserve(int(numbers[-1]) + 1)
            self._changed[numbers] = 1

    def update(self, rows: Int64s, dirty: npt.NDArray[np.uint8]) -> bytes:
        """The sum over `rows`; those marked in `dirty` may have changed, too."""
        self._reserve(len(rows))
        numbers = np.flatnonzero(self._changed[: len(rows)] | dirty[: len(rows)])
        rehash_rows(rows, numbers, self._digests, self._total)
        self._changed[:] = 0
        return self._total.tobytes()

    def _reserve(self, rows: int) -> None:
        """A row that was never looked at counts as changed, whoever wrote it."""
        more = rows - len(self._digests)
        if more > 0:
            self._digests = np.concatenate([self._digests, np.zeros((more, LANES), dtype=np.int64)])
            self._changed = np.concatenate([self._changed, np.ones(more, dtype=np.uint8)])


def digest_in_any_order(rows: Int64s, numbers: Int64s) -> bytes:
    total: Int64s = np.zeros(LANES, dtype=np.int64)
    add_rows(rows, numbers, np.zeros(LANES, dtype=np.int64), total)
    return total.tobytes()
