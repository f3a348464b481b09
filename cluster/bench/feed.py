"""Packed transfers for the load, at a small part of a microsecond each: built by the thousand with numpy, handed out in
slices. Ids are fresh and grow; both accounts are random and differ. What is to be scored for fraud is what
people send, in whole shillings, but small: every account here is minutes old and pays several times a second, and of
larger amounts a good model would hold most."""

from __future__ import annotations

import numpy as np

from cluster.accounts import LEDGER_KES
from cluster.packed import IdSource, fresh_batch, template
from cluster.vocabulary import CODE_BENCH, CODE_PRINCIPAL
from kibubu_client.records import TRANSFER

BLOCK_TRANSFERS = 4_096  # built in one go; a call takes at most a few of them, or more than all
AMOUNT_MINOR = 1
PEOPLES_MEDIAN_MINOR = 1_500  # KES 15
PEOPLES_SPREAD = 0.6  # standard deviation of the logarithm
PEOPLES_MINOR_MAX = 1_000_000


class TransferFeed:
    """Raises ValueError when there are not two accounts to move money between."""

    def __init__(
        self, accounts: list[int], batch: int, *, seed: int = 1, ids: IdSource | None = None, scored: bool = False
    ) -> None:
        if len(accounts) < 2:
            raise ValueError(f"accounts: at least two, is {len(accounts)}")
        self._accounts = np.array(accounts, dtype=np.uint64)
        self._rng = np.random.default_rng(seed)
        self._ids = ids or IdSource()
        self._bytes = batch * TRANSFER.itemsize
        count = batch * max(1, BLOCK_TRANSFERS // batch)
        code = CODE_PRINCIPAL if scored else CODE_BENCH
        self._form = template(count, amount_minor=AMOUNT_MINOR, ledger=LEDGER_KES, code=code)
        if scored:
            shillings = self._rng.lognormal(np.log(PEOPLES_MEDIAN_MINOR / 100), PEOPLES_SPREAD, count)
            self._form["amount_minor"] = np.clip(np.ceil(shillings) * 100, 100, PEOPLES_MINOR_MAX)
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
