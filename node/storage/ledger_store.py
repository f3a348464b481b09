"""The ledger on a node: the state machine in memory, LMDB trailing behind it.

Entries are applied in memory and answered at once: the Raft log is what makes them durable. A checkpoint, on a thread
of its own, writes everything up to one position in one transaction; after a crash the node loads it and the engine
replays the log behind it. Memory stays bounded: when a checkpoint is due and the last one still runs, apply waits.
"""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np

from node.ledger import kernel, tiers
from node.ledger.columns import Column
from node.ledger.counting import by_kind_and_outcome
from node.ledger.history import (
    AppliedBatch,
    BrokenHistoryError,
    CommandOutcome,
    Document,
    FirstSeen,
    Int64s,
    Profile,
    Remembered,
)
from node.ledger.records import OFFSET_BITS, TRANSFER, Records, TransferFlag
from node.ledger.state import STATE_HASH_EVERY, LedgerState
from node.ledger.tiers import Tiers, parse_tiers
from node.payments.pin_tries import apply_verdicts
from node.storage.batch_codec import OpenBatch, chain_hash_of, decode_batch, first_seen_in, open_batch
from node.storage.held_chains import HeldChain, held_chain_in
from node.storage.host import SYSTEM_HOST, Background, Host
from node.storage.ledger_db import Checkpoint, DurableState, LedgerDb, Snapshot
from node.storage.memtable import Memtable
from node.storage.replies import (
    StoredPayment,
    StoredTransfer,
    is_applied,
    replies_of,
    stored_payment,
    stored_transfer,
)
from node.storage.snapshot_files import check_room
from node.storage.verify import VerifyReport, verify_history

T = TypeVar("T")
_OFFSET_MASK = (1 << OFFSET_BITS) - 1
DOCUMENTS_PAGE_MAX = 1_000


@dataclass(frozen=True, slots=True)
class StoreConfig:
    cluster_id: str
    node_id: str
    map_bytes: int = 64 << 30
    checkpoint_interval_s: float = 5.0
    checkpoint_transfers_max: int = 400_000  # in memory; a checkpoint is due at half of it
    checkpoint_bytes_max: int = 256 << 20  # the same, of entries and outcomes: commands hold memory as well
    state_hash_every: int = STATE_HASH_EVERY  # positions; the same on all nodes, or they cannot be compared


class LogEntryLike(Protocol):
    """What apply needs of a log entry: see node/consensus/contract.LogEntry."""

    @property
    def position(self) -> int: ...

    @property
    def term(self) -> int: ...

    @property
    def data(self) -> bytes: ...


@dataclass(frozen=True, slots=True)
class EntryResult:
    position: int
    timestamp_ns: int
    commands: list[CommandOutcome]
    replies: Records  # REPLY, one for each transfer
    pin_tries: list[int]


class UnknownReferenceError(Exception):
    """A page of a statement was to begin at what is no applied transfer of that account."""


