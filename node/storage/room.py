"""How much room is left, on the disk and in LMDB's maps. A full disk is a failed sync, and a failed sync is the end of
the node: so it stops taking work before."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from enum import IntEnum
from pathlib import Path

LOOK_EVERY_S = 0.5


class Room(IntEnum):
    OK = 0
    LOW = 1  # no new work
    FULL = 2  # not even what the leader sends


class RoomWatch:
    """Callable, cheap, from one thread. The reserve is what a running checkpoint and the entries in flight may need."""

    def __init__(
        self,
        folder: Path,
        reserve_bytes: int,
        map_rooms: Sequence[Callable[[], int]] = (),
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """`map_rooms`: how many bytes each database may still grow."""
        self._folder, self._reserve_bytes = folder, reserve_bytes
        self._map_rooms, self._monotonic = map_rooms, monotonic
        self._room, self._look_at = Room.OK, 0.0

    def __call__(self) -> Room:
        now = self._monotonic()
        if now >= self._look_at:
            self._look_at = now + LOOK_EVERY_S
            self._room = self._look()
        return self._room

    def _look(self) -> Room:
        disk = os.statvfs(self._folder)
        free = min([disk.f_bavail * disk.f_frsize, *(room() for room in self._map_rooms)])
        if free < self._reserve_bytes // 2:
            return Room.FULL
        return Room.LOW if free < self._reserve_bytes else Room.OK
