"""What a caller is told of a payment, from the draft that was just applied or from the record of long ago."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kibubu.payments.v1 import payments_pb2

from node.ledger.records import OutcomeFlag, Records
from node.ledger.statuses import PaymentStatus, Status
from node.payments.pin_tries import PIN_TRIES_MAX
from node.service.codec import status_name
from node.service.payment_drafts import Draft

STATUS_NAMES = {status: status.name.lower() for status in PaymentStatus}
_OK, _CHAIN_FAILED, _NO_FUNDS = (
    int(Status.OK),
    int(Status.LINKED_CHAIN_FAILED),
    int(Status.DEBITS_EXCEED_CREDITS),
)
_DUPLICATE = int(OutcomeFlag.DUPLICATE)


@dataclass(frozen=True, slots=True)
class Legs:
    """Replies to transfers, column by column as plain lists: a round's are taken out of numpy once."""

    statuses: list[int]
    flags: list[int]
    debit_balances_minor: list[int]
    debit_available_minor: list[int]

    @classmethod
    def of(cls, replies: Records) -> Legs:
        return cls(
            replies["status"].tolist(),
            replies["flags"].tolist(),
            replies["debit_balance_minor"].tolist(),
            replies["debit_available_minor"].tolist(),
        )


def refusal(status: PaymentStatus) -> payments_pb2.Outcome:
    return payments_pb2.Outcome(status=status, status_name=STATUS_NAMES[status])


def outcome_of(
    draft: Draft, position: int, timestamp_ns: int, legs: Legs, part: slice, pin_tries: int
) -> payments_pb2.Outcome:
    """Of a draft that was just applied; `part` says which of the legs are its own."""
    outcome = payments_pb2.Outcome(
        position=position,
        timestamp_ns=timestamp_ns,
        amount_minor=draft.amount_minor,
        fee_minor=draft.fee.fee_minor,
        excise_minor=draft.fee.excise_minor,
        payee_name=draft.payee_name,
        decision=draft.decision,
        score_ppm=draft.score_ppm,
        model_version=model_name(draft.model_version),
        pin_tries_left=max(0, PIN_TRIES_MAX - pin_tries),
    )
    judge_by_legs(outcome, draft.final_status, legs, part)
    return outcome


def judge_by_legs(outcome: payments_pb2.Outcome, status: PaymentStatus, legs: Legs, part: slice) -> None:
    """Set the status: the leader's, unless a leg broke a rule of the ledger."""
    if part.start < part.stop:
        outcome.duplicate = bool(legs.flags[part.start] & _DUPLICATE)
        broken = _broken(legs.statuses[part])
        if broken:
            status = PaymentStatus.INSUFFICIENT_FUNDS if broken == _NO_FUNDS else PaymentStatus.REFUSED_BY_LEDGER
            outcome.transfer_status, outcome.transfer_status_name = broken, status_name(broken)
        else:
            outcome.payer_balance_minor = legs.debit_balances_minor[part.stop - 1]
            outcome.payer_available_minor = legs.debit_available_minor[part.stop - 1]
    outcome.status, outcome.status_name = status, STATUS_NAMES[status]


def _broken(statuses: Sequence[int]) -> int:
    """The rule that a leg broke, 0 = none; that the chain failed is told only where nothing else is."""
    return next((status for status in statuses if status not in (_OK, _CHAIN_FAILED)), statuses[0])


def model_name(version: int) -> str:
    return f"{version:08x}" if version else ""