class LedgerStore:
    def __init__(self, path: Path, config: StoreConfig, host: Host = SYSTEM_HOST) -> None:
        self._config = config
        self._host = host
        self._db = LedgerDb(path, config.cluster_id, config.node_id, config.map_bytes, host)
        self._state = LedgerState(apply_verdicts)
        self._state.hash_every = config.state_hash_every
        self._durable = self._load()
        self._transfers_total = self._durable.transfers_total
        # Held while an entry is applied: its references are in rows and id table before its batch can be read.
        self._applying = threading.Lock()
        self._applied_position = self._durable.position
        self._active = Memtable(self._state.ids)
        self._flushing: Memtable | None = None
        self._writer: Background | None = None
        self._writer_error: BaseException | None = None
        self.on_failure: Callable[[BaseException], None] = lambda error: None  # on the writer's thread, at once
        self._profiles_version = 0
        self._documents_version = 0
        self._last_checkpoint_at = self._host.monotonic()

    def _load(self) -> DurableState:
        with self._db.snapshot() as snapshot:
            return self._load_from(snapshot)

    def _load_from(self, snapshot: Snapshot) -> DurableState:
        durable, state = snapshot.state(), self._state
        state.reserve_rows(durable.accounts_total + 1)
        rows = snapshot.load_rows(state.columns)
        if rows != durable.accounts_total:
            raise BrokenHistoryError(f"{rows} account rows are stored, {durable.accounts_total} should be")
        state.accounts_total = durable.accounts_total
        state.position, state.timestamp_ns = durable.position, durable.timestamp_ns
        state.chain_hash, state.commands_hash = durable.chain_hash, durable.commands_hash
        for _, keys, fields in snapshot.pending():
            state.add_pending(keys, fields)
        found = self._db.document(tiers.KIND, tiers.KEY)
        if found is not None:
            state.tiers = parse_tiers(found.body)
        return durable

    # --- what others read -----------------------------------------------------------------------------------------

    @property
    def applied_position(self) -> int:
        return self._applied_position

    @property
    def durable_position(self) -> int:
        return self._durable.position

    @property
    def last_timestamp_ns(self) -> int:
        return self._state.timestamp_ns

    @property
    def chain_hash(self) -> bytes:
        return self._state.chain_hash

    @property
    def columns(self) -> Int64s:
        return self._state.columns

    @property
    def accounts_total(self) -> int:
        return self._state.accounts_total

    @property
    def transfers_total(self) -> int:
        return self._transfers_total

    @property
    def transfers_by_kind_and_outcome(self) -> dict[tuple[str, str], int]:
        return by_kind_and_outcome(self._state.transfer_counts)

    @property
    def next_expiry_ns(self) -> int:
        return self._state.next_expiry_ns

    @property
    def profiles_version(self) -> int:
        """Another number whenever a profile may have changed: what is remembered of profiles holds until then."""
        return self._profiles_version

    @property
    def documents_version(self) -> int:
        """Another number whenever a document may have changed: what was made of documents holds until then."""
        return self._documents_version

    @property
    def tiers(self) -> Tiers:
        return self._state.tiers

    def _memtables(self) -> tuple[Memtable, ...]:
        # The active one is taken first: meanwhile it can only become the one being written, and what leaves that is
        # on disk.
        active = self._active
        flushing = self._flushing
        return (active, flushing) if flushing is not None else (active,)

    # --- the state machine, on the engine's thread ----------------------------------------------------------------

    def apply(self, entries: Sequence[LogEntryLike]) -> list[EntryResult]:
        """Apply in order; what is at or below the applied position must not come. Raises: the node must stop."""
        self._raise_writer_error()
        return [self._apply_one(entry.position, entry.term, entry.data) for entry in entries]

    def _apply_one(self, position: int, term: int, data: bytes) -> EntryResult:
        if self._share_full() >= 1.0:
            self.checkpoint(wait=False, block=True)
        documents_set = self._active.documents_set
        with self._applying:
            batch = self._state.apply(position, bytes(data), self, self._active)
            self._active.add(batch)
            self._applied_position = position
            if batch.command_outcomes:
                self._profiles_version += 1
                self._documents_version += self._active.documents_set - documents_set
        self._transfers_total += len(batch.outcomes)
        return EntryResult(
            position, batch.timestamp_ns, batch.command_outcomes, replies_of(batch, term=term), batch.pin_tries
        )

    def _share_full(self) -> float:
        active, config = self._active, self._config
        return max(active.transfers / config.checkpoint_transfers_max, active.bytes_held / config.checkpoint_bytes_max)

    def tick(self, now_ns: int) -> None:
        self._raise_writer_error()
        due = self._host.monotonic() - self._last_checkpoint_at >= self._config.checkpoint_interval_s
        if due or self._share_full() >= 0.5:
            self.checkpoint(wait=False)

    def checkpoint(self, *, wait: bool, block: bool = False) -> None:
        """Start writing what was applied; `block` waits for a running checkpoint first, `wait` for the new one too."""
        if self._writer is not None and self._writer.is_alive():
            if not (wait or block):
                return
            self._writer.join()
        self._raise_writer_error()
        if self._active.batches:
            self._start_writer()
        if wait and self._writer is not None:
            self._writer.join()
            self._raise_writer_error()

    def _start_writer(self) -> None:
        state = self._state
        with self._applying:
            numbers = state.take_dirty()
        references = dict(self._waiting_pending())
        checkpoint = Checkpoint(
            DurableState(
                state.position,
                state.timestamp_ns,
                state.accounts_total,
                self._transfers_total,
                state.chain_hash,
                state.commands_hash,
            ),
            self._active,
            numbers,
            state.columns[numbers],
            references,
        )
        self._flushing = self._active
        state.ids = state.ids.successor()
        self._active = Memtable(state.ids)
        self._last_checkpoint_at = self._host.monotonic()
        self._writer = self._host.start(lambda: self._write(checkpoint), "kibubu-checkpoint")

    def _waiting_pending(self) -> list[tuple[int, bytes]]:
        """What waits and came since the last checkpoint; older ones are stored already."""
        rows, keys = self._state.pending_rows, self._state.pending_keys
        since = (self._durable.position + 1) << OFFSET_BITS
        fresh = (rows[:, kernel.P_STATE] == kernel.ACTIVE) & (rows[:, kernel.P_REF] >= since)
        return [(int(rows[at, kernel.P_REF]), keys[at].tobytes() + rows[at].tobytes()) for at in np.flatnonzero(fresh)]

    def _write(self, checkpoint: Checkpoint) -> None:
        try:
            self._db.write(checkpoint)
        except BaseException as error:
            self._writer_error = error
            self.on_failure(error)
            return
        self._durable = checkpoint.state
        self._flushing = None

    def _raise_writer_error(self) -> None:
        if self._writer_error is not None:
            raise self._writer_error

    def close(self) -> None:
        """Write what is left and close; a failed checkpoint is raised."""
        try:
            self.checkpoint(wait=True)
        finally:
            self._db.close()

    # --- history, for the state and for readers -------------------------------------------------------------------

    def find_ids(self, words: Int64s, out: Int64s) -> None:
        """Where ids were recorded before the active memtable; the state asks that one itself."""
        flushing = self._flushing  # first: what leaves it is on disk by then
        if flushing is not None and not flushing.ids.find_ids(words, out):
            return
        self._db.find_ids(words, out)

    def _batch(self, position: int) -> AppliedBatch | None:
        for memtable in self._memtables():
            batch = memtable.batches.get(position)
            if batch is not None:
                return batch
        value = self._db.batch(position)
        return decode_batch(value) if value is not None else None

    def _open(self, position: int) -> OpenBatch:
        batch = self._batch(position)
        if batch is None:
            raise BrokenHistoryError(f"no batch is stored at {position}, though a reference leads there")
        return open_batch(batch)

    def _copied(self, reference: int, take: Callable[[OpenBatch, int], T]) -> T:
        """What `take` copies of one transfer; a retry of a whole batch must not read the whole for each of them."""
        position, offset = reference >> OFFSET_BITS, reference & _OFFSET_MASK
        for memtable in self._memtables():
            batch = memtable.batches.get(position)
            if batch is not None:
                return take(open_batch(batch), offset)
        return self._db.from_batch(position, lambda opened: take(opened, offset))

    def first_seen(self, reference: int) -> FirstSeen:
        return self._copied(reference, first_seen_in)

    def pending_end(self, reference: int) -> int:
        for memtable in self._memtables():
            state = memtable.ended.get(reference, 0)
            if state:
                return state
        return self._db.ended(reference)

    def account_by_handle(self, ledger: int, key: str, value: str) -> int:
        for memtable in self._memtables():
            number = memtable.handles.get((ledger, key, value), 0)
            if number:
                return number
        return self._db.account_by_handle(ledger, key, value)

    def remembered(self, request_id: bytes) -> Remembered | None:
        for memtable in self._memtables():
            found = memtable.requests.get(request_id)
            if found is not None:
                return found
        return self._db.remembered(request_id)

    def profile(self, account_number: int) -> Profile | None:
        for memtable in self._memtables():
            found = memtable.profiles.get(account_number)
            if found is not None:
                return found
        return self._db.profile(account_number)

    def document(self, kind: str, key: str) -> Document | None:
        for memtable in self._memtables():
            versions = memtable.documents.get((kind, key))
            if versions:
                return versions[-1]
        return self._db.document(kind, key)

    def documents(self, kind: str, after_key: str = "", limit: int = DOCUMENTS_PAGE_MAX) -> list[Document]:
        """What is in force of a kind, in key order; a full page is continued behind its last key."""
        memtables = self._memtables()
        found = {document.key: document for document in self._db.documents(kind, after_key, limit)}
        for memtable in reversed(memtables):
            for (of_kind, key), versions in list(memtable.documents.items()):
                if of_kind == kind and key > after_key:
                    found[key] = versions[-1]
        return [found[key] for key in sorted(found)[:limit]]

    def document_versions(
        self, kind: str, key: str, before_version: int = 0, limit: int = DOCUMENTS_PAGE_MAX
    ) -> list[Document]:
        """Newest first, older than before_version (0 = from the newest)."""
        memtables = self._memtables()
        found = {one.version: one for one in self._db.document_versions(kind, key, before_version, limit)}
        for memtable in memtables:
            for one in tuple(memtable.documents.get((kind, key), ())):
                if not before_version or one.version < before_version:
                    found[one.version] = one
        return [found[version] for version in sorted(found, reverse=True)[:limit]]

    def _reference(self, number: int) -> int:
        record = np.zeros(1, dtype=TRANSFER)
        record["id_lo"], record["id_hi"] = number & ((1 << 64) - 1), number >> 64
        words, out = record.view(np.int64).reshape(1, -1), np.zeros(1, dtype=np.int64)
        if self._active.ids.find_ids(words, out):
            self.find_ids(words, out)
        return int(out[0])

    def lookup_transfer(self, number: int) -> StoredTransfer | None:
        with self._applying:
            reference = self._reference(number)
        return self._stored(reference) if reference else None

    def waiting_references(self, codes: Sequence[int], *, debit_account: int = 0, held: bool = False) -> list[int]:
        """References of the pending transfers that still wait, oldest first: those of these codes, and with `held` the
        raw ones that the fraud check held; debit_account 0 = of all accounts."""
        with self._applying:
            rows = self._state.pending_rows
            waits = np.isin(rows[:, kernel.P_CODE], codes) | (held & (rows[:, kernel.P_CODE] >= kernel.HELD_CODE))
            waits &= rows[:, kernel.P_STATE] == kernel.ACTIVE
            if debit_account:
                waits &= rows[:, kernel.P_DEBIT] == debit_account
            return sorted(rows[waits, kernel.P_REF].tolist())

    def held_chain(self, reference: int) -> HeldChain | None:
        """The raw transfers that were held together with this one; None = the fraud check did not hold it."""
        return self._copied(reference, held_chain_in)

    def transfer_at(self, reference: int) -> StoredTransfer:
        return self._stored(reference)

    def _stored(self, reference: int) -> StoredTransfer:
        return self.filled(self._copied(reference, stored_transfer))

    def filled(self, stored: StoredTransfer) -> StoredTransfer:
        """What a post or void left to its pending transfer is written into its record."""
        original = int(stored.outcome["original"])
        left_empty = [name for name in ("debit_account", "credit_account", "ledger") if not int(stored.record[name])]
        if int(stored.record["flags"]) & TransferFlag.POST and not int(stored.record["amount_minor"]):
            left_empty.append("amount_minor")  # a post of the whole: what was moved
        if original and left_empty:
            pending = self._copied(original, stored_transfer).record
            for name in left_empty:
                stored.record[name] = pending[name]
        return stored

    def statement(self, account_number: int, before_reference: int, limit: int) -> list[StoredTransfer]:
        """Newest first, along the links that each transfer carries; before_reference 0 = from the newest.

        Raises UnknownReferenceError when before_reference is no applied transfer of this account."""
        if before_reference:
            reference = self._previous(self._page_start(before_reference, account_number), account_number)
        else:
            with self._applying:
                reference = int(self._state.columns[account_number, kernel.LAST])
        page: list[StoredTransfer] = []
        while reference and len(page) < limit:
            stored = self._stored(reference)
            page.append(stored)
            reference = self._previous(stored, account_number)
        return page

    def _page_start(self, reference: int, account_number: int) -> StoredTransfer:
        position, offset = reference >> OFFSET_BITS, reference & _OFFSET_MASK
        batch = self._batch(position) if 0 < position <= self._applied_position else None
        if batch is not None and offset < len(batch.outcomes) and is_applied(batch.outcomes[offset]):
            stored = self._stored(reference)
            if account_number in (int(stored.record["debit_account"]), int(stored.record["credit_account"])):
                return stored
        raise UnknownReferenceError(f"{reference:#x} is no applied transfer of account {account_number}")

    @staticmethod
    def _previous(stored: StoredTransfer, account_number: int) -> int:
        if int(stored.record["debit_account"]) == account_number:
            return int(stored.outcome["debit_previous"])
        if int(stored.record["credit_account"]) == account_number:
            return int(stored.outcome["credit_previous"])
        raise BrokenHistoryError(f"the history of account {account_number} leads to another account's transfer")

    def lookup_payment(self, number: int) -> StoredPayment | None:
        """The first with this id: a later one, proposed by a leader that did not know of it, changes nothing."""
        reference = self.payment_reference(number)
        if not reference:
            return None
        return stored_payment(self._open(reference >> OFFSET_BITS), reference & _OFFSET_MASK)

    def payment_reference(self, number: int) -> int:
        """Position and offset of the first payment with this id, 0 = none."""
        memtables = self._memtables()
        reference = self._db.payment(number.to_bytes(16, "big"))
        for memtable in reversed(memtables):
            reference = reference or memtable.payments.get(number, 0)
        return reference

    def payments_within(
        self, span_ns: tuple[int, int], first_from: Callable[[int], int], step: int, offset: int
    ) -> Iterator[StoredPayment]:
        """The payments at `offset` of every `step`th entry of a span of time, the first at `first_from(position)`."""
        last = self._applied_position
        position = first_from(max(self.position_at(span_ns[0]), 1))
        while position <= last:
            opened = self._open_or_none(position)
            if opened is not None and opened.batch.timestamp_ns >= span_ns[1]:
                return
            if opened is not None and offset < len(opened.entry.payments):
                yield stored_payment(opened, offset)
            position += step

    def position_at(self, timestamp_ns: int) -> int:
        """The first applied position of that time or later; one more than all when there is none."""
        return 1 + bisect_left(range(1, self._applied_position + 1), timestamp_ns, key=self._timestamp_of)

    def _timestamp_of(self, position: int) -> int:
        batch = self._batch(position)
        if batch is None:
            raise BrokenHistoryError(f"no batch is stored at {position}, though it was applied")
        return batch.timestamp_ns

    def _open_or_none(self, position: int) -> OpenBatch | None:
        """None = a new leader's no-op."""
        batch = self._batch(position)
        return open_batch(batch) if batch is not None and batch.entry else None

    def posted_by_account(self) -> tuple[int, Int64s]:
        """A position, and as of it int64 (accounts, 4): ledger, kind, debits posted, credits posted."""
        wanted = [Column.LEDGER, Column.KIND, Column.DEBITS_POSTED, Column.CREDITS_POSTED]
        with self._applying:
            return self._applied_position, self._state.columns[1 : self._state.accounts_total + 1, wanted]

    # --- proofs ---------------------------------------------------------------------------------------------------

    def chain_hash_at(self, position: int) -> bytes | None:
        for memtable in self._memtables():
            batch = memtable.batches.get(position)
            if batch is not None:
                return batch.chain_hash
        value = self._db.batch(position)
        return chain_hash_of(value) if value is not None else None

    def export(self, first: int, last: int, bytes_max: int) -> list[AppliedBatch]:
        """What was applied at these positions, up to about bytes_max, at least one; from any thread."""
        batches: list[AppliedBatch] = []
        size = 0
        while first <= last and size < bytes_max:
            batch = self._batch(first)
            if batch is None:
                raise BrokenHistoryError(f"no batch is stored at {first}, though it was applied")
            batches.append(batch)
            size += len(batch.entry) + batch.outcomes.nbytes
            first += 1
        return batches

    @property
    def database(self) -> LedgerDb:
        """For whoever reads all of it (scrub.py)."""
        return self._db

    def copy_to(self, folder: Path) -> int:
        """The last checkpoint as a database of its own; its position. Raises SnapshotError without room for it."""
        check_room(folder, self._db.size_bytes())
        return self._db.copy_to(folder)

    def state_hash(self) -> bytes:
        """Of the applied position. The entry that is being applied meanwhile is waited for."""
        with self._applying:
            return self._state.state_hash()

    def state_hash_at(self, position: int) -> tuple[int, bytes]:
        """(the newest position up to this one whose state hash is kept, that hash); (0, b"") = none is kept."""
        with self._applying:
            if position == self._applied_position:
                return position, self._state.state_hash()
            return self._kept_hash(position)

    def state_hash_kept(self, position: int) -> tuple[int, bytes]:
        """The same of those that were kept in passing."""
        with self._applying:
            return self._kept_hash(position)

    def _kept_hash(self, position: int) -> tuple[int, bytes]:
        hashes = self._state.hashes
        at = position - position % self._config.state_hash_every
        return (at, hashes[at]) if at in hashes else (0, b"")

    def verify(self) -> VerifyReport:
        """Recompute every balance and the hash chain from the stored history, up to the last checkpoint."""
        with self._db.snapshot() as snapshot:
            return verify_history(snapshot)


__all__ = ["EntryResult", "LedgerStore", "StoreConfig", "StoredPayment", "StoredTransfer", "UnknownReferenceError"]
