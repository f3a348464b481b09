"""Taking a payment back, whole or in part, never more than all of it.

Who paid a wrong number asks within a day: what the receiver still has of it is reserved, and goes back when the
receiver agrees with the own PIN or an operator decides; else it is free again after three days. Who was paid gives back
at once. An operator proposes, which reserves, and another one decides. Fees stay with the operator, except that an
operator may return them with the whole amount; the payee's share of a charge stays in any case.
"""

from __future__ import annotations

from collections.abc import Callable

from kibubu.payments.v1 import payments_pb2

from node.ledger import kernel
from node.ledger.records import TransferFlag
from node.ledger.statuses import PaymentKind, PaymentStatus, TransferCode
from node.payments.kinds import KINDS, REVERSAL_BY_OPERATOR, REVERSAL_BY_PAYER, KindTerms
from node.payments.plan import Leg, content_hash, derived_id, pack_chain
from node.payments.tariffs import Tariffs
from node.service.payment_drafts import Draft, Special
from node.service.payment_parties import PaymentParties, normalised
from node.service.payment_past import REVERSALS_OF_A_PAYMENT_MAX, PaymentPast, id_as_reference, id_of
from node.storage.ledger_store import StoredPayment

WINDOW_S = 24 * 3_600  # in which the payer may ask without an operator
RESERVED_S = 72 * 3_600  # in which somebody must decide
_BY_PAYER = frozenset({PaymentKind.SEND_MONEY})  # a merchant's customer asks the merchant, or an operator
_BY_OTHERS = _BY_PAYER | {
    PaymentKind.PAY_TILL, PaymentKind.PAY_BILL, PaymentKind.MERCHANT_PAYOUT, PaymentKind.AGENT_FLOAT,
    PaymentKind.PAY_REQUEST,
}  # fmt: skip
# Not cash: it has changed hands. Not airtime: it is used. Those are put right with a payment the other way.


