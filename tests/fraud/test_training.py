"""The simulator is its seed's, training is reproducible, and the shipped model is the one that its card describes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from click.testing import CliRunner

from cluster.cli import main
from fraud.evaluate import (
    at_alert_rate,
    average_precision,
    calibration_error,
    fit_platt,
    platt,
    recall_at_false_positives,
    victims_saved,
)
from fraud.fitting import QUICK
from fraud.leaks import leaky_features
from fraud.model import SHIPPED, ModelError, load_model, sha256_of
from fraud.paysim.errors import DataError, LeakError
from fraud.simulate import History, Typology, simulate
from fraud.simulate.files import read_history, write_simulated
from fraud.train import train
from node.ledger import features
from node.ledger.statuses import FraudDecision


@pytest.fixture(scope="module")
def history() -> History:
    return simulate(2_500, 30, 3)


def silent(*_: Any) -> None: ...


def test_a_history_is_its_seeds() -> None:
    first, again, other = simulate(300, 20, 1), simulate(300, 20, 1), simulate(300, 20, 2)
    assert np.array_equal(first.features, again.features)
    assert np.array_equal(first.typology, again.typology)
    assert len(first.typology) != len(other.typology)


def test_a_history_holds_every_kind_of_fraud_and_no_single_tell(history: History) -> None:
    assert np.isfinite(history.features).all()
    assert (np.diff(history.times_ns) >= 0).all()
    assert set(Typology) == set(history.typology.tolist())
    assert 0.0005 < history.fraud.mean() < 0.02
    assert leaky_features(history.features, history.fraud, features.FEATURE_NAMES) == []
    best = max(average_precision(history.fraud, column) for column in history.features.T)
    assert best < 0.5
    assert history.amounts_minor.max() <= 25_000_000  # the tariff's largest
    assert (history.amounts_minor % 100 == 0).all()
    assert ((history.cases > 0) == (history.typology > 0)).all()


@pytest.mark.parametrize(("customers", "days"), [(199, 60), (1_000, 9)])
def test_a_town_can_be_too_small(customers: int, days: int) -> None:
    with pytest.raises(ValueError, match="at least 200 customers and 10 days"):
        simulate(customers, days, 1)


@pytest.mark.timeout(300)
def test_training_again_gives_the_same_bytes(history: History, tmp_path: Path) -> None:
    source = {"source": "test", "customers": 2_500, "days": 30, "seed": 3}
    cards = [train(history, source, 5, tmp_path / name, QUICK, silent) for name in ("a", "b")]
    assert cards[0] == cards[1]
    assert cards[0]["model_sha256"] == sha256_of(tmp_path / "b" / "model.cbm")
    report = cards[0]["report"]
    assert report["auprc"] > 20 * report["fraud_share"]
    assert report["calibration_error"] < report["fraud_share"]
    model = load_model(tmp_path / "a")
    assert model.version == int(cards[0]["model_sha256"][:8], 16)
    card_text = (tmp_path / "a" / "CARD.md").read_text(encoding="utf-8")
    assert f"{report['auprc']:.3f}" in card_text
    # Where risk must not fall, it does not.
    rows = history.features[:2_000].copy()
    before = model.raw(rows)
    rows[:, features.FEATURE_NAMES.index("payee_is_new")] = 1.0
    assert (model.raw(rows) >= before).all()


def test_data_that_gives_itself_away_is_refused(history: History, tmp_path: Path) -> None:
    changed = history.features.copy()
    changed[:, 4] += history.fraud * 1e9
    leaky = History(**({name: getattr(history, name) for name in History.__slots__} | {"features": changed}))
    with pytest.raises(LeakError, match=r"one feature alone passes AUPRC 0\.9: payer_age_h"):
        train(leaky, {"source": "test"}, 1, tmp_path / "m", QUICK, silent)
    assert not (tmp_path / "m").exists()


def test_a_history_goes_through_a_file(history: History, tmp_path: Path) -> None:
    path = tmp_path / "h.parquet"
    assert write_simulated(path, 2_500, 30, 3, silent) == len(history.typology)
    read = read_history(path)
    for name in History.__slots__:
        assert np.array_equal(getattr(read, name), getattr(history, name)), name


def test_a_file_that_is_no_history_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "h.parquet"
    with pytest.raises(DataError, match=r"h\.parquet"):
        read_history(path)
    path.write_bytes(b"no parquet")
    with pytest.raises(DataError, match=r"h\.parquet"):
        read_history(path)
    write_simulated(path, 300, 12, 3, silent)
    table = pq.read_table(path)
    missing = np.full(len(table), np.nan, np.float32)
    for broken, complaint in (
        (table.drop_columns(["payer"]), "missing columns: payer"),
        (table.replace_schema_metadata({}), "made with other features"),
        (table.slice(0, 0), "no payments in it"),
        (table.take(list(range(table.num_rows))[::-1]), "must be in order of time"),
        (
            table.set_column(7, table.schema.field(7), [missing]),
            "f_amount_minor: must be",
        ),
    ):
        pq.write_table(broken, path)
        with pytest.raises(DataError, match=complaint):
            read_history(path)


@pytest.mark.timeout(300)
def test_the_commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fraud.train.BUDGET", QUICK)
    path, model = str(tmp_path / "h.parquet"), str(tmp_path / "m")
    simulated = CliRunner().invoke(main, ["fraud", "simulate", "--customers", "1500", "--days", "20", "--output", path])
    assert simulated.exit_code == 0, simulated.output
    assert "million a minute" in simulated.output
    trained = CliRunner().invoke(main, ["fraud", "train", "--data", path, "--output", model])
    assert trained.exit_code == 0, trained.output
    assert trained.output.splitlines()[-1].startswith("AUPRC 0.")
    refused = CliRunner().invoke(main, ["fraud", "train", "--data", path + "x", "--output", model])
    assert refused.exit_code == 1
    assert "Traceback" not in refused.output


def test_the_shipped_model_is_the_cards() -> None:
    model = load_model(SHIPPED)
    card = json.loads((SHIPPED / "card.json").read_text(encoding="utf-8"))
    assert model.sha256 == card["model_sha256"]
    assert tuple(card["feature_names"]) == features.FEATURE_NAMES
    assert card["model_sha256"][:8] in (SHIPPED / "CARD.md").read_text(encoding="utf-8")


def test_the_shipped_model_finds_a_drain_and_lets_a_shopper_pass() -> None:
    """In a town with another seed than the one it was trained in."""
    model, town = load_model(SHIPPED), simulate(2_500, 30, 99)
    scored = model.score(town.features)
    late = town.times_ns > np.quantile(town.times_ns, 0.3)  # the windows have filled
    held = (scored.decisions != FraudDecision.ALLOW) & late
    honest, drained = late & (town.typology == 0), late & (town.typology == Typology.TAKE_OVER)
    assert held[drained].mean() > 0.4
    assert held[honest].mean() < 0.01
    assert (scored.reasons[held].max(axis=1) > 0).all()
    assert (scored.reasons[~held & late] == 0).all()


def test_average_precision_by_hand() -> None:
    labels = np.array([1, 0, 1, 0])
    assert average_precision(labels, np.array([0.9, 0.8, 0.7, 0.1])) == pytest.approx((1 / 1 + 2 / 3) / 2)
    assert average_precision(labels, np.array([0.5, 0.5, 0.5, 0.5])) == pytest.approx(0.5)
    assert average_precision(labels, np.array([0.9, 0.8, 0.7, 0.1]), np.array([1, 9, 1, 9])) == pytest.approx(
        (1 / 1 + 2 / 11) / 2
    )
    with pytest.raises(ValueError, match="no fraud"):
        average_precision(np.zeros(3), np.zeros(3))


def test_rates_by_hand() -> None:
    labels, scores, amounts = np.array([1, 0, 1, 0]), np.array([0.9, 0.8, 0.7, 0.1]), np.array([10, 1, 30, 1])
    found = at_alert_rate(labels, scores, amounts, 0.5)
    assert (found.precision, found.recall, found.value_recall, found.threshold) == (0.5, 0.5, 0.25, 0.8)
    assert recall_at_false_positives(labels, scores, 0.0) == 0.5
    assert recall_at_false_positives(labels, scores, 0.5) == 1.0
    assert recall_at_false_positives(labels, scores, 1.0) == 1.0
    assert calibration_error(labels, np.array([1.0, 0.0, 1.0, 0.5])) == pytest.approx(0.125)
    cases, held = np.array([1, 1, 2, 0, 2, 3]), np.array([0, 1, 1, 1, 0, 0], dtype=bool)
    assert victims_saved(cases, np.array([1, 1, 1, 0, 1, 1]), held) == {
        "incidents": 3,
        "at_first": pytest.approx(1 / 3),
        "before_second": pytest.approx(2 / 3),
    }


def test_platt_finds_slope_and_shift() -> None:
    rng = np.random.default_rng(1)
    raw = rng.normal(-3, 2, 200_000)
    labels = (rng.random(200_000) < platt(raw, 0.7, -0.4)).astype(np.int8)
    slope, shift = fit_platt(raw, labels)
    assert (slope, shift) == (pytest.approx(0.7, abs=0.03), pytest.approx(-0.4, abs=0.06))
    assert fit_platt(raw, 1 - labels) == (1.0, 0.0)


def broken(tmp_path: Path, **changes: Any) -> Path:
    folder = tmp_path / "model"
    shutil.copytree(SHIPPED, folder)
    card = json.loads((folder / "card.json").read_text(encoding="utf-8"))
    for key, value in changes.items():
        card.pop(key) if value is None else card.update({key: value})
    (folder / "card.json").write_text(json.dumps(card), encoding="utf-8")
    return folder


ROW = [0.0] * features.FEATURE_COUNT


@pytest.mark.parametrize(
    ("changes", "complaint"),
    [
        ({"model_sha256": "0" * 64}, "another model"),
        ({"feature_schema": 1}, "trained on other features"),
        ({"format": "paysim"}, "a node does not compute its features"),
        ({"platt": None}, "platt: missing"),
        ({"platt": [1]}, "platt: must be two numbers"),
        ({"costs": {"loss_share": 9}}, "loss_share: must be at most 1"),
        ({"golden": {"rows": [[1, 2]], "raw": [1]}}, r"golden\.rows: must be rows of"),
        ({"golden": {"rows": [ROW], "raw": []}}, r"golden\.raw: must be one number a row"),
        ({"golden": {"rows": [ROW], "raw": [0.123]}}, "own trees says otherwise"),
        ({"drift": {}}, "drift: must have every feature"),
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


def test_both_engines_are_tried_and_one_is_chosen() -> None:
    model = load_model(SHIPPED)
    assert 0 <= model.calibrate() <= 512
    ticks = iter(range(10**6))
    assert model.calibrate(lambda: float(next(ticks))) == 512  # equally quick: the compiled trees stay
