"""The load of an ordeal: transfers with remembered ids; what was not answered stays open until somebody asks."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import numpy as np

from cluster.accounts import LEDGER_KES
from cluster.chaos.history import History, Sent
from cluster.packed import IdSource, fresh_batch, template
from cluster.vocabulary import CODE_CHAOS
from kibubu_client import Client, KibubuError
from kibubu_client.records import Records

BATCH = 5
WORKERS = 8
AMOUNT_MINOR_MAX = 2_000  # now and then more than an account has, so that refusals are in the load
AGAIN_SHARE = 0.05  # of batches that are sent a second time although they were answered


class Traffic:
    def __init__(self, client: Client, accounts: list[int], history: History, seed: int) -> None:
        self._client = client
        self._accounts = np.array(accounts, dtype=np.uint64)
        self._history = history
        self._rng = np.random.default_rng(seed)
        self._random = random.Random(seed)
        self._ids = IdSource()
        self._form = template(BATCH, amount_minor=1, ledger=LEDGER_KES, code=CODE_CHAOS)
        self.unanswered = 0
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        self._history.started_s = time.monotonic()
        await asyncio.gather(*(self._worker() for _ in range(WORKERS)))
        self._history.ended_s = time.monotonic()

    async def _worker(self) -> None:
        while not self._stopping.is_set():
            batch = self._next()
            sent = note(self._history, batch)
            try:
                replies = await self._client.create_transfers(batch.tobytes())
                answer(self._history, sent, replies)
                if self._random.random() < AGAIN_SHARE:
                    answer(self._history, sent, await self._client.create_transfers(batch.tobytes()))
            except KibubuError:
                self.unanswered += 1
            await asyncio.sleep(0)

    def _next(self) -> Records:
        at = self._rng.integers(0, len(self._accounts), BATCH)
        step = self._rng.integers(1, len(self._accounts), BATCH)
        batch = fresh_batch(
            self._form, self._ids, self._accounts[at], self._accounts[(at + step) % len(self._accounts)]
        )
        batch["amount_minor"] = self._rng.integers(1, AMOUNT_MINOR_MAX, BATCH)
        return batch


def note(history: History, batch: Records) -> list[Sent]:
    columns: list[Any] = [batch[name].tolist() for name in ("id_lo", "id_hi", "debit_account", "credit_account")]
    sent = [
        Sent(high << 64 | low, debit, credit, amount)
        for low, high, debit, credit, amount in zip(*columns, batch["amount_minor"].tolist(), strict=True)
    ]
    history.sent += sent
    return sent


def answer(history: History, sent: list[Sent], replies: Records) -> None:
    """Remember what the ledger said; a second answer that differs from the first is a contradiction."""
    history.acknowledged_at_s.append(time.monotonic())
    for one, status, position in zip(sent, replies["status"].tolist(), replies["position"].tolist(), strict=True):
        if one.status is None:
            one.status, one.position = status, position
        elif (one.status, one.position) != (status, position):
            history.contradictions.append(
                f"transfer {one.id:032x}: first answered {one.status} at {one.position}, then {status} at {position}"
            )
