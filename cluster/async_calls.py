"""The load generators' calls: asyncio, to the leader wherever it is, the same request again while its outcome is
unknown. Apart from `calls.py` because a generator must tell the three endings apart without exceptions as control flow
on its hot path."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc
import grpc.aio

from cluster.calls import (
    CHANNEL_OPTIONS,
    CallError,
    NotAppliedError,
    UnknownOutcomeError,
    channel_credentials,
    leader_hint,
)
from cluster.certificates import TlsPaths

_PAUSE_S = 0.02
_RETRIED = (
    grpc.StatusCode.UNAVAILABLE,
    grpc.StatusCode.RESOURCE_EXHAUSTED,
    grpc.StatusCode.DEADLINE_EXCEEDED,
    grpc.StatusCode.CANCELLED,
    grpc.StatusCode.UNKNOWN,
)


class AsyncCaller:
    def __init__(self, addresses: Sequence[str], tls: TlsPaths, *, attempt_timeout_s: float = 3.0) -> None:
        self._addresses = tuple(addresses)
        credentials = channel_credentials(tls)
        self._channels = {
            address: grpc.aio.secure_channel(address, credentials, options=CHANNEL_OPTIONS) for address in addresses
        }
        self._attempt_timeout_s = attempt_timeout_s
        self._leader = self._addresses[0]
        self.retries = 0  # attempts that had to be repeated

    async def close(self) -> None:
        for channel in self._channels.values():
            await channel.close()

    async def leader(self, method: Callable[[Any], Any], request: Any, deadline_s: float) -> Any:
        """The response. Raises UnknownOutcomeError, NotAppliedError at the deadline, CallError when refused."""
        end_s = time.monotonic() + deadline_s
        unknown = False
        while True:
            address = self._leader
            left_s = end_s - time.monotonic()
            try:
                timeout_s = max(min(left_s, self._attempt_timeout_s), 0.001)
                return await method(self._channels[address])(request, timeout=timeout_s)
            except grpc.aio.AioRpcError as error:
                code = error.code()
                if code not in _RETRIED:
                    raise CallError(f"{code.name}: {error.details()}") from error
                hint = leader_hint(error)
                refused = code is grpc.StatusCode.UNAVAILABLE and bool(hint)
                unknown |= not refused and code is not grpc.StatusCode.RESOURCE_EXHAUSTED
                if time.monotonic() + _PAUSE_S >= end_s:
                    kind = UnknownOutcomeError if unknown else NotAppliedError
                    raise kind(f"no answer within {deadline_s:g} s: {error.details()}") from error
            self.retries += 1
            if code is not grpc.StatusCode.RESOURCE_EXHAUSTED:
                self._move_on(address, hint)
            await asyncio.sleep(_PAUSE_S)

    def _move_on(self, tried: str, hint: str) -> None:
        if self._leader != tried:
            return  # another task has found the way already
        if hint in self._channels and hint != tried:
            self._leader = hint
            return
        self._leader = self._addresses[(self._addresses.index(tried) + 1) % len(self._addresses)]
