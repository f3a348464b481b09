"""An Ethernet hub in user space: every port is a TAP device, every link can delay, lose, double and reorder.

It stands in for the kernel's netem, which many machines lack. The links' rules are a JSON file, read again when it
changes. Run as `python -m cluster.chaos.hub RULES READY NAME=NAMESPACE:DEVICE ...`.
"""

from __future__ import annotations

import fcntl
import heapq
import json
import os
import random
import selectors
import signal
import struct
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

from cluster.chaos.network import enter_namespace

_TUNSETIFF = 0x400454CA
_IFF_TAP, _IFF_NO_PI = 0x0002, 0x1000
_FRAME_BYTES_MAX = 65_535
_RELOAD_S = 0.05
_REORDER_S = 0.004  # how long a reordered frame is held back
_DELAYED_MAX = 200_000
_BROADCAST = 1  # lowest bit of the first byte


@dataclass(slots=True)
class Port:
    name: str
    descriptor: int


@dataclass(slots=True)
class Link:
    delay_ms: float = 0.0
    jitter_ms: float = 0.0
    loss: float = 0.0
    duplicate: float = 0.0
    reorder: float = 0.0
    free_at_s: float = field(default=0.0)  # frames of a link keep their order unless they are reordered on purpose


def open_tap(namespace: str, device: str) -> int:
    """In a child's namespace the device would vanish with it; so the thread goes there and comes back."""
    home = os.open("/proc/self/ns/net", os.O_RDONLY)
    try:
        enter_namespace(namespace)
        descriptor = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
        request = struct.pack("16sH22x", device.encode(), _IFF_TAP | _IFF_NO_PI)
        fcntl.ioctl(descriptor, _TUNSETIFF, request)
        return descriptor
    finally:
        _come_back(home)


def _come_back(home: int) -> None:
    import ctypes

    ctypes.CDLL(None, use_errno=True).setns(home, 0x40000000)
    os.close(home)


class Hub:
    def __init__(self, ports: list[Port], rules: Path) -> None:
        self._ports = ports
        self._rules = rules
        self._links: dict[tuple[str, str], Link] = {}
        self._seen_at: dict[bytes, Port] = {}
        self._delayed: list[tuple[float, int, int, bytes]] = []
        self._count = 0
        self._rules_version: tuple[int, int] = (0, 0)
        self._reload_at_s = 0.0
        self._random = random.Random(1)
        self._selector = selectors.DefaultSelector()
        for port in ports:
            self._selector.register(port.descriptor, selectors.EVENT_READ, port)

    def run(self) -> None:
        while True:
            self._reload()
            wait_s = min(self._delayed[0][0] - time.monotonic(), _RELOAD_S) if self._delayed else _RELOAD_S
            for key, _ in self._selector.select(max(wait_s, 0)):
                self._take(key.data)
            self._send_due()

    def _reload(self) -> None:
        now_s = time.monotonic()
        if now_s < self._reload_at_s:
            return
        self._reload_at_s = now_s + _RELOAD_S
        state = self._rules.stat()
        version = (state.st_mtime_ns, state.st_ino)
        if version == self._rules_version:
            return
        self._rules_version = version
        rules = json.loads(self._rules.read_text(encoding="utf-8"))
        self._links = {tuple(name.split(">", 1)): Link(**rule) for name, rule in rules.items()}

    def _take(self, port: Port) -> None:
        """Everything that waits at one port."""
        for _ in range(256):
            try:
                frame = os.read(port.descriptor, _FRAME_BYTES_MAX)
            except (BlockingIOError, OSError):
                return
            self._seen_at[frame[6:12]] = port
            known = None if frame[0] & _BROADCAST else self._seen_at.get(frame[0:6])
            for other in (known,) if known is not None else self._ports:
                if other is not port:
                    self._pass_on(port, other, frame)

    def _pass_on(self, source: Port, target: Port, frame: bytes) -> None:
        link = self._links.get((source.name, target.name))
        if link is None:
            _write(target.descriptor, frame)
            return
        chance = self._random.random
        if chance() < link.loss:
            return
        for _ in range(2 if chance() < link.duplicate else 1):
            self._delay(link, target, frame, is_late=chance() < link.reorder)

    def _delay(self, link: Link, target: Port, frame: bytes, *, is_late: bool) -> None:
        now_s = time.monotonic()
        due_s = now_s + (link.delay_ms + self._random.uniform(-1, 1) * link.jitter_ms) / 1e3
        if is_late:
            due_s += _REORDER_S
        else:
            due_s = link.free_at_s = max(due_s, link.free_at_s)
        if len(self._delayed) < _DELAYED_MAX:
            self._count += 1
            heapq.heappush(self._delayed, (due_s, self._count, target.descriptor, frame))

    def _send_due(self) -> None:
        now_s = time.monotonic()
        while self._delayed and self._delayed[0][0] <= now_s:
            _, _, descriptor, frame = heapq.heappop(self._delayed)
            _write(descriptor, frame)


def _write(descriptor: int, frame: bytes) -> None:
    """A full queue loses the frame, as any network does."""
    try:
        os.write(descriptor, frame)
    except OSError:
        return


def main(arguments: list[str]) -> None:
    rules, ready, *names = arguments
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    ports = []
    for text in names:
        name, _, place = text.partition("=")
        namespace, _, device = place.partition(":")
        ports.append(Port(name, open_tap(namespace, device)))
    Path(ready).touch()
    Hub(ports, Path(rules)).run()


if __name__ == "__main__":
    main(sys.argv[1:])
