"""Giving up the lead, for callers on the event loop: before this node stops, or because an operator asks."""

from __future__ import annotations

import asyncio

from node.consensus.contract import Consensus

HANDOVER_WAIT_S = 1.0  # the engine itself gives up after half of it


async def transfer_leadership(consensus: Consensus, target: str = "") -> bool:
    """True = another node leads now. False at once when this one does not lead or `target` cannot."""
    loop = asyncio.get_running_loop()
    done: asyncio.Future[bool] = loop.create_future()

    def settle(transferred: bool) -> None:
        if not done.done():
            done.set_result(transferred)

    def on_engine_thread(transferred: bool) -> None:
        loop.call_soon_threadsafe(settle, transferred)

    consensus.transfer_leadership(target, on_engine_thread)
    try:
        return await asyncio.wait_for(done, HANDOVER_WAIT_S)
    except TimeoutError:
        return False
