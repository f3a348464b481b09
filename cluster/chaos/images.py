"""Every state that files can be in after a crash, from a trace of their writes and syncs (chaos/shim/disk.c).

A sync makes all earlier writes to its file durable. Of the writes after it any may be on the disk and any may not, in
any combination, and each may be torn between sectors. A write through an O_DSYNC descriptor is durable when it returns,
and may be torn before. A new or removed name is durable when its folder is synced; before, such changes reach the disk
in their order, some of them or all.
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
REPEATED_MAX = 2  # open writes to the very same place
_MAGIC = 0x314D4853
_RECORD = struct.Struct("<IIIIQ")


class Kind(IntEnum):
    WRITE = 1
    SYNC = 2
    TRUNCATE = 3
    DSYNC_WRITE = 4
    MARK = 5  # what the traced program promised; `data` is its text
    RENAME = 6  # `data` is the new name
    REMOVE = 7


@dataclass(frozen=True, slots=True)
class Step:
    kind: Kind
    path: str
    offset: int
    data: bytes


_Write = tuple[int, Step]


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
    """The durable bytes of each file, and what may be lost: writes, and changes of names."""

    durable: list[bytearray] = field(default_factory=list)
    names: dict[str, int] = field(default_factory=dict)  # as the program sees them
    durable_names: dict[str, int] = field(default_factory=dict)
    open_names: list[Step] = field(default_factory=list)
    open_writes: list[_Write] = field(default_factory=list)  # with the file that was written to

    def take(self, step: Step) -> None:
        """The step has returned to the program."""
        if step.kind in (Kind.WRITE, Kind.TRUNCATE):
            self.open_writes.append((self.file_of(step), step))
            self._settle_repeated(step)
        elif step.kind is Kind.DSYNC_WRITE:
            _put(self.durable[self.file_of(step)], step)
        elif step.kind in (Kind.RENAME, Kind.REMOVE):
            self.open_names.append(step)
            _change_name(self.names, step)
        elif step.kind is Kind.SYNC and step.path in self.names:
            self._sync_file(self.names[step.path])
        elif step.kind is Kind.SYNC:
            self._sync_folder(step.path)

    def file_of(self, step: Step) -> int:
        """A new file is there at once, empty."""
        if step.path not in self.names:
            self.names[step.path] = self.durable_names[step.path] = len(self.durable)
            self.durable.append(bytearray())
        return self.names[step.path]

    def image(self, survivors: Sequence[_Write], names_kept: int | None = None) -> dict[str, bytes]:
        """`names_kept`: so many of the open changes of names are durable, too; None = all."""
        names = dict(self.durable_names)
        for step in self.open_names[:names_kept]:
            _change_name(names, step)
        touched = {file: bytearray(self.durable[file]) for file, _ in survivors}
        for file, step in survivors:
            _put(touched[file], step)
        return {name: bytes(touched.get(file, self.durable[file])) for name, file in names.items()}

    def _sync_file(self, file: int) -> None:
        for written, step in self.open_writes:
            if written == file:
                _put(self.durable[file], step)
        self.open_writes = [write for write in self.open_writes if write[0] != file]

    def _sync_folder(self, folder: str) -> None:
        for step in self.open_names:
            if folder in _folders_of(step):
                _change_name(self.durable_names, step)
        self.open_names = [step for step in self.open_names if folder not in _folders_of(step)]

    def _settle_repeated(self, step: Step) -> None:
        """Of many writes to one place that nobody syncs the older ones have reached the disk by themselves."""
        same = [write for write in self.open_writes if _is_same_place(write[1], step)]
        for file, old in same[:-REPEATED_MAX]:
            _put(self.durable[file], old)
            self.open_writes.remove((file, old))


def _is_same_place(one: Step, other: Step) -> bool:
    return (one.path, one.offset, len(one.data)) == (other.path, other.offset, len(other.data))


def _folders_of(step: Step) -> set[str]:
    """A rename from one folder to another is one change, durable with either."""
    names = (step.path, step.data.decode()) if step.kind is Kind.RENAME else (step.path,)
    return {name.rpartition("/")[0] for name in names}


def _change_name(names: dict[str, int], step: Step) -> None:
    """Of a file, or of a folder with all that is in it."""
    inside = [name for name in names if name == step.path or name.startswith(f"{step.path}/")]
    moved = {name: names.pop(name) for name in inside}
    if step.kind is Kind.RENAME:
        names |= {step.data.decode() + name.removeprefix(step.path): file for name, file in moved.items()}


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
            file = disk.file_of(step)
            for torn in _torn(step, rng, TORN_PER_POINT):
                yield Image(at, "within a synced write", disk.image([*disk.open_writes, (file, torn)]))
                yield Image(at, "within a synced write, the rest lost", disk.image([(file, torn)]))
        disk.take(step)
        yield from _after(disk, at, rng)


def _after(disk: Disk, at: int, rng: random.Random) -> Iterator[Image]:
    writes = disk.open_writes
    for chosen in _subsets(writes, rng):
        yield Image(at, f"{len(chosen)} of {len(writes)} open writes", disk.image(chosen))
        if disk.open_names:
            kept = rng.randrange(len(disk.open_names))
            says = f"{len(chosen)} of {len(writes)} open writes, {kept} of {len(disk.open_names)} names"
            yield Image(at, says, disk.image(chosen, kept))
    if not writes:
        return
    for _ in range(TORN_PER_POINT):
        victim = rng.randrange(len(writes))
        for torn in _torn(writes[victim][1], rng, 1):
            kept_writes = [
                (file, torn) if number == victim else (file, write)
                for number, (file, write) in enumerate(writes)
                if number == victim or rng.random() < 0.5
            ]
            yield Image(at, "a torn write", disk.image(kept_writes))


def _subsets(writes: Sequence[_Write], rng: random.Random) -> Iterator[Sequence[_Write]]:
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
