"""The evaluation compares on the same days, says what it would be at life's prevalence, and draws it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from cluster.cli import main
from fraud.comparison import at_prevalence
from fraud.fitting import QUICK
from fraud.rivals import RIVALS
from fraud.simulate import simulate
from node.ledger.features import FEATURE_NAMES


@pytest.mark.timeout(300)
def test_the_command_compares_and_draws(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fraud.commands.EVALUATION_BUDGET", QUICK)
    arguments = ["--customers", "1000", "--days", "15", "--no-leave-one-out", "--output", str(tmp_path)]
    result = CliRunner().invoke(main, ["fraud", "evaluate", *arguments])
    assert result.exit_code == 0, result.output
    for name in (*RIVALS, "CatBoost"):
        assert name in result.output
    page = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert page.count("data:image/png;base64,") == 2
    assert "<td>take over</td>" in page
    models = json.loads((tmp_path / "report.json").read_text(encoding="utf-8"))["models"]
    assert models["CatBoost"]["auprc"] > models["rules alone"]["auprc"]
    assert [cell["prevalence"] for cell in models["CatBoost"]["at_prevalence"]] == [1e-3, 1e-4, 1e-5]
    rarer = [cell["auprc"] for cell in models["CatBoost"]["at_prevalence"]]
    assert rarer == sorted(rarer, reverse=True)


def test_probabilities_that_hold_still_hold_when_fraud_is_rarer() -> None:
    rng = np.random.default_rng(1)
    p = rng.beta(0.3, 30, 400_000)
    labels = (rng.random(400_000) < p).astype(np.int8)
    for prevalence in (1e-3, 1e-4):
        assert at_prevalence(labels, p, prevalence)["calibration_error"] < prevalence / 8
    assert at_prevalence(labels, p * 0.2, 1e-3)["calibration_error"] > 1e-3 / 2


def test_every_rival_learns() -> None:
    town = simulate(800, 15, 4)
    rows, labels = town.features, town.fraud
    for name, train in RIVALS.items():
        scores = train(rows, labels, 1)(rows)
        assert scores.shape == labels.shape
        assert scores[labels == 1].mean() > 1.5 * scores[labels == 0].mean(), name
    assert len(FEATURE_NAMES) == rows.shape[1]
