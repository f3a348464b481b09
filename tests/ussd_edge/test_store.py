"""The session store in Debian's Redis: shared by edges, sealed, bounded in time; and what happens when it is gone."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import redis

from cluster.packages import EDGE_TEST_PACKAGES, ensure_packages
from tests.ussd_edge.edge import PIN, Clock, Node, running_edge, running_node
from tests.ussd_edge.wires import Arkesel, Hubtel, Shown
from ussd_edge.limits import RESUME_S_MAX, SESSION_S_MAX
from ussd_edge.menu import texts
from ussd_edge.store import RedisStore, StoreDownError

SEND = ("1", "0712000002", "500")


class Server:
    """A redis-server of its own, nothing saved."""

    def __init__(self, folder: Path) -> None:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", "", "--daemonize", "no"]
        self._process = subprocess.Popen(command, cwd=self._folder, stdout=subprocess.DEVNULL)
        end_s = time.monotonic() + 30
        while True:
            try:
                with redis.Redis(port=self.port) as client:
                    client.ping()
                return
            except redis.ConnectionError:
                assert time.monotonic() < end_s, "redis-server does not come up"
                time.sleep(0.02)

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait(30)
            self._process = None


@pytest.fixture(scope="module")
def packages() -> None:
    ensure_packages(EDGE_TEST_PACKAGES)
    if shutil.which("redis-server") is None:
        pytest.skip("Debian's redis-server is not here and cannot be installed")


@pytest.fixture
def server(packages: None, tmp_path: Path) -> Iterator[Server]:
    server = Server(tmp_path)
    server.start()
    yield server
    server.stop()


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path) as node:
        yield node


async def test_what_is_put_is_got_until_its_time_is_over(server: Server) -> None:
    store = RedisStore(server.url)
    assert await store.get("a") is None
    await store.put("a", "1", 60)
    await store.put("a", "2", 60)
    assert await store.get("a") == "2"
    with redis.Redis(port=server.port) as client:
        assert 0 < client.ttl("a") <= 60
    await store.drop("a")
    await store.drop("a")
    assert await store.get("a") is None
    await store.close()


async def test_two_edges_share_a_session(server: Server, node: Node, tmp_path: Path) -> None:
    shared = lambda: RedisStore(server.url)  # noqa: E731
    async with (
        running_edge(tmp_path, node, store=shared) as (_, first),
        running_edge(tmp_path, node, store=shared) as (_, second),
    ):
        phone = Arkesel()
        await phone.dial(first)
        for number, text in enumerate(SEND):
            await phone.type((second, first)[number % 2], text)
        assert (await phone.type(first, PIN)).ends
        assert await phone.type(second, PIN) == await phone.type(first, PIN)
        assert len(node.paid) == 1


async def test_nothing_in_it_can_be_read_and_all_of_it_ends(server: Server, node: Node, tmp_path: Path) -> None:
    async with running_edge(tmp_path, node, store=lambda: RedisStore(server.url)) as (_, client):
        await Arkesel().journey(client, *SEND, "1111")
        await Hubtel(msisdn="254712000009").journey(client, *SEND, "2222")
    with redis.Redis(port=server.port, decode_responses=True) as client:
        keys = client.keys("*")
        assert len(keys) == 5  # Arkesel's session, and for each phone what it may go on with, and its language
        for key in keys:
            text = f"{key} {client.get(key)}"
            assert not any(secret in text for secret in ("254712", "0712000002", "1111", "2222", "arkesel"))
            assert 0 < client.ttl(key) <= max(SESSION_S_MAX, RESUME_S_MAX)


async def test_another_edge_key_opens_none_of_it(server: Server, node: Node, tmp_path: Path) -> None:
    shared = lambda: RedisStore(server.url)  # noqa: E731
    async with running_edge(tmp_path, node, store=shared) as (_, client):
        phone = Arkesel()
        await phone.journey(client, *SEND)
    async with running_edge(tmp_path, node, store=shared, key=b"o" * 32) as (_, other):
        assert await phone.type(other, PIN) == Shown(texts.LOST, ends=True)
    assert node.paid == []


async def test_a_store_that_dies_pays_nothing_and_works_again(server: Server, node: Node, tmp_path: Path) -> None:
    async with running_edge(tmp_path, node, store=lambda: RedisStore(server.url), clock_ms=Clock()) as (_, client):
        phone = Arkesel()
        await phone.journey(client, *SEND)
        server.stop()
        assert await phone.type(client, PIN) == Shown(texts.BUSY, ends=True)
        assert (await Hubtel().journey(client, *SEND, PIN)).ends  # it carries its own
        server.start()
        assert await phone.type(client, PIN) == Shown(texts.LOST, ends=True)
        assert (await Arkesel(session="s2").journey(client, *SEND, PIN)).ends
        assert len(node.paid) == 2


async def test_a_store_that_is_not_there_says_so(packages: None) -> None:
    store = RedisStore("redis://127.0.0.1:1/0")
    for call in (store.get("a"), store.put("a", "b", 1), store.drop("a")):
        with pytest.raises(StoreDownError):
            await call
    await store.close()
