"""The load: as many callers as the setting says, each with one call open. What they saw is a Tally."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from kibubu.payments.v1 import payments_pb2

from cluster.bench.feed import TransferFeed
from cluster.bench.histogram import Histogram
from cluster.bench.settings import JOINED_BATCH_MAX, Setting
from cluster.demo import DEMO_PIN
from kibubu_client import Client, KibubuError, id_bytes, new_id
from kibubu_client.records import HELD_FOR_REVIEW, REFUSED_BY_FRAUD_CHECK, REPLY, replies_from_bytes

PAID_MINOR = 15_000  # in the second band, so that fee and excise are in the path


@dataclass(slots=True)
class Tally:
    """One stretch of load. `done` counts what was wanted and was done; what else was answered is in `others`."""

    done: int = 0
    others: Counter[str] = field(default_factory=Counter)
    latencies: Histogram = field(default_factory=Histogram)  # of calls, as their caller sees them


class Load(Protocol):
    async def run(self, seconds: float) -> Tally:
        """What is still open at the end is waited for and not counted."""

    async def close(self) -> None: ...


Call = Callable[[Counter[str]], Awaitable[int]]  # how many were done; everything else is counted by name


class CallLoad:
    """Callers in this process."""

    def __init__(self, call: Call, clients: int) -> None:
        self._call = call
        self._clients = clients

    async def run(self, seconds: float) -> Tally:
        tally = Tally()
        end_s = time.perf_counter() + seconds
        await asyncio.gather(*(self._caller(tally, end_s) for _ in range(self._clients)))
        return tally

    async def _caller(self, tally: Tally, end_s: float) -> None:
        call, clock, record = self._call, time.perf_counter, tally.latencies.record
        others: Counter[str] = Counter()
        sent_s = clock()
        while sent_s < end_s:
            try:
                done = await call(others)
            except KibubuError as error:  # refused or unanswered until its deadline: no answer, so no latency of one
                others[type(error).__name__] += 1
                sent_s = clock()
                continue
            now_s = clock()
            if now_s > end_s:
                break
            tally.done += done
            record(now_s - sent_s)
            sent_s = now_s
        tally.others.update(others)

    async def close(self) -> None:
        """Nothing is held open."""


def transfer_call(client: Client, setting: Setting, feed: TransferFeed) -> Call:
    """A small batch shares its call with other callers'. Held for an analyst counts as done, as with payments."""
    send = client.transfer if setting.batch <= JOINED_BATCH_MAX else client.create_transfers
    size, every_ok = REPLY.itemsize, bytes(setting.batch)

    async def call(others: Counter[str]) -> int:
        replies = (await send(feed.take())).tobytes()
        if replies[0::size] == every_ok == replies[1::size]:
            return setting.batch
        statuses = replies_from_bytes(replies)["status"]
        held, by_fraud = (int(np.count_nonzero(statuses == one)) for one in (HELD_FOR_REVIEW, REFUSED_BY_FRAUD_CHECK))
        refused = int(np.count_nonzero(statuses)) - held - by_fraud
        for name, count in (("held (done)", held), ("refused by fraud check", by_fraud), ("refused", refused)):
            if count:
                others[name] += count
        return setting.batch - refused - by_fraud

    return call


class Payers:
    """Each customer in turn pays the next but six, so that nobody pays twice at the same moment."""

    def __init__(self, msisdns: list[str]) -> None:
        self._msisdns = msisdns
        self._at = 0

    def take(self) -> tuple[str, str]:
        """(payer, payee)"""
        at = self._at
        self._at = (at + 1) % len(self._msisdns)
        return self._msisdns[at], self._msisdns[at - 7]


def payment_call(client: Client, payers: Payers, *, scored: bool = True) -> Call:
    """Held for an analyst counts as done: the money is reserved, and the person was told so. `scored`: only
    what a model has seen counts."""
    done_names = frozenset({"ok", "held_for_review"})

    async def call(others: Counter[str]) -> int:
        payer, payee = payers.take()
        payment = payments_pb2.Payment(
            payment_id=id_bytes(new_id()),
            kind=payments_pb2.PAYMENT_KIND_SEND_MONEY,
            payer_msisdn=payer,
            payee=payee,
            amount_minor=PAID_MINOR,
            currency="KES",
        )
        outcome = await client.pay(payments_pb2.MakePaymentRequest(payment=payment, pin=DEMO_PIN))
        name = outcome.status_name
        if (outcome.model_version or not scored) and name in done_names:
            if name != "ok":
                others[f"{name} (done)"] += 1
            return 1
        others[name if outcome.model_version else f"{name} unscored"] += 1
        return 0

    return call
