"""What the ledger knows about payments: requests become drafts, drafts become records, records become outcomes.

All rules are judged on the leader's applied state; none of this waits, so a draft is judged on one state.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from kibubu.payments.v1 import payments_pb2

from node.ledger.columns import Column
from node.ledger.records import TRANSFER
from node.ledger.statuses import PaymentKind, PaymentStatus
from node.payments.msisdn import MsisdnError, normalise
from node.payments.pin_tries import PIN_TRIES_MAX
from node.payments.plan import Decided, Parties, content_hash, pack_legs, pack_payment
from node.payments.tariffs import Tariffs
from node.service.fraud_rules import Listed
from node.service.limits import HANDLES_REMEMBERED_MAX, NAMES_REMEMBERED_MAX, REFERENCE_BYTES_MAX
from node.service.payment_drafts import Draft
from node.service.payment_outcomes import Legs, judge_by_legs, model_name, refusal
from node.service.payment_rules import PaymentRules
from node.storage.ledger_store import LedgerStore, StoredPayment

_MONEY_KINDS = {
    payments_pb2.PAYMENT_KIND_SEND_MONEY: PaymentKind.SEND_MONEY,
    payments_pb2.PAYMENT_KIND_PAY_TILL: PaymentKind.PAY_TILL,
    payments_pb2.PAYMENT_KIND_PAY_BILL: PaymentKind.PAY_BILL,
    payments_pb2.PAYMENT_KIND_BUY_AIRTIME: PaymentKind.BUY_AIRTIME,
}
_HANDLE_KEY = {PaymentKind.SEND_MONEY: "msisdn", PaymentKind.PAY_TILL: "till", PaymentKind.PAY_BILL: "paybill"}
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
    def __init__(
        self, store: LedgerStore, tariffs: Tariffs, pin_key: bytes, time_ns: Callable[[], int] = time.time_ns
    ) -> None:
        self._store = store
        self._tariffs = tariffs
        self._rules = PaymentRules(tariffs, pin_key)
        self._operators: dict[int, tuple[int, int]] = {}  # ledger -> accounts of fees and of excise duty
        self._time_ns = time_ns
        self._names: dict[int, str] = {}  # of payees, for as long as no profile has changed
        self._names_version = -1
        self._handles: dict[tuple[int, str, str], int] = {}  # a handle never leaves its account, so this stays true

    @property
    def columns(self) -> Any:
        return self._store.columns

    # --- from request to draft --------------------------------------------------------------------------------------

    def draft(self, payment_id: int, request: payments_pb2.Payment) -> Draft | PaymentStatus:
        """A status instead of a draft where no account could be charged with remembering the refusal."""
        kind = _MONEY_KINDS.get(request.kind)
        if payment_id == 0:
            return PaymentStatus.PAYMENT_ID_MUST_NOT_BE_ZERO
        if kind is None:
            return PaymentStatus.KIND_UNKNOWN
        ledger = self._tariffs.ledger_of(request.currency)
        if not ledger:
            return PaymentStatus.CURRENCY_DIFFERS
        payer = _normalised(request.payer_msisdn)
        payer_account = self._account(ledger, "msisdn", payer)
        if not payer_account:
            return PaymentStatus.PAYER_NOT_FOUND
        by_number = kind in (PaymentKind.SEND_MONEY, PaymentKind.BUY_AIRTIME)
        payee = _normalised(request.payee) if by_number else request.payee
        reference = payee if kind is PaymentKind.BUY_AIRTIME else request.reference
        draft = Draft(
            payment_id=payment_id,
            kind=kind,
            ledger=ledger,
            payer_account=payer_account,
            payee_account=self._payee_account(ledger, kind, payee, request.currency),
            amount_minor=request.amount_minor,
            reference=reference.encode()[:REFERENCE_BYTES_MAX],
            content_hash=content_hash(
                kind, payer, payee or request.payee, request.amount_minor, request.currency, request.reference
            ),
        )
        if request.amount_minor <= 0:
            draft.refuse(PaymentStatus.AMOUNT_MUST_BE_POSITIVE)
            draft.amount_minor = 0
        if not _reference_is_well_formed(kind, request.reference):
            draft.refuse(PaymentStatus.REFERENCE_MALFORMED)
        if not draft.payee_account:
            draft.refuse(PaymentStatus.PAYEE_NOT_FOUND)
        if draft.payee_account == payer_account:
            draft.refuse(PaymentStatus.PAYER_IS_PAYEE)
        draft.payee_name = payee if kind is PaymentKind.BUY_AIRTIME else self.name_of(draft.payee_account)
        return draft

    def balance_draft(self, request_id: int, msisdn: str, currency: str) -> Draft | PaymentStatus:
        if request_id == 0:
            return PaymentStatus.PAYMENT_ID_MUST_NOT_BE_ZERO
        ledger = self._tariffs.ledger_of(currency)
        if not ledger:
            return PaymentStatus.CURRENCY_DIFFERS
        payer = _normalised(msisdn)
        account = self._account(ledger, "msisdn", payer)
        if not account:
            return PaymentStatus.PAYER_NOT_FOUND
        kind = PaymentKind.CHECK_BALANCE
        return Draft(request_id, kind, ledger, account, 0, 0, b"", content_hash(kind, payer, "", 0, currency, ""))

    def _account(self, ledger: int, key: str, value: str) -> int:
        if not value:
            return 0
        handle = (ledger, key, value)
        number = self._handles.get(handle, 0)
        if not number:
            number = self._store.account_by_handle(ledger, key, value)
            if number:
                if len(self._handles) >= HANDLES_REMEMBERED_MAX:
                    self._handles.clear()
                self._handles[handle] = number
        return number

    def listed(self, lists: Sequence[Listed]) -> dict[int, list[Listed]]:
        """The entries of lists by account, in every currency that has a tariff."""
        found: dict[int, list[Listed]] = {}
        for entry in lists:
            for ledger in self._tariffs.ledgers:
                account = self._account(ledger, "msisdn", entry.msisdn)
                if account:
                    found.setdefault(account, []).append(entry)
        return found

    def _payee_account(self, ledger: int, kind: PaymentKind, payee: str, currency: str) -> int:
        if kind is PaymentKind.BUY_AIRTIME:
            return self._account(ledger, "system", f"{currency}/airtime") if payee else 0
        return self._account(ledger, _HANDLE_KEY[kind], payee)

    def name_of(self, account: int) -> str:
        if not account:
            return ""
        if self._names_version != self._store.profiles_version or len(self._names) >= NAMES_REMEMBERED_MAX:
            self._names_version = self._store.profiles_version
            self._names.clear()
        name = self._names.get(account)
        if name is None:
            profile = self._store.profile(account)
            name = self._names[account] = profile.name if profile is not None else ""
        return name

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
            kind=draft.kind,
            amount_minor=draft.amount_minor,
            fee=draft.fee,
            content_hash=draft.content_hash,
            status=draft.final_status,
            decision=draft.decision,
            pin_verdict=draft.pin_verdict,
            score_ppm=draft.score_ppm,
            model_version=draft.model_version,
            reasons=draft.reasons,
            tariff_version=draft.tariff_version,
            reference=draft.reference,
        )
        legs = pack_legs(decided, parties, hold=draft.hold) if draft.moves_money else b""
        first, count = len(transfers) // TRANSFER.itemsize, len(legs) // TRANSFER.itemsize
        records += pack_payment(decided, parties, first, count)
        transfers += legs
        return slice(first, first + count)

    def _parties(self, draft: Draft) -> Parties:
        fees = excise = 0
        if draft.fee.fee_minor:
            fees, excise = self._operators.get(draft.ledger) or self._find_operators(draft.ledger)
        return Parties(draft.payer_account, draft.payee_account, fees, excise, draft.ledger)

    def _find_operators(self, ledger: int) -> tuple[int, int]:
        currency = self._tariffs.currency_of(ledger)
        fees, excise = (self._account(ledger, "system", f"{currency}/{name}") for name in ("fees", "excise"))
        if fees and excise:
            self._operators[ledger] = fees, excise
        return fees, excise

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
        return outcome

    def _of_stored(self, stored: StoredPayment) -> payments_pb2.Outcome:
        record = stored.record
        kind, payee_account = int(record["kind"]), int(record["payee_account"])
        is_airtime = kind == PaymentKind.BUY_AIRTIME
        outcome = payments_pb2.Outcome(
            position=stored.position,
            timestamp_ns=stored.timestamp_ns,
            amount_minor=int(record["amount_minor"]),
            fee_minor=int(record["fee_minor"]),
            excise_minor=int(record["excise_minor"]),
            payee_name=_text(record["reference"]) if is_airtime else self.name_of(payee_account),
            decision=int(record["decision"]),
            score_ppm=int(record["score_ppm"]),
            model_version=model_name(int(record["model_version"])),
            pin_tries_left=self._tries_left(int(record["payer_account"])),
        )
        judge_by_legs(outcome, PaymentStatus(int(record["status"])), Legs.of(stored.legs), slice(0, len(stored.legs)))
        return outcome

    def _tries_left(self, account: int) -> int:
        return max(0, PIN_TRIES_MAX - int(self.columns[account, Column.PIN_TRIES]))

    def lookup(self, payment_id: int) -> payments_pb2.LookupPaymentResponse:
        stored = self._store.lookup_payment(payment_id)
        if stored is None:
            return payments_pb2.LookupPaymentResponse(found=False)
        record = stored.record
        kind = int(record["kind"])
        is_airtime, reference = kind == PaymentKind.BUY_AIRTIME, _text(record["reference"])
        key = _HANDLE_KEY.get(PaymentKind(kind), "")
        payment = payments_pb2.Payment(
            payment_id=payment_id.to_bytes(16, "big"),
            kind=kind if kind in _MONEY_KINDS else 0,  # type: ignore[arg-type]
            payer_msisdn=self._handle_of(int(record["payer_account"]), "msisdn"),
            payee=reference if is_airtime else self._handle_of(int(record["payee_account"]), key),
            amount_minor=int(record["amount_minor"]),
            currency=self._tariffs.currency_of(int(record["ledger"])),
            reference="" if is_airtime else reference,
        )
        return payments_pb2.LookupPaymentResponse(found=True, payment=payment, outcome=self._of_stored(stored))

    def _handle_of(self, account: int, key: str) -> str:
        profile = self._store.profile(account) if account else None
        handles = profile.handles if profile is not None else ()
        return next((value for name, value in handles if name == key), "")

    def quote(self, request: payments_pb2.Payment) -> payments_pb2.QuotePaymentResponse:
        """What MakePayment would find before the PIN; the id does not matter."""
        draft = self.draft(1, request)
        if isinstance(draft, PaymentStatus):
            return payments_pb2.QuotePaymentResponse(status=draft, status_name=draft.name.lower())
        self._rules.quote(self._store.columns, draft, self._time_ns())
        return payments_pb2.QuotePaymentResponse(
            status=draft.status,
            status_name=draft.status.name.lower(),
            payee_name=draft.payee_name,
            fee_minor=draft.fee.fee_minor,
            excise_minor=draft.fee.excise_minor,
            tariff_version=draft.tariff_version,
            payer_name=self.name_of(draft.payer_account),
        )


def _normalised(msisdn: str) -> str:
    try:
        return normalise(msisdn)
    except MsisdnError:
        return ""


def _reference_is_well_formed(kind: PaymentKind, reference: str) -> bool:
    if kind is PaymentKind.BUY_AIRTIME:
        return not reference
    if kind is PaymentKind.PAY_BILL and not reference.strip():
        return False
    return len(reference.encode()) <= REFERENCE_BYTES_MAX and all(letter.isprintable() for letter in reference)


def _text(packed: Any) -> str:
    return bytes(packed).rstrip(b"\0").decode("utf-8", "replace")
