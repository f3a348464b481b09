"""What is kept of a session, always sealed: in a gateway's token, or in the session store.

A sealed text is AES-256-GCM under the edge's key: nobody reads the numbers and sums in it, nobody changes it, and it
opens only for the gateway, session and phone that it was made for, and only for a while. PINs are never in it.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import os
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

KEY_BYTES = 32
_NONCE_BYTES = 12


class SessionKeyError(Exception):
    """The key's file cannot be used; the message says why."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where payment ids come from: a session that is gone on with keeps those of its first dialling, so that nothing
    is paid twice."""

    gateway: str
    session_id: str


@dataclass(frozen=True, slots=True)
class Dropped:
    """An unfinished session that the phone may go on with."""

    origin: Origin
    inputs: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Kept:
    origin: Origin
    inputs: tuple[str, ...]
    at_ms: int
    offered: Dropped | None = None
    ended: bool = False


def load_key(path: Path) -> bytes:
    """Raises SessionKeyError. A key that others can read is refused."""
    try:
        mode, key = path.stat().st_mode, path.read_bytes()
    except OSError as error:
        raise SessionKeyError(f"{path}: {error.strerror}") from error
    if stat.S_IMODE(mode) & 0o277:
        raise SessionKeyError(f"{path}: must have mode 0400, has {stat.S_IMODE(mode):04o}")
    if len(key) != KEY_BYTES:
        raise SessionKeyError(f"{path}: must hold {KEY_BYTES} bytes, holds {len(key)}")
    return key


class Sealer:
    """`context` is what the sealed text belongs to; it opens for no other."""

    def __init__(self, key: bytes) -> None:
        self._cipher = AESGCM(key)

    def seal(self, kept: Kept, *context: str) -> str:
        nonce = os.urandom(_NONCE_BYTES)
        content = json.dumps(_plain(kept), separators=(",", ":")).encode()
        return base64.urlsafe_b64encode(nonce + self._cipher.encrypt(nonce, content, _bound(context))).decode()

    def open(self, sealed: str, *context: str, now_ms: int, age_ms_max: int) -> Kept | None:
        """None when it was not sealed by us, not for this, or too long ago."""
        try:
            raw = base64.b64decode(sealed.encode("ascii"), altchars=b"-_", validate=True)
            kept = _kept(json.loads(self._cipher.decrypt(raw[:_NONCE_BYTES], raw[_NONCE_BYTES:], _bound(context))))
        except (InvalidTag, UnicodeEncodeError, binascii.Error, ValueError, KeyError, TypeError):
            return None
        return kept if now_ms - kept.at_ms <= age_ms_max else None


def _bound(context: tuple[str, ...]) -> bytes:
    """No part has this separator in it: names, session ids and numbers are of letters, digits and few signs."""
    return "\x1f".join(context).encode()


def store_key(*context: str) -> str:
    """The place in the store: says nothing of the phone."""
    return f"kibubu:ussd:{hashlib.sha256(_bound(context)).hexdigest()}"


def _plain(kept: Kept) -> dict[str, Any]:
    plain: dict[str, Any] = {"o": [kept.origin.gateway, kept.origin.session_id], "i": kept.inputs, "t": kept.at_ms}
    if kept.ended:
        plain["e"] = 1
    if kept.offered is not None:
        plain["d"] = [kept.offered.origin.gateway, kept.offered.origin.session_id, kept.offered.inputs]
    return plain


def _kept(plain: dict[str, Any]) -> Kept:
    dropped = plain.get("d")
    offered = Dropped(Origin(dropped[0], dropped[1]), tuple(dropped[2])) if dropped else None
    return Kept(Origin(*plain["o"]), tuple(plain["i"]), int(plain["t"]), offered, ended="e" in plain)
