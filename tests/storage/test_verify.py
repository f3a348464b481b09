"""The proof of the books finds one flipped bit, one missing and one invented item, wherever it is."""

from __future__ import annotations

import random
import shutil
import zlib
from collections.abc import Callable
from pathlib import Path

import lmdb
import numpy as np
import pytest
from kibubu.raft.v1 import raft_pb2

from node.ledger.entry import encode_entry
from node.ledger.history import BrokenHistoryError
from node.ledger.records import PAYMENT, TransferFlag
from node.ledger.statuses import PinVerdict
from node.storage.checked import SEAL_BYTES, seal
from node.storage.ledger_db import LedgerDb
from node.storage.verify import PROBLEMS_MAX, VerifyReport, verify_history
from tests.ledger.building import KES, START_NS, USD, command, commands_entry, transfer, transfers_entry
from tests.storage.stores import open_store, write

PENDING, LINKED, POST = TransferFlag.PENDING, TransferFlag.LINKED, TransferFlag.POST
SECOND = 10**9
CONTENT = (
    "batches",
    "ids",
    "runs",
    "payments",
    "rows",
    "handles",
    "profiles",
    "requests",
    "documents",
    "pending",
    "ended",
)
MAP_BYTES = 1 << 26


def payment_entry(timestamp_ns: int) -> bytes:
    record = np.zeros(1, dtype=PAYMENT)
    record["id_lo"], record["payer_account"], record["payee_account"] = 80, 1, 2
    record["amount_minor"], record["legs"], record["kind"], record["pin_verdict"] = 3, 1, 1, PinVerdict.WRONG
    return encode_entry(timestamp_ns, payments=record.tobytes(), transfers=transfer(80, 1, 2, 3).tobytes())