class PaymentReversals:
    def __init__(
        self, past: PaymentPast, parties: PaymentParties, tariffs: Tariffs, time_ns: Callable[[], int]
    ) -> None:
        self._past = past
        self._parties = parties
        self._tariffs = tariffs
        self._time_ns = time_ns

    def draft(self, payment_id: int, request: payments_pb2.Payment) -> Draft | PaymentStatus:
        """Of somebody with a PIN: the payer or the payee of the original, or a merchant."""
        original = self._past.named(request.original_payment_id)
        if original is None:
            return PaymentStatus.ORIGINAL_NOT_FOUND
        ledger = int(original.record["ledger"])
        if ledger != self._tariffs.ledger_of(request.currency):
            return PaymentStatus.CURRENCY_DIFFERS
        terms = KINDS[request.kind]
        who, account = self._who(ledger, terms, request)
        if not account:
            return PaymentStatus.PAYER_NOT_FOUND
        original_id = f"{id_of(original):032x}"
        content = content_hash(terms.kind, who, original_id, request.amount_minor, request.currency, "")
        payer, payee = int(original.record["payer_account"]), int(original.record["payee_account"])
        is_reversal = int(original.record["kind"]) == PaymentKind.REVERSAL
        if is_reversal and account == payer:
            return self._consent(payment_id, terms, original, request.amount_minor, content)
        if account == payee:
            return self._back(payment_id, terms, original, request.amount_minor, content)
        if account == payer and terms.kind is PaymentKind.REVERSAL:
            if int(original.record["status"]) == PaymentStatus.VOUCHER_WAITS:
                return self._cancel(payment_id, terms, original, content)
            return self._ask(payment_id, original, request.amount_minor, content)
        return PaymentStatus.PAYER_IS_NO_PARTY_OF_THE_ORIGINAL

    def _who(self, ledger: int, terms: KindTerms, request: payments_pb2.Payment) -> tuple[str, int]:
        if request.payer:
            return request.payer, self._parties.by_keys(ledger, terms.payer_keys, request.payer)
        msisdn = normalised(request.payer_msisdn)
        return msisdn, self._parties.account(ledger, "msisdn", msisdn)

    def _ask(self, payment_id: int, original: StoredPayment, amount_minor: int, content: int) -> Draft:
        draft, number = self._draft(payment_id, REVERSAL_BY_PAYER, original, amount_minor, content, _BY_PAYER)
        if self._time_ns() > original.timestamp_ns + WINDOW_S * 1_000_000_000:
            draft.refuse(PaymentStatus.REVERSAL_WINDOW_IS_OVER)
        legs = [_principal(draft, id_of(original), number, b"payer", RESERVED_S)]
        _reserve(draft, legs)
        return draft

    def _back(
        self, payment_id: int, terms: KindTerms, original: StoredPayment, amount_minor: int, content: int
    ) -> Draft:
        draft, number = self._draft(payment_id, terms, original, amount_minor, content, _BY_OTHERS)
        draft.special = Special(legs=[_principal(draft, id_of(original), number, b"payee", 0)])
        return draft

    def propose(
        self, payment_id: int, original_id: int, amount_minor: int, maker: bytes, *, return_fee: bool
    ) -> Draft | PaymentStatus:
        """An operator's. maker: at most 20 bytes."""
        original = self._past.payment(original_id)
        if original is None:
            return PaymentStatus.ORIGINAL_NOT_FOUND
        who = f"{maker.hex()}{'+fee' if return_fee else ''}"
        content = content_hash(PaymentKind.REVERSAL, who, f"{original_id:032x}", amount_minor, "", "operator")
        draft, number = self._draft(payment_id, REVERSAL_BY_OPERATOR, original, amount_minor, content, _BY_OTHERS)
        legs = [_principal(draft, original_id, number, b"maker:" + maker, RESERVED_S)]
        if return_fee:
            if number or draft.amount_minor != int(original.record["amount_minor"]):
                draft.refuse(PaymentStatus.REVERSALS_EXCEED_ORIGINAL)
            legs += self._fee_legs(draft, original)
        _reserve(draft, legs)
        return draft

    def _fee_legs(self, draft: Draft, original: StoredPayment) -> list[Leg]:
        """Back to the payer, out of revenue and tax."""
        excise_minor = int(original.record["excise_minor"])
        net_minor = int(original.record["fee_minor"]) - excise_minor
        fees, excise = self._parties.operators(draft.ledger)
        legs = [
            (fees, net_minor, TransferCode.FEE_RETURNED, "fee"),
            (excise, excise_minor, TransferCode.EXCISE_RETURNED, "excise"),
        ]
        return [
            Leg(account, draft.payee_account, minor, code, draft.ledger, RESERVED_S,
                transfer_id=derived_id(id_of(original), f"{purpose}-returned"))
            for account, minor, code, purpose in legs if minor
        ]  # fmt: skip

    def _draft(
        self, payment_id: int, terms: KindTerms, original: StoredPayment, amount_minor: int, content: int,
        kinds: frozenset[PaymentKind],
    ) -> tuple[Draft, int]:  # fmt: skip
        """The draft, and the number of this reversal. Amount 0 = what is left of the original."""
        number, sum_minor = self._past.reversals(id_of(original))
        left_minor = int(original.record["amount_minor"]) - sum_minor
        payer, payee = int(original.record["payee_account"]), int(original.record["payer_account"])
        draft = Draft(
            payment_id=payment_id,
            terms=terms,
            ledger=int(original.record["ledger"]),
            payer_account=payer,
            payee_account=payee,
            amount_minor=amount_minor or left_minor,
            reference=id_as_reference(id_of(original)),
            content_hash=content,
            signer_account=payee if terms is REVERSAL_BY_PAYER else payer,
            payee_name=self._parties.name_of(payee),
        )
        if amount_minor < 0:
            draft.refuse(PaymentStatus.AMOUNT_MUST_BE_POSITIVE)
        if int(original.record["kind"]) not in kinds or not self._past.moved(original):
            draft.refuse(PaymentStatus.ORIGINAL_IS_NOT_REVERSIBLE)
        if draft.amount_minor > left_minor or left_minor <= 0 or number >= REVERSALS_OF_A_PAYMENT_MAX:
            draft.refuse(PaymentStatus.REVERSALS_EXCEED_ORIGINAL)
        return draft, number

    def _cancel(self, payment_id: int, terms: KindTerms, voucher: StoredPayment, content: int) -> Draft:
        """A voucher that nobody has redeemed goes back to its sender, the fee as well."""
        record = voucher.record
        draft = Draft(
            payment_id=payment_id,
            terms=terms,
            ledger=int(record["ledger"]),
            payer_account=int(record["payer_account"]),
            payee_account=int(record["payee_account"]),
            amount_minor=int(record["amount_minor"]),
            reference=id_as_reference(id_of(voucher)),
            content_hash=content,
            signer_account=int(record["payer_account"]),
        )
        if self._past.end(voucher) != kernel.ACTIVE:
            draft.refuse(PaymentStatus.ORIGINAL_IS_NOT_REVERSIBLE)
        draft.special = Special(legs=ending_legs(voucher, b"sender", TransferFlag.VOID), is_covered=True)
        return draft

    def _consent(
        self, payment_id: int, terms: KindTerms, asked: StoredPayment, amount_minor: int, content: int
    ) -> Draft:
        """The receiver agrees to what the payer, or an operator, has had reserved: the whole of it."""
        record = asked.record
        draft = Draft(
            payment_id=payment_id,
            terms=terms,
            ledger=int(record["ledger"]),
            payer_account=int(record["payer_account"]),
            payee_account=int(record["payee_account"]),
            amount_minor=int(record["amount_minor"]),
            reference=id_as_reference(id_of(asked)),
            content_hash=content,
            signer_account=int(record["payer_account"]),
            payee_name=self._parties.name_of(int(record["payee_account"])),
        )
        if amount_minor not in (0, draft.amount_minor):
            draft.refuse(PaymentStatus.PAYMENT_DIFFERS_FROM_REQUEST)
        if self._past.end(asked) != kernel.ACTIVE:
            draft.refuse(PaymentStatus.ORIGINAL_IS_NOT_REVERSIBLE)
        draft.special = Special(legs=ending_legs(asked, b"payee", TransferFlag.POST), is_covered=True)
        return draft


