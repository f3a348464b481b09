"""The index of transfer ids on disk: sorted runs, one from each checkpoint, merged eight at a time as they grow.

A new id is looked for in every run, so a run says cheaply that it does not have it: ids that grow with time lie outside
its bounds, and a filter of twelve bits an id turns away nearly all others. Random ids therefore cost a merge now and
then instead of a page of the disk each (measured in the module's benchmark, cluster/bench).

    ids   run (8), chunk (4) -> crc32, count, ids as (low, high) words, references
          the filter is chunk 0xFFFFFFFF, the first id of each chunk together are chunk 0xFFFFFFFE
    runs  run (8) -> count, first and last id, alive;   b"version" -> number of the checkpoint that wrote last; sealed
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from node.ledger.history import BrokenHistoryError, Int64s
from node.storage.checked import DamagedDataError, seal, unseal
from node.storage.id_kernels import (
    FILTER_BLOCK_WORDS,
    candidates,
    chunk_of,
    fill_filter,
    is_sorted,
    merge_two,
    search_chunk,
)

CHUNK_IDS = 4_096
MERGE_RUNS = 8
MERGED_IDS_MAX = 4 << 20  # a merge reads and writes its whole run within one checkpoint
FILTER_BITS_PER_ID = 12
_FILTER_CHUNK, _FENCES_CHUNK = 0xFFFF_FFFF, 0xFFFF_FFFE
_KEY = struct.Struct(">QI")
_RUN_KEY = struct.Struct(">Q")
_CHUNK = struct.Struct("<II")  # crc32 of what follows the two, count
_RUN = struct.Struct("<QqqqqBxxxxxxx")  # count; first low, high; last low, high; alive
_VERSION = b"version"
_VERSION_FORM = struct.Struct("<Q")

Words = npt.NDArray[np.uint64]


@dataclass(frozen=True, slots=True)
class Run:
    number: int
    count: int
    bounds: Int64s  # (2, 2): first and last id as (low, high)
    fences: Int64s  # (chunks, 2): first id of each chunk
    filter: Words

    @property
    def size_class(self) -> int:
        """Runs of one class differ by less than eight times."""
        return (max(self.count, 1).bit_length() - 1) // 3


@dataclass(frozen=True, slots=True)
class Directory:
    version: int = 0
    runs: tuple[Run, ...] = ()
    dead: tuple[int, ...] = ()  # merged into others; deleted with the next checkpoint, so that no reader misses them
    next_number: int = 1

    @property
    def ids_total(self) -> int:
        return sum(run.count for run in self.runs)


Databases = dict[str, Any]  # "ids" and "runs" among them


def load(txn: Any, databases: Databases) -> Directory:
    """Raises BrokenHistoryError when a run does not fit its own chunks."""
    version, runs, dead, highest = 0, [], [], 0
    with txn.cursor(databases["runs"]) as cursor:
        for key, value in cursor.iternext():
            if bytes(key) == _VERSION:
                version = _VERSION_FORM.unpack(unseal("runs", key, value))[0]
                continue
            number = _RUN_KEY.unpack(key)[0]
            highest = max(highest, number)
            body = unseal("runs", key, value)
            count, *bounds, alive = _RUN.unpack(body)
            if _RUN.pack(count, *bounds, bool(alive)) != bytes(body):
                raise BrokenHistoryError(f"run {number} of the index of ids does not fit its form")
            if not alive:
                dead.append(number)
                continue
            none, packed_fences = _checked(txn, databases, number, _FENCES_CHUNK)
            nor_here, packed_filter = _checked(txn, databases, number, _FILTER_CHUNK)
            if none or nor_here:  # the count stands outside of the checksum
                raise DamagedDataError(f"run {number} of the index of ids counts ids where none are")
            fences = np.frombuffer(packed_fences, np.int64).reshape(-1, 2)
            filter_ = np.frombuffer(packed_filter, np.uint64)
            edges = np.array(bounds, dtype=np.int64).reshape(2, 2)
            runs.append(Run(number, count, edges, fences.copy(), filter_.copy()))
    return Directory(version, tuple(runs), tuple(dead), highest + 1)


def find(directory: Directory, txn: Any, databases: Databases, words: Int64s, out: Int64s) -> None:
    """Fill `out` where it is 0 with the reference of each transfer's id, where a run has it."""
    where = np.empty(len(words), dtype=np.int64)
    for run in reversed(directory.runs):
        count = candidates(run.bounds, run.filter, words, out, where)
        if not count:
            continue
        chunks: dict[int, list[int]] = {}
        for i in where[:count].tolist():
            chunks.setdefault(chunk_of(run.fences, words[i, 0], words[i, 1]), []).append(i)
        for chunk, wanted in chunks.items():
            ids, refs = _read_chunk(txn, databases, run.number, chunk)
            search_chunk(ids, refs, words, np.array(wanted, dtype=np.int64), out)


