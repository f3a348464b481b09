"""The journal on a real LMDB file: what is there after a restart, and what a damaged or foreign folder does."""

from __future__ import annotations

import random
import subprocess
import sys
from pathlib import Path

import lmdb
import pytest

from node.storage.raft_log import (
    COMPACTED_PER_SYNC_MAX,
    RaftLog,
    RaftLogCorruptError,
    RaftLogError,
    RaftLogIdentityError,
)


def open_log(path: Path, memory_bytes_max: int = 1 << 20, node_id: str = "n1", cluster_id: str = "c") -> RaftLog:
    return RaftLog(path, cluster_id=cluster_id, node_id=node_id, map_bytes=256 << 20, memory_bytes_max=memory_bytes_max)


def contents(log: RaftLog) -> list[tuple[int, bytes]]:
    entries: list[tuple[int, bytes]] = []
    first = log.base_index + 1
    while first <= log.last_index:
        part = log.read(first, 7, 300)
        assert part
        entries += part
        first += len(part)
    return entries


def test_empty_log(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    assert (log.base_index, log.last_index, log.last_term, log.term, log.voted_for) == (0, 0, 0, 0, "")
    assert log.term_at(0) == 0
    assert log.term_at(1) is None
    assert log.read(1, 10, 10) == []
    log.close()


def test_everything_synced_is_there_after_a_restart(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.set_term(3, "n2")
    log.append(2, b"one")
    log.append(3, b"")
    log.append(3, b"x" * 100_000)
    log.set_commit(2)
    log.sync()
    log.close()
    again = open_log(tmp_path)
    assert contents(again) == [(2, b"one"), (3, b""), (3, b"x" * 100_000)]
    assert (again.term, again.voted_for, again.commit_index, again.durable_index) == (3, "n2", 2, 3)
    assert [again.term_at(index) for index in range(5)] == [0, 2, 3, 3, None]
    assert [again.first_index_of_term(index) for index in (1, 2, 3)] == [1, 2, 2]
    again.close()


def test_what_was_not_synced_is_lost_as_a_whole(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.set_term(1, "")
    for number in range(5):
        log.append(1, b"%d" % number)
    log.sync()
    log.truncate(3)
    log.set_term(2, "n3")
    log.append(2, b"other")
    assert (log.durable_index, log.last_index) == (2, 3)
    log.close()
    again = open_log(tmp_path)
    assert contents(again) == [(1, b"%d" % number) for number in range(5)]
    assert (again.term, again.voted_for) == (1, "")
    again.close()


def test_truncation_append_and_vote_become_durable_together(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.set_term(1, "")
    for number in range(5):
        log.append(1, b"%d" % number)
    log.sync()
    log.truncate(3)
    log.set_term(2, "n3")
    log.append(2, b"other")
    log.sync()
    log.close()
    again = open_log(tmp_path)
    assert contents(again) == [(1, b"0"), (1, b"1"), (2, b"other")]
    assert (again.term, again.voted_for) == (2, "n3")
    again.close()


@pytest.mark.parametrize("seed", range(8))
def test_random_histories_match_a_plain_list(tmp_path: Path, seed: int) -> None:
    """Append, truncate, compact, sync and power cuts, against a list; the memory window is far too small."""
    chance = random.Random(seed)
    log = open_log(tmp_path, memory_bytes_max=500)
    model: list[tuple[int, bytes]] = []
    synced: list[tuple[int, bytes]] = []
    base, synced_base = 0, 0
    for _ in range(400):
        action = chance.random()
        if action < 0.6:
            size = chance.choice([0, 3, 90, 3_000])
            log.append(log.term, bytes([chance.randrange(256)]) * size)
            model.append(log.read(log.last_index, 1, 0)[0])
        elif action < 0.7 and log.last_index > max(base, log.commit_index):
            first = chance.randint(max(base, log.commit_index) + 1, log.last_index)
            log.truncate(first)
            del model[first - base - 1 :]
        elif action < 0.75:
            log.set_term(log.term + 1, "n1")
        elif action < 0.85:
            log.sync()
            synced, synced_base = list(model), base
        elif action < 0.92 and log.durable_index > base:
            index = chance.randint(base + 1, log.durable_index)
            log.set_commit(max(index, log.commit_index))
            log.compact(index)
            del model[: index - base]
            base = index
        elif action > 0.97:
            log.close()
            log = open_log(tmp_path, memory_bytes_max=500)
            model, base = list(synced), synced_base
        assert log.last_index == base + len(model)
        assert contents(log) == model
        assert [log.term_at(base + 1 + at) for at in range(len(model))] == [entry[0] for entry in model]
    log.close()


def test_memory_is_bounded_and_older_entries_come_from_disk(tmp_path: Path) -> None:
    log = open_log(tmp_path, memory_bytes_max=10_000)
    log.set_term(1, "")
    for number in range(200):
        log.append(1, b"%04d" % number * 250)
        log.sync()
    assert log._memory_bytes <= 10_000
    assert log.read(5, 2, 1 << 20) == [(1, b"0004" * 250), (1, b"0005" * 250)]
    assert len(log.read(1, 1_000, 1 << 20)) == 200
    assert len(log.read(1, 1_000, 2_500)) == 2
    assert len(log.read(1, 1_000, 1)) == 1  # one, however large
    log.close()


def test_compaction_frees_disk_over_several_syncs(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    total = COMPACTED_PER_SYNC_MAX + 100
    log.set_term(1, "")
    for _ in range(total):
        log.append(1, b"x" * 100)
    log.set_commit(total)
    log.sync()
    full = log.bytes_total
    log.compact(total - 10)
    assert log.dirty
    log.sync()
    assert log.dirty  # a bounded number of deletions per sync
    log.sync()
    assert not log.dirty
    assert log.bytes_total == full // total * 10
    with pytest.raises(RaftLogError, match="compacted away"):
        log.read(1, 1, 1)
    assert log.term_at(total - 10) == 1
    log.close()
    again = open_log(tmp_path)
    assert (again.base_index, again.last_index, again.bytes_total) == (total - 10, total, full // total * 10)
    again.close()


def test_restart_in_the_middle_of_a_compaction(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    total = COMPACTED_PER_SYNC_MAX + 100
    log.set_term(1, "")
    for number in range(total):
        log.append(1, b"%d" % number)
    log.set_commit(total)
    log.sync()
    log.compact(total)
    log.sync()
    log.close()
    again = open_log(tmp_path)
    assert (again.base_index, again.last_index, again.last_term) == (total, total, 1)
    again.append(1, b"next")
    again.sync()
    assert contents(again) == [(1, b"next")]
    again.close()


def test_term_of_entries_never_goes_back(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.set_term(3, "")
    log.append(3, b"x")
    for term in (2, 4):
        with pytest.raises(RaftLogError, match="cannot follow"):
            log.append(term, b"y")
    with pytest.raises(RaftLogError, match="cannot go back"):
        log.set_term(2, "")
    log.close()


@pytest.mark.parametrize(("node_id", "cluster_id"), [("n2", "c"), ("n1", "other")])
def test_folder_of_another_node_or_cluster_is_refused(tmp_path: Path, node_id: str, cluster_id: str) -> None:
    open_log(tmp_path).close()
    with pytest.raises(RaftLogIdentityError, match="belongs to"):
        open_log(tmp_path, node_id=node_id, cluster_id=cluster_id)
    open_log(tmp_path).close()  # and nothing was changed


def test_second_process_is_refused(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    code = (
        "import sys; from pathlib import Path; from node.storage.raft_log import RaftLog\n"
        "RaftLog(Path(sys.argv[1]), cluster_id='c', node_id='n1')"
    )
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path)], capture_output=True, text=True, check=False)
    assert run.returncode != 0
    assert "in use by another process" in run.stderr
    log.close()


@pytest.mark.parametrize("damage", ["flip", "cut", "gap", "state"])
def test_damage_is_found_when_the_log_is_opened(tmp_path: Path, damage: str) -> None:
    log = open_log(tmp_path)
    log.set_term(1, "n1")
    for number in range(10):
        log.append(1, b"entry %d" % number)
    log.sync()
    log.close()
    with lmdb.open(str(tmp_path), max_dbs=2, map_size=256 << 20) as env, env.begin(write=True) as txn:
        entries, meta = env.open_db(b"entries", txn=txn), env.open_db(b"meta", txn=txn)
        key = (5).to_bytes(8, "big")
        value = bytearray(txn.get(key, db=entries))
        if damage == "flip":
            value[-1] ^= 1
            txn.put(key, bytes(value), db=entries)
        elif damage == "cut":
            txn.put(key, bytes(value[:5]), db=entries)
        elif damage == "gap":
            txn.delete(key, db=entries)
        else:
            state = bytearray(txn.get(b"state", db=meta))
            state[0] ^= 1
            txn.put(b"state", bytes(state), db=meta)
    with pytest.raises(RaftLogCorruptError):
        open_log(tmp_path)


def test_failed_sync_makes_the_log_unusable(tmp_path: Path) -> None:
    log = RaftLog(tmp_path, cluster_id="c", node_id="n1", map_bytes=1 << 20)
    log.set_term(1, "")
    log.append(1, b"x" * (4 << 20))  # more than the map holds
    with pytest.raises(lmdb.MapFullError):
        log.sync()
    assert log.durable_index == 0
    with pytest.raises(RaftLogError, match="earlier sync failed"):
        log.sync()
    log.close()
