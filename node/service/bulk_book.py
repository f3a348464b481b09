"""Batches of payments as documents: the rows in parts, a header that stands for all of them, and one decision.

    bulk  ID/rows/0 ...   rows in JSON, at most BODY_BYTES_MAX a part       written first
    bulk  ID              payer, currency, how many, sum, digest; the maker   then the batch exists
    bulk  ID/decision     approve or reject, of which digest; the checker     once

Documents are never taken back, so neither is any of this. A row is paid under an id that follows from batch and row.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass

from kibubu.bulk.v1 import bulk_pb2
from kibubu.payments.v1 import payments_pb2
from kibubu.raft.v1 import raft_pb2

from node.ledger.documents import BODY_BYTES_MAX
from node.ledger.history import Document
from node.ledger.statuses import PaymentKind, PaymentStatus
from node.payments.kinds import KINDS
from node.service.limits import (
    BULK_BATCHES_REMEMBERED_MAX,
    BULK_PROBLEMS_MAX,
    BULK_ROWS_MAX,
    REFERENCE_BYTES_MAX,
)
from node.service.payment_book import PaymentBook
from node.service.payment_drafts import Draft
from node.service.payment_parties import normalised
from node.storage.ledger_store import LedgerStore

KIND = "bulk"
TERMS = KINDS[int(PaymentKind.BULK_PAYOUT)]
_ID = re.compile(r"[a-z0-9][a-z0-9-]{0,31}", re.ASCII)
_PART_BYTES = BODY_BYTES_MAX - 2_048  # a row is smaller than what is left
_PAYER_KEYS = ("paybill", "till")
AMOUNT_MINOR_MAX = 10**14
_STATES = {"approve": bulk_pb2.BATCH_STATE_APPROVED, "reject": bulk_pb2.BATCH_STATE_REJECTED}
StoredRow = tuple[str, int, str]  # payee, amount in minor units, reference


@dataclass(frozen=True, slots=True)
class Stored:
    batch: bulk_pb2.Batch
    payer: str  # the handle's value
    parts: int


def problems_of(request: bulk_pb2.SubmitBatchRequest) -> list[bulk_pb2.Problem]:
    """By the form alone; whether a payee exists is told when the row is paid."""
    found = list(_problems_of_batch(request))
    for number, row in enumerate(request.rows, 1):
        if len(found) >= BULK_PROBLEMS_MAX:
            break
        if row.row != number:
            found.append(bulk_pb2.Problem(row=number, field="row", rule=f"must be {number}, is {row.row}"))
        if not normalised(row.payee):
            rule = f"must be a mobile number, is {row.payee[:20]!r}"
            found.append(bulk_pb2.Problem(row=number, field="payee", rule=rule))
        if not 0 < row.amount_minor <= AMOUNT_MINOR_MAX:
            rule = f"must be more than 0, is {row.amount_minor}"
            found.append(bulk_pb2.Problem(row=number, field="amount_minor", rule=rule))
        if len(row.reference.encode()) > REFERENCE_BYTES_MAX or not row.reference.isprintable():
            rule = f"at most {REFERENCE_BYTES_MAX} bytes that can be printed"
            found.append(bulk_pb2.Problem(row=number, field="reference", rule=rule))
    return found[:BULK_PROBLEMS_MAX]


def _problems_of_batch(request: bulk_pb2.SubmitBatchRequest) -> list[bulk_pb2.Problem]:
    found = []
    if not _ID.fullmatch(request.batch_id):
        found.append(bulk_pb2.Problem(field="batch_id", rule="1 to 32 small letters, digits and -"))
    key, _, value = request.payer.partition(":")
    if key not in _PAYER_KEYS or not value:
        found.append(bulk_pb2.Problem(field="payer", rule="must be till:NUMBER or paybill:NUMBER"))
    if not 0 < len(request.rows) <= BULK_ROWS_MAX:
        found.append(bulk_pb2.Problem(field="rows", rule=f"1 to {BULK_ROWS_MAX}, is {len(request.rows)}"))
    return found


def row_id(batch_id: str, row: int) -> int:
    return int.from_bytes(_digest("row", batch_id, str(row)), "big")


def _digest(*parts: str) -> bytes:
    return hashlib.blake2b("\x1f".join(("bulk", *parts)).encode(), digest_size=16).digest()


def commands_of(request: bulk_pb2.SubmitBatchRequest, maker: str) -> list[raft_pb2.Command]:
    """The parts in order, the header last. The same request by the same maker gives the same commands."""
    rows = [(normalised(row.payee), row.amount_minor, row.reference) for row in request.rows]
    digest = hashlib.sha256(json.dumps([request.payer, request.currency, rows]).encode()).hexdigest()
    parts: list[bytes] = []
    part: list[bytes] = []
    size = 0
    for row in rows:
        line = json.dumps(row).encode()
        if part and size + len(line) + 1 > _PART_BYTES:
            parts.append(b"\n".join(part))
            part, size = [], 0
        part.append(line)
        size += len(line) + 1
    parts.append(b"\n".join(part))
    header = {
        "payer": request.payer, "currency": request.currency, "rows": len(rows), "parts": len(parts),
        "total_minor": sum(amount for _, amount, _ in rows), "digest": digest,
    }  # fmt: skip
    batch_id = request.batch_id
    commands = [_put(f"{batch_id}/rows/{number}", body, maker) for number, body in enumerate(parts)]
    return [*commands, _put(batch_id, json.dumps(header).encode(), maker)]


def decision_command(batch_id: str, digest: str, checker: str, *, approve: bool) -> raft_pb2.Command:
    body = json.dumps({"decision": "approve" if approve else "reject", "digest": digest}).encode()
    return _put(f"{batch_id}/decision", body, checker)


def _put(key: str, body: bytes, author: str) -> raft_pb2.Command:
    """Only where there is none yet. The request's id follows from its content, so a retry is the same."""
    put = raft_pb2.PutDocument(kind=KIND, key=key, body=body, author=author, replaces_version=0)
    request_id = _digest("put", key, author, hashlib.sha256(body).hexdigest())
    return raft_pb2.Command(request_id=request_id, put_document=put)


