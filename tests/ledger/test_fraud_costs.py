"""Decisions by expected cost, words for reasons, and the distance from training."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from fraud.drift import ROWS_MIN, SAMPLED_ROWS_MAX, WINDOW_ROWS, Drift, reference
from fraud.reasons import WORDS, in_words
from node.ledger.features import FEATURE_NAMES
from node.ledger.fraud_costs import Costs, CostsError, costs_from, decisions, hold_probability
from node.ledger.statuses import FraudDecision
from node.service.fraud_rules import Rule

ALLOW, HOLD, REFUSE = (int(d) for d in (FraudDecision.ALLOW, FraudDecision.HOLD, FraudDecision.REFUSE))


def test_the_larger_the_amount_the_less_suffices() -> None:
    p, amounts = np.array([0.2, 0.2, 0.2, 0.01]), np.array([5_000, 200_000, 20_000_000, 20_000_000])
    assert decisions(p, amounts, Costs()).tolist() == [ALLOW, HOLD, REFUSE, ALLOW]
    assert decisions(np.array([0.999]), np.array([10]), Costs()).tolist() == [ALLOW]


def test_no_decision_costs_more_than_another() -> None:
    rng = np.random.default_rng(1)
    costs = Costs(alert_from=0.0)
    p, amounts = rng.random(5_000), 10 ** rng.uniform(2, 8, 5_000)
    lost = p * costs.loss_share * amounts
    each = np.stack(
        [
            lost,
            lost * costs.hold_leaks_share + (1 - p) * costs.wrong_hold_minor,
            (1 - p) * costs.wrong_refusal_minor,
        ]
    )
    chosen = each[decisions(p, amounts, costs) - 1, np.arange(5_000)]
    assert np.array_equal(chosen, each.min(axis=0))


def test_the_border_of_a_hold_is_where_it_says() -> None:
    for amount in (50_000, 1_000_000):
        border = hold_probability(amount, Costs())
        below, above = decisions(np.array([border - 1e-6, border + 1e-6]), np.array([amount, amount]), Costs())
        assert (below, above) in ((ALLOW, HOLD), (ALLOW, REFUSE))


@pytest.mark.parametrize(
    ("table", "complaint"),
    [
        ([], "costs: must be a table"),
        ({"loss": 1}, "costs.loss: unknown; there are loss_share"),
        ({"loss_share": "x"}, "costs.loss_share: must be a number from 0, is 'x'"),
        ({"loss_share": True}, "costs.loss_share: must be a number"),
        ({"wrong_hold_minor": -1}, "costs.wrong_hold_minor: must be a number from 0"),
        ({"wrong_hold_minor": float("nan")}, "costs.wrong_hold_minor: must be a number from 0"),
        ({"alert_from": 1.5}, "costs.alert_from: must be at most 1"),
    ],
)
def test_a_wrong_cost_is_named(table: Any, complaint: str) -> None:
    with pytest.raises(CostsError, match=complaint):
        costs_from(table)


def test_every_feature_has_words() -> None:
    rules = {f"rule_{rule.name.lower()}" for rule in Rule}
    assert set(WORDS) == set(FEATURE_NAMES) | rules
    assert in_words((FEATURE_NAMES.index("payee_is_new") + 1, 0, 255)) == [WORDS["payee_is_new"]]


def drift(rows: np.ndarray) -> Drift:
    scores = rows[:, 0] / 10
    return Drift(reference(np.column_stack([rows, scores]).astype(np.float32), ["a", "b", "score"]))


def test_the_distance_from_training() -> None:
    rng = np.random.default_rng(2)
    rows = np.column_stack([rng.normal(size=20_000), rng.integers(0, 3, 20_000)]).astype(np.float32)
    watch = drift(rows)
    assert watch.psi() == {}
    watch.note(rows[: ROWS_MIN - 1], rows[: ROWS_MIN - 1, 0] / 10)
    assert watch.missing_shares() == {}
    watch.note(rows[ROWS_MIN:8_000], rows[ROWS_MIN:8_000, 0] / 10)
    assert max(watch.psi().values()) < 0.02
    moved = rows[8_000:] + np.array([2, 0], dtype=np.float32)
    watch.note(moved, rows[8_000:, 0] / 10)
    assert watch.psi()["a"] > 0.25
    assert watch.psi()["b"] < 0.02
    for _ in range(2):  # two windows later the past is forgotten
        for at in range(0, WINDOW_ROWS, SAMPLED_ROWS_MAX):
            part = rows[at : at + SAMPLED_ROWS_MAX]
            watch.note(part, part[:, 0] / 10)
    assert watch.psi()["a"] < 0.02


def test_of_a_large_batch_a_sample_is_counted() -> None:
    rows = np.random.default_rng(3).normal(size=(8 * SAMPLED_ROWS_MAX, 2)).astype(np.float32)
    watch, whole = drift(rows), drift(rows)
    watch.note(rows, rows[:, 0] / 10)
    for at in range(0, len(rows), SAMPLED_ROWS_MAX):
        whole.note(rows[at : at + SAMPLED_ROWS_MAX], rows[at : at + SAMPLED_ROWS_MAX, 0] / 10)
    assert watch._rows[1] == SAMPLED_ROWS_MAX
    assert max(watch.psi().values()) < 0.05
    assert max(whole.psi().values()) < 1e-6


def test_what_is_missing_is_counted() -> None:
    rows = np.zeros((2_000, 2), dtype=np.float32)
    watch = drift(rows)
    rows[:500, 1] = 1e9
    rows[:100, 0] = np.nan
    watch.note(rows, np.zeros(2_000, dtype=np.float32))
    assert watch.missing_shares() == {"a": 0.05, "b": 0.25, "score": 0.0}