@pytest.fixture(scope="module")
def books(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with something in every database, written by two checkpoints."""
    folder = tmp_path_factory.mktemp("books")
    store = open_store(folder, map_bytes=MAP_BYTES)
    handle = raft_pb2.AccountHandle(key="msisdn", value="254700000001")
    named = raft_pb2.CreateAccount(ledger=KES, kind=1, name="Wanjiku", handles=[handle])
    others = [raft_pb2.CreateAccount(ledger=ledger, kind=1) for ledger in (KES, KES, USD, USD)]
    write(store, commands_entry([command(create_account=account) for account in (named, *others)]))
    reservations = [transfer(n, 1, 2, 10 + n, flags=PENDING, timeout_s=n * 60) for n in range(1, 5)]
    write(store, transfers_entry([*reservations, transfer(9, 4, 5, 1, ledger=USD), transfer(10, 1, 4, 1)]))
    store.checkpoint(wait=True)
    chain = [transfer(11, 2, 3, 5, flags=LINKED), transfer(12, flags=POST, pending_id=3, amount=7)]
    write(store, transfers_entry([*chain, *reservations[:1]], START_NS + 2 * SECOND))
    write(store, b"")
    write(store, payment_entry(START_NS + 61 * SECOND))
    document = raft_pb2.PutDocument(kind="tariff", key="KES", body=b"fees", author="Amina")
    write(store, commands_entry([command(put_document=document)]))
    store.close()
    return folder


def verified(folder: Path) -> VerifyReport:
    """What the proof says; a node whose index of ids is damaged does not even start."""
    try:
        db = LedgerDb(folder, "test", "n1", MAP_BYTES)
    except BrokenHistoryError as error:
        return VerifyReport(problems=[str(error)])
    try:
        with db.snapshot() as snapshot:
            return verify_history(snapshot)
    finally:
        db.close()


def planted(books: Path, folder: Path, name: str, change: Callable[[lmdb.Transaction], None]) -> VerifyReport:
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(books, folder)
    with lmdb.open(str(folder), max_dbs=20, map_size=MAP_BYTES, sync=False) as env:
        database = env.open_db(name.encode())
        with env.begin(write=True, db=database) as txn:
            change(txn)
    return verified(folder)


def items_of(books: Path, name: str) -> list[tuple[bytes, bytes]]:
    with lmdb.open(str(books), max_dbs=20, readonly=True, lock=False) as env:
        database = env.open_db(name.encode())
        with env.begin(db=database) as txn, txn.cursor() as cursor:
            return [(key, value) for key, value in cursor.iternext() if key != b"version"]  # of the index of ids


def flipped(data: bytes, at: int, bit: int) -> bytes:
    changed = bytearray(data)
    changed[at] ^= 1 << bit
    return bytes(changed)


def content(name: str, value: bytes) -> bytes:
    """Without its seal, which would find every change here before the books are even looked at."""
    return value if name == "ids" else value[:-SEAL_BYTES]


def put_sealed(name: str, key: bytes, value: bytes) -> Callable[[lmdb.Transaction], None]:
    return lambda txn: txn.put(key, value if name == "ids" else seal(key, value))


def test_good_books_are_proven(books: Path) -> None:
    report = verified(books)
    assert report.ok, report.problems
    assert (report.position, report.batches, report.transfers, report.accounts) == (6, 6, 10, 5)
    assert all(items_of(books, name) for name in CONTENT)


@pytest.mark.parametrize("name", CONTENT)
def test_a_flipped_bit_is_found(books: Path, tmp_path: Path, name: str) -> None:
    chance = random.Random(name)
    for key, stored in items_of(books, name):
        value = content(name, stored)
        places = range(len(value)) if len(value) < 40 else chance.sample(range(len(value)), 24)
        for at in places:
            bad = flipped(value, at, chance.randrange(8))
            assert not planted(books, tmp_path / "copy", name, put_sealed(name, key, bad)).ok, (name, key, at)
        bad_key = flipped(key, chance.randrange(len(key)), chance.randrange(8))

        def rename(txn: lmdb.Transaction, old: bytes = key, new: bytes = bad_key, value: bytes = value) -> None:
            txn.delete(old)
            put_sealed(name, new, value)(txn)

        assert not planted(books, tmp_path / "copy", name, rename).ok, (name, key, bad_key)


@pytest.mark.parametrize("name", CONTENT)
def test_a_missing_and_an_invented_item_are_found(books: Path, tmp_path: Path, name: str) -> None:
    items = items_of(books, name)
    for key, _ in items:
        assert not planted(books, tmp_path / "copy", name, lambda txn, k=key: txn.delete(k)).ok, (name, key)
    if name == "ids":
        return  # a chunk that no run speaks of is never read
    key, value = items[-1]
    invented = key[:-1] + bytes([key[-1] + 1])
    assert not planted(books, tmp_path / "copy", name, put_sealed(name, invented, content(name, value))).ok


def test_a_changed_state_is_found(books: Path, tmp_path: Path) -> None:
    value = content("meta", dict(items_of(books, "meta"))[b"state"])
    for at in range(len(value)):
        change = put_sealed("meta", b"state", flipped(value, at, 0))
        assert not planted(books, tmp_path / "copy", "meta", change).ok, at


def test_the_report_names_what_is_wrong(books: Path, tmp_path: Path) -> None:
    key, value = items_of(books, "rows")[1]
    change = put_sealed("rows", key, flipped(content("rows", value), 4 * 8, 0))
    report = planted(books, tmp_path / "copy", "rows", change)
    assert report.problems == ["account 2: the stored row is not what its history leads to"]
    key, value = items_of(books, "ids")[0]
    report = planted(books, tmp_path / "copy", "ids", lambda txn: txn.put(key, flipped(value, 9, 0)))
    assert ["does not fit its checksum" in problem for problem in report.problems] == [True]


def test_an_id_that_leads_elsewhere_is_named(books: Path, tmp_path: Path) -> None:
    """The checksums fit, the content is wrong."""
    key, value = items_of(books, "ids")[0]
    body = bytearray(value[8:])
    body[2 * len(body) // 3] ^= 1  # the first reference
    bad = zlib.crc32(bytes(body)).to_bytes(4, "little") + value[4:8] + bytes(body)
    report = planted(books, tmp_path / "copy", "ids", lambda txn: txn.put(key, bad))
    assert report.problems == [f"id {1:#034x}: the index leads to 0x20001, not to 0x20000"]


def test_the_report_is_bounded() -> None:
    report = VerifyReport()
    for n in range(PROBLEMS_MAX + 5):
        report.problem(f"problem {n}")
    assert len(report.problems) == PROBLEMS_MAX
