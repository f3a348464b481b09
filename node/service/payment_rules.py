"""The rules that a payment must keep before it may be proposed, judged for a whole round on one state of the ledger."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from node.ledger.columns import AccountFlag, Column
from node.ledger.statuses import PaymentKind, PaymentStatus, PinVerdict
from node.ledger.tiers import Tiers
from node.payments import pin as pin_rules
from node.payments.kinds import Signer
from node.payments.limits import limit_broken
from node.payments.pin_tries import PIN_TRIES_MAX
from node.payments.tariffs import Tariff, Tariffs
from node.service.payment_drafts import Draft
from node.service.payment_parties import PaymentParties

# Plain numbers: an operator of an enum's flags costs more than the rule that it is for.
_NO_OVERDRAW = int(AccountFlag.DEBITS_MUST_NOT_EXCEED_CREDITS)
_FROZEN, _CLOSED, _LOCKED = int(AccountFlag.FROZEN), int(AccountFlag.CLOSED), int(AccountFlag.PIN_LOCKED)
_TEMPORARY = int(AccountFlag.PIN_TEMPORARY)
_FLAGS, _TRIES, _OVERDRAFT = int(Column.FLAGS), int(Column.PIN_TRIES), int(Column.OVERDRAFT_LIMIT)
_DEBITS, _CREDITS, _RESERVED = int(Column.DEBITS_POSTED), int(Column.CREDITS_POSTED), int(Column.DEBITS_PENDING)
_NEEDED = int(Column.FEATURES)  # the columns before the fraud features
_UNLIMITED_MINOR = 1 << 63
_BEARER_IS_CHOSEN = frozenset({PaymentKind.PAY_BILL, PaymentKind.PAY_TILL})
_OK, _NOBODY, _INSUFFICIENT_FUNDS = PaymentStatus.OK, Signer.NOBODY, PaymentStatus.INSUFFICIENT_FUNDS


class PaymentRules:
    """`tiers`: those in force."""

    def __init__(self, tariffs: Tariffs, pin_key: bytes, parties: PaymentParties, tiers: Callable[[], Tiers]) -> None:
        self._tiers = tiers
        self._tariffs = tariffs
        self._pin_key = pin_key
        self._parties = parties

    def check_all(self, columns: Any, asks: Sequence[tuple[Draft, str]], now_ns: int) -> None:
        """Set each draft's fee, its refusal where a rule is broken, and the verdict on the PIN where it was compared.
        At most one draft of a signer may be among them, or its PIN would be tried twice against one count."""
        payers = columns[np.array([draft.payer_account for draft, _ in asks]), :_NEEDED].tolist()
        payee_flags = columns[np.array([draft.payee_account for draft, _ in asks]), _FLAGS].tolist()
        tariffs: dict[int, Tariff | None] = {}
        for (draft, pin), payer, flags in zip(asks, payers, payee_flags, strict=True):
            terms = draft.terms
            if terms.is_priced:
                if draft.ledger not in tariffs:
                    tariffs[draft.ledger] = self._tariffs.in_force(draft.ledger, now_ns)
                self._price(draft, tariffs[draft.ledger])
            if draft.status is _OK:
                _check_flags(draft, payer[_FLAGS], flags)
            if draft.status is _OK and terms.signer is not _NOBODY:
                is_payer = draft.signer_account == draft.payer_account
                signer = payer if is_payer else columns[draft.signer_account, :_NEEDED].tolist()
                self._check_pin(draft, signer, pin)
            if draft.status is _OK and terms.moves_money:
                _check_funds(draft, payer)
                self._check_limits(columns, draft, now_ns)

    def quote(self, columns: Any, draft: Draft, now_ns: int) -> None:
        """What can be judged before a PIN is asked for. Whether a person has the money is told to nobody without it;
        an agent's float is."""
        payer = columns[draft.payer_account, :_NEEDED].tolist()
        if draft.terms.is_priced:
            self._price(draft, self._tariffs.in_force(draft.ledger, now_ns))
        _check_flags(draft, payer[_FLAGS], int(columns[draft.payee_account, _FLAGS]))
        if draft.terms.too_little is not _INSUFFICIENT_FUNDS:
            _check_funds(draft, payer)
        if draft.status is _OK and draft.terms.moves_money:
            self._check_limits(columns, draft, now_ns)

    def _check_limits(self, columns: Any, draft: Draft, now_ns: int) -> None:
        broken = limit_broken(
            columns, self._tiers(), draft.payer_account, draft.payee_account, draft.amount_minor,
            draft.terms.code, now_ns,
        )  # fmt: skip
        if broken is not _OK:
            draft.refuse(broken)

    def _price(self, draft: Draft, tariff: Tariff | None) -> None:
        kind = draft.terms.priced_as or draft.terms.kind
        if tariff is None or kind not in tariff.tables:
            draft.refuse(PaymentStatus.TARIFF_MISSING)
            return
        bearer = self._parties.bearer(draft.payee_account) if kind in _BEARER_IS_CHOSEN else ""
        fee = tariff.fee(kind, draft.amount_minor, bearer)
        draft.tariff_version = tariff.version
        if fee is None:
            draft.refuse(PaymentStatus.AMOUNT_OUTSIDE_TARIFF)
            return
        draft.fee = fee
        if draft.special is not None and draft.special.fee_minor not in (-1, fee.fee_minor):
            draft.refuse(PaymentStatus.QUOTE_HAS_EXPIRED)
        if fee.commission_minor and not self._parties.can_pay_agents(draft.ledger):
            draft.refuse(PaymentStatus.OPERATOR_ACCOUNT_MISSING)

    def _check_pin(self, draft: Draft, signer: list[int], pin: str) -> None:
        stored = pin_rules.stored_verifier(signer)
        if not stored:
            draft.refuse(PaymentStatus.PIN_NOT_SET)
        elif not pin_rules.is_well_formed(pin):
            draft.refuse(PaymentStatus.PIN_MALFORMED)
        elif signer[_FLAGS] & _LOCKED:
            draft.refuse(PaymentStatus.PIN_LOCKED)
        elif pin_rules.is_right(self._pin_key, draft.signer_account, pin, stored):
            draft.pin_verdict = PinVerdict.RIGHT
            if signer[_FLAGS] & _TEMPORARY and not draft.terms.takes_temporary_pin:
                draft.refuse(PaymentStatus.PIN_IS_TEMPORARY)
            if draft.special is not None and draft.special.problem is not _OK:
                draft.refuse(draft.special.problem)
        else:
            draft.pin_verdict = PinVerdict.WRONG
            locks = signer[_TRIES] + 1 >= PIN_TRIES_MAX
            draft.refuse(PaymentStatus.PIN_WRONG_AND_NOW_LOCKED if locks else PaymentStatus.PIN_WRONG)


def _check_flags(draft: Draft, payer_flags: int, payee_flags: int) -> None:
    if payer_flags & _CLOSED:
        draft.refuse(PaymentStatus.PAYER_CLOSED)
    if not draft.terms.moves_money:
        return
    if payer_flags & _FROZEN:
        draft.refuse(PaymentStatus.PAYER_FROZEN)
    if payee_flags & _CLOSED:
        draft.refuse(PaymentStatus.PAYEE_CLOSED)
    if payee_flags & _FROZEN:
        draft.refuse(PaymentStatus.PAYEE_FROZEN)


def _check_funds(draft: Draft, payer: list[int]) -> None:
    is_covered = draft.special is not None and draft.special.is_covered
    if not is_covered and _available_minor(payer) < draft.amount_minor + draft.fee.fee_minor:
        draft.refuse(draft.terms.too_little)


def _available_minor(row: list[int]) -> int:
    """What may be debited: without the flag that forbids an overdraft there is no limit but the ledger's own."""
    if not row[_FLAGS] & _NO_OVERDRAW:
        return _UNLIMITED_MINOR
    return row[_CREDITS] - row[_DEBITS] - row[_RESERVED] + row[_OVERDRAFT]
