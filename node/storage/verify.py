"""Prove the books from the stored history: run every entry again through the kernel, from nothing, and compare
outcomes, hash chain and account rows with what is stored; and add the outcomes up once more without the kernel."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from node.ledger import kernel
from node.ledger.columns import Column
from node.ledger.history import AppliedBatch, BrokenHistoryError, FirstSeen, Int64s, Profile, Remembered
from node.ledger.records import OFFSET_BITS, TransferFlag
from node.ledger.state import LedgerState
from node.payments.pin_tries import apply_verdict
from node.storage.batch_codec import decode_batch, open_batch
from node.storage.ledger_db import Snapshot
from node.storage.memtable import Memtable

PROBLEMS_MAX = 20
_OFFSET_MASK = (1 << OFFSET_BITS) - 1
_DUPLICATE_BIT = 1 << 16


@dataclass(slots=True)
class VerifyReport:
    position: int = 0
    batches: int = 0
    transfers: int = 0
    accounts: int = 0
    problems: list[str] = field(default_factory=list)
    chain_hash: bytes = b""
    state_hash: bytes = b""

    @property
    def ok(self) -> bool:
        return not self.problems

    def problem(self, text: str) -> None:
        if len(self.problems) < PROBLEMS_MAX:
            self.problems.append(text)


class _ReplayHistory:
    """All of history in memory, for a state that is being replayed."""

    def __init__(self, snapshot: Snapshot, state: LedgerState) -> None:
        self._snapshot = snapshot
        self._state = state
        self.memtable = Memtable(state.ids)

    def find_ids(self, words: Int64s, out: Int64s) -> None:
        """The state's own table holds them all."""

    def first_seen(self, reference: int) -> FirstSeen:
        value = self._snapshot.batch(reference >> OFFSET_BITS)
        if value is None:
            raise BrokenHistoryError(f"no batch at {reference >> OFFSET_BITS}")
        opened, offset = open_batch(decode_batch(value)), reference & _OFFSET_MASK
        return FirstSeen(opened.words(offset), opened.batch.outcomes[offset], opened.batch.timestamp_ns)

    def pending_end(self, reference: int) -> int:
        return self.memtable.ended.get(reference, 0)

    def account_by_handle(self, ledger: int, key: str, value: str) -> int:
        return self.memtable.handles.get((ledger, key, value), 0)

    def remembered(self, request_id: bytes) -> Remembered | None:
        return self.memtable.requests.get(request_id)

    def profile(self, account_number: int) -> Profile | None:
        return self.memtable.profiles.get(account_number)


def verify_history(snapshot: Snapshot) -> VerifyReport:
    """All of one moment: the node goes on writing meanwhile."""
    report, durable = VerifyReport(), snapshot.state()
    state = LedgerState(apply_verdict)
    history = _ReplayHistory(snapshot, state)
    sums = np.zeros((durable.accounts_total + 1, 2), dtype=np.int64)
    try:
        for value in snapshot.batches():
            stored = decode_batch(value)
            again = state.apply(stored.position, stored.entry, history, history.memtable)
            history.memtable.ended.update(again.ended)
            _compare(report, stored, again)
            _add_up(history, stored, sums)
            report.batches += 1
            report.transfers += len(stored.outcomes)
    except Exception as error:
        # Whatever a flipped bit leads to is a finding, not a crash of the check.
        report.problem(f"after position {state.position}: {type(error).__name__}: {error}")
    report.position, report.accounts = state.position, state.accounts_total
    report.chain_hash, report.state_hash = state.chain_hash, state.state_hash()
    if state.position != durable.position:
        report.problem(f"the history ends at {state.position}, the checkpoint says {durable.position}")
    elif state.chain_hash != durable.chain_hash:
        report.problem(f"the hash chain ends otherwise than the checkpoint at {durable.position}")
    if not report.problems:
        _compare_rows(report, snapshot, state, sums)
        _compare_indexes(report, snapshot, state)
    return report


