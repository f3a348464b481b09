"""The judgement. The log gives one order to everything; the checks then need one sort and one sweep.

Given: an operation of two clients may overlap in time, so its place in the log is free within [invoked, completed].
A retry may succeed by its first attempt, so an id counts from its first attempt to its first answer.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from cluster.chaos.checker.model import GOOD, Books, replay
from cluster.chaos.checker.order import check_reads, check_real_time, check_terms
from cluster.chaos.checker.problems import Rule, Verdict
from cluster.chaos.checker.records import (
    BALANCES,
    CONTENT,
    EXPIRED,
    NEVER_NS,
    RESULT,
    Evidence,
    Outcome,
    Records,
    id_at,
    order_of,
)

Ints = npt.NDArray[np.int64]


@dataclass(slots=True)
class Ids:
    """Ids as small numbers: of each operation, and the log's row of each (-1 = not there)."""

    of_operation: Ints
    of_logged: Ints
    row_in_log: Ints
    count: int


def check(evidence: Evidence) -> Verdict:
    verdict = Verdict(operations=len(evidence.operations), reads=len(evidence.reads))
    log = _one_log(evidence, verdict)
    verdict.logged = len(log)
    ids = _number_ids(evidence.operations, log)
    _check_places(log, ids, verdict)
    _check_repeats(evidence, log, verdict)
    _check_operations(evidence.operations, log, ids, verdict)
    _check_phantoms(evidence, log, ids, verdict)
    invoked_ns, completed_ns = _spans(evidence.operations, ids)
    check_real_time(log, invoked_ns[ids.of_logged], completed_ns[ids.of_logged], verdict)
    check_terms(evidence, verdict)
    timed_out = _check_model(evidence, log, _one_list_of_time_outs(evidence, verdict), verdict)
    check_reads(evidence, log, timed_out, invoked_ns[ids.of_logged], completed_ns[ids.of_logged], verdict)
    return verdict


def _one_log(evidence: Evidence, verdict: Verdict) -> Records:
    """The nodes' logs in order, compared with each other; the first one stands for all."""
    ordered = {node: log[np.argsort(order_of(log), kind="stable")] for node, log in sorted(evidence.logs.items())}
    if not ordered:
        raise ValueError("logs: at least one node's log is needed")
    first_node = next(iter(ordered))
    first = ordered.pop(first_node)
    for node, log in ordered.items():
        if len(log) != len(first):
            verdict.add(Rule.LOGS_DIFFER, f"{first_node} has {len(first)} transfers, {node} has {len(log)}")
        shared = min(len(log), len(first))
        for row in np.flatnonzero(log[:shared] != first[:shared]).tolist():
            place = f"position {first['position'][row]} offset {first['offset'][row]}"
            verdict.add(Rule.LOGS_DIFFER, f"{first_node} and {node} at {place}")
    return first


def _one_list_of_time_outs(evidence: Evidence, verdict: Verdict) -> Records:
    lists = list(evidence.expired.items())
    if not lists:
        return np.zeros(0, EXPIRED)
    first_node, first = lists[0]
    for node, other in lists[1:]:
        if len(other) != len(first) or (other != first).any():
            verdict.add(Rule.LOGS_DIFFER, f"the time-outs of {first_node} and {node}")
    return first


def _number_ids(operations: Records, log: Records) -> Ids:
    high = np.concatenate([operations["id_hi"], log["id_hi"]])
    low = np.concatenate([operations["id_lo"], log["id_lo"]])
    by_id = np.lexsort((low, high))
    new = np.ones(len(by_id), dtype=np.int64)
    if len(by_id):
        new[0] = 0
        new[1:] = (high[by_id][1:] != high[by_id][:-1]) | (low[by_id][1:] != low[by_id][:-1])
    numbers = np.empty(len(by_id), dtype=np.int64)
    numbers[by_id] = np.cumsum(new)
    count = int(new.sum()) + 1
    of_operation, of_logged = numbers[: len(operations)], numbers[len(operations) :]
    row_in_log = np.full(count, -1, dtype=np.int64)
    row_in_log[of_logged[::-1]] = np.arange(len(log) - 1, -1, -1)  # the first appearance wins
    return Ids(of_operation, of_logged, row_in_log, count)


