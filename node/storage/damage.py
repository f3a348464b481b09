"""What a node does about damaged data: it stops, and at the next start it sets everything aside and joins anew, as a
node whose disk was lost. Nothing is deleted but what an earlier damage had left."""

from __future__ import annotations

import shutil
from pathlib import Path

import lmdb

from node.storage.checked import DamagedDataError
from node.storage.files import sync_folder, write_durably
from node.storage.log_errors import RaftLogCorruptError

MARK = "damaged"
SET_ASIDE = "set-aside"
FOLDERS = ("raft", "ledger", "snapshots")
# A history that contradicts itself under right checksums is not among them: that may be a fault of the program, which
# all nodes share, and then setting data aside would make it worse.
DAMAGE = (
    DamagedDataError,
    RaftLogCorruptError,
    lmdb.CorruptedError,
    lmdb.InvalidError,
    lmdb.PageNotFoundError,
    lmdb.PanicError,
    lmdb.VersionMismatchError,
)
STORAGE_FAILURES = (*DAMAGE, lmdb.Error)


class DamagedFolderError(Exception):
    """The data is damaged, and there is no other node to rebuild it from."""


def mark_damaged(folder: Path, reason: str) -> None:
    """Durable when it returns."""
    write_durably(folder / MARK, reason.encode())


def damage_of(folder: Path) -> str:
    """Why the folder was marked; "" = it was not."""
    try:
        return (folder / MARK).read_text(encoding="utf-8") or "unknown"
    except FileNotFoundError:
        return ""


def set_aside(folder: Path) -> None:
    """Move what is damaged out of the way. Whatever breaks off here is completed at the next start."""
    new, old = folder / f"{SET_ASIDE}.new", folder / SET_ASIDE
    new.mkdir(mode=0o700, exist_ok=True)
    for name in FOLDERS:
        if (folder / name).exists():
            (folder / name).rename(new / name)
    sync_folder(folder)
    shutil.rmtree(old, ignore_errors=True)
    new.rename(old)
    (folder / MARK).unlink()
    sync_folder(folder)