def _compare(report: VerifyReport, stored: AppliedBatch, again: AppliedBatch) -> None:
    if not np.array_equal(stored.outcomes, again.outcomes):
        report.problem(f"position {stored.position}: stored outcomes are not what the entry leads to")
    if stored.expired != again.expired:
        report.problem(f"position {stored.position}: stored time-outs are not what the entry leads to")
    if stored.chain_hash != again.chain_hash:
        report.problem(f"position {stored.position}: the hash chain is broken")


def _add_up(history: _ReplayHistory, stored: AppliedBatch, sums: Int64s) -> None:
    """Posted debits and credits by plain addition of what the stored outcomes say was applied."""
    if not len(stored.outcomes):
        return
    words = open_batch(stored).entry.transfers.copy().view(np.int64).reshape(-1, 16)
    flags = (words[:, 11] >> 16) & 0xFFFF
    applied = (stored.outcomes[:, 0] & (0xFFFF | _DUPLICATE_BIT)) == 0
    plain = applied & ((flags & int(TransferFlag.PENDING | TransferFlag.POST | TransferFlag.VOID)) == 0)
    np.add.at(sums[:, 0], words[plain, 2], words[plain, 4])
    np.add.at(sums[:, 1], words[plain, 3], words[plain, 4])
    for i in np.flatnonzero(applied & ((flags & int(TransferFlag.POST)) != 0)).tolist():
        pending = history.first_seen(int(stored.outcomes[i, 7])).words
        amount = int(words[i, 4]) or int(pending[4])
        sums[int(pending[2]), 0] += amount
        sums[int(pending[3]), 1] += amount


def _compare_rows(report: VerifyReport, snapshot: Snapshot, state: LedgerState, sums: Int64s) -> None:
    rows = np.zeros_like(state.columns[: state.accounts_total + 1])
    snapshot.load_rows(rows)
    again = state.columns[: state.accounts_total + 1]
    for number in np.flatnonzero((rows != again).any(axis=1)).tolist():
        report.problem(f"account {number}: the stored row is not what its history leads to")
    posted = again[:, [Column.DEBITS_POSTED, Column.CREDITS_POSTED]]
    for number in np.flatnonzero((posted != sums).any(axis=1)).tolist():
        report.problem(f"account {number}: its transfers do not add up to its balance")
    for ledger in np.unique(again[1:, Column.LEDGER]).tolist():
        of_ledger = again[again[:, Column.LEDGER] == ledger]
        if of_ledger[:, Column.DEBITS_POSTED].sum() != of_ledger[:, Column.CREDITS_POSTED].sum():
            report.problem(f"ledger {ledger}: debits and credits differ")


def _compare_indexes(report: VerifyReport, snapshot: Snapshot, state: LedgerState) -> None:
    """Every id of the history leads to where it was recorded, and exactly the pending transfers wait that should."""
    total = 0
    try:
        for ids, refs in snapshot.ids():
            total += len(refs)
            found = np.zeros(len(refs), dtype=np.int64)
            state.ids.find_ids(ids, found)
            if not np.array_equal(found, refs):
                report.problem("the index of ids leads elsewhere than the history")
                break
    except BrokenHistoryError as error:
        report.problem(str(error))
    if total != state.ids.count:
        report.problem(f"the index of ids has {total} entries, the history {state.ids.count}")
    rows = state.pending_rows
    waiting = {int(row[kernel.P_REF]): row for row in rows[rows[:, kernel.P_STATE] == kernel.ACTIVE]}
    stored = {reference: fields for reference, _, fields in snapshot.pending()}
    for reference in sorted(waiting.keys() ^ stored.keys()):
        report.problem(f"pending transfer {reference:#x}: waits by the history or by the index, but not by both")
    for reference in sorted(waiting.keys() & stored.keys()):
        if not np.array_equal(waiting[reference], stored[reference]):
            report.problem(f"pending transfer {reference:#x}: the stored fields are not what its history leads to")
