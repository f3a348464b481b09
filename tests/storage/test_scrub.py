"""No flipped bit in what is stored stays unnoticed, and a node whose data is damaged sets it aside and joins anew."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import lmdb
import pytest
from kibubu.raft.v1 import raft_pb2

from node.storage.checked import DamagedDataError, seal, unseal
from node.storage.damage import MARK, SET_ASIDE, DamagedFolderError, damage_of, mark_damaged, set_aside
from node.storage.data_folder import NEW_CLUSTER, open_data_folder
from node.storage.groups import MAGIC
from node.storage.ledger_db import LedgerDb
from node.storage.ledger_store import StoreConfig
from node.storage.raft_log import RaftLog, RaftLogCorruptError
from node.storage.scrub import SEALED, Scrubber
from tests.service.one_node import OneNode

ROOT = Path(__file__).parents[2]
MAP_BYTES = 1 << 28
CONFIG = StoreConfig("test", "n1", map_bytes=MAP_BYTES)
FLIPS = int(os.environ.get("KIBUBU_FLIPS", "60"))


@pytest.fixture
def node(tmp_path: Path) -> Iterator[OneNode]:
    made = OneNode(tmp_path / "data" / "ledger")
    made.people()
    made.command(put_document=raft_pb2.PutDocument(kind="tariff", key="KES", body=b"fees", author="Amina"))
    for number in range(40):
        made.fund(3, number + 1, 1)
    made.store.checkpoint(wait=True)
    yield made
    made.store.close()


def journal_in(folder: Path) -> RaftLog:
    return RaftLog(folder / "raft", cluster_id="test", node_id="n1", segment_bytes=1 << 16)


def fill_journal(folder: Path) -> None:
    log = journal_in(folder)
    log.set_term(3, "n2")
    for number in range(200):
        log.append(3, b"%d" % number * (number % 50 + 1))
    log.sync()
    log.close()


# Seals


def test_every_flipped_bit_of_a_sealed_value_or_its_key_is_found() -> None:
    key, sealed = b"key", seal(b"key", b"value")
    assert unseal("rows", key, sealed) == b"value"
    for bit in range(len(sealed) * 8):
        damaged = bytearray(sealed)
        damaged[bit // 8] ^= 1 << bit % 8
        with pytest.raises(DamagedDataError, match="rows 6b6579"):
            unseal("rows", key, bytes(damaged))
    for wrong in (b"kez", b"ke", b""):
        with pytest.raises(DamagedDataError):
            unseal("rows", wrong, sealed)
    with pytest.raises(DamagedDataError):
        unseal("rows", key, b"abc")


# The scrubber


def test_pass_over_sound_data_ends_and_counts(node: OneNode, tmp_path: Path) -> None:
    fill_journal(tmp_path)
    log = journal_in(tmp_path)
    scrubber = Scrubber(node.store.database, log)
    for passes in (1, 2):
        scrubber.run_pass()
        assert scrubber.passes == passes
        node.fund(3, 7, 1)  # and so while the node goes on
        node.store.checkpoint(wait=True)
    log.close()


@pytest.mark.parametrize("name", [*SEALED, "ids"])
def test_flipped_bit_in_any_database_is_found(node: OneNode, tmp_path: Path, name: str) -> None:
    node.store.close()
    with lmdb.open(str(tmp_path / "data" / "ledger"), max_dbs=20, map_size=MAP_BYTES) as env:
        database = env.open_db(name.encode())
        with env.begin(write=True, db=database) as txn, txn.cursor() as cursor:
            if not cursor.last():
                pytest.skip(f"{name} is empty here")
            key, value = cursor.item()
            txn.put(key, value[:-1] + bytes([value[-1] ^ 4]))
    with pytest.raises(DamagedDataError):
        Scrubber(open_ledger(tmp_path)).run_pass()


def open_ledger(tmp_path: Path) -> LedgerDb:
    return LedgerDb(tmp_path / "data" / "ledger", "test", "n1", MAP_BYTES)


def test_missing_batch_is_found(node: OneNode, tmp_path: Path) -> None:
    node.store.close()
    with lmdb.open(str(tmp_path / "data" / "ledger"), max_dbs=20, map_size=MAP_BYTES) as env:
        database = env.open_db(b"batches")
        with env.begin(write=True, db=database) as txn:
            assert txn.delete((5).to_bytes(8, "big"))
    with pytest.raises(DamagedDataError, match="batch 6 is stored as 6, behind 4"):
        Scrubber(open_ledger(tmp_path)).run_pass()


def test_damaged_entry_of_the_journal_is_found(node: OneNode, tmp_path: Path) -> None:
    fill_journal(tmp_path)
    log = journal_in(tmp_path)
    flip_in_journal(tmp_path, b"76" * 27)  # the data of entry 77
    with pytest.raises(RaftLogCorruptError, match="entry 77"):
        Scrubber(node.store.database, log).run_pass()
    log.close()


def flip_in_journal(folder: Path, where: bytes) -> None:
    """One bit of the first place that holds these bytes."""
    (file,) = (folder / "raft").glob("*.log")
    data = bytearray(file.read_bytes())
    data[data.index(where)] ^= 1
    file.write_bytes(data)


def test_no_flipped_bit_is_silent(node: OneNode, tmp_path: Path) -> None:
    """In copies of a stopped node's files. KIBUBU_FLIPS=2000 for more of them."""
    node.store.close()
    fill_journal(tmp_path / "data")
    environment = dict(os.environ, PYTHONPATH=f"{ROOT}:{ROOT / 'proto/gen'}")
    command = [sys.executable, "-m", "tests.storage.flips", str(tmp_path / "data"), str(FLIPS), "1"]
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
    result = json.loads(run.stdout)
    print(result)
    assert result["silent"] == []
    assert result["found"] > FLIPS // 10
    assert result["found"] + result["same"] == FLIPS


