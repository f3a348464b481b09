"""The load: transfers, linked pairs, reservations with what ends them, retries and reads, each noted in the history.

What was not answered stays open until somebody asks. Clients think a little between two calls, so that the load is the
same before, during and after a fault.
"""

from __future__ import annotations

import asyncio
import random
import time

import numpy as np
from kibubu.ledger.v1 import ledger_pb2

from cluster.accounts import LEDGER_KES
from cluster.chaos.checker.records import Records
from cluster.chaos.history import History, numbers_of
from cluster.packed import IdSource, fresh_batch, template
from cluster.vocabulary import CODE_CHAOS, CODE_PRINCIPAL, STATUS_OK
from kibubu_client import Client, InvalidRequestError, KibubuError, NotAppliedError
from kibubu_client.records import LINKED, PENDING, POST, VOID

BATCH = 4
WORKERS = 8
READERS = 2
THINK_S = 0.02
AMOUNT_MINOR_MAX = 2_000  # now and then more than an account has, so that refusals are in the load
WAITING_MAX = 1_000  # reservations remembered for somebody to end
AGAIN_SHARE = 0.05  # of batches that are sent a second time although they were answered
TIME_OUTS_S = (0, 0, 1, 2, 30)  # of reservations; 0 = none
FORGOTTEN_SHARE = 0.4  # of reservations with a time limit, which nobody ends
SCORED_SHARE = 0.5  # of batches whose transfers the fraud check looks at first; the others are an operator's own
LINKED_SHARE, PENDING_SHARE, END_SHARE = 0.15, 0.1, 0.2


class Traffic:
    def __init__(self, client: Client, accounts: list[int], history: History, seed: int) -> None:
        self._client = client
        self._accounts = np.array(accounts, dtype=np.uint64)
        self._history = history
        self._numpy = np.random.default_rng(seed)
        self._random = random.Random(seed)
        self._ids = IdSource()
        self._form = template(BATCH, amount_minor=1, ledger=LEDGER_KES, code=CODE_CHAOS)
        self._waiting: list[tuple[int, int, int, int]] = []  # id, debit, credit, amount
        self._stopping = asyncio.Event()
        self.refused_calls: list[str] = []  # a client's mistake, which there must not be
        self.started_ns = self.ended_ns = 0

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        self.started_ns = time.monotonic_ns()
        workers = [self._work() for _ in range(WORKERS)] + [self._look() for _ in range(READERS)]
        await asyncio.gather(*workers)
        self.ended_ns = time.monotonic_ns()

    async def _work(self) -> None:
        while not self._stopping.is_set():
            batch = self._next()
            if await self._send(batch) and self._random.random() < AGAIN_SHARE:
                await self._send(batch)
            await asyncio.sleep(THINK_S * self._random.uniform(0.5, 1.5))

    async def _send(self, batch: Records) -> bool:
        """True = answered."""
        rows = self._history.begin(batch)
        try:
            replies = await self._client.create_transfers(batch.tobytes())
        except NotAppliedError:
            self._history.surely_not(rows)
            return False
        except InvalidRequestError as error:
            self._history.surely_not(rows)
            self.refused_calls.append(str(error))
            return False
        except KibubuError:
            return False  # unknown: the history leaves it open
        self._history.acknowledged(rows, replies)
        self._remember_waiting(batch, replies)
        return True

    async def _look(self) -> None:
        """A reader asks for a few accounts at once; the answer must be of one moment for each of them."""
        while not self._stopping.is_set():
            numbers = self._random.sample(self._accounts.tolist(), 2)
            invoked_ns = time.monotonic_ns()
            try:
                answer = await self._client.lookup_accounts(ledger_pb2.LookupAccountsRequest(account_numbers=numbers))
            except KibubuError:
                continue
            self._history.read(invoked_ns, answer)
            await asyncio.sleep(THINK_S)

    def _next(self) -> Records:
        at = self._numpy.integers(0, len(self._accounts), BATCH)
        step = self._numpy.integers(1, len(self._accounts), BATCH)
        batch = fresh_batch(
            self._form, self._ids, self._accounts[at], self._accounts[(at + step) % len(self._accounts)]
        )
        batch["amount_minor"] = self._numpy.integers(1, AMOUNT_MINOR_MAX, BATCH)
        if self._random.random() < SCORED_SHARE:
            batch["code"] = CODE_PRINCIPAL
        kind = self._random.random()
        if kind < LINKED_SHARE:
            batch["flags"][:2] = LINKED  # the first three together or not at all
        elif kind < LINKED_SHARE + PENDING_SHARE:
            batch["flags"][0] = PENDING
            batch["timeout_s"][0] = self._random.choice(TIME_OUTS_S)
        elif kind < LINKED_SHARE + PENDING_SHARE + END_SHARE and self._waiting:
            self._end_one(batch)
        return batch

    def _end_one(self, batch: Records) -> None:
        number, debit, credit, amount_minor = self._waiting[self._random.randrange(len(self._waiting))]
        if self._random.random() < 0.7:  # the others will be named a second time, and refused
            self._waiting.remove((number, debit, credit, amount_minor))
        batch["flags"][0] = self._random.choice((POST, VOID))
        batch["pending_id_hi"][0], batch["pending_id_lo"][0] = number >> 64, number & (1 << 64) - 1
        batch["debit_account"][0], batch["credit_account"][0] = debit, credit
        batch["amount_minor"][0] = self._random.randrange(amount_minor + 1) if batch["flags"][0] == POST else 0

    def _remember_waiting(self, batch: Records, replies: Records) -> None:
        if int(batch["flags"][0]) != PENDING or int(replies["status"][0]) != STATUS_OK:
            return
        if int(batch["timeout_s"][0]) and self._random.random() < FORGOTTEN_SHARE:
            return
        if len(self._waiting) < WAITING_MAX:
            parties = int(batch["debit_account"][0]), int(batch["credit_account"][0])
            self._waiting.append((numbers_of(batch[:1])[0], *parties, int(batch["amount_minor"][0])))