def _check_places(log: Records, ids: Ids, verdict: Verdict) -> None:
    for row in np.flatnonzero(ids.row_in_log[ids.of_logged] != np.arange(len(log))).tolist():
        verdict.add(Rule.APPLIED_TWICE, f"transfer {id_at(log, row):032x} again at position {log['position'][row]}")
    for row in np.flatnonzero(np.diff(order_of(log)) <= 0).tolist():
        verdict.add(Rule.PLACE_TAKEN_TWICE, f"position {log['position'][row]} offset {log['offset'][row]}")
    same = np.diff(log["position"].astype(np.int64)) == 0
    step_ns = np.diff(log["timestamp_ns"])
    for row in np.flatnonzero((step_ns < 0) | (same & (step_ns != 0))).tolist():
        verdict.add(Rule.TIME_WENT_BACK, f"between positions {log['position'][row]} and {log['position'][row + 1]}")


def _check_operations(operations: Records, log: Records, ids: Ids, verdict: Verdict) -> None:
    """Every attempt against the log, whatever the order."""
    rows = ids.row_in_log[ids.of_operation]
    there = rows >= 0
    acknowledged = operations["outcome"] == Outcome.ACKNOWLEDGED
    for at in np.flatnonzero(acknowledged & ~there).tolist():
        verdict.add(Rule.LOST, f"transfer {id_at(operations, at):032x}, told at {operations['position'][at]}")
    _check_failed(operations, ids, there, verdict)
    found = np.flatnonzero(there)
    _compare(operations, log, found, rows[found], CONTENT, Rule.CONTENT_DIFFERS, verdict)
    told = np.flatnonzero(acknowledged & there)
    _compare(operations, log, told, rows[told], RESULT, Rule.ANSWER_DIFFERS, verdict)
    _check_retries(operations, ids, np.flatnonzero(acknowledged), verdict)
    unanswered = np.zeros(ids.count, dtype=bool)
    unanswered[ids.of_operation[operations["outcome"] == Outcome.UNKNOWN]] = True
    unanswered[ids.of_operation[acknowledged]] = False
    verdict.resolved_applied = int((unanswered & (ids.row_in_log >= 0)).sum())
    verdict.resolved_absent = int((unanswered & (ids.row_in_log < 0)).sum())


def _check_failed(operations: Records, ids: Ids, there: npt.NDArray[np.bool_], verdict: Verdict) -> None:
    """Absent when every attempt was a sure failure."""
    maybe = np.zeros(ids.count, dtype=bool)
    maybe[ids.of_operation[operations["outcome"] != Outcome.NOT_APPLIED]] = True
    for at in np.flatnonzero(there & ~maybe[ids.of_operation]).tolist():
        verdict.add(Rule.FAILED_BUT_APPLIED, f"transfer {id_at(operations, at):032x}")


def _compare(
    operations: Records, log: Records, ours: Ints, theirs: Ints, fields: tuple[str, ...], rule: Rule, verdict: Verdict
) -> None:
    for name in fields:
        sent, stored = operations[name][ours], log[name][theirs]
        differs = sent != stored
        if name.endswith("_account"):
            differs &= sent != 0  # a post or void may leave the accounts to the ledger
        for at in np.flatnonzero(differs).tolist():
            transfer = f"transfer {id_at(operations, int(ours[at])):032x}"
            verdict.add(rule, f"{transfer}: {name} is {sent[at]} for the client, {stored[at]} in the log")


def _check_retries(operations: Records, ids: Ids, told: Ints, verdict: Verdict) -> None:
    """All answers about one id are the same, also when no node has it any more."""
    first = np.full(ids.count, -1, dtype=np.int64)
    numbers = ids.of_operation[told]
    first[numbers[::-1]] = told[::-1]
    again = np.flatnonzero(first[numbers] != told)
    mine, before = operations[list(RESULT)][told[again]], operations[list(RESULT)][first[numbers[again]]]
    for at in np.flatnonzero(mine != before).tolist():
        verdict.add(Rule.RETRY_DIFFERS, f"transfer {id_at(operations, int(told[again[at]])):032x}")


