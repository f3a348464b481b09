"""Snapshots on the simulated disk: what node/storage/snapshot_files does with files, in the same order, with crash
points between the steps. What was received and not synced may be missing, or torn, after a power cut."""

from __future__ import annotations

import hashlib
import struct
from pathlib import Path
from typing import TYPE_CHECKING

from node.consensus.seams import SnapshotInfo
from node.storage.host import Background
from node.storage.ledger_db import adopt_copy
from node.storage.raft_log import RaftLog
from tests.simulation.disk import Contents, Incoming

if TYPE_CHECKING:
    from tests.simulation.process import Process

CLUSTER_ID = "sim"
_LENGTHS = struct.Struct("<HII")


class SimSnapshots:
    """Implements consensus.seams.Snapshots."""

    def __init__(self, process: Process) -> None:
        self._process = process
        self._made: tuple[SnapshotInfo, bytes] | None = None
        self._making: Background | None = None

    def newest(self) -> SnapshotInfo | None:
        return self._made[0] if self._made is not None else None

    def prepare(self) -> None:
        if self._making is None or not self._making.is_alive():
            self._making = self._process.start_background(self._make)

    def _make(self) -> None:
        """The last checkpoint, as LMDB's copy has it."""
        process = self._process
        data = pack(process.machine.disk.contents("ledger"))
        info = SnapshotInfo(process.store.durable_position, len(data), _digest(data))
        self._made = info, data
        process.world.faults["snapshot_made"] += 1

    def read(self, info: SnapshotInfo, offset: int, size: int) -> bytes:
        if self._made is None or self._made[0] != info:
            return b""
        return self._made[1][offset : offset + size]

    def received(self, info: SnapshotInfo) -> int:
        disk = self._process.machine.disk
        if disk.incoming is None or disk.incoming.info != info:
            disk.incoming = Incoming(info)
        elif disk.incoming.data:
            self._process.world.faults["snapshot_resumed"] += 1
        return len(disk.incoming.data)

    def write(self, info: SnapshotInfo, offset: int, data: bytes) -> None:
        incoming = self._process.machine.disk.incoming
        if incoming is None or len(incoming.data) != offset:
            raise ValueError(f"a piece at {offset} does not follow what is there")
        incoming.data += data
        self._process.reach("snapshot.written")

    def complete(self, info: SnapshotInfo, term: int) -> bool:
        process, disk = self._process, self._process.machine.disk
        if disk.incoming is None or _digest(bytes(disk.incoming.data)) != info.digest:
            disk.incoming = None
            process.world.faults["snapshot_damaged"] += 1
            return False
        disk.incoming.synced = len(disk.incoming.data)
        process.reach("snapshot.whole")
        disk.mark = (info.position, term)
        process.reach("snapshot.marked")
        return True


def install_if_marked(process: Process, log: RaftLog) -> None:
    """At the start, before the ledger is opened: the state, the log behind it, and only then the mark goes."""
    disk = process.machine.disk
    if disk.mark is None:
        return
    position, term = disk.mark
    process.reach("install.begins")
    if disk.incoming is not None:
        disk.replace("incoming", unpack(bytes(disk.incoming.data)))
        adopt_copy(Path("incoming"), position, CLUSTER_ID, process.node_id, 0, process.storage_host())
        disk.replace("ledger", disk.contents("incoming"))
        disk.incoming = None
    process.reach("install.state")
    log.install(position, term)
    process.reach("install.journal")
    disk.mark = None
    process.world.faults["snapshot_installed"] += 1
    process.reach("install.done")


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=32).digest()


def pack(contents: Contents) -> bytes:
    parts = []
    for name in sorted(contents):
        for key, value in sorted(contents[name].items()):
            parts += [_LENGTHS.pack(len(name), len(key), len(value)), name, key, value]
    return b"".join(parts)


def unpack(data: bytes) -> Contents:
    contents: Contents = {}
    at = 0
    while at < len(data):
        ends = []
        lengths = _LENGTHS.unpack_from(data, at)
        at += _LENGTHS.size
        for length in lengths:
            ends.append(data[at : at + length])
            at += length
        contents.setdefault(ends[0], {})[ends[1]] = ends[2]
    return contents