def write(directory: Directory, txn: Any, databases: Databases, ids: Int64s, refs: Int64s) -> Directory:
    """Add a run, merge where eight of a class have come together, delete what the last checkpoint merged."""
    for number in directory.dead:
        _delete(txn, databases, number)
    runs, number, dead = list(directory.runs), directory.next_number, []
    if len(refs):
        runs.append(_write_run(txn, databases, number, *_in_order(ids, refs)))
        number += 1
        while group := _ripe(runs):
            merged = _merged([_read_run(txn, databases, run) for run in group])
            for run in group:
                _put_run(txn, databases, run, alive=False)
            dead += [run.number for run in group]
            runs = [run for run in runs if run not in group]
            runs.append(_write_run(txn, databases, number, *merged))
            number += 1
    version = directory.version + 1
    txn.put(_VERSION, seal(_VERSION, _VERSION_FORM.pack(version)), db=databases["runs"])
    return Directory(version, tuple(runs), tuple(dead), number)


def version_of(txn: Any, databases: Databases) -> int:
    value = txn.get(_VERSION, db=databases["runs"])
    return int(_VERSION_FORM.unpack(unseal("runs", _VERSION, value))[0]) if value is not None else 0


def all_ids(txn: Any, databases: Databases) -> Iterator[tuple[Int64s, Int64s]]:
    """(ids, references) run by run, each against its checksums, order, bounds, fences and filter; for verification."""
    for run in load(txn, databases).runs:
        ids, refs = _read_run(txn, databases, run)
        if not is_sorted(ids):
            raise BrokenHistoryError(f"run {run.number} of the index of ids is not in order")
        again = _run_of(run.number, ids)
        for name in ("bounds", "fences", "filter"):
            if not np.array_equal(getattr(run, name), getattr(again, name)):
                raise BrokenHistoryError(f"run {run.number} of the index of ids does not fit its own {name}")
        yield ids, refs


def check_chunk(key: Any, value: Any) -> None:
    """Raises DamagedDataError when a stored chunk, filter or list of fences is not as it was written."""
    number, chunk = _KEY.unpack(key)
    if len(value) < _CHUNK.size:
        raise DamagedDataError(f"chunk {chunk} of run {number} of the index of ids is cut short")
    crc, count = _CHUNK.unpack_from(value)
    body = value[_CHUNK.size :]
    fits = count == 0 if chunk in (_FILTER_CHUNK, _FENCES_CHUNK) else len(body) == 24 * count
    if zlib.crc32(body) != crc or not fits:
        raise DamagedDataError(f"chunk {chunk} of run {number} of the index of ids does not fit its checksum")


def _ripe(runs: Sequence[Run]) -> list[Run]:
    """Eight or more runs of one class, unless they would make too large a one."""
    classes: dict[int, list[Run]] = {}
    for run in runs:
        classes.setdefault(run.size_class, []).append(run)
    for group in classes.values():
        if len(group) >= MERGE_RUNS and sum(run.count for run in group) <= MERGED_IDS_MAX:
            return group
    return []


def _in_order(ids: Int64s, refs: Int64s) -> tuple[Int64s, Int64s]:
    if is_sorted(ids):
        return ids, refs
    unsigned = ids.view(np.uint64)
    order = np.lexsort((unsigned[:, 0], unsigned[:, 1]))
    return ids[order], refs[order]


