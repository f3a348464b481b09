"""Concurrent asks become few calls: in order, bounded, and each caller gets its own answer."""

from __future__ import annotations

import asyncio

import pytest

from kibubu_client.batching import Batcher


class Sender:
    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = asyncio.Event()
        self.gate.set()
        self.error: Exception | None = None

    async def __call__(self, asks: list[int]) -> list[str]:
        self.batches.append(asks)
        await self.gate.wait()
        if self.error is not None:
            raise self.error
        return [f"answer {ask}" for ask in asks]


def batcher(sender: Sender, *, weight_max: int = 10, in_flight_max: int = 1) -> Batcher[int, str]:
    return Batcher[int, str](sender, weight_max=weight_max, in_flight_max=in_flight_max)


async def turns(count: int = 5) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def test_what_comes_together_shares_a_call() -> None:
    sender = Sender()
    joined = batcher(sender)
    answers = await asyncio.gather(*(joined.submit(number) for number in range(7)))
    assert answers == [f"answer {number}" for number in range(7)]
    assert sender.batches == [list(range(7))]


async def test_the_first_goes_at_once_and_the_others_gather_behind_it() -> None:
    sender = Sender()
    joined = batcher(sender)
    sender.gate.clear()
    tasks = [asyncio.ensure_future(joined.submit(0))]
    await turns()
    tasks += [asyncio.ensure_future(joined.submit(number)) for number in range(1, 5)]
    await turns()
    assert sender.batches == [[0]]
    sender.gate.set()
    assert await asyncio.gather(*tasks) == [f"answer {number}" for number in range(5)]
    assert sender.batches == [[0], [1, 2, 3, 4]]


async def test_a_call_holds_no_more_than_its_maximum_and_no_more_are_open_than_allowed() -> None:
    sender = Sender()
    joined = batcher(sender, weight_max=10, in_flight_max=2)
    sender.gate.clear()
    tasks = [asyncio.ensure_future(joined.submit(number)) for number in range(25)]
    await turns()
    assert [len(batch) for batch in sender.batches] == [10, 10]
    sender.gate.set()
    await asyncio.gather(*tasks)
    assert [len(batch) for batch in sender.batches] == [10, 10, 5]


async def test_weights_count_and_one_that_is_too_heavy_goes_alone() -> None:
    sender = Sender()
    joined = batcher(sender)
    await asyncio.gather(*(joined.submit(ask, weight=ask) for ask in (6, 4, 1, 12, 10)))
    assert sender.batches == [[6, 4], [1], [12], [10]]


async def test_nobody_follows_what_ends_a_batch() -> None:
    sender = Sender()
    joined = batcher(sender)
    await asyncio.gather(joined.submit(1), joined.submit(2, ends_batch=True), joined.submit(3))
    assert sender.batches == [[1, 2], [3]]


async def test_an_error_reaches_everybody_of_its_call_and_nobody_else() -> None:
    sender = Sender()
    joined = batcher(sender)
    sender.error = OSError("gone")
    ends = await asyncio.gather(joined.submit(1), joined.submit(2), return_exceptions=True)
    assert ends == [sender.error, sender.error]
    sender.error = None
    assert await joined.submit(3) == "answer 3"


async def test_who_goes_away_before_the_call_is_not_sent() -> None:
    sender = Sender()
    joined = batcher(sender)
    sender.gate.clear()
    first, gone, third = (asyncio.ensure_future(joined.submit(number)) for number in range(3))
    await turns()
    late = asyncio.ensure_future(joined.submit(7))
    other = asyncio.ensure_future(joined.submit(8))
    await turns()
    late.cancel()
    gone.cancel()  # its call is under way: the answer is for nobody, and that is fine
    sender.gate.set()
    assert await asyncio.gather(first, third, other) == ["answer 0", "answer 2", "answer 8"]
    assert sender.batches == [[0, 1, 2], [8]]


async def test_close_waits_for_what_is_under_way_and_cancels_the_rest() -> None:
    sender = Sender()
    joined = batcher(sender)
    sender.gate.clear()
    first = asyncio.ensure_future(joined.submit(1))
    await turns()
    second = asyncio.ensure_future(joined.submit(2))
    await turns()
    closing = asyncio.ensure_future(joined.close())
    await turns()
    assert not closing.done()
    sender.gate.set()
    await closing
    assert await first == "answer 1"
    with pytest.raises(asyncio.CancelledError):
        await second
    assert sender.batches == [[1]]
