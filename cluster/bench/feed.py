"""Packed transfers for the load, at a small part of a microsecond each: built by the thousand with numpy, handed out in
slices. Ids are fresh and grow; both accounts are random and differ."""

from __future__ import annotations

import numpy as np

from cluster.accounts import LEDGER_KES
from cluster.packed import IdSource, fresh_batch, template
from cluster.vocabulary import CODE_BENCH
from kibubu_client.records import TRANSFER

BLOCK_TRANSFERS = 4_096  # built in one go; a call takes at most a few of them, or more than all
AMOUNT_MINOR = 1


class TransferFeed:
    """Raises ValueError when there are not two accounts to move money between."""

    def __init__(self, accounts: list[int], batch: int, *, seed: int = 1, ids: IdSource | None = None) -> None:
        if len(accounts) < 2:
            raise ValueError(f"accounts: at least two, is {len(accounts)}")
        self._accounts = np.array(accounts, dtype=np.uint64)
        self._rng = np.random.default_rng(seed)
        self._ids = ids or IdSource()
        self._bytes = batch * TRANSFER.itemsize
        count = batch * max(1, BLOCK_TRANSFERS // batch)
        self._form = template(count, amount_minor=AMOUNT_MINOR, ledger=LEDGER_KES, code=CODE_BENCH)
        self._block = b""
        self._at = 0

    def take(self) -> bytes:
        """The next batch."""
        if self._at >= len(self._block):
            self._build()
        at = self._at
        self._at = end = at + self._bytes
        return self._block[at:end]

    def _build(self) -> None:
        count, many = len(self._form), len(self._accounts)
        at = self._rng.integers(0, many, count)
        other = (at + self._rng.integers(1, many, count)) % many
        self._block = fresh_batch(self._form, self._ids, self._accounts[at], self._accounts[other]).tobytes()
        self._at = 0
