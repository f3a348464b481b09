"""The generator: prebuilt packed records with fresh ids; as many callers as the setting says, one call open each."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable

import numpy as np
from kibubu.payments.v1 import payments_pb2

from cluster.accounts import LEDGER_KES
from cluster.bench.settings import Run, Setting
from cluster.demo import DEMO_PIN
from cluster.packed import IdSource, fresh_batch, template
from cluster.vocabulary import CODE_BENCH, STATUS_OK
from kibubu_client import Client, id_bytes, new_id

PAID_MINOR = 15_000  # in the second band, so that fee and excise are in the path
Call = Callable[[], Awaitable[Counter[str]]]


async def run_once(setting: Setting, call: Call, seconds: float, cpu_s: Callable[[], float]) -> Run:
    """`clients` callers for `seconds`; what is still open at the end is waited for and not counted."""
    outcomes: Counter[str] = Counter()
    latencies_ms: list[float] = []
    cpu_before_s, started_s = cpu_s(), time.perf_counter()
    end_s = started_s + seconds

    async def caller() -> None:
        while True:
            sent_s = time.perf_counter()
            if sent_s >= end_s:
                return
            answered = await call()
            now_s = time.perf_counter()
            if now_s <= end_s:
                outcomes.update(answered)
                latencies_ms.append((now_s - sent_s) * 1_000)

    await asyncio.gather(*(caller() for _ in range(setting.clients)))
    used_s = cpu_s() - cpu_before_s
    done = sum(outcomes.values())
    return Run(done / seconds, used_s * 1e6 / done if done else 0.0, latencies_ms, dict(outcomes))


def transfer_call(client: Client, setting: Setting, accounts: list[int]) -> Call:
    """Between random accounts that all have enough. A batch below a hundred shares its call with other callers'."""
    ids, rng = IdSource(), np.random.default_rng(1)
    numbers = np.array(accounts, dtype=np.uint64)
    form = template(setting.batch, amount_minor=1, ledger=LEDGER_KES, code=CODE_BENCH)
    send = client.transfer if setting.batch < 100 else client.create_transfers

    async def call() -> Counter[str]:
        at = rng.integers(0, len(numbers), setting.batch)
        step = rng.integers(1, len(numbers), setting.batch)
        batch = fresh_batch(form, ids, numbers[at], numbers[(at + step) % len(numbers)])
        replies = await send(batch.tobytes())
        ok = int(np.count_nonzero(replies["status"] == STATUS_OK))
        return Counter({"ok": ok, "refused": len(replies) - ok}) if ok < len(replies) else Counter({"ok": ok})

    return call


def payment_call(client: Client, msisdns: list[str]) -> Call:
    rng = random.Random(1)

    async def call() -> Counter[str]:
        payer, payee = rng.sample(msisdns, 2)
        payment = payments_pb2.Payment(
            payment_id=id_bytes(new_id()),
            kind=payments_pb2.PAYMENT_KIND_SEND_MONEY,
            payer_msisdn=payer,
            payee=payee,
            amount_minor=PAID_MINOR,
            currency="KES",
        )
        outcome = await client.pay(payments_pb2.MakePaymentRequest(payment=payment, pin=DEMO_PIN))
        scored = " scored" if outcome.model_version else " unscored"
        return Counter({outcome.status_name + scored: 1})

    return call
