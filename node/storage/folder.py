"""Plain files of one folder, as far as the journal uses them: the seam between its rules and the operating system.

A write reaches the disk when its file is synced, a name when its folder is.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from node.storage.files import sync_folder

_ZEROS = bytes(1 << 20)
_PARTS_MAX = 1_024  # the kernel takes no more in one call
_MODE = 0o600

Bytes = bytes | bytearray | memoryview


class File(Protocol):
    @property
    def size(self) -> int: ...
    def read(self, size: int, offset: int) -> bytes:
        """Less than `size` only at the end of the file."""
        ...

    def write(self, parts: Sequence[Bytes], offset: int) -> None:
        """All parts, one behind the other."""
        ...

    def sync(self) -> None: ...
    def forget(self) -> None:
        """Its bytes need not stay in memory."""
        ...

    def close(self) -> None: ...


class Folder(Protocol):
    def names(self) -> list[str]: ...
    def open(self, name: str) -> File: ...
    def create(self, name: str, size: int) -> File:
        """A file of zeros, of which every byte has its place on the disk; raises OSError when there is none."""
        ...

    def rename(self, name: str, new_name: str) -> None:
        """In the place of a file that has the new name."""
        ...

    def remove(self, name: str) -> None: ...
    def sync(self) -> None: ...


class SystemFile:
    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self.size = os.fstat(descriptor).st_size

    def read(self, size: int, offset: int) -> bytes:
        data = os.pread(self._descriptor, size, offset)
        while len(data) < min(size, self.size - offset):
            more = os.pread(self._descriptor, size - len(data), offset + len(data))
            if not more:
                break
            data += more
        return data

    def write(self, parts: Sequence[Bytes], offset: int) -> None:
        if len(parts) > _PARTS_MAX:
            parts = [b"".join(parts)]
        written = os.pwritev(self._descriptor, parts, offset)
        size = sum(map(len, parts))
        if written != size:
            self._write_rest(memoryview(b"".join(parts)), written, offset)

    def _write_rest(self, data: memoryview, written: int, offset: int) -> None:
        """A signal or a limit of the kernel may cut a write short; a full disk says so at the next try."""
        while written < len(data):
            more = os.pwrite(self._descriptor, data[written:], offset + written)
            if not more:
                raise OSError(errno.EIO, "a write of the journal wrote nothing")
            written += more

    def sync(self) -> None:
        os.fdatasync(self._descriptor)

    def forget(self) -> None:
        os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def close(self) -> None:
        os.close(self._descriptor)


class SystemFolder:
    def __init__(self, path: Path) -> None:
        self._path = path

    def names(self) -> list[str]:
        return sorted(path.name for path in self._path.iterdir())

    def open(self, name: str) -> File:
        return SystemFile(os.open(self._path / name, os.O_RDWR | os.O_CLOEXEC))

    def create(self, name: str, size: int) -> File:
        """Zeros are really written: into space that is only reserved, each first write would have to be noted in the
        file system's own journal when it is synced. And then forgotten, for they were written in large pieces, and a
        small write into such a piece would be counted, and may be written, as the whole of it."""
        descriptor = os.open(self._path / name, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, _MODE)
        try:
            if size:
                os.posix_fallocate(descriptor, 0, size)
            file = SystemFile(descriptor)
            for offset in range(0, size, len(_ZEROS)):
                file.write([memoryview(_ZEROS)[: size - offset]], offset)
            os.fsync(descriptor)
            file.forget()
        except BaseException:
            os.close(descriptor)
            raise
        return file

    def rename(self, name: str, new_name: str) -> None:
        (self._path / name).rename(self._path / new_name)

    def remove(self, name: str) -> None:
        (self._path / name).unlink()

    def sync(self) -> None:
        sync_folder(self._path)
