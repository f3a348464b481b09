"""Checkpoints: all or nothing, whenever the process dies; bounded memory; and a disk that fails stops the ledger."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import lmdb
import pytest

from node.consensus.contract import LogEntry
from node.ledger.history import AppliedBatch, BrokenHistoryError
from node.ledger.records import TransferFlag
from node.storage.ledger_db import ForeignDataError
from node.storage.ledger_store import LedgerStore, StoreConfig
from node.storage.memtable import Memtable
from tests.ledger.building import commands_entry, create, transfer, transfers_entry
from tests.storage import applying_process
from tests.storage.applying_process import MAP_BYTES, catch_up
from tests.storage.stores import HeldHost, open_store, write

KILLS = 5
ROOT = Path(__file__).parents[2]


def opened(folder: Path, held: HeldHost | None = None, **config: int | float) -> LedgerStore:
    store = open_store(folder, held=held, **config)  # type: ignore[arg-type]
    write(store, commands_entry([create(), create()]))
    return store


def moved(first: int, count: int) -> bytes:
    return transfers_entry([transfer(first + k, 1, 2, 1) for k in range(count)])


# --- kill -9 ----------------------------------------------------------------------------------------------------------


def run_and_kill(folder: Path, lines: int) -> tuple[int, int]:
    """Kill the process with -9 once it has printed so many lines; returns its last words, if it lived as long."""
    code = [sys.executable, "-m", applying_process.__name__, str(folder)]
    with subprocess.Popen(code, stdout=subprocess.PIPE, text=True, cwd=ROOT) as run:
        assert run.stdout is not None
        said = [line for line, _ in zip(run.stdout, range(lines), strict=False)]
        run.send_signal(signal.SIGKILL)
        run.communicate()
    assert run.returncode in (-signal.SIGKILL, 0)
    assert said, "the process did not start"
    applied, durable = said[-1].split()
    return int(applied), int(durable)


def test_a_kill_at_any_moment_leaves_one_whole_checkpoint(tmp_path: Path) -> None:
    seed = random.SystemRandom().randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    reached = 0
    for _ in range(KILLS):
        _, promised = run_and_kill(tmp_path / "killed", chance.randint(2, 60))
        store = open_store(tmp_path / "killed", map_bytes=MAP_BYTES)
        assert store.applied_position == store.durable_position >= max(promised, reached)
        reached = store.durable_position
        report = store.verify()
        assert report.ok, report.problems
        assert (report.position, report.chain_hash) == (reached, store.chain_hash)
        assert report.state_hash == store.state_hash()
        store.close()
    assert reached > 0
    last = min(reached + 50, applying_process.ENTRIES)
    killed, undisturbed = (open_store(tmp_path / name, map_bytes=MAP_BYTES) for name in ("killed", "undisturbed"))
    catch_up(killed, last)
    catch_up(undisturbed, last)
    assert killed.chain_hash == undisturbed.chain_hash
    assert killed.state_hash() == undisturbed.state_hash()
    for account in range(1, applying_process.ACCOUNTS + 1):
        lines = [(line.position, line.offset) for line in killed.statement(account, 0, 100_000)]
        assert lines == [(line.position, line.offset) for line in undisturbed.statement(account, 0, 100_000)]
    for store in (killed, undisturbed):
        store.close()


# --- what a checkpoint holds ------------------------------------------------------------------------------------------


def test_a_checkpoint_holds_one_position_whatever_is_applied_meanwhile(tmp_path: Path) -> None:
    held = HeldHost()
    store = opened(tmp_path, held)
    write(store, moved(1, 3))
    store.checkpoint(wait=False)
    write(store, moved(4, 3))
    position, chain_hash = store.applied_position, store.chain_hash
    assert store.durable_position == 0
    held.started[0].join()
    assert store.durable_position == 2
    store._db.close()  # as a crash would: what was applied since is lost
    again = open_store(tmp_path)
    assert (again.applied_position, int(again.columns[1, 4]), again.transfers_total) == (2, 3, 3)
    report = again.verify()
    assert report.ok, report.problems
    write(again, moved(4, 3))
    assert (again.applied_position, again.chain_hash) == (position, chain_hash)
    again.close()


def test_an_entry_that_was_applied_is_not_applied_again(tmp_path: Path) -> None:
    store = opened(tmp_path)
    store.close()
    again = open_store(tmp_path)
    with pytest.raises(BrokenHistoryError, match="does not follow"):
        again.apply([LogEntry(1, 1, commands_entry([create()]))])
    assert (again.applied_position, again.accounts_total) == (1, 2)
    again.close()


def test_checkpoints_follow_the_clock_and_the_load(tmp_path: Path) -> None:
    held = HeldHost()
    store = opened(tmp_path, held, checkpoint_interval_s=5.0, checkpoint_transfers_max=20)
    store.tick(0)
    assert held.started == []
    held.now_s = 5.0
    store.tick(0)
    assert len(held.started) == 1
    write(store, moved(1, 10))
    store.tick(0)  # half of the maximum is reached, but the first still runs
    assert len(held.started) == 1
    held.started[0].join()
    store.tick(0)
    assert len(held.started) == 2
    store.close()
    assert store.durable_position == 2


def test_memory_is_bounded_by_waiting_for_the_writer(tmp_path: Path) -> None:
    held = HeldHost()
    store = opened(tmp_path, held, checkpoint_interval_s=1e9, checkpoint_transfers_max=20)
    most = 0
    for n in range(30):
        write(store, moved(1 + 7 * n, 7))
        most = max(most, sum(memtable.transfers for memtable in store._memtables()))
        store.checkpoint(wait=False)
    assert most <= 2 * (20 + 7)
    assert len(held.started) > 5
    assert all(work.done for work in held.started[:-1])  # never two at once
    store.close()


def test_commands_count_towards_the_bound(tmp_path: Path) -> None:
    """A flood of new accounts holds memory as well, without a single transfer."""
    held = HeldHost()
    store = opened(tmp_path, held, checkpoint_interval_s=1e9, checkpoint_bytes_max=20_000)
    for _ in range(40):
        write(store, commands_entry([create() for _ in range(60)]))
        held_bytes = sum(memtable.bytes_held for memtable in store._memtables())
        assert held_bytes < 2 * 25_000
    assert len(held.started) > 2
    store.close()


# --- a disk that fails ------------------------------------------------------------------------------------------------


def test_a_failed_checkpoint_stops_the_ledger_and_loses_nothing_that_was_durable(tmp_path: Path) -> None:
    store = open_store(tmp_path, map_bytes=1 << 18)
    write(store, commands_entry([create(), create()]))
    store.checkpoint(wait=True)
    write(store, moved(1, 8_000))
    with pytest.raises(lmdb.MapFullError):
        store.checkpoint(wait=True)
    position = store.applied_position
    for action in (lambda: write(store, b""), lambda: store.tick(0), lambda: store.checkpoint(wait=False), store.close):
        with pytest.raises(lmdb.MapFullError):
            action()
    assert (store.applied_position, store.durable_position) == (position, 1)
    again = open_store(tmp_path)
    assert (again.applied_position, again.accounts_total, int(again.columns[1, 4])) == (1, 2, 0)
    assert again.verify().ok
    again.close()


@pytest.mark.parametrize(("cluster_id", "node_id"), [("other", "n1"), ("test", "n2")])
def test_the_folder_of_another_cluster_or_node_is_refused(tmp_path: Path, cluster_id: str, node_id: str) -> None:
    opened(tmp_path).close()
    config = StoreConfig(cluster_id, node_id, map_bytes=1 << 28)
    wrong = "cluster is 'test'" if cluster_id == "other" else "node is 'n1'"
    with pytest.raises(ForeignDataError, match=wrong):
        LedgerStore(tmp_path, config)
    store = open_store(tmp_path)
    assert (store.applied_position, store.verify().ok) == (1, True)
    store.close()


@pytest.mark.parametrize("name", ["rows", "pending"])
def test_rows_that_do_not_fit_the_state_are_refused_at_the_start(tmp_path: Path, name: str) -> None:
    store = opened(tmp_path)
    write(store, transfers_entry([transfer(1, 1, 2, 5, flags=TransferFlag.PENDING)]))
    store.close()
    with lmdb.open(str(tmp_path), max_dbs=20, map_size=1 << 28) as env:
        database = env.open_db(name.encode())
        with env.begin(write=True, db=database) as txn, txn.cursor() as cursor:
            cursor.first()
            if name == "rows":
                cursor.delete()
            else:
                txn.put(cursor.key(), cursor.value()[:-8])
    with pytest.raises(BrokenHistoryError, match=r"stored|checksum"):
        open_store(tmp_path)


# --- the hash of the state --------------------------------------------------------------------------------------------


def test_nodes_with_different_checkpoints_have_the_same_state_hashes(tmp_path: Path) -> None:
    held = HeldHost()
    often, never = (open_store(tmp_path / name, held=held, state_hash_every=4) for name in ("often", "never"))
    accounts = commands_entry([create(), create()])
    for store in (often, never):
        write(store, accounts)
    for n in range(30):
        for store in (often, never):
            write(store, moved(1 + 10 * n, 10))
        if n % 3 == 0:
            often.checkpoint(wait=True)
    assert often.state_hash_at(14)[0] == 12
    assert all(often.state_hash_at(at) == never.state_hash_at(at) for at in range(31))
    assert often.state_hash_at(3) == (0, b"")
    assert often.state_hash_at(31) == (31, never.state_hash())
    for store in (often, never):
        store.close()
    again = open_store(tmp_path / "often", state_hash_every=4)
    assert again.state_hash_at(28) == (0, b"")  # what was kept in memory is gone
    write(again, moved(1_000, 10))
    never = open_store(tmp_path / "never", state_hash_every=4)
    write(never, moved(1_000, 10))
    assert again.state_hash_at(32) == never.state_hash_at(32) != (0, b"")


def test_what_waits_is_told_once_its_batch_can_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reader comes between the kernel, which has the reservation, and the memory table, which has its batch."""
    store = opened(tmp_path)
    found: list[int] = []
    readers: list[threading.Thread] = []
    add = Memtable.add

    def met_by_a_reader(memtable: Memtable, batch: AppliedBatch) -> None:
        def read() -> None:
            found.extend(store.transfer_at(each).position for each in store.waiting_references((1_001,)))

        readers.append(threading.Thread(target=read))
        readers[-1].start()
        readers[-1].join(0.2)  # it must wait for the entry; a reader that does not is through by now
        add(memtable, batch)

    monkeypatch.setattr(Memtable, "add", met_by_a_reader)
    write(store, transfers_entry([transfer(1, 2, 1, 1, flags=TransferFlag.PENDING)]))
    readers[-1].join()
    assert found == [store.applied_position]
    store.close()
