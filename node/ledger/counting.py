"""How many transfers of which kind ended how: what the metrics show, counted where the batch is still warm."""

from __future__ import annotations

from typing import Any

import numpy as np

from node.ledger.compiled import njit
from node.ledger.history import Int64s
from node.ledger.records import OutcomeFlag, TransferFlag

KINDS = ("single", "pending", "post", "void")  # by the flag that the transfer carries
OUTCOMES = ("ok", "refused", "duplicate")
_PENDING, _POST, _VOID = int(TransferFlag.PENDING), int(TransferFlag.POST), int(TransferFlag.VOID)
_DUPLICATE = int(OutcomeFlag.DUPLICATE)


def new_counts() -> Int64s:
    return np.zeros((len(KINDS), len(OUTCOMES)), dtype=np.int64)


@njit
def count_transfers(words: Any, outcomes: Any, counts: Any) -> None:
    """Adds a batch to counts[kind, outcome]."""
    for i in range(words.shape[0]):
        flags, outcome = (words[i, 11] >> 16) & 0xFFFF, outcomes[i, 0]
        kind = 0
        if flags & _PENDING:
            kind = 1
        elif flags & _POST:
            kind = 2
        elif flags & _VOID:
            kind = 3
        if (outcome >> 16) & _DUPLICATE:
            counts[kind, 2] += 1
        elif (outcome & 0xFFFF) != 0:
            counts[kind, 1] += 1
        else:
            counts[kind, 0] += 1


def by_kind_and_outcome(counts: Int64s) -> dict[tuple[str, str], int]:
    return {(kind, outcome): int(counts[k, o]) for k, kind in enumerate(KINDS) for o, outcome in enumerate(OUTCOMES)}
