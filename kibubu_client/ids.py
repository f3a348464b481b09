"""128-bit ids that grow with time (ULID's layout: 48 bits of Unix milliseconds, 80 random bits): the ledger's index of
ids is then nearly appended to."""

from __future__ import annotations

import secrets
import time


def new_id() -> int:
    return time.time_ns() // 1_000_000 << 80 | secrets.randbits(80)


def id_bytes(number: int) -> bytes:
    """As protobuf messages carry it: 16 bytes, big-endian."""
    return number.to_bytes(16, "big")
