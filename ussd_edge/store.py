"""The session store: for what a gateway does not carry itself. Embedded in the process, or shared in Redis by several
edges. It holds only sealed texts, each for a limited time; losing them costs a customer a new dialling, never money."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import Protocol

from redis.asyncio import BlockingConnectionPool, Redis
from redis.exceptions import RedisError

from ussd_edge.limits import SESSIONS_MAX, STORE_CONNECTIONS_MAX, STORE_TIMEOUT_S


class StoreDownError(Exception):
    """The store does not answer; nothing is known of the session."""


class SessionStore(Protocol):
    """Each call may raise StoreDownError."""

    async def get(self, key: str) -> str | None: ...

    async def put(self, key: str, value: str, seconds_max: int) -> None: ...

    async def drop(self, key: str) -> None: ...

    async def close(self) -> None: ...


class EmbeddedStore:
    """In this process's memory; beyond its maximum the oldest is forgotten."""

    def __init__(self, sessions_max: int = SESSIONS_MAX) -> None:
        self._sessions_max = sessions_max
        self._kept: OrderedDict[str, tuple[float, str]] = OrderedDict()

    async def get(self, key: str) -> str | None:
        until_s, value = self._kept.get(key, (0.0, ""))
        return value if time.monotonic() < until_s else None

    async def put(self, key: str, value: str, seconds_max: int) -> None:
        self._kept.pop(key, None)
        self._kept[key] = (time.monotonic() + seconds_max, value)
        while len(self._kept) > self._sessions_max:
            self._kept.popitem(last=False)

    async def drop(self, key: str) -> None:
        self._kept.pop(key, None)

    async def close(self) -> None:
        self._kept.clear()


class RedisStore:
    """`url` as redis-py takes it: redis://, rediss:// (TLS) or unix://."""

    def __init__(self, url: str) -> None:
        pool = BlockingConnectionPool.from_url(
            url, max_connections=STORE_CONNECTIONS_MAX, timeout=STORE_TIMEOUT_S, socket_timeout=STORE_TIMEOUT_S,
            socket_connect_timeout=STORE_TIMEOUT_S, decode_responses=True,
        )  # fmt: skip
        self._redis = Redis(connection_pool=pool)

    async def get(self, key: str) -> str | None:
        try:
            value = await self._redis.get(key)
        except (RedisError, OSError) as error:
            raise StoreDownError(type(error).__name__) from error
        return value if isinstance(value, str) else None

    async def put(self, key: str, value: str, seconds_max: int) -> None:
        try:
            await self._redis.set(key, value, ex=seconds_max)
        except (RedisError, OSError) as error:
            raise StoreDownError(type(error).__name__) from error

    async def drop(self, key: str) -> None:
        try:
            await self._redis.delete(key)
        except (RedisError, OSError) as error:
            raise StoreDownError(type(error).__name__) from error

    async def close(self) -> None:
        await self._redis.aclose()
        await self._redis.connection_pool.disconnect()
