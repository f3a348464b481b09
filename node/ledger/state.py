"""The replicated state machine without its disk: account rows, pending transfers, the running hash, and the one
function that takes the next log entry. Same entries, same bytes, on every node."""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
from blake3 import blake3
from kibubu.raft.v1 import raft_pb2

from node.ledger import kernel
from node.ledger.columns import COLUMN_COUNT
from node.ledger.commands import apply_command
from node.ledger.counting import count_transfers, new_counts
from node.ledger.entry import Entry, decode_entry
from node.ledger.history import AppliedBatch, BrokenHistoryError, CommandOutcome, Facts, FirstSeen, History, Int64s
from node.ledger.records import BATCH_TRANSFERS_MAX, OUTCOME_WORDS, TRANSFER_WORDS, OutcomeFlag, Records, TransferFlag
from node.ledger.state_digest import StateDigest, digest_in_any_order
from node.ledger.tables import PENDING_TABLE_MIN, IdTable, copy_pending, find_pending, insert_pending
from node.ledger.tiers import Tiers
from node.ledger.usage import BEFORE_FIELDS

CHAIN_START = bytes(32)
ROWS_MIN = 1_024
EXPIRIES_MIN = 1_024
STATE_HASH_EVERY = 1_000  # positions; at these, which all nodes share, the hash of the state is kept
STATE_HASHES_MAX = 4_096
_ENDS = int(TransferFlag.POST | TransferFlag.VOID)
_DUPLICATE = int(OutcomeFlag.DUPLICATE)

ApplyVerdicts = Callable[[Int64s, int, Int64s, Int64s, npt.NDArray[np.uint8], Int64s], None]


