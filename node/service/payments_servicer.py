"""PaymentsService: what the USSD edge and operators call. Quotes read, payments go through the desk."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from kibubu.payments.v1 import payments_pb2, payments_pb2_grpc
from kibubu.raft.v1 import raft_pb2

from node.ledger.columns import Column
from node.ledger.statuses import CommandStatus, PaymentStatus
from node.payments import pin as pin_rules
from node.payments.receipts import place_of
from node.service.admission import Admission
from node.service.codec import id_from_bytes
from node.service.errors import InvalidRequestError, ServiceError
from node.service.guard import Guard
from node.service.limits import PAYMENTS_IN_CALL_MAX, RECENT_PAYMENTS_MAX
from node.service.payment_book import PaymentBook
from node.service.payment_desk import PaymentDesk
from node.service.payment_drafts import Draft
from node.service.payment_outcomes import refusal
from node.service.reads import ReadBarrier

_Item = payments_pb2.MakePaymentsResponse.Item


class PaymentsServicer(payments_pb2_grpc.PaymentsServiceServicer):
    def __init__(
        self,
        book: PaymentBook,
        desk: PaymentDesk,
        barrier: ReadBarrier,
        guard: Guard,
        admission: Admission,
        pin_key: bytes,
    ) -> None:
        self._pin_key = pin_key
        self._book = book
        self._desk = desk
        self._admission = admission
        self._barrier = barrier
        self._guard = guard

    async def QuotePayment(  # noqa: N802
        self, request: payments_pb2.QuotePaymentRequest, context: Any
    ) -> payments_pb2.QuotePaymentResponse:
        async with self._guard.call("QuotePayment", context):
            await self._barrier()
            return await self._quoted(request.payment)

    async def QuotePayments(  # noqa: N802
        self, request: payments_pb2.QuotePaymentsRequest, context: Any
    ) -> payments_pb2.QuotePaymentsResponse:
        async with self._guard.call("QuotePayments", context):
            _check_count("payments", len(request.payments))
            await self._barrier()
            return payments_pb2.QuotePaymentsResponse(quotes=[await self._quoted(one) for one in request.payments])

    async def _quoted(self, payment: payments_pb2.Payment) -> payments_pb2.QuotePaymentResponse:
        if payment.original_receipt:
            payment = (await self._with_original(payments_pb2.MakePaymentRequest(payment=payment))).payment
        return self._book.quote(payment)

    async def MakePayment(  # noqa: N802
        self, request: payments_pb2.MakePaymentRequest, context: Any
    ) -> payments_pb2.MakePaymentResponse:
        async with self._guard.call("MakePayment", context, leader_only=True):
            return payments_pb2.MakePaymentResponse(outcome=await self._pay(request))

    async def MakePayments(  # noqa: N802
        self, request: payments_pb2.MakePaymentsRequest, context: Any
    ) -> payments_pb2.MakePaymentsResponse:
        async with self._guard.call("MakePayments", context, leader_only=True):
            _check_count("payments", len(request.payments))
            return payments_pb2.MakePaymentsResponse(items=await self._pay_all(request.payments))

    async def _pay_all(self, requests: Sequence[payments_pb2.MakePaymentRequest]) -> list[_Item]:
        if any(request.payment.original_receipt for request in requests):
            requests = [await self._with_original(request) for request in requests]
        items: list[_Item | None] = [None] * len(requests)
        asks: list[tuple[Draft, str]] = []
        places: list[int] = []
        for place, request in enumerate(requests):
            try:
                draft = self._draft(request)
            except InvalidRequestError as error:
                items[place] = _failed(error)
                continue
            if isinstance(draft, PaymentStatus):
                items[place] = _Item(outcome=refusal(draft))
                continue
            asks.append((draft, request.pin))
            places.append(place)
        for place, result in zip(places, await self._desk.decide_all(asks), strict=True):
            items[place] = _failed(result) if isinstance(result, ServiceError) else _Item(outcome=result)
        return [item for item in items if item is not None]

    async def _pay(self, request: payments_pb2.MakePaymentRequest) -> payments_pb2.Outcome:
        draft = self._draft(await self._with_original(request))
        if isinstance(draft, PaymentStatus):
            return refusal(draft)
        return await self._desk.decide(draft, request.pin)

    async def _with_original(self, request: payments_pb2.MakePaymentRequest) -> payments_pb2.MakePaymentRequest:
        """The payment that a receipt names, by its id; a receipt of none leaves the id empty."""
        receipt = request.payment.original_receipt.strip().upper()
        if not receipt or request.payment.original_payment_id:
            return request
        resolved = payments_pb2.MakePaymentRequest()
        resolved.CopyFrom(request)
        place = place_of(receipt)
        if place is not None:
            found = await asyncio.to_thread(self._book.lookup_receipt, place, receipt)
            resolved.payment.original_payment_id = found.payment.payment_id
        return resolved

    def _draft(self, request: payments_pb2.MakePaymentRequest) -> Draft | PaymentStatus:
        payment_id = id_from_bytes(request.payment.payment_id, "payment.payment_id")
        return self._book.draft(payment_id, request.payment, request.secret)

    async def LookupPayment(  # noqa: N802
        self, request: payments_pb2.LookupPaymentRequest, context: Any
    ) -> payments_pb2.LookupPaymentResponse:
        async with self._guard.call("LookupPayment", context):
            if bool(request.payment_id) == bool(request.receipt):
                raise InvalidRequestError("payment_id: either it or receipt, and not both")
            place = place_of(request.receipt) if request.receipt else None
            if request.receipt and place is None:
                raise InvalidRequestError("receipt: ten letters and digits, the first three a day")
            payment_id = id_from_bytes(request.payment_id, "payment_id") if place is None else 0
            await self._barrier()
            if place is not None:
                return await asyncio.to_thread(self._book.lookup_receipt, place, request.receipt.strip().upper())
            return self._book.lookup(payment_id)

    async def CheckBalance(  # noqa: N802
        self, request: payments_pb2.CheckBalanceRequest, context: Any
    ) -> payments_pb2.CheckBalanceResponse:
        async with self._guard.call("CheckBalance", context, leader_only=True):
            request_id = id_from_bytes(request.request_id, "request_id")
            draft = self._book.balance_draft(request_id, request.msisdn, request.currency)
            if isinstance(draft, PaymentStatus):
                return payments_pb2.CheckBalanceResponse(status=draft, status_name=draft.name.lower())
            outcome = await self._desk.decide(draft, request.pin)
            response = payments_pb2.CheckBalanceResponse(
                status=outcome.status, status_name=outcome.status_name, pin_tries_left=outcome.pin_tries_left
            )
            if outcome.status == PaymentStatus.OK:
                response.as_of_position = await self._barrier()
                row = self._book.columns[draft.payer_account].copy()
                response.balance_minor = int(row[Column.CREDITS_POSTED] - row[Column.DEBITS_POSTED])
                response.available_minor = response.balance_minor - int(row[Column.DEBITS_PENDING])
                response.name = self._book.name_of(draft.payer_account)
                response.recent.extend(
                    self._book.recent(draft.payer_account, min(request.recent_max, RECENT_PAYMENTS_MAX))
                )
            return response

    async def ChangePin(  # noqa: N802
        self, request: payments_pb2.ChangePinRequest, context: Any
    ) -> payments_pb2.OwnAccountResponse:
        async with self._guard.call("ChangePin", context, leader_only=True):
            account = self._book.customer(request.currency, request.msisdn)
            change = raft_pb2.SetPinVerifier(pin_verifier=pin_rules.verifier(self._pin_key, account, request.new_pin))
            problem = PaymentStatus.OK
            if pin_rules.problem_with(request.new_pin):
                problem = PaymentStatus.NEW_PIN_TOO_EASY
            elif request.new_pin == request.pin:
                problem = PaymentStatus.NEW_PIN_IS_THE_OLD_ONE
            return await self._own_account(request, raft_pb2.Command(set_pin_verifier=change), problem)

    async def BlockAccount(  # noqa: N802
        self, request: payments_pb2.BlockAccountRequest, context: Any
    ) -> payments_pb2.OwnAccountResponse:
        async with self._guard.call("BlockAccount", context, leader_only=True):
            command = raft_pb2.Command(block_account=raft_pb2.BlockAccount())
            return await self._own_account(request, command, PaymentStatus.OK)

    async def _own_account(
        self,
        request: payments_pb2.ChangePinRequest | payments_pb2.BlockAccountRequest,
        command: raft_pb2.Command,
        problem: PaymentStatus,
    ) -> payments_pb2.OwnAccountResponse:
        request_id = id_from_bytes(request.request_id, "request_id")
        command.request_id = request.request_id
        draft = self._book.own_account_draft(request_id, request.msisdn, request.currency, command, problem)
        if isinstance(draft, PaymentStatus):
            return payments_pb2.OwnAccountResponse(status=draft, status_name=draft.name.lower())
        outcome = await self._desk.decide(draft, request.pin)
        return payments_pb2.OwnAccountResponse(
            status=outcome.status,
            status_name=outcome.status_name,
            pin_tries_left=outcome.pin_tries_left,
            position=outcome.position,
        )

    async def SetLanguage(  # noqa: N802
        self, request: payments_pb2.SetLanguageRequest, context: Any
    ) -> payments_pb2.SetLanguageResponse:
        async with self._guard.call("SetLanguage", context, leader_only=True):
            id_from_bytes(request.request_id, "request_id")
            account = self._book.customer(request.currency, request.msisdn)
            if not account:
                status = PaymentStatus.PAYER_NOT_FOUND
                return payments_pb2.SetLanguageResponse(status=status, status_name=status.name.lower())
            change = raft_pb2.SetLanguage(account_number=account, language=request.language)
            command = raft_pb2.Command(request_id=request.request_id, set_language=change)
            (outcome,) = (await self._admission.submit(commands=[command])).commands
            status = _OF_COMMAND.get(CommandStatus(outcome.status), PaymentStatus.OK)
            return payments_pb2.SetLanguageResponse(
                status=status, status_name=status.name.lower(), position=outcome.position
            )

    async def GetLanguage(  # noqa: N802
        self, request: payments_pb2.GetLanguageRequest, context: Any
    ) -> payments_pb2.GetLanguageResponse:
        async with self._guard.call("GetLanguage", context):  # without a barrier: asked often, and no money in it
            return self._language(request)

    async def GetLanguages(  # noqa: N802
        self, request: payments_pb2.GetLanguagesRequest, context: Any
    ) -> payments_pb2.GetLanguagesResponse:
        async with self._guard.call("GetLanguages", context):
            _check_count("customers", len(request.customers))
            return payments_pb2.GetLanguagesResponse(languages=[self._language(one) for one in request.customers])

    def _language(self, customer: payments_pb2.GetLanguageRequest) -> payments_pb2.GetLanguageResponse:
        account = self._book.customer(customer.currency, customer.msisdn)
        return payments_pb2.GetLanguageResponse(language=self._book.language_of(account))


_OF_COMMAND = {
    CommandStatus.LANGUAGE_MALFORMED: PaymentStatus.LANGUAGE_MALFORMED,
    CommandStatus.ACCOUNT_CLOSED: PaymentStatus.PAYER_CLOSED,
    CommandStatus.REQUEST_ID_MUST_NOT_BE_ZERO: PaymentStatus.PAYMENT_ID_MUST_NOT_BE_ZERO,
    CommandStatus.REQUEST_ID_USED_FOR_ANOTHER_REQUEST: PaymentStatus.PAYMENT_ID_USED_FOR_ANOTHER_PAYMENT,
}


def _check_count(field: str, count: int) -> None:
    if count > PAYMENTS_IN_CALL_MAX:
        raise InvalidRequestError(f"{field}: at most {PAYMENTS_IN_CALL_MAX} in one call, is {count}")


def _failed(error: ServiceError) -> _Item:
    code: int = error.code.value[0]
    return _Item(error_code=code, error_message=str(error))
