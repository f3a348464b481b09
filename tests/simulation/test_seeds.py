"""A thousand seeds with every oracle on; each kind of fault and each crash point must really have happened."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.points import POINTS
from tests.simulation.profiles import FAULT_KINDS
from tests.simulation.run import run_many

ROOT = Path(__file__).resolve().parents[2]
SEEDS = range(1, 1_001)
JOBS = 2
HARM = (  # what faults lead to, counted where it happens
    "answer_lost", "bit_flipped", "bit_overwritten", "client_cut", "damage_found", "disk_really_lost", "disk_slow",
    "frame_held", "frame_lost", "frame_reordered", "frame_repeated", "handed_over", "older_copy_put_back",
    "older_copy_refused", "outcome_unknown", "rejoined", "sidecar_dead", "sidecar_lies", "sidecar_slow",
    "snapshot_installed", "snapshot_made", "stopped_on_sync_error", "stream_ended", "sync_failed", "unknown_resolved",
)  # fmt: skip


@pytest.mark.timeout(3_600)  # a few minutes of CPU, however long that takes on a machine that others use, too
def test_seeds_keep_every_promise() -> None:
    summary, seconds = run_many(SEEDS, JOBS)
    print(f"{summary.seeds} seeds, {summary.seeds / seconds:.1f} seeds/s, {summary.seconds / 3600:.1f} simulated hours")
    print(dict(summary.faults), dict(summary.died))
    assert not summary.failed, f"seed {summary.failed[0].seed}: {summary.failed[0].violations}"
    assert summary.seeds == len(SEEDS)
    assert [kind for kind in (*FAULT_KINDS, *HARM) if not summary.faults[kind]] == []
    assert [point for point in POINTS if not summary.reached[point]] == []
    survived = [point for point in POINTS if not summary.died[point]]
    assert len(survived) <= len(POINTS) // 10, survived
    assert summary.acknowledgements > 20 * len(SEEDS)
    assert summary.reads > 10 * len(SEEDS)


def simulate(*arguments: str, hash_seed: str = "0") -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONHASHSEED": hash_seed, "PYTHONPATH": f"{ROOT}:{ROOT / 'proto' / 'gen'}"}
    return subprocess.run(
        [sys.executable, "-m", "tests.simulation", *arguments],
        cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=900,
    )  # fmt: skip


@pytest.mark.timeout(1_800)
@pytest.mark.parametrize("seed", ["3", "17"])
def test_same_seed_has_the_same_trace_in_every_process(seed: str) -> None:
    traces = [simulate("--trace", "--start", seed, hash_seed=hash_seed).stdout for hash_seed in ("1", "4242")]
    assert "trace hash" in traces[0]
    assert traces[0] == traces[1]


def test_other_seeds_have_other_traces() -> None:
    hashes = {simulate("--trace", "--start", seed).stdout.rpartition("trace hash ")[2] for seed in ("3", "4")}
    assert len(hashes) == 2


@pytest.mark.timeout(1_800)
def test_failing_seed_is_shrunk_and_can_be_repeated() -> None:
    found = simulate("--seeds", "20", "--jobs", "1", "--canary", "commit_when_appended")
    assert found.returncode == 1
    lines = found.stdout.splitlines()
    assert any(line.startswith("VIOLATION in seed ") for line in lines)
    command = lines[-1].split()
    assert command[:3] == ["python", "-m", "tests.simulation"]
    again = simulate(*command[3:])
    assert again.returncode == 1
    assert "VIOLATION" in again.stdout
    without_the_bug = simulate(*command[3 : command.index("--canary")])
    assert without_the_bug.returncode == 0, without_the_bug.stdout[-2_000:]
