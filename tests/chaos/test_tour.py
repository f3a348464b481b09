"""One fault of every kind on a real cluster; each is a test of its own, so that the report says which of them ran."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.chaos.arena import open_arena
from cluster.chaos.needs import forbidden
from cluster.chaos.report import load
from cluster.chaos.run import ordeal
from cluster.chaos.scenarios import TOUR, Plan, scenarios
from cluster.layout import Layout

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True, slots=True)
class Tour:
    folder: Path
    report: dict[str, Any]
    printed: str
    returned: int


@pytest.fixture(scope="module")
def tour(tmp_path_factory: pytest.TempPathFactory) -> Tour:
    home = tmp_path_factory.mktemp("tour")
    command = [Path(sys.executable).with_name("kibubu"), "chaos", "--scenario", "tour", "--seconds", "8"]
    done = subprocess.run(
        [*command, "--output", home / "results"], cwd=ROOT, capture_output=True, text=True, check=False,
        env={"KIBUBU_HOME": str(home), "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
    )  # fmt: skip
    (folder,) = (home / "results").iterdir()
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    return Tour(folder, report, done.stdout + done.stderr, done.returncode)


@pytest.mark.parametrize("fault", TOUR)
def test_the_cluster_survives(tour: Tour, fault: str) -> None:
    if fault in tour.report["skipped"]:
        pytest.skip(f"{fault} did not run: {tour.report['skipped'][fault]}")
    (event,) = (event for event in tour.report["events"] if event["fault"] == fault)
    assert event["recovered_ns"] > event["healed_ns"] > event["started_ns"]


def test_nothing_was_lost_and_nothing_was_wrong(tour: Tour) -> None:
    assert tour.returned == 0, tour.printed
    assert tour.report["problems"] == []
    assert tour.report["acknowledged"] > 1_000
    assert tour.report["reads"] > 100
    assert "nothing lost, nothing twice, money conserved, hashes agree" in tour.printed


def test_the_history_is_saved_and_can_be_judged_again(tour: Tour, tmp_path: Path) -> None:
    assert (tour.folder / "timeline.png").stat().st_size > 1_000
    program = Path(sys.executable).with_name("kibubu")
    again = subprocess.run(
        [program, "chaos", "--check", tour.folder / "history.npz"], capture_output=True, text=True, check=False
    )
    assert again.returncode == 0, again.stdout + again.stderr
    spoiled = dict(np.load(tour.folder / "history.npz"))
    spoiled["log_n2"] = spoiled["log_n2"][:-1]
    np.savez(tmp_path / "spoiled.npz", **spoiled)
    found = subprocess.run(
        [program, "chaos", "--check", tmp_path / "spoiled.npz"], capture_output=True, text=True, check=False
    )
    assert found.returncode == 1
    assert "the nodes do not have the same log" in found.stderr
    assert len(load(tour.folder / "history.npz").operations) == tour.report["sent"]


@pytest.mark.skipif(bool(forbidden(("shim", "volumes"))), reason="; ".join(forbidden(("shim", "volumes"))))
def test_disks_that_lie_about_syncs_are_found(tmp_path: Path) -> None:
    """The canary: acknowledged transfers are gone on all nodes, and the ordeal must say so."""
    (lying,) = scenarios()["lying-disks"].faults
    here = Layout(home=tmp_path, port_base=0)
    with open_arena(here, lying.needs, print) as arena:
        report, _ = ordeal(arena, "lying-disks", Plan((lying,), seconds=1.0, strikes=1), 1, print)
    found = "\n".join(report.problems)
    assert "an acknowledged transfer is not in the log" in found or "did not come back" in found, found


def test_an_unknown_scenario_is_named() -> None:
    program = Path(sys.executable).with_name("kibubu")
    done = subprocess.run([program, "chaos", "--scenario", "rain"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert "--scenario 'rain': not one of those that --list shows" in done.stderr