class BulkBook:
    def __init__(self, store: LedgerStore, book: PaymentBook) -> None:
        self._store = store
        self._book = book
        self._rows: OrderedDict[str, list[StoredRow]] = OrderedDict()  # of batches that were asked for lately

    def find(self, batch_id: str) -> Stored | None:
        header = self._store.document(KIND, batch_id) if _ID.fullmatch(batch_id) else None
        return self._stored(header) if header is not None else None

    def listed(self, after: str, limit: int) -> list[Stored]:
        """In the order of their ids."""
        found: list[Stored] = []
        while len(found) < limit:
            page = self._store.documents(KIND, after, 1_000)
            found += [self._stored(one) for one in page if "/" not in one.key]
            if len(page) < 1_000:
                break
            after = page[-1].key
        return found[:limit]

    def _stored(self, header: Document) -> Stored:
        said, decision = json.loads(header.body), self._store.document(KIND, f"{header.key}/decision")
        batch = bulk_pb2.Batch(
            batch_id=header.key, state=bulk_pb2.BATCH_STATE_SUBMITTED, payer=said["payer"], currency=said["currency"],
            rows=said["rows"], total_minor=said["total_minor"], digest=said["digest"], maker=header.author,
            submit_time_ns=header.timestamp_ns,
        )  # fmt: skip
        if decision is not None:
            decided = json.loads(decision.body)
            # Of another digest there is none: the header is never replaced.
            batch.state = _STATES[decided["decision"]]
            batch.checker, batch.decide_time_ns = decision.author, decision.timestamp_ns
        return Stored(batch, said["payer"].partition(":")[2], said["parts"])

    def rows(self, stored: Stored) -> Sequence[StoredRow]:
        batch_id = stored.batch.batch_id
        rows = self._rows.get(batch_id)
        if rows is None:
            rows = []
            for number in range(stored.parts):
                part = self._store.document(KIND, f"{batch_id}/rows/{number}")
                rows += [tuple(json.loads(line)) for line in part.body.split(b"\n")] if part is not None else []
            self._rows[batch_id] = rows
            if len(self._rows) > BULK_BATCHES_REMEMBERED_MAX:
                self._rows.popitem(last=False)
        return rows

    def message(self, stored: Stored, number: int) -> bulk_pb2.Row:
        payee, amount_minor, reference = self.rows(stored)[number - 1]
        return bulk_pb2.Row(row=number, payee=payee, amount_minor=amount_minor, reference=reference)

    def draft(self, stored: Stored, number: int) -> Draft | PaymentStatus:
        """Without a PIN: two persons stand for it. The payee's account takes its turn, so that rows do not wait for
        each other."""
        payee, amount_minor, reference = self.rows(stored)[number - 1]
        request = payments_pb2.Payment(
            kind=payments_pb2.PAYMENT_KIND_BULK_PAYOUT, payer=stored.payer, payee=payee, amount_minor=amount_minor,
            currency=stored.batch.currency, reference=reference,
        )  # fmt: skip
        draft = self._book.usual(row_id(stored.batch.batch_id, number), TERMS, request)
        if isinstance(draft, Draft):
            draft.signer_account = draft.payee_account or draft.payer_account
        return draft

    def outcome(self, stored: Stored, number: int) -> payments_pb2.Outcome | None:
        found = self._book.lookup(row_id(stored.batch.batch_id, number))
        return found.outcome if found.found else None
