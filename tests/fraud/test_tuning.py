"""A search is its seed's, keeps to its budget of time, and says how many settings it tried."""

from __future__ import annotations

import itertools
from typing import Any

import numpy as np
import pytest

from fraud.fitting import QUICK, ROWS_FOR_A_SEARCH_MAX, Budget, Fitted, fit
from fraud.tuning import TRIALS_MAX, drawn


def test_the_same_seed_draws_the_same_settings_and_more_trials_only_add() -> None:
    assert drawn(5, 7) == drawn(5, 7)
    assert drawn(5, 7) != drawn(5, 8)
    assert len(set(drawn(5, 7))) == 5
    for depth, rate, l2, share in drawn(50, 1):
        assert depth in range(4, 9)
        assert 0.03 <= rate <= 0.2
        assert 1 <= l2 <= 30
        assert 0.3 <= share <= 0.9


def test_a_search_begins_with_the_settings_that_are_tried_anyway() -> None:
    plain = Budget()
    assert plain.searching(0, 0.0, 7) is plain
    searched = plain.searching(4, 0.0, 7)
    assert searched.settings == (plain.settings[0], *drawn(4, 7))
    assert searched.for_rows(ROWS_FOR_A_SEARCH_MAX + 1) == searched  # asked for, so done with much data, too
    assert len(plain.for_rows(ROWS_FOR_A_SEARCH_MAX + 1).settings) == 1
    timed = plain.searching(0, 2.0, 7)
    assert (len(timed.settings), timed.search_s) == (1 + TRIALS_MAX, 120.0)


def fitted(budget: Budget, **more: Any) -> tuple[Fitted, list[str]]:
    rng, said = np.random.default_rng(3), []
    rows = rng.normal(size=(3_000, 3)).astype(np.float32)
    labels = (rows[:, 0] + rng.normal(size=3_000) > 2.2).astype(np.int8)
    weights, moments = np.ones(3_000), np.arange(3_000)
    return fit(rows, labels, weights, moments, ("a", "b", "c"), 5, budget, said.append, **more), said


@pytest.mark.parametrize("trials", [1, 3])
def test_every_trial_is_tried_and_the_best_is_taken(trials: int) -> None:
    found, said = fitted(QUICK.searching(trials, 0.0, 7))
    assert found.tried == trials + 1
    tried = [float(line.split("AUPRC ")[1].split()[0]) for line in said if "later slice" in line]
    assert found.slice_auprc == pytest.approx(max(tried), abs=1e-4)
    again, _ = fitted(QUICK.searching(trials, 0.0, 7))
    assert (again.depth, again.learning_rate, again.l2, again.share) == (
        found.depth, found.learning_rate, found.l2, found.share,
    )  # fmt: skip


def test_time_ends_a_search_but_never_before_the_first_setting() -> None:
    minutes = itertools.count(0, 60)
    found, _ = fitted(QUICK.searching(0, 2.5, 7), monotonic=lambda: float(next(minutes)))
    assert found.tried == 3
    hours = itertools.count(0, 3_600)
    assert fitted(QUICK.searching(0, 0.5, 7), monotonic=lambda: float(next(hours)))[0].tried == 1
