"""What a node asks of its process before anything else runs: memory that is used again, calls that are read by the
thread that takes them, and a collector that rests.

Entries, batches and LMDB's dirty pages are buffers of a megabyte, made and freed hundreds of times a second. glibc
gives each back to the system and gets it again as cleared pages: a fifth of a node's CPU time at 8,000 a batch.
"""

from __future__ import annotations

import ctypes
import gc
import os

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -2, -3, -8  # <malloc.h>
_KEPT_BYTES = (1 << 31) - 1  # the largest int that mallopt takes: freed memory stays for the next buffer
_TOP_PAD_BYTES = 16 << 20
_MMAP_FROM_BYTES = 32 << 20  # glibc's own maximum
GRPC_EXPERIMENTS, POLL_IN_THE_CALLER = "GRPC_EXPERIMENTS", "-event_engine_listener"
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


def read_calls_where_they_are_taken() -> None:
    """gRPC's servers read their sockets in threads of their own and then wake the thread that takes the calls. A node's
    messages are small and many, so the wake-up costs more than the reading: without it, a frame there and back between
    two nodes wakes 8 threads of each instead of 12. Only before gRPC's first server; the environment comes first."""
    os.environ.setdefault(GRPC_EXPERIMENTS, POLL_IN_THE_CALLER)


def rest_collector() -> None:
    """What exists once everything is built lives as long as the process: the collector need not look at it again."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(*_COLLECT_AFTER)
