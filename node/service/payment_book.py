"""What the ledger knows about payments: requests become drafts, drafts become records, records become outcomes.

All rules are judged on the leader's applied state; none of this waits, so a draft is judged on one state.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from kibubu.payments.v1 import payments_pb2
from kibubu.raft.v1 import raft_pb2

from node.ledger import kernel
from node.ledger.columns import Column
from node.ledger.currencies import BY_NUMBER
from node.ledger.records import TRANSFER, Records
from node.ledger.statuses import PaymentKind, PaymentStatus, TransferCode
from node.payments.gsma import gsma_error
from node.payments.kinds import (
    AIRTIME_BY_PROVIDER,
    AIRTIME_WAITS_S,
    CHECK_BALANCE,
    KINDS,
    OF_OWN_ACCOUNT,
    Agent,
    KindTerms,
    terms_of,
)
from node.payments.pin_tries import PIN_TRIES_MAX
from node.payments.plan import Decided, Leg, Parties, content_hash, pack_chain, pack_legs, pack_payment
from node.payments.receipts import POSITIONS, Place
from node.payments.tariffs import Tariffs
from node.service.fraud_rules import Listed
from node.service.limits import REFERENCE_BYTES_MAX
from node.service.pay_requests import PayRequests
from node.service.payment_drafts import Draft, Special
from node.service.payment_outcomes import Legs, add_receipt, judge_by_legs, model_name, refusal, tell_special
from node.service.payment_parties import PaymentParties, normalised
from node.service.payment_past import PaymentPast, reference_as_id
from node.service.payment_remittances import PaymentRemittances
from node.service.payment_reversals import PaymentReversals
from node.service.payment_rules import PaymentRules
from node.service.payment_vouchers import PaymentVouchers
from node.service.recent import recent_payments
from node.storage.ledger_store import LedgerStore, StoredPayment

_ENDS = {
    0: payments_pb2.PAYMENT_END_UNSPECIFIED,
    kernel.ACTIVE: payments_pb2.PAYMENT_END_WAITS,
    kernel.POSTED: payments_pb2.PAYMENT_END_POSTED,
    kernel.VOIDED: payments_pb2.PAYMENT_END_VOIDED,
    kernel.EXPIRED: payments_pb2.PAYMENT_END_EXPIRED,
}
# Refusals that the same request meets again whatever happens in between: there is nothing to remember about them.
_OF_THE_REQUEST_ALONE = frozenset(
    {
        PaymentStatus.KIND_UNKNOWN,
        PaymentStatus.AMOUNT_MUST_BE_POSITIVE,
        PaymentStatus.REFERENCE_MALFORMED,
        PaymentStatus.PAYER_IS_PAYEE,
        PaymentStatus.PIN_MALFORMED,
    }
)


class PaymentBook:
    """`airtime_waits`: a purchase of airtime is reserved until its provider answers (airtime_runner)."""

    def __init__(
        self,
        store: LedgerStore,
        tariffs: Tariffs,
        pin_key: bytes,
        time_ns: Callable[[], int] = time.time_ns,
        *,
        airtime_waits: bool = False,
    ) -> None:
        self._store = store
        self._tariffs = tariffs
        self.parties = PaymentParties(store, tariffs)
        self._rules = PaymentRules(tariffs, pin_key, self.parties, lambda: store.tiers)
        self._time_ns = time_ns
        # What a provider is still to be asked about cannot wait for an analyst as well.
        self._kinds = KINDS | {int(PaymentKind.BUY_AIRTIME): AIRTIME_BY_PROVIDER} if airtime_waits else KINDS
        self.past = PaymentPast(store)
        self.reversals = PaymentReversals(self.past, self.parties, tariffs, time_ns)
        self.requests = PayRequests(store, self.parties, tariffs, time_ns)
        self.remittances = PaymentRemittances(store, self.parties, tariffs, pin_key, time_ns)
        self.vouchers = PaymentVouchers(store, self.past, self.parties, tariffs, pin_key)

    @property
    def columns(self) -> Any:
        return self._store.columns

    # --- from request to draft --------------------------------------------------------------------------------------

    def draft(self, payment_id: int, request: payments_pb2.Payment, secret: str = "") -> Draft | PaymentStatus:
        """A status instead of a draft where no account could be charged with remembering the refusal."""
        terms = self._kinds.get(request.kind)
        if payment_id == 0:
            return PaymentStatus.PAYMENT_ID_MUST_NOT_BE_ZERO
        if terms is None:
            return PaymentStatus.KIND_UNKNOWN
        if terms.is_special:
            return self._special(payment_id, request, secret)
        if terms.only_in_batch:
            return PaymentStatus.PAYMENT_ONLY_IN_A_BATCH
        return self.usual(payment_id, terms, request)

    def usual(self, payment_id: int, terms: KindTerms, request: payments_pb2.Payment) -> Draft | PaymentStatus:
        """The draft of a kind without rules of its own."""
        ledger = self._tariffs.ledger_of(request.currency)
        if not ledger:
            return PaymentStatus.CURRENCY_DIFFERS
        payer, payer_account = self._payer(ledger, terms, request)
        if not payer_account:
            return PaymentStatus.PAYER_NOT_FOUND
        payee = normalised(request.payee) if terms.payee_is_number else request.payee
        payee_account = self.parties.payee(ledger, terms, payee)
        reference = payee if terms.reference_is_payee else request.reference
        draft = Draft(
            payment_id=payment_id,
            terms=terms,
            ledger=ledger,
            payer_account=payer_account,
            payee_account=payee_account,
            amount_minor=request.amount_minor,
            reference=reference.encode()[:REFERENCE_BYTES_MAX],
            content_hash=content_hash(
                terms.kind, payer, payee or request.payee, request.amount_minor, request.currency, request.reference
            ),
            signer_account=payer_account,
        )
        if request.amount_minor <= 0:
            draft.refuse(PaymentStatus.AMOUNT_MUST_BE_POSITIVE)
            draft.amount_minor = 0
        if not _reference_is_well_formed(terms, request.reference):
            draft.refuse(PaymentStatus.REFERENCE_MALFORMED)
        if not payee_account:
            draft.refuse(PaymentStatus.PAYEE_NOT_FOUND)
        if payee_account == payer_account:
            draft.refuse(PaymentStatus.PAYER_IS_PAYEE)
        if terms.payer_kinds and self.parties.kind_of(payer_account) not in terms.payer_kinds:
            draft.refuse(terms.not_of_payer_kind)
        draft.payee_name = payee if terms.reference_is_payee else self.parties.name_of(payee_account)
        if terms is AIRTIME_BY_PROVIDER:
            draft.special = Special(waits_s=AIRTIME_WAITS_S, waits_as=PaymentStatus.PROVIDER_HAS_NOT_ANSWERED)
        elif terms.has_more:
            self.vouchers.issue(draft)
        return draft

    def _special(self, payment_id: int, request: payments_pb2.Payment, secret: str) -> Draft | PaymentStatus:
        if request.kind == payments_pb2.PAYMENT_KIND_REDEEM_VOUCHER:
            return self.vouchers.redeem(payment_id, request, secret)
        if request.kind == payments_pb2.PAYMENT_KIND_REMITTANCE:
            return self.remittances.draft(payment_id, request)
        if request.kind == payments_pb2.PAYMENT_KIND_PAY_REQUEST:
            return self.requests.draft(payment_id, request)
        return self.reversals.draft(payment_id, request)

    def merchant_name(self, request: payments_pb2.PayRequest) -> str:
        ledger = self._tariffs.ledger_of(request.currency)
        return self.parties.name_of(self.parties.by_keys(ledger, ("till", "paybill"), request.merchant))

    def _payer(self, ledger: int, terms: KindTerms, request: payments_pb2.Payment) -> tuple[str, int]:
        """As the request names the payer, and the account."""
        if terms.payer_keys and request.payer:
            return request.payer, self.parties.by_keys(ledger, terms.payer_keys, request.payer)
        payer = normalised(request.payer_msisdn)
        return payer, self.parties.account(ledger, "msisdn", payer)

    def balance_draft(self, request_id: int, msisdn: str, currency: str) -> Draft | PaymentStatus:
        if request_id == 0:
            return PaymentStatus.PAYMENT_ID_MUST_NOT_BE_ZERO
        ledger = self._tariffs.ledger_of(currency)
        if not ledger:
            return PaymentStatus.CURRENCY_DIFFERS
        payer = normalised(msisdn)
        account = self.parties.account(ledger, "msisdn", payer)
        if not account:
            return PaymentStatus.PAYER_NOT_FOUND
        content = content_hash(CHECK_BALANCE.kind, payer, "", 0, currency, "")
        return Draft(request_id, CHECK_BALANCE, ledger, account, 0, 0, b"", content, account)

    def ledger_of(self, currency: str) -> int:
        """0 = the operator has no tariff in it."""
        return self._tariffs.ledger_of(currency)

    def own_account_draft(
        self, request_id: int, msisdn: str, currency: str, command: raft_pb2.Command, problem: PaymentStatus
    ) -> Draft | PaymentStatus:
        """Of a command of an account's owner: logged where the PIN is right and nothing else is wrong with it."""
        draft = self.balance_draft(request_id, msisdn, currency)
        if isinstance(draft, PaymentStatus):
            return draft
        purpose = str(command.WhichOneof("action"))
        getattr(command, purpose).account_number = draft.payer_account
        draft.terms = OF_OWN_ACCOUNT
        draft.content_hash = content_hash(draft.terms.kind, normalised(msisdn), "", 0, currency, purpose)
        draft.special = Special(commands=[command] if problem is PaymentStatus.OK else [], problem=problem)
        return draft

    def customer(self, currency: str, msisdn: str) -> int:
        """The account of a phone number in any of its forms, 0 = none."""
        return self.parties.account(self._tariffs.ledger_of(currency), "msisdn", normalised(msisdn))

    def language_of(self, account: int) -> str:
        return self.parties.language_of(account)

    def recent(self, account: int, count: int) -> list[payments_pb2.RecentPayment]:
        return recent_payments(self._store, self.parties, account, count) if count else []

    def listed(self, lists: Sequence[Listed]) -> dict[int, list[Listed]]:
        return self.parties.listed(lists)

    def name_of(self, account: int) -> str:
        return self.parties.name_of(account)

    def check_all(self, asks: Sequence[tuple[Draft, str]], now_ns: int) -> None:
        """See PaymentRules.check_all: `asks` are drafts with the PINs that came with them."""
        self._rules.check_all(self._store.columns, asks, now_ns)

    # --- from draft to the log ----------------------------------------------------------------------------------------

    @staticmethod
    def must_be_logged(draft: Draft) -> bool:
        """All that another moment could judge otherwise, so that an id has one outcome for ever."""
        return draft.status not in _OF_THE_REQUEST_ALONE

    def write(self, draft: Draft, records: bytearray, transfers: bytearray) -> slice:
        """Append the draft's legs and its record; where the legs lie, as transfers."""
        parties = self._parties(draft)
        decided = Decided(
            payment_id=draft.payment_id,
            terms=draft.terms,
            amount_minor=draft.amount_minor,
            fee=draft.fee,
            content_hash=draft.content_hash,
            status=draft.final_status,
            decision=draft.decision,
            pin_verdict=draft.pin_verdict,
            score_ppm=draft.score_ppm,
            model_version=draft.model_version,
            thresholds_version=draft.thresholds_version,
            reasons=draft.reasons,
            tariff_version=draft.tariff_version,
            reference=draft.reference,
        )
        if not draft.moves_money:
            legs = b""
        elif draft.special is not None and draft.special.legs:
            legs = pack_chain(draft.payment_id, [*draft.special.legs, *_commission(draft, parties)])
        else:
            legs = self._usual(draft, decided, parties)
        first, count = len(transfers) // TRANSFER.itemsize, len(legs) // TRANSFER.itemsize
        records += pack_payment(decided, parties, first, count)
        transfers += legs
        return slice(first, first + count)

    @staticmethod
    def _usual(draft: Draft, decided: Decided, parties: Parties) -> bytes:
        special = draft.special
        if special is None:
            return pack_legs(decided, parties, hold_s=draft.reserves_s)
        return pack_legs(decided, parties, hold_s=draft.reserves_s, first_id=special.first_id, more=special.more_legs)

    def _parties(self, draft: Draft) -> Parties:
        fee = draft.fee
        fees = excise = commissions = agent = 0
        if fee.fee_minor or fee.payee_fee_minor:
            fees, excise = self.parties.operators(draft.ledger)
        if fee.commission_minor:
            commissions = self.parties.system(draft.ledger, "commissions")
            agent = draft.payer_account if draft.terms.agent is Agent.PAYER else draft.payee_account
        return Parties(draft.payer_account, draft.payee_account, fees, excise, draft.ledger, commissions, agent)

    # --- outcomes -----------------------------------------------------------------------------------------------------

    def stored_outcome(self, draft: Draft) -> payments_pb2.Outcome | None:
        """The first outcome of this id, or that it was used for something else; None = a new id."""
        stored = self._store.lookup_payment(draft.payment_id)
        if stored is None:
            return None
        if int(stored.record["content_hash"]) != draft.content_hash:
            return refusal(PaymentStatus.PAYMENT_ID_USED_FOR_ANOTHER_PAYMENT)
        outcome = self._of_stored(stored)
        outcome.duplicate = True
        if draft.special is not None:
            tell_special(outcome, draft.special)
        return outcome

    def _of_stored(self, stored: StoredPayment) -> payments_pb2.Outcome:
        record = stored.record
        terms = terms_of(int(record["kind"]), int(record["signer"]))
        payee_account = int(record["payee_account"])
        outcome = payments_pb2.Outcome(
            position=stored.position,
            timestamp_ns=stored.timestamp_ns,
            amount_minor=int(record["amount_minor"]),
            fee_minor=int(record["fee_minor"]),
            excise_minor=int(record["excise_minor"]),
            payee_name=_text(record["reference"]) if terms.reference_is_payee else self.name_of(payee_account),
            decision=int(record["decision"]),
            score_ppm=int(record["score_ppm"]),
            model_version=model_name(int(record["model_version"])),
            pin_tries_left=self._tries_left(payee_account if terms.signer else int(record["payer_account"])),
        )
        if len(stored.legs):
            outcome.commission_minor = _sum_minor(stored.transfers, TransferCode.COMMISSION)
            outcome.payee_fee_minor = _payee_fee_minor(stored.transfers, outcome.excise_minor, terms)
            if terms.ends_abroad:
                last = stored.transfers[-1]
                outcome.payee_amount_minor = int(last["amount_minor"])
                outcome.payee_currency = BY_NUMBER[int(last["ledger"])].letters
        parts = slice(0, len(stored.legs))
        judge_by_legs(outcome, PaymentStatus(int(record["status"])), Legs.of(stored.legs), parts, terms)
        add_receipt(outcome, stored.offset, int(record["ledger"]))
        return outcome

    def _tries_left(self, account: int) -> int:
        return max(0, PIN_TRIES_MAX - int(self.columns[account, Column.PIN_TRIES]))

    def lookup(self, payment_id: int) -> payments_pb2.LookupPaymentResponse:
        stored = self._store.lookup_payment(payment_id)
        return payments_pb2.LookupPaymentResponse(found=False) if stored is None else self.described(stored)

    def lookup_receipt(self, place: Place, receipt: str) -> payments_pb2.LookupPaymentResponse:
        """Of the payments that the receipt may mean, the one that has it."""
        for stored in self._store.payments_within(place.span_ns, place.first_position_from, POSITIONS, place.offset):
            found = self.described(stored)
            if found.outcome.receipt == receipt:
                return found
        return payments_pb2.LookupPaymentResponse(found=False)

    def described(self, stored: StoredPayment) -> payments_pb2.LookupPaymentResponse:
        record = stored.record
        payment_id = int(record["id_hi"]) << 64 | int(record["id_lo"])
        kind, payer_account = int(record["kind"]), int(record["payer_account"])
        terms, reference = KINDS.get(kind), _text(record["reference"])
        original = reference_as_id(reference.encode()) if terms is not None and terms.is_special else b""
        to_number = terms is not None and terms.reference_is_payee
        payee_key = terms.payee_key if terms is not None else ""
        payment = payments_pb2.Payment(
            payment_id=payment_id.to_bytes(16, "big"),
            kind=kind if terms is not None else 0,  # type: ignore[arg-type]
            payer_msisdn=self.parties.handle_of(payer_account, "msisdn"),
            payer=self.parties.handle_of(payer_account, *terms.payer_keys) if terms is not None else "",
            payee=reference if to_number else self.parties.handle_of(int(record["payee_account"]), payee_key),
            amount_minor=int(record["amount_minor"]),
            currency=self._tariffs.currency_of(int(record["ledger"])),
            reference="" if to_number or original else reference,
            original_payment_id=original,
        )
        outcome = self._of_stored(stored)
        payment.payee_currency = outcome.payee_currency
        return payments_pb2.LookupPaymentResponse(
            found=True, payment=payment, outcome=outcome, end=_ENDS[self.past.end(stored)]
        )

    def quote(self, request: payments_pb2.Payment) -> payments_pb2.QuotePaymentResponse:
        """What MakePayment would find before the PIN; the id does not matter."""
        is_abroad = request.kind == payments_pb2.PAYMENT_KIND_REMITTANCE
        draft = self.remittances.draft(1, request, quoting=True) if is_abroad else self.draft(1, request)
        if isinstance(draft, PaymentStatus):
            return _quote_refused(draft)
        self._rules.quote(self._store.columns, draft, self._time_ns())
        error = gsma_error(draft.status)
        response = payments_pb2.QuotePaymentResponse(
            status=draft.status,
            status_name=draft.status.name.lower(),
            payee_name=draft.payee_name,
            fee_minor=draft.fee.fee_minor,
            excise_minor=draft.fee.excise_minor,
            tariff_version=draft.tariff_version,
            payer_name=self.name_of(draft.payer_account),
            gsma_category=error.category,
            gsma_code=error.code,
            commission_minor=draft.fee.commission_minor,
            payee_fee_minor=draft.fee.payee_fee_minor,
            amount_minor=draft.amount_minor,
        )
        promise = self.remittances.sealed(draft)
        if promise is not None:
            response.quote, quote = promise
            response.payee_amount_minor, response.expire_time_ns = quote.payee_amount_minor, quote.expires_ns
            response.payee_currency = request.payee_currency
        return response


