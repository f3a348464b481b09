"""A real gRPC server with mutual TLS that answers as its script says: what a client must survive, in any order."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any

import grpc
import numpy as np
from kibubu.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from kibubu.payments.v1 import payments_pb2, payments_pb2_grpc

from cluster.certificates import TlsPaths
from kibubu_client.records import REPLY, TRANSFER

OK, NOT_LEADER, BREAKS, LATE, INVALID, FULL, FORBIDDEN = (
    "ok", "not leader", "breaks", "late", "invalid", "full", "forbidden",
)  # fmt: skip
NOT_APPLIED = ("kibubu-not-applied", "1")


class ScriptedNode(ledger_pb2_grpc.LedgerServiceServicer, payments_pb2_grpc.PaymentsServiceServicer):
    """Each call takes the next word of `script`, the last one for ever; `leader` is named when it does not lead."""

    def __init__(self) -> None:
        self.script: deque[str] = deque([OK])
        self.item_codes: deque[int] = deque()  # of the payments of a call that is answered
        self.leader = ""
        self.address = ""
        self.batches: list[list[bytes]] = []  # the ids that each answered or refused call carried
        self.gate = asyncio.Event()  # closed: an answer waits
        self.gate.set()

    async def start(self, tls: TlsPaths) -> grpc.aio.Server:
        server = grpc.aio.server()
        ledger_pb2_grpc.add_LedgerServiceServicer_to_server(self, server)
        payments_pb2_grpc.add_PaymentsServiceServicer_to_server(self, server)
        pair = (tls.key.read_bytes(), tls.cert.read_bytes())
        credentials = grpc.ssl_server_credentials(
            [pair], root_certificates=tls.ca.read_bytes(), require_client_auth=True
        )
        self.address = f"127.0.0.1:{server.add_secure_port('127.0.0.1:0', credentials)}"
        await server.start()
        return server

    async def _follow(self, context: Any) -> None:
        await self.gate.wait()
        word = self.script.popleft() if len(self.script) > 1 else self.script[0]
        if word == NOT_LEADER:
            hint = (("kibubu-leader-address", self.leader),) if self.leader else ()
            context.set_trailing_metadata((NOT_APPLIED, *hint))
            await context.abort(grpc.StatusCode.UNAVAILABLE, "this node is not the leader")
        if word == FULL:
            context.set_trailing_metadata((NOT_APPLIED,))
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "the queue is full")
        codes = {
            BREAKS: grpc.StatusCode.UNAVAILABLE,  # without our mark: a connection that broke, nobody knows when
            LATE: grpc.StatusCode.DEADLINE_EXCEEDED,
            INVALID: grpc.StatusCode.INVALID_ARGUMENT,
            FORBIDDEN: grpc.StatusCode.PERMISSION_DENIED,
        }
        if word in codes:
            await context.abort(codes[word], f"scripted: {word}")

    async def CreateTransfersPacked(  # noqa: N802
        self, request: ledger_pb2.CreateTransfersPackedRequest, context: Any
    ) -> ledger_pb2.CreateTransfersPackedResponse:
        transfers = np.frombuffer(request.transfers, TRANSFER)
        self.batches.append([int(number).to_bytes(16, "big") for number in transfers["id_lo"]])
        await self._follow(context)
        replies = np.zeros(len(transfers), REPLY)
        replies["position"] = transfers["id_lo"]  # so that a test sees whose answer it got
        return ledger_pb2.CreateTransfersPackedResponse(replies=replies.tobytes())

    async def MakePayments(  # noqa: N802
        self, request: payments_pb2.MakePaymentsRequest, context: Any
    ) -> payments_pb2.MakePaymentsResponse:
        self.batches.append([one.payment.payment_id for one in request.payments])
        await self._follow(context)
        return payments_pb2.MakePaymentsResponse(items=[self._item(one.payment) for one in request.payments])

    async def QuotePayments(  # noqa: N802
        self, request: payments_pb2.QuotePaymentsRequest, context: Any
    ) -> payments_pb2.QuotePaymentsResponse:
        self.batches.append([one.payee.encode() for one in request.payments])
        await self._follow(context)
        answer = payments_pb2.QuotePaymentResponse
        quotes = [answer(status_name="ok", payee_name=payment.payee) for payment in request.payments]
        return payments_pb2.QuotePaymentsResponse(quotes=quotes)

    async def GetLanguages(  # noqa: N802
        self, request: payments_pb2.GetLanguagesRequest, context: Any
    ) -> payments_pb2.GetLanguagesResponse:
        self.batches.append([one.msisdn.encode() for one in request.customers])
        await self._follow(context)
        answers = [payments_pb2.GetLanguageResponse(language=one.msisdn[-2:]) for one in request.customers]
        return payments_pb2.GetLanguagesResponse(languages=answers)

    def _item(self, payment: payments_pb2.Payment) -> payments_pb2.MakePaymentsResponse.Item:
        code = self.item_codes.popleft() if self.item_codes else 0
        if code:
            return payments_pb2.MakePaymentsResponse.Item(error_code=code, error_message=f"scripted: {code}")
        outcome = payments_pb2.Outcome(status_name="ok", amount_minor=payment.amount_minor)
        return payments_pb2.MakePaymentsResponse.Item(outcome=outcome)
