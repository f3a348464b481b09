"""What time does to disks: single bits that flip in what is stored, and older copies that somebody puts back."""

from __future__ import annotations

import random
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

from node.storage.folder import Folder
from node.storage.groups import BLOCK, Group
from node.storage.log_identity import IDENTITY
from node.storage.segment_scan import walk
from node.storage.segments import name_of, segments_in

if TYPE_CHECKING:
    from tests.simulation.disk import SimDisk, Table
    from tests.simulation.machine import Machine

ROTTING = ("ledger",)
JOURNAL = "raft"
JOURNAL_SHARE = 0.4
_KEY_AT, _KEY_END = 4, 36  # of the identity file
TRIES_MAX = 20
TRY_EVERY_S = 0.2


@dataclass(frozen=True, slots=True)
class Flip:
    disk: SimDisk
    environment: str
    name: bytes
    table: Table
    key: bytes
    value: bytes

    @property
    def where(self) -> str:
        return f"{self.environment}/{self.name.decode()} {self.key.hex()}"

    def is_there(self) -> bool:
        """Whether nothing has been written over it yet, and no other state has taken the place of all of it."""
        used = self.disk.files.get(self.environment, {}).get(self.name) is self.table
        return used and self.table.data.get(self.key) == self.value


@dataclass(frozen=True, slots=True)
class FileFlip:
    disk: SimDisk
    name: str
    offset: int
    content: bytes  # of the damaged group, as it is now

    @property
    def where(self) -> str:
        return f"{JOURNAL}/{self.name} {self.offset}"

    def is_there(self) -> bool:
        """As long as the segment has not been given up."""
        folder = self.disk.folders.get(JOURNAL)
        if folder is None or self.name not in folder.inner.names():
            return False
        with closing(folder.inner.open(self.name)) as file:
            return file.read(len(self.content), self.offset) == self.content


def flip_in_journal(disk: SimDisk, rng: random.Random) -> FileFlip | None:
    """In any group but the newest: that one would pass for a torn write if the note of its sync is lost, too (see
    node/storage/log_identity.py), and these are two failures."""
    if JOURNAL not in disk.folders or IDENTITY not in (inner := disk.folders[JOURNAL].inner).names():
        return None
    groups = _groups_in(inner)
    if len(groups) < 2:
        return None
    group = rng.choice(groups[:-1])
    name, offset = name_of(group.place.segment), group.place.block * BLOCK
    size = group.head_bytes + sum(row[1] for row in group.rows)
    with closing(inner.open(name)) as file:
        content = bytearray(file.read(size, offset))
        content[rng.randrange(size)] ^= 1 << rng.randrange(8)
        file.write([content], offset)
    return FileFlip(disk, name, offset, bytes(content))


def _groups_in(folder: Folder) -> list[Group]:
    with closing(folder.open(IDENTITY)) as file:
        key = file.read(_KEY_END, 0)[_KEY_AT:]
    groups: list[Group] = []
    for segment in segments_in(folder):
        with closing(folder.open(name_of(segment))) as file:
            groups += [group for group, damaged in walk(file, key, segment) if not damaged]
    return groups


def flip_a_bit(disk: SimDisk, rng: random.Random) -> Flip | FileFlip | None:
    """In any stored value or group; None = nothing is stored yet."""
    if rng.random() < JOURNAL_SHARE:
        return flip_in_journal(disk, rng)
    tables = [
        (environment, name, table)
        for environment in ROTTING
        for name, table in sorted(disk.files.get(environment, {}).items())
        if any(table.data.values())
    ]
    if not tables:
        return None
    environment, name, table = rng.choice(tables)
    key = rng.choice([key for key in table.keys if table.data[key]])
    value = bytearray(table.data[key])
    value[rng.randrange(len(value))] ^= 1 << rng.randrange(8)
    table.data[key] = bytes(value)
    return Flip(disk, environment, name, table, key, bytes(value))


class OlderCopy:
    """A copy of a stopped node's disk that is put back after the node has lived on. By then every other node has met
    its later life, so that whoever is asked first must refuse it; with fewer, it would be two failures at once."""

    def __init__(self, machine: Machine, after_s: float) -> None:
        self._machine, self._world = machine, machine.world
        machine.may_have_forgotten.add("copied")
        machine.crash("its disk is copied", restart_after_s=0.05)
        self._copy = machine.disk.copy()
        self._tries = 0
        self._world.timeline.after(after_s, self._put_back)

    def _put_back(self) -> None:
        machine, world = self._machine, self._world
        if world.injector.is_quiet or machine.was_wiped or self._tries >= TRIES_MAX:
            machine.may_have_forgotten.discard("copied")
            return
        if not self._is_known_everywhere():
            self._tries += 1
            world.timeline.after(TRY_EVERY_S, self._put_back)
            return
        world.faults["older_copy_put_back"] += 1
        machine.crash("an older copy of its disk is put back", silently=True, restart_after_s=0.05)
        machine.disk.put_back(self._copy)
        machine.may_have_forgotten.discard("copied")
        machine.may_have_forgotten.add("older")

    def _is_known_everywhere(self) -> bool:
        """Its present life, durably."""
        machine = self._machine
        if machine.process is None:
            return False
        life = machine.process.journal.member.life
        for other in machine.world.machines.values():
            process = other.process
            if other is machine:
                continue
            if process is None or process.journal.dirty or machine.node_id not in process.journal.member.peers:
                return False
            if process.journal.member.peers[machine.node_id].life != life:
                return False
        return True
