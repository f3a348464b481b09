"""What the model must beat, trained on the same days: rules alone, logistic regression, LightGBM."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from lightgbm import LGBMClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.preprocessing import StandardScaler

from node.ledger.features import FEATURE_NAMES

Rows = npt.NDArray[np.float32]
Labels = npt.NDArray[np.int8]
Scorer = Callable[[Rows], npt.NDArray[np.float64]]
_AT = {name: number for number, name in enumerate(FEATURE_NAMES)}


def rules(_rows: Rows, _labels: Labels, _seed: int) -> Scorer:
    """What an analyst would write down: one point a rule, and within equal points the drained share decides."""

    def score(rows: Rows) -> npt.NDArray[np.float64]:
        def f(name: str) -> Rows:
            return rows[:, _AT[name]]

        points = (
            ((f("payee_is_new") > 0) & (f("drained_share_1h") > 0.8)).astype(np.float64)
            + ((f("pin_age_h") >= 0) & (f("pin_age_h") < 24) & (f("payee_is_new") > 0))
            + ((f("s_since_in") < 3_600) & (f("amount_to_last_in") > 0.6) & (f("amount_to_last_in") < 1.05))
            + ((f("payee_new_payers_1d") > 3) & (f("payee_pass_through_1d") > 0.7))
            + (f("airtime_sum_1d_minor") > 100_000)
            + (f("out_count_1h") > 4)
            + ((f("amount_to_largest") > 2) & (f("payee_is_new") > 0))
        )
        return points + np.clip(f("drained_share_1h"), 0, 1) / 2

    return score


def _squeezed(rows: Rows) -> Rows:
    return np.sign(rows) * np.log1p(np.abs(rows))


def logistic_regression(rows: Rows, labels: Labels, seed: int) -> Scorer:
    scaler = StandardScaler().fit(_squeezed(rows))
    model = LogisticRegression(max_iter=150, random_state=seed).fit(scaler.transform(_squeezed(rows)), labels)
    return lambda more: np.asarray(model.predict_proba(scaler.transform(_squeezed(more)))[:, 1], dtype=np.float64)


def light_gbm(rows: Rows, labels: Labels, seed: int) -> Scorer:
    model: Any = LGBMClassifier(
        n_estimators=150, num_leaves=31, learning_rate=0.05, min_child_samples=40, subsample=0.8, subsample_freq=1,
        colsample_bytree=0.7, random_state=seed, n_jobs=1, deterministic=True, force_row_wise=True, verbose=-1,
    )  # fmt: skip
    model.fit(rows, labels)
    return lambda more: np.asarray(model.booster_.predict(more), dtype=np.float64)


RIVALS: dict[str, Callable[[Rows, Labels, int], Scorer]] = {
    "rules alone": rules,
    "logistic regression": logistic_regression,
    "LightGBM": light_gbm,
}