class LedgerState:
    """`apply_verdicts` is the PIN rule (node/payments/pin_tries); it comes in because imports point the other way."""

    def __init__(self, apply_verdicts: ApplyVerdicts) -> None:
        self._apply_verdicts_to = apply_verdicts
        self.columns: Int64s = np.zeros((ROWS_MIN, COLUMN_COUNT), dtype=np.int64)
        self.dirty = np.zeros(ROWS_MIN, dtype=np.uint8)
        self.accounts_total = 0
        self.position = 0
        self.timestamp_ns = 0
        self.chain_hash = CHAIN_START
        self.commands_hash = CHAIN_START
        self.ids = IdTable()
        self.pending_keys: Int64s = np.zeros((PENDING_TABLE_MIN, 2), dtype=np.int64)
        self.pending_rows: Int64s = np.zeros((PENDING_TABLE_MIN, kernel.PENDING_FIELDS), dtype=np.int64)
        self.pending_count = 0  # rows in use, ended ones included
        self._expiries: list[tuple[int, int, int, int]] = []  # (expires_ns, reference, id low, id high)
        self._expiries_max = EXPIRIES_MIN
        self.transfer_counts = new_counts()
        self.hash_every = STATE_HASH_EVERY
        self.hashes: dict[int, bytes] = {}  # position -> hash of the state there, the newest STATE_HASHES_MAX
        self._digest = StateDigest()
        self.tiers = Tiers()
        self._usage: Int64s = np.zeros((BATCH_TRANSFERS_MAX, BEFORE_FIELDS), dtype=np.int64)  # for the kernel's undo

    # --- accounts -------------------------------------------------------------------------------------------------

    def new_row(self) -> int:
        self.accounts_total += 1
        self.reserve_rows(self.accounts_total + 1)
        return self.accounts_total

    def reserve_rows(self, rows: int) -> None:
        have = len(self.columns)
        if rows <= have:
            return
        more = max(have, rows - have)
        self.columns = np.concatenate([self.columns, np.zeros((more, COLUMN_COUNT), dtype=np.int64)])
        self.dirty = np.concatenate([self.dirty, np.zeros(more, dtype=np.uint8)])

    def touch(self, account_number: int) -> None:
        self.dirty[account_number] = 1

    # --- pending transfers ----------------------------------------------------------------------------------------

    @property
    def next_expiry_ns(self) -> int:
        return self._expiries[0][0] if self._expiries else 0

    def add_pending(self, keys: tuple[int, int], fields: Int64s) -> None:
        """Put a pending transfer back: at start from the checkpoint, or an ended one that is asked for again."""
        self._reserve_pending(1)
        at = insert_pending(self.pending_keys, self.pending_rows, np.int64(keys[0]), np.int64(keys[1]))
        self.pending_rows[at] = fields
        self.pending_count += 1
        if fields[kernel.P_STATE] == kernel.ACTIVE and fields[kernel.P_EXPIRES_NS]:
            self._remember_expiry(fields, (int(keys[0]), int(keys[1])))

    def _reserve_pending(self, more: int) -> None:
        """Room for `more` rows at half load; ended ones go when the table is made anew: history knows them."""
        capacity = len(self.pending_rows)
        if (self.pending_count + more) * 2 <= capacity:
            return
        active = int(np.count_nonzero(self.pending_rows[:, kernel.P_STATE] == kernel.ACTIVE))
        capacity = PENDING_TABLE_MIN
        while (active + more) * 4 > capacity:
            capacity *= 2
        keys = np.zeros((capacity, 2), dtype=np.int64)
        rows = np.zeros((capacity, kernel.PENDING_FIELDS), dtype=np.int64)
        self.pending_count = int(copy_pending(self.pending_keys, self.pending_rows, keys, rows, kernel.ACTIVE))
        self.pending_keys, self.pending_rows = keys, rows

    def _remember_expiry(self, fields: Int64s, keys: tuple[int, int]) -> None:
        """What was posted or voided leaves the heap when it is in the majority there: so it stays as small as what
        waits. The order of what is left does not change: it is one of times and references."""
        if len(self._expiries) >= self._expiries_max:
            rows = self.pending_rows
            waits = [find_pending(self.pending_keys, rows, np.int64(e[2]), np.int64(e[3])) for e in self._expiries]
            self._expiries = [
                entry
                for entry, at in zip(self._expiries, waits, strict=True)
                if at >= 0 and rows[at, kernel.P_STATE] == kernel.ACTIVE
            ]
            heapq.heapify(self._expiries)
            self._expiries_max = max(EXPIRIES_MIN, 2 * len(self._expiries))
        heapq.heappush(self._expiries, (int(fields[kernel.P_EXPIRES_NS]), int(fields[kernel.P_REF]), *keys))

    def _expire(self, timestamp_ns: int) -> tuple[int, ...]:
        expired: list[int] = []
        while self._expiries and self._expiries[0][0] <= timestamp_ns:
            _, _, lo, hi = heapq.heappop(self._expiries)
            reference = kernel.expire_pending(
                self.columns,
                self.pending_keys,
                self.pending_rows,
                np.int64(lo),
                np.int64(hi),
                self.dirty,
                self._usage[0],
            )
            if reference:
                expired.append(int(reference))
        return tuple(expired)

    def _recall_pending(self, words: Int64s, history: History) -> None:
        """Bring the ended or wrong transfers that a post or void names into the table, for the kernel to judge."""
        ends = np.flatnonzero((words[:, 11] >> 16) & _ENDS)
        if not len(ends):
            return
        named = words[ends]
        wanted = np.zeros_like(named)
        wanted[:, 0], wanted[:, 1] = named[:, 5], named[:, 6]
        refs = np.zeros(len(ends), dtype=np.int64)
        if self.ids.find_ids(wanted, refs):
            history.find_ids(wanted, refs)
        for i in np.flatnonzero(refs):
            lo, hi, reference = wanted[i, 0], wanted[i, 1], int(refs[i])
            if find_pending(self.pending_keys, self.pending_rows, lo, hi) < 0:
                self.add_pending((int(lo), int(hi)), self._ended_fields(reference, history))

    @staticmethod
    def _ended_fields(reference: int, history: History) -> Int64s:
        first = history.first_seen(reference)
        fields = np.zeros(kernel.PENDING_FIELDS, dtype=np.int64)
        fields[kernel.P_REF] = reference
        if int(first.outcome[0]) & 0xFFFF:
            fields[kernel.P_STATE] = kernel.REFUSED
        elif not (int(first.words[11]) >> 16) & TransferFlag.PENDING:
            fields[kernel.P_STATE] = kernel.NOT_PENDING
        else:
            state = history.pending_end(reference)
            if not state:
                raise BrokenHistoryError(f"pending transfer {reference:#x} is neither waiting nor ended")
            fields[kernel.P_STATE] = state
        fields[kernel.P_DEBIT], fields[kernel.P_CREDIT] = first.words[2], first.words[3]
        fields[kernel.P_AMOUNT], fields[kernel.P_LEDGER] = first.words[4], (int(first.words[10]) >> 32) & 0xFFFFFFFF
        return fields

    # --- the next entry -------------------------------------------------------------------------------------------

    def apply(self, position: int, data: bytes, history: History, facts: Facts) -> AppliedBatch:
        """Raises MalformedEntryError or BrokenHistoryError, after which the state must not be used."""
        if position != self.position + 1:
            raise BrokenHistoryError(f"entry {position} does not follow {self.position}")
        if data:
            entry = decode_entry(data)
            timestamp_ns = max(entry.timestamp_ns, self.timestamp_ns + 1)
            batch = self._apply_entry(position, timestamp_ns, entry, history, facts)
        else:
            batch = AppliedBatch(
                position, self.timestamp_ns, b"", np.zeros((0, OUTCOME_WORDS), dtype=np.int64), (), b""
            )
        batch.entry = data
        self.position, self.timestamp_ns = position, batch.timestamp_ns
        self.chain_hash = chain_hash(self.chain_hash, batch)
        batch.chain_hash = self.chain_hash
        if position % self.hash_every == 0:
            self._keep_hash()
        return batch

    def _apply_entry(
        self, position: int, timestamp_ns: int, entry: Entry, history: History, facts: Facts
    ) -> AppliedBatch:
        # Before anything else: making the pending table anew drops what has ended, and of what ends in this entry
        # history knows only when the entry is through. Each transfer adds one row at most.
        self._reserve_pending(len(entry.transfers))
        expired = self._expire(timestamp_ns)
        outcomes = np.zeros((len(entry.transfers), OUTCOME_WORDS), dtype=np.int64)
        batch = AppliedBatch(position, timestamp_ns, b"", outcomes, expired, b"")
        batch.ended += [(reference, kernel.EXPIRED) for reference in expired]
        if entry.commands:
            commands = raft_pb2.Commands.FromString(entry.commands).commands
            for command in commands:
                outcome = apply_command(self, history, facts, command, position, timestamp_ns)
                batch.command_outcomes.append(outcome)
            self.commands_hash = commands_hash(self.commands_hash, entry.commands, batch.command_outcomes)
        if len(entry.payments):
            batch.pin_tries = self._apply_verdicts(entry)
        if len(entry.transfers):
            self._apply_transfers(batch, _words(entry.transfers), int(entry.scored), history)
        return batch

    def _apply_verdicts(self, entry: Entry) -> list[int]:
        payers = entry.payments["payer_account"].astype(np.int64)
        of_payees = entry.payments["signer"] == 1
        if of_payees.any():
            payers[of_payees] = entry.payments["payee_account"][of_payees].astype(np.int64)
        verdicts, tries = entry.payments["pin_verdict"].astype(np.int64), np.zeros(len(payers), dtype=np.int64)
        self._apply_verdicts_to(self.columns, self.accounts_total, payers, verdicts, self.dirty, tries)
        told: list[int] = tries.tolist()
        return told

    def _apply_transfers(self, batch: AppliedBatch, words: Int64s, scored: int, history: History) -> None:
        n = len(words)
        outcomes = batch.outcomes
        self._recall_pending(words, history)
        refs = np.zeros(n, dtype=np.int64)
        history.find_ids(words, refs)
        batch.recorded = self.ids.note(words, batch.position, refs)
        same, firsts = self._recall_firsts(words, scored, refs, batch.position, history)
        pending_at = np.full(n, -1, dtype=np.int64)
        seen = np.zeros(n, dtype=np.int64)
        counts = np.zeros(3, dtype=np.int64)
        ids = (self.ids.slots, self.ids.ids, self.ids.refs, self.ids.top)
        kernel.apply_batch(
            self.columns, words, scored, outcomes, batch.position, batch.timestamp_ns, ids, refs, same,
            self.pending_keys, self.pending_rows, pending_at, self.dirty, seen, counts,
            self.tiers.rows_at(batch.timestamp_ns), self._usage,
        )  # fmt: skip
        self.pending_count += int(counts[2])
        for i, first in firsts.items():
            if int(outcomes[i, 0]) >> 16 & _DUPLICATE:
                outcomes[i, 0] = (int(first.outcome[0]) & kernel.TOLD_AGAIN) | _DUPLICATE << 16
                outcomes[i, 1:5] = first.outcome[1:5]
                batch.first_timestamps_ns[int(refs[i])] = first.timestamp_ns
        batch.first_seen = seen
        self._note_pending(batch, words, pending_at)
        count_transfers(words, outcomes, self.transfer_counts)

    @staticmethod
    def _recall_firsts(
        words: Int64s, scored: int, refs: Int64s, position: int, history: History
    ) -> tuple[npt.NDArray[np.uint8], dict[int, FirstSeen]]:
        """What was recorded in earlier batches under ids that come again, and whether it was the very same."""
        same = np.zeros(len(words), dtype=np.uint8)
        firsts: dict[int, FirstSeen] = {}
        for i in np.flatnonzero((refs != 0) & (refs >> 16 != position)).tolist():
            firsts[i] = first = history.first_seen(int(refs[i]))
            same[i] = kernel.same_asked(first.words.reshape(1, -1), 0, int(first.scored), words, i, scored)
        return same, firsts

    def _note_pending(self, batch: AppliedBatch, words: Int64s, pending_at: Int64s) -> None:
        for i in np.flatnonzero(pending_at >= 0).tolist():
            row = self.pending_rows[pending_at[i]]
            if (int(words[i, 11]) >> 16) & _ENDS:
                batch.ended.append((int(row[kernel.P_REF]), int(row[kernel.P_STATE])))
            elif row[kernel.P_EXPIRES_NS]:
                self._remember_expiry(row, (int(words[i, 0]), int(words[i, 1])))

    def take_dirty(self) -> Int64s:
        """Numbers of the rows that changed since the last time."""
        numbers = np.flatnonzero(self.dirty)
        self._digest.changed(numbers)
        self.dirty[numbers] = 0
        return numbers

    def _keep_hash(self) -> None:
        self.hashes[self.position] = self.state_hash()
        if len(self.hashes) > STATE_HASHES_MAX:
            del self.hashes[next(iter(self.hashes))]

    def state_hash(self) -> bytes:
        """Of every account row, the waiting pending transfers, and all commands with their outcomes; equal on nodes at
        the same position."""
        rows = self.accounts_total + 1
        active = np.flatnonzero(self.pending_rows[:, kernel.P_STATE] == kernel.ACTIVE)
        digest = blake3(self.commands_hash)
        digest.update(rows.to_bytes(8, "little"))
        digest.update(self._digest.update(self.columns[:rows], self.dirty))
        digest.update(digest_in_any_order(self.pending_rows, active))
        return digest.digest()


