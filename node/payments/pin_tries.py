"""How PIN verdicts change an account: pure, and applied on every node from the log."""

from __future__ import annotations

from typing import Any

from node.ledger.columns import AccountFlag, Column
from node.ledger.statuses import PinVerdict

PIN_TRIES_MAX = 3


def apply_verdict(columns: Any, account: int, verdict: int) -> int:
    """Count one try; returns the wrong tries after it. A locked account stays locked whatever the verdict says."""
    row = columns[account]
    if verdict == PinVerdict.RIGHT and not int(row[Column.FLAGS]) & AccountFlag.PIN_LOCKED:
        row[Column.PIN_TRIES] = 0
    elif verdict == PinVerdict.WRONG:
        row[Column.PIN_TRIES] += 1
        if row[Column.PIN_TRIES] >= PIN_TRIES_MAX:
            row[Column.FLAGS] |= AccountFlag.PIN_LOCKED
    return int(row[Column.PIN_TRIES])
