"""The index of ids against a dict: many checkpoints, merges, restarts, and bits that flip."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import lmdb
import numpy as np
import pytest

from node.ledger.history import BrokenHistoryError
from node.storage import id_runs

MASK = (1 << 64) - 1


class Index:
    """What LedgerDb does with the runs, without the rest of it."""

    def __init__(self, folder: Path) -> None:
        self.env = lmdb.open(str(folder), map_size=1 << 28, max_dbs=2)
        self.db = {name: self.env.open_db(name.encode()) for name in ("ids", "runs")}
        self.reload()

    def reload(self) -> None:
        with self.env.begin(buffers=True) as txn:
            self.directory = id_runs.load(txn, self.db)

    def add(self, found: dict[int, int]) -> None:
        ids = _words(list(found))
        refs = np.array(list(found.values()), dtype=np.int64)
        with self.env.begin(write=True) as txn:
            self.directory = id_runs.write(self.directory, txn, self.db, ids, refs)

    def find(self, numbers: list[int]) -> list[int]:
        out = np.zeros(len(numbers), dtype=np.int64)
        with self.env.begin(buffers=True) as txn:
            id_runs.find(self.directory, txn, self.db, _words(numbers), out)
        return out.tolist()

    def all(self) -> dict[int, int]:
        found: dict[int, int] = {}
        with self.env.begin(buffers=True) as txn:
            for ids, refs in id_runs.all_ids(txn, self.db):
                numbers = [(int(hi) & MASK) << 64 | (int(lo) & MASK) for lo, hi in ids.tolist()]
                found |= dict(zip(numbers, refs.tolist(), strict=True))
        return found


def _words(numbers: list[int]) -> np.ndarray[Any, Any]:
    unsigned = np.array([(n & MASK, n >> 64) for n in numbers], dtype=np.uint64).reshape(-1, 2)
    return unsigned.view(np.int64)


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Index]:
    monkeypatch.setattr(id_runs, "CHUNK_IDS", 16)
    made = Index(tmp_path)
    yield made
    made.env.close()


def in_order(chance: random.Random, count: int) -> int:
    return 1_000_000 * count << 64 | chance.getrandbits(63)


def anyhow(chance: random.Random, _: int) -> int:
    return chance.getrandbits(128) or 1


def near_the_edges(chance: random.Random, _: int) -> int:
    """Words with their top bit set, and neighbours: what a signed comparison would put in the wrong place."""
    return (chance.choice((0, 1, MASK >> 1, (MASK >> 1) + 1, MASK)) << 64 | chance.getrandbits(64)) or 1


@pytest.mark.parametrize("kind", [in_order, anyhow, near_the_edges])
def test_every_id_is_found_and_no_other(index: Index, kind: Callable[[random.Random, int], int]) -> None:
    chance, known = random.Random(5), {}
    for checkpoint in range(60):
        fresh: dict[int, int] = {}
        for _ in range(chance.choice((0, 1, 3, 40, 150))):
            number = kind(chance, len(known) + len(fresh))
            if number not in known:
                fresh[number] = (checkpoint + 1) << 16 | len(fresh)
        index.add(fresh)
        known |= fresh
        if checkpoint % 7 == 0:
            index.reload()
        asked = chance.sample(sorted(known), min(60, len(known))) + [anyhow(chance, 0) for _ in range(40)]
        assert index.find(asked) == [known.get(number, 0) for number in asked]
    assert index.all() == known
    assert index.directory.ids_total == len(known)
    assert 1 < len(index.directory.runs) < 30, "sixty runs were merged into fewer"


def test_a_directory_serves_until_the_second_checkpoint_after_it(index: Index) -> None:
    """A reader may hold the directory of before a merge while the merge is committed."""
    known = {number + 1: number + 7 for number in range(8 * 20)}
    numbers = list(known)
    for part in range(id_runs.MERGE_RUNS - 1):
        index.add({n: known[n] for n in numbers[part * 20 : part * 20 + 20]})
    before = index.directory
    index.add({n: known[n] for n in numbers[7 * 20 :]})
    after = index.directory
    assert len(after.runs) == 1
    assert len(after.dead) == id_runs.MERGE_RUNS
    index.directory = before
    assert index.find(numbers[:140]) == [known[n] for n in numbers[:140]]
    index.directory = after
    index.add({})
    assert index.directory.dead == ()
    index.directory = before
    with pytest.raises(BrokenHistoryError, match="is missing"):
        index.find(numbers[:140])


def test_a_flipped_bit_is_found_when_it_is_read(index: Index) -> None:
    index.add({number: number for number in range(1, 41)})
    with index.env.begin(write=True) as txn, txn.cursor(index.db["ids"]) as cursor:
        assert cursor.first()
        key, value = cursor.item()
        txn.put(key, value[:40] + bytes([value[40] ^ 4]) + value[41:], db=index.db["ids"])
    with pytest.raises(BrokenHistoryError, match="does not fit its checksum"):
        index.find([5])
    with pytest.raises(BrokenHistoryError, match="does not fit its checksum"):
        index.all()


def test_runs_that_would_become_too_large_stay_apart(index: Index, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(id_runs, "MERGED_IDS_MAX", 100)
    for part in range(20):
        index.add({part * 100 + number + 1: 1 for number in range(20)})
    assert len(index.directory.runs) == 20
    assert len(index.all()) == 400
