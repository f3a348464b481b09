"""Random schedules of crashes with power loss, partitions, loss, duplicates and reordering, each replayable by seed."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from node.consensus.contract import ProposalStatus
from node.consensus.core import SafeRaft
from node.consensus.seams import ConsensusConfig
from tests.consensus.canaries import (
    AppliesFromTheStart,
    DiscardsAtStepDown,
    PromisesBeforeSync,
    ReadsWithoutQuorum,
    VotesAfterDiskLoss,
)
from tests.consensus.harness import Cluster, SimLog

SEEDS = 160
ACTIONS = 40


def short_log(**given: object) -> ConsensusConfig:
    """So that nodes which are away for a moment need snapshots."""
    return ConsensusConfig(  # type: ignore[arg-type]
        **given,
        log_trailing_entries=3,
        log_kept_bytes_max=200,
        compact_every_s=0.1,
        compact_entries_min=1,
        snapshot_chunk_bytes=300,
        snapshot_window_bytes=900,
    )


def run_schedule(seed: int, core_class: type[SafeRaft] = SafeRaft, log_class: type[SimLog] = SimLog) -> Cluster:
    chance = random.Random(seed)
    cluster = Cluster(seed=seed, core_class=core_class, log_class=log_class, config=short_log)
    cluster.drop, cluster.duplicate = chance.choice([0.0, 0.05]), chance.choice([0.0, 0.05])
    cluster.delay_s = (0.0005, chance.choice([0.002, 0.03]))
    cluster.run(chance.choice([0.5, 1.0]))
    for number in range(ACTIONS):
        _act(cluster, chance, seed, number)
        cluster.run(chance.choice([0.001, 0.01, 0.05, 0.05, 0.3]))
    cluster.finish()
    return cluster


def _act(cluster: Cluster, chance: random.Random, seed: int, number: int) -> None:
    up = list(cluster.engines)
    action = chance.random()
    if action < 0.08 and len(up) > 1:
        cluster.crash(chance.choice(up))
    elif action < 0.12 and up:
        cluster.disks[chance.choice(up)].cut_at_next_sync = True
    elif action < 0.22 and len(up) < len(cluster.ids):
        cluster.restart(chance.choice([node for node in cluster.ids if node not in up]))
    elif action < 0.30:
        cluster.isolate(chance.choice(cluster.ids))
    elif action < 0.40:
        cluster.heal()
    elif action < 0.45 and up:
        cluster.states[chance.choice(up)].checkpoint()
    elif action < 0.48 and up and all(disk.stored[-1].voter for disk in cluster.disks.values()):
        lost = chance.choice(up)  # one disk at a time: the next only when this one's node votes again
        cluster.crash(lost)
        cluster.wipe(lost)
    elif action < 0.52 and up:
        cluster.engines[chance.choice(up)].transfer_leadership("", lambda done: None)
    for node in list(cluster.engines):  # also on those that only believe to lead
        if cluster.engines[node].status().role == "leader":
            for part in range(chance.randint(1, 4)):
                cluster.propose(node, f"{seed}-{number}-{node}-{part}".encode())
            cluster.read(node)


def test_random_schedules_keep_every_promise() -> None:
    outcomes: Counter[ProposalStatus] = Counter()
    installs = 0
    for seed in range(SEEDS):
        cluster = run_schedule(seed)
        assert not cluster.violations, f"seed {seed}: {cluster.violations}"
        outcomes += cluster.outcomes
        installs += cluster.installs.total()
    print(outcomes, installs)
    assert installs > SEEDS // 8
    assert outcomes[ProposalStatus.APPLIED] > 20 * SEEDS
    assert outcomes[ProposalStatus.UNKNOWN]
    assert outcomes[ProposalStatus.DISCARDED]


@pytest.mark.parametrize(
    "core_class", [PromisesBeforeSync, ReadsWithoutQuorum, DiscardsAtStepDown, AppliesFromTheStart, VotesAfterDiskLoss]
)
def test_random_schedules_catch_a_missing_guard(core_class: type[SafeRaft]) -> None:
    found = (seed for seed in range(SEEDS) if run_schedule(seed, core_class).violations)
    assert next(found, None) is not None
