"""A disk with LMDB and plain files on it, as far as storage uses them: the same calls, with what a crash does to them.

A commit of LMDB takes effect in one step: a power cut before its last page leaves the old state, one after it the new.
A failed commit leaves either, and nobody knows which. Of a plain file (files.py) any sectors of a write may be there.
"""

from __future__ import annotations

import random
from bisect import bisect_left
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from node.consensus.seams import Room, SnapshotInfo
from node.storage.folder import Folder
from tests.simulation.files import HostFolder, MemoryFolder, SimFolder

Undo = list[tuple[Any, Any, Any]]  # each (place, key, value): place.restore(key, value) takes one change back
Contents = dict[bytes, dict[bytes, bytes]]  # of an environment: name of a database -> key -> value
LATENCY_S = (0.000_2, 0.001_5)


class DiskFailedError(Exception):
    """An injected error of a sync."""


@dataclass
class Incoming:
    """A snapshot's file while it is received."""

    info: SnapshotInfo
    data: bytearray = field(default_factory=bytearray)
    synced: int = 0


class Table:
    """One named database: keys in order."""

    def __init__(self, data: dict[bytes, bytes] | None = None) -> None:
        self.data: dict[bytes, bytes] = data or {}
        self.keys: list[bytes] = sorted(self.data)

    def put(self, key: bytes, value: bytes) -> None:
        if key not in self.data:
            if not self.keys or key > self.keys[-1]:
                self.keys.append(key)
            else:
                self.keys.insert(bisect_left(self.keys, key), key)
        self.data[key] = value

    def delete(self, key: bytes) -> bool:
        if self.data.pop(key, None) is None:
            return False
        del self.keys[bisect_left(self.keys, key)]
        return True

    def restore(self, key: bytes, value: bytes | None) -> None:
        if value is None:
            self.delete(key)
        else:
            self.put(key, value)


@dataclass(frozen=True, slots=True)
class DiskCopy:
    environments: dict[str, Contents]
    folders: dict[str, dict[str, bytes]]


class SimDisk:
    """What one node's environments hold; it outlives the node's processes."""

    def __init__(self, rng: random.Random, faults: Counter[str]) -> None:
        self.rng = rng
        self._faults = faults
        self.files: dict[str, dict[bytes, Table]] = {}
        self.folders: dict[str, SimFolder] = {}
        self.slowness = 1.0
        self.fail_syncs = 0
        self.unsynced_max = 0  # a disk that lies: so many commits of an environment are lost with the power
        self.lies_to: Callable[[Any], bool] = lambda host: True
        self._unsynced: dict[str, deque[Undo]] = {}
        self.syncs = 0
        self.room = Room.OK
        self.incoming: Incoming | None = None  # a snapshot that is being received
        self.mark: tuple[int, int] | None = None  # position and term of one that is to be installed

    def contents(self, name: str) -> Contents:
        return {table: dict(content.data) for table, content in self.files[name].items()}

    def replace(self, name: str, contents: Contents) -> None:
        """Another environment in the place of this one, in one step."""
        self.files[name] = {table: Table(data) for table, data in contents.items()}

    def open(self, name: str, host: Any) -> Environment:
        return Environment(self.files.setdefault(name, {}), name, self, host)

    def open_folder(self, name: str, host: Any) -> HostFolder:
        if name not in self.folders:
            self.folders[name] = SimFolder(self, name, self._new_folder(name))
        return self.folders[name].opened_by(host)

    def _new_folder(self, name: str) -> Folder:
        return MemoryFolder()

    def copy(self) -> DiskCopy:
        """Of a node that does not run."""
        return DiskCopy(
            {name: self.contents(name) for name in self.files},
            {name: self._files_in(name) for name in self.folders},
        )

    def _files_in(self, name: str) -> dict[str, bytes]:
        inner = self.folders[name].inner
        assert isinstance(inner, MemoryFolder)
        return inner.contents()

    def _folder_with(self, name: str, files: dict[str, bytes]) -> Folder:
        return MemoryFolder(files)

    def put_back(self, copy: DiskCopy) -> None:
        self.wipe()
        for name, contents in copy.environments.items():
            self.replace(name, contents)
        for name, files in copy.folders.items():
            self.folders[name] = SimFolder(self, name, self._folder_with(name, files))

    def wipe(self) -> None:
        self.files.clear()
        self.folders.clear()
        self._unsynced.clear()
        self.incoming = self.mark = None

    def take_time(self, host: Any) -> None:
        host.spend(self.rng.uniform(*LATENCY_S) * self.slowness)
        if self.slowness > 1:
            self._faults["disk_slow"] += 1

    def commit(self, name: str, undo: Undo, host: Any, *, in_pieces: bool = False) -> None:
        """Raises DiskFailedError or PowerCutError; whatever of `undo` must be taken back was taken back. `in_pieces`:
        it need not be all or nothing."""
        self.syncs += 1
        self.take_time(host)
        if self.fail_syncs:
            self.fail_syncs -= 1
            self._faults["sync_failed"] += 1
            if self.rng.random() < 0.5:
                self.lose_some(undo) if in_pieces else take_back(undo)
            host.sync_failed(name)
            raise DiskFailedError(f"sync of {name} failed")
        try:
            host.syncing(name, "before")
        except BaseException:
            take_back(undo)
            raise
        try:
            host.syncing(name, "torn")
        except BaseException:
            self.lose_some(undo) if in_pieces else take_back(undo)
            raise
        if self.unsynced_max and name == "raft":
            self._remember(name, undo, host)
        host.syncing(name, "after")

    def lose_some(self, undo: Undo) -> None:
        """Any sectors of a write are not on the disk, often none or all but a few."""
        share = self.rng.choice((0.0, 0.1, 0.5, 0.9))
        lost = [one for one in undo if self.rng.random() < share]
        if lost and len(lost) < len(undo):
            self._faults["write_torn"] += 1
        take_back(lost)

    def _remember(self, name: str, undo: Undo, host: Any) -> None:
        """An honest sync makes durable what lies before it, too."""
        unsynced = self._unsynced.setdefault(name, deque(maxlen=self.unsynced_max))
        if self.lies_to(host):
            unsynced.append(undo)
        else:
            unsynced.clear()

    def close(self) -> None:
        """Of a world that has ended; nothing to do unless real files are open."""

    def lose_power(self) -> None:
        for lost in self._unsynced.values():
            while lost:
                take_back(lost.pop())
        for folder in self.folders.values():
            folder.lose_power()
        if self.incoming is not None:
            self._lose_unsynced_pieces(self.incoming)

    def _lose_unsynced_pieces(self, incoming: Incoming) -> None:
        """Some of it is there, some is not, and of one block the file system knows only that it exists."""
        unsynced = len(incoming.data) - incoming.synced
        if unsynced:
            self._faults["snapshot_torn"] += 1
            del incoming.data[incoming.synced + self.rng.randrange(unsynced + 1) :]
            if len(incoming.data) > incoming.synced:
                incoming.data[self.rng.randrange(incoming.synced, len(incoming.data))] ^= 0xFF


