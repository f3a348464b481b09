"""What time does to disks: single bits that flip in what is stored, and older copies that somebody puts back."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tests.simulation.disk import SimDisk, Table
    from tests.simulation.machine import Machine

ROTTING = ("ledger",)  # of the journal's files tests/storage/test_raft_log_damage.py flips every byte
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


def flip_a_bit(disk: SimDisk, rng: random.Random) -> Flip | None:
    """In any stored value; None = nothing is stored yet."""
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
