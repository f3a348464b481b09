"""Snapshots on a real disk: a copy is the state of one checkpoint, a transfer resumes, and an install that breaks off
anywhere is completed by the next start."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from node.storage import snapshot_files
from node.storage.data_folder import NEW_CLUSTER, open_data_folder
from node.storage.ledger_db import ForeignDataError
from node.storage.ledger_store import StoreConfig
from node.storage.raft_log import RaftLog, RaftLogCorruptError
from node.storage.snapshot_files import SnapshotError, SnapshotFiles, SnapshotInfo, check_room
from tests.service.one_node import OneNode

MAP_BYTES = 1 << 28


def config(node_id: str = "n2") -> StoreConfig:
    return StoreConfig("test", node_id, map_bytes=MAP_BYTES)


def made(files: SnapshotFiles) -> SnapshotInfo:
    files.prepare()
    while (info := files.newest()) is None:
        pass
    return info


def transfer(source: SnapshotFiles, target: SnapshotFiles, info: SnapshotInfo, *, upto: int | None = None) -> int:
    offset = target.received(info)
    started = offset
    while offset < (info.size if upto is None else upto):
        data = source.read(info, offset, 50_000)
        target.write(info, offset, data)
        offset += len(data)
    return started


@pytest.fixture
def leader(tmp_path: Path) -> OneNode:
    node = OneNode(tmp_path / "leader")
    node.people()
    node.store.checkpoint(wait=True)
    return node


@pytest.fixture
def files(leader: OneNode, tmp_path: Path) -> SnapshotFiles:
    return SnapshotFiles(tmp_path / "leader-snapshots", leader.store.copy_to)


def staged(files: SnapshotFiles, folder: Path, term: int = 3) -> SnapshotInfo:
    """A data folder in which a whole snapshot waits to be installed."""
    info = made(files)
    target = SnapshotFiles(folder / "snapshots", lambda path: 0)
    transfer(files, target, info)
    assert target.complete(info, term)
    return info


def test_copy_is_the_last_checkpoint_and_goes_into_a_folder_of_another_node(
    leader: OneNode, files: SnapshotFiles, tmp_path: Path
) -> None:
    durable, state_hash = leader.store.durable_position, leader.store.state_hash()
    leader.write(b"")  # behind the checkpoint
    info = staged(files, tmp_path / "n2")
    assert info.position == durable
    data = open_data_folder(tmp_path / "n2", config(), alone=False)
    assert data.installed is not None
    assert data.store.applied_position == data.log.base_index == data.log.last_index == durable
    assert data.log.last_term == data.log.term == 3
    assert data.store.state_hash() == state_hash
    assert data.store.verify().ok
    assert not data.log.member.voter
    assert not any((tmp_path / "n2" / "snapshots").iterdir())
    data.store.close()
    data.log.close()


def test_transfer_resumes_after_a_restart(files: SnapshotFiles, tmp_path: Path) -> None:
    info = made(files)
    assert transfer(files, SnapshotFiles(tmp_path / "in", lambda path: 0), info, upto=info.size // 2) == 0
    again = SnapshotFiles(tmp_path / "in", lambda path: 0)
    assert transfer(files, again, info) >= info.size // 2
    assert again.complete(info, 1)


def test_another_snapshot_begins_anew(files: SnapshotFiles, tmp_path: Path) -> None:
    info = made(files)
    target = SnapshotFiles(tmp_path / "in", lambda path: 0)
    transfer(files, target, info, upto=info.size // 2)
    assert target.received(SnapshotInfo(info.position, info.size, b"x" * 32)) == 0


@pytest.mark.parametrize("damage", ["flip", "short"])
def test_damaged_bytes_are_not_installed(files: SnapshotFiles, tmp_path: Path, damage: str) -> None:
    info = made(files)
    target = SnapshotFiles(tmp_path / "n2" / "snapshots", lambda path: 0)
    target.received(info)
    data = bytearray(files.read(info, 0, info.size))
    if damage == "flip":
        data[1_000] ^= 1
    else:
        del data[-1]
    target.write(info, 0, bytes(data))
    assert not target.complete(info, 1)
    assert target.received(info) == 0
    transfer(files, target, info)
    assert target.complete(info, 1)


class Stopped(Exception):  # noqa: N818
    """Stands for a crash."""


def test_install_that_breaks_off_anywhere_is_completed(
    files: SnapshotFiles, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every step of an install, from a node that has an older state of its own, is once the last before a crash."""
    steps = 0
    while True:
        folder = tmp_path / f"broken-{steps}"
        folder.mkdir()
        (folder / NEW_CLUSTER).touch()
        _old_state(folder)
        info = staged(files, folder)
        if not _install_up_to(steps, folder, monkeypatch):
            break
        steps += 1
        data = open_data_folder(folder, config(), alone=False)
        assert data.store.applied_position == data.log.base_index == info.position, f"after step {steps}"
        assert data.store.verify().ok
        assert data.log.member.voter
        assert data.log.voted_for == "n1"  # a promise survives the install
        data.store.close()
        data.log.close()
        assert not any((folder / "snapshots").iterdir())
    assert steps >= 8


def _old_state(folder: Path) -> None:
    data = open_data_folder(folder, config(), alone=False)
    data.log.set_term(3, "n1")
    data.log.append(1, b"")
    data.log.append(2, b"")
    data.log.sync()
    data.store.close()
    data.log.close()


