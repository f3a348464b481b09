"""The ledger's LMDB environment: what is where, and the one transaction of a checkpoint.

meta       cluster, node, format; state: position, timestamp, accounts, transfers, hashes of chain and commands
batches    position (8, big-endian) -> stored batch           appended in order
ids, runs  transfer id -> reference, in sorted runs           see node/storage/id_runs
payments   payment id (16) -> reference (8)
rows       account number (8) -> account row
handles    ledger, key, value -> account number (8)
profiles   account number (8) -> name, handles, language
requests   request id (16) -> content hash, status, account, position, timestamp
documents  kind, key, version -> position, timestamp, author, body   see node/storage/documents
pending    reference (8) -> id words and fields               of what still waits
ended      reference (8) -> state in which a pending transfer ended

Every value is sealed with a checksum (checked.py); id_runs seals its own.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from node.ledger.columns import COLUMN_COUNT
from node.ledger.history import BrokenHistoryError, CommandOutcome, Document, Int64s, Profile, Remembered
from node.ledger.kernel import PENDING_FIELDS
from node.ledger.statuses import CommandStatus
from node.storage import documents, id_runs
from node.storage.batch_codec import OpenBatch, decode_batch, encode_batch, open_batch
from node.storage.checked import SEAL_BYTES, seal, unseal
from node.storage.host import SYSTEM_HOST, Host
from node.storage.memtable import Memtable

FORMAT = b"kibubu-ledger-4"
_DATABASES = (
    b"meta",
    b"batches",
    b"ids",
    b"runs",
    b"payments",
    b"rows",
    b"handles",
    b"profiles",
    b"requests",
    b"documents",
    b"pending",
    b"ended",
)
CHECKED_BATCHES_MAX = 65_536
T = TypeVar("T")
_STATE = struct.Struct("<QqQQ32s32s")
_REQUEST = struct.Struct("<16sHxxxxxxQQq")
_NUMBER = struct.Struct(">Q")
_ROWS_IN_PART = 16_384


class ForeignDataError(Exception):
    """The data folder belongs to another cluster, another node, or another version of the format."""


@dataclass(frozen=True, slots=True)
class DurableState:
    position: int = 0
    timestamp_ns: int = 0
    accounts_total: int = 0
    transfers_total: int = 0
    chain_hash: bytes = bytes(32)
    commands_hash: bytes = bytes(32)


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """All that one transaction writes; taken from the state at one position, then written by another thread."""

    state: DurableState
    memtable: Memtable
    row_numbers: Int64s
    rows: Int64s
    pending: dict[int, bytes]  # reference -> id words and fields


def _key(number: int) -> bytes:
    return _NUMBER.pack(number)


def _handle_key(ledger: int, key: str, value: str) -> bytes:
    return f"{ledger}|{key}|{value}".encode()


class Snapshot:
    """Everything in the database as one read transaction sees it."""

    def __init__(self, txn: Any, db: dict[str, Any]) -> None:
        self._txn = txn
        self._db = db

    def state(self) -> DurableState:
        value = self._txn.get(b"state", db=self._db["meta"])
        return DurableState(*_STATE.unpack(unseal("meta", b"state", value))) if value else DurableState()

    def items(self, db: str) -> Iterator[tuple[bytes, bytes]]:
        """All of one database, in key order."""
        with self._txn.cursor(self._db[db]) as cursor:
            for key, value in cursor.iternext():
                yield key, unseal(db, key, value)

    def ids(self) -> Iterator[tuple[Int64s, Int64s]]:
        """(ids as low and high words, references), chunk by chunk. Raises BrokenHistoryError."""
        return id_runs.all_ids(self._txn, self._db)

    def batch(self, position: int) -> bytes | None:
        value = self._txn.get(_key(position), db=self._db["batches"])
        return unseal("batches", _key(position), value) if value is not None else None

    def load_rows(self, columns: Int64s) -> int:
        """Read all account rows into `columns`, where row number = account number; returns how many. A number that is
        missing or too large leaves its rows zero: the caller compares the count."""
        loaded, total = 0, self._txn.stat(self._db["rows"])["entries"]
        with self._txn.cursor(self._db["rows"]) as cursor:
            if cursor.last() and int.from_bytes(cursor.key(), "big") == total:
                # Numbered without a gap: a part at a time, each row against its seal.
                cursor.first()
                items = cursor.iternext()
                while part := [unseal("rows", key, value) for key, value in islice(items, _ROWS_IN_PART)]:
                    rows = np.frombuffer(b"".join(part), dtype="<i8").reshape(-1, COLUMN_COUNT)
                    columns[loaded + 1 : loaded + 1 + len(rows)] = rows
                    loaded += len(rows)
                return loaded
            for key, value in cursor.iternext():
                number = int.from_bytes(key, "big")
                if number < len(columns):
                    columns[number] = np.frombuffer(unseal("rows", key, value), dtype="<i8")
                loaded += 1
        return loaded

    def pending(self) -> Iterator[tuple[int, tuple[int, int], Int64s]]:
        """(reference, id words, fields) of each pending transfer that waits."""
        for key, value in self.items("pending"):
            if len(value) != (2 + PENDING_FIELDS) * 8:
                raise BrokenHistoryError(f"pending transfer {key.hex()} is stored in {len(value)} bytes")
            words = np.frombuffer(value, dtype="<i8")
            yield int.from_bytes(key, "big"), (int(words[0]), int(words[1])), words[2 : 2 + PENDING_FIELDS].copy()


class LedgerDb:
    def __init__(self, path: Path, cluster_id: str, node_id: str, map_bytes: int, host: Host = SYSTEM_HOST) -> None:
        self._env = host.open_environment(path, map_bytes=map_bytes, max_dbs=len(_DATABASES))
        self._db = {name.decode(): self._env.open_db(name) for name in _DATABASES}
        self._checked_batches: set[int] = set()
        self._check_identity(cluster_id, node_id)
        with self._env.begin(buffers=True) as txn:
            self._id_runs = id_runs.load(txn, self._db)

    def _check_identity(self, cluster_id: str, node_id: str) -> None:
        wanted = {b"format": FORMAT, b"cluster": cluster_id.encode(), b"node": node_id.encode()}
        with self._env.begin(write=True, db=self._db["meta"]) as txn:
            for key, value in wanted.items():
                found = txn.get(key)
                if found is None:
                    txn.put(key, seal(key, value))
                elif found != seal(key, value):
                    mine = unseal("meta", key, found)
                    raise ForeignDataError(
                        f"the data folder's {key.decode()} is {mine.decode()!r}, this node's is {value.decode()!r}"
                    )

    @contextmanager
    def read(self) -> Iterator[tuple[Any, dict[str, Any]]]:
        with self._env.begin(buffers=True) as txn:
            yield txn, self._db

    def copy_to(self, folder: Path) -> int:
        """The whole database at one moment, without its free pages; its position. From any thread."""
        with self._env.begin() as txn:
            position = Snapshot(txn, self._db).state().position
            self._env.copy(str(folder), compact=True, txn=txn)
        return position

    def size_bytes(self) -> int:
        """What its pages take, free ones included."""
        return int(self._env.info()["last_pgno"] + 1) * int(self._env.stat()["psize"])

    def map_room(self) -> int:
        """Bytes that the file may still grow."""
        return int(self._env.info()["map_size"]) - self.size_bytes()

    def close(self) -> None:
        self._env.close()

    # --- reads ----------------------------------------------------------------------------------------------------

    def _get(self, db: str, key: bytes) -> bytes | None:
        with self._env.begin(db=self._db[db]) as txn:
            value = txn.get(key)
            return unseal(db, key, value) if value is not None else None

    def find_ids(self, words: Int64s, out: Int64s) -> None:
        """Fill `out` where it is 0 with the reference of each transfer's id, where one is stored."""
        while self._id_runs.runs:
            directory = self._id_runs
            with self._env.begin(buffers=True) as txn:
                # What a directory names is deleted with the second checkpoint after it, not before.
                if id_runs.version_of(txn, self._db) <= directory.version + 1:
                    id_runs.find(directory, txn, self._db, words, out)
                    return

    def batch(self, position: int) -> bytes | None:
        return self._get("batches", _key(position))

    def from_batch(self, position: int, take: Callable[[OpenBatch], T]) -> T:
        """What `take` copies out of a stored batch, of which nothing else is copied: it may hold thousands. Raises
        BrokenHistoryError where none is stored."""
        with self._env.begin(buffers=True, db=self._db["batches"]) as txn:
            value = txn.get(_key(position))
            if value is None:
                raise BrokenHistoryError(f"no batch is stored at {position}, though a reference leads there")
            return take(open_batch(decode_batch(self._unsealed_batch(position, value))))

    def _unsealed_batch(self, position: int, value: Any) -> Any:
        """Its checksum costs more than one transfer of thousands in it: it is computed at the first read only, and the
        scrubber comes by again."""
        if position in self._checked_batches:
            return value[:-SEAL_BYTES]
        body = unseal("batches", _key(position), value)
        if len(self._checked_batches) >= CHECKED_BATCHES_MAX:
            self._checked_batches.clear()
        self._checked_batches.add(position)
        return body

    def payment(self, key: bytes) -> int:
        value = self._get("payments", key)
        return int.from_bytes(value, "big") if value else 0

    def account_by_handle(self, ledger: int, key: str, value: str) -> int:
        found = self._get("handles", _handle_key(ledger, key, value))
        return int.from_bytes(found, "big") if found else 0

    def profile(self, account_number: int) -> Profile | None:
        value = self._get("profiles", _key(account_number))
        if value is None:
            return None
        name, handles, *language = json.loads(value)
        return Profile(name, tuple((key, handle) for key, handle in handles), *language)

    def remembered(self, request_id: bytes) -> Remembered | None:
        value = self._get("requests", request_id)
        if value is None:
            return None
        content_hash, status, number, position, timestamp_ns = _REQUEST.unpack(value)
        return Remembered(content_hash, CommandOutcome(CommandStatus(status), number, position, timestamp_ns))

    def document(self, kind: str, key: str) -> Document | None:
        with self._env.begin() as txn:
            return next(documents.versions(txn, self._db["documents"], kind, key), None)

    def documents(self, kind: str, after_key: str, limit: int) -> list[Document]:
        with self._env.begin() as txn:
            return list(islice(documents.newest_of(txn, self._db["documents"], kind, after_key), limit))

    def document_versions(self, kind: str, key: str, before_version: int, limit: int) -> list[Document]:
        with self._env.begin() as txn:
            found = documents.versions(txn, self._db["documents"], kind, key, before_version)
            return list(islice(found, limit))

    def ended(self, reference: int) -> int:
        value = self._get("ended", _key(reference))
        return value[0] if value else 0

    @contextmanager
    def snapshot(self) -> Iterator[Snapshot]:
        """One moment of the whole database, whatever is written meanwhile. LMDB keeps its pages until it is closed."""
        with self._env.begin() as txn:
            yield Snapshot(txn, self._db)

    # --- the checkpoint -------------------------------------------------------------------------------------------

    def write(self, checkpoint: Checkpoint) -> None:
        """Everything up to one position, in one synced transaction."""
        memtable = checkpoint.memtable
        with self._env.begin(write=True) as txn:

            def put_all(
                db: str, items: list[tuple[bytes, bytes]], *, append: bool = False, overwrite: bool = True
            ) -> None:
                if items:
                    with txn.cursor(self._db[db]) as cursor:
                        sealed = [(key, seal(key, value)) for key, value in items]
                        cursor.putmulti(sealed, append=append, overwrite=overwrite)

            batches = memtable.batches.values()
            put_all("batches", [(_key(batch.position), encode_batch(batch)) for batch in batches], append=True)
            directory = id_runs.write(self._id_runs, txn, self._db, *memtable.ids.recorded())
            row_values = checkpoint.rows.tobytes()
            size = COLUMN_COUNT * 8
            row_keys = checkpoint.row_numbers.astype(">u8").tobytes()
            put_all(
                "rows",
                [
                    (row_keys[i * 8 : i * 8 + 8], row_values[i * size : i * size + size])
                    for i in range(len(checkpoint.row_numbers))
                ],
            )
            for db, items in fact_items(memtable).items():
                put_all(db, items, overwrite=db != "payments")  # the first payment of an id stands
            put_all("pending", [(_key(ref), value) for ref, value in sorted(checkpoint.pending.items())])
            for reference in memtable.ended:
                txn.delete(_key(reference), db=self._db["pending"])
            state = checkpoint.state
            numbers = (state.position, state.timestamp_ns, state.accounts_total, state.transfers_total)
            packed = _STATE.pack(*numbers, state.chain_hash, state.commands_hash)
            txn.put(b"state", seal(b"state", packed), db=self._db["meta"])
        self._id_runs = directory


