"""Every state that files can be in after a crash, from a trace of their writes and syncs (chaos/shim/disk.c).

A sync makes all earlier writes to its file durable. Of the writes after it any may be on the disk and any may not, in
any combination, and each may be torn between sectors. A write through an O_DSYNC descriptor is durable when it returns,
and may be torn before.
"""

from __future__ import annotations

import itertools
import random
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import Path

SECTOR_BYTES = 512
SUBSETS_OF_MAX = 5  # up to so many open writes, every combination of them is tried
TORN_PER_POINT = 6
_MAGIC = 0x314D4853
_RECORD = struct.Struct("<IIIIQ")


class Kind(IntEnum):
    WRITE = 1
    SYNC = 2
    TRUNCATE = 3
    DSYNC_WRITE = 4
    MARK = 5  # what the traced program promised; `data` is its text
    RENAME = 6  # `data` is the new name; the program syncs the folder at once, so that no write comes between the two


@dataclass(frozen=True, slots=True)
class Step:
    kind: Kind
    path: str
    offset: int
    data: bytes


def read_trace(path: Path) -> list[Step]:
    """Raises ValueError when the trace is not whole."""
    raw = memoryview(path.read_bytes())
    steps, at = [], 0
    while at < len(raw):
        magic, kind, path_bytes, data_bytes, offset = _RECORD.unpack_from(raw, at)
        if magic != _MAGIC:
            raise ValueError(f"{path}: no record at byte {at}")
        at += _RECORD.size
        name = bytes(raw[at : at + path_bytes]).decode()
        at += path_bytes
        steps.append(Step(Kind(kind), name, offset, bytes(raw[at : at + data_bytes])))
        at += data_bytes
    return steps


@dataclass(slots=True)
class Disk:
    """The durable bytes of each file, and the writes that may be lost."""

    durable: dict[str, bytearray] = field(default_factory=dict)
    open_writes: list[Step] = field(default_factory=list)

    def take(self, step: Step) -> None:
        """The step has returned to the program."""
        if step.kind in (Kind.WRITE, Kind.TRUNCATE):
            self.durable.setdefault(step.path, bytearray())
            self.open_writes.append(step)
        elif step.kind is Kind.DSYNC_WRITE:
            _put(self.durable.setdefault(step.path, bytearray()), step)
        elif step.kind is Kind.RENAME:
            self.durable[step.data.decode()] = self.durable.pop(step.path)
        elif step.kind is Kind.SYNC:
            for write in self.open_writes:
                if write.path == step.path:
                    _put(self.durable[step.path], write)
            self.open_writes = [write for write in self.open_writes if write.path != step.path]

    def image(self, survivors: Sequence[Step]) -> dict[str, bytes]:
        touched = {step.path for step in survivors}
        files: dict[str, bytes] = {name: bytes(data) for name, data in self.durable.items() if name not in touched}
        for name in touched:
            data = bytearray(self.durable.get(name, b""))
            for step in survivors:
                if step.path == name:
                    _put(data, step)
            files[name] = bytes(data)
        return files


def _put(data: bytearray, step: Step) -> None:
    if step.kind is Kind.TRUNCATE:
        del data[step.offset :]
        data.extend(bytes(step.offset - len(data)))
        return
    end = step.offset + len(step.data)
    if len(data) < end:
        data.extend(bytes(end - len(data)))
    data[step.offset : end] = step.data


@dataclass(frozen=True, slots=True)
class Image:
    """The files after a crash behind step number `at`, or within it."""

    at: int
    says: str
    files: dict[str, bytes]


def images(steps: Sequence[Step], seed: int) -> Iterator[Image]:
    """All images of the trace in its order. Marks change nothing; the caller follows them by `at`."""
    disk, rng = Disk(), random.Random(seed)
    for at, step in enumerate(steps):
        if step.kind is Kind.MARK:
            continue
        if step.kind is Kind.DSYNC_WRITE:
            disk.durable.setdefault(step.path, bytearray())
            for torn in _torn(step, rng, TORN_PER_POINT):
                yield Image(at, "within a synced write", disk.image([*disk.open_writes, torn]))
                yield Image(at, "within a synced write, the rest lost", disk.image([torn]))
        disk.take(step)
        yield from _after(disk, at, rng)


def _after(disk: Disk, at: int, rng: random.Random) -> Iterator[Image]:
    writes = disk.open_writes
    for chosen in _subsets(writes, rng):
        yield Image(at, f"{len(chosen)} of {len(writes)} open writes", disk.image(chosen))
    if not writes:
        return
    for _ in range(TORN_PER_POINT):
        victim = rng.randrange(len(writes))
        for torn in _torn(writes[victim], rng, 1):
            kept = [write for number, write in enumerate(writes) if number == victim or rng.random() < 0.5]
            yield Image(at, "a torn write", disk.image([torn if write is writes[victim] else write for write in kept]))


def _subsets(writes: Sequence[Step], rng: random.Random) -> Iterator[Sequence[Step]]:
    """Every subset of a few; of many, each prefix, each alone, each missing, and some at random."""
    count = len(writes)
    if count <= SUBSETS_OF_MAX:
        yield from itertools.chain.from_iterable(itertools.combinations(writes, n) for n in range(count + 1))
        return
    for n in range(count + 1):
        yield writes[:n]
    for n in range(count):
        yield (writes[n],)
        yield [*writes[:n], *writes[n + 1 :]]
    for _ in range(1 << SUBSETS_OF_MAX):
        yield [write for write in writes if rng.random() < 0.5]


def _torn(step: Step, rng: random.Random, count: int) -> Iterator[Step]:
    """Some sectors of a write, the others as they were: kept as one write for each run of sectors would be, but in one
    piece, so only prefixes and suffixes by whole sectors, and single sectors."""
    sectors = (len(step.data) + SECTOR_BYTES - 1) // SECTOR_BYTES
    if step.kind is Kind.TRUNCATE or sectors < 2:
        return
    for _ in range(count):
        first = rng.randrange(sectors)
        last = rng.randrange(first, sectors)
        if rng.random() < 0.5:
            first = 0
        begin, end = first * SECTOR_BYTES, (last + 1) * SECTOR_BYTES
        yield Step(step.kind, step.path, step.offset + begin, step.data[begin:end])
