"""Ways in which a history can be wrong, each a small lie planted in a right one. The checker must find every one."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from cluster.chaos.checker import NEVER_NS, Evidence, Outcome, Rule
from cluster.chaos.checker.model import OK, TIMED_OUT
from cluster.chaos.checker.records import RESULT, Records, order_of

Lie = Callable[[Evidence, random.Random], Evidence]
_SECOND_NS = 1_000_000_000


@dataclass(frozen=True, slots=True)
class Corruption:
    name: str
    plant: Lie
    rule: Rule  # the one that must be broken, whatever else is too


CORRUPTIONS: list[Corruption] = []


def corruption(rule: Rule) -> Callable[[Lie], Lie]:
    def note(plant: Lie) -> Lie:
        CORRUPTIONS.append(Corruption(plant.__name__, plant, rule))
        return plant

    return note


def _copy(evidence: Evidence) -> Evidence:
    logs = {node: log.copy() for node, log in evidence.logs.items()}
    return replace(evidence, operations=evidence.operations.copy(), reads=evidence.reads.copy(), logs=logs)


def _with_log(evidence: Evidence, log: Records) -> Evidence:
    """All nodes agree on the same wrong log."""
    return replace(evidence, logs={node: log.copy() for node in evidence.logs})


def _log(evidence: Evidence) -> Records:
    return next(iter(evidence.logs.values()))


def _row_of(log: Records, operation: Records) -> int:
    same = (log["id_hi"] == operation["id_hi"]) & (log["id_lo"] == operation["id_lo"])
    return int(np.flatnonzero(same)[0])


def _pick(evidence: Evidence, rng: random.Random, *, applied: bool = True, plain: bool = False) -> int:
    """An acknowledged operation, answered only once."""
    operations = evidence.operations
    fit = operations["outcome"] == Outcome.ACKNOWLEDGED
    if applied:
        fit &= operations["status"] == OK
    if plain:
        fit &= operations["flags"] == 0
    ids, counts = np.unique(operations["id_lo"], return_counts=True)
    fit &= np.isin(operations["id_lo"], ids[counts == 1])
    return int(rng.choice(np.flatnonzero(fit)[200:].tolist()))  # not among the funding


@corruption(Rule.LOST)
def an_acknowledged_transfer_is_dropped(evidence: Evidence, rng: random.Random) -> Evidence:
    log = _log(evidence)
    return _with_log(evidence, np.delete(log, _row_of(log, evidence.operations[_pick(evidence, rng)])))


@corruption(Rule.LOST)
def the_last_batch_is_dropped(evidence: Evidence, rng: random.Random) -> Evidence:
    log = _log(evidence)
    return _with_log(evidence, log[log["position"] < log["position"].max()])


@corruption(Rule.APPLIED_TWICE)
def a_transfer_is_applied_twice(evidence: Evidence, rng: random.Random) -> Evidence:
    log = _log(evidence)
    again = log[[_row_of(log, evidence.operations[_pick(evidence, rng)])]]
    again["position"] = log["position"].max() + 1
    again["timestamp_ns"] = log["timestamp_ns"].max() + 1
    return _with_log(evidence, np.concatenate([log, again]))


@corruption(Rule.REAL_TIME_ORDER)
def two_acknowledgements_are_reordered(evidence: Evidence, rng: random.Random) -> Evidence:
    """The log and the clients agree on places that real time forbids."""
    result = _copy(evidence)
    early = _pick(evidence, rng, applied=False)
    invoked_ns = result.operations["invoked_ns"]
    result.operations["completed_ns"][early] = invoked_ns[early] = invoked_ns.min()
    return result


@corruption(Rule.STALE_READ)
def a_read_is_stale_and_consistent_with_itself(evidence: Evidence, rng: random.Random) -> Evidence:
    result = _copy(evidence)
    late, early = result.reads[-1].copy(), result.reads[len(result.reads) // 2]
    for name in ("account", "as_of_position", "balance_minor", "available_minor"):
        late[name] = early[name]
    result.reads[-1] = late
    return result


@corruption(Rule.STALE_READ)
def a_read_goes_back_behind_another_read(evidence: Evidence, rng: random.Random) -> Evidence:
    """No transfer was answered in between: only the other read proves it."""
    reads = evidence.reads[-2:].copy()
    reads["invoked_ns"][1] = reads["completed_ns"][0] + 1
    reads["completed_ns"][1] = reads["invoked_ns"][1] + 1
    reads[1]["as_of_position"] -= 1
    operations = evidence.operations.copy()
    operations["outcome"], operations["completed_ns"] = Outcome.UNKNOWN, NEVER_NS
    for name in RESULT:
        operations[name] = 0
    return replace(evidence, operations=operations, reads=reads)


@corruption(Rule.READ_DIFFERS)
def a_read_shows_a_wrong_balance(evidence: Evidence, rng: random.Random) -> Evidence:
    result = _copy(evidence)
    result.reads["balance_minor"][rng.randrange(len(result.reads))] += 7_777_777
    return result


@corruption(Rule.READ_DIFFERS)
def a_read_sees_the_future(evidence: Evidence, rng: random.Random) -> Evidence:
    result = _copy(evidence)
    account = int(result.reads["account"][10])
    later = [i for i, read in enumerate(result.reads.tolist()) if read[0] == account]
    for name in ("balance_minor", "available_minor"):
        result.reads[name][later[0]] = result.reads[name][later[-1]]
    return result


@corruption(Rule.ANSWER_DIFFERS)
def an_answer_has_a_balance_off_by_one(evidence: Evidence, rng: random.Random) -> Evidence:
    result = _copy(evidence)
    result.operations["debit_balance_minor"][_pick(evidence, rng)] += 1
    return result


@corruption(Rule.ANSWER_DIFFERS)
def a_refusal_was_told_as_success(evidence: Evidence, rng: random.Random) -> Evidence:
    result = _copy(evidence)
    refused = np.flatnonzero(result.operations["status"] == 107)
    result.operations["status"][int(rng.choice(refused.tolist()))] = OK
    return result


@corruption(Rule.ANSWER_DIFFERS)
def an_answer_names_another_position(evidence: Evidence, rng: random.Random) -> Evidence:
    result = _copy(evidence)
    result.operations["position"][_pick(evidence, rng)] += 1
    return result


@corruption(Rule.CONTENT_DIFFERS)
def the_amount_is_off_by_one_everywhere(evidence: Evidence, rng: random.Random) -> Evidence:
    log = _log(evidence).copy()
    log["amount_minor"][_row_of(log, evidence.operations[_pick(evidence, rng)])] += 1
    return _with_log(evidence, log)


@corruption(Rule.CONTENT_DIFFERS)
def the_money_went_to_somebody_else(evidence: Evidence, rng: random.Random) -> Evidence:
    log = _log(evidence).copy()
    row = _row_of(log, evidence.operations[_pick(evidence, rng, plain=True)])
    log["credit_account"][row] = 2 if log["credit_account"][row] != 2 else 3
    return _with_log(evidence, log)


@corruption(Rule.FAILED_BUT_APPLIED)
def a_sure_failure_was_applied(evidence: Evidence, rng: random.Random) -> Evidence:
    result = _copy(evidence)
    at = _pick(evidence, rng)
    for name in RESULT:
        result.operations[name][at] = 0
    result.operations["outcome"][at] = Outcome.NOT_APPLIED
    return result


@corruption(Rule.PHANTOM)
def nobody_sent_it(evidence: Evidence, rng: random.Random) -> Evidence:
    return replace(evidence, operations=np.delete(evidence.operations, _pick(evidence, rng)))


@corruption(Rule.RETRY_DIFFERS)
def a_retry_gets_a_new_position(evidence: Evidence, rng: random.Random) -> Evidence:
    """The first answer is right; the retry was applied a second time somewhere else."""
    result = _copy(evidence)
    again = result.operations[[_pick(evidence, rng)]].copy()
    again["invoked_ns"] = again["completed_ns"] + 1
    again["completed_ns"] += 2
    again["position"] += 1
    return replace(result, operations=np.concatenate([result.operations, again]))


@corruption(Rule.RETRY_DIFFERS)
def a_repetition_in_the_log_was_decided_otherwise(evidence: Evidence, rng: random.Random) -> Evidence:
    again = _log(evidence)[[_row_of(_log(evidence), evidence.operations[_pick(evidence, rng)])]].copy()
    again["position"] += 3
    again["debit_balance_minor"] += 1
    return replace(evidence, repeats={"n1": again})


@corruption(Rule.RETRY_DIFFERS)
def a_repetition_repeats_nothing(evidence: Evidence, rng: random.Random) -> Evidence:
    again = _log(evidence)[[100]].copy()
    again["id_hi"] = 12_345
    return replace(evidence, repeats={"n2": again})


@corruption(Rule.LOGS_DIFFER)
def one_node_has_another_outcome(evidence: Evidence, rng: random.Random) -> Evidence:
    result = _copy(evidence)
    log = result.logs["n2"]
    log["credit_balance_minor"][rng.randrange(len(log))] += 1
    return result


@corruption(Rule.LOGS_DIFFER)
def one_node_lacks_the_end(evidence: Evidence, rng: random.Random) -> Evidence:
    return replace(evidence, logs={**evidence.logs, "n3": evidence.logs["n3"][:-1]})


@corruption(Rule.PLACE_TAKEN_TWICE)
def two_transfers_have_one_place(evidence: Evidence, rng: random.Random) -> Evidence:
    log = _log(evidence).copy()
    log["offset"][order_of(log).argsort()[500]] += 1
    return _with_log(evidence, log)


@corruption(Rule.TIME_WENT_BACK)
def the_clock_of_the_log_goes_back(evidence: Evidence, rng: random.Random) -> Evidence:
    result = _copy(evidence)
    position = int(rng.choice(result.operations["position"][result.operations["position"] > 10].tolist()))
    for records in (result.operations, *result.logs.values()):
        records["timestamp_ns"][records["position"] == position] -= 10 * _SECOND_NS
    return result


def _with_time_outs(evidence: Evidence, expired: Records) -> Evidence:
    return replace(evidence, expired={node: expired.copy() for node in evidence.expired})


def _time_outs(evidence: Evidence) -> Records:
    return next(iter(evidence.expired.values()))


@corruption(Rule.TIME_OUT_WRONG)
def a_reservation_never_timed_out(evidence: Evidence, rng: random.Random) -> Evidence:
    expired = _time_outs(evidence)
    return _with_time_outs(evidence, np.delete(expired, rng.randrange(len(expired))))


@corruption(Rule.TIME_OUT_WRONG)
def a_reservation_timed_out_too_early(evidence: Evidence, rng: random.Random) -> Evidence:
    expired = _time_outs(evidence).copy()
    expired["timestamp_ns"][rng.randrange(len(expired))] -= _SECOND_NS
    return _with_time_outs(evidence, expired)


@corruption(Rule.TIME_OUT_WRONG)
def a_reservation_timed_out_too_late(evidence: Evidence, rng: random.Random) -> Evidence:
    """An entry later than the first one that should have ended it."""
    expired = _time_outs(evidence).copy()
    expired["position"][-1] += 1
    return _with_time_outs(evidence, expired)


@corruption(Rule.TIME_OUT_WRONG)
def a_reservation_timed_out_twice(evidence: Evidence, rng: random.Random) -> Evidence:
    expired, at = _time_outs(evidence), rng.randrange(len(_time_outs(evidence)))
    return _with_time_outs(evidence, np.insert(expired, at, expired[at]))


@corruption(Rule.LOGS_DIFFER)
def one_node_missed_a_time_out(evidence: Evidence, rng: random.Random) -> Evidence:
    return replace(evidence, expired={**evidence.expired, "n2": evidence.expired["n2"][:-1]})


@corruption(Rule.STATUS_WRONG)
def what_had_timed_out_was_posted(evidence: Evidence, rng: random.Random) -> Evidence:
    result = _copy(evidence)
    late = np.flatnonzero(result.operations["status"] == TIMED_OUT)
    lucky = result.operations[int(rng.choice(late.tolist()))]
    for records in (result.operations, *result.logs.values()):
        records["status"][(records["id_lo"] == lucky["id_lo"]) & (records["status"] == TIMED_OUT)] = OK
    return result


@corruption(Rule.CONTENT_DIFFERS)
def the_log_has_another_time_limit(evidence: Evidence, rng: random.Random) -> Evidence:
    log = _log(evidence).copy()
    log["timeout_s"][_row_of(log, evidence.operations[_pick(evidence, rng)])] += 1
    return _with_log(evidence, log)


@corruption(Rule.TERM_WENT_BACK)
def a_replaced_leader_answers_a_read(evidence: Evidence, rng: random.Random) -> Evidence:
    result = _copy(evidence)
    result.reads["term"][-1] = result.reads["term"].min()
    return result


@corruption(Rule.TERM_WENT_BACK)
def a_replaced_leader_answers_a_transfer(evidence: Evidence, rng: random.Random) -> Evidence:
    result = _copy(evidence)
    told = np.flatnonzero(result.operations["outcome"] == Outcome.ACKNOWLEDGED)
    result.operations["term"][int(told[-1])] = result.operations["term"][told].min()
    return result


@corruption(Rule.TWO_LEADERS)
def one_place_has_two_terms(evidence: Evidence, rng: random.Random) -> Evidence:
    result = _copy(evidence)
    result.operations["term"][_pick(evidence, rng)] += 1
    return result


@corruption(Rule.READ_DIFFERS)
def a_read_shows_an_older_version(evidence: Evidence, rng: random.Random) -> Evidence:
    result = _copy(evidence)
    result.reads["version"][rng.randrange(len(result.reads) // 2, len(result.reads))] -= 1
    return result


@corruption(Rule.STATUS_WRONG)
def an_overdraft_was_let_through(evidence: Evidence, rng: random.Random) -> Evidence:
    """Everybody agrees that it was fine."""
    result = _copy(evidence)
    refused = np.flatnonzero((result.operations["status"] == 107) & (result.operations["flags"] == 0))
    lucky = result.operations[int(rng.choice(refused.tolist()))]
    for records in (result.operations, *result.logs.values()):
        records["status"][(records["id_lo"] == lucky["id_lo"]) & (records["status"] == 107)] = OK
    return result


@corruption(Rule.BALANCE_WRONG)
def everybody_agrees_on_a_wrong_balance(evidence: Evidence, rng: random.Random) -> Evidence:
    result = _copy(evidence)
    wrong = result.operations[_pick(evidence, rng)]
    for records in (result.operations, *result.logs.values()):
        records["credit_balance_minor"][records["id_lo"] == wrong["id_lo"]] += 100
    return result


@corruption(Rule.BELOW_ZERO)
def an_account_is_below_zero(evidence: Evidence, rng: random.Random) -> Evidence:
    result = _copy(evidence)
    poor = result.operations[_pick(evidence, rng, plain=True)]
    for records in (result.operations, *result.logs.values()):
        records["debit_available_minor"][records["id_lo"] == poor["id_lo"]] = -1
    return result


@corruption(Rule.FINAL_BALANCE_WRONG)
def a_balance_is_wrong_at_the_end(evidence: Evidence, rng: random.Random) -> Evidence:
    final = dict(evidence.final_balances_minor)
    final[5], final[6] = final[5] + 1, final[6] - 1
    return replace(evidence, final_balances_minor=final)


@corruption(Rule.NOT_CONSERVED)
def a_shilling_was_made(evidence: Evidence, rng: random.Random) -> Evidence:
    final = dict(evidence.final_balances_minor)
    final[9] += 100
    return replace(evidence, final_balances_minor=final)
