"""ReviewService: an analyst releases or refuses what the fraud check has held; the verdict goes through the log."""

from __future__ import annotations

from typing import Any

from kibubu.review.v1 import review_pb2, review_pb2_grpc

from node.ledger.records import OutcomeFlag, TransferFlag
from node.ledger.statuses import PaymentStatus, Status, TransferCode
from node.service.admission import Admission
from node.service.auth import person_of
from node.service.codec import id_from_bytes, status_name
from node.service.errors import InvalidRequestError
from node.service.guard import Guard
from node.service.limits import ANALYST_BYTES_MAX, REVIEW_COMMENT_BYTES_MAX, REVIEW_PAGE_DEFAULT, REVIEW_PAGE_MAX
from node.service.payment_book import PaymentBook
from node.service.payment_desk import PaymentDesk
from node.service.payment_outcomes import refusal
from node.service.payment_reversals import pack_end
from node.service.reads import ReadBarrier
from node.service.review_book import ReviewBook, maker_of
from node.service.review_desk import ReviewDesk
from node.service.review_labels import LabelBook
from node.service.review_opinions import REFUSE, RELEASE, Opinion
from node.storage.held_chains import HeldChain

_DONE = {
    review_pb2.VERDICT_RELEASE: review_pb2.REVIEW_STATE_RELEASED,
    review_pb2.VERDICT_REFUSE: review_pb2.REVIEW_STATE_REFUSED,
}
_VERDICTS = {review_pb2.VERDICT_RELEASE: RELEASE, review_pb2.VERDICT_REFUSE: REFUSE}


