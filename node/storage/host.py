"""What storage takes from its host: LMDB, files, background work and a clock. The simulator brings its own."""

from __future__ import annotations

import fcntl
import os
import shutil
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import lmdb

from node.storage.files import sync_folder
from node.storage.folder import Folder, SystemFolder


class FolderInUseError(Exception):
    """Another process holds the folder's lock."""


class Background(Protocol):
    """Work that was started and goes on beside the caller."""

    def is_alive(self) -> bool: ...

    def join(self) -> None: ...


def open_environment(path: Path, *, map_bytes: int, max_dbs: int) -> Any:
    """An LMDB environment whose commits are on disk when they return."""
    path.mkdir(parents=True, exist_ok=True)
    if not (path / "data.mdb").exists():
        _create_whole(path)
    return lmdb.open(str(path), map_size=map_bytes, max_dbs=max_dbs, sync=True, metasync=True, max_readers=64)


def _create_whole(path: Path) -> None:
    """A new environment appears in one step: LMDB does not sync its first pages, and after a power cut just then the
    file would be no LMDB file, and the node would not start again."""
    fresh = path / "fresh"
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir()
    environment = lmdb.open(str(fresh))
    environment.sync(True)
    environment.close()
    (fresh / "data.mdb").replace(path / "data.mdb")
    sync_folder(path)
    shutil.rmtree(fresh, ignore_errors=True)


def own_folder(path: Path) -> Callable[[], None]:
    """Hold the folder's lock until the returned function is called; two writers would destroy each other's data."""
    path.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(path / "owner", os.O_CREAT | os.O_RDWR, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(descriptor)
        raise FolderInUseError(f"{path} is in use by another process") from error
    sync_folder(path)
    return lambda: os.close(descriptor)


def start_thread(work: Callable[[], None], name: str) -> Background:
    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    return thread


@dataclass(frozen=True, slots=True)
class Host:
    own_folder: Callable[[Path], Callable[[], None]] = own_folder
    open_environment: Callable[..., Any] = open_environment
    open_folder: Callable[[Path], Folder] = SystemFolder
    random_bytes: Callable[[int], bytes] = os.urandom
    start: Callable[[Callable[[], None], str], Background] = start_thread
    monotonic: Callable[[], float] = time.monotonic


SYSTEM_HOST = Host()
