"""Links between nodes as node/consensus/transport makes them: one ordered stream for each direction of a pair.

A stream never reorders and never loses a frame without ending: whoever sends on it then hears `disconnected`, some time
later, and dials again. A cut holds frames back, as TCP does; after the cut they go on, or the stream ends. Runs that
are `rough` also repeat and reorder single frames, which no stream does but the engine promises to bear.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from tests.simulation.clock import Timeline, Timer
from tests.simulation.trace import Trace

KEEPALIVE_S = 4.0  # then a stream without answers ends
RESET_S = (0.000_5, 0.005)  # until a reset is noticed
RETRY_S = (0.05, 0.5)


class Station(Protocol):
    """A node, as the network sees it."""

    @property
    def alive(self) -> bool: ...

    def frame_arrived(self, source: str, frame: bytes) -> bool: ...

    def link_changed(self, peer: str, connected: bool) -> None: ...

    def greets(self, other: Any) -> bool:
        """Whether a stream of that station is accepted here."""
        ...


@dataclass
class Link:
    source: str
    target: str
    connected: bool = False
    epoch: int = 0
    last_arrival: float = 0.0
    noticed_at: float = 0.0  # when the source hears of the end of the stream before
    held: list[bytes] = field(default_factory=list)  # by a cut
    redial: Timer | None = None
    keepalive: Timer | None = None


@dataclass
class Weather:
    """How the network behaves as a whole."""

    delay_s: tuple[float, float] = (0.000_2, 0.001_5)
    duplicate: float = 0.0
    reorder: float = 0.0


class SimNetwork:
    def __init__(self, timeline: Timeline, rng: random.Random, trace: Trace, faults: Counter[str]) -> None:
        self._timeline, self._rng, self._trace, self._faults = timeline, rng, trace, faults
        self.stations: Mapping[str, Station] = {}
        self.weather = Weather()
        self._links: dict[tuple[str, str], Link] = {}
        self._cuts: Counter[tuple[str, str]] = Counter()
        self._slow: dict[tuple[str, str], float] = {}

    def connect_all(self, stations: Mapping[str, Station]) -> None:
        self.stations = stations
        self._links = {(a, b): Link(a, b) for a in stations for b in stations if a != b}

    # What nodes do

    def node_started(self, node: str) -> None:
        """Its own streams are dialled; those of others to its dead predecessor end now at the latest."""
        for link in self._links.values():
            if link.target == node and link.connected:
                self._end(link, self._rng.uniform(*RESET_S))
            elif node in (link.source, link.target) and not link.connected:
                self._dial_after(link, self._rng.uniform(0.001, 0.06))

    def node_died(self, node: str, *, silently: bool) -> None:
        """A killed process has its connections reset by its kernel; a machine without power says nothing."""
        for link in self._links.values():
            if link.source == node:
                self._timeline.cancel(link.redial)
                link.connected, link.redial = False, None  # what it sent before is still on its way
                self._forget_keepalive(link)
            elif link.target == node and link.connected:
                link.held.clear()
                if not silently:
                    self._end(link, self._rng.uniform(*RESET_S))
                else:
                    self._watch(link)

    def renew(self, node: str) -> None:
        """End the node's own streams, so that they are dialled anew."""
        for link in self._links.values():
            if link.source == node and link.connected:
                self._end(link, 0.0)

    def send(self, source: str, target: str, frame: bytes, ahead_s: float) -> bool:
        link = self._links[source, target]
        if not link.connected:
            return False
        rough = self.weather
        copies = 1
        if rough.duplicate and self._rng.random() < rough.duplicate:
            self._faults["frame_repeated"] += 1
            copies = 2
        for _ in range(copies):
            self._post(link, frame, ahead_s)
        return True

    # Faults

    def cut(self, source: str, target: str) -> None:
        """Nothing goes from source to target; both believe in the connection until the keepalive ends it."""
        self._cuts[source, target] += 1
        for link in (self._links[source, target], self._links[target, source]):
            self._watch(link)

    def uncut(self, source: str, target: str) -> None:
        if self._cuts[source, target]:
            self._cuts[source, target] -= 1
        for link in (self._links[source, target], self._links[target, source]):
            if not self._is_cut_either_way(link):
                self._flow_again(link)

    def reset(self, source: str, target: str) -> None:
        """The stream ends now: whatever of it is on its way is lost."""
        link = self._links[source, target]
        if link.connected:
            self._end(link, self._rng.uniform(*RESET_S))

    def slow_down(self, source: str, target: str, delay_s: float) -> None:
        self._slow[source, target] = delay_s

    def heal(self) -> None:
        self._cuts.clear()
        self._slow.clear()
        self.weather = Weather()
        for link in self._links.values():
            self._flow_again(link)

    # Inside

    def _post(self, link: Link, frame: bytes, ahead_s: float) -> None:
        delay_s = self._rng.uniform(*self.weather.delay_s) + self._slow.get((link.source, link.target), 0.0)
        arrival = self._timeline.now + ahead_s + delay_s
        if self.weather.reorder and self._rng.random() < self.weather.reorder:
            self._faults["frame_reordered"] += 1
            arrival += self._rng.uniform(0.0, 0.05)
        else:
            link.last_arrival = arrival = max(arrival, link.last_arrival)
        epoch = link.epoch
        self._timeline.at(arrival, lambda: self._arrive(link, epoch, frame))

    def _arrive(self, link: Link, epoch: int, frame: bytes) -> None:
        if epoch != link.epoch:
            self._faults["frame_lost"] += 1
        elif self._cuts[link.source, link.target]:
            link.held.append(frame)
            self._faults["frame_held"] += 1
        elif self.stations[link.target].alive:
            self._trace.frame("frame", link.source, link.target, frame)
            if not self.stations[link.target].frame_arrived(link.source, frame) and link.connected:
                self._end(link, self._rng.uniform(*RESET_S))

    def _flow_again(self, link: Link) -> None:
        self._forget_keepalive(link)
        held, link.held = link.held, []
        for frame in held:
            self._post(link, frame, 0.0)
        if not link.connected and link.redial is None and self.stations[link.source].alive:
            self._dial_after(link, self._rng.uniform(*RETRY_S))
        if link.connected and not self.stations[link.target].alive:
            self._end(link, self._rng.uniform(*RESET_S))

    def _end(self, link: Link, noticed_after_s: float) -> None:
        link.connected = False
        link.epoch += 1
        link.held.clear()
        self._faults["stream_ended"] += 1
        self._forget_keepalive(link)
        link.noticed_at = self._timeline.now + noticed_after_s
        self._timeline.after(noticed_after_s, lambda: self._notice(link, link.source, False))
        self._dial_after(link, noticed_after_s + self._rng.uniform(*RETRY_S))

    def _notice(self, link: Link, node: str, connected: bool) -> None:
        if self.stations[node].alive:
            self._trace.note(f"link {link.source}>{link.target} {'up' if connected else 'down'}")
            self.stations[node].link_changed(link.target, connected)

    def _dial_after(self, link: Link, delay_s: float) -> None:
        """Not before the end of the stream before was noticed."""
        self._timeline.cancel(link.redial)
        when = max(self._timeline.now + delay_s, link.noticed_at + RESET_S[0])
        link.redial = self._timeline.at(when, lambda: self._dial(link))

    def _dial(self, link: Link) -> None:
        link.redial = None
        if link.connected or not self.stations[link.source].alive:
            return
        target = self.stations[link.target]
        if self._is_cut_either_way(link) or not target.alive or not target.greets(self.stations[link.source]):
            self._dial_after(link, self._rng.uniform(*RETRY_S))
            return
        link.connected = True
        link.epoch += 1
        link.last_arrival = 0.0
        self._notice(link, link.source, True)

    def _watch(self, link: Link) -> None:
        if link.connected and link.keepalive is None:
            link.keepalive = self._timeline.after(KEEPALIVE_S, lambda: self._keepalive_failed(link))

    def _keepalive_failed(self, link: Link) -> None:
        link.keepalive = None
        unanswered = self._is_cut_either_way(link) or not self.stations[link.target].alive
        if link.connected and unanswered:
            self._end(link, 0.0)

    def _forget_keepalive(self, link: Link) -> None:
        self._timeline.cancel(link.keepalive)
        link.keepalive = None

    def _is_cut_either_way(self, link: Link) -> bool:
        return bool(self._cuts[link.source, link.target] or self._cuts[link.target, link.source])