class ReviewServicer(review_pb2_grpc.ReviewServiceServicer):
    def __init__(
        self,
        book: ReviewBook,
        admission: Admission,
        barrier: ReadBarrier,
        guard: Guard,
        payments: PaymentBook,
        desk: PaymentDesk,
        decider: ReviewDesk,
        labels: LabelBook,
    ) -> None:
        self._book = book
        self._labels = labels
        self._decider = decider
        self._payments = payments
        self._desk = desk
        self._admission = admission
        self._barrier = barrier
        self._guard = guard

    async def ListHeldPayments(  # noqa: N802
        self, request: review_pb2.ListHeldPaymentsRequest, context: Any
    ) -> review_pb2.ListHeldPaymentsResponse:
        async with self._guard.call("ListHeldPayments", context):
            if request.page_size > REVIEW_PAGE_MAX:
                raise InvalidRequestError(f"page_size: at most {REVIEW_PAGE_MAX}, is {request.page_size}")
            await self._barrier()
            payments, total = self._book.waiting(request.page_size or REVIEW_PAGE_DEFAULT)
            return review_pb2.ListHeldPaymentsResponse(payments=payments, waiting_total=total)

    async def GetHeldPayment(  # noqa: N802
        self, request: review_pb2.GetHeldPaymentRequest, context: Any
    ) -> review_pb2.GetHeldPaymentResponse:
        async with self._guard.call("GetHeldPayment", context):
            payment_id = id_from_bytes(request.payment_id, "payment_id")
            await self._barrier()
            stored = self._book.held(payment_id)
            if stored is None:
                return review_pb2.GetHeldPaymentResponse(found=False)
            payer, payee = self._book.parties(stored)
            return review_pb2.GetHeldPaymentResponse(
                found=True,
                payment=self._book.describe(stored),
                payer_history=self._book.history(payer),
                payee_history=self._book.history(payee),
                links=self._book.links(stored),
            )

    async def DecideHeldPayment(  # noqa: N802
        self, request: review_pb2.DecideHeldPaymentRequest, context: Any
    ) -> review_pb2.DecideHeldPaymentResponse:
        async with self._guard.call("DecideHeldPayment", context, leader_only=True):
            payment_id = id_from_bytes(request.payment_id, "payment_id")
            if request.verdict not in _DONE:
                raise InvalidRequestError("verdict: must be release or refuse")
            analyst = _name(request.analyst, "analyst").decode()
            await self._barrier()
            stored = self._book.held(payment_id)
            if stored is None:
                raise InvalidRequestError("payment_id: no held payment has this id")
            if isinstance(stored, HeldChain):
                payment_id = stored.ids[0]  # any member leads here, and opinions are counted of the whole
            waits = self._book.state(stored) == review_pb2.REVIEW_STATE_WAITING
            opinion = Opinion(analyst, _VERDICTS[request.verdict], _comment(request.comment))
            decided = await self._decider.decide(stored, payment_id, opinion, waits=waits)
            if decided.reply is None:
                return review_pb2.DecideHeldPaymentResponse(
                    status_name=status_name(Status.OK),
                    state=review_pb2.REVIEW_STATE_WAITING,
                    analysts_missing=decided.missing,
                )
            first = decided.reply
            status = Status(int(first["status"]))
            return review_pb2.DecideHeldPaymentResponse(
                status=status,
                status_name=status_name(status),
                state=_DONE[request.verdict] if status is Status.OK else self._book.state(stored),
                duplicate=bool(int(first["flags"]) & OutcomeFlag.DUPLICATE),
                position=int(first["position"]),
            )

    async def ListLabels(  # noqa: N802
        self, request: review_pb2.ListLabelsRequest, context: Any
    ) -> review_pb2.ListLabelsResponse:
        async with self._guard.call("ListLabels", context):
            if request.page_size > REVIEW_PAGE_MAX:
                raise InvalidRequestError(f"page_size: at most {REVIEW_PAGE_MAX}, is {request.page_size}")
            await self._barrier()
            try:
                labels, token = self._labels.page(
                    request.page_token, request.page_size or REVIEW_PAGE_DEFAULT, request.until_ns
                )
            except ValueError as error:
                raise InvalidRequestError(str(error)) from error
            return review_pb2.ListLabelsResponse(labels=labels, next_page_token=token)

    async def ListReversals(  # noqa: N802
        self, request: review_pb2.ListReversalsRequest, context: Any
    ) -> review_pb2.ListReversalsResponse:
        async with self._guard.call("ListReversals", context):
            if request.page_size > REVIEW_PAGE_MAX:
                raise InvalidRequestError(f"page_size: at most {REVIEW_PAGE_MAX}, is {request.page_size}")
            await self._barrier()
            reversals, total = self._book.reversals(request.page_size or REVIEW_PAGE_DEFAULT)
            return review_pb2.ListReversalsResponse(reversals=reversals, waiting_total=total)

    async def ProposeReversal(  # noqa: N802
        self, request: review_pb2.ProposeReversalRequest, context: Any
    ) -> review_pb2.ProposeReversalResponse:
        async with self._guard.call("ProposeReversal", context, leader_only=True):
            payment_id = id_from_bytes(request.payment_id, "payment_id")
            original_id = id_from_bytes(request.original_payment_id, "original_payment_id")
            maker = _person(request.maker, "maker", context)
            if not payment_id:
                raise InvalidRequestError("payment_id: must not be zero")
            draft = self._payments.reversals.propose(
                payment_id, original_id, request.amount_minor, maker, return_fee=request.return_fee
            )
            if isinstance(draft, PaymentStatus):
                return review_pb2.ProposeReversalResponse(outcome=refusal(draft))
            return review_pb2.ProposeReversalResponse(outcome=await self._desk.decide(draft, ""))

    async def DecideReversal(  # noqa: N802
        self, request: review_pb2.DecideReversalRequest, context: Any
    ) -> review_pb2.DecideReversalResponse:
        async with self._guard.call("DecideReversal", context, leader_only=True):
            payment_id = id_from_bytes(request.payment_id, "payment_id")
            if request.verdict not in _DONE:
                raise InvalidRequestError("verdict: must be release or refuse")
            approver = _person(request.approver, "approver", context)
            await self._barrier()
            stored = self._book.reversal(payment_id)
            if stored is None:
                raise InvalidRequestError("payment_id: no reversal that reserved money has this id")
            if approver == maker_of(stored):
                raise InvalidRequestError("approver: must not be who proposed the reversal")
            release = request.verdict == review_pb2.VERDICT_RELEASE
            end = TransferFlag.POST if release else TransferFlag.VOID
            narrative = (b"approve:" if release else b"refuse:") + approver
            applied = await self._admission.submit(
                transfers=pack_end(stored, narrative, end, TransferCode.REVERSAL_END)
            )
            first = applied.replies[0]
            status = Status(int(first["status"]))
            return review_pb2.DecideReversalResponse(
                status=status,
                status_name=status_name(status),
                state=_DONE[request.verdict] if status is Status.OK else self._book.state(stored),
                duplicate=bool(int(first["flags"]) & OutcomeFlag.DUPLICATE),
                position=int(first["position"]),
            )


def _person(name: str, field: str, context: Any) -> bytes:
    """Who calls, as the certificate proves it; a name that is given besides must be the same."""
    proven = person_of(context.auth_context())
    if proven and name not in ("", proven):
        raise InvalidRequestError(f"{field}: must be the name in the caller's certificate, {proven}, or empty")
    return _name(proven or name, field)


def _name(name: str, field: str) -> bytes:
    raw = name.encode()
    if not 1 <= len(raw) <= ANALYST_BYTES_MAX or not name.isprintable() or not name.strip():
        raise InvalidRequestError(f"{field}: must be 1 to {ANALYST_BYTES_MAX} printable bytes")
    return raw


def _comment(comment: str) -> str:
    if len(comment.encode()) > REVIEW_COMMENT_BYTES_MAX:
        raise InvalidRequestError(f"comment: at most {REVIEW_COMMENT_BYTES_MAX} bytes, is {len(comment.encode())}")
    return comment
