"""Fraud features per account (columns from Column.FEATURES)."""

from __future__ import annotations

from typing import Any

import numba
import numpy as np

FEATURE_NAMES: tuple[str, ...] = ("amount",)
FEATURE_COUNT = 1
FEATURE_SCHEMA = 1
FEATURE_COLUMN_COUNT = 32


@numba.njit(cache=True)
def update(columns: Any, debit_row: int, credit_row: int, amount_minor: int, code: int, timestamp_ns: int) -> None:
    pass


@numba.njit(cache=True)
def extract(columns: Any, payers: Any, payees: Any, amounts: Any, kinds: Any, timestamp_ns: int, out: Any) -> None:
    for i in range(len(amounts)):
        out[i, 0] = np.float32(amounts[i])
