"""What one process can append and sync on the same disk: the measure that makes figures of two machines comparable."""

from __future__ import annotations

import os
import tempfile
import time
from pathlib import Path

RECORD_BYTES = 128


def synced_records_per_second(folder: Path, batch: int, seconds: float = 1.0) -> float:
    """Blocks of `batch` records, each written and fdatasynced, one after the other, for `seconds`."""
    block = os.urandom(batch * RECORD_BYTES)
    with tempfile.NamedTemporaryFile(dir=folder, prefix="bench-reference-") as file:
        number, written = file.fileno(), 0
        started_s = time.perf_counter()
        while time.perf_counter() - started_s < seconds:
            os.write(number, block)
            os.fdatasync(number)
            written += batch
        return written / (time.perf_counter() - started_s)
