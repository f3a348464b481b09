"""The commands' own caller against real servers: it follows the leader and says honestly how a call ended."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from kibubu.ledger.v1 import ledger_pb2, ledger_pb2_grpc

from cluster.calls import Caller, CallError, NotAppliedError, UnknownOutcomeError
from cluster.certificates import TlsPaths, ensure_certificates, tls_paths
from kibubu_client import pack_transfer
from tests.kibubu_client.scripted import BREAKS, FORBIDDEN, FULL, INVALID, LATE, NOT_LEADER, OK, ScriptedNode

REQUEST = ledger_pb2.CreateTransfersPackedRequest(transfers=pack_transfer(7, 1, 2, 5, ledger=404, code=9))


@pytest.fixture
def tls(tmp_path: Path) -> TlsPaths:
    ensure_certificates(tmp_path, [("operator", "both")])
    return tls_paths(tmp_path, "operator", "both")


@pytest.fixture
async def nodes(tls: TlsPaths) -> AsyncIterator[list[ScriptedNode]]:
    nodes = [ScriptedNode() for _ in range(3)]
    servers = [await node.start(tls) for node in nodes]
    yield nodes
    await asyncio.gather(*(server.stop(None) for server in servers))


async def ask(nodes: list[ScriptedNode], tls: TlsPaths) -> ledger_pb2.CreateTransfersPackedResponse:
    def call() -> ledger_pb2.CreateTransfersPackedResponse:
        with Caller([node.address for node in nodes], tls, deadline_s=0.6) as caller:
            return caller.leader(lambda c: ledger_pb2_grpc.LedgerServiceStub(c).CreateTransfersPacked, REQUEST)

    return await asyncio.to_thread(call)


@pytest.mark.parametrize("word", [BREAKS, LATE, NOT_LEADER, FULL])
async def test_what_may_be_asked_again_is_asked_again(nodes: list[ScriptedNode], tls: TlsPaths, word: str) -> None:
    for node in nodes:
        node.script = deque([word, OK])
    assert len((await ask(nodes, tls)).replies) == 64
    assert sum(len(node.batches) for node in nodes) > 1


async def test_a_named_leader_is_asked_at_once(nodes: list[ScriptedNode], tls: TlsPaths) -> None:
    nodes[0].script, nodes[0].leader = deque([NOT_LEADER]), nodes[2].address
    await ask(nodes, tls)
    assert [len(node.batches) for node in nodes] == [1, 0, 1]


@pytest.mark.parametrize(
    ("words", "ending"),
    [
        ([NOT_LEADER], NotAppliedError), ([FULL], NotAppliedError), ([BREAKS], UnknownOutcomeError),
        ([LATE], UnknownOutcomeError), ([BREAKS, NOT_LEADER], UnknownOutcomeError),
    ],
)  # fmt: skip
async def test_at_the_deadline_the_ending_is_honest(
    nodes: list[ScriptedNode], tls: TlsPaths, words: list[str], ending: type[CallError]
) -> None:
    for node in nodes:
        node.script = deque(words)
    with pytest.raises(ending):
        await ask(nodes, tls)


@pytest.mark.parametrize(("word", "complaint"), [(INVALID, "invalid argument"), (FORBIDDEN, "permission denied")])
async def test_a_refusal_is_told_at_once(nodes: list[ScriptedNode], tls: TlsPaths, word: str, complaint: str) -> None:
    nodes[0].script = deque([word])
    with pytest.raises(CallError, match=complaint) as caught:
        await ask(nodes, tls)
    assert type(caught.value) is CallError
    assert [len(node.batches) for node in nodes] == [1, 0, 0]


@pytest.mark.parametrize(
    ("word", "ending"), [(NOT_LEADER, NotAppliedError), (BREAKS, UnknownOutcomeError), (INVALID, CallError)]
)
async def test_one_attempt_at_one_node_is_as_honest(
    nodes: list[ScriptedNode], tls: TlsPaths, word: str, ending: type[CallError]
) -> None:
    nodes[1].script = deque([word])

    def call() -> None:
        with Caller([nodes[0].address], tls) as caller:
            method = ledger_pb2_grpc.LedgerServiceStub
            caller.one(nodes[1].address, lambda c: method(c).CreateTransfersPacked, REQUEST, timeout_s=5)

    with pytest.raises(CallError) as caught:
        await asyncio.to_thread(call)
    assert type(caught.value) is ending
