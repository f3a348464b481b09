"""What a node asks of its process before anything else runs: memory that is used again, and a collector that rests.

Entries, batches and LMDB's dirty pages are buffers of a megabyte, made and freed hundreds of times a second. glibc
gives each back to the system and gets it again as cleared pages: a fifth of a node's CPU time at 8,000 a batch.
"""

from __future__ import annotations

import ctypes
import gc

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8  # <malloc.h>
_KEPT_BYTES = (1 << 31) - 1  # the largest int that mallopt takes: freed memory stays for the next buffer
_TOP_PAD_BYTES = 16 << 20
_MMAP_FROM_BYTES = 32 << 20  # glibc's own maximum
_COLLECT_AFTER = (50_000, 20, 50)  # objects made and not freed, and so on: see gc.set_threshold


def keep_memory() -> bool:
    """False where the C library has no mallopt: everything works, more slowly."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is None:
        return False
    settings = (
        (_M_ARENA_MAX, 1),  # a buffer is freed by another thread than it was made by; one arena serves both
        (_M_MMAP_THRESHOLD, _MMAP_FROM_BYTES),
        (_M_TRIM_THRESHOLD, _KEPT_BYTES),
        (_M_TOP_PAD, _TOP_PAD_BYTES),
    )
    return all(mallopt(name, value) == 1 for name, value in settings)


def rest_collector() -> None:
    """What exists once everything is built lives as long as the process: the collector need not look at it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)
