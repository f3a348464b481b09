"""Snapshots as files: copies of the ledger's database, made by a thread of its own, or received from the leader.

    snapshots/made        the newest copy; only good while this process lives
    snapshots/incoming    what is being received, and info.json, which says what it will be
    snapshots/install     the mark: incoming is whole and is to become the ledger at the next start
    snapshots/replaced    the ledger that it took the place of, until the log has followed

A start installs in this order: the state, the log behind it, and only then the mark is taken away; each step may be
done twice. So a crash anywhere leaves either the old pair of state and log or one that the next start completes.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import shutil
import sys
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Protocol

from node.storage.files import sync_folder, write_durably
from node.storage.host import SYSTEM_HOST, Background, Host

SYNC_EVERY_BYTES = 32 << 20
READ_AHEAD_BYTES = 4 << 20
UNUSED_S_MAX = 600.0  # then a copy that nobody reads is deleted
ROOM_SHARE = 1.2  # of the database's size that must be free before a copy is made
_HASHED_AT_ONCE = 1 << 20


class SnapshotError(Exception):
    """A snapshot cannot be made or installed; the message says why."""


@dataclass(frozen=True, slots=True)
class SnapshotInfo:
    position: int
    size: int
    digest: bytes  # BLAKE2b-256 of its bytes


@dataclass(frozen=True, slots=True)
class Mark:
    """What the next start installs."""

    position: int
    term: int


class InstallableLog(Protocol):
    def install(self, position: int, term: int) -> None: ...


class SnapshotFiles:
    """Implements consensus.seams.Snapshots. Owned by the engine's thread, but for the making of a copy."""

    def __init__(self, folder: Path, copy: Callable[[Path], int], host: Host = SYSTEM_HOST) -> None:
        """`copy` writes the database of one moment into a folder and returns its position."""
        self._folder, self._copy, self._host = folder, copy, host
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        for name in ("made", "making"):
            shutil.rmtree(folder / name, ignore_errors=True)
        self._making: Background | None = None
        self._finished: tuple[SnapshotInfo, Path] | None = None
        self._newest: SnapshotInfo | None = None
        self._made_file = -1
        self._used_at = 0.0
        self._incoming_file = -1
        self._hash = hashlib.blake2b(digest_size=32)
        self._unsynced = 0

    # The leader's side

    def newest(self) -> SnapshotInfo | None:
        if self._finished is not None:
            (info, path), self._finished = self._finished, None
            self._drop_made()
            path.rename(self._folder / "made")
            self._made_file = os.open(self._folder / "made" / "data.mdb", os.O_RDONLY)
            self._newest, self._used_at = info, self._host.monotonic()
        return self._newest

    def prepare(self) -> None:
        if self._finished is None and (self._making is None or not self._making.is_alive()):
            self._making = self._host.start(self._make, "kibubu-snapshot")

    def _make(self) -> None:
        """A failure costs nothing but the copy: the next offer tries again."""
        path = self._folder / "making"
        try:
            shutil.rmtree(path, ignore_errors=True)
            path.mkdir(mode=0o700)
            position = self._copy(path)
            data = path / "data.mdb"
            self._finished = SnapshotInfo(position, data.stat().st_size, _digest_of(data).digest()), path
        except Exception as error:
            shutil.rmtree(path, ignore_errors=True)
            sys.stderr.write(f"no snapshot was made: {type(error).__name__}: {error}\n")

    def read(self, info: SnapshotInfo, offset: int, size: int) -> bytes:
        if info != self._newest:
            return b""
        self._used_at = self._host.monotonic()
        data = os.pread(self._made_file, size, offset)
        os.posix_fadvise(self._made_file, offset + size, READ_AHEAD_BYTES, os.POSIX_FADV_WILLNEED)
        return data

    def tidy(self) -> None:
        """Now and then: a copy that nobody reads any more only takes room."""
        if self._newest is not None and self._host.monotonic() - self._used_at > UNUSED_S_MAX:
            self._drop_made()

    def _drop_made(self) -> None:
        if self._made_file >= 0:
            os.close(self._made_file)
        self._made_file, self._newest = -1, None
        shutil.rmtree(self._folder / "made", ignore_errors=True)

    # The follower's side

    def received(self, info: SnapshotInfo) -> int:
        incoming = self._folder / "incoming"
        if _read_info(incoming) != info:
            shutil.rmtree(incoming, ignore_errors=True)
            incoming.mkdir(mode=0o700)
            promised = json.dumps({**asdict(info), "digest": info.digest.hex()}).encode()
            write_durably(incoming / "info.json", _checksummed(promised))
        if self._incoming_file >= 0:
            os.close(self._incoming_file)
        path = incoming / "data.mdb"
        self._incoming_file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        self._hash, self._unsynced = _digest_of(path), 0
        return os.fstat(self._incoming_file).st_size

    def write(self, info: SnapshotInfo, offset: int, data: bytes) -> None:
        """In order; what was received is synced now and then, so that a crash costs little."""
        os.pwrite(self._incoming_file, data, offset)
        self._hash.update(data)
        self._unsynced += len(data)
        if self._unsynced >= SYNC_EVERY_BYTES:
            os.fdatasync(self._incoming_file)
            self._unsynced = 0

    def complete(self, info: SnapshotInfo, term: int) -> bool:
        size = os.fstat(self._incoming_file).st_size
        if size != info.size or self._hash.digest() != info.digest:
            os.close(self._incoming_file)
            self._incoming_file = -1
            shutil.rmtree(self._folder / "incoming")
            return False
        os.fsync(self._incoming_file)
        os.close(self._incoming_file)
        self._incoming_file = -1
        sync_folder(self._folder / "incoming")
        sync_folder(self._folder)
        write_durably(self._folder / "install", _checksummed(json.dumps([info.position, term]).encode()))
        return True


