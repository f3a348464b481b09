"""Loads every compiled kernel before the node serves, so that no first customer and no heartbeat waits for a compiler.

Nodes of one installation share numba's cache. Where it is empty the first of them compiles, behind a lock, and the
others load what it made: three compilers at once on a small machine take three times as long.
"""

from __future__ import annotations

import contextlib
import fcntl
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numba
import numpy as np
from kibubu.raft.v1 import raft_pb2

from node.consensus.contract import LogEntry
from node.ledger import tiers
from node.ledger.columns import AccountKind
from node.ledger.entry import encode_entry
from node.ledger.overlay import FIELDS, extract_in_order
from node.ledger.records import PAYMENT, TRANSFER, Records, TransferFlag
from node.ledger.scoring import payments_of, words_of, write_decisions
from node.ledger.statuses import TransferCode
from node.payments.limits import limit_broken
from node.service.account_usage import usage_of
from node.storage.ledger_store import LedgerStore, StoreConfig

_LEDGER = 404
_START_NS = 1_000_000_000_000_000_000


def warm_up() -> None:
    """Runs a ledger of two accounts in a folder of its own, through every kernel once."""
    with _one_at_a_time(), tempfile.TemporaryDirectory(prefix="kibubu-warm-up-") as folder:
        store = LedgerStore(Path(folder), StoreConfig("warm-up", "n", map_bytes=16 << 20))
        entries = [_accounts(), _transfers(1, TransferFlag(0)), _transfers(3, TransferFlag.PENDING)]
        for data in (*entries, _ends(5, 3), _ends(6, 4)):
            store.apply([LogEntry(store.applied_position + 1, 1, data)])
        store.checkpoint(wait=True)
        store.apply([LogEntry(store.applied_position + 1, 1, entries[1])])  # a retry: looked for in the index of ids
        _extract(store)
        _limit(store)
        store.state_hash()
        store.close()


@contextlib.contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Without a lock where the cache cannot be written: then nothing is shared either."""
    path = Path(numba.config.CACHE_DIR).with_suffix(".lock")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            yield
    except PermissionError:
        yield


def _accounts() -> bytes:
    commands = [
        raft_pb2.Command(
            request_id=number.to_bytes(16, "big"),
            create_account=raft_pb2.CreateAccount(ledger=_LEDGER, kind=AccountKind.OTHER),
        )
        for number in (1, 2)
    ]
    return encode_entry(_START_NS, commands=raft_pb2.Commands(commands=commands).SerializeToString())


def _transfers(first_id: int, flags: TransferFlag) -> bytes:
    """Two, and the PIN verdict of a payment."""
    records: Records = np.zeros(2, dtype=TRANSFER)
    records["id_lo"] = (first_id, first_id + 1)
    records["debit_account"], records["credit_account"] = 1, 2
    records["amount_minor"], records["ledger"], records["code"], records["flags"] = 1, _LEDGER, 1_001, int(flags)
    payment: Records = np.zeros(1, dtype=PAYMENT)
    payment["id_lo"], payment["payer_account"] = first_id, 1
    return encode_entry(_START_NS, payments=payment.tobytes(), transfers=records.tobytes())


def _ends(own_id: int, pending_id: int) -> bytes:
    record: Records = np.zeros(1, dtype=TRANSFER)
    record["id_lo"], record["pending_id_lo"], record["flags"] = own_id, pending_id, int(TransferFlag.POST)
    return encode_entry(_START_NS, transfers=record.tobytes())


def _limit(store: LedgerStore) -> None:
    """What the desk asks before a payment, and an operator of an account, where there are tiers."""
    tier = b'[[tier]]\nnumber = 1\nname = "n"\ncurrency = "KES"\nutc_offset_minutes = 0\n'
    commands = [
        raft_pb2.Command(
            request_id=(3).to_bytes(16, "big"),
            put_document=raft_pb2.PutDocument(kind=tiers.KIND, key=tiers.KEY, body=tier, author="n"),
        ),
        raft_pb2.Command(request_id=(4).to_bytes(16, "big"), set_tier=raft_pb2.SetTier(account_number=1, tier=1)),
    ]
    data = encode_entry(_START_NS, commands=raft_pb2.Commands(commands=commands).SerializeToString())
    store.apply([LogEntry(store.applied_position + 1, 1, data)])
    limit_broken(store.columns, store.tiers, 1, 2, 1, TransferCode.PRINCIPAL, _START_NS)
    usage_of(store.columns[1].copy(), store.tiers, _START_NS)


def _extract(store: LedgerStore) -> None:
    """The features of one payment, as the payment desk asks for them, and a raw transfer's way past the fraud check."""
    payment = np.array([[1, 2, 1, 1, 2]], dtype=np.int64)
    packed = bytearray(TRANSFER.itemsize)
    payments, _ = payments_of(store.columns, words_of(bytes(packed)), np.array([1], dtype=np.int64))
    found, scores_ppm = np.ones(1, dtype=np.uint8), np.zeros(1, dtype=np.int64)
    write_decisions(words_of(packed), payments, found, scores_ppm, found, 1)
    extract_in_order(store.columns, np.zeros((0, FIELDS), dtype=np.int64), payment, _START_NS)