def take_back(undo: Undo) -> None:
    for place, key, value in reversed(undo):
        place.restore(key, value)


class Environment:
    """The part of lmdb.Environment that storage uses."""

    def __init__(self, tables: dict[bytes, Table], name: str, disk: SimDisk, host: Any) -> None:
        self._tables, self._name, self._disk, self._host = tables, name, disk, host

    def open_db(self, name: bytes) -> Table:
        return self._tables.setdefault(name, Table())

    def begin(self, *, write: bool = False, db: Table | None = None, buffers: bool = False) -> Transaction:
        return Transaction(db, self._commit if write else None)

    def close(self) -> None:
        pass

    def _commit(self, undo: Undo) -> None:
        self._disk.commit(self._name, undo, self._host)


class Transaction:
    def __init__(self, db: Table | None, commit: Callable[[Undo], None] | None) -> None:
        self._db, self._commit = db, commit
        self._undo: Undo = []

    def __enter__(self) -> Transaction:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        if kind is not None:
            take_back(self._undo)
        elif self._commit is not None:
            self._commit(self._undo)

    def _table(self, db: Table | None) -> Table:
        table = db if db is not None else self._db
        if table is None:
            raise ValueError("no database is named")
        return table

    def get(self, key: bytes, default: bytes | None = None, db: Table | None = None) -> bytes | None:
        return self._table(db).data.get(key, default)

    def put(
        self, key: bytes, value: bytes, *, overwrite: bool = True, append: bool = False, db: Table | None = None
    ) -> bool:
        table = self._table(db)
        if self._commit is None:
            raise PermissionError("a read transaction cannot write")
        if append and table.keys and key <= table.keys[-1]:
            return False
        if not overwrite and key in table.data:
            return False
        self._undo.append((table, key, table.data.get(key)))
        table.put(key, bytes(value))
        return True

    def delete(self, key: bytes, value: bytes = b"", db: Table | None = None) -> bool:
        table = self._table(db)
        if key not in table.data:
            return False
        self._undo.append((table, key, table.data[key]))
        return table.delete(key)

    def stat(self, db: Table) -> dict[str, int]:
        return {"entries": len(db.data)}

    def cursor(self, db: Table | None = None) -> Cursor:
        return Cursor(self, self._table(db))


class Cursor:
    def __init__(self, txn: Transaction, table: Table) -> None:
        self._txn, self._table = txn, table
        self._at = 0

    def __enter__(self) -> Cursor:
        return self

    def __exit__(self, *_: Any) -> None:
        pass

    def _is_on_key(self) -> bool:
        return 0 <= self._at < len(self._table.keys)

    def first(self) -> bool:
        self._at = 0
        return self._is_on_key()

    def last(self) -> bool:
        self._at = len(self._table.keys) - 1
        return self._is_on_key()

    def set_range(self, key: bytes) -> bool:
        self._at = bisect_left(self._table.keys, key)
        return self._is_on_key()

    def set_key(self, key: bytes) -> bool:
        return self.set_range(key) and self.key() == key

    def key(self) -> bytes:
        return self._table.keys[self._at] if self._is_on_key() else b""

    def value(self) -> bytes:
        return self._table.data[self._table.keys[self._at]] if self._is_on_key() else b""

    def item(self) -> tuple[bytes, bytes]:
        return self.key(), self.value()

    def next(self) -> bool:
        self._at += 1
        return self._is_on_key()

    def delete(self) -> bool:
        return self._is_on_key() and self._txn.delete(self.key(), db=self._table)

    def __iter__(self) -> Iterator[tuple[bytes, bytes]]:
        return self.iternext()

    def iternext(self, keys: bool = True, values: bool = True) -> Iterator[Any]:
        while self._is_on_key():
            yield self.item() if keys and values else self.key() if keys else self.value()
            self._at += 1

    def putmulti(
        self, items: Iterable[tuple[bytes, bytes]], *, overwrite: bool = True, append: bool = False
    ) -> tuple[int, int]:
        put, table = self._txn.put, self._table
        added = [put(key, value, overwrite=overwrite, append=append, db=table) for key, value in items]
        return len(added), sum(added)

    def getmulti(self, keys: Iterable[bytes]) -> list[tuple[bytes, bytes]]:
        data = self._table.data
        return [(key, data[key]) for key in keys if key in data]
