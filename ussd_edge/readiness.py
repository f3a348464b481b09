"""Whether this edge can do anything for a customer: it can while a leader answers it through a quorum."""

from __future__ import annotations

import asyncio
import hashlib
import time

from kibubu_client import Client, InvalidRequestError, KibubuError

ASKED_FOR_S_MAX = 1.0
GOOD_FOR_S = 1.0  # whoever asks more often gets the last answer: asking is no way to load the nodes
NO_LEADER = "no leader is reachable"
_NOBODYS_PAYMENT = hashlib.sha256(b"kibubu edge: is there a leader").digest()[:16]


class Readiness:
    def __init__(self, client: Client) -> None:
        self._client = client
        self._asking = asyncio.Lock()
        self._reason = ""
        self._until_s = 0.0

    async def reason(self) -> str:
        """Why it is not ready; "" = it is."""
        async with self._asking:
            if time.monotonic() >= self._until_s:
                self._reason = await self._ask()
                self._until_s = time.monotonic() + GOOD_FOR_S
            return self._reason

    async def _ask(self) -> str:
        """A linearizable read, of nothing: only a leader that a majority follows can answer it."""
        try:
            await asyncio.wait_for(self._client.lookup_payment(_NOBODYS_PAYMENT), ASKED_FOR_S_MAX)
        except InvalidRequestError as error:
            return f"the nodes refuse this edge: {error}"
        except (KibubuError, TimeoutError):
            return NO_LEADER
        return ""
