"""ConfigService: documents go into the log, and are read from it. Operators only (node/service/auth.py)."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from kibubu.config.v1 import config_pb2, config_pb2_grpc
from kibubu.raft.v1 import raft_pb2

from node.ledger.currencies import CURRENCIES
from node.ledger.documents import AUTHOR_BYTES_MAX, BODY_BYTES_MAX, KEY_FORM
from node.ledger.history import Document
from node.ledger.statuses import CommandStatus, PaymentKind
from node.ledger.tiers import KIND as TIERS
from node.ledger.tiers import Tiers, parse_tiers
from node.payments.tariffs import KIND_NAMES, Table, Tariff
from node.service.admission import Admission
from node.service.codec import id_from_bytes
from node.service.document_kinds import KINDS
from node.service.errors import InvalidRequestError
from node.service.guard import Guard
from node.service.limits import DOCUMENTS_PAGE_DEFAULT, DOCUMENTS_PAGE_MAX
from node.service.reads import ReadBarrier
from node.service.tariff_book import TariffBook
from node.storage.ledger_store import LedgerStore


class ConfigServicer(config_pb2_grpc.ConfigServiceServicer):
    def __init__(
        self,
        store: LedgerStore,
        admission: Admission,
        barrier: ReadBarrier,
        guard: Guard,
        tariffs: TariffBook,
        time_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._tariffs = tariffs
        self._time_ns = time_ns
        self._store = store
        self._admission = admission
        self._barrier = barrier
        self._guard = guard

    async def PutDocument(  # noqa: N802
        self, request: config_pb2.PutDocumentRequest, context: Any
    ) -> config_pb2.PutDocumentResponse:
        async with self._guard.call("PutDocument", context, leader_only=True):
            put = _checked(request, self._store.tiers)
            applied = await self._admission.submit(
                commands=[raft_pb2.Command(request_id=request.request_id, put_document=put)]
            )
            (outcome,) = applied.commands
            return config_pb2.PutDocumentResponse(
                status=outcome.status,
                status_name=CommandStatus(outcome.status).name.lower(),
                version=outcome.account_number,
                position=outcome.position,
                timestamp_ns=outcome.timestamp_ns,
                key=put.key,
            )

    async def GetDocument(  # noqa: N802
        self, request: config_pb2.GetDocumentRequest, context: Any
    ) -> config_pb2.GetDocumentResponse:
        async with self._guard.call("GetDocument", context):
            if not request.stale_ok:
                await self._barrier()
            found = self._find(request.kind, request.key, request.version)
            if found is None:
                return config_pb2.GetDocumentResponse()
            return config_pb2.GetDocumentResponse(found=True, document=_message(found, with_body=True))

    def _find(self, kind: str, key: str, version: int) -> Document | None:
        if not version:
            return self._store.document(kind, key)
        versions = self._store.document_versions(kind, key, version + 1, 1)
        return versions[0] if versions and versions[0].version == version else None

    async def ListDocuments(  # noqa: N802
        self, request: config_pb2.ListDocumentsRequest, context: Any
    ) -> config_pb2.ListDocumentsResponse:
        async with self._guard.call("ListDocuments", context):
            size = request.page_size or DOCUMENTS_PAGE_DEFAULT
            if size > DOCUMENTS_PAGE_MAX:
                raise InvalidRequestError(f"page_size: at most {DOCUMENTS_PAGE_MAX}, is {size}")
            token = _checked_token(request)
            if not request.stale_ok:
                await self._barrier()
            if request.key:
                page = self._store.document_versions(request.kind, request.key, int(token or 0), size)
            else:
                page = self._store.documents(request.kind, token, size)
            last = page[-1] if len(page) == size else None
            return config_pb2.ListDocumentsResponse(
                documents=[_message(document, with_body=False) for document in page],
                next_page_token=(str(last.version) if request.key else last.key) if last is not None else "",
            )

    async def GetTariff(  # noqa: N802
        self, request: config_pb2.GetTariffRequest, context: Any
    ) -> config_pb2.GetTariffResponse:
        async with self._guard.call("GetTariff", context):
            await self._barrier()
            tariff = self._tariff(request.currency, request.time_ns)
            if tariff is None:
                return config_pb2.GetTariffResponse()
            tables = [_table(kind, table, is_commission=False) for kind, table in tariff.tables.items()]
            tables += [_table(kind, table, is_commission=True) for kind, table in tariff.commissions.items()]
            return config_pb2.GetTariffResponse(
                found=True,
                name=tariff.name,
                tariff_version=tariff.version,
                excise_percent=tariff.excise_percent,
                source=self._tariffs.source_of(tariff),
                tables=tables,
            )

    async def QuoteTariff(  # noqa: N802
        self, request: config_pb2.QuoteTariffRequest, context: Any
    ) -> config_pb2.QuoteTariffResponse:
        async with self._guard.call("QuoteTariff", context):
            kind = next((kind for kind, name in KIND_NAMES.items() if name == request.kind), None)
            if kind is None:
                known = ", ".join(KIND_NAMES.values())
                raise InvalidRequestError(f"kind: must be one of {known}, is {request.kind[:40]!r}")
            await self._barrier()
            tariff = self._tariff(request.currency, request.time_ns)
            fee = tariff.fee(kind, request.amount_minor) if tariff is not None else None
            if tariff is None or fee is None:
                return config_pb2.QuoteTariffResponse(tariff_version=tariff.version if tariff is not None else 0)
            return config_pb2.QuoteTariffResponse(
                found=True,
                tariff_version=tariff.version,
                payer_fee_minor=fee.fee_minor,
                payer_excise_minor=fee.excise_minor,
                payee_fee_minor=fee.payee_fee_minor,
                payee_excise_minor=fee.payee_excise_minor,
                commission_minor=fee.commission_minor,
            )

    def _tariff(self, currency: str, time_ns: int) -> Tariff | None:
        if currency not in CURRENCIES:
            raise InvalidRequestError(f"currency: must be one of {', '.join(CURRENCIES)}, is {currency[:40]!r}")
        if time_ns < 0:
            raise InvalidRequestError("time_ns: must be a time after 1970, or 0 for now")
        return self._tariffs.in_force(CURRENCIES[currency].number, time_ns or self._time_ns())


def _table(kind: PaymentKind, table: Table, *, is_commission: bool) -> config_pb2.TariffTable:
    payee_fees = table.payee_fees_minor or (0,) * len(table.fees_minor)
    bands = [
        config_pb2.TariffBand(upto_minor=upto, payer_fee_minor=payer, payee_fee_minor=payee)
        for upto, payer, payee in zip(table.uppers_minor, table.fees_minor, payee_fees, strict=True)
    ]
    return config_pb2.TariffTable(
        kind=KIND_NAMES[kind], is_commission=is_commission, minimum_minor=table.minimum_minor, bands=bands
    )


def _checked(request: config_pb2.PutDocumentRequest, tiers: Tiers) -> raft_pb2.PutDocument:
    """By the rules of its kind. Raises InvalidRequestError."""
    id_from_bytes(request.request_id, "request_id")
    if not 0 < len(request.author.encode()) <= AUTHOR_BYTES_MAX:
        raise InvalidRequestError(f"author: 1 to {AUTHOR_BYTES_MAX} bytes: a document says who answers for it")
    if len(request.body) > BODY_BYTES_MAX:
        raise InvalidRequestError(f"body: at most {BODY_BYTES_MAX} bytes, is {len(request.body)}")
    rule = KINDS.get(request.kind)
    if rule is None:
        raise InvalidRequestError(f"kind: must be one of {', '.join(sorted(KINDS))}, is {request.kind[:40]!r}")
    try:
        key = rule(request.key, request.body)
        if request.kind == TIERS:
            parse_tiers(request.body, tiers)
    except ValueError as error:
        raise InvalidRequestError(str(error)) from error
    if not KEY_FORM.fullmatch(key):
        raise InvalidRequestError(f"key: 1 to 64 letters, digits and _.:/-, is {key[:70]!r}")
    put = raft_pb2.PutDocument(kind=request.kind, key=key, body=request.body, author=request.author)
    if request.HasField("replaces_version"):
        put.replaces_version = request.replaces_version
    return put


def _checked_token(request: config_pb2.ListDocumentsRequest) -> str:
    token = request.page_token
    is_version = token.isascii() and token.isdecimal() and 0 < len(token) <= 10
    if token and not (is_version if request.key else KEY_FORM.fullmatch(token)):
        raise InvalidRequestError("page_token: not one that this service gave")
    return token


def _message(document: Document, *, with_body: bool) -> config_pb2.Document:
    return config_pb2.Document(
        kind=document.kind,
        key=document.key,
        version=document.version,
        body=document.body if with_body else b"",
        author=document.author,
        position=document.position,
        timestamp_ns=document.timestamp_ns,
        body_bytes=len(document.body),
    )