def _install_up_to(steps: int, folder: Path, monkeypatch: pytest.MonkeyPatch) -> bool:
    """False = the install was over before that many steps."""
    left = [steps]

    def counted(original: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            if not left[0]:
                raise Stopped
            left[0] -= 1
            return original(*arguments, **named)

        return call

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", counted(Path.rename))
        patched.setattr(Path, "unlink", counted(Path.unlink))
        patched.setattr(snapshot_files, "sync_folder", counted(snapshot_files.sync_folder))
        patched.setattr(shutil, "rmtree", counted(shutil.rmtree))
        patched.setattr(RaftLog, "install", counted(RaftLog.install))
        patched.setattr(RaftLog, "sync", counted(RaftLog.sync))
        try:
            data = open_data_folder(folder, config(), alone=False)
        except Stopped:
            return True
    data.store.close()
    data.log.close()
    return False


@pytest.mark.parametrize("wrong", ["cluster", "position"])
def test_database_that_is_not_what_was_promised_is_refused(files: SnapshotFiles, tmp_path: Path, wrong: str) -> None:
    info = made(files)
    if wrong == "position":
        info = SnapshotInfo(info.position + 1, info.size, info.digest)
    target = SnapshotFiles(tmp_path / "n2" / "snapshots", lambda path: 0)
    target.received(info)
    target.write(info, 0, files.read(made(files), 0, info.size))
    assert target.complete(info, 1)
    settings = config() if wrong == "position" else StoreConfig("other", "n2", map_bytes=MAP_BYTES)
    with pytest.raises(ForeignDataError, match=wrong):
        open_data_folder(tmp_path / "n2", settings, alone=False)


def test_damaged_mark_stops_the_start(files: SnapshotFiles, tmp_path: Path) -> None:
    staged(files, tmp_path / "n2")
    mark = tmp_path / "n2" / "snapshots" / "install"
    raw = bytearray(mark.read_bytes())
    raw[-2] ^= 1
    mark.write_bytes(raw)
    with pytest.raises(SnapshotError, match="checksum"):
        open_data_folder(tmp_path / "n2", config(), alone=False)


def test_copy_that_nobody_reads_is_deleted(files: SnapshotFiles, monkeypatch: pytest.MonkeyPatch) -> None:
    info = made(files)
    files.tidy()
    assert files.newest() == info
    monkeypatch.setattr(snapshot_files, "UNUSED_S_MAX", -1.0)
    files.tidy()
    assert files.newest() is None
    assert files.read(info, 0, 10) == b""


def test_no_copy_without_room(tmp_path: Path) -> None:
    check_room(tmp_path, 1)
    with pytest.raises(SnapshotError, match="no room"):
        check_room(tmp_path, 1 << 60)


def test_failed_copy_costs_nothing(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def fail(path: Path) -> int:
        raise OSError("no space left")

    files = SnapshotFiles(tmp_path, fail)
    files.prepare()
    assert files._making is not None
    files._making.join()
    assert files.newest() is None
    assert "no snapshot was made: OSError: no space left" in capfd.readouterr().err


# New or lost


def test_only_a_folder_of_a_new_cluster_votes_at_once(tmp_path: Path) -> None:
    (tmp_path / "new").mkdir()
    (tmp_path / "new" / NEW_CLUSTER).touch()
    for name, alone, voter in (("new", False, True), ("lost", False, False), ("single", True, True)):
        for _ in range(2):  # and so at its second start
            data = open_data_folder(tmp_path / name, config(), alone=alone)
            assert data.log.member.voter == voter
            assert not (tmp_path / name / NEW_CLUSTER).exists()
            data.store.close()
            data.log.close()


def test_every_start_is_counted_and_the_record_is_checked(tmp_path: Path) -> None:
    for start in range(1, 4):
        log = RaftLog(tmp_path, cluster_id="c", node_id="n", segment_bytes=1 << 20)
        assert log.member.life.starts == start
        log.close()
    (file,) = tmp_path.glob("*.log")
    data = bytearray(file.read_bytes())
    data[data.rindex(b"[true, ")] ^= 1
    file.write_bytes(data)
    with pytest.raises(RaftLogCorruptError):
        RaftLog(tmp_path, cluster_id="c", node_id="n", segment_bytes=1 << 20)


# The journal


@pytest.mark.parametrize(("term", "kept"), [(2, True), (9, False)])
def test_journal_goes_on_behind_an_installed_state(tmp_path: Path, term: int, kept: bool) -> None:
    log = RaftLog(tmp_path, cluster_id="c", node_id="n", segment_bytes=1 << 20)
    for number in range(1, 11):
        log.set_term(2, "")
        log.append(2, b"%d" % number)
    log.sync()
    log.install(6, term)
    assert (log.base_index, log.last_index) == (6, 10 if kept else 6)
    log.set_term(9, "n1")
    log.append(9, b"next")
    log.sync()
    log.close()
    again = RaftLog(tmp_path, cluster_id="c", node_id="n", segment_bytes=1 << 20)
    assert again.term_at(6) == term
    assert again.last_index == (11 if kept else 7)
    assert again.read(7, 1, 100) == ([(2, b"7")] if kept else [(9, b"next")])
    assert again.bytes_total > 0
    again.close()


def test_digest_names_the_bytes(files: SnapshotFiles) -> None:
    info = made(files)
    assert hashlib.blake2b(files.read(info, 0, info.size), digest_size=32).digest() == info.digest
