"""PIN rules and the keyed verifier. A four-digit PIN falls to ten thousand tries under any plain hash, so secrecy lies
in the key, which is in no database and no log."""

from __future__ import annotations

import hmac
import re
import struct
from collections.abc import Sequence

from node.ledger.columns import Column

PIN_DIGITS = 4
VERIFIER_VERSION = 2
_FORM = re.compile(r"[0-9]{4}", re.ASCII)
_WEAK = frozenset({"1234", "4321", "0123", "1212", "2580", "1004", "2000", "6969"} | {str(d) * 4 for d in range(10)})
VERIFIER_BYTES = 16
_BOUND_TO, _WORDS = struct.Struct("<BQ"), struct.Struct("<2q")


def is_well_formed(pin: str) -> bool:
    return _FORM.fullmatch(pin) is not None


def problem_with(pin: str) -> str:
    """Why a PIN cannot be set, "" = it can. Never contains the PIN."""
    if not is_well_formed(pin):
        return f"must be {PIN_DIGITS} digits"
    if pin in _WEAK:
        return "is one of the PINs that everybody guesses first"
    return ""


def verifier(key: bytes, account_number: int, pin: str) -> bytes:
    """HMAC-SHA256 over version, account and PIN, its first 16 bytes: useless without the key and for any other account.
    Guessing a PIN is cheaper than guessing 128 bits, with or without the rest."""
    whole = hmac.digest(key, _BOUND_TO.pack(VERIFIER_VERSION, account_number) + pin.encode(), "sha256")
    return whole[:VERIFIER_BYTES]


def stored_verifier(row: Sequence[int]) -> bytes:
    """The verifier out of an account's row; empty = no PIN is set."""
    words = row[Column.PIN_VERIFIER_0 : Column.PIN_VERIFIER_1 + 1]
    return _WORDS.pack(*words) if any(words) else b""


def is_right(key: bytes, account_number: int, pin: str, stored: bytes) -> bool:
    return hmac.compare_digest(verifier(key, account_number, pin), stored)
