"""Calls that go to the leader, wherever it is, and say honestly how they ended.

A node that does not lead says so, and often who does. What surely did not happen is sent again; what is unknown is
asked again with the same ids, which is safe; so are the others while a node is silent. At the deadline, one unknown
attempt makes the whole unknown.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc

from kibubu_client.errors import InvalidRequestError, KibubuError, NotAppliedError, UnknownOutcomeError
from kibubu_client.rescue import Leads, Rescue

LEADER_ADDRESS_KEY = "kibubu-leader-address"
NOT_APPLIED_KEY = "kibubu-not-applied"
SERVER_NAME = "kibubu"  # in every certificate of the operator
ATTEMPT_S_MAX = 3.0
ATTEMPT_S_MIN = 0.1  # no attempt is begun with less time: what surely did not happen would become unknown
PAUSE_S_MIN, PAUSE_S_MAX = 0.02, 0.25
MESSAGE_BYTES_MAX = 8 << 20
_OPTIONS = (
    ("grpc.ssl_target_name_override", SERVER_NAME),
    ("grpc.max_receive_message_length", MESSAGE_BYTES_MAX),
    ("grpc.max_send_message_length", MESSAGE_BYTES_MAX),
    ("grpc.initial_reconnect_backoff_ms", 50),
    ("grpc.min_reconnect_backoff_ms", 200),
    ("grpc.max_reconnect_backoff_ms", 500),
    ("grpc.keepalive_time_ms", 10_000),
    ("grpc.keepalive_timeout_ms", 2_000),
    ("grpc.enable_retries", 0),
)
MAYBE_HAPPENED = frozenset(
    {
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.DEADLINE_EXCEEDED,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.ABORTED,
    }
)


@dataclass(frozen=True, slots=True)
class TlsFiles:
    ca: Path
    cert: Path
    key: Path


class LeaderCaller:
    def __init__(self, addresses: Sequence[str], tls: TlsFiles) -> None:
        if not addresses:
            raise ValueError("addresses: at least one node is needed")
        credentials = grpc.ssl_channel_credentials(
            tls.ca.read_bytes(), private_key=tls.key.read_bytes(), certificate_chain=tls.cert.read_bytes()
        )
        self._addresses = tuple(addresses)
        self._channels = {
            address: grpc.aio.secure_channel(address, credentials, options=_OPTIONS) for address in self._addresses
        }
        self._methods: dict[tuple[str, type[Any], str], Any] = {}
        self._leads = Leads(self._addresses[0])

    @property
    def leader(self) -> str:
        """The address that the next call tries first."""
        return self._leads.address

    @property
    def channels(self) -> Sequence[grpc.aio.Channel]:
        """To every node, for what any of them answers."""
        return tuple(self._channels.values())

    async def close(self) -> None:
        await asyncio.gather(*(channel.close() for channel in self._channels.values()))

    async def call(self, stub: type[Any], method: str, request: Any, deadline_s: float) -> Any:
        """The response. Raises NotAppliedError or UnknownOutcomeError at the deadline, InvalidRequestError at once."""
        end_s = time.monotonic() + deadline_s
        pause_s, maybe_happened, hint_was_followed = PAUSE_S_MIN, False, False
        while True:
            address, left_s = self._leads.address, end_s - time.monotonic()
            timeout_s = max(0.001, min(left_s, ATTEMPT_S_MAX))
            call = self._method(address, stub, method)(request, timeout=timeout_s)
            rescue = self._rescue(call, address, stub, method, request, timeout_s)
            try:
                return await call
            except asyncio.CancelledError:
                task = asyncio.current_task()
                if not rescue.address or (task is not None and task.cancelling()):
                    raise  # the caller has given up
                return rescue.answer
            except grpc.aio.AioRpcError as error:
                trailers = _trailers(error)
                surely_not = NOT_APPLIED_KEY in trailers
                if not surely_not and error.code() not in MAYBE_HAPPENED:
                    raise _refusal(error) from error
                maybe_happened |= not surely_not or rescue.maybe_happened
                if time.monotonic() + pause_s + ATTEMPT_S_MIN >= end_s:
                    raise _too_late(error, deadline_s, maybe_happened) from error
                hint = trailers.get(LEADER_ADDRESS_KEY, "")
                is_full = error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED
            finally:
                rescue.end()
            if not is_full and self._move_on(address, hint) and not hint_was_followed:
                hint_was_followed = True
                continue  # a named leader is tried at once; two that name each other are not
            hint_was_followed = False
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_S_MAX)

    def _rescue(self, call: Any, address: str, stub: type[Any], method: str, request: Any, timeout_s: float) -> Rescue:
        others = [other for other in self._addresses if other != address]

        def ask(other: str) -> Any:
            return self._method(other, stub, method)(request, timeout=timeout_s)

        return Rescue(self._leads, call, others, ask, lambda error: NOT_APPLIED_KEY in _trailers(error))

    def _method(self, address: str, stub: type[Any], method: str) -> Any:
        key = (address, stub, method)
        if key not in self._methods:
            self._methods[key] = getattr(stub(self._channels[address]), method)
        return self._methods[key]

    def _move_on(self, tried: str, hint: str) -> bool:
        """Choose whom to ask next; True = somebody else is known to lead."""
        if self._leads.address != tried:
            return True  # another call has found the way
        if hint in self._channels and hint != tried:
            self._leads.address = hint
            return True
        self._leads.address = self._addresses[(self._addresses.index(tried) + 1) % len(self._addresses)]
        return False


def _trailers(error: grpc.aio.AioRpcError) -> dict[str, str]:
    return {str(key): str(value) for key, value in error.trailing_metadata() or ()}


def _refusal(error: grpc.aio.AioRpcError) -> KibubuError:
    return InvalidRequestError(f"{error.code().name.lower()}: {error.details()}")


def _too_late(error: grpc.aio.AioRpcError, deadline_s: float, maybe_happened: bool) -> KibubuError:
    kind = UnknownOutcomeError if maybe_happened else NotAppliedError
    return kind(f"no answer within {deadline_s:g} s: {error.details()}")
