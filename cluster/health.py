"""Whether the processes of a cluster can do their work: gRPC health, a leader, an HTTP answer."""

from __future__ import annotations

import socket
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from functools import partial

import grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from kibubu.admin.v1 import admin_pb2, admin_pb2_grpc

from cluster.calls import Caller, CallError
from cluster.layout import EDGE, FRAUD, PROMETHEUS, REVIEW, SMS, Layout

_PROBE_TIMEOUT_S = 1.0
_POLL_S = 0.1


def is_serving(caller: Caller, address: str) -> bool:
    try:
        answer = health_pb2_grpc.HealthStub(caller.channel(address)).Check(
            health_pb2.HealthCheckRequest(), timeout=_PROBE_TIMEOUT_S
        )
    except grpc.RpcError:
        return False
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


def node_status(
    caller: Caller, address: str, *, timeout_s: float = _PROBE_TIMEOUT_S
) -> admin_pb2.GetStatusResponse | None:
    """What the node says of itself; None when it does not answer."""
    try:
        return caller.one(
            address,
            lambda c: admin_pb2_grpc.AdminServiceStub(c).GetStatus,
            admin_pb2.GetStatusRequest(),
            timeout_s=timeout_s,
        )
    except CallError:
        return None


def find_leader(caller: Caller, layout: Layout) -> str:
    """The node that says it leads the highest term; empty when none does."""
    best: tuple[int, str] = (-1, "")
    for node_id in layout.node_ids:
        status = node_status(caller, layout.api_address(node_id))
        if status is not None and status.role == "leader":
            best = max(best, (status.term, node_id))
    return best[1]


def answers_http(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=_PROBE_TIMEOUT_S) as answer:
            return 200 <= int(answer.status) < 300
    except (urllib.error.URLError, OSError, ValueError):
        return False


def listens(address: str) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host, int(port)), timeout=_PROBE_TIMEOUT_S):
            return True
    except OSError:
        return False


def checks(layout: Layout, caller: Caller, *, prometheus: bool, sms: bool = False) -> dict[str, Callable[[], bool]]:
    """One check a process, and one for the leader."""
    result: dict[str, Callable[[], bool]] = {FRAUD: lambda: is_serving(caller, layout.fraud_address)}
    for node_id in layout.node_ids:
        result[node_id] = partial(is_serving, caller, layout.api_address(node_id))
    result["leader"] = lambda: bool(find_leader(caller, layout))
    result[EDGE] = lambda: listens(layout.edge_address)
    if sms:
        result[SMS] = lambda: listens(layout.metrics_address(SMS))
        result[REVIEW] = lambda: answers_http(f"http://{layout.review_address}/healthz")
    if prometheus:
        result[PROMETHEUS] = lambda: answers_http(f"http://{layout.prometheus_address}/-/ready")
    return result


def wait_healthy(
    wanted: Mapping[str, Callable[[], bool]], timeout_s: float, ended: Callable[[str], bool]
) -> dict[str, str]:
    """Waits until every check has succeeded once. Returns what did not, with the reason; empty = all healthy."""
    open_checks = dict(wanted)
    deadline_s = time.monotonic() + timeout_s
    while open_checks:
        for name, check in list(open_checks.items()):
            if check():
                del open_checks[name]
        gone = {name: "its process has ended" for name in open_checks if ended(name)}
        if gone:
            return gone
        if time.monotonic() > deadline_s:
            return dict.fromkeys(open_checks, f"not healthy after {timeout_s:g} s")
        time.sleep(_POLL_S)
    return {}
