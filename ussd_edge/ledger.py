"""Puts the menu's questions to the ledger, under ids that a gateway's retry meets again."""

from __future__ import annotations

import hashlib

from kibubu.payments.v1 import payments_pb2

from kibubu_client import Client, InvalidRequestError, NotAppliedError, UnknownOutcomeError
from ussd_edge.menu.asks import (
    NOT_APPLIED,
    UNKNOWN,
    Answer,
    Ask,
    AskBalance,
    AskBlock,
    AskChangePin,
    AskForPayment,
    AskPay,
    AskQuote,
    AskRefuse,
    AskWaiting,
    Order,
    Recent,
    Waiting,
)


def step_id(gateway: str, session_id: str, msisdn: str, step: int, what: str) -> bytes:
    """16 bytes from where the PIN was typed and what it was for; the PIN itself is no part of it."""
    parts = "\x1f".join((gateway, session_id, msisdn, str(step), what))
    return hashlib.sha256(parts.encode()).digest()[:16]


class LedgerAnswers:
    """Answers for one session."""

    def __init__(self, client: Client, gateway: str, session_id: str, msisdn: str, currency: str) -> None:
        self._client = client
        self._gateway = gateway
        self._session_id = session_id
        self._msisdn = msisdn
        self._currency = currency

    async def answer(self, ask: Ask) -> Answer:
        try:
            if isinstance(ask, AskQuote):
                return await self._quote(ask)
            if isinstance(ask, AskPay):
                return await self._pay(ask)
            if isinstance(ask, AskBalance):
                return await self._balance(ask)
            if isinstance(ask, AskChangePin | AskBlock):
                return await self._own_account(ask)
            return await self._request(ask)
        except UnknownOutcomeError:
            return Answer(NOT_APPLIED if isinstance(ask, AskQuote | AskWaiting) else UNKNOWN)
        except (NotAppliedError, InvalidRequestError):
            return Answer(NOT_APPLIED)

    def _payment(self, order: Order, payment_id: bytes) -> payments_pb2.Payment:
        return payments_pb2.Payment(
            payment_id=payment_id,
            kind=payments_pb2.PaymentKind.ValueType(order.kind),
            payer_msisdn=self._msisdn,
            payee=order.payee,
            amount_minor=order.amount_minor,
            currency=self._currency,
            reference=order.reference,
            original_receipt=order.original,
            pay_request_number=order.request,
        )

    async def _quote(self, ask: AskQuote) -> Answer:
        quote = await self._client.quote(self._payment(ask.order, b""))
        return Answer(quote.status_name, quote.payee_name, fee_minor=quote.fee_minor, amount_minor=quote.amount_minor)

    async def _pay(self, ask: AskPay) -> Answer:
        order = ask.order
        payee = order.payee or order.original or (f"request {order.request}" if order.request else "")
        what = "\x1f".join((str(int(order.kind)), payee, str(order.amount_minor), order.reference))
        payment_id = step_id(self._gateway, self._session_id, self._msisdn, ask.step, what)
        payment = self._payment(order, payment_id)
        request = payments_pb2.MakePaymentRequest(payment=payment, pin=ask.pin, secret=order.secret)
        outcome = await self._client.pay(request)
        return Answer(
            outcome.status_name,
            payee_name=outcome.payee_name,
            fee_minor=outcome.fee_minor,
            balance_minor=outcome.payer_available_minor,
            tries_left=outcome.pin_tries_left,
            receipt=outcome.receipt,
            amount_minor=outcome.amount_minor,
            secret=outcome.voucher_secret,
        )

    async def _balance(self, ask: AskBalance) -> Answer:
        request = payments_pb2.CheckBalanceRequest(
            request_id=step_id(self._gateway, self._session_id, self._msisdn, ask.step, "balance"),
            msisdn=self._msisdn,
            currency=self._currency,
            pin=ask.pin,
            recent_max=ask.recent,
        )
        found = await self._client.check_balance(request)
        return Answer(
            found.status_name,
            balance_minor=found.balance_minor,
            available_minor=found.available_minor,
            tries_left=found.pin_tries_left,
            recent=tuple(Recent(one.timestamp_ns, one.amount_minor, one.other_name) for one in found.recent),
        )

    async def _own_account(self, ask: AskChangePin | AskBlock) -> Answer:
        number = self._msisdn if isinstance(ask, AskChangePin) else ask.number
        what = "change PIN" if isinstance(ask, AskChangePin) else f"block {number}"
        request_id = step_id(self._gateway, self._session_id, self._msisdn, ask.step, what)
        if isinstance(ask, AskChangePin):
            told = await self._client.change_pin(
                payments_pb2.ChangePinRequest(
                    request_id=request_id, msisdn=number, currency=self._currency, pin=ask.pin, new_pin=ask.new_pin
                )
            )
        else:
            told = await self._client.block_account(
                payments_pb2.BlockAccountRequest(
                    request_id=request_id, msisdn=number, currency=self._currency, pin=ask.pin
                )
            )
        return Answer(told.status_name, tries_left=told.pin_tries_left)

    async def _request(self, ask: AskWaiting | AskRefuse | AskForPayment) -> Answer:
        if isinstance(ask, AskWaiting):
            found = await self._client.waiting(self._msisdn, self._currency)
            newest_first = reversed(found.requests)
            waiting = tuple(Waiting(one.number, one.merchant_name, one.amount_minor) for one in newest_first)
            return Answer("ok", waiting=waiting)
        if isinstance(ask, AskRefuse):
            refused = await self._client.decline_pay_request(
                b"", self._msisdn, number=ask.request, currency=self._currency
            )
            return Answer(refused.status_name)
        what = f"ask {ask.payer} {ask.amount_minor}"
        request = payments_pb2.RequestPaymentRequest(
            pay_request_id=step_id(self._gateway, self._session_id, self._msisdn, ask.step, what),
            merchant_msisdn=self._msisdn,
            payer_msisdn=ask.payer,
            amount_minor=ask.amount_minor,
            currency=self._currency,
        )
        status = (await self._client.request_payment(request)).status_name
        return Answer("payer_is_no_merchant" if status == "payee_not_found" else status)
