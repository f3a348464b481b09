"""Documents wherever they are: in memory, being written, on disk, and after a restart; all versions, in order."""

from __future__ import annotations

from pathlib import Path

import lmdb
import pytest
from kibubu.raft.v1 import raft_pb2

from node.storage.checked import seal
from node.storage.ledger_db import ForeignDataError
from node.storage.ledger_store import LedgerStore
from tests.ledger.building import command, commands_entry, create
from tests.storage.stores import HeldHost, open_store, write

KEYS = ("a", "a/b", "ab", "b")  # in this order, whatever stands behind a key in the database


def put(store: LedgerStore, key: str, body: bytes = b"", kind: str = "tariff") -> None:
    document = raft_pb2.PutDocument(kind=kind, key=key, body=body, author="Amina")
    assert write(store, commands_entry([command(put_document=document)])).commands[0].status == 0


def versions(store: LedgerStore, key: str, before: int = 0, limit: int = 1_000) -> list[int]:
    return [one.version for one in store.document_versions("tariff", key, before, limit)]


def test_documents_are_found_at_every_stage(tmp_path: Path) -> None:
    held = HeldHost()
    store = open_store(tmp_path, held=held)
    for key in reversed(KEYS):
        put(store, key, b"on disk")
    put(store, "rates", kind="rates")
    store.checkpoint(wait=True)
    put(store, "a", b"being written")
    put(store, "c")
    store.checkpoint(wait=False)  # begun, and held
    put(store, "a", b"in memory")
    put(store, "Z")

    def check(reader: LedgerStore) -> None:
        assert [one.key for one in reader.documents("tariff")] == ["Z", *KEYS, "c"]
        assert [one.body for one in reader.document_versions("tariff", "a")] == [
            b"in memory", b"being written", b"on disk",
        ]  # fmt: skip
        newest = reader.document("tariff", "a")
        assert newest is not None
        assert (newest.body, newest.version, newest.author, newest.position) == (b"in memory", 3, "Amina", 8)
        assert [one.key for one in reader.documents("tariff", "a", 2)] == ["a/b", "ab"]
        assert (versions(reader, "a", 3), versions(reader, "a", 0, 1), versions(reader, "none")) == ([2, 1], [3], [])
        assert reader.document("tariff", "none") is None
        assert reader.document("tarif", "a") is None
        assert reader.documents("tarif") == []

    check(store)
    state_hash, timestamp_ns = store.state_hash(), store.document_versions("tariff", "ab")[0].timestamp_ns
    assert timestamp_ns > 0
    store.close()
    again = open_store(tmp_path)
    check(again)
    assert again.state_hash() == state_hash
    assert again.document_versions("tariff", "ab")[0].timestamp_ns == timestamp_ns
    put(again, "a")
    assert versions(again, "a") == [4, 3, 2, 1]
    again.checkpoint(wait=True)
    assert again.verify().problems == []
    again.close()


def test_the_version_counter_moves_with_documents_alone(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    at_first = store.documents_version
    write(store, commands_entry([create()]))
    assert store.documents_version == at_first
    put(store, "a")
    after = store.documents_version
    assert after != at_first
    store.checkpoint(wait=True)
    put(store, "a")
    assert store.documents_version not in (at_first, after)
    store.close()


def test_an_older_folder_is_refused_by_name(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    with lmdb.open(str(tmp_path), max_dbs=20, map_size=1 << 26) as env, env.begin(write=True) as txn:
        txn.put(b"format", seal(b"format", b"kibubu-ledger-2"), db=env.open_db(b"meta", txn=txn))
    with pytest.raises(ForeignDataError, match=r"format is 'kibubu-ledger-2', this node's is 'kibubu-ledger-4'"):
        open_store(tmp_path)
