"""Disks that are slow, that fail, that are full, and disks that lose their power."""

from __future__ import annotations

import errno
import time
from collections.abc import Sequence

from cluster.chaos.events import Event
from cluster.chaos.faults.kinds import fault
from cluster.chaos.ground import Ground, wait_for
from cluster.layout import NODE_IDS

SLOW_SYNC_US = 150_000
BAD_FOR_S = 3.0
HAND_OVER_WAIT_S = 10.0
JOIN_WAIT_S = 15.0
LYING_FOR_S = 3.0  # shorter than the kernel waits before it writes by itself
_EXIT_WAIT_S = 10.0


@fault("slow-disk-leader", needs=("shim",))
def slow_disk_leader(ground: Ground) -> None:
    """every sync of the leader takes 150 ms longer; it should hand its lead over"""
    _slow_disk(ground, "slow-disk-leader", ground.leader(), hands_over=True)


@fault("slow-disk-follower", needs=("shim",))
def slow_disk_follower(ground: Ground) -> None:
    """every sync of a follower takes 150 ms longer"""
    _slow_disk(ground, "slow-disk-follower", ground.any_follower())


def _slow_disk(ground: Ground, name: str, node_id: str, *, hands_over: bool = False) -> None:
    shim = ground.shims[node_id]
    with ground.strike(name, node_id) as event:
        before = shim.control.delayed
        shim.control.sync_delay_us = SLOW_SYNC_US
        started_s = time.monotonic()
        try:
            if hands_over:
                wait_for(lambda: ground.leader() != node_id, HAND_OVER_WAIT_S)
                event.notes["handed_over_s"] = time.monotonic() - started_s
            ground.hold(max(BAD_FOR_S - (time.monotonic() - started_s), 0.0))
        finally:
            shim.heal()
        event.notes["slow_syncs"] = shim.control.delayed - before
    _must_have_fired(name, event, "slow_syncs")


@fault("sync-fails", needs=("shim",))
def sync_fails(ground: Ground) -> None:
    """a sync of the leader fails with EIO: it must stop at once and acknowledge nothing more"""
    _disk_fails(ground, "sync-fails", ground.leader(), sync_errno=errno.EIO)


@fault("sync-fails-strace", needs=("strace",))
def sync_fails_strace(ground: Ground) -> None:
    """a sync of the leader fails with EIO, made to fail by strace and not by the shim"""
    leader = ground.leader()
    with ground.strike("sync-fails-strace", leader), ground.traced(leader, "fdatasync:error=EIO"):
        if not wait_for(lambda: not ground.runs(leader), _EXIT_WAIT_S):
            raise AssertionError(f"{leader} goes on although its disk fails")


@fault("write-fails", needs=("shim",))
def write_fails(ground: Ground) -> None:
    """a write of a follower fails with EIO"""
    _disk_fails(ground, "write-fails", ground.any_follower(), write_errno=errno.EIO)


@fault("no-space", needs=("shim",))
def no_space(ground: Ground) -> None:
    """a write of the leader fails with ENOSPC"""
    _disk_fails(ground, "no-space", ground.leader(), write_errno=errno.ENOSPC)


def _disk_fails(ground: Ground, name: str, node_id: str, *, sync_errno: int = 0, write_errno: int = 0) -> None:
    shim = ground.shims[node_id]
    with ground.strike(name, node_id) as event:
        before = shim.control.failed
        shim.control.sync_errno, shim.control.write_errno = sync_errno, write_errno
        try:
            if not wait_for(lambda: not ground.runs(node_id), _EXIT_WAIT_S):
                raise AssertionError(f"{node_id} goes on although its disk fails")
        finally:
            shim.heal()
        event.notes["failed_calls"] = shim.control.failed - before
    _must_have_fired(name, event, "failed_calls")


