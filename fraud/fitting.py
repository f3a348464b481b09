"""CatBoost within a budget: a few settings, each stopped early on a later slice of the training time; the best one is
trained again on all of it, with several seeds whose trees are averaged into one model.

Unweighted but for sampling: what was left out of the honest rows counts through those that stayed, so that the
probabilities are those of the data.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from catboost import CatBoostClassifier, Pool, sum_models

from fraud.evaluate import average_precision, platt
from fraud.tuning import TRIALS_MAX, Setting, drawn

THREADS = 2  # a part of the result: another number of threads may add floats in another order
SLICE = 0.2  # the last share of the training time stops the trees
PATIENCE = 80
ROWS_FOR_A_SEARCH_MAX = 120_000
PLAIN_SETTINGS_MAX = 3  # more were drawn for a search
FRAUDS_TO_STOP_MIN = 10  # fewer in the slice cannot say when to stop


@dataclass(frozen=True, slots=True)
class Budget:
    trees_max: int = 700
    seeds: int = 3
    settings: tuple[Setting, ...] = (  # depth, learning rate, L2, share of features a tree
        (6, 0.06, 6.0, 0.6),
        (4, 0.08, 6.0, 0.6),
        (8, 0.05, 12.0, 0.4),
    )
    search_s: float = 0.0  # after it no further setting is tried; 0 = all are

    def searching(self, trials: int, minutes: float, seed: int) -> Budget:
        """With so many drawn settings behind its first one; minutes 0 = without a limit of time."""
        wanted = trials or (TRIALS_MAX if minutes else 0)
        if not wanted:
            return self
        settings = (self.settings[0], *drawn(wanted, seed))
        return replace(self, settings=settings, search_s=minutes * 60.0)

    def for_rows(self, rows: int) -> Budget:
        """Much data is learned with the first setting and fewer seeds: it needs less care and takes longer."""
        if rows <= ROWS_FOR_A_SEARCH_MAX or self.search_s or len(self.settings) > PLAIN_SETTINGS_MAX:
            return self  # little data, or a search that somebody asked for
        return Budget(self.trees_max, min(2, self.seeds), self.settings[:1])


QUICK = Budget(trees_max=60, seeds=1, settings=((5, 0.2, 6.0, 0.7),))


@dataclass(frozen=True, slots=True)
class Fitted:
    classifier: Any
    trees: int  # of each seed
    depth: int
    learning_rate: float
    l2: float
    share: float  # of the features, for each tree
    tried: int  # settings
    slice_auprc: float  # of the chosen setting on the later slice; -1 = the slice held too little fraud


def fit(
    rows: npt.NDArray[np.float32],
    labels: npt.NDArray[Any],
    weights: npt.NDArray[np.float64],
    moments: npt.NDArray[Any],
    names: Sequence[str],
    seed: int,
    budget: Budget,
    say: Callable[[str], None],
    monotone: Sequence[int] | None = None,
    monotonic: Callable[[], float] = time.monotonic,
) -> Fitted:
    """rows (n, features) in order of time, labels (n,) 0 or 1, weights (n,), moments (n,) in any unit; monotone: 1
    for a feature that never lowers the score as it rises."""
    border = moments[0] + (moments[-1] - moments[0]) * (1.0 - SLICE)
    early, late = moments < border, moments >= border
    choices: list[_Choice] = []
    best = _Choice(budget.settings[0], trees=min(300, budget.trees_max), auprc=-1.0)
    if labels[late].sum() >= FRAUDS_TO_STOP_MIN and labels[early].sum() >= FRAUDS_TO_STOP_MIN:
        learn = Pool(rows[early], labels[early], weight=weights[early], feature_names=list(names))
        watch = Pool(rows[late], labels[late], weight=weights[late], feature_names=list(names))
        began_s = monotonic()
        for setting in budget.settings:
            if choices and budget.search_s and monotonic() - began_s > budget.search_s:
                break
            choices.append(_try(setting, learn, watch, labels[late], weights[late], seed, budget, monotone))
            say(f"{_named(setting)}: {choices[-1].trees} trees, AUPRC {choices[-1].auprc:.4f} on the later slice")
        best = max(choices, key=lambda choice: choice.auprc)
    everything = Pool(rows, labels, weight=weights, feature_names=list(names))
    trees = max(20, int(best.trees * (1.0 + SLICE / 2)))
    members = []
    for number in range(budget.seeds):
        member = _classifier(best.setting, trees, seed + number, monotone)
        members.append(member.fit(everything))
        say(f"trained on all of the training time with seed {seed + number}")
    merged = members[0] if len(members) == 1 else sum_models(members, weights=[1.0 / len(members)] * len(members))
    return Fitted(merged, trees, *best.setting, len(choices), best.auprc)


def _named(setting: Setting) -> str:
    depth, rate, l2, share = setting
    return f"depth {depth}, rate {rate:g}, L2 {l2:g}, {share:g} of the features"


@dataclass(frozen=True, slots=True)
class _Choice:
    setting: Setting
    trees: int
    auprc: float


def _classifier(setting: Setting, trees: int, seed: int, monotone: Sequence[int] | None) -> CatBoostClassifier:
    depth, rate, l2, share = setting
    return CatBoostClassifier(
        iterations=trees, depth=depth, learning_rate=rate, l2_leaf_reg=l2, rsm=share, random_seed=seed,
        thread_count=THREADS, loss_function="Logloss", bootstrap_type="Bernoulli", subsample=0.8, border_count=128,
        allow_writing_files=False, verbose=False,
        monotone_constraints=list(monotone) if monotone is not None else None,
    )  # fmt: skip


def _try(
    setting: Setting, learn: Pool, watch: Pool, labels: Any, weights: Any, seed: int,
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
