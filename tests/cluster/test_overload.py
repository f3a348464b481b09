"""What a real cluster does at its limits: it says no at once, loses nothing, and goes on when there is room again."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import httpx
import numpy as np
import pytest
from kibubu.admin.v1 import admin_pb2, admin_pb2_grpc
from kibubu.ledger.v1 import ledger_pb2, ledger_pb2_grpc

from cluster import demo, inspection, processes
from cluster.accounts import LEDGER_KES, find_account
from cluster.calls import CHANNEL_OPTIONS, Caller, channel_credentials, marks_of, operator_caller
from cluster.certificates import tls_paths
from cluster.chaos.arena import Arena, open_arena
from cluster.chaos.ground import wait_for
from cluster.chaos.needs import forbidden
from cluster.config_files import OPERATOR
from cluster.health import find_leader, node_status
from cluster.layout import Layout
from cluster.packed import IdSource, fresh_batch, template
from cluster.vocabulary import CODE_ISSUE
from kibubu_client.leader import NOT_APPLIED_KEY
from node.service.auth import STREAMS_PER_CONNECTION_MAX
from node.service.limits import ENTRIES_IN_FLIGHT_MAX, QUEUED_TRANSFERS_MAX, TRANSFERS_IN_CALL_MAX

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(300)]
WAIT_S = 30.0
LEFT_BYTES = 350 << 20  # between half of the reserve and all of it: no new work, but what the leader sends is taken
IDS = IdSource()
Stub = ledger_pb2_grpc.LedgerServiceStub


def connection(layout: Layout, node_id: str) -> grpc.Channel:
    """One of its own, so that nobody shares its streams."""
    tls = tls_paths(layout.certificates, "operator", OPERATOR)
    return grpc.secure_channel(layout.api_address(node_id), channel_credentials(tls), options=CHANNEL_OPTIONS)


def parties(caller: Caller) -> tuple[int, int]:
    """The issuance account, which may go below zero, and a customer."""
    customer = demo.CUSTOMERS[0]
    names = (f"system:{demo.ISSUANCE}", f"{customer.key}:{customer.value}")
    issuance, payee = (find_account(caller, name).account_number for name in names)
    return issuance, payee


def batch_of(accounts: tuple[int, int], count: int) -> bytes:
    form = template(count, amount_minor=100, ledger=LEDGER_KES, code=CODE_ISSUE)
    debit, credit = (np.full(count, account, np.uint64) for account in accounts)
    return fresh_batch(form, IDS, debit, credit).tobytes()


def send(channel: grpc.Channel, packed: bytes) -> Any:
    """A call under way."""
    request = ledger_pb2.CreateTransfersPackedRequest(transfers=packed)
    return Stub(channel).CreateTransfersPacked.future(request, timeout=WAIT_S)


def is_exhausted(call: Any) -> bool:
    return bool(call.code() is grpc.StatusCode.RESOURCE_EXHAUSTED)


def is_there(caller: Caller, packed: bytes) -> bool:
    request = ledger_pb2.LookupTransfersRequest(ids=[packed[:16][::-1]])
    found = caller.leader(lambda c: Stub(c).LookupTransfers, request)
    return bool(found.transfers[0].result.status == 0)


@contextmanager
def followers_stopped(layout: Layout, leader: str) -> Iterator[None]:
    """Nothing is committed meanwhile, and for a second the leader does not know."""
    others = [node_id for node_id in layout.node_ids if node_id != leader]
    try:
        for node_id in others:
            processes.pause(layout.pid_file(node_id))
        yield
    finally:
        for node_id in others:
            processes.resume(layout.pid_file(node_id))


def test_a_full_queue_refuses_at_once_and_surely(cluster: Layout, operator: Caller) -> None:
    """While nothing can be committed the refusals come first; what was refused is nowhere, and can be sent again."""
    leader, accounts, size = find_leader(operator, cluster), parties(operator), TRANSFERS_IN_CALL_MAX
    packed = [batch_of(accounts, size) for _ in range(ENTRIES_IN_FLIGHT_MAX + QUEUED_TRANSFERS_MAX // size + 6)]
    ended: list[Any] = []
    with connection(cluster, leader) as channel:
        with followers_stopped(cluster, leader):
            calls = [send(channel, one) for one in packed]
            for call in calls:
                call.add_done_callback(ended.append)
            assert wait_for(lambda: len(ended) == len(calls), WAIT_S)
        refused = [one for one, call in zip(packed, calls, strict=True) if is_exhausted(call)]
        assert refused, [call.code() for call in calls]
        assert all(is_exhausted(call) for call in ended[: len(refused)])
        assert all(NOT_APPLIED_KEY in marks_of(call.exception()) for call in ended[: len(refused)])
    assert wait_for(lambda: bool(find_leader(operator, cluster)), WAIT_S)
    assert not any(is_there(operator, one) for one in refused)
    for one in refused:
        request = ledger_pb2.CreateTransfersPackedRequest(transfers=one)
        operator.leader(lambda c: Stub(c).CreateTransfersPacked, request)
    assert all(is_there(operator, one) for one in refused)


def test_one_connection_has_so_many_streams_and_no_more(cluster: Layout, operator: Caller) -> None:
    """The calls beyond them wait at their client; those of other connections are served meanwhile."""
    leader, accounts = find_leader(operator, cluster), parties(operator)
    with connection(cluster, leader) as greedy, connection(cluster, leader) as modest:
        with followers_stopped(cluster, leader):
            calls = [send(greedy, batch_of(accounts, 1)) for _ in range(2 * STREAMS_PER_CONNECTION_MAX)]
            status = admin_pb2_grpc.AdminServiceStub(modest).GetStatus(admin_pb2.GetStatusRequest(), timeout=WAIT_S)
            assert status.queue_length <= STREAMS_PER_CONNECTION_MAX
        codes = {call.code() for call in calls}
    assert codes <= {
        grpc.StatusCode.OK, grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
    }, codes  # fmt: skip
    assert wait_for(lambda: bool(find_leader(operator, cluster)), WAIT_S)


def test_an_edge_without_a_leader_says_so_and_lives(cluster: Layout, operator: Caller) -> None:
    edge = f"http://{cluster.edge_address}"
    assert wait_for(lambda: httpx.get(f"{edge}/healthz").status_code == 200, WAIT_S)
    with followers_stopped(cluster, find_leader(operator, cluster)):
        assert wait_for(lambda: httpx.get(f"{edge}/healthz").status_code == 503, WAIT_S)
        assert httpx.get(f"{edge}/healthz").text == "no leader is reachable"
        assert httpx.get(f"{edge}/livez").text == "ok"
    assert wait_for(lambda: httpx.get(f"{edge}/healthz").status_code == 200, WAIT_S)


@pytest.mark.skipif(bool(forbidden(("volumes",))), reason="; ".join(forbidden(("volumes",))))
def test_full_disks_stop_new_work_before_they_are_full(tmp_path: Path) -> None:
    with open_arena(Layout(home=tmp_path, port_base=0), ("volumes",), print) as arena:
        layout = arena.layout
        with operator_caller(layout, deadline_s=WAIT_S) as caller:
            accounts = parties(caller)
            starts = [processes.read_pid_file(layout.pid_file(node_id)) for node_id in layout.node_ids]
            fill(arena)
            assert wait_for(lambda: rooms(layout, caller) == {"low"}, WAIT_S), rooms(layout, caller)
            refused = batch_of(accounts, 10)
            leader = wait_for(lambda: find_leader(caller, layout), WAIT_S)
            with connection(layout, leader) as channel:
                call = send(channel, refused)
                assert is_exhausted(call), call.code()
                assert NOT_APPLIED_KEY in marks_of(call.exception())
            assert not is_there(caller, refused)  # and reads are served
            for volume in arena.volumes.values():
                volume.make_room()
            assert wait_for(lambda: rooms(layout, caller) == {"ok"}, WAIT_S), rooms(layout, caller)
            request = ledger_pb2.CreateTransfersPackedRequest(transfers=refused)
            caller.leader(lambda c: Stub(c).CreateTransfersPacked, request)
            assert is_there(caller, refused)
            assert [processes.read_pid_file(layout.pid_file(node_id)) for node_id in layout.node_ids] == starts
            assert not inspection.verify(layout, caller).problems


def fill(arena: Arena) -> None:
    for volume in arena.volumes.values():
        room = os.statvfs(volume.folder)
        with (volume.folder / "filler").open("wb") as file:
            os.posix_fallocate(file.fileno(), 0, room.f_bavail * room.f_frsize - LEFT_BYTES)


def rooms(layout: Layout, caller: Caller) -> set[str]:
    states = [node_status(caller, address) for address in layout.api_addresses]
    return {state.storage if state else "" for state in states}
