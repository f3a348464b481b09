"""ConfigService over real gRPC and mutual TLS: what an operator puts is read back, and what is wrong is named."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from kibubu.config.v1 import config_pb2, config_pb2_grpc
from prometheus_client import CollectorRegistry

from node.payments.tariffs import SAMPLE_FOLDER
from node.service.admission import Admission
from node.service.auth import RoleChecks, server_options
from node.service.config_servicer import ConfigServicer
from node.service.guard import Guard
from node.service.metrics import NodeMetrics
from node.service.reads import ReadBarrier
from node.service.tls import load_server_credentials
from tests.consensus.certs import Authority
from tests.service.one_node import OneNode

SAMPLE = (SAMPLE_FOLDER / "kenya-2023-07-29.toml").read_bytes()
KEY = "KES/2023-07-29"


class Served:
    def __init__(self, folder: Path) -> None:
        self.channels: list[grpc.aio.Channel] = []
        self.node = OneNode(folder / "ledger")
        self.authority = Authority(folder)
        tls, metrics = self.authority.issue("node", "n1"), NodeMetrics(CollectorRegistry())
        guard = Guard(self.node, metrics, lambda: "")
        admission = Admission(self.node, metrics, leader_address=lambda: "")
        servicer = ConfigServicer(self.node.store, admission, ReadBarrier(self.node, lambda: ""), guard)
        self.server = grpc.aio.server(options=server_options())
        config_pb2_grpc.add_ConfigServiceServicer_to_server(servicer, RoleChecks(self.server))
        self.port = self.server.add_secure_port("127.0.0.1:0", load_server_credentials(tls.ca, tls.cert, tls.key))

    def stub(self, role: str) -> Any:
        tls = self.authority.issue(role, "x")
        credentials = grpc.ssl_channel_credentials(tls.ca.read_bytes(), tls.key.read_bytes(), tls.cert.read_bytes())
        options = (("grpc.ssl_target_name_override", "kibubu"),)
        channel = grpc.aio.secure_channel(f"127.0.0.1:{self.port}", credentials, options=options)
        self.channels.append(channel)
        return config_pb2_grpc.ConfigServiceStub(channel)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    made = Served(tmp_path)
    await made.server.start()
    yield made
    for channel in made.channels:
        await channel.close()
    await made.server.stop(None)
    made.node.store.close()


def put(request_id: int, **fields: Any) -> config_pb2.PutDocumentRequest:
    fields = {"kind": "tariff", "body": SAMPLE, "author": "Amina"} | fields
    return config_pb2.PutDocumentRequest(request_id=request_id.to_bytes(16, "big"), **fields)


async def test_put_get_and_list(served: Served) -> None:
    stub = served.stub("operator")
    first = await stub.PutDocument(put(1))
    assert (first.status_name, first.version, first.key) == ("ok", 1, KEY)
    assert (await stub.PutDocument(put(1))).status_name == "exists"
    assert (await stub.PutDocument(put(2, body=SAMPLE + b"\n", key=KEY))).version == 2
    late = await stub.PutDocument(put(3, replaces_version=1))
    assert (late.status_name, late.version) == ("document_version_differs", 2)
    now = (await stub.GetDocument(config_pb2.GetDocumentRequest(kind="tariff", key=KEY))).document
    assert (now.version, now.body, now.author, now.body_bytes) == (2, SAMPLE + b"\n", "Amina", len(SAMPLE) + 1)
    before = await stub.GetDocument(config_pb2.GetDocumentRequest(kind="tariff", key=KEY, version=1, stale_ok=True))
    assert (before.document.body, before.document.position) == (SAMPLE, first.position)
    for missing in ({"version": 3}, {"key": "none"}, {"kind": "none"}):
        request = config_pb2.GetDocumentRequest(**({"kind": "tariff", "key": KEY} | missing))  # type: ignore[arg-type]
        assert not (await stub.GetDocument(request)).found
    listed = await stub.ListDocuments(config_pb2.ListDocumentsRequest(kind="tariff"))
    assert [(one.key, one.version, one.body) for one in listed.documents] == [(KEY, 2, b"")]
    assert listed.next_page_token == ""


async def test_lists_are_paged(served: Served) -> None:
    stub = served.stub("operator")
    for number, currency in enumerate(("KES", "TZS", "UGX"), 1):
        await stub.PutDocument(put(number, body=SAMPLE.replace(b'"KES"', f'"{currency}"'.encode())))
    for number in range(4, 7):
        await stub.PutDocument(put(number, body=SAMPLE + b"\n" * number))

    async def pages(**fields: Any) -> list[list[str]]:
        found, token = [], ""
        while not found or token:
            request = config_pb2.ListDocumentsRequest(kind="tariff", page_size=2, page_token=token, **fields)
            response = await stub.ListDocuments(request)
            found.append([f"{one.key[:3]}{one.version}" for one in response.documents])
            token = response.next_page_token
        return found

    assert await pages() == [["KES4", "TZS1"], ["UGX1"]]
    assert await pages(key=KEY) == [["KES4", "KES3"], ["KES2", "KES1"], []]


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"request_id": b"short"}, "request_id: must be 16 bytes, is 5"),
        ({"author": ""}, "author: 1 to 64 bytes"),
        ({"author": "é" * 33}, "author: 1 to 64 bytes"),
        ({"kind": "tarif"}, "kind: must be one of .*, is 'tarif'"),
        ({"body": bytes(65_537)}, "body: at most 65536 bytes, is 65537"),
        ({"body": b"currency ="}, "Invalid value"),
        ({"body": b"\xff"}, "utf-8"),
        ({"body": SAMPLE.replace(b"[101, 500, 7]", b"[102, 500, 7]")}, r"send_money.bands\[1\]: must begin at 101"),
        ({"key": "KES"}, "key: a tariff is filed under its currency and date, KES/2023-07-29, not KES"),
    ],
)
async def test_bad_documents_are_refused_and_nothing_is_written(
    served: Served, fields: dict[str, Any], reason: str
) -> None:
    request = put(1)
    for name, value in fields.items():
        setattr(request, name, value)
    with pytest.raises(grpc.aio.AioRpcError, match=reason) as refused:
        await served.stub("operator").PutDocument(request)
    assert refused.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert served.node.proposed == 0


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"page_size": 1_001}, "page_size"),
        ({"page_token": "a b"}, "page_token"),
        ({"page_token": "x", "key": "k"}, "page_token"),
    ],
)
async def test_bad_lists_are_refused(served: Served, fields: dict[str, Any], reason: str) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=reason):
        await served.stub("operator").ListDocuments(config_pb2.ListDocumentsRequest(kind="tariff", **fields))


async def test_only_operators_may_ask(served: Served) -> None:
    for role in ("edge", "node"):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await served.stub(role).PutDocument(put(1))
        assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