def check_room(folder: Path, bytes_needed: int) -> None:
    free = os.statvfs(folder)
    if free.f_bavail * free.f_frsize < bytes_needed * ROOM_SHARE:
        raise SnapshotError(f"{folder} has no room for a copy of {bytes_needed} bytes")


Adopt = Callable[[Path, int], None]


def install_if_marked(folder: Path, ledger: Path, log: InstallableLog, adopt: Adopt) -> Mark | None:
    """At the start, before the ledger is opened. `adopt` makes a received database this node's own, or raises."""
    mark = _read_mark(folder / "install")
    incoming, replaced = folder / "incoming", folder / "replaced"
    if mark is None:
        shutil.rmtree(replaced, ignore_errors=True)
        return None
    if incoming.exists():
        adopt(incoming, mark.position)
        shutil.rmtree(replaced, ignore_errors=True)
        if ledger.exists():
            ledger.rename(replaced)
        incoming.rename(ledger)
        for path in (ledger, ledger.parent, folder):
            sync_folder(path)
    log.install(mark.position, mark.term)
    (folder / "install").unlink()
    sync_folder(folder)
    shutil.rmtree(replaced, ignore_errors=True)
    return mark


def _read_mark(path: Path) -> Mark | None:
    try:
        text = _read_checked(path)
    except FileNotFoundError:
        return None
    return Mark(*json.loads(text))


def _read_info(incoming: Path) -> SnapshotInfo | None:
    with contextlib.suppress(FileNotFoundError, SnapshotError):
        fields = json.loads(_read_checked(incoming / "info.json"))
        return SnapshotInfo(fields["position"], fields["size"], bytes.fromhex(fields["digest"]))
    return None


def _digest_of(path: Path) -> hashlib.blake2b:
    digest = hashlib.blake2b(digest_size=32)
    with path.open("rb") as file:
        while part := file.read(_HASHED_AT_ONCE):
            digest.update(part)
    return digest


def _checksummed(content: bytes) -> bytes:
    return zlib.crc32(content).to_bytes(4, "little") + content


def _read_checked(path: Path) -> bytes:
    raw = path.read_bytes()
    if zlib.crc32(raw[4:]).to_bytes(4, "little") != raw[:4]:
        raise SnapshotError(f"{path} does not fit its checksum")
    return raw[4:]
