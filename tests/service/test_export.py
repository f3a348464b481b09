"""ExportLog over real gRPC and mutual TLS: what comes out is the whole history, and its hash chain proves it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import grpc
import pytest
from blake3 import blake3
from kibubu.admin.v1 import admin_pb2, admin_pb2_grpc
from prometheus_client import CollectorRegistry

from node.service.admin_servicer import AdminServicer
from node.service.auth import RoleChecks, server_options
from node.service.config import load_config
from node.service.guard import Guard
from node.service.metrics import NodeMetrics, RateMeter
from node.service.tls import load_server_credentials
from tests.consensus.certs import Authority
from tests.service.one_node import OneNode
from tests.service.test_small_parts import GOOD


class Served:
    def __init__(self, folder: Path) -> None:
        self.channels: list[grpc.aio.Channel] = []
        self.node = OneNode(folder / "ledger")
        self.authority = Authority(folder)
        tls = self.authority.issue("node", "n1")
        path = folder / "n1.toml"
        path.write_text(GOOD, encoding="utf-8")
        guard = Guard(self.node, NodeMetrics(CollectorRegistry()), lambda: "")
        servicer = AdminServicer(load_config(path), self.node, self.node.store, guard, RateMeter(lambda: 0), lambda: 0)
        self.server = grpc.aio.server(options=server_options())
        admin_pb2_grpc.add_AdminServiceServicer_to_server(servicer, RoleChecks(self.server))
        self.port = self.server.add_secure_port("127.0.0.1:0", load_server_credentials(tls.ca, tls.cert, tls.key))

    def stub(self, role: str) -> Any:
        tls = self.authority.issue(role, "x")
        credentials = grpc.ssl_channel_credentials(tls.ca.read_bytes(), tls.key.read_bytes(), tls.cert.read_bytes())
        options = (("grpc.ssl_target_name_override", "kibubu"),)
        channel = grpc.aio.secure_channel(f"127.0.0.1:{self.port}", credentials, options=options)
        self.channels.append(channel)
        return admin_pb2_grpc.AdminServiceStub(channel)


@pytest.fixture
async def served(tmp_path: Path) -> AsyncIterator[Served]:
    made = Served(tmp_path)
    await made.server.start()
    yield made
    for channel in made.channels:
        await channel.close()
    await made.server.stop(None)
    made.node.store.close()


async def _export(stub: Any, **request: int) -> list[admin_pb2.ExportLogResponse]:
    return [page async for page in stub.ExportLog(admin_pb2.ExportLogRequest(**request))]


def _hash(previous: bytes, entry: admin_pb2.ExportedEntry) -> bytes:
    digest = blake3(previous)
    digest.update(entry.position.to_bytes(8, "little") + entry.timestamp_ns.to_bytes(8, "little"))
    digest.update(entry.entry + entry.outcomes)
    digest.update(b"".join(reference.to_bytes(8, "little") for reference in entry.expired))
    return digest.digest()


async def test_the_whole_history_comes_out_and_its_chain_holds(served: Served) -> None:
    served.node.people()
    served.node.store.checkpoint(wait=True)
    served.node.write(b"")  # a no-op, and still in memory
    pages = await _export(served.stub("operator"))
    entries = [entry for page in pages for entry in page.entries]
    assert [entry.position for entry in entries] == list(range(1, served.node.store.applied_position + 1))
    chain = pages[0].previous_chain_hash
    assert chain == bytes(32)
    for entry in entries:
        chain = _hash(chain, entry)
        assert chain == entry.chain_hash
    assert chain == served.node.store.chain_hash
    entries[3].timestamp_ns += 1
    assert _hash(entries[2].chain_hash, entries[3]) != entries[3].chain_hash  # the comparison can fail


async def test_a_range_says_what_was_before_it(served: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.service.admin_servicer.EXPORT_PAGE_BYTES_MAX", 1)  # every entry a page of its own
    served.node.people()
    pages = await _export(served.stub("operator"), from_position=4, to_position=6)
    assert [[entry.position for entry in page.entries] for page in pages] == [[4], [5], [6]]
    for page in pages:
        assert _hash(page.previous_chain_hash, page.entries[0]) == page.entries[0].chain_hash
    assert not await _export(served.stub("operator"), from_position=10_000)


@pytest.mark.parametrize(
    ("role", "request_", "code"),
    [
        ("edge", {}, grpc.StatusCode.PERMISSION_DENIED),
        ("operator", {"from_position": 5, "to_position": 4}, grpc.StatusCode.INVALID_ARGUMENT),
    ],
)
async def test_bad_calls_are_refused(
    served: Served, role: str, request_: dict[str, int], code: grpc.StatusCode
) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await _export(served.stub(role), **request_)
    assert caught.value.code() is code


async def test_the_state_hash_of_a_past_position_is_kept(served: Served) -> None:
    """So that nodes can be compared while they run."""
    node, stub = served.node, served.stub("operator")
    node.store._state.hash_every = 4
    object.__setattr__(node.store._config, "state_hash_every", 4)
    for _ in range(9):
        node.write(b"")
    kept = await stub.GetStateHash(admin_pb2.GetStateHashRequest(position=7))
    assert (kept.found, kept.state_hash_position, kept.state_hash) == (True, 4, node.store._state.hashes[4])
    assert kept.chain_hash == node.store.chain_hash_at(7)
    now = await stub.GetStateHash(admin_pb2.GetStateHashRequest())
    assert (now.position, now.state_hash_position, now.state_hash) == (9, 9, node.store.state_hash())
    none = await stub.GetStateHash(admin_pb2.GetStateHashRequest(position=3))
    assert (none.found, none.state_hash_position, none.state_hash) == (True, 0, b"")
