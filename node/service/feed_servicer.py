"""FeedService: the log's events from any position on, first those that are stored, then those that come. A reader is
served at its own rate: the next page is read when the last one was taken."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

from kibubu.feed.v1 import feed_pb2, feed_pb2_grpc

from node.consensus.contract import Consensus
from node.service.applied import AppliedSignal
from node.service.errors import NotAppliedError, QueueFullError
from node.service.feed_events import FeedReader
from node.service.guard import Guard
from node.service.limits import FEED_FOLLOWERS_MAX, FEED_HEARTBEAT_S, FEED_LEADERLESS_S
from node.storage.ledger_store import LedgerStore


class FeedServicer(feed_pb2_grpc.FeedServiceServicer):
    def __init__(
        self, store: LedgerStore, reader: FeedReader, signal: AppliedSignal, consensus: Consensus, guard: Guard
    ) -> None:
        self._store = store
        self._reader = reader
        self._signal = signal
        self._consensus = consensus
        self._guard = guard
        self._followers = 0
        self._is_closed = False

    def close(self) -> None:
        """End every stream: their readers go on at another node."""
        self._is_closed = True
        self._signal.wake()

    async def Follow(  # noqa: N802
        self, request: feed_pb2.FollowRequest, context: Any
    ) -> AsyncIterator[feed_pb2.FollowResponse]:
        async with self._guard.call("Follow", context):
            if self._followers >= FEED_FOLLOWERS_MAX:
                raise QueueFullError(f"{FEED_FOLLOWERS_MAX} readers follow this node already")
            self._followers += 1
            try:
                async for response in self._pages(request):
                    yield response
            finally:
                self._followers -= 1

    async def _pages(self, request: feed_pb2.FollowRequest) -> AsyncIterator[feed_pb2.FollowResponse]:
        position, offset = max(request.from_position, 1), request.from_offset
        both = request.payments == request.transfers
        payments, transfers = request.payments or both, request.transfers or both
        end = self._store.applied_position
        said_at = led_at = time.monotonic()
        while not self._is_closed:
            last = end if request.only_stored else self._store.applied_position
            if position <= last:
                page = await asyncio.to_thread(
                    self._reader.read, position, offset, last, payments=payments, transfers=transfers
                )
                position, offset = page.position, page.offset
                events = page.events
            elif request.only_stored:
                return
            else:
                led_at = self._check_leader(led_at)
                await self._signal.wait(position, FEED_HEARTBEAT_S / 2)
                events = []
            if events or time.monotonic() - said_at >= FEED_HEARTBEAT_S:
                said_at = time.monotonic()
                yield self._response(events, position, offset)
        raise NotAppliedError("this node stops; follow another")

    def _check_leader(self, led_at: float) -> float:
        """A node that was cut off would be silent for ever; its reader had better ask another."""
        now = time.monotonic()
        if self._consensus.status().leader_id:
            return now
        if now - led_at >= FEED_LEADERLESS_S:
            raise NotAppliedError("this node knows no leader; follow another")
        return led_at

    def _response(self, events: list[feed_pb2.Event], position: int, offset: int) -> feed_pb2.FollowResponse:
        return feed_pb2.FollowResponse(
            events=events,
            next_position=position,
            next_offset=offset,
            applied_position=self._store.applied_position,
            applied_timestamp_ns=self._store.last_timestamp_ns,
        )