@fault("disk-full", needs=("volumes",))
def disk_full(ground: Ground) -> None:
    """the leader's disk is full for a while; then there is room again"""
    leader = ground.leader()
    volume = ground.volumes[leader]
    with ground.strike("disk-full", leader) as event:
        event.notes["filled_bytes"] = volume.fill()
        try:
            ground.hold(BAD_FOR_S)
        finally:
            volume.make_room()
    _must_have_fired("disk-full", event, "filled_bytes")


@fault("disk-lost")
def disk_lost(ground: Ground) -> None:
    """a follower's disk is lost: it comes back empty, catches up from the others, and only then votes again"""
    follower = ground.any_follower()
    with ground.strike("disk-lost", follower) as event:
        ground.kill(follower)
        ground.empty_disk(follower)
        started_s = time.monotonic()
        ground.start(follower)
        ground.wait_joined(follower)
        event.notes["joined_s"] = time.monotonic() - started_s


@fault("killed-while-joining")
def killed_while_joining(ground: Ground) -> None:
    """a node with an empty disk is killed in the middle of catching up, and the leader that sends to it as well"""
    leader, follower = ground.leader(), ground.any_follower()
    with ground.strike("killed-while-joining", f"{follower}+{leader}"):
        ground.kill(follower)
        ground.empty_disk(follower)
        ground.start(follower)
        wait_for(lambda: ground.role(follower) == "joining", JOIN_WAIT_S)
        ground.kill(follower)
        ground.start(follower)
        wait_for(lambda: ground.role(follower) == "joining", JOIN_WAIT_S)
        ground.kill(leader)
        ground.start(leader)
        ground.wait_joined(follower)


@fault("power-cut-leader", needs=("volumes",))
def power_cut_leader(ground: Ground) -> None:
    """the leader loses its power: what it had not synced is gone"""
    _power_cut(ground, "power-cut-leader", [ground.leader()])


@fault("power-cut-follower", needs=("volumes",))
def power_cut_follower(ground: Ground) -> None:
    """a follower loses its power"""
    _power_cut(ground, "power-cut-follower", [ground.any_follower()])


@fault("power-cut-all", needs=("volumes",))
def power_cut_all(ground: Ground) -> None:
    """the whole cluster loses its power at once"""
    _power_cut(ground, "power-cut-all", list(NODE_IDS))


@fault("power-cut-joining", needs=("volumes",))
def power_cut_joining(ground: Ground) -> None:
    """a node with an empty disk loses its power in the middle of catching up"""
    follower = ground.any_follower()
    with ground.strike("power-cut-joining", follower):
        ground.kill(follower)
        ground.empty_disk(follower)
        ground.start(follower)
        wait_for(lambda: ground.role(follower) == "joining", JOIN_WAIT_S)
        _lose_power(ground, [follower])
        ground.start(follower)
        ground.wait_joined(follower)


def _power_cut(ground: Ground, name: str, nodes: Sequence[str]) -> None:
    with ground.strike(name, "+".join(nodes)):
        _lose_power(ground, nodes)


def _lose_power(ground: Ground, nodes: Sequence[str]) -> None:
    for node_id in nodes:
        ground.volumes[node_id].cut_power()
    for node_id in nodes:
        ground.kill(node_id)
    for node_id in nodes:
        ground.volumes[node_id].unmount()
        ground.volumes[node_id].mount()


@fault("lying-disks", needs=("shim", "volumes"), is_canary=True)
def lying_disks(ground: Ground) -> None:
    """all disks confirm syncs that they do not make, and then the whole cluster loses its power"""
    for shim in ground.shims.values():
        shim.control.lies = 1
    try:
        ground.hold(LYING_FOR_S)
        _power_cut(ground, "lying-disks", list(NODE_IDS))
    finally:
        for shim in ground.shims.values():
            shim.heal()


def _must_have_fired(name: str, event: Event, note: str) -> None:
    if not event.notes[note]:
        raise AssertionError(f"{name}: the fault did not fire")
