"""128-bit ids: time-ordered for traffic, so that the ledger's id index is nearly appended to; fixed for the demo data,
so that seeding twice changes nothing."""

from __future__ import annotations

import hashlib
import secrets
import time

ID_BYTES = 16
RANDOM_BITS = 80


def new_id() -> bytes:
    """A ULID's bytes: 48 bits of Unix milliseconds, 80 random ones."""
    milliseconds = time.time_ns() // 1_000_000
    return (milliseconds << RANDOM_BITS | secrets.randbits(RANDOM_BITS)).to_bytes(ID_BYTES, "big")


def fixed_id(name: str) -> bytes:
    """Always the same id for the same name, before all ids of real time."""
    return b"\x00\x00\x00\x00\x00\x01" + hashlib.sha256(f"kibubu {name}".encode()).digest()[:10]
