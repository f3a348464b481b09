"""The fraud sidecar dies and hangs under load: no transfer is lost, none waits beyond its deadline, and the log says of
each whether a model has seen it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from cluster.chaos.arena import open_arena
from cluster.chaos.run import ordeal
from cluster.chaos.scenarios import Plan, scenarios
from cluster.layout import Layout
from node.ledger.statuses import FraudDecision

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(400)]


def test_every_transfer_is_answered_while_the_sidecar_is_away(tmp_path: Path) -> None:
    faults = scenarios()["sidecar"].faults
    with open_arena(Layout(home=tmp_path, port_base=0), frozenset(), print) as arena:
        report, evidence = ordeal(arena, "sidecar", Plan(faults, seconds=6.0), 1, print)
    assert report.problems == []
    assert {event.fault for event in report.events} == {"sidecar-killed", "sidecar-stopped"}
    assert (report.surely_not, report.unknown) == (0, 0)
    log = next(iter(evidence.logs.values()))
    decisions = np.bincount(log["decision"], minlength=6)
    assert decisions[FraudDecision.ALLOW] > 100
    assert decisions[FraudDecision.ALLOW_UNSCORED] > 100
    assert decisions[FraudDecision.NOT_SCORED] > 100  # an operator's own
