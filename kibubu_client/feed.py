"""Follows the change feed from node to node: whatever becomes of one of them, each event comes once and none is left
out, since (position, offset) names it everywhere."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any

import grpc
from kibubu.feed.v1 import feed_pb2, feed_pb2_grpc

from kibubu_client.errors import InvalidRequestError
from kibubu_client.leader import MAYBE_HAPPENED, PAUSE_S_MAX, PAUSE_S_MIN

SILENCE_S_MAX = 8.0  # a node says something every two seconds; one that does not is left
_REFUSED = frozenset(
    {grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.UNAUTHENTICATED}
)
_log = logging.getLogger("kibubu.client")


class Feed:
    """`async for response in feed`: pages in order, for ever unless `only_stored`. `position` and `offset` say where
    the next page begins. Raises InvalidRequestError when the nodes will never answer this."""

    def __init__(
        self,
        channels: Sequence[grpc.aio.Channel],
        position: int = 1,
        offset: int = 0,
        *,
        payments: bool = True,
        transfers: bool = True,
        only_stored: bool = False,
    ) -> None:
        self._stubs = itertools.cycle([feed_pb2_grpc.FeedServiceStub(channel) for channel in channels])
        self.position, self.offset = max(position, 1), offset
        self._payments, self._transfers = payments, transfers
        self._only_stored = only_stored

    async def __aiter__(self) -> AsyncIterator[feed_pb2.FollowResponse]:
        pause_s = PAUSE_S_MIN
        for stub in self._stubs:
            try:
                async with contextlib.aclosing(self._follow(stub)) as responses:
                    async for response in responses:
                        pause_s = PAUSE_S_MIN
                        yield response
                return  # it was to end, and has
            except grpc.aio.AioRpcError as error:
                if error.code() in _REFUSED:
                    raise InvalidRequestError(f"{error.code().name.lower()}: {error.details()}") from error
                if error.code() not in MAYBE_HAPPENED | {grpc.StatusCode.RESOURCE_EXHAUSTED}:
                    raise
                _log.info("the feed goes on at another node: %s", error.code().name.lower())
            except TimeoutError:
                _log.info("the feed goes on at another node: this one is silent")
            await asyncio.sleep(pause_s)
            pause_s = min(2 * pause_s, PAUSE_S_MAX)

    async def _follow(self, stub: Any) -> AsyncGenerator[feed_pb2.FollowResponse, None]:
        request = feed_pb2.FollowRequest(
            from_position=self.position, from_offset=self.offset, payments=self._payments, transfers=self._transfers,
            only_stored=self._only_stored,
        )  # fmt: skip
        call = stub.Follow(request)
        try:
            while True:
                async with asyncio.timeout(SILENCE_S_MAX):
                    response = await call.read()
                if not isinstance(response, feed_pb2.FollowResponse):
                    return
                self.position, self.offset = response.next_position, response.next_offset
                yield response
        finally:
            call.cancel()
