"""Who may call what: the role in the caller's certificate decides, before a request is even read.

An edge faces the internet's side of the operator, so it may make payments and nothing else: it cannot create money,
change accounts or steer nodes.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import grpc

from node.ledger.records import BATCH_TRANSFERS_MAX, TRANSFER

SPIFFE_PREFIX = "spiffe://kibubu/"
MESSAGE_BYTES_MAX = BATCH_TRANSFERS_MAX * TRANSFER.itemsize + 64 * 1_024
STREAMS_PER_CONNECTION_MAX = 1_024
_ALLOWED: Mapping[str, frozenset[str]] = {
    "kibubu.ledger.v1.LedgerService": frozenset({"operator"}),
    "kibubu.payments.v1.PaymentsService": frozenset({"operator", "edge"}),
    "kibubu.payments.v1.PayRequestsService": frozenset({"operator", "edge"}),
    "kibubu.review.v1.ReviewService": frozenset({"operator", "review"}),
    "kibubu.config.v1.ConfigService": frozenset({"operator"}),
    "kibubu.bulk.v1.BulkService": frozenset({"operator"}),
    "kibubu.feed.v1.FeedService": frozenset({"operator", "auditor", "outbox"}),
    "kibubu.admin.v1.AdminService": frozenset({"operator"}),
    "grpc.health.v1.Health": frozenset({"operator", "edge", "node", "prometheus"}),
    "grpc.reflection.v1alpha.ServerReflection": frozenset({"operator"}),
}


def server_options() -> list[tuple[str, int]]:
    return [
        ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
        ("grpc.max_send_message_length", 4 * MESSAGE_BYTES_MAX),
        ("grpc.max_concurrent_streams", STREAMS_PER_CONNECTION_MAX),
        ("grpc.max_metadata_size", 16 * 1_024),
        ("grpc.so_reuseport", 0),
        ("grpc.http2.min_ping_interval_without_data_ms", 5_000),
    ]


def role_of(auth_context: Mapping[str, Iterable[bytes]]) -> str:
    """The role that a certificate proves: `spiffe://kibubu/<role>/<name>` as its only URI name; "" = none."""
    uris = list(auth_context.get("peer_uri", ()))
    if len(uris) != 1:
        return ""
    uri = uris[0].decode(errors="replace")
    role, _, name = uri.removeprefix(SPIFFE_PREFIX).partition("/")
    return role if uri.startswith(SPIFFE_PREFIX) and name and "/" not in name else ""


def person_of(auth_context: Mapping[str, Iterable[bytes]]) -> str:
    """The name in the certificate; "" = none."""
    if not role_of(auth_context):
        return ""
    return next(iter(auth_context.get("peer_uri", ()))).decode(errors="replace").rpartition("/")[2]


class RoleChecks:
    """Stands for a server while services are added to it, and wraps each of their methods with the check; a method
    that is not in the table is refused to everybody. (An interceptor would do the same for every call, at a price.)"""

    def __init__(self, server: grpc.aio.Server) -> None:
        self._server = server

    def add_generic_rpc_handlers(self, handlers: Sequence[grpc.GenericRpcHandler]) -> None:
        self._server.add_generic_rpc_handlers(tuple(_Checked(handler) for handler in handlers))

    def add_registered_method_handlers(self, service_name: str, method_handlers: Mapping[str, Any]) -> None:
        """The generic handlers hold the same methods."""


class _Checked(grpc.GenericRpcHandler):
    def __init__(self, inner: grpc.GenericRpcHandler) -> None:
        self._inner = inner
        self._wrapped: dict[str, Any] = {}

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> Any:
        method = handler_call_details.method
        wrapped = self._wrapped.get(method)
        if wrapped is None:
            handler = self._inner.service(handler_call_details)
            if handler is None:
                return None  # another service's; gRPC answers UNIMPLEMENTED where it is nobody's
            service = method.lstrip("/").partition("/")[0]
            wrapped = self._wrapped[method] = _with_check(handler, service, _ALLOWED.get(service, frozenset()))
        return wrapped


async def _check(context: Any, service: str, allowed: frozenset[str]) -> None:
    role = role_of(context.auth_context())
    if role not in allowed:
        whom = f"a certificate of the role {role!r}" if role else "a certificate without a role"
        await context.abort(grpc.StatusCode.PERMISSION_DENIED, f"{whom} may not call {service}")


def _with_check(handler: Any, service: str, allowed: frozenset[str]) -> Any:
    if handler.request_streaming:  # reflection and health's Watch: the only streams on this port
        inner_stream = handler.stream_stream

        async def stream(requests: Any, context: Any) -> Any:
            await _check(context, service, allowed)
            async for response in inner_stream(requests, context):
                yield response

        return grpc.stream_stream_rpc_method_handler(stream, handler.request_deserializer, handler.response_serializer)
    if handler.response_streaming:
        inner_watch = handler.unary_stream

        async def watch(request: Any, context: Any) -> None:
            await _check(context, service, allowed)
            if not inspect.isasyncgenfunction(inner_watch):
                await inner_watch(request, context)
                return
            async for response in inner_watch(request, context):
                await context.write(response)

        return grpc.unary_stream_rpc_method_handler(watch, handler.request_deserializer, handler.response_serializer)
    inner = handler.unary_unary

    async def unary(request: Any, context: Any) -> Any:
        await _check(context, service, allowed)
        return await inner(request, context)

    return grpc.unary_unary_rpc_method_handler(unary, handler.request_deserializer, handler.response_serializer)