def adopt_copy(
    path: Path, position: int, cluster_id: str, node_id: str, map_bytes: int, host: Host = SYSTEM_HOST
) -> None:
    """Make a copy of another node's database this node's own; ForeignDataError when it is not what was promised."""
    env = host.open_environment(path, map_bytes=map_bytes, max_dbs=len(_DATABASES))
    try:
        db = {name.decode(): env.open_db(name) for name in _DATABASES}
        with env.begin(write=True) as txn:
            found = Snapshot(txn, db).state().position
            if found != position:
                raise ForeignDataError(f"the received database is of position {found}, not {position}")
            for key, wanted in ((b"format", FORMAT), (b"cluster", cluster_id.encode())):
                if txn.get(key, db=db["meta"]) != seal(key, wanted):
                    raise ForeignDataError(f"the received database's {key.decode()} is not {wanted.decode()!r}")
            txn.put(b"node", seal(b"node", node_id.encode()), db=db["meta"])
    finally:
        env.close()


def fact_items(memtable: Memtable) -> dict[str, list[tuple[bytes, bytes]]]:
    """Database -> (key, value) in key order, of all that is no transfer and no account row."""
    return {
        "payments": sorted((i.to_bytes(16, "big"), _key(ref)) for i, ref in memtable.payments.items()),
        "handles": sorted((_handle_key(*handle), _key(n)) for handle, n in memtable.handles.items()),
        "profiles": sorted((_key(n), _profile_value(profile)) for n, profile in memtable.profiles.items()),
        "requests": sorted((key, _request_value(found)) for key, found in memtable.requests.items()),
        "documents": documents.items(memtable.documents.values()),
        "ended": sorted((_key(ref), bytes([state])) for ref, state in memtable.ended.items()),
    }


def _profile_value(profile: Profile) -> bytes:
    fields = [profile.name, profile.handles]
    return json.dumps([*fields, profile.language] if profile.language else fields).encode()


def _request_value(remembered: Remembered) -> bytes:
    outcome = remembered.outcome
    return _REQUEST.pack(
        remembered.content_hash, outcome.status, outcome.account_number, outcome.position, outcome.timestamp_ns
    )
