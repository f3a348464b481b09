"""How PIN verdicts change accounts: pure, compiled, and applied on every node from the log."""

from __future__ import annotations

from typing import Any

from node.ledger.columns import AccountFlag, Column
from node.ledger.compiled import njit
from node.ledger.statuses import PinVerdict

PIN_TRIES_MAX = 3
_TRIES, _FLAGS = int(Column.PIN_TRIES), int(Column.FLAGS)
_LOCKED = int(AccountFlag.PIN_LOCKED)
_NOT_CHECKED, _RIGHT, _WRONG = int(PinVerdict.NOT_CHECKED), int(PinVerdict.RIGHT), int(PinVerdict.WRONG)


@njit
def apply_verdict(columns: Any, account: int, verdict: int) -> int:
    """Count one try; returns the wrong tries after it. A locked account stays locked whatever the verdict says."""
    if verdict == _RIGHT and not columns[account, _FLAGS] & _LOCKED:
        columns[account, _TRIES] = 0
    elif verdict == _WRONG:
        columns[account, _TRIES] += 1
        if columns[account, _TRIES] >= PIN_TRIES_MAX:
            columns[account, _FLAGS] |= _LOCKED
    return columns[account, _TRIES]


@njit
def apply_verdicts(columns: Any, accounts_total: int, accounts: Any, verdicts: Any, dirty: Any, tries: Any) -> None:
    """The verdicts of an entry's payments, in order; `tries` (zero on entry) gets the wrong tries after each."""
    for i in range(accounts.shape[0]):
        account = accounts[i]
        if account <= 0 or account > accounts_total:
            continue
        tries[i] = apply_verdict(columns, account, verdicts[i])
        if verdicts[i] != _NOT_CHECKED:
            dirty[account] = 1
