"""Reads everything that is stored again and again, a little at a time, so that damage is found while the other nodes
still have what this one has lost.

In each database every value is checked against its seal and every key is looked up again from the root, so that a
damaged page on the way to it is found too; the number of entries must fit. Batches must continue each other's hash
chain. Of the journal, every entry is checked. One step sees one moment; a pass need not.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Protocol

from node.ledger.history import AppliedBatch
from node.ledger.state import CHAIN_START, chain_hash
from node.storage import id_runs
from node.storage.batch_codec import decode_batch
from node.storage.checked import DamagedDataError, unseal

SEALED = (
    "meta",
    "batches",
    "payments",
    "rows",
    "handles",
    "profiles",
    "requests",
    "documents",
    "pending",
    "ended",
    "runs",
)
STEP_BYTES = 1 << 20
_ENTRY_BYTES = 1_024  # an entry costs about as much time as a kibibyte more


class Database(Protocol):
    """What is read: see LedgerDb.read."""

    def read(self) -> Any:
        """A context: (transaction with buffers, databases by name)."""
        ...


class Journal(Protocol):
    def check(self, first: int, bytes_max: int) -> tuple[int, int]:
        """Check stored entries from `first` on: (where to go on, 0 = that was the last; bytes read)."""
        ...


class Scrubber:
    """`step` raises DamagedDataError or RaftLogCorruptError at the first thing that is not as it was written."""

    def __init__(self, database: Database, journal: Journal | None = None) -> None:
        self._database, self._journal = database, journal
        self.passes = 0
        self._chain: tuple[int, bytes] | None = None  # position and hash of the batch before
        self._steps = self._pass()

    def step(self) -> int:
        """Reads about STEP_BYTES; returns how many. 0 = a pass is complete."""
        size = next(self._steps, 0)
        if not size:
            self.passes += 1
            self._steps = self._pass()
        return size

    def run_pass(self) -> None:
        while self.step():
            pass

    def _pass(self) -> Iterator[int]:
        self._chain = None
        for name in (*SEALED, "ids"):
            at: bytes | None = b""
            while at is not None:
                at, size = self._read(name, at)
                yield size + 1
        if self._journal is not None:
            first = 1
            while first:
                first, size = self._journal.check(first, STEP_BYTES)
                yield size + 1

    def _read(self, name: str, at: bytes) -> tuple[bytes | None, int]:
        """From the key behind `at` on; the last key that was read, None = there are no more."""
        size = 0
        with self._database.read() as (txn, databases), txn.cursor(databases[name]) as cursor:
            found = cursor.set_range(at) if at else cursor.first()
            if found and at and cursor.key() == at:
                found = cursor.next()
            if not at and not found and txn.stat(databases[name])["entries"]:
                raise DamagedDataError(f"{name}: its entries cannot be reached")
            while found:
                key, value = cursor.item()
                if at and bytes(key) <= at:
                    raise DamagedDataError(f"{name} {bytes(key).hex()} is out of order")
                if txn.get(key, db=databases[name]) != value:
                    raise DamagedDataError(f"{name} {bytes(key).hex()} is not found by its key")
                self._check(name, key, value)
                size += len(value) + _ENTRY_BYTES
                at = bytes(key)
                if size >= STEP_BYTES:
                    return at, size
                found = cursor.next()
        return None, size

    def _check(self, name: str, key: Any, value: Any) -> None:
        if name == "ids":
            id_runs.check_chunk(key, value)
            return
        body = unseal(name, key, value)
        if name == "batches":
            self._check_batch(int.from_bytes(key, "big"), decode_batch(bytes(body)))

    def _check_batch(self, key: int, batch: AppliedBatch) -> None:
        before = self._chain or (0, CHAIN_START)
        if key != batch.position or batch.position != before[0] + 1:
            raise DamagedDataError(f"batch {batch.position} is stored as {key}, behind {before[0]}")
        if chain_hash(before[1], batch) != batch.chain_hash:
            raise DamagedDataError(f"batch {batch.position} does not continue the hash chain")
        self._chain = (batch.position, batch.chain_hash)
