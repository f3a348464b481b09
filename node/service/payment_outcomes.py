"""What a caller is told of a payment, from the draft that was just applied or from the record of long ago."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from kibubu.payments.v1 import payments_pb2

from node.ledger.records import OutcomeFlag, Records
from node.ledger.statuses import PaymentStatus, Status
from node.payments.gsma import gsma_error
from node.payments.kinds import Agent, KindTerms, Signer
from node.payments.limits import BY_TRANSFER_STATUS
from node.payments.pin_tries import PIN_TRIES_MAX
from node.payments.receipts import receipt_of
from node.service.codec import status_name
from node.service.payment_drafts import Draft, Special

STATUS_NAMES = {status: status.name.lower() for status in PaymentStatus}
_OK, _CHAIN_FAILED, _NO_FUNDS = (
    int(Status.OK),
    int(Status.LINKED_CHAIN_FAILED),
    int(Status.DEBITS_EXCEED_CREDITS),
)
_PAYER, _STATUS_OK = Signer.PAYER, PaymentStatus.OK
# Somebody else was there first: the id is taken, or what the leg was to end has ended.
_USED = frozenset({
    int(Status.ID_USED_FOR_ANOTHER_TRANSFER), int(Status.ID_USED_OUTSIDE_THIS_CHAIN),
    int(Status.PENDING_TRANSFER_ALREADY_POSTED), int(Status.PENDING_TRANSFER_ALREADY_VOIDED),
    int(Status.PENDING_TRANSFER_EXPIRED),
})  # fmt: skip
_DUPLICATE = int(OutcomeFlag.DUPLICATE)


@dataclass(frozen=True, slots=True)
class Legs:
    """Replies to transfers, column by column as plain lists: a round's are taken out of numpy once."""

    statuses: list[int]
    flags: list[int]
    debit_balances_minor: list[int]
    debit_available_minor: list[int]
    replies: Records

    @classmethod
    def of(cls, replies: Records) -> Legs:
        return cls(
            replies["status"].tolist(),
            replies["flags"].tolist(),
            replies["debit_balance_minor"].tolist(),
            replies["debit_available_minor"].tolist(),
            replies,
        )


def refusal(status: PaymentStatus) -> payments_pb2.Outcome:
    outcome = payments_pb2.Outcome(status=status, status_name=STATUS_NAMES[status])
    outcome.gsma_category, outcome.gsma_code = gsma_error(status)
    return outcome


def outcome_of(
    draft: Draft, position: int, timestamp_ns: int, offset: int, legs: Legs, part: slice, pin_tries: int
) -> payments_pb2.Outcome:
    """Of a draft that was just applied; `part` says which of the legs are its own."""
    fee, special = draft.fee, draft.special
    outcome = payments_pb2.Outcome(
        position=position,
        timestamp_ns=timestamp_ns,
        amount_minor=draft.amount_minor,
        fee_minor=fee.fee_minor,
        excise_minor=fee.excise_minor,
        payee_name=draft.payee_name,
        decision=draft.decision,
        score_ppm=draft.score_ppm,
        model_version=model_name(draft.model_version),
        pin_tries_left=max(0, PIN_TRIES_MAX - pin_tries),
    )
    if fee.commission_minor or fee.payee_fee_minor:
        outcome.commission_minor, outcome.payee_fee_minor = fee.commission_minor, fee.payee_fee_minor
    judge_by_legs(outcome, draft.final_status, legs, part, draft.terms)
    if special is not None:
        tell_special(outcome, special)
    add_receipt(outcome, offset, draft.ledger)
    return outcome


def add_receipt(outcome: payments_pb2.Outcome, offset: int, ledger: int) -> None:
    """What was refused gets none, and what moved no money."""
    if outcome.amount_minor and not outcome.gsma_code and not outcome.duplicate:
        outcome.receipt = receipt_of(outcome.position, offset, outcome.timestamp_ns, ledger)


def tell_special(outcome: payments_pb2.Outcome, special: Special) -> None:
    if not outcome.gsma_code:
        if special.waits_s:
            outcome.expire_time_ns = outcome.timestamp_ns + special.waits_s * 1_000_000_000
        for name, value in special.told.items():
            setattr(outcome, name, value)


def judge_by_legs(
    outcome: payments_pb2.Outcome, status: PaymentStatus, legs: Legs, part: slice, terms: KindTerms
) -> None:
    """Set the status: the leader's, unless a leg broke a rule of the ledger."""
    if part.start < part.stop:
        outcome.duplicate = bool(legs.flags[part.start] & _DUPLICATE)
        broken = _broken(legs.statuses[part])
        if broken:
            is_abroad = terms.ends_abroad and broken == legs.statuses[part.stop - 1] == _NO_FUNDS
            status = PaymentStatus.RATE_MISSING if is_abroad else _refused_by_ledger(broken, terms)
            outcome.transfer_status, outcome.transfer_status_name = broken, status_name(broken)
        elif terms.signer is _PAYER and not outcome.commission_minor and not terms.ends_abroad:
            outcome.payer_balance_minor = legs.debit_balances_minor[part.stop - 1]
            outcome.payer_available_minor = legs.debit_available_minor[part.stop - 1]
        else:
            _tell_signer(outcome, legs.replies, part.stop - 1, terms)
    outcome.status, outcome.status_name = status, STATUS_NAMES[status]
    if status is not _STATUS_OK:
        outcome.gsma_category, outcome.gsma_code = gsma_error(status)


def _refused_by_ledger(broken: int, terms: KindTerms) -> PaymentStatus:
    if broken == _NO_FUNDS:
        return terms.too_little
    if broken in _USED:
        return terms.id_is_used
    return BY_TRANSFER_STATUS.get(broken, PaymentStatus.REFUSED_BY_LEDGER)


def _tell_signer(outcome: payments_pb2.Outcome, replies: Records, last: int, terms: KindTerms) -> None:
    """The balance after it of whoever entered the PIN, nobody else's business. A commission is the last leg."""
    if terms.signer is Signer.NOBODY:
        return
    side = "debit"
    if terms.signer is Signer.PAYEE or terms.agent is Agent.PAYER:
        side = "credit"
    elif outcome.commission_minor or terms.ends_abroad:
        last -= 1
    outcome.payer_balance_minor = int(replies[f"{side}_balance_minor"][last])
    outcome.payer_available_minor = int(replies[f"{side}_available_minor"][last])


def _broken(statuses: Sequence[int]) -> int:
    """The rule that a leg broke, 0 = none; that the chain failed is told only where nothing else is."""
    return next((status for status in statuses if status not in (_OK, _CHAIN_FAILED)), statuses[0])


def model_name(version: int) -> str:
    return f"{version:08x}" if version else ""