def _quote_refused(status: PaymentStatus) -> payments_pb2.QuotePaymentResponse:
    error = gsma_error(status)
    return payments_pb2.QuotePaymentResponse(
        status=status, status_name=status.name.lower(), gsma_category=error.category, gsma_code=error.code
    )


def _reference_is_well_formed(terms: KindTerms, reference: str) -> bool:
    if terms.reference_is_payee:
        return not reference
    if terms.reference_needed and not reference.strip():
        return False
    return len(reference.encode()) <= REFERENCE_BYTES_MAX and all(letter.isprintable() for letter in reference)


def _commission(draft: Draft, parties: Parties) -> list[Leg]:
    if not draft.fee.commission_minor:
        return []
    code, minor = TransferCode.COMMISSION, draft.fee.commission_minor
    return [Leg(parties.commissions, parties.agent, minor, code, draft.ledger)]


def _sum_minor(transfers: Records, code: TransferCode) -> int:
    return int(transfers["amount_minor"][transfers["code"] == code].sum())


def _payee_fee_minor(transfers: Records, excise_minor: int, terms: KindTerms) -> int:
    """The duty leg holds the payer's and the payee's."""
    if terms.kind not in (PaymentKind.PAY_BILL, PaymentKind.PAY_TILL, PaymentKind.PAY_REQUEST):
        return 0
    excise_of_both = _sum_minor(transfers, TransferCode.EXCISE_DUTY)
    return _sum_minor(transfers, TransferCode.PAYEE_FEE) + excise_of_both - excise_minor


def _text(packed: Any) -> str:
    return bytes(packed).rstrip(b"\0").decode("utf-8", "replace")
