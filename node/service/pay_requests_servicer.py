"""PayRequestsService: merchants ask customers to pay; what waits for a customer; a customer declines."""

from __future__ import annotations

from typing import Any

from kibubu.payments.v1 import payments_pb2, payments_pb2_grpc

from node.ledger.statuses import CommandStatus, PaymentStatus, TransferCode
from node.payments.gsma import gsma_error
from node.service.admission import Admission
from node.service.codec import id_from_bytes
from node.service.errors import InvalidRequestError, NotAppliedError, QueueFullError
from node.service.guard import Guard
from node.service.pay_requests import EXPIRE_S_MAX, EXPIRE_S_MIN, OPEN_REQUESTS_MAX, problem_of
from node.service.payment_book import PaymentBook
from node.service.payment_past import id_of, reference_as_id
from node.service.payment_reversals import RESERVED_S
from node.service.reads import ReadBarrier
from node.storage.ledger_store import LedgerStore

_Response = payments_pb2.RequestPaymentResponse
_APPLIED = (CommandStatus.OK, CommandStatus.EXISTS)
REVERSALS_SHOWN_MAX = 10


class PayRequestsServicer(payments_pb2_grpc.PayRequestsServiceServicer):
    def __init__(
        self, store: LedgerStore, book: PaymentBook, admission: Admission, barrier: ReadBarrier, guard: Guard
    ) -> None:
        self._store = store
        self._book = book
        self._requests = book.requests
        self._admission = admission
        self._barrier = barrier
        self._guard = guard
        self._busy: set[int] = set()  # customers whose list is being written

    async def RequestPayment(  # noqa: N802
        self, request: payments_pb2.RequestPaymentRequest, context: Any
    ) -> payments_pb2.RequestPaymentResponse:
        async with self._guard.call("RequestPayment", context, leader_only=True):
            id_from_bytes(request.pay_request_id, "pay_request_id")
            if request.expire_s and not EXPIRE_S_MIN <= request.expire_s <= EXPIRE_S_MAX:
                raise InvalidRequestError(f"expire_s: {EXPIRE_S_MIN} to {EXPIRE_S_MAX}, is {request.expire_s}")
            await self._barrier()
            return await self._ask(request)

    async def _ask(self, request: payments_pb2.RequestPaymentRequest) -> _Response:
        new = self._requests.checked(request)
        if isinstance(new, PaymentStatus):
            return _told(new)
        before = self._requests.find(request.pay_request_id)
        account = self._requests.account_of(new)
        if before is not None:
            new.ask_time_ns, new.expire_time_ns, new.number = before.ask_time_ns, before.expire_time_ns, before.number
            if before != new:
                return _told(PaymentStatus.PAYMENT_ID_USED_FOR_ANOTHER_PAYMENT)
            state, is_open = self._requests.state(before), payments_pb2.PAY_REQUEST_STATE_OPEN
            if state != is_open or before in self._requests.open_of(account):
                return _told(PaymentStatus.OK, before, state=state, duplicate=True)
        if account in self._busy:
            raise QueueFullError("another request to this customer is being written; nothing was applied")
        if len(self._requests.open_of(account)) >= OPEN_REQUESTS_MAX:
            raise QueueFullError(f"payer_msisdn: has {OPEN_REQUESTS_MAX} open requests; nothing was applied")
        self._busy.add(account)
        try:
            asked, listed = (await self._admission.submit(commands=self._requests.commands(new, account))).commands
        finally:
            self._busy.discard(account)
        if asked.status not in _APPLIED or listed.status not in _APPLIED:
            # Another leader's request came between; what of this one is there is found, and listed, by the next try.
            raise NotAppliedError("another request to this customer came between; ask again with the same id")
        return _told(PaymentStatus.OK, new, position=asked.position)

    async def DeclinePayRequest(  # noqa: N802
        self, request: payments_pb2.DeclinePayRequestRequest, context: Any
    ) -> payments_pb2.RequestPaymentResponse:
        async with self._guard.call("DeclinePayRequest", context, leader_only=True):
            if not request.number:
                id_from_bytes(request.pay_request_id, "pay_request_id")
            await self._barrier()
            found = self._declined(request)
            account = self._book.customer(found.currency, request.payer_msisdn) if found is not None else 0
            if found is None or account != self._requests.account_of(found):
                return _told(PaymentStatus.REQUEST_NOT_FOUND)
            state = self._requests.state(found)
            problem = problem_of(state)
            if problem is not None and problem is not PaymentStatus.REQUEST_WAS_DECLINED:
                return _told(problem, found, state=state)
            (outcome,) = (await self._admission.submit(commands=[self._requests.decline(found)])).commands
            state = payments_pb2.PAY_REQUEST_STATE_DECLINED
            return _told(PaymentStatus.OK, found, state=state, position=outcome.position)

    def _declined(self, request: payments_pb2.DeclinePayRequestRequest) -> payments_pb2.PayRequest | None:
        if not request.number:
            return self._requests.find(request.pay_request_id)
        account = self._book.customer(request.currency, request.payer_msisdn)
        return self._requests.find(self._requests.numbered(account, request.number))

    async def GetPayRequest(  # noqa: N802
        self, request: payments_pb2.GetPayRequestRequest, context: Any
    ) -> payments_pb2.RequestPaymentResponse:
        async with self._guard.call("GetPayRequest", context):
            id_from_bytes(request.pay_request_id, "pay_request_id")
            await self._barrier()
            found = self._requests.find(request.pay_request_id)
            if found is None:
                return _told(PaymentStatus.REQUEST_NOT_FOUND)
            return _told(PaymentStatus.OK, found, state=self._requests.state(found))

    async def ListWaiting(  # noqa: N802
        self, request: payments_pb2.ListWaitingRequest, context: Any
    ) -> payments_pb2.ListWaitingResponse:
        """What a customer has to decide; without the PIN, as a phone shows what has come by SMS."""
        async with self._guard.call("ListWaiting", context):
            await self._barrier()
            account = self._book.customer(request.currency, request.msisdn)
            if not account:
                return payments_pb2.ListWaitingResponse()
            requests = self._requests.open_of(account)
            for one in requests:
                one.merchant_name = self._book.merchant_name(one)
            return payments_pb2.ListWaitingResponse(requests=requests, reversals=self._reversals(account))

    def _reversals(self, account: int) -> list[payments_pb2.WaitingReversal]:
        """Those that have this customer's money reserved, oldest first."""
        found: list[payments_pb2.WaitingReversal] = []
        for reference in self._store.waiting_references((TransferCode.REVERSAL,), debit_account=account):
            record = self._store.transfer_at(reference).record
            stored = self._book.past.payment(int(record["group_id_hi"]) << 64 | int(record["group_id_lo"]))
            if stored is None or len(found) >= REVERSALS_SHOWN_MAX:
                continue
            reversal = payments_pb2.WaitingReversal(
                payment_id=id_of(stored).to_bytes(16, "big"),
                original_payment_id=reference_as_id(stored.record["reference"]),
                amount_minor=int(stored.record["amount_minor"]),
                payer_name=self._book.name_of(int(stored.record["payee_account"])),
                expire_time_ns=stored.timestamp_ns + RESERVED_S * 1_000_000_000,
            )
            found.append(reversal)
        return found


def _told(
    status: PaymentStatus, request: payments_pb2.PayRequest | None = None, *, position: int = 0,
    state: payments_pb2.PayRequestState.ValueType = payments_pb2.PAY_REQUEST_STATE_OPEN, duplicate: bool = False,
) -> _Response:  # fmt: skip
    error = gsma_error(status)
    response = _Response(
        status=status, status_name=status.name.lower(), gsma_category=error.category, gsma_code=error.code,
        position=position, duplicate=duplicate,
    )  # fmt: skip
    if request is not None:
        response.request.CopyFrom(request)
        response.state = state
    return response
