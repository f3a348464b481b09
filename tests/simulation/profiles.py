"""What a run is about: each seed draws one profile, so that rare things meet each other often enough to do harm."""

from __future__ import annotations

from dataclasses import dataclass, field

from tests.simulation.points import POINTS

FAULT_KINDS = {
    "crash": 8, "power_cut": 5, "cluster_power_cut": 2, "crash_at_point": 18, "lose_majority": 3, "pause": 6, "cut": 8,
    "isolate": 7, "bridge": 2, "reset": 6, "slow_link": 4, "slow_disk": 5, "failing_sync": 4, "wall_jump": 3,
    "clock_rate": 3, "clock_leap": 3, "clean_restart": 3, "rolling_restart": 1, "handover": 4, "sidecar": 6,
    "clients_cut": 4, "answers_lost": 4, "disk_lost": 3, "disk_full": 3,
}  # fmt: skip
OP_KINDS = {
    "transfer": 30, "bundle": 9, "hold": 8, "pay": 16, "reuse": 4,
    "read_accounts": 16, "read_transfer": 7, "statement": 4, "check_balance": 3,
}  # fmt: skip


def _points(*beginnings: str) -> tuple[str, ...]:
    return tuple(point for point in POINTS if point.startswith(beginnings))


@dataclass(frozen=True)
class Profile:
    weight: int
    faults: dict[str, int] = field(default_factory=lambda: FAULT_KINDS)
    kinds: tuple[int, int] = (2, 7)  # how many kinds of faults one run mixes
    faults_a_second: float = 2.0
    points: tuple[str, ...] = tuple(POINTS)
    ops: dict[str, int] = field(default_factory=lambda: OP_KINDS)
    reads: dict[str, int] = field(default_factory=dict)  # of every second client, which then writes nothing
    ops_max: int = 150
    five_nodes: float = 0.12
    delays_max_s: tuple[float, ...] = (0.001, 0.003, 0.02)
    rough: float = 0.35
    duplicates: tuple[float, ...] = (0.02, 0.1)
    deadlines_s: tuple[float, ...] = (0.3, 1.0, 4.0)
    restart_s: tuple[float, float] = (0.1, 2.0)
    logs_kept_bytes: tuple[int, ...] = (0, 1_000, 10_000, 1 << 29)
    durations_s: tuple[float, ...] = (0.05, 0.3, 1.0, 2.5, 5.0)
    scored: float = 0.4  # chance that raw transfers are scored, too


PROFILES = {
    "anything": Profile(weight=10),
    "elections": Profile(
        weight=3,
        faults={"crash_at_point": 12, "crash": 4, "power_cut": 4, "isolate": 3, "pause": 2, "handover": 6, "cut": 2},
        kinds=(3, 7),
        faults_a_second=3.0,
        points=_points("journal.vote", "send.vote", "send.request_vote", "send.pre", "send.timeout", "lead."),
        ops_max=60,
        five_nodes=0.6,
        delays_max_s=(0.003, 0.02, 0.06),
        rough=0.6,
        duplicates=(0.1, 0.4),
        restart_s=(0.005, 0.2),
        durations_s=(0.05, 0.3, 1.0),
    ),
    "replication": Profile(
        weight=4,
        faults={
            "lose_majority": 12, "crash_at_point": 8, "isolate": 4, "cut": 4, "reset": 3, "slow_link": 4,
            "cluster_power_cut": 2, "failing_sync": 2, "slow_disk": 2,
        },
        kinds=(2, 5),
        points=_points("journal.entries", "journal.truncate", "journal.compact", "send.append", "apply"),
        restart_s=(0.01, 0.5),
        durations_s=(0.3, 1.0, 2.5),
    ),
    "snapshots": Profile(
        weight=3,
        faults={
            "disk_lost": 8, "crash_at_point": 10, "crash": 3, "power_cut": 4, "pause": 2, "isolate": 3, "reset": 4,
            "cluster_power_cut": 1, "slow_disk": 1,
        },
        kinds=(3, 7),
        points=_points("snapshot.", "install.", "send.snapshot", "send.promote", "journal.member", "journal.compact"),
        logs_kept_bytes=(0, 1_000),
        durations_s=(0.05, 0.3, 1.0),
    ),
    "disks": Profile(
        weight=2,
        faults={
            "bit_rot": 12, "older_copy": 8, "disk_lost": 2, "crash": 4, "power_cut": 3, "pause": 2, "isolate": 2,
            "clean_restart": 2, "crash_at_point": 2, "failing_sync": 1,
        },
        kinds=(2, 6),
        points=_points("journal.", "ledger.", "checkpoint.", "install."),
        restart_s=(0.05, 0.5),
        logs_kept_bytes=(0, 10_000, 1 << 29),
        durations_s=(0.05, 0.3, 1.0),
    ),
    "reads": Profile(
        weight=3,
        faults={"isolate": 8, "pause": 8, "bridge": 3, "cut": 3, "handover": 3, "clock_rate": 2, "crash": 2},
        kinds=(1, 4),
        ops={"transfer": 30, "pay": 4, "read_transfer": 10, "check_balance": 4},
        reads={"read_accounts": 10, "statement": 10},
        ops_max=400,
        deadlines_s=(0.2, 0.3),
        durations_s=(0.6, 1.0, 2.5),
    ),
    "scoring": Profile(
        weight=2,
        faults={
            "sidecar": 14, "crash": 4, "power_cut": 2, "isolate": 4, "handover": 4, "answers_lost": 6, "pause": 2,
            "crash_at_point": 6,
        },
        kinds=(3, 6),
        points=_points("score.", "propose.", "serve.", "apply"),
        ops={"transfer": 30, "bundle": 14, "hold": 8, "pay": 12, "reuse": 4, "read_transfer": 7, "statement": 4},
        ops_max=300,
        durations_s=(0.05, 0.3, 1.0, 2.5),
        scored=1.0,
    ),
}  # fmt: skip
