"""Every stored value carries a checksum over its key and itself: LMDB has none, and a flipped bit in money must be
found when it is read, and sooner by whoever reads everything (scrub.py)."""

from __future__ import annotations

import zlib
from typing import Any

from node.ledger.history import BrokenHistoryError

SEAL_BYTES = 4


class DamagedDataError(BrokenHistoryError):
    """Stored bytes are not what was written: the node must stop, and be rebuilt from its peers."""


def seal(key: bytes, value: bytes) -> bytes:
    return value + zlib.crc32(value, zlib.crc32(key)).to_bytes(SEAL_BYTES, "little")


def unseal(db: str, key: Any, stored: Any) -> Any:
    """The value, as the same kind of buffer. Raises DamagedDataError."""
    value = stored[:-SEAL_BYTES]
    if len(stored) < SEAL_BYTES or zlib.crc32(value, zlib.crc32(key)).to_bytes(SEAL_BYTES, "little") != stored[-4:]:
        raise DamagedDataError(f"{db} {bytes(key).hex()} does not fit its checksum")
    return value
