"""Requests to pay: a merchant asks, the customer approves with the PIN, declines, or lets it expire.

A request is a document of its own, and one more lists what is open for a customer (both in node/ledger/documents). What
became of it is no document: the payment's first leg has an id that follows from the request's, so the ledger itself
lets it be paid once; and that it was declined is a command under an id that follows from it as well.
"""

from __future__ import annotations

from collections.abc import Callable

from kibubu.payments.v1 import payments_pb2
from kibubu.raft.v1 import raft_pb2

from node.ledger import kernel
from node.ledger.columns import AccountKind
from node.ledger.history import Document
from node.ledger.records import TransferFlag
from node.ledger.statuses import PaymentStatus
from node.payments.kinds import PAY_REQUEST_OF_BILLER, PAY_REQUEST_OF_TILL
from node.payments.plan import content_hash, derived_id
from node.payments.tariffs import Tariffs
from node.service.limits import REFERENCE_BYTES_MAX
from node.service.payment_drafts import Draft, Special
from node.service.payment_parties import PaymentParties, normalised
from node.storage.ledger_store import LedgerStore

REQUEST, OPEN = "pay-request", "pay-requests-open"  # kinds of documents
AUTHOR = "payments"
OPEN_REQUESTS_MAX = 10  # of one customer
EXPIRE_S_MIN, EXPIRE_S_MAX, EXPIRE_S_DEFAULT = 60, 7 * 24 * 3_600, 24 * 3_600
_MERCHANT_KEYS = ("till", "paybill")
_State = payments_pb2.PayRequestState


