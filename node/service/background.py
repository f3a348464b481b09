"""Work on the service's loop that goes on for as long as the node does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any


def start(work: Coroutine[Any, Any, None], die: Callable[[BaseException], None]) -> asyncio.Task[None]:
    """When it breaks off, so must the node: an error in a task that nobody waits for is told to nobody, and from then
    on no time-out would end and no voucher be paid."""

    def ended(task: asyncio.Task[None]) -> None:
        error = None if task.cancelled() else task.exception()
        if error is not None:
            die(error)

    task = asyncio.create_task(work)
    task.add_done_callback(ended)
    return task