# What becomes of a damaged folder


def a_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "n1"
    folder.mkdir()
    (folder / NEW_CLUSTER).touch()
    data = open_data_folder(folder, CONFIG, alone=False)
    assert data.log.member.voter
    data.log.set_term(4, "n2")
    data.log.append(4, b"")
    data.log.sync()
    data.store.close()
    data.log.close()
    return folder


def damage_journal(folder: Path) -> None:
    flip_in_journal(folder, MAGIC)


def test_damage_found_at_the_start_is_set_aside_and_the_node_joins(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    damage_journal(folder)
    (folder / NEW_CLUSTER).touch()  # even then it must not take itself for a new member
    data = open_data_folder(folder, CONFIG, alone=False)
    assert not data.log.member.voter
    assert (data.log.last_index, data.log.term) == (0, 0)
    assert list((folder / SET_ASIDE / "raft").glob("*.log"))
    assert not (folder / MARK).exists()
    data.store.close()
    data.log.close()


def test_damage_found_while_it_ran_is_set_aside_at_the_next_start(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    mark_damaged(folder, "a bit was flipped")
    assert damage_of(folder) == "a bit was flipped"
    data = open_data_folder(folder, CONFIG, alone=False)
    assert not data.log.member.voter
    data.store.close()
    data.log.close()


def test_a_cluster_of_one_keeps_its_damaged_data_and_refuses(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    damage_journal(folder)
    for _ in range(2):
        with pytest.raises(DamagedFolderError, match="restore a backup"):
            open_data_folder(folder, CONFIG, alone=True)
    assert (folder / "raft").exists()


@pytest.mark.parametrize("moved", [0, 1, 2])
def test_setting_aside_that_broke_off_is_completed(tmp_path: Path, moved: int) -> None:
    folder = a_folder(tmp_path)
    mark_damaged(folder, "why")
    (folder / f"{SET_ASIDE}.new").mkdir()
    for name in ("raft", "ledger")[:moved]:
        (folder / name).rename(folder / f"{SET_ASIDE}.new" / name)
    set_aside(folder)
    assert sorted(path.name for path in (folder / SET_ASIDE).iterdir()) == ["ledger", "raft", "snapshots"]
    assert sorted(path.name for path in folder.iterdir()) == [SET_ASIDE]


def test_only_the_last_damage_is_kept(tmp_path: Path) -> None:
    folder = a_folder(tmp_path)
    for reason in ("first", "second"):
        mark_damaged(folder, reason)
        set_aside(folder)
        (folder / "raft").mkdir()
        (folder / "raft" / reason).touch()
    assert (folder / SET_ASIDE / "raft" / "first").exists()
