"""The compiled trees say what CatBoost says, on every vector; and their reasons are close to exact SHAP."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from catboost import CatBoostClassifier, Pool, sum_models

from fraud.model import SHIPPED, Model, load_model, strongest
from fraud.simulate import simulate
from fraud.trees import TreesError, parse, trees_of
from node.ledger import features


def wild(rows: int, width: int, seed: int) -> np.ndarray:
    """Every magnitude, ties, zeros, infinities and numbers that are none."""
    rng = np.random.default_rng(seed)
    matrix = (rng.normal(size=(rows, width)) * 10.0 ** rng.integers(-3, 10, (rows, width))).astype(np.float32)
    for value in (0.0, 1.0, np.nan, np.inf, -np.inf):
        matrix[rng.random(matrix.shape) < 0.04] = value
    return matrix


def trained(nan_mode: str, depth: int, width: int = 7) -> tuple[Any, np.ndarray]:
    matrix = wild(3_000, width, 3)
    matrix[np.isinf(matrix)] = 5.0  # CatBoost cannot export a border at infinity
    finite = np.nan_to_num(matrix, nan=2.0)
    labels = (np.sin(finite[:, 0]) + np.sign(finite[:, 1]) + np.isnan(matrix[:, 2]) > 0.5).astype(np.int8)
    classifier = CatBoostClassifier(
        iterations=40, depth=depth, nan_mode=nan_mode, random_seed=1, verbose=False, allow_writing_files=False,
        thread_count=1,
    )  # fmt: skip
    return classifier.fit(matrix, labels), matrix


@pytest.mark.parametrize("nan_mode", ["Min", "Max"])
@pytest.mark.parametrize("depth", [1, 4, 8])
def test_equal_to_catboost_on_every_vector(nan_mode: str, depth: int) -> None:
    classifier, matrix = trained(nan_mode, depth)
    trees = trees_of(classifier)
    for rows in (matrix, wild(5_000, matrix.shape[1], 4), matrix[:1]):
        assert np.array_equal(trees.raw(rows), classifier.predict(rows, prediction_type="RawFormulaVal"))
    assert trees.nan_is_above.any() == (nan_mode == "Max")


def test_equal_to_catboost_for_a_sum_of_models() -> None:
    members = [trained("Min", depth)[0] for depth in (3, 5)]
    merged = sum_models(members, weights=[0.5, 0.5])
    rows = wild(2_000, 7, 5)
    assert np.array_equal(trees_of(merged).raw(rows), merged.predict(rows, prediction_type="RawFormulaVal"))


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(SHIPPED)


def test_the_shipped_model_scores_alike_with_both_engines(model: Model) -> None:
    history = simulate(400, 20, 8)
    for rows in (history.features, wild(4_000, features.FEATURE_COUNT, 6)):
        assert np.array_equal(model._trees.raw(rows), model._raw_of_catboost(rows))


def test_contributions_add_up_and_agree_with_exact_shap(model: Model) -> None:
    history = simulate(1_500, 25, 9)
    raw = model.raw(history.features)
    risky = history.features[np.argsort(-raw)[:100]]
    mine = model._trees.contributions(risky)
    start = model._trees.expected[2 * model._trees.leaf_offsets + 1].sum() * model._trees.scale + model._trees.bias
    assert np.allclose(mine.sum(axis=1) + start, model.raw(risky))
    exact = model._classifier.get_feature_importance(Pool(risky), type="ShapValues", thread_count=1)[:, :-1]
    assert np.corrcoef(mine.ravel(), exact.ravel())[0, 1] > 0.93
    overlap = [
        len(set(a) & set(b)) / 3 for a, b in zip(strongest(mine).tolist(), strongest(exact).tolist(), strict=True)
    ]
    assert np.mean(overlap) > 0.85


def test_only_what_raises_the_score_is_a_reason() -> None:
    assert strongest(np.array([[0.1, -5.0, 0.5, 0.0], [-1.0, -2.0, -3.0, -4.0]])).tolist() == [[3, 1, 0], [0, 0, 0]]


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (lambda export: export.pop("oblivious_trees"), "no symmetric trees"),
        (lambda export: export["features_info"].update(categorical_features=[{}]), "not numbers"),
        (lambda export: export["oblivious_trees"][0]["leaf_values"].append(1), "do not fit its depth"),
        (lambda export: export["oblivious_trees"][0]["splits"][0].update(split_type="OneHotFeature"), "OneHotFeature"),
    ],
)
def test_what_is_not_such_a_model_is_refused(tmp_path: Path, change: Any, complaint: str) -> None:
    classifier, _ = trained("Min", 3)
    classifier.save_model(str(tmp_path / "m.json"), format="json")
    export = json.loads((tmp_path / "m.json").read_text(encoding="utf-8"))
    change(export)
    with pytest.raises(TreesError, match=complaint):
        parse(export)
