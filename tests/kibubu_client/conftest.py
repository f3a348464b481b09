"""Three scripted nodes and a client of them."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from cluster.certificates import ensure_certificates, tls_paths
from kibubu_client import Client, TlsFiles
from tests.kibubu_client.scripted import ScriptedNode

DEADLINE_S = 1.0


@pytest.fixture(scope="session")
def tls(tmp_path_factory: pytest.TempPathFactory) -> TlsFiles:
    folder = tmp_path_factory.mktemp("certificates")
    ensure_certificates(folder, [("operator", "both")])
    paths = tls_paths(folder, "operator", "both")
    return TlsFiles(paths.ca, paths.cert, paths.key)


@pytest.fixture
async def nodes(tls: TlsFiles) -> AsyncIterator[list[ScriptedNode]]:
    nodes = [ScriptedNode() for _ in range(3)]
    servers = [await node.start(tls) for node in nodes]  # type: ignore[arg-type]
    yield nodes
    for node in nodes:
        node.gate.set()
    await asyncio.gather(*(server.stop(None) for server in servers))


@pytest.fixture
async def client(nodes: list[ScriptedNode], tls: TlsFiles) -> AsyncIterator[Client]:
    async with Client([node.address for node in nodes], tls, deadline_s=DEADLINE_S) as client:
        # Connected first: the time of a handshake on a busy machine is not what the tests are about.
        await asyncio.gather(*(channel.channel_ready() for channel in client._leader._channels.values()))
        yield client