def _merged(parts: list[tuple[Int64s, Int64s]]) -> tuple[Int64s, Int64s]:
    while len(parts) > 1:
        pairs = [merge_two(*left, *right) for left, right in zip(parts[::2], parts[1::2], strict=False)]
        parts = pairs + ([parts[-1]] if len(parts) % 2 else [])
    return parts[0]


def _write_run(txn: Any, databases: Databases, number: int, ids: Int64s, refs: Int64s) -> Run:
    for at in range(0, len(refs), CHUNK_IDS):
        part_ids, part_refs = ids[at : at + CHUNK_IDS], refs[at : at + CHUNK_IDS]
        _put_chunk(txn, databases, number, at // CHUNK_IDS, len(part_refs), part_ids.tobytes() + part_refs.tobytes())
    run = _run_of(number, ids)
    _put_chunk(txn, databases, number, _FENCES_CHUNK, 0, run.fences.tobytes())
    _put_chunk(txn, databases, number, _FILTER_CHUNK, 0, run.filter.tobytes())
    _put_run(txn, databases, run, alive=True)
    return run


def _run_of(number: int, ids: Int64s) -> Run:
    """What is kept in memory of a run with these ids, in order."""
    blocks = len(ids) * FILTER_BITS_PER_ID // (FILTER_BLOCK_WORDS * 64) + 1
    filter_ = np.zeros(blocks * FILTER_BLOCK_WORDS, dtype=np.uint64)
    fill_filter(filter_, ids)
    return Run(number, len(ids), ids[[0, -1]], ids[::CHUNK_IDS].copy(), filter_)


def _put_run(txn: Any, databases: Databases, run: Run, *, alive: bool) -> None:
    value = _RUN.pack(run.count, *run.bounds.reshape(-1).tolist(), alive)
    key = _RUN_KEY.pack(run.number)
    txn.put(key, seal(key, value), db=databases["runs"])


def _put_chunk(txn: Any, databases: Databases, number: int, chunk: int, count: int, body: bytes) -> None:
    txn.put(_KEY.pack(number, chunk), _CHUNK.pack(zlib.crc32(body), count) + body, db=databases["ids"])


def _delete(txn: Any, databases: Databases, number: int) -> None:
    with txn.cursor(databases["ids"]) as cursor:
        found = cursor.set_range(_KEY.pack(number, 0))
        while found and cursor.key() and _KEY.unpack(cursor.key())[0] == number:
            found = cursor.delete()
    txn.delete(_RUN_KEY.pack(number), db=databases["runs"])


def _read_run(txn: Any, databases: Databases, run: Run) -> tuple[Int64s, Int64s]:
    parts = list(_chunks(txn, databases, run.number, run.count))
    return np.concatenate([ids for ids, _ in parts]), np.concatenate([refs for _, refs in parts])


def _chunks(txn: Any, databases: Databases, number: int, count: int) -> Iterator[tuple[Int64s, Int64s]]:
    total = 0
    for chunk in range((count + CHUNK_IDS - 1) // CHUNK_IDS):
        ids, refs = _read_chunk(txn, databases, number, chunk)
        total += len(refs)
        yield ids, refs
    if total != count:
        raise BrokenHistoryError(f"run {number} of the index of ids has {total} ids, {count} should be")


def _read_chunk(txn: Any, databases: Databases, number: int, chunk: int) -> tuple[Int64s, Int64s]:
    count, body = _checked(txn, databases, number, chunk)
    if len(body) != 24 * count:  # the count stands outside of the checksum
        raise DamagedDataError(f"chunk {chunk} of run {number} of the index of ids has the wrong length")
    return np.frombuffer(body, np.int64, 2 * count).reshape(count, 2), np.frombuffer(body, np.int64, count, 16 * count)


def _checked(txn: Any, databases: Databases, number: int, chunk: int) -> tuple[int, Any]:
    value = txn.get(_KEY.pack(number, chunk), db=databases["ids"])
    if value is None or len(value) < _CHUNK.size:
        raise DamagedDataError(f"chunk {chunk} of run {number} of the index of ids is missing")
    crc, count = _CHUNK.unpack_from(value)
    body = memoryview(value)[_CHUNK.size :]
    if zlib.crc32(body) != crc:
        raise DamagedDataError(f"chunk {chunk} of run {number} of the index of ids does not fit its checksum")
    return count, body
