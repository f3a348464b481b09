"""The Python client of a Kibubu cluster."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

from kibubu.config.v1 import config_pb2, config_pb2_grpc
from kibubu.feed.v1 import feed_pb2
from kibubu.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from kibubu.payments.v1 import payments_pb2, payments_pb2_grpc

from kibubu_client.batching import Batcher, DueBatcher
from kibubu_client.errors import InvalidRequestError, NotAppliedError, UnknownOutcomeError
from kibubu_client.feed import Feed
from kibubu_client.leader import ATTEMPT_S_MIN, PAUSE_S_MAX, PAUSE_S_MIN, LeaderCaller, TlsFiles
from kibubu_client.records import BATCH_TRANSFERS_MAX, TRANSFER, Records, chain_is_open, replies_from_bytes

PAYMENTS_IN_CALL_MAX = 512
TRANSFER_CALLS_IN_FLIGHT_MAX = 2
PAYMENT_CALLS_IN_FLIGHT_MAX = 4
READ_CALLS_IN_FLIGHT_MAX = 2  # of each kind
_INVALID_ARGUMENT, _DEADLINE_EXCEEDED, _RESOURCE_EXHAUSTED, _UNAVAILABLE = 3, 4, 8, 14
_SURELY_NOT = frozenset({_RESOURCE_EXHAUSTED, _UNAVAILABLE})

_Item = payments_pb2.MakePaymentsResponse.Item
_Quote = payments_pb2.QuotePaymentResponse


class Client:
    """Follows the leader, asks again with the same id, joins concurrent calls into batches.

    Needs a running event loop. Each method raises NotAppliedError, UnknownOutcomeError or InvalidRequestError; business
    refusals are statuses in the answer.
    """

    def __init__(self, addresses: Sequence[str], tls: TlsFiles, *, deadline_s: float = 10.0) -> None:
        self._leader = LeaderCaller(addresses, tls)
        self._deadline_s = deadline_s
        self._transfers = Batcher[bytes, Records](
            self._send_transfers, weight_max=BATCH_TRANSFERS_MAX, in_flight_max=TRANSFER_CALLS_IN_FLIGHT_MAX
        )
        self._payments = DueBatcher[payments_pb2.MakePaymentRequest, _Item](
            self._send_payments, weight_max=PAYMENTS_IN_CALL_MAX, in_flight_max=PAYMENT_CALLS_IN_FLIGHT_MAX
        )
        self._quotes = DueBatcher[payments_pb2.Payment, _Quote](
            self._send_quotes, weight_max=PAYMENTS_IN_CALL_MAX, in_flight_max=READ_CALLS_IN_FLIGHT_MAX
        )
        self._languages = DueBatcher[payments_pb2.GetLanguageRequest, str](
            self._send_languages, weight_max=PAYMENTS_IN_CALL_MAX, in_flight_max=READ_CALLS_IN_FLIGHT_MAX
        )

    async def __aenter__(self) -> Client:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def close(self) -> None:
        batchers = (self._transfers, self._payments, self._quotes, self._languages)
        await asyncio.gather(*(batcher.close() for batcher in batchers))
        await self._leader.close()

    # --- transfers --------------------------------------------------------------------------------------------------

    async def create_transfers(self, packed: bytes) -> Records:
        """One call, one batch: packed TRANSFER records in, REPLY records out, in order."""
        return await self._create(packed)

    async def transfer(self, packed: bytes) -> Records:
        """One transfer or one linked chain, packed; it shares its call with whatever else waits."""
        count, odd = divmod(len(packed), TRANSFER.itemsize)
        if odd or not 0 < count <= BATCH_TRANSFERS_MAX:
            raise InvalidRequestError(f"transfers: 1 to {BATCH_TRANSFERS_MAX} whole records, is {len(packed)} bytes")
        return await self._transfers.submit(packed, weight=count, ends_batch=chain_is_open(packed))

    async def _create(self, packed: bytes) -> Records:
        request = ledger_pb2.CreateTransfersPackedRequest(transfers=packed)
        response = await self._ledger("CreateTransfersPacked", request)
        return replies_from_bytes(response.replies)

    async def _send_transfers(self, batch: list[bytes]) -> list[Records]:
        replies = await self._create(b"".join(batch))
        answers, at = [], 0
        for packed in batch:
            count = len(packed) // TRANSFER.itemsize
            answers.append(replies[at : at + count])
            at += count
        return answers

    # --- payments ---------------------------------------------------------------------------------------------------

    async def pay(self, request: payments_pb2.MakePaymentRequest) -> payments_pb2.Outcome:
        """One person's payment; it shares its call with others. Asked again with its id until the outcome is known."""
        end_s = time.monotonic() + self._deadline_s
        pause_s, maybe_happened = PAUSE_S_MIN, False
        while True:
            try:
                item = await self._payments.submit(request, end_s)
                code, reason = item.error_code, item.error_message
            except (NotAppliedError, UnknownOutcomeError) as error:
                # Of the whole call: another payment in it may have had less time left than this one.
                code, reason = (
                    _DEADLINE_EXCEEDED if isinstance(error, UnknownOutcomeError) else _UNAVAILABLE,
                    str(error),
                )
            if not code:
                return item.outcome
            if code == _INVALID_ARGUMENT:
                raise InvalidRequestError(reason)
            maybe_happened |= code not in _SURELY_NOT
            if time.monotonic() + pause_s + ATTEMPT_S_MIN >= end_s:
                raise UnknownOutcomeError(reason) if maybe_happened else NotAppliedError(reason)
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_S_MAX)

    async def _send_payments(self, payments: list[payments_pb2.MakePaymentRequest], left_s: float) -> list[_Item]:
        request = payments_pb2.MakePaymentsRequest(payments=payments)
        response = await self._payment("MakePayments", request, left_s)
        return list(response.items)

    async def quote(self, payment: payments_pb2.Payment) -> _Quote:
        """It shares its call with others."""
        return await self._quotes.submit(payment, time.monotonic() + self._deadline_s)

    async def _send_quotes(self, payments: list[payments_pb2.Payment], left_s: float) -> list[_Quote]:
        request = payments_pb2.QuotePaymentsRequest(payments=payments)
        response = await self._payment("QuotePayments", request, left_s)
        return list(response.quotes)

    async def check_balance(self, request: payments_pb2.CheckBalanceRequest) -> payments_pb2.CheckBalanceResponse:
        response: payments_pb2.CheckBalanceResponse = await self._payment("CheckBalance", request)
        return response

    async def change_pin(self, request: payments_pb2.ChangePinRequest) -> payments_pb2.OwnAccountResponse:
        response: payments_pb2.OwnAccountResponse = await self._payment("ChangePin", request)
        return response

    async def block_account(self, request: payments_pb2.BlockAccountRequest) -> payments_pb2.OwnAccountResponse:
        response: payments_pb2.OwnAccountResponse = await self._payment("BlockAccount", request)
        return response

    async def lookup_payment(self, payment_id: bytes) -> payments_pb2.LookupPaymentResponse:
        response: payments_pb2.LookupPaymentResponse = await self._payment(
            "LookupPayment", payments_pb2.LookupPaymentRequest(payment_id=payment_id)
        )
        return response

    async def lookup_receipt(self, receipt: str) -> payments_pb2.LookupPaymentResponse:
        response: payments_pb2.LookupPaymentResponse = await self._payment(
            "LookupPayment", payments_pb2.LookupPaymentRequest(receipt=receipt)
        )
        return response

    async def set_language(self, request: payments_pb2.SetLanguageRequest) -> payments_pb2.SetLanguageResponse:
        response: payments_pb2.SetLanguageResponse = await self._payment("SetLanguage", request)
        return response

    async def language(self, msisdn: str, currency: str, *, deadline_s: float) -> str:
        """What the customer has chosen; "" = none, or no customer. It shares its call with others."""
        request = payments_pb2.GetLanguageRequest(msisdn=msisdn, currency=currency)
        return await self._languages.submit(request, time.monotonic() + deadline_s)

    async def _send_languages(self, customers: list[payments_pb2.GetLanguageRequest], left_s: float) -> list[str]:
        request = payments_pb2.GetLanguagesRequest(customers=customers)
        response = await self._payment("GetLanguages", request, left_s)
        return [one.language for one in response.languages]

    # --- the change feed --------------------------------------------------------------------------------------------

    def pages(self, position: int = 1, offset: int = 0, **wanted: bool) -> Feed:
        """The feed as its pages, which say how far they go and how far the node is; `wanted` as Feed takes it."""
        return Feed(self._leader.channels, position, offset, **wanted)

    async def feed(self, from_position: int = 1, from_offset: int = 0, **wanted: bool) -> AsyncIterator[feed_pb2.Event]:
        """Every event from there on, once, in order, and for ever: resume behind the last one that was taken in."""
        async for page in self.pages(from_position, from_offset, **wanted):
            for event in page.events:
                yield event

    async def request_payment(self, request: payments_pb2.RequestPaymentRequest) -> payments_pb2.RequestPaymentResponse:
        """A merchant asks a customer, who pays with PAYMENT_KIND_PAY_REQUEST; the same id again is the same request."""
        return await self._pay_request("RequestPayment", request)

    async def decline_pay_request(
        self, pay_request_id: bytes, msisdn: str, *, number: int = 0, currency: str = ""
    ) -> payments_pb2.RequestPaymentResponse:
        """Either by its id, or by the customer's number of it and the currency."""
        request = payments_pb2.DeclinePayRequestRequest(
            pay_request_id=pay_request_id, payer_msisdn=msisdn, number=number, currency=currency
        )
        return await self._pay_request("DeclinePayRequest", request)

    async def pay_request(self, pay_request_id: bytes) -> payments_pb2.RequestPaymentResponse:
        request = payments_pb2.GetPayRequestRequest(pay_request_id=pay_request_id)
        return await self._pay_request("GetPayRequest", request)

    async def waiting(self, msisdn: str, currency: str) -> payments_pb2.ListWaitingResponse:
        """What a customer has to decide: open requests, and reversals that have the customer's money reserved."""
        request = payments_pb2.ListWaitingRequest(msisdn=msisdn, currency=currency)
        response: payments_pb2.ListWaitingResponse = await self._leader.call(
            payments_pb2_grpc.PayRequestsServiceStub, "ListWaiting", request, self._deadline_s
        )
        return response

    async def _pay_request(self, method: str, request: Any) -> payments_pb2.RequestPaymentResponse:
        response: payments_pb2.RequestPaymentResponse = await self._leader.call(
            payments_pb2_grpc.PayRequestsServiceStub, method, request, self._deadline_s
        )
        return response

    # --- accounts and history ---------------------------------------------------------------------------------------

    async def create_accounts(self, request: ledger_pb2.CreateAccountsRequest) -> ledger_pb2.CreateAccountsResponse:
        response: ledger_pb2.CreateAccountsResponse = await self._ledger("CreateAccounts", request)
        return response

    async def update_accounts(self, request: ledger_pb2.UpdateAccountsRequest) -> ledger_pb2.UpdateAccountsResponse:
        response: ledger_pb2.UpdateAccountsResponse = await self._ledger("UpdateAccounts", request)
        return response

    async def lookup_accounts(self, request: ledger_pb2.LookupAccountsRequest) -> ledger_pb2.LookupAccountsResponse:
        response: ledger_pb2.LookupAccountsResponse = await self._ledger("LookupAccounts", request)
        return response

    async def lookup_transfers(self, ids: Sequence[bytes]) -> ledger_pb2.LookupTransfersResponse:
        response: ledger_pb2.LookupTransfersResponse = await self._ledger(
            "LookupTransfers", ledger_pb2.LookupTransfersRequest(ids=ids)
        )
        return response

    async def statement(self, request: ledger_pb2.GetStatementRequest) -> ledger_pb2.GetStatementResponse:
        response: ledger_pb2.GetStatementResponse = await self._ledger("GetStatement", request)
        return response

    async def balance_at(self, request: ledger_pb2.GetBalanceAtRequest) -> ledger_pb2.GetBalanceAtResponse:
        response: ledger_pb2.GetBalanceAtResponse = await self._ledger("GetBalanceAt", request)
        return response

    async def trial_balance(self, request: ledger_pb2.GetTrialBalanceRequest) -> ledger_pb2.GetTrialBalanceResponse:
        response: ledger_pb2.GetTrialBalanceResponse = await self._ledger("GetTrialBalance", request)
        return response

    # --- configuration ----------------------------------------------------------------------------------------------

    async def put_document(self, request: config_pb2.PutDocumentRequest) -> config_pb2.PutDocumentResponse:
        response: config_pb2.PutDocumentResponse = await self._config("PutDocument", request)
        return response

    async def get_document(self, request: config_pb2.GetDocumentRequest) -> config_pb2.GetDocumentResponse:
        response: config_pb2.GetDocumentResponse = await self._config("GetDocument", request)
        return response

    async def list_documents(self, request: config_pb2.ListDocumentsRequest) -> config_pb2.ListDocumentsResponse:
        response: config_pb2.ListDocumentsResponse = await self._config("ListDocuments", request)
        return response

    async def _config(self, method: str, request: Any) -> Any:
        return await self._leader.call(config_pb2_grpc.ConfigServiceStub, method, request, self._deadline_s)

    async def _ledger(self, method: str, request: Any) -> Any:
        return await self._leader.call(ledger_pb2_grpc.LedgerServiceStub, method, request, self._deadline_s)

    async def _payment(self, method: str, request: Any, deadline_s: float | None = None) -> Any:
        left_s = self._deadline_s if deadline_s is None else deadline_s
        return await self._leader.call(payments_pb2_grpc.PaymentsServiceStub, method, request, left_s)
