"""Files for the journal's next segments, made in the background before they are needed: old segments that are not
needed any more, or new files of zeros. Overwriting a file that has its place on the disk takes one sync, and its size
and place need not be written again.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable

from node.storage.folder import File, Folder
from node.storage.host import Background
from node.storage.log_errors import RaftLogError

SPARES_MAX = 2
PREFIX = "spare-"
_MAKING = "making-"
_ROOM_UNKNOWN = 1 << 62


class Spares:
    """Owned by the journal's thread; only the making of a new one runs beside it."""

    def __init__(
        self, folder: Folder, segment_bytes: int, start: Callable[[Callable[[], None], str], Background]
    ) -> None:
        self._folder, self._segment_bytes, self._start = folder, segment_bytes, start
        self._numbers = itertools.count(1)
        self._names: list[str] = []
        self._making: Background | None = None
        self._shortage: OSError | None = None  # why the last one could not be made
        for name in folder.names():
            if name.startswith(_MAKING):
                folder.remove(name)
            elif name.startswith(PREFIX) and self._is_wanted(name):
                self._names.append(name)
            elif name.startswith(PREFIX):
                folder.remove(name)

    def prepare(self) -> None:
        """Have one made, unless there is one; returns at once."""
        if not self._names and (self._making is None or not self._making.is_alive()):
            self._making = self._start(self._make, "journal-spare")

    def obtain(self, name: str, size: int) -> File:
        """A file of at least that size, called so. Its name is durable once the folder is synced."""
        if size <= self._segment_bytes and not self._names and self._making is not None:
            self._making.join()
        if size <= self._segment_bytes and self._names:
            self._folder.rename(self._names.pop(), name)
            return self._folder.open(name)
        making = self._new_name(_MAKING)
        try:
            file = self._folder.create(making, max(size, self._segment_bytes))
        except OSError as error:
            raise RaftLogError(f"no room for the journal's next segment: {error}") from error
        self._folder.rename(making, name)
        return file

    def give(self, name: str) -> None:
        """A file that is not needed any more: kept for later, or removed."""
        if not self._is_wanted(name):
            self._folder.remove(name)
            return
        spare = self._new_name(PREFIX)
        self._folder.rename(name, spare)
        self._names.append(spare)

    def _is_wanted(self, name: str) -> bool:
        file = self._folder.open(name)
        try:
            file.forget()
            return file.size == self._segment_bytes and len(self._names) < SPARES_MAX
        finally:
            file.close()

    def room_bytes(self) -> int:
        """What is left while no more can be made; as long as it can, the disk's own room is what counts."""
        if self._shortage is None:
            return _ROOM_UNKNOWN
        self.prepare()
        return len(self._names) * self._segment_bytes

    def close(self) -> None:
        if self._making is not None:
            self._making.join()

    def _make(self) -> None:
        making = self._new_name(_MAKING)
        try:
            self._folder.create(making, self._segment_bytes).close()
            spare = self._new_name(PREFIX)
            self._folder.rename(making, spare)
        except OSError as error:
            self._shortage = error
            with contextlib.suppress(OSError):
                self._folder.remove(making)
        else:
            self._names.append(spare)
            self._shortage = None

    def _new_name(self, prefix: str) -> str:
        name = f"{prefix}{next(self._numbers)}"
        taken = self._folder.names()
        while name in taken:
            name = f"{prefix}{next(self._numbers)}"
        return name
