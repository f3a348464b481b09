"""The simulated LMDB and files against the real ones: the same random calls, the same answers; what crashes leave."""

from __future__ import annotations

import contextlib
import random
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import lmdb
import pytest

from node.storage.folder import File, Folder, SystemFolder
from tests.simulation.disk import DiskFailedError, SimDisk
from tests.simulation.plan import make_plan
from tests.simulation.points import PowerCutError
from tests.simulation.run import run_plan

TABLES = (b"one", b"two")
REAL_SEEDS = range(1, 25)
MEMORY_FOLDER = "/dev/shm" if Path("/dev/shm").is_dir() else None


class GivenUpError(Exception):
    """Ends a transaction without a commit."""


class Host:
    """What a disk tells the process that uses it."""

    def __init__(self, die_at: str = "") -> None:
        self.die_at = die_at
        self.spent_s = 0.0
        self.failures: list[str] = []

    def spend(self, seconds: float) -> None:
        self.spent_s += seconds

    def syncing(self, environment: str, stage: str) -> None:
        if stage == self.die_at:
            raise PowerCutError(stage)

    def sync_failed(self, environment: str) -> None:
        self.failures.append(environment)


def a_disk() -> SimDisk:
    return SimDisk(random.Random(1), Counter())


def key(rng: random.Random) -> bytes:
    return rng.randrange(40).to_bytes(2, "big")


def random_calls(rng: random.Random, env: Any, db: dict[bytes, Any]) -> list[Any]:
    """One write transaction; what every call answered."""
    said: list[Any] = []
    with contextlib.suppress(GivenUpError), env.begin(write=True) as txn:
        for _ in range(rng.randrange(1, 12)):
            table = db[rng.choice(TABLES)]
            match rng.randrange(7):
                case 0:
                    value, append, overwrite = rng.randbytes(3), rng.random() < 0.2, rng.random() < 0.7
                    said.append(txn.put(key(rng), value, db=table, append=append, overwrite=overwrite))
                case 1:
                    said.append(txn.delete(key(rng), db=table))
                case 2:
                    said.append((txn.get(key(rng), db=table), txn.stat(table)["entries"]))
                case 3:
                    items = sorted((key(rng), rng.randbytes(2)) for _ in range(3))
                    with txn.cursor(table) as cursor:
                        cursor.putmulti(items, overwrite=rng.random() < 0.5)
                case 4:
                    with txn.cursor(table) as cursor:
                        said += [cursor.set_range(key(rng)), cursor.item(), cursor.next(), cursor.key()]
                case 5:
                    with txn.cursor(db=table) as cursor:
                        said += [list(cursor.iternext()), cursor.getmulti([key(rng), key(rng)])]
                case 6:
                    with txn.cursor(db=table) as cursor:
                        if cursor.set_range(key(rng)):
                            said += [cursor.delete(), cursor.key(), cursor.value()]
        if rng.random() < 0.2:
            raise GivenUpError
    return said


@pytest.mark.parametrize("seed", range(30))
def test_answers_are_those_of_lmdb(tmp_path: Path, seed: int) -> None:
    real = lmdb.open(str(tmp_path), max_dbs=4, map_size=1 << 22, sync=False)
    simulated = a_disk().open("x", Host())
    tables = [{name: env.open_db(name) for name in TABLES} for env in (real, simulated)]
    for step in range(40):
        answers = [
            random_calls(random.Random(f"{seed}/{step}"), env, db)
            for env, db in zip((real, simulated), tables, strict=True)
        ]
        assert answers[0] == answers[1]
    for name in TABLES:
        contents = []
        for env, db in zip((real, simulated), tables, strict=True):
            with env.begin() as txn, txn.cursor(db[name]) as cursor:
                contents.append(list(cursor))
        assert contents[0] == contents[1]
    real.close()


def random_file_calls(rng: random.Random, folder: Folder, open_files: dict[str, File]) -> list[Any]:
    said: list[Any] = []
    for _ in range(30):
        name, other = (f"{rng.randrange(4)}.log" for _ in range(2))
        match rng.randrange(7):
            case 0 if name not in folder.names():
                open_files[name] = folder.create(name, rng.choice((0, 700, 5_000)))
            case 1 if name in open_files and open_files[name].size > 300:
                file = open_files[name]
                file.write([rng.randbytes(rng.randrange(100)) for _ in range(3)], rng.randrange(file.size - 300))
                file.sync()
            case 2 if name in open_files:
                said.append(open_files[name].read(rng.randrange(3_000), rng.randrange(6_000)))
            case 3 if name in folder.names():
                open_files[name] = folder.open(name)
                said.append(open_files[name].size)
            case 4 if name != other and name in folder.names():
                folder.rename(name, other)
                open_files[other] = folder.open(other)
            case 5 if name in folder.names():
                folder.remove(name)  # whoever has it open reads on
            case 6:
                with contextlib.suppress(FileNotFoundError):
                    said.append(folder.open(f"{name}.not").size)
                folder.sync()
        said.append(folder.names())
    return said


