"""Airtime that a provider sells: reserved, then posted or voided as it answers, asked again when it does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from kibubu.payments.v1 import payments_pb2

from node.payments.kinds import AIRTIME_WAITS_S
from node.service.airtime import PROVIDERS, AirtimeProvider, Purchase, SimulatedProvider, TopUp
from node.service.airtime_runner import PAUSE_S_MAX, PAUSE_S_MIN, AirtimeRunner
from tests.service.leader import Leader, available_minor
from tests.service.one_node import OneNode

AIRTIME = payments_pb2.PAYMENT_KIND_BUY_AIRTIME
DONE, REFUSED, SILENT = "0712000007", "0712000008", "0712000009"


class Kiosk:
    def __init__(self, node: OneNode) -> None:
        self.node = node
        self.people = node.people()
        self.leader = Leader(node, airtime_waits=True)
        self.now_s = 0.0
        self.provider = SimulatedProvider()
        self.runner = self.run_with(self.provider)

    def run_with(self, provider: AirtimeProvider) -> AirtimeRunner:
        """A leader that has just taken over."""
        return AirtimeRunner(
            self.node, self.node.store, self.leader.book, self.leader.admission, provider, lambda: self.now_s
        )

    async def buy(self, number: int, msisdn: str = DONE) -> payments_pb2.Outcome:
        return await self.leader.pay(number, kind=AIRTIME, payee=msisdn, amount_minor=5_000)

    def has(self) -> list[int]:
        return [available_minor(self.node, self.people[name]) for name in ("wanjiku", "airtime")]

    def end(self, number: int) -> Any:
        return self.leader.book.lookup(number).end


@pytest.fixture
async def kiosk(tmp_path: Path) -> AsyncIterator[Kiosk]:
    node = OneNode(tmp_path)
    yield Kiosk(node)
    node.store.close()


async def test_a_purchase_is_reserved_and_then_done(kiosk: Kiosk) -> None:
    told = await kiosk.buy(1)
    assert (told.status_name, told.gsma_code, told.payee_name) == ("provider_has_not_answered", "", "254712000007")
    assert told.expire_time_ns == told.timestamp_ns + AIRTIME_WAITS_S * 10**9
    assert (kiosk.has(), kiosk.end(1)) == ([995_000, 0], payments_pb2.PAYMENT_END_WAITS)
    assert await kiosk.runner.look() == 1
    assert (kiosk.has(), kiosk.end(1)) == ([995_000, 5_000], payments_pb2.PAYMENT_END_POSTED)
    assert await kiosk.runner.look() == 0
    assert kiosk.provider.topped_up == {(1).to_bytes(16, "big"): 5_000}
    assert (await kiosk.buy(1)).duplicate


async def test_what_the_provider_refuses_goes_back(kiosk: Kiosk) -> None:
    await kiosk.buy(1, REFUSED)
    assert await kiosk.runner.look() == 1
    assert (kiosk.has(), kiosk.end(1)) == ([1_000_000, 0], payments_pb2.PAYMENT_END_VOIDED)
    assert not kiosk.provider.topped_up


async def test_no_answer_is_asked_again_ever_more_slowly_and_topped_up_once(kiosk: Kiosk) -> None:
    await kiosk.buy(1, SILENT)
    assert await kiosk.runner.look() == 0
    assert await kiosk.runner.look() == 0  # not yet due
    kiosk.now_s += PAUSE_S_MIN
    assert await kiosk.runner.look() == 0
    kiosk.now_s += PAUSE_S_MIN
    assert await kiosk.runner.look() == 0  # twice as long by now
    kiosk.now_s += PAUSE_S_MIN
    assert await kiosk.runner.look() == 1
    assert kiosk.provider.topped_up == {(1).to_bytes(16, "big"): 5_000}
    assert kiosk.has() == [995_000, 5_000]


async def test_a_leader_that_takes_over_goes_on(kiosk: Kiosk) -> None:
    await kiosk.buy(1, SILENT)
    await kiosk.runner.look()
    kiosk.node.store.checkpoint(wait=True)
    kiosk.node.is_leader = False
    assert await kiosk.runner.look() == 0
    kiosk.node.is_leader = True
    successor = kiosk.run_with(kiosk.provider)
    assert await successor.look() == 0
    kiosk.now_s += PAUSE_S_MIN
    assert await successor.look() == 1
    assert (kiosk.has(), len(kiosk.provider.topped_up)) == ([995_000, 5_000], 1)


async def test_two_leaders_post_once(kiosk: Kiosk) -> None:
    await kiosk.buy(1)
    kiosk.node.immediate = False
    looks = [asyncio.ensure_future(runner.look()) for runner in (kiosk.runner, kiosk.run_with(kiosk.provider))]
    while len(kiosk.node.waiting) < 1:
        await asyncio.sleep(0)
    while kiosk.node.waiting:
        kiosk.node.apply_next()
        for _ in range(20):
            await asyncio.sleep(0)
    await asyncio.gather(*looks)
    assert kiosk.has() == [995_000, 5_000]


class Broken:
    def __init__(self) -> None:
        self.asked = 0

    async def top_up(self, purchase: Purchase) -> TopUp:
        self.asked += 1
        raise ConnectionError("no route")


async def test_a_provider_that_fails_is_unknown_and_never_a_refusal(kiosk: Kiosk) -> None:
    provider = Broken()
    runner = kiosk.run_with(provider)
    await kiosk.buy(1)
    for _ in range(12):
        assert await runner.look() == 0
        kiosk.now_s += PAUSE_S_MAX
    assert (provider.asked, kiosk.end(1)) == (12, payments_pb2.PAYMENT_END_WAITS)
    assert kiosk.has() == [995_000, 0]


async def test_many_are_asked_for_a_few_at_a_time(kiosk: Kiosk) -> None:
    for number in range(1, 41):
        await kiosk.buy(number)
    ended = [await kiosk.runner.look() for _ in range(3)]
    assert ended == [16, 16, 8]
    assert kiosk.has() == [800_000, 200_000]


async def test_the_operators_own_airtime_is_done_at_once(kiosk: Kiosk) -> None:
    told = await Leader(kiosk.node).pay(1, kind=AIRTIME, payee=DONE, amount_minor=5_000)
    assert (told.status_name, kiosk.has()) == ("ok", [995_000, 5_000])
    assert await kiosk.runner.look() == 0
    assert PROVIDERS["instant"] is None
