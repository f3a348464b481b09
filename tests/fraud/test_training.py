"""The simulator is its seed's, training is reproducible, and the shipped model is the one that its card describes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fraud.evaluate import at_alert_rate, average_precision, threshold_for
from fraud.model import SHIPPED, ModelError, load_model, sha256_of
from fraud.simulate import HONEST, MULE, TAKEN_OVER, simulate
from fraud.train import train
from node.ledger import features
from node.ledger.statuses import FraudDecision


def test_a_history_is_its_seeds() -> None:
    first, again, other = simulate(300, 20, 1), simulate(300, 20, 1), simulate(300, 20, 2)
    assert np.array_equal(first.features, again.features)
    assert np.array_equal(first.labels, again.labels)
    assert len(first.labels) != len(other.labels)


def test_a_history_holds_what_it_should() -> None:
    history = simulate(2_000, 30, 3)
    assert np.isfinite(history.features).all()
    assert (np.diff(history.times_ns) >= 0).all()
    assert {HONEST, TAKEN_OVER, MULE} == set(history.labels.tolist())
    share = float((history.labels != HONEST).mean())
    assert 0.0005 < share < 0.01
    # No single feature gives the crime away: the best one alone is far from enough.
    fraud = (history.labels != HONEST).astype(np.int8)
    columns = history.features.T
    best = max(max(average_precision(fraud, column), average_precision(fraud, -column)) for column in columns)
    assert best < 0.5


@pytest.mark.parametrize(("customers", "days"), [(199, 60), (1_000, 9)])
def test_a_town_can_be_too_small(customers: int, days: int) -> None:
    with pytest.raises(ValueError, match="at least 200 customers and 10 days"):
        simulate(customers, days, 1)


def test_training_again_gives_the_same_bytes(tmp_path: Path) -> None:
    cards = [train(800, 40, 5, tmp_path / name) for name in ("a", "b")]
    assert cards[0]["model_sha256"] == cards[1]["model_sha256"] == sha256_of(tmp_path / "b" / "model.cbm")
    assert cards[0]["report"]["auprc"] > 5 * cards[0]["report"]["fraud_share"]
    model = load_model(tmp_path / "a")
    assert model.version == int(cards[0]["model_sha256"][:8], 16)
    card_text = (tmp_path / "a" / "CARD.md").read_text(encoding="utf-8")
    assert f"{cards[0]['report']['auprc']:.3f}" in card_text


def test_the_shipped_model_is_the_cards() -> None:
    model = load_model(SHIPPED)
    card = json.loads((SHIPPED / "card.json").read_text(encoding="utf-8"))
    assert model.sha256 == card["model_sha256"]
    assert tuple(card["feature_names"]) == features.FEATURE_NAMES
    assert card["model_sha256"][:8] in (SHIPPED / "CARD.md").read_text(encoding="utf-8")


def test_the_shipped_model_finds_a_drain_and_lets_a_shopper_pass() -> None:
    """On a town with another seed than the one it was trained in."""
    model, history = load_model(SHIPPED), simulate(1_500, 30, 99)
    scored = model.score(history.features)
    late = history.times_ns > np.quantile(history.times_ns, 0.3)  # the windows have filled
    held = (scored.decisions != FraudDecision.ALLOW) & late
    honest, taken_over = late & (history.labels == HONEST), late & (history.labels == TAKEN_OVER)
    assert held[honest].mean() < 0.005
    assert held[taken_over].mean() > 0.5
    assert (scored.reasons[held].max(axis=1) > 0).all()
    assert not scored.reasons[~(scored.decisions != FraudDecision.ALLOW)].any()
    assert scored.reasons.max() <= features.FEATURE_COUNT


def test_average_precision_by_hand() -> None:
    labels = np.array([1, 0, 1, 0])
    assert average_precision(labels, np.array([0.9, 0.8, 0.7, 0.1])) == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert average_precision(labels, np.array([0.5, 0.5, 0.5, 0.5])) == pytest.approx(0.5)
    with pytest.raises(ValueError, match="no fraud"):
        average_precision(np.zeros(3), np.zeros(3))


def test_recall_at_an_alert_rate_by_hand() -> None:
    labels, scores, amounts = np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.1]), np.array([10, 1, 30, 1])
    found = at_alert_rate(labels, scores, amounts, 0.5)
    assert (found.precision, found.recall, found.value_recall, found.threshold) == (0.5, 0.5, 0.25, 0.8)
    assert threshold_for(np.arange(1_001), 0.1) == pytest.approx(900)


def broken(tmp_path: Path, **changes: Any) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(SHIPPED, folder)
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    for key, value in changes.items():
        card.pop(key) if value is None else card.update({key: value})
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    return folder


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"model_sha256": "0" * 64}, "another model"),
        ({"feature_schema": 1}, "trained on other features"),
        ({"hold_threshold": None}, "hold_threshold: missing"),
        ({"hold_threshold": 0.9, "refuse_threshold": 0.5}, "hold <= refuse"),
        ({"hold_threshold": 0}, "hold <= refuse"),
    ],
)
def test_a_card_that_does_not_fit_is_refused(tmp_path: Path, changes: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ModelError, match=complaint):
        load_model(broken(tmp_path, **changes))


def test_a_damaged_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelError):
        load_model(tmp_path / "none")
    folder = broken(tmp_path)
    (folder / "model.cbm").write_bytes(b"no model")
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    card["model_sha256"] = sha256_of(folder / "model.cbm")
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    with pytest.raises(ModelError, match=r"model\.cbm"):
        load_model(folder)
