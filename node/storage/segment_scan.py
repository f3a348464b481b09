"""Going through the groups of one segment's file."""

from __future__ import annotations

from collections.abc import Iterator

from node.storage.folder import File
from node.storage.groups import BLOCK, MAGIC, Group, damaged_entry, decode_group, measure

_CHUNK_BYTES = 1 << 20


class _Reader:
    """A file in large pieces."""

    def __init__(self, file: File) -> None:
        self._file = file
        self._data, self._offset = memoryview(b""), 0

    def read(self, size: int, offset: int) -> memoryview:
        at = offset - self._offset
        if at < 0 or at + size > len(self._data):
            self._data, self._offset, at = memoryview(self._file.read(max(size, _CHUNK_BYTES), offset)), offset, 0
        return self._data[at : at + size]


def walk(file: File, key: bytes, segment: int, block: int = 0, stop: int | None = None) -> Iterator[tuple[Group, int]]:
    """Groups from `block` on until `stop` or the first invalid one, each with its first damaged entry (0 = none)."""
    reader, number = _Reader(file), segment if block == 0 else 0
    while stop is None or block < stop:
        _, size = measure(reader.read(BLOCK, block * BLOCK))
        if not size or block * BLOCK + size > file.size:
            return
        data = reader.read(size, block * BLOCK)
        group = decode_group(key, segment, block, data)
        if group is None or (number and group.number != number):
            return
        yield group, damaged_entry(group, data)
        block, number = block + group.place.blocks, group.number + 1


def has_group_behind(file: File, key: bytes, segment: int, block: int) -> bool:
    """Behind `block`, where the next group would begin: there may be a torn one with a sound head."""
    for offset in range((block + 1) * BLOCK, file.size, _CHUNK_BYTES):
        data = file.read(_CHUNK_BYTES, offset)
        at = data.find(MAGIC)
        while at >= 0:
            if at % BLOCK == 0:
                head, _ = measure(data[at : at + BLOCK])
                whole = data[at : at + BLOCK] if head <= BLOCK else file.read(head, offset + at)
                if decode_group(key, segment, (offset + at) // BLOCK, whole) is not None:
                    return True
            at = data.find(MAGIC, at + 1)
    return False
