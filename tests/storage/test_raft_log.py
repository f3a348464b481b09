"""The journal in real files: what is there after a restart, what a full disk, a foreign folder, an older version do.
Crashes and damage: test_raft_log_damage.py."""

from __future__ import annotations

import errno
import random
import struct
import subprocess
import sys
import zlib
from pathlib import Path

import lmdb
import pytest

from node.storage.folder import File, SystemFile, SystemFolder
from node.storage.groups import BLOCK
from node.storage.host import SYSTEM_HOST, Host
from node.storage.log_errors import RaftLogCorruptError, RaftLogError, RaftLogIdentityError
from node.storage.member import Life, Member, encode_member
from node.storage.old_journal import OldJournal
from node.storage.raft_log import RaftLog
from node.storage.spares import SPARES_MAX

SEGMENT = 16 * BLOCK


def open_log(
    path: Path,
    memory_bytes_max: int = 1 << 20,
    node_id: str = "n1",
    cluster_id: str = "c",
    host: Host = SYSTEM_HOST,
) -> RaftLog:
    return RaftLog(
        path,
        cluster_id=cluster_id,
        node_id=node_id,
        segment_bytes=SEGMENT,
        memory_bytes_max=memory_bytes_max,
        host=host,
    )


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


def test_compaction_gives_segments_back_and_reuses_them(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.set_term(1, "")
    for number in range(400):
        log.append(1, b"%03d" % (number % 1_000) * 300)
        log.sync()
        if number % 20 == 19:
            log.set_commit(log.last_index)
            log.compact(log.last_index - 10)
            log.sync()
    names = [path.name for path in tmp_path.iterdir()]
    assert sum(name.endswith(".log") for name in names) <= 3  # of about thirty that were begun
    assert sum(name.startswith("spare-") for name in names) <= SPARES_MAX
    assert log.bytes_total <= 30 * BLOCK
    with pytest.raises(RaftLogError, match="compacted away"):
        log.read(1, 1, 1)
    assert log.term_at(log.base_index) == 1
    expected = contents(log)
    log.close()
    again = open_log(tmp_path)
    assert (again.base_index, again.last_index) == (390, 400)
    assert contents(again) == expected
    assert again.bytes_total == 10 * BLOCK
    again.close()


def test_everything_is_compacted(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.set_term(1, "")
    for number in range(100):
        log.append(1, b"%d" % number)
    log.set_commit(100)
    log.sync()
    log.compact(100)
    log.sync()
    assert log.bytes_total == 0
    log.close()
    again = open_log(tmp_path)
    assert (again.base_index, again.last_index, again.last_term) == (100, 100, 1)
    again.append(1, b"next")
    again.sync()
    assert contents(again) == [(1, b"next")]
    again.close()


def test_group_larger_than_a_segment_has_one_of_its_own(tmp_path: Path) -> None:
    log = open_log(tmp_path)
    log.set_term(1, "")
    log.append(1, b"before")
    log.sync()
    large = [bytes([number]) * 50_000 for number in range(5)]
    for data in large:
        log.append(1, data)
    log.sync()
    log.append(1, b"after")
    log.sync()
    expected = [(1, b"before"), *[(1, data) for data in large], (1, b"after")]
    assert contents(log) == expected
    log.close()
    again = open_log(tmp_path, memory_bytes_max=0)
    assert contents(again) == expected
    again.close()


def test_many_entries_need_little_memory(tmp_path: Path) -> None:
    """A few bytes for each group, however many entries it has; bytes on disk count whole groups."""
    log = open_log(tmp_path, memory_bytes_max=1_000)
    log.set_term(1, "")
    for _ in range(20):
        for number in range(5_000):
            log.append(1, b"%04d" % number)
        log.sync()
    assert len(log._index) == 20
    assert len(log._memory) < 6  # entries count with their objects
    assert log.read(50_003, 1, 1) == [(1, b"0002")]
    assert log.bytes_total == sum(path.stat().st_size for path in tmp_path.glob("*.log")) // BLOCK * BLOCK
    log.close()


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


class FullFolder(SystemFolder):
    """A disk on which no new file finds room while it is full."""

    is_full = False

    def create(self, name: str, size: int) -> File:
        if self.is_full and size:
            raise OSError(errno.ENOSPC, "No space left on device")
        return super().create(name, size)


def test_full_disk_is_seen_before_a_group_fails(tmp_path: Path) -> None:
    folder = FullFolder(tmp_path)
    log = open_log(tmp_path, host=Host(open_folder=lambda path: folder))
    log.set_term(1, "")
    assert log.room_bytes() > 1 << 40  # as long as files can be made, the disk's own room counts
    folder.is_full = True
    while log.room_bytes() > SEGMENT // 2:
        log.append(1, b"x" * 3_000)
        log.sync()
    folder.is_full = False
    log.room_bytes()  # tries again
    log._files()._spares._making.join()
    assert log.room_bytes() > 1 << 40
    for _ in range(40):
        log.append(1, b"x" * 3_000)
        log.sync()
    log.close()


def test_sync_that_finds_no_room_makes_the_log_unusable(tmp_path: Path) -> None:
    folder = FullFolder(tmp_path)
    log = open_log(tmp_path, host=Host(open_folder=lambda path: folder))
    log.set_term(1, "")
    folder.is_full = True
    log.append(1, b"x" * (4 * SEGMENT))
    with pytest.raises(RaftLogError, match="no room for the journal's next segment"):
        log.sync()
    assert log.durable_index == 0
    with pytest.raises(RaftLogError, match="earlier sync failed"):
        log.sync()
    log.close()
    again = open_log(tmp_path)
    assert again.last_index == 0
    again.close()


def test_failed_sync_makes_the_log_unusable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = open_log(tmp_path)

    def fail(file: SystemFile) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patched:
        patched.setattr(SystemFile, "sync", fail)
        log.set_term(1, "")
        with pytest.raises(OSError, match="Input/output"):
            log.sync()
    with pytest.raises(RaftLogError, match="earlier sync failed"):
        log.sync()
    log.close()


def old_journal(folder: Path, identity: bytes = b"KBL1\0c\0n1") -> None:
    """As the versions before wrote it: a compacted log of ten entries behind entry 5."""
    with lmdb.open(str(folder), max_dbs=2) as env, env.begin(write=True) as txn:
        entries, meta = env.open_db(b"entries", txn=txn), env.open_db(b"meta", txn=txn)
        for index in range(6, 16):
            data = b"%d" % index * 1_000
            crc = zlib.crc32(data, zlib.crc32(struct.pack("<QQ", index, 2)))
            txn.put(struct.pack(">Q", index), struct.pack("<QI", 2, crc) + data, db=entries)
        numbers = struct.pack("<QQQQ", 3, 12, 5, 1)
        txn.put(b"state", numbers + struct.pack("<I", zlib.crc32(numbers + b"n2")) + b"n2", db=meta)
        txn.put(b"identity", identity, db=meta)
        txn.put(b"member", encode_member(Member(voter=False, life=Life(0, 7))), db=meta)


@pytest.mark.parametrize("broken_off", [False, True])
def test_journal_of_an_older_version_is_taken_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, broken_off: bool
) -> None:
    old_journal(tmp_path)
    if broken_off:
        with monkeypatch.context() as patched:
            patched.setattr(OldJournal, "remove", lambda old, folder: 1 / 0)
            with pytest.raises(ZeroDivisionError):
                open_log(tmp_path)
    for start in (8, 9):
        log = open_log(tmp_path)
        assert contents(log) == [(2, b"%d" % index * 1_000) for index in range(6, 16)]
        assert (log.term, log.voted_for, log.commit_index, log.base_index, log.term_at(5)) == (3, "n2", 12, 5, 1)
        assert (log.member.voter, log.member.life) == (False, Life(0, start))
        log.close()
        assert not (tmp_path / "data.mdb").exists()


def test_foreign_or_damaged_journal_of_an_older_version_is_refused(tmp_path: Path) -> None:
    (tmp_path / "foreign").mkdir()
    old_journal(tmp_path / "foreign", b"KBL1\0c\0n2")
    with pytest.raises(RaftLogIdentityError, match="belongs to"):
        open_log(tmp_path / "foreign")
    (tmp_path / "damaged").mkdir()
    old_journal(tmp_path / "damaged")
    with lmdb.open(str(tmp_path / "damaged"), max_dbs=2) as env, env.begin(write=True) as txn:
        entries = env.open_db(b"entries", txn=txn)
        txn.put(struct.pack(">Q", 9), txn.get(struct.pack(">Q", 9), db=entries)[:-1] + b"!", db=entries)
    for _ in range(2):
        with pytest.raises(RaftLogCorruptError, match="entry 9"):
            open_log(tmp_path / "damaged")
    assert (tmp_path / "damaged" / "data.mdb").exists()
