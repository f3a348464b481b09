"""The journal's groups in files of a fixed size, each named after the number of its first group. A group is written and
synced in one piece; a file is only begun once every group before its first one is synced.

Opening goes through all groups. An invalid one ends the journal (a torn write: nobody was promised anything of it) only
if nothing shows that it was synced: no valid group behind it, no segment that was begun after it, no note of it
(log_identity.py). Otherwise it is damage. A segment that does not go on where the one before ended starts the journal
anew: the ones before it were given up, and came back with a crash, or what is missing of them is missed by the log.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import NamedTuple

from node.storage.folder import File, Folder
from node.storage.groups import (
    BLOCK,
    Group,
    Place,
    State,
    blocks_of,
    decode_group,
    encode_group,
    entries_of,
    measure,
)
from node.storage.host import Background
from node.storage.log_errors import RaftLogCorruptError
from node.storage.log_identity import SyncedNote
from node.storage.segment_scan import has_group_behind, walk
from node.storage.spares import Spares

SEGMENT_BYTES = 32 << 20
_SUFFIX = ".log"


class Position(NamedTuple):
    segment: int
    block: int


def name_of(segment: int) -> str:
    return f"{segment:020}{_SUFFIX}"


def segments_in(folder: Folder) -> list[int]:
    return sorted(int(name.removesuffix(_SUFFIX)) for name in folder.names() if name.endswith(_SUFFIX))


class Segments:
    """Written by one thread; `verify` may run in any other."""

    def __init__(
        self,
        folder: Folder,
        key: bytes,
        segment_bytes: int,
        start: Callable[[Callable[[], None], str], Background],
    ) -> None:
        self._folder, self._key = folder, key
        self._spares = Spares(folder, segment_bytes, start)
        self._note = SyncedNote(folder)
        self._file: File | None = None
        self._segment = self._end = self._capacity = 0  # of the newest one; the latter two in blocks
        self.number = 0  # of the newest group
        self.used: dict[int, int] = {}  # segment -> blocks with groups in them, oldest first

    def load(self) -> Iterator[Group]:
        """Every group, oldest first; afterwards the newest ones are durable, whatever the process before had heard."""
        newest: Group | None = None
        for segment in segments_in(self._folder):
            for group, damaged in walk(self._follow(segment), self._key, segment):
                if damaged:
                    break
                if group.number <= self.number:
                    raise RaftLogCorruptError(f"group {group.number} of {name_of(segment)} follows {self.number}")
                self.number, self._end, newest = group.number, group.place.block + group.place.blocks, group
                self.used[segment] = self._end
                yield group
        self._check_end()
        if newest is not None:
            self._write_again(newest)
        self._spares.prepare()

    def append(self, state: State, first: int, entries: Sequence[tuple[int, bytes]]) -> Place:
        """Synced when it returns."""
        number, blocks = self.number + 1, blocks_of(state, entries)
        is_new = self._file is None or self._end + blocks > self._capacity
        if is_new:
            self._begin(number, blocks)
        place = Place(self._segment, self._end, blocks)
        file = self._open_file()
        file.write(encode_group(self._key, number, place, state, first, entries), place.block * BLOCK)
        file.sync()
        if is_new:
            self._folder.sync()
        self._note.take(number)
        self.number, self._end = number, self._end + blocks
        self.used[self._segment] = self._end
        return place

    def read(self, place: Place, first: int, last: int, bytes_max: int) -> list[tuple[int, bytes]]:
        """Entries of one group from `first` on, within `bytes_max`, but at least one."""
        file = self._folder.open(name_of(place.segment))
        try:
            group = self._read_head(file, place)
            sizes = [row[1] for row in group.rows]
            begin, end, size = first - group.first, first - group.first, 0
            while end <= last - group.first and (end == begin or size + sizes[end] <= bytes_max):
                size += sizes[end]
                end += 1
            data = file.read(size, place.block * BLOCK + group.head_bytes + sum(sizes[:begin]))
            return entries_of(group, data, first, group.first + end - 1)
        finally:
            file.close()

    def verify(self, begin: Position, end: Position, used: Mapping[int, int]) -> int:
        """Every group between the two, with `used` as it was when they were true; returns bytes. Raises
        RaftLogCorruptError, or FileNotFoundError when a segment has been given up since."""
        size = 0
        for segment in [number for number in used if begin.segment <= number <= end.segment]:
            block = begin.block if segment == begin.segment else 0
            stop = end.block if segment == end.segment else used[segment]
            file = self._folder.open(name_of(segment))
            try:
                for group, damaged in walk(file, self._key, segment, block, stop):
                    if damaged:
                        raise RaftLogCorruptError(f"entry {damaged} does not fit its checksum")
                    block += group.place.blocks
                    size += group.place.blocks * BLOCK
            finally:
                file.close()
            if block != stop:
                raise RaftLogCorruptError(f"{name_of(segment)}: the group at block {block} is damaged")
        return size

    def give_up_before(self, needed: int) -> None:
        """Nothing in older segments is needed any more."""
        for segment in [number for number in self.used if number < needed]:
            del self.used[segment]
            self._spares.give(name_of(segment))

    def room_bytes(self) -> int:
        return (self._capacity - self._end) * BLOCK + self._spares.room_bytes()

    def close(self) -> None:
        self._spares.close()
        self._note.close()
        if self._file is not None:
            self._file.close()

    def _begin(self, segment: int, blocks: int) -> None:
        self._take(segment, self._spares.obtain(name_of(segment), blocks * BLOCK))
        self._spares.prepare()

    def _open_file(self) -> File:
        if self._file is None:
            raise RuntimeError("no segment was begun")
        return self._file

    def _follow(self, segment: int) -> File:
        file = self._folder.open(name_of(segment))
        self._take(segment, file)
        self.used[segment] = 0
        return file

    def _take(self, segment: int, file: File) -> None:
        before, self._file = self._file, file
        self._segment, self._end, self._capacity = segment, 0, file.size // BLOCK
        if before is not None:
            before.close()

    def _read_head(self, file: File, place: Place) -> Group:
        offset = place.block * BLOCK
        data = file.read(BLOCK, offset)
        head, _ = measure(data)
        if head > BLOCK:
            data = file.read(head, offset)
        group = decode_group(self._key, place.segment, place.block, data)
        if group is None:
            raise RaftLogCorruptError(f"{name_of(place.segment)}: the group at block {place.block} is damaged")
        return group

    def _check_end(self) -> None:
        """Behind the last valid group: is what follows a torn write, or damage?"""
        if self._note.number > self.number:
            raise RaftLogCorruptError(f"group {self._note.number} was synced, but the journal ends with {self.number}")
        if self._file is None:
            return
        if has_group_behind(self._file, self._key, self._segment, self._end):
            raise RaftLogCorruptError(f"{name_of(self._segment)}: the group at block {self._end} is damaged")
        if self._end == 0:
            self._undo_begin()

    def _undo_begin(self) -> None:
        """A segment was begun and nothing of it was written. The group before it was synced, and must be there."""
        if self._segment != self.number + 1:
            raise RaftLogCorruptError(
                f"{name_of(self._segment)} was begun, but the journal before it ends with {self.number}"
            )
        self._open_file().close()
        self._file = None
        del self.used[self._segment]
        self._folder.remove(name_of(self._segment))
        self._folder.sync()  # before that number is written elsewhere
        if self.used:
            end = self.used[segment := max(self.used)]
            self._follow(segment)
            self._end = self.used[segment] = end

    def _write_again(self, newest: Group) -> None:
        """After a failed sync the kernel may show bytes that are not on the disk, and sync them without an error."""
        place, file = newest.place, self._open_file()
        if newest.number > self._note.number:
            file.write([file.read(place.blocks * BLOCK, place.block * BLOCK)], place.block * BLOCK)
        file.sync()
        self._folder.sync()