def _check_phantoms(evidence: Evidence, log: Records, ids: Ids, verdict: Verdict) -> None:
    """Others move money too, but not that of the clients' own accounts."""
    sent = np.zeros(ids.count, dtype=bool)
    sent[ids.of_operation] = True
    strange = ~sent[ids.of_logged]
    if evidence.own_accounts:
        own = np.array(sorted(evidence.own_accounts), dtype=np.uint64)
        strange &= np.isin(log["debit_account"], own) | np.isin(log["credit_account"], own)
    for row in np.flatnonzero(strange).tolist():
        verdict.add(Rule.PHANTOM, f"transfer {id_at(log, row):032x} at position {log['position'][row]}")


def _check_repeats(evidence: Evidence, log: Records, verdict: Verdict) -> None:
    """A repetition in the log has the content and the outcome of the first appearance, and comes after it."""
    for node, repeats in evidence.repeats.items():
        ids = _number_ids(repeats, log)
        first = ids.row_in_log[ids.of_operation]
        order, before = order_of(repeats), order_of(log)
        for row in np.flatnonzero((first < 0) | (before[first] >= order)).tolist():
            verdict.add(Rule.RETRY_DIFFERS, f"{node}: {id_at(repeats, row):032x} repeats nothing")
        known = np.flatnonzero(first >= 0)
        fields = [*CONTENT, "status", *BALANCES]
        for at in np.flatnonzero(repeats[fields][known] != log[fields][first[known]]).tolist():
            verdict.add(Rule.RETRY_DIFFERS, f"{node}: {id_at(repeats, int(known[at])):032x} was decided otherwise")


def _spans(operations: Records, ids: Ids) -> tuple[Ints, Ints]:
    """From the first attempt to the first answer, of each id; what nobody sent spans all of time."""
    invoked_ns = np.full(ids.count, NEVER_NS, dtype=np.int64)
    completed_ns = np.full(ids.count, NEVER_NS, dtype=np.int64)
    np.minimum.at(invoked_ns, ids.of_operation, operations["invoked_ns"])
    told = operations["outcome"] == Outcome.ACKNOWLEDGED
    np.minimum.at(completed_ns, ids.of_operation[told], operations["completed_ns"][told])
    invoked_ns[invoked_ns == NEVER_NS] = 0
    return invoked_ns, completed_ns


def _check_model(evidence: Evidence, log: Records, expired: Records, verdict: Verdict) -> Ints:
    """What time-outs did to accounts: see model.replay."""
    books = Books(evidence.guarded, evidence.opening_minor)
    replayed = replay(books, log, expired)
    for text in replayed.wrong_time_outs:
        verdict.add(Rule.TIME_OUT_WRONG, text)
    expected = np.array(replayed.expected, dtype=np.int64).reshape(-1, 5)
    wrong = expected[:, 0] != log["status"]
    for row in np.flatnonzero(wrong).tolist():
        transfer = f"transfer {id_at(log, row):032x} at position {log['position'][row]}"
        verdict.add(Rule.STATUS_WRONG, f"{transfer}: status {log['status'][row]}, must be {expected[row, 0]}")
    for column, name in enumerate(BALANCES, 1):
        for row in np.flatnonzero((expected[:, column] != log[name]) & ~wrong).tolist():
            transfer = f"transfer {id_at(log, row):032x} at position {log['position'][row]}"
            verdict.add(Rule.BALANCE_WRONG, f"{transfer}: {name} {log[name][row]}, must be {expected[row, column]}")
    _check_below_zero(evidence, log, verdict)
    for account, balance_minor in evidence.final_balances_minor.items():
        mine_minor = books.balance_minor.get(account, 0)
        if mine_minor != balance_minor:
            verdict.add(Rule.FINAL_BALANCE_WRONG, f"account {account}: has {balance_minor}, must have {mine_minor}")
    total_minor = sum(evidence.final_balances_minor.values()) + evidence.aside_minor
    if total_minor:
        verdict.add(Rule.NOT_CONSERVED, f"all balances together are {total_minor}, must be 0")
    return np.array(replayed.timed_out, dtype=np.int64).reshape(-1, 4)


def _check_below_zero(evidence: Evidence, log: Records, verdict: Verdict) -> None:
    guarded = np.array(sorted(evidence.guarded), dtype=np.uint64)
    low = (log["debit_available_minor"] < 0) & np.isin(log["status"], GOOD) & np.isin(log["debit_account"], guarded)
    for row in np.flatnonzero(low).tolist():
        verdict.add(Rule.BELOW_ZERO, f"account {log['debit_account'][row]} at position {log['position'][row]}")