def _principal(draft: Draft, original_id: int, number: int, narrative: bytes, reserved_s: int) -> Leg:
    return Leg(
        draft.payer_account, draft.payee_account, draft.amount_minor, TransferCode.REVERSAL, draft.ledger, reserved_s,
        transfer_id=derived_id(original_id, "reversal", number), narrative=narrative,
    )  # fmt: skip


def _reserve(draft: Draft, legs: list[Leg]) -> None:
    draft.special = Special(
        legs=legs,
        waits_s=RESERVED_S,
        waits_as=PaymentStatus.REVERSAL_IS_RESERVED,
    )


def ending_legs(
    asked: StoredPayment, narrative: bytes, end: TransferFlag, code: TransferCode = TransferCode.REVERSAL_END
) -> list[Leg]:
    """All that a payment reserved posted, or all voided; with ids that follow from its own: it ends once."""
    reserved = zip(asked.transfers["id_hi"].tolist(), asked.transfers["id_lo"].tolist(), strict=True)
    return [
        Leg(0, 0, 0, code, 0, ends=high << 64 | low, end=end, transfer_id=derived_id(id_of(asked), "end", number),
            narrative=narrative)
        for number, (high, low) in enumerate(reserved)
    ]  # fmt: skip


def pack_end(asked: StoredPayment, narrative: bytes, end: TransferFlag, code: TransferCode) -> bytes:
    return pack_chain(id_of(asked), ending_legs(asked, narrative, end, code))
