"""Virtual time: one timeline for the whole world, and a clock for each node that may be wrong in its own way."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from typing import Any

EPOCH_NS = 1_795_500_000_000_000_000  # Unix time when a run begins

Timer = list[Any]  # [when, sequence, action]; the action is None once cancelled


class Timeline:
    """Events in order of time; at equal times in the order in which they were asked for."""

    def __init__(self) -> None:
        self.now = 0.0
        self.events = 0
        self._heap: list[Timer] = []
        self._sequence = 0

    def at(self, when: float, action: Callable[[], None]) -> Timer:
        self._sequence += 1
        timer: Timer = [when, self._sequence, action]
        heapq.heappush(self._heap, timer)
        return timer

    def after(self, delay_s: float, action: Callable[[], None]) -> Timer:
        return self.at(self.now + delay_s, action)

    @staticmethod
    def cancel(timer: Timer | None) -> None:
        if timer is not None:
            timer[2] = None

    def run(self, seconds: float, until: Callable[[], bool] = lambda: False, look_every_s: float = 0.05) -> bool:
        """Until the time is up, or `until` holds (looked at now and then); True = it holds."""
        end = self.now + seconds
        while self.now < end:
            if until():
                return True
            self._run_to(min(end, self.now + look_every_s))
        return until()

    def _run_to(self, end: float) -> None:
        heap = self._heap
        while heap and heap[0][0] <= end:
            when, _, action = heapq.heappop(heap)
            if action is None:
                continue
            if when > self.now:
                self.now = when
            self.events += 1
            action()
        self.now = end


class NodeClock:
    """Implements contract.Clock. `ahead_s`: how far the node has come within this event, waiting for its disk."""

    def __init__(self, timeline: Timeline) -> None:
        self._timeline = timeline
        self.ahead_s = 0.0
        self.rate = 1.0
        self.wall_offset_ns = 0
        self._since = timeline.now
        self._counted = 1_000.0

    def monotonic(self) -> float:
        return self._counted + (self._timeline.now + self.ahead_s - self._since) * self.rate

    def time_ns(self) -> int:
        return EPOCH_NS + int((self._timeline.now + self.ahead_s) * 1e9) + self.wall_offset_ns

    def world_delay_s(self, local_delay_s: float) -> float:
        """How long the world waits while this clock counts so many seconds."""
        return local_delay_s / self.rate

    def set_rate(self, rate: float) -> None:
        self._counted, self._since = self.monotonic(), self._timeline.now + self.ahead_s
        self.rate = rate

    def jump(self, seconds: float) -> None:
        """The monotonic clock leaps forward, as after a suspended machine; it never goes back."""
        self._counted += max(0.0, seconds)
