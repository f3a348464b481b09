"""ConfigService: documents go into the log, and are read from it. Operators only (node/service/auth.py)."""

from __future__ import annotations

from typing import Any

from kibubu.config.v1 import config_pb2, config_pb2_grpc
from kibubu.raft.v1 import raft_pb2

from node.ledger.documents import AUTHOR_BYTES_MAX, BODY_BYTES_MAX, KEY_FORM
from node.ledger.history import Document
from node.ledger.statuses import CommandStatus
from node.ledger.tiers import KIND as TIERS
from node.ledger.tiers import Tiers, parse_tiers
from node.service.admission import Admission
from node.service.codec import id_from_bytes
from node.service.document_kinds import KINDS
from node.service.errors import InvalidRequestError
from node.service.guard import Guard
from node.service.limits import DOCUMENTS_PAGE_DEFAULT, DOCUMENTS_PAGE_MAX
from node.service.reads import ReadBarrier
from node.storage.ledger_store import LedgerStore


class ConfigServicer(config_pb2_grpc.ConfigServiceServicer):
    def __init__(self, store: LedgerStore, admission: Admission, barrier: ReadBarrier, guard: Guard) -> None:
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
