"""The change feed of a real cluster, while its leaders are killed: exactly what the log has, once, in order."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest
from kibubu.admin.v1 import admin_pb2, admin_pb2_grpc

from cluster import lifecycle, processes
from cluster.accounts import LEDGER_KES, find_account
from cluster.calls import Caller
from cluster.clients import operator_client
from cluster.health import find_leader
from cluster.layout import NODE_IDS, Layout
from cluster.vocabulary import CODE_OPERATOR
from kibubu_client import Client, KibubuError, new_id, pack_transfer
from node.ledger.entry import decode_entry

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
Customer = Callable[..., str]
KILLS = 2
BETWEEN_KILLS = 60  # transfers that the reader has seen


def exported(operator: Caller, address: str, first: int, last: int) -> list[tuple[int, int, bytes]]:
    """(position, event offset, id) of every transfer, by ExportLog."""
    stub = admin_pb2_grpc.AdminServiceStub(operator.channel(address))
    found = []
    for page in stub.ExportLog(admin_pb2.ExportLogRequest(from_position=first, to_position=last), timeout=60):
        for one in page.entries:
            if one.entry:
                entry = decode_entry(one.entry)
                for offset, record in enumerate(entry.transfers):
                    number = int(record["id_hi"]) << 64 | int(record["id_lo"])
                    found.append((one.position, len(entry.payments) + offset, number.to_bytes(16, "big")))
    return found


async def pay_until(done: asyncio.Event, client: Client, accounts: tuple[int, int]) -> set[bytes]:
    """One after the other; the ids that were acknowledged."""
    acknowledged = set()
    while not done.is_set():
        number = new_id()
        packed = pack_transfer(number, *accounts, 1, ledger=LEDGER_KES, code=CODE_OPERATOR)
        try:
            replies = await client.transfer(packed)
        except KibubuError:
            continue
        assert int(replies["status"][0]) == 0
        acknowledged.add(number.to_bytes(16, "big"))
    return acknowledged


async def test_leaders_die_and_the_feed_goes_on(cluster: Layout, operator: Caller, customer: Customer) -> None:
    numbers = [find_account(operator, customer()).account_number for _ in range(2)]
    done = asyncio.Event()
    async with operator_client(cluster) as reader, operator_client(cluster) as payer:
        work = asyncio.create_task(pay_until(done, payer, (numbers[0], numbers[1])))
        feed, seen, killed = reader.feed(1, payments=False), [], []
        async for event in feed:
            seen.append(event)
            if len(seen) >= (len(killed) + 1) * BETWEEN_KILLS + len(killed) * BETWEEN_KILLS and len(killed) < KILLS:
                leader = await asyncio.to_thread(find_leader, operator, cluster)
                await asyncio.to_thread(processes.kill, cluster.pid_file(leader))
                killed.append((leader, len(seen)))
            elif len(killed) == KILLS and len(seen) >= killed[-1][1] + BETWEEN_KILLS:
                break
            if len(killed) == 1 and len(seen) == killed[0][1] + BETWEEN_KILLS // 2:
                await asyncio.to_thread(lifecycle.start_service, cluster, killed[0][0])
        done.set()
        acknowledged = await work
        missing = acknowledged - {event.transfer.transfer.id for event in seen}
        async with asyncio.timeout(60):  # the node that is followed may hear of the last ones a moment later
            while missing:
                seen.append(await anext(feed))
                missing.discard(seen[-1].transfer.transfer.id)
        await feed.aclose()
    assert len(killed) == KILLS
    told = [(event.position, event.offset, event.transfer.transfer.id) for event in seen]
    lifecycle.up(cluster, lambda _: None, seed=False)
    for node_id in NODE_IDS:
        assert exported(operator, cluster.api_address(node_id), 1, seen[-1].position) == told
    assert acknowledged <= {transfer_id for _, _, transfer_id in told}
