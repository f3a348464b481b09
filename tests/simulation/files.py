"""Plain files on the simulated disk: what node/storage/folder does, and what a crash does to it. Of data that was not
synced any sectors may be lost; of names that were not synced, all from some moment on."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from node.storage.folder import Bytes, File, Folder

if TYPE_CHECKING:
    from tests.simulation.disk import SimDisk, Undo

SECTOR = 512
_UNSYNCED_MAX = 8  # writes to a file that nobody syncs: the older ones have reached the disk by themselves


class MemoryFile:
    def __init__(self, data: bytearray) -> None:
        self._data = data

    @property
    def size(self) -> int:
        return len(self._data)

    def read(self, size: int, offset: int) -> bytes:
        return bytes(self._data[offset : offset + size])

    def write(self, parts: Sequence[Bytes], offset: int) -> None:
        data = b"".join(parts)
        if offset > len(self._data):
            self._data.extend(bytes(offset - len(self._data)))
        self._data[offset : offset + len(data)] = data

    def sync(self) -> None:
        pass

    def forget(self) -> None:
        pass

    def close(self) -> None:
        pass


class MemoryFolder:
    def __init__(self, files: Mapping[str, bytes] | None = None) -> None:
        self._files: dict[str, bytearray] = {name: bytearray(data) for name, data in (files or {}).items()}

    def contents(self) -> dict[str, bytes]:
        return {name: bytes(data) for name, data in self._files.items()}

    def names(self) -> list[str]:
        return sorted(self._files)

    def open(self, name: str) -> File:
        if name not in self._files:
            raise FileNotFoundError(name)
        return MemoryFile(self._files[name])

    def create(self, name: str, size: int) -> File:
        self._files[name] = bytearray(size)
        return self.open(name)

    def rename(self, name: str, new_name: str) -> None:
        if name not in self._files:
            raise FileNotFoundError(name)
        self._files[new_name] = self._files.pop(name)

    def remove(self, name: str) -> None:
        if self._files.pop(name, None) is None:
            raise FileNotFoundError(name)

    def sync(self) -> None:
        pass


class SimFolder:
    """One folder of a disk; it outlives the processes that use it."""

    def __init__(self, disk: SimDisk, name: str, inner: Folder) -> None:
        self.disk, self.name, self.inner = disk, name, inner
        self.names_unsynced: list[Callable[[], None]] = []  # each takes one change back
        self.notes_unsynced: list[tuple[File, int, bytes]] = []
        self.writes_unsynced: dict[str, Undo] = {}  # of segments

    def opened_by(self, host: Any) -> HostFolder:
        return HostFolder(self, host)

    def lose_power(self) -> None:
        """Of what was not synced the disk has the older part: writes to one place, and names, reach it in order."""
        rng = self.disk.rng
        for undo in self.writes_unsynced.values():
            self.disk.lose_some(undo)
        lost_from = rng.randrange(len(self.names_unsynced) + 1)
        while len(self.names_unsynced) > lost_from:
            self.names_unsynced.pop()()
        lost_from = rng.randrange(len(self.notes_unsynced) + 1)
        while len(self.notes_unsynced) > lost_from:
            file, offset, old = self.notes_unsynced.pop()
            file.write([old], offset)
        for unsynced in (self.names_unsynced, self.notes_unsynced, self.writes_unsynced):
            unsynced.clear()


class HostFolder:
    """Implements node.storage.folder.Folder for one process."""

    def __init__(self, folder: SimFolder, host: Any) -> None:
        self._folder, self._host = folder, host
        self._inner = folder.inner
        self.names = folder.inner.names

    def open(self, name: str) -> File:
        return HostFile(self._folder, name, self._inner.open(name), self._host)

    def create(self, name: str, size: int) -> File:
        self._folder.disk.take_time(self._host)
        return HostFile(self._folder, name, self._inner.create(name, size), self._host)

    def rename(self, name: str, new_name: str) -> None:
        self._inner.rename(name, new_name)
        if name in self._folder.writes_unsynced:
            self._folder.writes_unsynced[new_name] = self._folder.writes_unsynced.pop(name)
        self._folder.names_unsynced.append(lambda: self._inner.rename(new_name, name))

    def remove(self, name: str) -> None:
        file = self._inner.open(name)
        content = file.read(file.size, 0)
        file.close()
        self._inner.remove(name)

        def come_back() -> None:
            again = self._inner.create(name, len(content))
            again.write([content], 0)
            again.close()

        self._folder.names_unsynced.append(come_back)

    def sync(self) -> None:
        self._folder.disk.take_time(self._host)
        self._folder.names_unsynced.clear()


class HostFile:
    """Implements node.storage.folder.File. Segments are synced after each write; a note is never synced."""

    def __init__(self, folder: SimFolder, name: str, inner: File, host: Any) -> None:
        self._folder, self._name, self._inner, self._host = folder, name, inner, host
        self._is_segment = name.endswith(".log") or name.startswith(("spare-", "making-"))
        self.read, self.forget, self.close = inner.read, inner.forget, inner.close

    @property
    def size(self) -> int:
        return self._inner.size

    def write(self, parts: Sequence[Bytes], offset: int) -> None:
        data = b"".join(parts)
        old = self._inner.read(len(data), offset)
        if self._is_segment:
            pieces = [(self, offset + at, old[at : at + SECTOR]) for at in range(0, len(old), SECTOR)]
            self._folder.writes_unsynced.setdefault(self._name, []).extend(pieces)
        else:
            notes = self._folder.notes_unsynced
            notes.append((self._inner, offset, old))
            del notes[:-_UNSYNCED_MAX]
        self._inner.write([data], offset)

    def sync(self) -> None:
        if self._is_segment:
            undo = self._folder.writes_unsynced.pop(self._name, [])
            self._folder.disk.commit(self._folder.name, undo, self._host, in_pieces=True)
        else:
            self._folder.notes_unsynced.clear()

    def restore(self, offset: int, old: bytes) -> None:
        self._inner.write([old], offset)
