"""CatBoost within a budget: a few settings, each stopped early on a later slice of the training time; the best one is
trained again on all of it, with several seeds whose trees are averaged into one model.

Unweighted but for sampling: what was left out of the honest rows counts through those that stayed, so that the
probabilities are those of the data.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from catboost import CatBoostClassifier, Pool, sum_models

from fraud.evaluate import average_precision, platt

THREADS = 2  # a part of the result: another number of threads may add floats in another order
SLICE = 0.2  # the last share of the training time stops the trees
PATIENCE = 80
ROWS_FOR_A_SEARCH_MAX = 120_000
FRAUDS_TO_STOP_MIN = 10  # fewer in the slice cannot say when to stop


@dataclass(frozen=True, slots=True)
class Budget:
    trees_max: int = 700
    seeds: int = 3
    settings: tuple[tuple[int, float, float, float], ...] = (  # depth, learning rate, L2, share of features a tree
        (6, 0.06, 6.0, 0.6),
        (4, 0.08, 6.0, 0.6),
        (8, 0.05, 12.0, 0.4),
    )

    def for_rows(self, rows: int) -> Budget:
        """Much data is learned with the first setting and fewer seeds: it needs less care and takes longer."""
        if rows <= ROWS_FOR_A_SEARCH_MAX:
            return self
        return Budget(self.trees_max, min(2, self.seeds), self.settings[:1])


QUICK = Budget(trees_max=60, seeds=1, settings=((5, 0.2, 6.0, 0.7),))


@dataclass(frozen=True, slots=True)
class Fitted:
    classifier: Any
    trees: int  # of each seed
    depth: int
    learning_rate: float
    slice_auprc: float  # of the chosen setting on the later slice; -1 = the slice held too little fraud


def fit(
    rows: npt.NDArray[np.float32],
    labels: npt.NDArray[Any],
    weights: npt.NDArray[np.float64],
    time: npt.NDArray[Any],
    names: Sequence[str],
    seed: int,
    budget: Budget,
    say: Callable[[str], None],
    monotone: Sequence[int] | None = None,
) -> Fitted:
    """rows (n, features) in order of time, labels (n,) 0 or 1, weights (n,), time (n,) in any unit; monotone: 1 for a
    feature that never lowers the score as it rises."""
    border = time[0] + (time[-1] - time[0]) * (1.0 - SLICE)
    early, late = time < border, time >= border
    best = _Choice(budget.settings[0], trees=min(300, budget.trees_max), auprc=-1.0)
    if labels[late].sum() >= FRAUDS_TO_STOP_MIN and labels[early].sum() >= FRAUDS_TO_STOP_MIN:
        learn = Pool(rows[early], labels[early], weight=weights[early], feature_names=list(names))
        watch = Pool(rows[late], labels[late], weight=weights[late], feature_names=list(names))
        choices = []
        for setting in budget.settings:
            choices.append(_try(setting, learn, watch, labels[late], weights[late], seed, budget, monotone))
            say(f"depth {setting[0]}: {choices[-1].trees} trees, AUPRC {choices[-1].auprc:.4f} on the later slice")
        best = max(choices, key=lambda choice: choice.auprc)
    everything = Pool(rows, labels, weight=weights, feature_names=list(names))
    trees = max(20, int(best.trees * (1.0 + SLICE / 2)))
    members = []
    for number in range(budget.seeds):
        member = _classifier(best.setting, trees, seed + number, monotone)
        members.append(member.fit(everything))
        say(f"trained on all of the training time with seed {seed + number}")
    merged = members[0] if len(members) == 1 else sum_models(members, weights=[1.0 / len(members)] * len(members))
    return Fitted(merged, trees, best.setting[0], best.setting[1], best.auprc)


@dataclass(frozen=True, slots=True)
class _Choice:
    setting: tuple[int, float, float, float]
    trees: int
    auprc: float


def _classifier(
    setting: tuple[int, float, float, float], trees: int, seed: int, monotone: Sequence[int] | None
) -> CatBoostClassifier:
    depth, rate, l2, share = setting
    return CatBoostClassifier(
        iterations=trees, depth=depth, learning_rate=rate, l2_leaf_reg=l2, rsm=share, random_seed=seed,
        thread_count=THREADS, loss_function="Logloss", bootstrap_type="Bernoulli", subsample=0.8, border_count=128,
        allow_writing_files=False, verbose=False,
        monotone_constraints=list(monotone) if monotone is not None else None,
    )  # fmt: skip


def _try(
    setting: tuple[int, float, float, float], learn: Pool, watch: Pool, labels: Any, weights: Any, seed: int,
    budget: Budget, monotone: Sequence[int] | None,
) -> _Choice:  # fmt: skip
    """The number of trees is where AUPRC on the slice is best, not log-loss: rare frauds barely move the latter."""
    classifier = _classifier(setting, budget.trees_max, seed, monotone)
    classifier.fit(learn, eval_set=watch, early_stopping_rounds=PATIENCE, use_best_model=False)
    step = max(10, classifier.tree_count_ // 30)
    counts = [*range(step, classifier.tree_count_, step), classifier.tree_count_]
    scored = [
        (average_precision(labels, raw, weights), count)
        for count, raw in zip(
            counts,
            (classifier.predict(watch, prediction_type="RawFormulaVal", ntree_end=n) for n in counts),
            strict=True,
        )
    ]
    auprc, trees = max(scored, key=lambda pair: pair[0])
    return _Choice(setting, trees, float(auprc))


def probabilities(classifier: Any, rows: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """A summed model has lost its classes, so the sigmoid is ours."""
    raw = np.asarray(classifier.predict(rows, prediction_type="RawFormulaVal", thread_count=THREADS), dtype=np.float64)
    return platt(raw, 1.0, 0.0)
