"""The rules that a payment must keep before it may be proposed, judged for a whole round on one state of the ledger."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from node.ledger.columns import AccountFlag, Column
from node.ledger.statuses import PaymentKind, PaymentStatus, PinVerdict
from node.payments import pin as pin_rules
from node.payments.pin_tries import PIN_TRIES_MAX
from node.payments.tariffs import Tariff, Tariffs
from node.service.payment_drafts import Draft

# Plain numbers: an operator of an enum's flags costs more than the rule that it is for.
_NO_OVERDRAW = int(AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS)
_FROZEN, _CLOSED, _LOCKED = int(AccountFlag.FROZEN), int(AccountFlag.CLOSED), int(AccountFlag.PIN_LOCKED)
_FLAGS, _TRIES, _OVERDRAFT = int(Column.FLAGS), int(Column.PIN_TRIES), int(Column.OVERDRAFT_LIMIT)
_DEBITS, _CREDITS, _RESERVED = int(Column.DEBITS_POSTED), int(Column.CREDITS_POSTED), int(Column.DEBITS_PENDING)
_NEEDED = int(Column.FEATURES)  # the columns before the fraud features
_UNLIMITED_MINOR = 1 << 63


class PaymentRules:
    def __init__(self, tariffs: Tariffs, pin_key: bytes) -> None:
        self._tariffs = tariffs
        self._pin_key = pin_key

    def check_all(self, columns: Any, asks: Sequence[tuple[Draft, str]], now_ns: int) -> None:
        """Set each draft's fee, its refusal where a rule is broken, and the verdict on the PIN where it was compared.
        At most one draft of a payer may be among them, or its PIN would be tried twice against one count."""
        payers = columns[np.array([draft.payer_account for draft, _ in asks]), :_NEEDED].tolist()
        payee_flags = columns[np.array([draft.payee_account for draft, _ in asks]), _FLAGS].tolist()
        tariffs: dict[int, Tariff | None] = {}
        for (draft, pin), payer, flags in zip(asks, payers, payee_flags, strict=True):
            if draft.kind is not PaymentKind.CHECK_BALANCE:
                if draft.ledger not in tariffs:
                    tariffs[draft.ledger] = self._tariffs.in_force(draft.ledger, now_ns)
                _price(draft, tariffs[draft.ledger])
            if not draft.is_refused:
                _check_flags(draft, payer[_FLAGS], flags)
            if not draft.is_refused:
                self._check_pin(draft, payer, pin)
            if draft.moves_money and _available_minor(payer) < draft.amount_minor + draft.fee.fee_minor:
                draft.refuse(PaymentStatus.INSUFFICIENT_FUNDS)

    def quote(self, columns: Any, draft: Draft, now_ns: int) -> None:
        """What can be judged before a PIN is asked for."""
        _price(draft, self._tariffs.in_force(draft.ledger, now_ns))
        _check_flags(draft, int(columns[draft.payer_account, _FLAGS]), int(columns[draft.payee_account, _FLAGS]))

    def _check_pin(self, draft: Draft, payer: list[int], pin: str) -> None:
        stored = pin_rules.stored_verifier(payer)
        if not stored:
            draft.refuse(PaymentStatus.PIN_NOT_SET)
        elif not pin_rules.is_well_formed(pin):
            draft.refuse(PaymentStatus.PIN_MALFORMED)
        elif payer[_FLAGS] & _LOCKED:
            draft.refuse(PaymentStatus.PIN_LOCKED)
        elif pin_rules.is_right(self._pin_key, draft.payer_account, pin, stored):
            draft.pin_verdict = PinVerdict.RIGHT
        else:
            draft.pin_verdict = PinVerdict.WRONG
            locks = payer[_TRIES] + 1 >= PIN_TRIES_MAX
            draft.refuse(PaymentStatus.PIN_WRONG_AND_NOW_LOCKED if locks else PaymentStatus.PIN_WRONG)


def _price(draft: Draft, tariff: Tariff | None) -> None:
    if tariff is None or draft.kind not in tariff.tables:
        draft.refuse(PaymentStatus.TARIFF_MISSING)
        return
    fee = tariff.fee(draft.kind, draft.amount_minor)
    draft.tariff_version = tariff.version
    if fee is None:
        draft.refuse(PaymentStatus.AMOUNT_OUTSIDE_TARIFF)
    else:
        draft.fee = fee


def _check_flags(draft: Draft, payer_flags: int, payee_flags: int) -> None:
    if payer_flags & _CLOSED:
        draft.refuse(PaymentStatus.PAYER_CLOSED)
    if draft.kind is PaymentKind.CHECK_BALANCE:
        return
    if payer_flags & _FROZEN:
        draft.refuse(PaymentStatus.PAYER_FROZEN)
    if payee_flags & _CLOSED:
        draft.refuse(PaymentStatus.PAYEE_CLOSED)
    if payee_flags & _FROZEN:
        draft.refuse(PaymentStatus.PAYEE_FROZEN)


def _available_minor(row: list[int]) -> int:
    """What may be debited: without the flag that forbids an overdraft there is no limit but the ledger's own."""
    if not row[_FLAGS] & _NO_OVERDRAW:
        return _UNLIMITED_MINOR
    return row[_CREDITS] - row[_DEBITS] - row[_RESERVED] + row[_OVERDRAFT]
