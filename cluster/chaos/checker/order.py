"""Real time against the log's order: nothing may be ordered before what was answered before it began."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.chaos.checker.model import OK
from cluster.chaos.checker.problems import Rule, Verdict
from cluster.chaos.checker.records import Evidence, Records, id_at, order_of

Ints = npt.NDArray[np.int64]
_ACCOUNT_SHIFT = 48  # above the order, which stays below 2^48 for four thousand million positions
_BATCH_LAST = 0xFFFF
_READ_STEPS_MAX = 100_000


def check_real_time(log: Records, invoked_ns: Ints, completed_ns: Ints, verdict: Verdict) -> None:
    """`log` is ordered; the spans are those of its rows."""
    latest_before = _latest_before(invoked_ns)
    for row in np.flatnonzero(completed_ns < latest_before).tolist():
        place = f"transfer {id_at(log, row):032x} at position {log['position'][row]}"
        late_ms = (int(latest_before[row]) - int(completed_ns[row])) / 1e6
        verdict.add(Rule.REAL_TIME_ORDER, f"{place} was answered {late_ms:.3f} ms before one that precedes it began")


def _latest_before(invoked_ns: Ints) -> Ints:
    """For each row, the latest beginning among all rows before it."""
    latest = np.zeros(len(invoked_ns), dtype=np.int64)
    if len(invoked_ns):
        latest[1:] = np.maximum.accumulate(invoked_ns)[:-1]
    return latest


def check_reads(evidence: Evidence, log: Records, invoked_ns: Ints, completed_ns: Ints, verdict: Verdict) -> None:
    """A read covers all that was answered before it began, and shows a state that was there before it ended.

    The node reads at `as_of_position` or later, so the balance may be that of a later place, as long as everything up
    to there began before the read was answered."""
    reads = evidence.reads
    if not len(reads):
        return
    order = order_of(log)
    _check_covers(reads, order, completed_ns, verdict)
    history = _AccountHistory(log, order)
    began_by = np.maximum.accumulate(invoked_ns) if len(log) else invoked_ns
    for read in reads.tolist():
        account, as_of, balance_minor, available_minor, _, read_completed_ns = read
        last = int(np.searchsorted(began_by, read_completed_ns, side="right"))
        limit = int(order[last - 1]) if last else 0
        if not history.shows(account, as_of << 16 | _BATCH_LAST, limit, (balance_minor, available_minor)):
            verdict.add(Rule.READ_DIFFERS, f"account {account}: {balance_minor} as of position {as_of}")


def _check_covers(reads: Records, order: Ints, completed_ns: Ints, verdict: Verdict) -> None:
    by_completion = np.argsort(completed_ns, kind="stable")
    highest = np.maximum.accumulate(order[by_completion]) if len(order) else order
    before = np.searchsorted(completed_ns[by_completion], reads["invoked_ns"], side="left")
    as_of = reads["as_of_position"].astype(np.int64) << 16 | _BATCH_LAST
    needed = np.where(before > 0, highest[np.maximum(before - 1, 0)], 0) if len(order) else np.zeros_like(as_of)
    _note_stale(reads, np.flatnonzero(needed > as_of), needed, verdict)
    earlier = np.argsort(reads["completed_ns"], kind="stable")
    seen = np.maximum.accumulate(as_of[earlier])
    count = np.searchsorted(reads["completed_ns"][earlier], reads["invoked_ns"], side="left")
    promised = np.where(count > 0, seen[np.maximum(count - 1, 0)], 0)
    _note_stale(reads, np.flatnonzero((promised > as_of) & (needed <= as_of)), promised, verdict)


def _note_stale(reads: Records, rows: npt.NDArray[Any], needed: Ints, verdict: Verdict) -> None:
    for row in rows.tolist():
        text = f"account {reads['account'][row]}: as of {reads['as_of_position'][row]}, must be at least"
        verdict.add(Rule.STALE_READ, f"{text} {int(needed[row]) >> 16}")


class _AccountHistory:
    """The balances of every account after each batch that touched it."""

    def __init__(self, log: Records, order: Ints) -> None:
        applied = log["status"] == OK
        keys, states = [], []
        for side in ("debit", "credit"):
            keys.append(log[f"{side}_account"][applied].astype(np.int64) << _ACCOUNT_SHIFT | order[applied])
            columns = (log[f"{side}_balance_minor"][applied], log[f"{side}_available_minor"][applied])
            states.append(np.stack(columns, axis=1))
        key = np.concatenate(keys)
        by_key = np.argsort(key, kind="stable")
        # A batch is applied in one step: only the state after all of it can be seen.
        last = np.append(np.diff(key[by_key] >> 16) != 0, True)[: len(key)]
        self._keys: Ints = key[by_key][last]
        self._states: list[tuple[int, int]] = [(b, a) for b, a in np.concatenate(states)[by_key][last].tolist()]

    def shows(self, account: int, order: int, limit: int, state: tuple[int, int]) -> bool:
        """Whether the account had this balance at `order` or at a later place up to `limit`."""
        base = account << _ACCOUNT_SHIFT
        at = int(np.searchsorted(self._keys, base | order, side="right")) - 1
        first = at >= 0 and int(self._keys[at]) >= base
        if (self._states[at] if first else (0, 0)) == state:
            return True
        end = int(np.searchsorted(self._keys, base | max(limit, order), side="right"))
        return state in self._states[at + 1 : min(end, at + 1 + _READ_STEPS_MAX)]
