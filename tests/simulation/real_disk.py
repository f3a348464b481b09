"""The same disk with real LMDB and real files under it: slower, and proof that the simulated one behaves alike."""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lmdb

from node.storage.folder import Folder, SystemFolder
from tests.simulation.disk import Contents, SimDisk, Undo

MAP_BYTES = 64 << 20
TABLES_MAX = 16


class RealDisk(SimDisk):
    """Commits of a process that dies before them are aborted; it cannot lie."""

    def __init__(self, rng: random.Random, faults: Counter[str], folder: Path) -> None:
        super().__init__(rng, faults)
        self._folder = folder
        self._open: dict[str, Any] = {}

    def open(self, name: str, host: Any) -> RealEnvironment:  # type: ignore[override]
        if name in self._open:
            self._open.pop(name).close()  # of the process before; LMDB is never open twice in one process
        return RealEnvironment(self._open_environment(name), lambda txn: self._commit(name, txn, host))

    def _open_environment(self, name: str) -> Any:
        path = self._folder / name
        path.mkdir(parents=True, exist_ok=True)
        env = lmdb.open(str(path), map_size=MAP_BYTES, max_dbs=TABLES_MAX, sync=False, max_readers=16)
        self._open[name] = env
        return env

    def _commit(self, name: str, txn: Any, host: Any) -> None:
        """The simulated disk's course of events, with LMDB's commit where it takes effect."""
        course = _Course(host, txn)
        undo: Undo = [(course, b"", None)]
        try:
            self.commit(name, undo, course)
        finally:
            course.end()

    def _new_folder(self, name: str) -> Folder:
        path = self._folder / name
        path.mkdir(parents=True, exist_ok=True)
        return SystemFolder(path)

    def _files_in(self, name: str) -> dict[str, bytes]:
        return {path.name: path.read_bytes() for path in (self._folder / name).iterdir()}

    def _folder_with(self, name: str, files: dict[str, bytes]) -> Folder:
        folder = self._new_folder(name)
        for file, data in files.items():
            (self._folder / name / file).write_bytes(data)
        return folder

    def contents(self, name: str) -> Contents:
        env = self._open[name]
        with env.begin() as txn, txn.cursor() as names:
            tables = {table: env.open_db(table, txn=txn) for table in list(names.iternext(values=False))}
        with env.begin() as txn:
            return {table: dict(txn.cursor(db).iternext()) for table, db in tables.items()}

    def replace(self, name: str, contents: Contents) -> None:
        if name in self._open:
            self._open.pop(name).close()
        shutil.rmtree(self._folder / name, ignore_errors=True)
        env = self._open_environment(name)
        for table, data in contents.items():
            db = env.open_db(table)
            with env.begin(write=True) as txn, txn.cursor(db) as cursor:
                cursor.putmulti(sorted(data.items()), append=True)

    def wipe(self) -> None:
        super().wipe()
        self.close()
        shutil.rmtree(self._folder, ignore_errors=True)

    def close(self) -> None:
        while self._open:
            self._open.popitem()[1].close()


class _Course:
    """What becomes of one transaction: it is the process to the disk, and the table that a failed commit restores."""

    def __init__(self, host: Any, txn: Any) -> None:
        self._host, self._txn = host, txn
        self._ended = False
        self.spend, self.sync_failed = host.spend, host.sync_failed

    def syncing(self, environment: str, stage: str) -> None:
        if stage == "after":
            self.end()
        self._host.syncing(environment, stage)

    def restore(self, key: bytes, value: bytes | None) -> None:
        self._ended = True
        self._txn.abort()

    def end(self) -> None:
        if not self._ended:
            self._ended = True
            self._txn.commit()


class RealEnvironment:
    def __init__(self, env: Any, commit: Callable[[Any], None]) -> None:
        self._env, self._commit = env, commit
        self.open_db = env.open_db

    def begin(self, *, write: bool = False, db: Any = None, buffers: bool = False) -> Any:
        txn = self._env.begin(db=db, write=write, buffers=buffers)
        return _WriteTransaction(txn, self._commit) if write else txn

    def close(self) -> None:
        pass  # the disk closes it when the next process opens it


class _WriteTransaction:
    def __init__(self, txn: Any, commit: Callable[[Any], None]) -> None:
        self._txn, self._commit = txn, commit

    def __enter__(self) -> Any:
        return self._txn

    def __exit__(self, kind: type[BaseException] | None, *_: Any) -> None:
        if kind is not None:
            self._txn.abort()
        else:
            self._commit(self._txn)
