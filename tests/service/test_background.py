"""Work in the background does not end without a word."""

from __future__ import annotations

import asyncio

from node.service import background
from node.storage.checked import DamagedDataError


async def test_an_error_ends_the_node_and_being_stopped_does_not() -> None:
    died: list[BaseException] = []

    async def breaks() -> None:
        raise DamagedDataError("run 3 does not fit its checksum")

    async def goes_on() -> None:
        await asyncio.Event().wait()

    broken, stopped = background.start(breaks(), died.append), background.start(goes_on(), died.append)
    await asyncio.wait([broken])
    stopped.cancel()
    await asyncio.wait([stopped])
    assert [str(error) for error in died] == ["run 3 does not fit its checksum"]
