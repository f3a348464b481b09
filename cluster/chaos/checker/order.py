"""Real time against the log's order: nothing may be ordered before what was answered before it began."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from cluster.chaos.checker.model import GOOD
from cluster.chaos.checker.problems import Rule, Verdict
from cluster.chaos.checker.records import Evidence, Outcome, Records, id_at, order_of

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


def check_terms(evidence: Evidence, verdict: Verdict) -> None:
    """Nobody answers under a term when a later one has answered before; and the log's terms never go back."""
    told = evidence.operations[evidence.operations["outcome"] == Outcome.ACKNOWLEDGED]
    names = ["term", "invoked_ns", "completed_ns"]
    answers = np.concatenate([told[names], evidence.reads[names]])
    by_completion = np.argsort(answers["completed_ns"], kind="stable")
    newest = np.maximum.accumulate(answers["term"][by_completion])
    before = np.searchsorted(answers["completed_ns"][by_completion], answers["invoked_ns"], side="left")
    needed = np.where(before > 0, newest[np.maximum(before - 1, 0)], 0) if len(answers) else newest
    for at in np.flatnonzero(needed > answers["term"]).tolist():
        text = f"term {answers['term'][at]}, though one of term {needed[at]} had come before it was asked"
        verdict.add(Rule.TERM_WENT_BACK, text)
    first = told[told["repeated"] == 0]
    first = first[np.argsort(first["position"], kind="stable")]
    step = np.diff(first["term"].astype(np.int64))
    same = np.diff(first["position"].astype(np.int64)) == 0
    for at in np.flatnonzero((step < 0) | (same & (step != 0))).tolist():
        terms = f"terms {first['term'][at]} and {first['term'][at + 1]}"
        verdict.add(Rule.TWO_LEADERS, f"positions {first['position'][at]} and {first['position'][at + 1]}: {terms}")


def check_reads(
    evidence: Evidence, log: Records, timed_out: Ints, invoked_ns: Ints, completed_ns: Ints, verdict: Verdict
) -> None:
    """A read covers all that was answered before it began, and shows a state that was there before it ended.

    `timed_out`: what time-outs did, as model.replay tells it. The node reads at `as_of_position` or later, so the state
    may be that of a later place, as long as everything up to there began before the read was answered."""
    reads = evidence.reads
    if not len(reads):
        return
    order = order_of(log)
    _check_covers(reads, order, completed_ns, verdict)
    history = _AccountHistory(log, order, timed_out)
    began_by = np.maximum.accumulate(invoked_ns) if len(log) else invoked_ns
    as_of = reads["as_of_position"].astype(np.int64) << 16 | _BATCH_LAST
    # Most reads show the very state of their position; the others are looked at one by one.
    for row in np.flatnonzero(~history.show(reads, as_of)).tolist():
        read = reads[row]
        last = int(np.searchsorted(began_by, read["completed_ns"], side="right"))
        limit = int(order[last - 1]) if last else 0
        if not history.shows_later(read, int(as_of[row]), limit):
            text = f"account {read['account']}: {read['balance_minor']} as of position {read['as_of_position']}"
            text += f", available {read['available_minor']}, version {read['version']}"
            verdict.add(Rule.READ_DIFFERS, text)


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
    """Balance, available balance and version of every account after each batch or time-out that touched it."""

    def __init__(self, log: Records, order: Ints, timed_out: Ints) -> None:
        applied = np.isin(log["status"], GOOD)
        # Time-outs come before the transfers of their entry; they leave the version as it is, which is filled in below.
        keys = [timed_out[:, 0] << _ACCOUNT_SHIFT | timed_out[:, 1]]
        states = [np.concatenate([timed_out[:, 2:4], np.full((len(timed_out), 1), -1)], axis=1)]
        for side in ("debit", "credit"):
            keys.append(log[f"{side}_account"][applied].astype(np.int64) << _ACCOUNT_SHIFT | order[applied])
            columns = (log[f"{side}_balance_minor"][applied], log[f"{side}_available_minor"][applied])
            states.append(np.stack([*columns, log["position"][applied].astype(np.int64)], axis=1))
        key = np.concatenate(keys)
        by_key = np.argsort(key, kind="stable")
        # A batch is applied in one step: only the state after all of it can be seen.
        last = np.append(np.diff(key[by_key] >> 16) != 0, True)[: len(key)]
        ordered = np.concatenate(states)[by_key]
        known = np.maximum.accumulate(np.where(ordered[:, 2] >= 0, np.arange(len(ordered)), 0))
        ordered[:, 2] = ordered[known, 2]
        # In front, what every account has before its first batch.
        self._keys: Ints = np.concatenate([[-1], key[by_key][last]])
        self._states: Ints = np.concatenate([[[0, 0, 0]], ordered[last]])

    def show(self, reads: Records, order: Ints) -> npt.NDArray[np.bool_]:
        """For each read, whether its balances are those of the account at its place in the order."""
        base = reads["account"].astype(np.int64) << _ACCOUNT_SHIFT
        at = np.searchsorted(self._keys, base | order, side="right") - 1
        at[self._keys[at] < base] = 0
        seen = np.stack([reads["balance_minor"], reads["available_minor"], reads["version"].astype(np.int64)], axis=1)
        matches: npt.NDArray[np.bool_] = (self._states[at] == seen).all(axis=1)
        return matches

    def shows_later(self, read: Records, order: int, limit: int) -> bool:
        """Whether the account had the read's balances at a place behind `order`, up to `limit`."""
        base = int(read["account"]) << _ACCOUNT_SHIFT
        first = int(np.searchsorted(self._keys, base | order, side="right"))
        end = int(np.searchsorted(self._keys, base | max(limit, order), side="right"))
        later = self._states[first : min(end, first + _READ_STEPS_MAX)]
        return bool((later == [read["balance_minor"], read["available_minor"], read["version"]]).all(axis=1).any())
