"""The checker finds nothing in right histories, and finds every lie that is planted in one."""

from __future__ import annotations

import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from cluster.chaos.checker import LOGGED, OPERATION, READ, Evidence, Outcome, Rule, check, model
from node.ledger.records import TransferFlag
from node.ledger.statuses import Status
from tests.chaos.corruptions import CORRUPTIONS, Corruption
from tests.chaos.synthetic import synthesize

_TRANSFERS = 3_000


@pytest.fixture(scope="module")
def evidence(tmp_path_factory: pytest.TempPathFactory) -> Evidence:
    return synthesize(tmp_path_factory.mktemp("store"), transfers=_TRANSFERS, seed=1)


def test_the_model_speaks_the_ledgers_numbers() -> None:
    assert tuple(TransferFlag) == (model.LINKED, model.PENDING, model.POST, model.VOID)
    named = {
        model.OK: Status.OK,
        model.CHAIN_FAILED: Status.LINKED_CHAIN_FAILED,
        model.PENDING_NOT_FOUND: Status.PENDING_TRANSFER_NOT_FOUND,
        model.PENDING_WAS_REFUSED: Status.PENDING_TRANSFER_WAS_REFUSED,
        model.NOT_PENDING: Status.TRANSFER_IS_NOT_PENDING,
        model.ALREADY_POSTED: Status.PENDING_TRANSFER_ALREADY_POSTED,
        model.ALREADY_VOIDED: Status.PENDING_TRANSFER_ALREADY_VOIDED,
        model.TIMED_OUT: Status.PENDING_TRANSFER_EXPIRED,
        model.TOO_MUCH: Status.AMOUNT_EXCEEDS_PENDING_AMOUNT,
        model.DEBITS_EXCEED_CREDITS: Status.DEBITS_EXCEED_CREDITS,
    }
    assert all(number == status for number, status in named.items())


@pytest.mark.parametrize("seed", range(5))
def test_a_right_history_has_no_problem(tmp_path: Path, seed: int) -> None:
    evidence = synthesize(tmp_path, transfers=_TRANSFERS, seed=seed, batch=20 + 10 * seed)
    verdict = check(evidence)
    assert not verdict.problems, verdict.problems[:3]
    assert verdict.ok
    statuses = set(evidence.logs["n1"]["status"].tolist())
    assert {
        model.OK,
        model.CHAIN_FAILED,
        model.DEBITS_EXCEED_CREDITS,
        model.ALREADY_POSTED,
        model.TIMED_OUT,
    } <= statuses
    assert verdict.resolved_applied > 0
    assert verdict.resolved_absent > 0


@pytest.mark.parametrize("lie", CORRUPTIONS, ids=lambda lie: lie.name)
@pytest.mark.parametrize("seed", range(3))
def test_a_planted_lie_is_found(evidence: Evidence, lie: Corruption, seed: int) -> None:
    verdict = check(lie.plant(evidence, random.Random(seed)))
    assert verdict.counts[lie.rule], f"{lie.name}: found only {dict(verdict.counts)}"
    assert any(problem.rule is lie.rule for problem in verdict.problems)


def test_every_rule_has_a_lie_that_breaks_it() -> None:
    assert {lie.rule for lie in CORRUPTIONS} == set(Rule)
    assert len(CORRUPTIONS) >= 15


def test_an_unanswered_transfer_may_take_effect_at_any_later_time(evidence: Evidence) -> None:
    operations = evidence.operations.copy()
    first_ns = int(operations["invoked_ns"].min())
    operations["invoked_ns"][operations["outcome"] == Outcome.UNKNOWN] = first_ns
    assert check(replace(evidence, operations=operations)).ok


def test_an_empty_history_is_right_and_no_log_is_an_error() -> None:
    nothing = Evidence(np.zeros(0, OPERATION), np.zeros(0, READ), {"n1": np.zeros(0, LOGGED)})
    assert check(nothing).ok
    with pytest.raises(ValueError, match="logs: at least one"):
        check(replace(nothing, logs={}))
