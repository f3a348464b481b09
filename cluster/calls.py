"""Synchronous gRPC calls of the cluster commands: to the leader wherever it is, or to one node.

Every request carries its own id, so the same request is sent again whenever its outcome is unknown:

CallError               the service refused the call (wrong input, wrong role): nothing was applied
  NotAppliedError       surely not applied, and nobody took it before the deadline
  UnknownOutcomeError   no answer before the deadline: ask again with the same id
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from types import TracebackType
from typing import Any, Self, TypeVar

import grpc

from cluster.certificates import TlsPaths, tls_paths
from cluster.config_files import OPERATOR
from cluster.layout import Layout
from kibubu_client.leader import ATTEMPT_S_MIN, LEADER_ADDRESS_KEY, MAYBE_HAPPENED, NOT_APPLIED_KEY, SERVER_NAME

DEADLINE_S = 10.0
ATTEMPT_TIMEOUT_S = 3.0
MESSAGE_BYTES_MAX = 16 << 20
_PAUSE_S = 0.05

Response = TypeVar("Response")
Method = Callable[[grpc.Channel], Callable[..., Response]]
CHANNEL_OPTIONS: tuple[tuple[str, Any], ...] = (
    ("grpc.ssl_target_name_override", SERVER_NAME),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 50),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.use_local_subchannel_pool", 1),
)


class CallError(Exception):
    """The service refused the call; nothing was applied."""


class NotAppliedError(CallError):
    """Surely not applied."""


class UnknownOutcomeError(CallError):
    """It may or may not have been applied."""


def channel_credentials(tls: TlsPaths) -> grpc.ChannelCredentials:
    return grpc.ssl_channel_credentials(tls.ca.read_bytes(), tls.key.read_bytes(), tls.cert.read_bytes())


def marks_of(error: Any) -> dict[str, str]:
    """What a node says about a call that it did not answer: that it surely did nothing, and who leads."""
    return {str(key): str(value) for key, value in error.trailing_metadata() or ()}


class Caller:
    def __init__(self, addresses: Sequence[str], tls: TlsPaths, *, deadline_s: float = DEADLINE_S) -> None:
        self._addresses = tuple(addresses)
        self._credentials = channel_credentials(tls)
        self._deadline_s = deadline_s
        self._channels: dict[str, grpc.Channel] = {}
        self._leader = self._addresses[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        for channel in self._channels.values():
            channel.close()
        self._channels.clear()

    def channel(self, address: str) -> grpc.Channel:
        if address not in self._channels:
            self._channels[address] = grpc.secure_channel(address, self._credentials, options=CHANNEL_OPTIONS)
        return self._channels[address]

    def one(self, address: str, method: Method[Response], request: Any, *, timeout_s: float = DEADLINE_S) -> Response:
        """One attempt at one node."""
        try:
            return method(self.channel(address))(request, timeout=timeout_s)
        except grpc.RpcError as error:
            raise _as_call_error(error, address) from error

    def leader(self, method: Method[Response], request: Any) -> Response:
        """To the leader, again and again with the same ids until the deadline."""
        deadline_s = time.monotonic() + self._deadline_s
        unknown = hint_was_followed = False
        while True:
            address = self._leader
            left_s = deadline_s - time.monotonic()
            try:
                return method(self.channel(address))(request, timeout=max(min(left_s, ATTEMPT_TIMEOUT_S), 0.001))
            except grpc.RpcError as raw:
                error: Any = raw
                code, marks = error.code(), marks_of(error)
                surely_not = NOT_APPLIED_KEY in marks
                if not surely_not and code not in MAYBE_HAPPENED:
                    raise _as_call_error(error, address) from raw
                unknown |= not surely_not
                if time.monotonic() + _PAUSE_S + ATTEMPT_S_MIN >= deadline_s:
                    kind = UnknownOutcomeError if unknown else NotAppliedError
                    raise kind(f"no answer within {self._deadline_s:g} s: {error.details()}") from raw
            hint = marks.get(LEADER_ADDRESS_KEY, "")
            if code is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                self._leader = hint if hint and hint != address else self._after(address)
            hint_was_followed = bool(hint) and not hint_was_followed
            if not hint_was_followed:  # a named leader is tried at once; two that name each other are not
                time.sleep(_PAUSE_S)

    def _after(self, address: str) -> str:
        if address not in self._addresses:
            return self._addresses[0]
        return self._addresses[(self._addresses.index(address) + 1) % len(self._addresses)]


def _as_call_error(error: Any, address: str) -> CallError:
    code, details = error.code(), error.details()
    if NOT_APPLIED_KEY in marks_of(error):
        return NotAppliedError(f"{address}: {details}")
    if code in MAYBE_HAPPENED:
        return UnknownOutcomeError(f"{address}: {details}")
    return CallError(f"{code.name.lower().replace('_', ' ')}: {details}")


def operator_caller(layout: Layout, *, deadline_s: float = DEADLINE_S) -> Caller:
    return Caller(layout.api_addresses, tls_paths(layout.certificates, "operator", OPERATOR), deadline_s=deadline_s)
