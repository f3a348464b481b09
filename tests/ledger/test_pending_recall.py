"""An ended pending transfer stays ended, however full the table of pending transfers is when it is named again."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from kibubu.raft.v1 import raft_pb2

from node.ledger.entry import encode_entry
from node.ledger.records import TRANSFER, Records
from node.ledger.statuses import Status
from node.ledger.tables import PENDING_TABLE_MIN
from node.storage.ledger_store import LedgerStore, StoreConfig

_PENDING, _VOID = 2, 8


@dataclass(frozen=True, slots=True)
class Entry:
    position: int
    data: bytes
    term: int = 1


class Node:
    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.store = self._open()

    def _open(self) -> LedgerStore:
        return LedgerStore(self.folder, StoreConfig("test", "n1", map_bytes=1 << 28))

    def apply(self, *, commands: bytes = b"", transfers: Records | None = None) -> Records:
        position = self.store.applied_position + 1
        packed = b"" if transfers is None else transfers.tobytes()
        data = encode_entry(position * 1_000, commands=commands, transfers=packed)
        return self.store.apply([Entry(position, data)])[0].replies

    def restart(self) -> None:
        self.store.checkpoint(wait=True)
        self.store.close()
        self.store = self._open()


def accounts() -> bytes:
    new = [
        raft_pb2.Command(
            request_id=number.to_bytes(16, "big"),
            create_account=raft_pb2.CreateAccount(ledger=404, kind=11, name=str(number)),
        )
        for number in (1, 2)
    ]
    return raft_pb2.Commands(commands=new).SerializeToString()


def pending(first_id: int, count: int) -> Records:
    batch = np.zeros(count, TRANSFER)
    batch["id_lo"] = np.arange(first_id, first_id + count)
    batch["debit_account"], batch["credit_account"], batch["amount_minor"] = 1, 2, 5
    batch["ledger"], batch["code"], batch["flags"] = 404, 1_003, _PENDING
    return batch


def void(own_id: int, pending_id: int) -> Records:
    batch = np.zeros(1, TRANSFER)
    batch["id_lo"], batch["pending_id_lo"] = own_id, pending_id
    batch["ledger"], batch["code"], batch["flags"] = 404, 1_003, _VOID
    return batch


def test_a_table_made_anew_forgets_nothing_that_was_just_recalled(tmp_path: Path) -> None:
    always_up, restarted = Node(tmp_path / "a"), Node(tmp_path / "b")
    answers = []
    for node in (always_up, restarted):
        node.apply(commands=accounts())
        node.apply(transfers=pending(1, 1))
        assert node.apply(transfers=void(2, 1))["status"].tolist() == [Status.OK]
        node.apply(transfers=pending(10, PENDING_TABLE_MIN // 2 - 10))
        if node is restarted:
            node.restart()
        batch = np.concatenate([pending(1_000, 20), void(2_000, 1)])
        answers.append(node.apply(transfers=batch)["status"].tolist())
    assert answers[0][-1] == Status.PENDING_TRANSFER_ALREADY_VOIDED
    assert answers[0] == answers[1]
    assert always_up.store.chain_hash == restarted.store.chain_hash
    for node in (always_up, restarted):
        node.store.close()