def _words(transfers: Records) -> Int64s:
    """The kernel's view, read-only always, so that it is compiled once; a copy only where commands of an odd length
    before the transfers have moved them off their alignment."""
    aligned = transfers if transfers.ctypes.data % 8 == 0 else transfers.copy()
    words = aligned.view(np.int64).reshape(-1, TRANSFER_WORDS)
    words.flags.writeable = False
    return words


def chain_hash(previous: bytes, batch: AppliedBatch) -> bytes:
    """BLAKE3 over the hash before, the position, the time, the entry, its outcomes and what expired."""
    digest = blake3(previous)
    digest.update(batch.position.to_bytes(8, "little") + batch.timestamp_ns.to_bytes(8, "little"))
    digest.update(batch.entry)
    digest.update(batch.outcomes.reshape(-1).view(np.uint8).data)
    digest.update(np.array(batch.expired, dtype="<i8").tobytes())
    return digest.digest()


def commands_hash(previous: bytes, commands: bytes, outcomes: Sequence[CommandOutcome]) -> bytes:
    """Over the hash before, an entry's commands as they were logged, and what was answered: handles, profiles and
    documents follow from these."""
    digest = blake3(previous)
    digest.update(commands)
    digest.update(np.array([(outcome.status, outcome.account_number) for outcome in outcomes], dtype="<i8").tobytes())
    return digest.digest()
