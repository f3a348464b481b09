"""Batches: what a file may hold, who may decide, what is paid and how often."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from kibubu.bulk.v1 import bulk_pb2, bulk_pb2_grpc
from kibubu.payments.v1 import payments_pb2

from node.ledger.columns import Column
from node.ledger.statuses import PaymentStatus
from node.service.bulk_book import BulkBook, row_id
from node.service.limits import BULK_ROWS_MAX
from tests.service.books import Books, open_books

pytestmark = pytest.mark.timeout(300)  # the first payment of a machine waits for the compiler

STATUS = bulk_pb2.BulkStatus
PAYEES = ("254712000001", "254712000002", "254712000003")


@pytest.fixture
async def books(tmp_path: Path) -> AsyncIterator[Books]:
    async with open_books(tmp_path) as made:
        made.node.fund(made.people["paybill"], 10_000_000, made.people["issuance"])
        yield made


def rows(count: int, amount_minor: int = 100_000) -> list[bulk_pb2.Row]:
    return [
        bulk_pb2.Row(row=n, payee=PAYEES[n % 3], amount_minor=amount_minor, reference=f"PAY {n}")
        for n in range(1, count + 1)
    ]


def batch(batch_id: str = "salaries-11", count: int = 6, **changes: Any) -> bulk_pb2.SubmitBatchRequest:
    fields = {"batch_id": batch_id, "payer": "paybill:888880", "currency": "KES", "rows": rows(count)}
    return bulk_pb2.SubmitBatchRequest(**(fields | changes))


def balance(books: Books, name: str) -> int:
    row = books.node.store.columns[books.people[name]]
    return int(row[Column.CREDITS_POSTED] - row[Column.DEBITS_POSTED])


async def approved(books: Books, request: bulk_pb2.SubmitBatchRequest) -> bulk_pb2.Batch:
    async with books.stub(bulk_pb2_grpc.BulkServiceStub, "amina") as maker:
        submitted = await maker.SubmitBatch(request)
        assert submitted.status == STATUS.BULK_STATUS_OK
    async with books.stub(bulk_pb2_grpc.BulkServiceStub, "baraka") as checker:
        decision = bulk_pb2.DecideBatchRequest(batch_id=request.batch_id, approve=True, digest=submitted.batch.digest)
        for _ in range(2):  # a retry decides the same
            decided = await checker.DecideBatch(decision)
            assert decided.status == STATUS.BULK_STATUS_OK
        return decided.batch


def pay(first: int = 1, count: int = 200, batch_id: str = "salaries-11") -> bulk_pb2.PayRowsRequest:
    return bulk_pb2.PayRowsRequest(batch_id=batch_id, first_row=first, count=count)


async def test_from_file_to_phones(books: Books) -> None:
    made = await approved(books, batch())
    assert (made.state, made.maker, made.checker) == (bulk_pb2.BATCH_STATE_APPROVED, "amina", "baraka")
    assert (made.rows, made.total_minor) == (6, 600_000)
    async with books.stub(bulk_pb2_grpc.BulkServiceStub, "amina") as stub:
        for turn in range(3):  # again and again: nothing is paid twice
            answer = await stub.PayRows(pay())
            assert [one.outcome.status_name for one in answer.rows] == ["ok"] * 6
            assert all(one.outcome.duplicate == (turn > 0) for one in answer.rows)
        assert len({one.outcome.receipt for one in answer.rows}) == 6
        assert balance(books, "paybill") == 10_000_000 - 6 * (100_000 + 500)
        assert balance(books, "wanjiku") == 1_000_000 + 2 * 100_000
        shown = await stub.GetBatch(bulk_pb2.GetBatchRequest(batch_id="salaries-11", first_row=5, count=500))
        assert [(one.row.row, one.decided, one.row.reference) for one in shown.rows] == [
            (5, True, "PAY 5"), (6, True, "PAY 6"),
        ]  # fmt: skip
    found = books.book.lookup(row_id("salaries-11", 2))
    assert found.payment.kind == payments_pb2.PAYMENT_KIND_BULK_PAYOUT
    assert (found.payment.payer, found.payment.payee, found.payment.reference) == ("888880", PAYEES[2], "PAY 2")


async def test_nobody_decides_about_the_own_batch_and_nothing_is_paid_before(books: Books) -> None:
    async with books.stub(bulk_pb2_grpc.BulkServiceStub, "amina") as maker:
        submitted = await maker.SubmitBatch(batch())
        assert (await maker.PayRows(pay())).status == STATUS.BULK_STATUS_BATCH_IS_NOT_APPROVED
        own = bulk_pb2.DecideBatchRequest(batch_id="salaries-11", approve=True, digest=submitted.batch.digest)
        assert (await maker.DecideBatch(own)).status == STATUS.BULK_STATUS_CHECKER_IS_MAKER
        assert (await maker.PayRows(pay())).status == STATUS.BULK_STATUS_BATCH_IS_NOT_APPROVED
    async with books.stub(bulk_pb2_grpc.BulkServiceStub, "baraka") as checker:
        blind = bulk_pb2.DecideBatchRequest(batch_id="salaries-11", approve=True, digest="f" * 64)
        assert (await checker.DecideBatch(blind)).status == STATUS.BULK_STATUS_DIGEST_DIFFERS
        no = bulk_pb2.DecideBatchRequest(batch_id="salaries-11", digest=submitted.batch.digest)
        assert (await checker.DecideBatch(no)).batch.state == bulk_pb2.BATCH_STATE_REJECTED
        yes = bulk_pb2.DecideBatchRequest(batch_id="salaries-11", approve=True, digest=submitted.batch.digest)
        assert (await checker.DecideBatch(yes)).status == STATUS.BULK_STATUS_BATCH_WAS_DECIDED
        assert (await checker.PayRows(pay())).status == STATUS.BULK_STATUS_BATCH_IS_NOT_APPROVED
    assert balance(books, "paybill") == 10_000_000


async def test_the_edge_and_the_payments_service_pay_no_row(books: Books) -> None:
    request = payments_pb2.Payment(
        kind=payments_pb2.PAYMENT_KIND_BULK_PAYOUT, payer="888880", payee=PAYEES[0], amount_minor=1_000, currency="KES"
    )
    assert books.book.draft(1, request) is PaymentStatus.PAYMENT_ONLY_IN_A_BATCH
    async with books.stub(bulk_pb2_grpc.BulkServiceStub, "e1", role="edge") as stub:
        with pytest.raises(grpc.aio.AioRpcError) as caught:
            await stub.SubmitBatch(batch())
        assert caught.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_the_same_again_is_the_same_and_anything_else_is_refused(books: Books) -> None:
    async with books.stub(bulk_pb2_grpc.BulkServiceStub, "amina") as maker:
        first = await maker.SubmitBatch(batch())
        position = books.node.store.applied_position
        assert (await maker.SubmitBatch(batch())).batch == first.batch
        assert books.node.store.applied_position > position  # asked of the log, which remembers
        other = await maker.SubmitBatch(batch(count=7))
        assert other.status == STATUS.BULK_STATUS_BATCH_ID_USED_FOR_ANOTHER_BATCH
        unknown = await maker.GetBatch(bulk_pb2.GetBatchRequest(batch_id="nobody-s"))
        assert unknown.status == STATUS.BULK_STATUS_BATCH_NOT_FOUND
        assert (await maker.PayRows(pay(batch_id="nobody-s"))).status == STATUS.BULK_STATUS_BATCH_NOT_FOUND
    async with books.stub(bulk_pb2_grpc.BulkServiceStub, "baraka") as another:
        taken = await another.SubmitBatch(batch())
        assert taken.status == STATUS.BULK_STATUS_BATCH_ID_USED_FOR_ANOTHER_BATCH


@pytest.mark.parametrize(
    ("changes", "field", "row"),
    [
        ({"batch_id": "Salaries"}, "batch_id", 0),
        ({"batch_id": "a/decision"}, "batch_id", 0),
        ({"payer": "888880"}, "payer", 0),
        ({"payer": "system:KES/fees"}, "payer", 0),
        ({"payer": "paybill:999999"}, "payer", 0),
        ({"currency": "XXX"}, "currency", 0),
        ({"rows": []}, "rows", 0),
        ({"rows": rows(10_001)}, "rows", 0),
        ({"rows": [bulk_pb2.Row(row=2, payee=PAYEES[0], amount_minor=1)]}, "row", 1),
        ({"rows": [bulk_pb2.Row(row=1, payee="12", amount_minor=1)]}, "payee", 1),
        ({"rows": [bulk_pb2.Row(row=1, payee=PAYEES[0], amount_minor=0)]}, "amount_minor", 1),
        ({"rows": [bulk_pb2.Row(row=1, payee=PAYEES[0], amount_minor=-5)]}, "amount_minor", 1),
        ({"rows": [bulk_pb2.Row(row=1, payee=PAYEES[0], amount_minor=1, reference="x" * 21)]}, "reference", 1),
        ({"rows": [bulk_pb2.Row(row=1, payee=PAYEES[0], amount_minor=1, reference="a\nb")]}, "reference", 1),
    ],
)
async def test_what_a_batch_may_not_be(books: Books, changes: dict[str, Any], field: str, row: int) -> None:
    position = books.node.store.applied_position
    async with books.stub(bulk_pb2_grpc.BulkServiceStub, "amina") as maker:
        answer = await maker.SubmitBatch(batch(**changes))
    assert answer.status == STATUS.BULK_STATUS_ROWS_BREAK_RULES
    assert [(problem.field, problem.row) for problem in answer.problems] == [(field, row)]
    assert books.node.store.applied_position == position


async def test_a_large_batch_is_kept_in_parts_and_survives(books: Books) -> None:
    made = await approved(books, batch(count=BULK_ROWS_MAX))
    assert books.node.store.document("bulk", "salaries-11/rows/5") is not None
    books.node.store.checkpoint(wait=True)
    fresh = BulkBook(books.node.store, books.book)
    stored = fresh.find("salaries-11")
    assert stored is not None
    assert stored.batch == made
    asked = rows(BULK_ROWS_MAX)
    assert [fresh.message(stored, n) for n in range(1, BULK_ROWS_MAX + 1)] == asked
    async with books.stub(bulk_pb2_grpc.BulkServiceStub, "amina") as stub:
        listed = await stub.ListBatches(bulk_pb2.ListBatchesRequest(page_size=1))
        assert [one.batch_id for one in listed.batches] == ["salaries-11"]
        assert not (await stub.ListBatches(bulk_pb2.ListBatchesRequest(page_token="salaries-11"))).batches


async def test_rows_that_cannot_be_paid_do_not_hinder_the_others(books: Books) -> None:
    wrong = rows(4)
    wrong[1].payee = "254799999999"  # nobody's
    wrong[2].amount_minor = 30_000_000  # more than a payment may be
    books.node.fund(books.people["paybill"], 30_000_000, books.people["issuance"])
    await approved(books, batch(rows=wrong))
    async with books.stub(bulk_pb2_grpc.BulkServiceStub, "amina") as stub:
        answer = await stub.PayRows(pay())
        assert [one.outcome.status_name for one in answer.rows] == [
            "ok", "payee_not_found", "amount_outside_tariff", "ok",
        ]  # fmt: skip
        again = await stub.PayRows(pay())
        assert [one.outcome.status_name for one in again.rows] == [one.outcome.status_name for one in answer.rows]


async def test_without_money_nothing_is_tried_and_later_it_goes_on(books: Books) -> None:
    await approved(books, batch(rows=rows(4, amount_minor=4_000_000)))
    async with books.stub(bulk_pb2_grpc.BulkServiceStub, "amina") as stub:
        assert [one.decided for one in (await stub.PayRows(pay(count=2))).rows] == [True, True]
        assert (await stub.PayRows(pay(3, 2))).status == STATUS.BULK_STATUS_INSUFFICIENT_FUNDS
        shown = await stub.GetBatch(bulk_pb2.GetBatchRequest(batch_id="salaries-11", first_row=1, count=4))
        assert [one.decided for one in shown.rows] == [True, True, False, False]
        books.node.fund(books.people["paybill"], 10_000_000, books.people["issuance"])
        answer = await stub.PayRows(pay())
        assert [one.outcome.status_name for one in answer.rows] == ["ok"] * 4


@pytest.mark.parametrize(("first", "count", "field"), [(0, 5, "first_row"), (7, 5, "first_row"), (1, 201, "count")])
async def test_rows_that_are_not_there(books: Books, first: int, count: int, field: str) -> None:
    await approved(books, batch())
    async with books.stub(bulk_pb2_grpc.BulkServiceStub, "amina") as stub:
        with pytest.raises(grpc.aio.AioRpcError, match=field):
            await stub.PayRows(pay(first, count))
