"""Which settings a training tries: drawn at random from ranges, by seed. The same seed and number of trials try the
same settings in the same order, so what a search has found is found again; a limit of time only ends it earlier, and
the card says after how many.
"""

from __future__ import annotations

from scipy.stats import loguniform, uniform
from sklearn.model_selection import ParameterSampler

TRIALS_MAX = 1_000
Setting = tuple[int, float, float, float]  # depth, learning rate, L2, share of features a tree
_RANGES = {
    "depth": [4, 5, 6, 7, 8],
    "rate": loguniform(0.03, 0.2),
    "l2": loguniform(1.0, 30.0),
    "share": uniform(0.3, 0.6),  # from the first number on, so wide
}


def drawn(trials: int, seed: int) -> tuple[Setting, ...]:
    return tuple(
        (int(one["depth"]), round(float(one["rate"]), 4), round(float(one["l2"]), 3), round(float(one["share"]), 3))
        for one in ParameterSampler(_RANGES, n_iter=trials, random_state=seed)
    )
