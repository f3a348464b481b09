"""Histories as many clients would have them, decided by the node's own kernel: what the checker must find right, and
what its mutation tests then spoil."""

from __future__ import annotations

import random
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from kibubu.raft.v1 import raft_pb2

from cluster.chaos.checker import EXPIRED, LOGGED, NEVER_NS, READ, Evidence, Outcome, check
from cluster.chaos.checker.model import LINKED, PENDING, POST, VOID
from cluster.chaos.checker.records import CONTENT, RESULT, Records
from cluster.chaos.history import operations_of
from node.ledger.columns import Column
from node.ledger.entry import encode_entry
from node.ledger.records import TRANSFER
from node.storage.ledger_store import LedgerStore, StoreConfig

ACCOUNTS = 40
OPENING_MINOR = 20_000
_MS = 1_000_000
_LATENCY_NS_MAX = 30 * _MS
_BATCH_NS = 2 * _MS
_ENTRY_NS = 200 * _MS  # of the log's own clock
_TERM_NS = 10 * _BATCH_NS


@dataclass(frozen=True, slots=True)
class _Entry:
    position: int
    data: bytes
    term: int = 1


class Synthesis:
    def __init__(self, folder: Path, seed: int) -> None:
        self._random = random.Random(seed)
        self._numpy = np.random.default_rng(seed)
        self._store = LedgerStore(folder, StoreConfig("test", "n1", map_bytes=1 << 32))
        self._next_id = 1
        self._waiting: list[tuple[int, int, int, int]] = []  # id, debit, credit, amount
        self._parties: dict[int, tuple[int, int]] = {}
        self._operations: list[Records] = []
        self._logged: list[Records] = []
        self._reads: list[tuple[int, ...]] = []
        self._expired: list[tuple[int, int, int, int]] = []
        self._now_ns = 1_000_000 * _MS
        self._open_accounts()

    def _apply(self, *, commands: bytes = b"", transfers: bytes = b"") -> Records:
        position = self._store.applied_position + 1
        data = encode_entry(position * _ENTRY_NS, commands=commands, transfers=transfers)
        replies = self._store.apply([_Entry(position, data)])[0].replies
        batch = self._store.export(position, position, 1)[0]
        self._expired += [(position, batch.timestamp_ns, ref >> 16, ref & 0xFFFF) for ref in batch.expired]
        return replies

    def _open_accounts(self) -> None:
        new = [
            raft_pb2.Command(
                request_id=number.to_bytes(16, "big"),
                create_account=raft_pb2.CreateAccount(ledger=404, kind=11, flags=int(number > 1), name=str(number)),
            )
            for number in range(1, ACCOUNTS + 2)
        ]
        self._apply(commands=raft_pb2.Commands(commands=new).SerializeToString())
        funding = self._fresh(ACCOUNTS)
        funding["debit_account"], funding["credit_account"] = 1, np.arange(2, ACCOUNTS + 2)
        funding["amount_minor"] = OPENING_MINOR
        self._commit(funding)

    def _fresh(self, count: int) -> Records:
        batch = np.zeros(count, TRANSFER)
        batch["id_lo"] = np.arange(self._next_id, self._next_id + count)
        batch["id_hi"] = 7
        batch["ledger"], batch["code"] = 404, 1_003
        self._next_id += count
        return batch

    def _next(self, count: int) -> Records:
        """Plain transfers, linked pairs, and pending ones with what ends them."""
        batch = self._fresh(count)
        debit = self._numpy.integers(0, ACCOUNTS, count)
        credit = (debit + self._numpy.integers(1, ACCOUNTS, count)) % ACCOUNTS
        batch["debit_account"], batch["credit_account"] = debit + 2, credit + 2
        batch["amount_minor"] = self._numpy.integers(1, 3_000, count)
        kind = self._numpy.random(count)
        batch["flags"][:-1][kind[:-1] < 0.1] = LINKED
        batch["flags"][(batch["flags"] == 0) & (kind > 0.93)] = PENDING
        for at in np.flatnonzero((kind > 0.87) & (kind < 0.93) & (batch["flags"] == 0)).tolist():
            self._end_one(batch, at)
        for at in np.flatnonzero(batch["flags"] == PENDING).tolist():
            batch["timeout_s"][at] = self._random.choice((0, 0, 1, 5))
            row = batch[at]
            number = int(row["id_hi"]) << 64 | int(row["id_lo"])
            parties = int(row["debit_account"]), int(row["credit_account"])
            self._waiting.append((number, *parties, int(row["amount_minor"])))
        return batch

    def _end_one(self, batch: Records, at: int) -> None:
        if not self._waiting:
            return
        which = self._random.randrange(len(self._waiting))
        number, debit, credit, amount_minor = self._waiting[which]
        if self._random.random() < 0.8:
            self._waiting[which] = self._waiting[-1]  # the others will be named again, and refused
            self._waiting.pop()
        self._parties[number] = debit, credit
        batch["flags"][at] = self._random.choice((POST, VOID))
        batch["pending_id_hi"][at], batch["pending_id_lo"][at] = number >> 64, number & (1 << 64) - 1
        batch["debit_account"][at] = batch["credit_account"][at] = 0
        is_post = batch["flags"][at] == POST
        batch["amount_minor"][at] = self._random.randrange(amount_minor + 1) if is_post else 0

    def _commit(self, batch: Records) -> None:
        replies = self._apply(transfers=batch.tobytes())
        stored = batch.copy()
        stored_log = np.zeros(len(batch), LOGGED)
        for name in ("id_hi", "id_lo", *CONTENT):
            stored_log[name] = stored[name]
        self._fill_accounts(stored_log)
        for name in RESULT:
            stored_log[name] = replies[name]
        self._logged.append(stored_log)
        rows = operations_of(batch)
        for name in RESULT:
            rows[name] = replies[name]
        rows["term"] = self._now_ns // _TERM_NS
        rows["invoked_ns"] = self._now_ns - self._numpy.integers(0, _LATENCY_NS_MAX, len(batch))
        rows["completed_ns"] = self._now_ns + 1 + self._numpy.integers(0, _LATENCY_NS_MAX, len(batch))
        self._operations.append(self._unanswered(rows))
        self._operations.append(self._retries(rows))

    def _fill_accounts(self, log: Records) -> None:
        """A node shows a post or void with the accounts of what it ended."""
        for at in np.flatnonzero((log["debit_account"] == 0) & (log["status"] == 0)).tolist():
            pending = int(log["pending_id_hi"][at]) << 64 | int(log["pending_id_lo"][at])
            log["debit_account"][at], log["credit_account"][at] = self._parties[pending]

    def _unanswered(self, rows: Records) -> Records:
        """Some answers got lost on the way."""
        lost = self._numpy.random(len(rows)) < 0.03
        for name in RESULT:
            rows[name][lost] = 0
        rows["completed_ns"][lost], rows["outcome"][lost] = NEVER_NS, Outcome.UNKNOWN
        return rows

    def _retries(self, rows: Records) -> Records:
        again = rows[(self._numpy.random(len(rows)) < 0.03) & (rows["outcome"] == Outcome.ACKNOWLEDGED)].copy()
        again["invoked_ns"] = again["completed_ns"] + 1
        again["term"], again["repeated"] = (again["invoked_ns"] + 1) // _TERM_NS, 1
        again["completed_ns"] += 5 * _MS
        return again

    def _never_applied(self, outcome: Outcome) -> None:
        rows = operations_of(self._fresh(1))
        rows["debit_account"], rows["credit_account"], rows["amount_minor"] = 2, 3, 5
        rows["invoked_ns"], rows["outcome"] = self._now_ns, outcome
        rows["completed_ns"] = self._now_ns + _MS if outcome is Outcome.NOT_APPLIED else NEVER_NS
        self._operations.append(rows)

    def _read(self) -> None:
        account = self._random.randrange(2, ACCOUNTS + 2)
        row = self._store.columns[account]
        balance_minor = int(row[5] - row[4])
        begin = self._now_ns - self._random.randrange(_LATENCY_NS_MAX)
        end = self._now_ns + 1 + self._random.randrange(_LATENCY_NS_MAX)
        position = self._store.applied_position
        term, version = self._now_ns // _TERM_NS, int(row[Column.LAST_REFERENCE]) >> 16
        available_minor = balance_minor - int(row[6])
        self._reads.append((account, position, balance_minor, available_minor, version, term, begin, end))

    def run(self, transfers: int, batch: int = 50) -> Evidence:
        for _ in range(0, transfers, batch):
            self._now_ns += _BATCH_NS
            self._commit(self._next(batch))
            for _ in range(2):
                self._read()
            if self._random.random() < 0.2:
                self._never_applied(self._random.choice((Outcome.NOT_APPLIED, Outcome.UNKNOWN)))
        columns = self._store.columns
        log = np.concatenate(self._logged)
        evidence = Evidence(
            np.concatenate(self._operations),
            np.array(self._reads, READ),
            {node: log.copy() for node in ("n1", "n2", "n3")},
            expired={node: np.array(self._expired, EXPIRED) for node in ("n1", "n2", "n3")},
            final_balances_minor={n: int(columns[n, 5] - columns[n, 4]) for n in range(1, ACCOUNTS + 2)},
            guarded=frozenset(range(2, ACCOUNTS + 2)),
        )
        self._store.close()
        return evidence


def synthesize(folder: Path, *, transfers: int, seed: int, batch: int = 50) -> Evidence:
    return Synthesis(folder, seed).run(transfers, batch)


def main() -> None:
    """How fast the checker is: python -m tests.chaos.synthetic 1000000"""
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000
    with tempfile.TemporaryDirectory() as folder:
        evidence = synthesize(Path(folder), transfers=count, seed=1, batch=1_000)
    started_s = time.process_time()
    verdict = check(evidence)
    seconds = time.process_time() - started_s
    checked = verdict.operations + verdict.reads
    print(f"{checked:,} operations in {seconds:.2f} s of one core: {checked / seconds:,.0f} a second; ok: {verdict.ok}")


if __name__ == "__main__":
    main()
