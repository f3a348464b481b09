"""USSD over SMPP: a message centre on a socket, the bridge, the edge over HTTP; sessions, endings, lost connections."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
import uvicorn
from prometheus_client import CollectorRegistry

from cluster.certificates import tls_paths
from kibubu_client import Client, TlsFiles
from tests.ussd_edge.edge import KEY, PIN, Node, running_node
from tests.ussd_edge.phone import HOME
from tests.ussd_edge.smpp.centre import MESSAGE_REFERENCE, SESSION_INFO, Centre, Submitted
from tests.ussd_edge.wires import CODE
from ussd_edge.app import EdgeSettings, GatewaySettings, UssdApp
from ussd_edge.config import ConfigError
from ussd_edge.guard import Access
from ussd_edge.smpp.bridge import Bridge, BridgeMetrics
from ussd_edge.smpp.config import load_config
from ussd_edge.smpp.link import LinkSettings, encoded
from ussd_edge.store import EmbeddedStore

BEGIN, INPUT, ABORT = 1, 18, 0x81
SECRET = b"gateway-secret"


class World:
    def __init__(self, centre: Centre, node: Node, edge_url: str) -> None:
        self.centre, self.node, self.edge_url = centre, node, edge_url
        self.settings = LinkSettings("127.0.0.1", centre.port, "kibubu", "secret")
        self.registry = CollectorRegistry()

    @contextlib.asynccontextmanager
    async def bridge(self, **changes: object) -> AsyncIterator[Bridge]:
        settings = replace(self.settings, **changes)  # type: ignore[arg-type]
        bridge = Bridge(settings, self.edge_url, SECRET.decode(), BridgeMetrics(self.registry))
        running = asyncio.create_task(bridge.run())
        try:
            yield bridge
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
            await bridge.close()

    async def say(self, op: int, text: str, session: int = 7, tag: int = MESSAGE_REFERENCE) -> Submitted:
        async with asyncio.timeout(20):
            await self.centre.bound.wait()
            await self.centre.deliver(op, text, more={tag: struct.pack(">H", session)})
            return await self.centre.submitted.get()

    def count(self, outcome: str) -> float:
        return self.registry.get_sample_value("kibubu_smpp_steps_total", {"outcome": outcome}) or 0.0


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with running_node(tmp_path) as node:
        paths = tls_paths(tmp_path, "operator", "both")
        tls = TlsFiles(paths.ca, paths.cert, paths.key)
        settings = EdgeSettings("KES", CODE, {"smpp": GatewaySettings(Access(secret=SECRET))}, KEY)
        app = UssdApp(
            lambda: Client([node.address], tls, deadline_s=5), EmbeddedStore, settings, CollectorRegistry(),
        )  # fmt: skip
        server = uvicorn.Server(uvicorn.Config(app, port=0, lifespan="on", log_config=None))
        serving = asyncio.create_task(server.serve())
        while not server.started:
            await asyncio.sleep(0.01)
        port = server.servers[0].sockets[0].getsockname()[1]
        centre = Centre()
        listening = await centre.start()
        yield World(centre, node, f"http://127.0.0.1:{port}/ussd/smpp")
        listening.close()
        server.should_exit = True
        await serving


async def test_a_whole_journey(world: World) -> None:
    async with world.bridge():
        first = await world.say(BEGIN, "*384*100#")
        assert (first.op, first.message.decode(), first.data_coding) == (2, HOME, 0)
        assert (first.source, first.destination) == ("384", "254712000001")
        assert first.more[MESSAGE_REFERENCE] == b"\x00\x07"
        for text in ("1", "0712000002"):
            assert (await world.say(INPUT, text)).op == 2
        confirm = await world.say(INPUT, "500")
        assert b"Otieno" in confirm.message
        done = await world.say(INPUT, PIN)
        assert (done.op, done.message[:4]) == (17, b"Sent")
        assert [payment.amount_minor for payment in world.node.paid] == [50_000]
        assert (await world.say(INPUT, PIN)).message == done.message  # the centre's retry
        assert len(world.node.paid) == 1
    assert world.centre.acknowledged.qsize() == 6
    assert world.centre.unbinds == 1
    assert world.count("answered") == 6


async def test_sessions_by_its_session_info_and_a_vendor_who_ends_in_hexadecimal(world: World) -> None:
    async with world.bridge(session_field="its_session_info", end_op=0x17):
        first = await world.say(BEGIN, "*384*100#", session=0x0244, tag=SESSION_INFO)
        assert first.more[SESSION_INFO] == b"\x02\x44"
        last = await world.say(INPUT, "0", session=0x0244, tag=SESSION_INFO)
        assert (last.op, last.more[SESSION_INFO]) == (0x17, b"\x02\x45")


async def test_what_needs_no_answer_gets_none(world: World) -> None:
    async with world.bridge():
        await world.say(BEGIN, "*384*100#")
        await world.centre.deliver(ABORT, "", more={MESSAGE_REFERENCE: b"\x00\x07"})
        await world.centre.deliver(0, "an SMS", more={})
        await world.centre.deliver(INPUT, "1", source="nobody", more={MESSAGE_REFERENCE: b"\x00\x08"})
        assert (await world.say(BEGIN, "*384*100#", session=9)).message.decode() == HOME
        while world.count("ended") + world.count("no_ussd") + world.count("refused") < 3:
            await asyncio.sleep(0.01)
    assert world.centre.submitted.empty()
    assert [world.count(name) for name in ("ended", "no_ussd", "refused", "answered")] == [1, 1, 1, 2]


async def test_it_binds_anew_when_the_centre_is_gone(world: World) -> None:
    world.centre.password = "another"
    async with world.bridge():
        while not world.centre.binds:
            await asyncio.sleep(0.01)
        assert world.registry.get_sample_value("kibubu_smpp_bound") == 0
        world.centre.password = "secret"
        assert (await world.say(BEGIN, "*384*100#")).op == 2
        world.centre.hang_up()
        assert (await world.say(BEGIN, "*384*100#", session=8)).op == 2
        assert world.centre.binds >= 3


def test_a_text_that_no_gsm_phone_has_goes_as_ucs_2() -> None:
    assert encoded("Fee €5") == (b"Fee \x1be5", 0)
    assert encoded("ẹ") == (b"\x1e\xb9", 8)
    assert len(encoded("ẹ" * 200)[0]) == 254


GOOD = """
[listen]
metrics = "127.0.0.1:1"
[edge]
url = "http://127.0.0.1:2/ussd/smpp"
[centre]
address = "10.1.0.1:2775"
system_id = "kibubu"
password_file = "smpp.secret"
"""


@pytest.mark.parametrize(
    ("old", "new", "complaint"),
    [
        ("", "", ""),
        ('system_id = "kibubu"', "", "centre.system_id"),
        ('address = "10.1.0.1:2775"', 'address = "10.1.0.1"', "centre.address: must be host:port"),
        ("[centre]", '[centre]\nsession_field = "x"', "centre.session_field: must be one of"),
        ("[centre]", "[centre]\nend_op = 256", "centre.end_op: must be 1 to 255"),
        ("smpp.secret", "none", "centre.password_file"),
        ('url = "http', 'url = "ftp', "edge.url: must begin with http://"),
        ('[edge]\nurl = "http://127.0.0.1:2/ussd/smpp"', "edge = 5", "edge.url"),
    ],
)
def test_the_configuration(tmp_path: Path, old: str, new: str, complaint: str) -> None:
    (tmp_path / "smpp.secret").write_text("secret\n")
    (tmp_path / "smpp.secret").chmod(0o600)
    path = tmp_path / "smpp.toml"
    path.write_text(GOOD.replace(old, new) if old else GOOD)
    if complaint:
        with pytest.raises(ConfigError, match=complaint):
            load_config(path)
    else:
        assert load_config(path).link == LinkSettings("10.1.0.1", 2775, "kibubu", "secret")