@pytest.mark.parametrize("seed", range(20))
def test_answers_are_those_of_the_file_system(tmp_path: Path, seed: int) -> None:
    said = []
    for folder in (SystemFolder(tmp_path), a_disk().open_folder("x", Host())):
        open_files: dict[str, File] = {}
        said.append(random_file_calls(random.Random(seed), folder, open_files))
    assert said[0] == said[1]


OLD, NEW = b"o" * 4_096, b"n" * 4_096


def segment_on(disk: SimDisk, host: Host) -> File:
    folder = disk.open_folder("raft", host)
    if "1.log" not in folder.names():
        file = folder.create("1.log", 4_096)
        file.write([OLD], 0)
        file.sync()
    return folder.open("1.log")


@pytest.mark.parametrize("die_at", ["before", "torn", "after"])
def test_power_cut_may_tear_a_write_between_sectors(die_at: str) -> None:
    found = set()
    for seed in range(60):
        disk = SimDisk(random.Random(seed), Counter())
        segment_on(disk, Host())
        file = segment_on(disk, Host(die_at))
        file.write([NEW], 0)
        with pytest.raises(PowerCutError):
            file.sync()
        data = segment_on(disk, Host()).read(4_096, 0)
        sectors = [data[at : at + 512] for at in range(0, 4_096, 512)]
        assert all(sector in (OLD[:512], NEW[:512]) for sector in sectors)
        found.add(sum(sector == NEW[:512] for sector in sectors))
    match die_at:
        case "before":
            assert found == {0}
        case "torn":
            assert len(found) > 4
            assert 8 in found
        case "after":
            assert found == {8}


def test_power_cut_takes_back_names_and_notes_that_were_not_synced() -> None:
    left = set()
    for seed in range(40):
        disk = SimDisk(random.Random(seed), Counter())
        folder = disk.open_folder("raft", Host())
        for name in ("note", "1.log"):
            folder.create(name, 10)
        folder.sync()
        folder.rename("1.log", "spare-1")
        folder.rename("spare-1", "9.log")
        note = folder.open("note")
        for number in range(4):
            note.write([b"%d" % number], 0)
        disk.lose_power()
        (segment,) = set(folder.names()) - {"note"}
        left.add((segment, note.read(1, 0)))
        folder.rename(segment, "8.log")
        folder.sync()
        disk.lose_power()
        assert "8.log" in folder.names()
    assert {segment for segment, _ in left} == {"1.log", "spare-1", "9.log"}
    assert {content for _, content in left} == {b"\0", b"0", b"1", b"2", b"3"}


def write_both(env: Any, value: bytes) -> None:
    one, two = env.open_db(b"one"), env.open_db(b"two")
    with env.begin(write=True) as txn:
        txn.put(b"a", value, db=one)
        txn.put(b"b", value, db=two)


def read_both(disk: SimDisk) -> list[bytes | None]:
    env = disk.open("x", Host())
    with env.begin() as txn:
        return [txn.get(b"a", db=env.open_db(b"one")), txn.get(b"b", db=env.open_db(b"two"))]


@pytest.mark.parametrize(("die_at", "left"), [("before", b"old"), ("torn", b"old"), ("after", b"new")])
def test_power_cut_leaves_all_or_nothing(die_at: str, left: bytes) -> None:
    disk = a_disk()
    write_both(disk.open("x", Host()), b"old")
    with pytest.raises(PowerCutError):
        write_both(disk.open("x", Host(die_at)), b"new")
    assert read_both(disk) == [left, left]


def test_failed_sync_leaves_either_and_tells_the_process() -> None:
    found = set()
    disk, host = a_disk(), Host()
    for _ in range(20):
        write_both(disk.open("x", Host()), b"old")
        disk.fail_syncs = 1
        with pytest.raises(DiskFailedError):
            write_both(disk.open("x", host), b"new")
        found.add(tuple(read_both(disk)))
    assert found == {(b"old", b"old"), (b"new", b"new")}
    assert host.failures == ["x"] * 20


def test_lying_disk_loses_what_it_wrote_to_a_file() -> None:
    disk = a_disk()
    file = segment_on(disk, Host())
    disk.unsynced_max = 3
    for number in range(5):
        file.write([b"%d" % number], 0)
        file.sync()
    disk.lose_power()
    assert file.read(1, 0) == b"1"


def test_lying_disk_loses_what_it_called_durable() -> None:
    disk = a_disk()
    env = disk.open("raft", Host())
    write_both(env, b"old")
    disk.unsynced_max = 3
    for number in range(5):
        write_both(env, b"%d" % number)
    disk.lose_power()
    with env.begin() as txn:
        assert txn.get(b"a", db=env.open_db(b"one")) == b"1"


@pytest.mark.timeout(1_800)
def test_whole_runs_are_the_same_on_real_lmdb() -> None:
    """Every frame, outcome and crash, to the last byte: so what the simulated disk shows is true of LMDB."""
    died: Counter[str] = Counter()
    for seed in REAL_SEEDS:
        with tempfile.TemporaryDirectory(dir=MEMORY_FOLDER) as folder:
            real = run_plan(make_plan(seed), disk_folder=Path(folder))
        assert not real.violations
        assert real.trace_hash == run_plan(make_plan(seed)).trace_hash
        died += real.died
    assert sum(died.values()) > len(REAL_SEEDS) // 4
