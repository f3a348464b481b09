"""BulkService: batches are submitted, decided by another person, and paid row by row, each row once."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

from kibubu.bulk.v1 import bulk_pb2, bulk_pb2_grpc
from kibubu.payments.v1 import payments_pb2
from kibubu.raft.v1 import raft_pb2

from node.ledger.columns import Column
from node.ledger.statuses import CommandStatus, PaymentStatus
from node.service.admission import Admission
from node.service.auth import person_of
from node.service.bulk_book import BulkBook, Stored, commands_of, decision_command, problems_of
from node.service.errors import InvalidRequestError, ServiceError
from node.service.guard import Guard
from node.service.limits import BULK_LIST_DEFAULT, BULK_LIST_MAX, BULK_PAY_ROWS_MAX, BULK_SHOW_ROWS_MAX
from node.service.payment_book import PaymentBook
from node.service.payment_desk import PaymentDesk
from node.service.payment_drafts import Draft
from node.service.payment_outcomes import refusal
from node.service.reads import ReadBarrier

_OK = bulk_pb2.BULK_STATUS_OK
_NOT_FOUND = bulk_pb2.BULK_STATUS_BATCH_NOT_FOUND
_APPLIED = (CommandStatus.OK, CommandStatus.EXISTS)


class BulkServicer(bulk_pb2_grpc.BulkServiceServicer):
    def __init__(
        self, bulk: BulkBook, book: PaymentBook, desk: PaymentDesk, admission: Admission, barrier: ReadBarrier,
        guard: Guard,
    ) -> None:  # fmt: skip
        self._bulk = bulk
        self._book = book
        self._desk = desk
        self._admission = admission
        self._barrier = barrier
        self._guard = guard

    async def SubmitBatch(  # noqa: N802
        self, request: bulk_pb2.SubmitBatchRequest, context: Any
    ) -> bulk_pb2.SubmitBatchResponse:
        async with self._guard.call("SubmitBatch", context, leader_only=True):
            problems = problems_of(request) or self._unknown_payer(request)
            if problems:
                status = bulk_pb2.BULK_STATUS_ROWS_BREAK_RULES
                return bulk_pb2.SubmitBatchResponse(status=status, problems=problems)
            maker = person_of(context.auth_context())
            for command in commands_of(request, maker):
                if not await self._put(command):
                    status = bulk_pb2.BULK_STATUS_BATCH_ID_USED_FOR_ANOTHER_BATCH
                    return bulk_pb2.SubmitBatchResponse(status=status)
            stored = self._bulk.find(request.batch_id)
            return bulk_pb2.SubmitBatchResponse(status=_OK, batch=stored.batch if stored is not None else None)

    def _unknown_payer(self, request: bulk_pb2.SubmitBatchRequest) -> Sequence[bulk_pb2.Problem]:
        if not self._book.ledger_of(request.currency):
            return [bulk_pb2.Problem(field="currency", rule="must be one that there is a tariff for")]
        key, _, value = request.payer.partition(":")
        if self._book.parties.account(self._book.ledger_of(request.currency), key, value):
            return ()
        return [bulk_pb2.Problem(field="payer", rule="no account has this number")]

    async def _put(self, command: raft_pb2.Command) -> bool:
        (outcome,) = (await self._admission.submit(commands=[command])).commands
        return outcome.status in _APPLIED

    async def DecideBatch(  # noqa: N802
        self, request: bulk_pb2.DecideBatchRequest, context: Any
    ) -> bulk_pb2.DecideBatchResponse:
        async with self._guard.call("DecideBatch", context, leader_only=True):
            stored = self._bulk.find(request.batch_id)
            if stored is None:
                return bulk_pb2.DecideBatchResponse(status=_NOT_FOUND)
            checker = person_of(context.auth_context())
            if request.digest != stored.batch.digest:
                status = bulk_pb2.BULK_STATUS_DIGEST_DIFFERS
                return bulk_pb2.DecideBatchResponse(status=status, batch=stored.batch)
            if not checker or checker == stored.batch.maker:
                status = bulk_pb2.BULK_STATUS_CHECKER_IS_MAKER
                return bulk_pb2.DecideBatchResponse(status=status, batch=stored.batch)
            command = decision_command(request.batch_id, request.digest, checker, approve=request.approve)
            status = _OK if await self._put(command) else bulk_pb2.BULK_STATUS_BATCH_WAS_DECIDED
            stored = self._bulk.find(request.batch_id)
            return bulk_pb2.DecideBatchResponse(status=status, batch=stored.batch if stored is not None else None)

    async def PayRows(self, request: bulk_pb2.PayRowsRequest, context: Any) -> bulk_pb2.PayRowsResponse:  # noqa: N802
        async with self._guard.call("PayRows", context, leader_only=True):
            stored = self._bulk.find(request.batch_id)
            if stored is None:
                return bulk_pb2.PayRowsResponse(status=_NOT_FOUND)
            if stored.batch.state != bulk_pb2.BATCH_STATE_APPROVED:
                return bulk_pb2.PayRowsResponse(status=bulk_pb2.BULK_STATUS_BATCH_IS_NOT_APPROVED)
            numbers = _numbers(request.first_row, request.count, stored, BULK_PAY_ROWS_MAX)
            if not numbers:
                raise InvalidRequestError(f"first_row: 1 to {stored.batch.rows}, is {request.first_row}")
            if not self._can_pay(stored, numbers):
                return bulk_pb2.PayRowsResponse(status=bulk_pb2.BULK_STATUS_INSUFFICIENT_FUNDS)
            return bulk_pb2.PayRowsResponse(status=_OK, rows=await self._pay(stored, numbers))

    def _can_pay(self, stored: Stored, numbers: Sequence[int]) -> bool:
        """Whether the payer has what the undecided of these rows come to, fees aside: a row that is refused for lack of
        money is refused for ever."""
        key, _, value = stored.batch.payer.partition(":")
        account = self._book.parties.account(self._book.ledger_of(stored.batch.currency), key, value)
        row = self._book.columns[account]
        available = int(row[Column.CREDITS_POSTED] - row[Column.DEBITS_POSTED] - row[Column.DEBITS_PENDING])
        rows = self._bulk.rows(stored)
        open_minor = sum(rows[n - 1][1] for n in numbers if self._bulk.outcome(stored, n) is None)
        return open_minor <= available + int(row[Column.OVERDRAFT_LIMIT])

    async def _pay(self, stored: Stored, numbers: Sequence[int]) -> list[bulk_pb2.RowOutcome]:
        drafts = {number: self._bulk.draft(stored, number) for number in numbers}
        asks = {number: draft for number, draft in drafts.items() if isinstance(draft, Draft)}
        results = await self._desk.decide_all([(draft, "") for draft in asks.values()])
        decided: dict[int, payments_pb2.Outcome | ServiceError] = dict(zip(asks, results, strict=True))
        for number, draft in drafts.items():
            if isinstance(draft, PaymentStatus):
                decided[number] = refusal(draft)
        return [_row_outcome(self._bulk.message(stored, number), decided[number]) for number in numbers]

    async def GetBatch(  # noqa: N802
        self, request: bulk_pb2.GetBatchRequest, context: Any
    ) -> bulk_pb2.GetBatchResponse:
        async with self._guard.call("GetBatch", context):
            await self._barrier()
            stored = self._bulk.find(request.batch_id)
            if stored is None:
                return bulk_pb2.GetBatchResponse(status=_NOT_FOUND)
            numbers = _numbers(request.first_row, request.count, stored, BULK_SHOW_ROWS_MAX)
            rows = await asyncio.to_thread(self._shown, stored, numbers)
            return bulk_pb2.GetBatchResponse(status=_OK, batch=stored.batch, rows=rows)

    def _shown(self, stored: Stored, numbers: Sequence[int]) -> list[bulk_pb2.RowOutcome]:
        rows = [(self._bulk.message(stored, number), self._bulk.outcome(stored, number)) for number in numbers]
        return [
            bulk_pb2.RowOutcome(row=row, decided=outcome is not None, outcome=outcome or None) for row, outcome in rows
        ]

    async def ListBatches(  # noqa: N802
        self, request: bulk_pb2.ListBatchesRequest, context: Any
    ) -> bulk_pb2.ListBatchesResponse:
        async with self._guard.call("ListBatches", context):
            size = request.page_size or BULK_LIST_DEFAULT
            if size > BULK_LIST_MAX:
                raise InvalidRequestError(f"page_size: at most {BULK_LIST_MAX}, is {size}")
            await self._barrier()
            page = self._bulk.listed(request.page_token, size)
            token = page[-1].batch.batch_id if len(page) == size else ""
            return bulk_pb2.ListBatchesResponse(batches=[one.batch for one in page], next_page_token=token)


def _numbers(first: int, count: int, stored: Stored, maximum: int) -> range:
    if count > maximum:
        raise InvalidRequestError(f"count: at most {maximum}, is {count}")
    return range(first, min(first + count, stored.batch.rows + 1)) if first else range(0)


def _row_outcome(row: bulk_pb2.Row, result: payments_pb2.Outcome | ServiceError) -> bulk_pb2.RowOutcome:
    if isinstance(result, ServiceError):
        code: int = result.code.value[0]
        return bulk_pb2.RowOutcome(row=row, error_code=code, error_message=str(result))
    return bulk_pb2.RowOutcome(row=row, decided=True, outcome=result)
