"""Prove the books from the stored history: run every entry again through the kernel, from nothing, and compare
outcomes, hash chain and account rows with what is stored; and add the outcomes up once more without the kernel."""

from __future__ import annotations

import itertools
from dataclasses import dataclass, field

import numpy as np

from node.ledger import kernel
from node.ledger.columns import Column
from node.ledger.history import AppliedBatch, BrokenHistoryError, Document, FirstSeen, Int64s, Profile, Remembered
from node.ledger.records import OFFSET_BITS
from node.ledger.state import LedgerState
from node.payments.pin_tries import apply_verdicts
from node.storage.batch_codec import decode_batch, first_seen_in, open_batch
from node.storage.ledger_db import DurableState, Snapshot, fact_items
from node.storage.memtable import Memtable
from node.storage.postings import postings_of

PROBLEMS_MAX = 20
_OFFSET_MASK = (1 << OFFSET_BITS) - 1


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
        self.state = state
        self.memtable = Memtable(state.ids)

    def find_ids(self, words: Int64s, out: Int64s) -> None:
        """The state's own table holds them all."""

    def first_seen(self, reference: int) -> FirstSeen:
        value = self._snapshot.batch(reference >> OFFSET_BITS)
        if value is None:
            raise BrokenHistoryError(f"no batch at {reference >> OFFSET_BITS}")
        return first_seen_in(open_batch(decode_batch(value)), reference & _OFFSET_MASK)

    def pending_end(self, reference: int) -> int:
        return self.memtable.ended.get(reference, 0)

    def account_by_handle(self, ledger: int, key: str, value: str) -> int:
        return self.memtable.handles.get((ledger, key, value), 0)

    def remembered(self, request_id: bytes) -> Remembered | None:
        return self.memtable.requests.get(request_id)

    def profile(self, account_number: int) -> Profile | None:
        return self.memtable.profiles.get(account_number)

    def document(self, kind: str, key: str) -> Document | None:
        versions = self.memtable.documents.get((kind, key))
        return versions[-1] if versions else None


def verify_history(snapshot: Snapshot) -> VerifyReport:
    """All of one moment: the node goes on writing meanwhile."""
    report, state = VerifyReport(), LedgerState(apply_verdicts)
    history = _ReplayHistory(snapshot, state)
    try:
        durable = snapshot.state()
        sums = np.zeros((durable.accounts_total + 1, 2), dtype=np.int64)
        _replay(report, snapshot, history, sums)
        _compare_ends(report, state, durable)
        if not report.problems:
            _compare_rows(report, snapshot, state, sums)
            _compare_ids(report, snapshot, state)
            _compare_pending(report, snapshot, state)
            _compare_facts(report, snapshot, history.memtable)
    except Exception as error:
        # Whatever a flipped bit leads to is a finding, not a crash of the check.
        report.problem(f"after position {state.position}: {type(error).__name__}: {error}")
    report.position, report.accounts = state.position, state.accounts_total
    report.chain_hash, report.state_hash = state.chain_hash, state.state_hash()
    return report


def _replay(report: VerifyReport, snapshot: Snapshot, history: _ReplayHistory, sums: Int64s) -> None:
    for key, value in snapshot.items("batches"):
        stored = decode_batch(value)
        if int.from_bytes(key, "big") != stored.position:
            report.problem(f"position {stored.position}: the batch is stored as {int.from_bytes(key, 'big')}")
        again = history.state.apply(stored.position, stored.entry, history, history.memtable)
        history.memtable.note(again)
        _compare(report, stored, again)
        _add_up(history, stored, sums)
        report.batches += 1
        report.transfers += len(stored.outcomes)


def _compare_ends(report: VerifyReport, state: LedgerState, durable: DurableState) -> None:
    totals = (state.position, state.timestamp_ns, state.accounts_total, report.transfers)
    found = DurableState(*totals, state.chain_hash, state.commands_hash)
    for name in ("position", "timestamp_ns", "accounts_total", "transfers_total", "chain_hash", "commands_hash"):
        if getattr(found, name) != getattr(durable, name):
            report.problem(f"the history ends with {name} {getattr(found, name)!r}, the checkpoint says otherwise")


def _compare(report: VerifyReport, stored: AppliedBatch, again: AppliedBatch) -> None:
    if not np.array_equal(stored.outcomes, again.outcomes):
        report.problem(f"position {stored.position}: stored outcomes are not what the entry leads to")
    if stored.expired != again.expired:
        report.problem(f"position {stored.position}: stored time-outs are not what the entry leads to")
    if stored.timestamp_ns != again.timestamp_ns:
        report.problem(f"position {stored.position}: the stored time is not what the entry leads to")
    if stored.chain_hash != again.chain_hash:
        report.problem(f"position {stored.position}: the hash chain is broken")


def _add_up(history: _ReplayHistory, stored: AppliedBatch, sums: Int64s) -> None:
    postings = postings_of(stored, history.first_seen)
    np.add.at(sums[:, 0], postings[:, 0], postings[:, 2])
    np.add.at(sums[:, 1], postings[:, 1], postings[:, 2])


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


def _compare_ids(report: VerifyReport, snapshot: Snapshot, state: LedgerState) -> None:
    """Exactly the ids of the history, each leading to where it was first decided."""
    total = 0
    for words, references in snapshot.ids():
        expected = np.zeros(len(words), dtype=np.int64)
        state.ids.find_ids(words, expected)
        for at in np.flatnonzero(references != expected).tolist():
            number = (int(words[at, 1]) % (1 << 64)) << 64 | int(words[at, 0]) % (1 << 64)
            report.problem(f"id {number:#034x}: the index leads to {references[at]:#x}, not to {expected[at]:#x}")
        total += len(words)
    if total != state.ids.count:
        report.problem(f"the index of ids has {total} entries, the history {state.ids.count}")


def _compare_pending(report: VerifyReport, snapshot: Snapshot, state: LedgerState) -> None:
    """Exactly the pending transfers that still wait."""
    rows, keys = state.pending_rows, state.pending_keys
    waiting = {
        int(rows[at, kernel.P_REF]): (*keys[at].tolist(), *rows[at].tolist())
        for at in np.flatnonzero(rows[:, kernel.P_STATE] == kernel.ACTIVE).tolist()
    }
    stored = {reference: (*words, *fields.tolist()) for reference, words, fields in snapshot.pending()}
    for reference in sorted(waiting.keys() ^ stored.keys()):
        report.problem(f"pending transfer {reference:#x}: waits by the history or by the index, but not by both")
    for reference in sorted(waiting.keys() & stored.keys()):
        if waiting[reference] != stored[reference]:
            report.problem(f"pending transfer {reference:#x}: the stored fields are not what its history leads to")


def _compare_facts(report: VerifyReport, snapshot: Snapshot, memtable: Memtable) -> None:
    """Payments, handles, profiles, requests, documents and the ends of pending transfers."""
    for db, expected in fact_items(memtable).items():
        for wanted, found in itertools.zip_longest(expected, snapshot.items(db)):
            if wanted != found:
                report.problem(f"{db}: {_hex(found)} is stored, the history leads to {_hex(wanted)}")
                break


def _hex(item: tuple[bytes, bytes] | None) -> str:
    return f"{item[0].hex()} = {item[1].hex()}" if item else "nothing more"
