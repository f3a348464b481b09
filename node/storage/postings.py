"""What a batch posted, by plain addition of what its stored outcomes say was applied; the kernel has no part in it."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from node.ledger.history import AppliedBatch, FirstSeen, Int64s
from node.ledger.records import OutcomeFlag, TransferFlag
from node.storage.batch_codec import open_batch

_NOT_APPLIED = 0xFFFF | int(OutcomeFlag.DUPLICATE) << 16  # in an outcome's first word: a status, or said before
_TWO_PHASES = int(TransferFlag.PENDING | TransferFlag.POST | TransferFlag.VOID)


def postings_of(batch: AppliedBatch, first_seen: Callable[[int], FirstSeen]) -> Int64s:
    """int64 (n, 3): debit account, credit account, amount in minor units; `first_seen` finds a pending transfer."""
    if not len(batch.outcomes):
        return np.zeros((0, 3), dtype=np.int64)
    words = open_batch(batch).entry.transfers.copy().view(np.int64).reshape(-1, 16)
    flags = (words[:, 11] >> 16) & 0xFFFF
    applied = (batch.outcomes[:, 0] & _NOT_APPLIED) == 0
    plain = words[applied & ((flags & _TWO_PHASES) == 0)][:, 2:5]
    posts = []
    for i in np.flatnonzero(applied & ((flags & int(TransferFlag.POST)) != 0)).tolist():
        pending = first_seen(int(batch.outcomes[i, 7])).words
        posts.append((int(pending[2]), int(pending[3]), int(words[i, 4]) or int(pending[4])))
    return np.concatenate([plain, np.array(posts, dtype=np.int64).reshape(-1, 3)])
