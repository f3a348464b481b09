"""A deterministic asyncio loop on the virtual timeline: enough of one for the node's service, and for the clients."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Any

from tests.simulation.clock import NodeClock, Timeline, Timer

TURN_S = 0.000_02  # of the loop: what is called soon runs this much later


class SimLoop(asyncio.AbstractEventLoop):
    """Only what the service and the clients call; whatever else asyncio offers raises NotImplementedError."""

    def __init__(self, timeline: Timeline, clock: NodeClock, on_error: Callable[[str], None]) -> None:
        self._timeline, self._clock, self._on_error = timeline, clock, on_error
        self._ready: deque[asyncio.Handle] = deque()
        self._turn: Timer | None = None
        self._tasks: dict[asyncio.Task[Any], None] = {}
        self._dead = self._paused = False

    # What asyncio asks

    def time(self) -> float:
        return self._clock.monotonic()

    def get_debug(self) -> bool:
        return False

    def is_running(self) -> bool:
        return True

    def is_closed(self) -> bool:
        return self._dead

    def create_future(self) -> asyncio.Future[Any]:
        return asyncio.Future(loop=self)

    def create_task(self, coro: Any, *, name: str | None = None, context: Any = None) -> asyncio.Task[Any]:
        task = asyncio.Task(coro, loop=self, name=name, context=context)
        task._log_destroy_pending = False  # type: ignore[attr-defined]  # a crash ends tasks without a word
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)
        return task

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:  # type: ignore[override]
        handle = asyncio.Handle(callback, args, self, context)
        if not self._dead:
            self._ready.append(handle)
            self._arm(TURN_S)
        return handle

    def call_soon_threadsafe(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:  # type: ignore[override]
        """From the engine's thread, which may be ahead of this one."""
        handle = asyncio.Handle(callback, args, self, context)
        if not self._dead:
            self._timeline.after(self._clock.ahead_s + TURN_S, lambda: self._push(handle))
        return handle

    def call_later(self, delay: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:  # type: ignore[override]
        handle = asyncio.TimerHandle(self.time() + delay, callback, args, self, context)
        if not self._dead:
            self._timeline.after(max(0.0, self._clock.world_delay_s(delay)), lambda: self._push(handle))
        return handle

    def call_at(self, when: float, callback: Any, *args: Any, context: Any = None) -> asyncio.TimerHandle:  # type: ignore[override]
        return self.call_later(when - self.time(), callback, *args, context=context)

    def run_in_executor(self, executor: Any, func: Any, *args: Any) -> asyncio.Future[Any]:  # type: ignore[override]
        """What another thread does for this one happens in one step, a turn later."""
        future = self.create_future()

        def work() -> None:
            if future.cancelled():
                return
            try:
                future.set_result(func(*args))
            except Exception as error:
                future.set_exception(error)

        self.call_soon(work)
        return future

    def _timer_handle_cancelled(self, handle: asyncio.TimerHandle) -> None:
        pass

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """An exception that nobody fetched is none of ours; one out of a callback is a bug of the node."""
        if "handle" in context and not self._dead:
            error = context.get("exception")
            self._on_error(f"callback failed: {type(error).__name__}: {error}")

    # What the simulator asks

    def run_inside(self, action: Callable[[], Any]) -> Any:
        """Call something that looks for the running loop."""
        before = asyncio._get_running_loop()
        asyncio._set_running_loop(self)
        try:
            return action()
        finally:
            asyncio._set_running_loop(before)

    def pause(self) -> None:
        self._paused = True

    def resume(self) -> None:
        self._paused = False
        if self._ready:
            self._arm(TURN_S)

    def kill(self) -> None:
        """Nothing of it runs any more. Suspended coroutines are closed now, not whenever garbage is collected."""
        self._dead = True
        self._ready.clear()
        tasks, self._tasks = list(self._tasks), {}
        for task in tasks:
            coroutine: Any = task.get_coro()
            try:
                self.run_inside(coroutine.close)
            except (RuntimeError, ValueError):
                continue  # it runs at this very moment: its effects reach nobody

    def _push(self, handle: asyncio.Handle) -> None:
        if not self._dead and not handle.cancelled():
            self._ready.append(handle)
            self._arm(0.0)

    def _arm(self, delay_s: float) -> None:
        if self._turn is None and not self._paused:
            self._turn = self._timeline.after(delay_s, self._run_turn)

    def _run_turn(self) -> None:
        self._turn = None
        if self._paused:
            return
        ready = self._ready
        asyncio._set_running_loop(self)
        try:
            for _ in range(len(ready)):
                if not ready:
                    break  # killed from within
                handle = ready.popleft()
                if not handle.cancelled():
                    handle._run()
        finally:
            asyncio._set_running_loop(None)
        if ready:
            self._arm(TURN_S)
