"""What a node does to its disk, in small: journal, votes, truncation, compaction, checkpoints. Run under the shim.

Before each sync it marks the state that the sync is to bring, after it that the state is promised. The journal and the
ledger are marked apart, since a checkpoint runs on a thread of its own in a node and by itself here.
"""

from __future__ import annotations

import ctypes
import hashlib
import json
import random
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from kibubu.raft.v1 import raft_pb2

from node.ledger.entry import encode_entry
from node.ledger.records import TRANSFER
from node.storage.ledger_store import LedgerStore, StoreConfig
from node.storage.raft_log import RaftLog

MAP_BYTES = 1 << 30
SEGMENT_BYTES = 64 << 10  # so that some are begun, and recycled
_LARGE_BYTES = 9_000  # a record that takes pages of its own


def open_journal(folder: Path) -> RaftLog:
    return RaftLog(folder, cluster_id="crash", node_id="n1", segment_bytes=SEGMENT_BYTES, memory_bytes_max=1 << 20)


def open_ledger(folder: Path) -> LedgerStore:
    return LedgerStore(folder, StoreConfig("crash", "n1", map_bytes=MAP_BYTES))


def journal_state(log: RaftLog) -> dict[str, object]:
    entries = log.read(log.base_index + 1, 1 << 30, 1 << 40) if log.last_index > log.base_index else []
    digest = hashlib.sha256(b"".join(term.to_bytes(8, "big") + data for term, data in entries)).hexdigest()[:16]
    return {"term": log.term, "vote": log.voted_for, "base": log.base_index, "last": log.last_index, "entries": digest}


def ledger_state(store: LedgerStore) -> dict[str, object]:
    return {
        "position": store.applied_position,
        "chain": store.chain_hash.hex()[:16],
        "accounts": store.accounts_total,
        "transfers": store.transfers_total,
        "state": store.state_hash().hex()[:16],
    }


@dataclass(frozen=True, slots=True)
class Entry:
    position: int
    data: bytes
    term: int = 1


class Workload:
    def __init__(self, root: Path, seed: int) -> None:
        self._random = random.Random(seed)
        self._mark = ctypes.CDLL(None).kibubu_shim_mark
        self._say("journal", "begin", {"term": 0, "vote": "", "base": 0, "last": 0})
        self._log = open_journal(root / "raft")
        self._store = open_ledger(root / "ledger")
        self._next_id = 1
        self._applied_ns = 0

    def _say(self, part: str, what: str, state: dict[str, object]) -> None:
        self._mark(json.dumps({"part": part, "what": what, "state": state}).encode())

    def _sync(self) -> None:
        state = journal_state(self._log)
        self._say("journal", "begin", state)
        self._log.sync()
        self._say("journal", "done", state)

    def _entry(self) -> bytes:
        if self._store.accounts_total == 0 and self._log.last_index == self._log.base_index:
            new = [
                raft_pb2.Command(
                    request_id=number.to_bytes(16, "big"),
                    create_account=raft_pb2.CreateAccount(ledger=404, kind=11, name=f"account {number}"),
                )
                for number in range(1, 21)
            ]
            return encode_entry(1, commands=raft_pb2.Commands(commands=new).SerializeToString())
        count = self._random.choice((1, 3, _LARGE_BYTES // TRANSFER.itemsize))
        batch = np.zeros(count, TRANSFER)
        batch["id_lo"] = np.arange(self._next_id, self._next_id + count)
        self._next_id += count
        batch["debit_account"] = self._random.randrange(1, 11)
        batch["credit_account"] = self._random.randrange(11, 21)
        batch["amount_minor"], batch["ledger"], batch["code"] = 5, 404, 1_003
        batch["flags"] = self._random.choice((0, 0, 2))
        self._applied_ns += 1_000
        return encode_entry(self._applied_ns, transfers=batch.tobytes())

    def step(self) -> None:
        log, kind = self._log, self._random.random()
        if kind < 0.1:
            log.set_term(log.term + 1, self._random.choice(("n1", "n2", "")))
            self._sync()
        elif kind < 0.2 and log.last_index > max(log.commit_index, log.base_index):
            log.truncate(log.commit_index + 1)  # a follower whose leader knows better
            self._sync()
        elif kind < 0.3:
            self._checkpoint()
        elif kind < 0.4 and self._store.durable_position > log.base_index:
            log.compact(self._store.durable_position)
            self._sync()
        else:
            self._append_and_apply()

    def _append_and_apply(self) -> None:
        log = self._log
        for _ in range(self._random.randrange(1, 4)):
            log.append(log.term, self._entry())
        self._sync()
        upto = self._random.randrange(log.commit_index, log.last_index + 1)
        log.set_commit(upto)
        first = self._store.applied_position + 1
        if upto >= first:
            entries = log.read(first, upto - first + 1, 1 << 40)
            self._store.apply([Entry(first + i, data) for i, (_, data) in enumerate(entries)])

    def _checkpoint(self) -> None:
        if self._store.applied_position == self._store.durable_position:
            return
        state = ledger_state(self._store)
        self._say("ledger", "begin", state)
        self._store.checkpoint(wait=True)
        self._say("ledger", "done", state)

    def run(self, steps: int) -> None:
        for _ in range(steps):
            self.step()
        self._checkpoint()  # closing would make one too, unmarked
        self._store.close()
        self._log.close()


if __name__ == "__main__":
    Workload(Path(sys.argv[1]), int(sys.argv[2])).run(int(sys.argv[3]))
