"""What the fraud check decided is told apart from what a client sent, and has its effect in the checker's own books."""

from __future__ import annotations

import numpy as np
import pytest
from kibubu.admin.v1 import admin_pb2

from cluster.chaos import observe
from cluster.chaos.checker import EXPIRED, LOGGED, model
from node.ledger.records import TransferFlag
from node.ledger.statuses import FraudDecision, Status
from node.payments.plan import HOLD_TIMEOUT_S
from tests.ledger.building import KES, START_NS, commands_entry, create, decided, transfer, transfers_entry
from tests.ledger.plain_history import PlainLedger

ALLOW, HOLD, REFUSE = FraudDecision.ALLOW, FraudDecision.HOLD_UNSCORED, FraudDecision.REFUSE
LINKED = int(TransferFlag.LINKED)
SENT = [
    transfer(1, 1, 2, 50), transfer(2, 1, 2, 60), transfer(3, 1, 2, 70),
    transfer(4, 1, 2, 5, flags=LINKED), transfer(5, 2, 1, 5),
    transfer(6, 1, 2, 5, flags=LINKED), transfer(7, 2, 1, 5), transfer(8, 3, 1, 9),
]  # fmt: skip
FOUND = [ALLOW, HOLD, REFUSE, HOLD, ALLOW, ALLOW, REFUSE, REFUSE]


def logged() -> tuple[np.ndarray, np.ndarray]:
    """Rows of the log and which of them are repetitions, from a real ledger's entries."""
    ledger = PlainLedger()
    ledger.apply(commands_entry([create(KES), create(KES), create(KES, flags=1)]))
    entries = [
        transfers_entry(decided(SENT, FOUND, HOLD_TIMEOUT_S), scored=True),
        transfers_entry(decided(SENT, [ALLOW] * len(SENT)), scored=True),
        transfers_entry(SENT),
    ]
    rows = []
    for data in entries:
        batch = ledger.apply(data)
        entry = admin_pb2.ExportedEntry(
            position=batch.position, timestamp_ns=batch.timestamp_ns, entry=data, outcomes=batch.outcomes.tobytes()
        )
        rows.append(observe._rows(entry, np.zeros(0, np.uint64)))
    return np.concatenate([part for part, _ in rows]), np.concatenate([flags for _, flags in rows])


def test_the_log_has_what_the_client_sent_and_what_was_decided() -> None:
    rows, is_repeat = logged()
    assert is_repeat.tolist() == [False] * 8 + [True] * 16
    for at in range(0, 24, 8):
        part = rows[at : at + 8]
        assert part["flags"].tolist() == [int(record["flags"][0]) for record in SENT]
        assert not part["timeout_s"].any()
        held, refused, failed = Status.HELD_FOR_REVIEW, Status.REFUSED_BY_FRAUD_CHECK, Status.LINKED_CHAIN_FAILED
        no_funds = Status.DEBITS_EXCEED_CREDITS
        assert part["status"].tolist() == [0, held, refused, held, held, failed, refused, no_funds]
    assert rows["decision"][:8].tolist() == [ALLOW, HOLD, REFUSE, HOLD, FraudDecision.HOLD, ALLOW, REFUSE, REFUSE]


def test_the_books_come_to_the_same_outcomes_and_balances() -> None:
    rows, is_repeat = logged()
    log = rows[~is_repeat]
    told = model.replay(model.Books(frozenset({3}), {}), log, np.zeros(0, EXPIRED))
    assert [answer[0] for answer in told.expected] == log["status"].tolist()
    assert [answer[1:] for answer in told.expected] == [tuple(row) for row in log[list(observe.BALANCES)].tolist()]


@pytest.mark.parametrize("at", [1, 2])
def test_a_decision_without_effect_is_found(at: int) -> None:
    rows, is_repeat = logged()
    log = rows[~is_repeat].copy()
    log["decision"][at] = ALLOW
    told = model.replay(model.Books(frozenset({3}), {}), log, np.zeros(0, EXPIRED))
    assert told.expected[at][0] == 0 != int(log["status"][at])


def test_time_outs_of_holds_are_due_after_a_day() -> None:
    rows, is_repeat = logged()
    log = np.concatenate([rows[~is_repeat], np.zeros(1, LOGGED)])
    last = log[-1:]
    last["id_lo"], last["debit_account"], last["credit_account"], last["amount_minor"] = 99, 1, 2, 1
    last["position"] = int(log["position"][0]) + 1
    for late, wrong in ((HOLD_TIMEOUT_S - 1, 0), (HOLD_TIMEOUT_S + 1, 3)):
        last["timestamp_ns"] = START_NS + late * 10**9
        told = model.replay(model.Books(frozenset({3}), {}), log, np.zeros(0, EXPIRED))
        assert len(told.wrong_time_outs) == wrong