class PayRequests:
    def __init__(
        self, store: LedgerStore, parties: PaymentParties, tariffs: Tariffs, time_ns: Callable[[], int]
    ) -> None:
        self._store = store
        self._parties = parties
        self._tariffs = tariffs
        self._time_ns = time_ns

    # --- asking -----------------------------------------------------------------------------------------------------

    def checked(self, asked: payments_pb2.RequestPaymentRequest) -> payments_pb2.PayRequest | PaymentStatus:
        ledger = self._tariffs.ledger_of(asked.currency)
        if not any(asked.pay_request_id):
            return PaymentStatus.PAYMENT_ID_MUST_NOT_BE_ZERO
        if not ledger:
            return PaymentStatus.CURRENCY_DIFFERS
        if asked.amount_minor <= 0:
            return PaymentStatus.AMOUNT_MUST_BE_POSITIVE
        if len(asked.reference.encode()) > REFERENCE_BYTES_MAX or not asked.reference.isprintable():
            return PaymentStatus.REFERENCE_MALFORMED
        customer = normalised(asked.payer_msisdn)
        if not self._parties.account(ledger, "msisdn", customer):
            return PaymentStatus.PAYER_NOT_FOUND
        merchant = asked.merchant or self._merchant_of(ledger, asked.merchant_msisdn)
        if not self._parties.by_keys(ledger, _MERCHANT_KEYS, merchant):
            return PaymentStatus.PAYEE_NOT_FOUND
        now_ns = self._time_ns()
        return payments_pb2.PayRequest(
            pay_request_id=asked.pay_request_id,
            merchant=merchant,
            payer_msisdn=customer,
            amount_minor=asked.amount_minor,
            currency=asked.currency,
            reference=asked.reference,
            ask_time_ns=now_ns,
            expire_time_ns=now_ns + (asked.expire_s or EXPIRE_S_DEFAULT) * 1_000_000_000,
        )

    def _merchant_of(self, ledger: int, msisdn: str) -> str:
        """The till or paybill number of a merchant's phone, "" = it is none's."""
        account = self._parties.account(ledger, "msisdn", normalised(msisdn))
        return self._parties.handle_of(account, *_MERCHANT_KEYS)

    def numbered(self, account: int, number: int) -> bytes:
        """The id of a customer's request by its number, "" = there is none: each list ends with the one that it is
        for, and lists are kept for ever."""
        found = self._store.document_versions(OPEN, str(account), number + 1, 1) if number else []
        if not found or found[0].version != number:
            return b""
        return payments_pb2.OpenPayRequests.FromString(found[0].body).pay_request_ids[-1]

    def find(self, pay_request_id: bytes) -> payments_pb2.PayRequest | None:
        stored = self._store.document(REQUEST, pay_request_id.hex()) if len(pay_request_id) == 16 else None
        return payments_pb2.PayRequest.FromString(stored.body) if stored is not None else None

    def account_of(self, request: payments_pb2.PayRequest) -> int:
        ledger = self._tariffs.ledger_of(request.currency)
        return self._parties.account(ledger, "msisdn", request.payer_msisdn)

    def open_of(self, account: int) -> list[payments_pb2.PayRequest]:
        """What waits for a customer, oldest first."""
        listed = self._listed(account)
        ids = payments_pb2.OpenPayRequests.FromString(listed.body).pay_request_ids if listed is not None else ()
        found = [request for one in ids if (request := self.find(one)) is not None]
        return [request for request in found if self.state(request) == _State.PAY_REQUEST_STATE_OPEN]

    def _listed(self, account: int) -> Document | None:
        return self._store.document(OPEN, str(account))

    def commands(self, new: payments_pb2.PayRequest, account: int) -> list[raft_pb2.Command]:
        """The request, and the customer's list with it; the list is refused when another was written meanwhile."""
        request_id = new.pay_request_id
        listed = self._listed(account)
        version = listed.version if listed is not None else 0
        new.number = version + 1
        ids = [one.pay_request_id for one in self.open_of(account) if one.pay_request_id != request_id]
        listing = payments_pb2.OpenPayRequests(pay_request_ids=[*ids, request_id]).SerializeToString()
        asked, listed_as = derived_id(_number(request_id), "asked"), derived_id(_number(request_id), "listed", version)
        return [
            _put(asked, REQUEST, request_id.hex(), new.SerializeToString(), 0),
            _put(listed_as, OPEN, str(account), listing, version),
        ]

    # --- what became of it ------------------------------------------------------------------------------------------

    def state(self, request: payments_pb2.PayRequest) -> payments_pb2.PayRequestState.ValueType:
        number = _number(request.pay_request_id)
        paid = self._store.lookup_transfer(derived_id(number, "paid"))
        if paid is not None and not int(paid.outcome["status"]):
            if not int(paid.record["flags"]) & TransferFlag.PENDING:
                return _State.PAY_REQUEST_STATE_PAID
            return _OF_HELD[self._store.pending_end(paid.position << 16 | paid.offset)]
        if self._store.remembered(derived_id(number, "declined").to_bytes(16, "big")) is not None:
            return _State.PAY_REQUEST_STATE_DECLINED
        is_over = self._time_ns() >= request.expire_time_ns
        return _State.PAY_REQUEST_STATE_EXPIRED if is_over else _State.PAY_REQUEST_STATE_OPEN

    def decline(self, request: payments_pb2.PayRequest) -> raft_pb2.Command:
        request_id = derived_id(_number(request.pay_request_id), "declined").to_bytes(16, "big")
        note = raft_pb2.NoteDeclined(pay_request_id=request.pay_request_id)
        return raft_pb2.Command(request_id=request_id, note_declined=note)

    # --- paying -----------------------------------------------------------------------------------------------------

    def draft(self, payment_id: int, asked: payments_pb2.Payment) -> Draft | PaymentStatus:
        ledger, payer = self._tariffs.ledger_of(asked.currency), normalised(asked.payer_msisdn)
        account = self._parties.account(ledger, "msisdn", payer)
        request = self.find(asked.original_payment_id or self.numbered(account, asked.pay_request_number))
        if request is None:
            return PaymentStatus.REQUEST_NOT_FOUND
        if request.currency != asked.currency:
            return PaymentStatus.CURRENCY_DIFFERS
        if not account:
            return PaymentStatus.PAYER_NOT_FOUND
        payee = self._parties.by_keys(ledger, _MERCHANT_KEYS, request.merchant)
        is_biller = self._parties.kind_of(payee) == AccountKind.PAYBILL
        terms = PAY_REQUEST_OF_BILLER if is_biller else PAY_REQUEST_OF_TILL
        number = _number(request.pay_request_id)
        draft = Draft(
            payment_id=payment_id,
            terms=terms,
            ledger=ledger,
            payer_account=account,
            payee_account=payee,
            amount_minor=request.amount_minor,
            reference=request.reference.encode(),
            content_hash=content_hash(
                terms.kind, payer, f"{number:032x}", asked.amount_minor, asked.currency, request.reference
            ),
            signer_account=account,
            special=Special(first_id=derived_id(number, "paid")),
            payee_name=self._parties.name_of(payee),
        )
        if payer != request.payer_msisdn:
            return PaymentStatus.REQUEST_NOT_FOUND  # somebody else's is told to nobody
        if asked.amount_minor not in (0, request.amount_minor):
            draft.refuse(PaymentStatus.PAYMENT_DIFFERS_FROM_REQUEST)
        problem = _PROBLEMS.get(self.state(request))
        if problem is not None:
            draft.refuse(problem)
        if account == payee:
            draft.refuse(PaymentStatus.PAYER_IS_PAYEE)
        return draft


_OF_HELD = {  # what an analyst's verdict made of it
    0: _State.PAY_REQUEST_STATE_HELD,
    kernel.POSTED: _State.PAY_REQUEST_STATE_PAID,
    kernel.VOIDED: _State.PAY_REQUEST_STATE_DECLINED,
    kernel.EXPIRED: _State.PAY_REQUEST_STATE_DECLINED,
}
_PROBLEMS = {
    _State.PAY_REQUEST_STATE_HELD: PaymentStatus.REQUEST_ALREADY_PAID,
    _State.PAY_REQUEST_STATE_PAID: PaymentStatus.REQUEST_ALREADY_PAID,
    _State.PAY_REQUEST_STATE_DECLINED: PaymentStatus.REQUEST_WAS_DECLINED,
    _State.PAY_REQUEST_STATE_EXPIRED: PaymentStatus.REQUEST_EXPIRED,
}


def problem_of(state: payments_pb2.PayRequestState.ValueType) -> PaymentStatus | None:
    """Why a request in this state can be neither paid nor declined."""
    return _PROBLEMS.get(state)


def _number(pay_request_id: bytes) -> int:
    return int.from_bytes(pay_request_id, "big")


def _put(number: int, kind: str, key: str, body: bytes, replaces: int) -> raft_pb2.Command:
    put = raft_pb2.PutDocument(kind=kind, key=key, body=body, author=AUTHOR, replaces_version=replaces)
    return raft_pb2.Command(request_id=number.to_bytes(16, "big"), put_document=put)
