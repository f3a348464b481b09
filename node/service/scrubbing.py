"""The thread that reads all stored data again and again, at a bounded rate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from node.storage.scrub import STEP_BYTES, Scrubber


class ScrubThread:
    """`on_damage` is called at most once, on this thread, and must end the process."""

    def __init__(self, scrubber: Scrubber, bytes_per_s: float, on_damage: Callable[[BaseException], None]) -> None:
        self._scrubber, self._on_damage = scrubber, on_damage
        self._pause_s = STEP_BYTES / bytes_per_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="kibubu-scrub", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join()

    def _run(self) -> None:
        try:
            while not self._stopping.is_set():
                started_at = time.monotonic()
                self._scrubber.step()
                self._stopping.wait(max(0.0, self._pause_s - (time.monotonic() - started_at)))
        except BaseException as error:
            self._on_damage(error)
