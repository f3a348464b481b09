"""The phone in the browser is there only where the configuration says so, and reaches nothing but the edge."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from tests.ussd_edge.edge import Node, running_edge, running_node
from ussd_edge.app import GatewaySettings
from ussd_edge.gateways import GATEWAYS


@pytest.fixture
async def node(tmp_path: Path) -> AsyncIterator[Node]:
    async with running_node(tmp_path) as node:
        yield node


async def test_it_is_served_where_it_is_wanted(node: Node, tmp_path: Path) -> None:
    gateways = {name: GatewaySettings() for name in ("hubtel", "africastalking")}
    async with running_edge(tmp_path, node, gateways=gateways, browser_phone=True) as (_, client):
        settings = (await client.get("/phone/settings.json")).json()
        assert settings == {"serviceCode": "*384*100#", "gateways": ["hubtel", "africastalking"]}
        page = await client.get("/phone")
        assert page.headers["content-security-policy"].startswith("default-src 'self'")
        linked = set(re.findall(r'(?:href|src)="(/[^"]+)"', page.text))
        script = await client.get("/phone/phone.js")
        linked |= set(re.findall(r'from "([^"]+)"', script.text))
        assert linked == {"/phone/phone.css", "/phone/phone.js", "/phone/gateways.js"}
        for path in linked:
            assert (await client.get(path)).status_code == 200
        for path in ("/phone/x", "/phone/../app.py", "/phone/__init__.py", "/phone/%2e%2e/app.py"):
            assert (await client.get(path)).status_code == 404
        assert (await client.post("/phone")).status_code == 404
        formats = re.findall(r"^  (\w+): \{$", (await client.get("/phone/gateways.js")).text, re.MULTILINE)
        assert formats == list(GATEWAYS)


async def test_it_is_not_there_otherwise(node: Node, tmp_path: Path) -> None:
    async with running_edge(tmp_path, node) as (_, client):
        for path in ("/phone", "/phone/", "/phone/phone.js", "/phone/settings.json"):
            assert (await client.get(path)).status_code == 404


async def test_no_text_becomes_markup(node: Node, tmp_path: Path) -> None:
    """A customer's name is shown on it."""
    async with running_edge(tmp_path, node, browser_phone=True) as (_, client):
        for path in ("/phone/phone.js", "/phone/gateways.js"):
            source = (await client.get(path)).text
            assert not re.search(r"innerHTML|outerHTML|insertAdjacent|document\.write|eval\(", source)
