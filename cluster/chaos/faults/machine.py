"""Clocks that are wrong, and memory that runs out."""

from __future__ import annotations

from pathlib import Path

from cluster.chaos.faults.kinds import fault
from cluster.chaos.ground import Ground, wait_for
from cluster.chaos.memory import MemoryLimit
from cluster.layout import NODE_IDS, Launch

_HOUR_NS = 3_600 * 1_000_000_000
WRONG_FOR_S = 3.0
FAKETIME = Path("/usr/lib") / "x86_64-linux-gnu" / "faketime" / "libfaketimeMT.so.1"
_STARVED_SHARE = 0.7  # of what the node takes in peace
_STARVED_FOR_S = 20.0


@fault("clock-jumps-leader", needs=("shim",))
def clock_jumps_leader(ground: Ground) -> None:
    """the leader's wall clock is two hours behind, then an hour ahead, then right again"""
    _clock_jumps(ground, "clock-jumps-leader", (ground.leader(),), (-2 * _HOUR_NS, _HOUR_NS))


@fault("clocks-disagree", needs=("shim",))
def clocks_disagree(ground: Ground) -> None:
    """every node's wall clock is wrong by another amount, and the leader dies meanwhile"""
    leader = ground.leader()
    with ground.strike("clocks-disagree", "+".join(NODE_IDS)) as event:
        for node_id in NODE_IDS:
            ground.shims[node_id].control.clock_offset_ns = ground.random.randrange(-_HOUR_NS, _HOUR_NS)
        try:
            ground.hold(1.0)
            ground.kill(leader)
            ground.hold(1.0)
            ground.start(leader)
            ground.hold(WRONG_FOR_S - 2.0)
        finally:
            event.notes["wrong_clock_reads"] = sum(shim.control.clock_reads for shim in ground.shims.values())
            for shim in ground.shims.values():
                shim.heal()


def _clock_jumps(ground: Ground, name: str, nodes: tuple[str, ...], offsets_ns: tuple[int, ...]) -> None:
    with ground.strike(name, "+".join(nodes)) as event:
        try:
            for offset_ns in offsets_ns:
                for node_id in nodes:
                    ground.shims[node_id].control.clock_offset_ns = offset_ns
                ground.hold(WRONG_FOR_S / len(offsets_ns))
        finally:
            event.notes["wrong_clock_reads"] = sum(ground.shims[n].control.clock_reads for n in nodes)
            for node_id in nodes:
                ground.shims[node_id].heal()
    if not event.notes["wrong_clock_reads"]:
        raise AssertionError(f"{name}: nobody looked at the wrong clock")


@fault("clock-drifts", needs=("faketime",))
def clock_drifts(ground: Ground) -> None:
    """a node runs with all its clocks an hour ahead and a fifth too fast"""
    node_id = ground.random.choice(NODE_IDS)
    with ground.strike("clock-drifts", node_id):
        ground.kill(node_id)
        _start_with(ground, node_id, environment={"FAKETIME": "+1h x1.2", "FAKETIME_NO_CACHE": "1"}, preload=FAKETIME)
        ground.recover()
        ground.hold(WRONG_FOR_S)
        ground.kill(node_id)


@fault("memory-short", needs=("cgroup",))
def memory_short(ground: Ground) -> None:
    """a node gets less memory than it needs, until the kernel kills it; then it gets enough again"""
    node_id = ground.random.choice(NODE_IDS)
    needed = ground.memory_bytes(node_id)
    with ground.strike("memory-short", node_id) as event, MemoryLimit(int(needed * _STARVED_SHARE)) as limit:
        ground.kill(node_id)
        _start_with(ground, node_id, prefix=limit.prefix())
        if not wait_for(lambda: not ground.runs(node_id), _STARVED_FOR_S):
            ground.kill(node_id)
        event.notes["killed_by_kernel"] = limit.kills()
        event.notes["reclaims"] = limit.failures()
    if not event.notes["killed_by_kernel"] and not event.notes["reclaims"]:
        raise AssertionError("memory-short: the limit was never reached")


def _start_with(
    ground: Ground,
    node_id: str,
    *,
    environment: dict[str, str] | None = None,
    prefix: tuple[str, ...] = (),
    preload: Path | None = None,
) -> None:
    """Starts a node once in another way; the next start is the ordinary one."""
    plain = ground.layout.launch(node_id)
    changed = dict(plain.environment) | (environment or {})
    if preload is not None:
        changed["LD_PRELOAD"] = ":".join(filter(None, (str(preload), changed.get("LD_PRELOAD", ""))))
    ground.start(node_id, Launch(prefix=(*prefix, *plain.prefix), environment=changed))
