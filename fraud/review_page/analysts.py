"""Who may use the page: a file of names and the SHA-256 of each one's token. A token is 32 random bytes, so a plain
hash is enough; the token itself is shown once, when it is made, and kept nowhere.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import os
import secrets
from pathlib import Path

TOKEN_BYTES = 32
NAME_BYTES_MAX = 20  # as a verdict in the ledger can say it
ANALYSTS_MAX = 1_000


class AnalystError(Exception):
    """The message names the rule."""


def read_analysts(path: Path) -> dict[str, str]:
    """Name to hash, empty where there is no file yet. Raises AnalystError."""
    try:
        table = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise AnalystError(f"{path}: {error}") from error
    if not isinstance(table, dict) or not all(isinstance(one, str) and len(one) == 64 for one in table.values()):
        raise AnalystError(f"{path}: must be an object of names and SHA-256 hashes")
    return table


def new_token(path: Path, name: str) -> str:
    """A token for this analyst; an older one ends. Raises AnalystError."""
    if not 1 <= len(name.encode()) <= NAME_BYTES_MAX or not name.isprintable() or not name.strip():
        raise AnalystError(f"NAME: must be 1 to {NAME_BYTES_MAX} printable bytes, is {name!r}")
    analysts, token = read_analysts(path), secrets.token_urlsafe(TOKEN_BYTES)
    if name not in analysts and len(analysts) >= ANALYSTS_MAX:
        raise AnalystError(f"NAME: there are {ANALYSTS_MAX} analysts already")
    analysts[name] = _hash(token)
    _write(path, analysts)
    return token


def remove_analyst(path: Path, name: str) -> None:
    """Raises AnalystError when there is no such analyst."""
    analysts = read_analysts(path)
    if analysts.pop(name, None) is None:
        raise AnalystError(f"NAME: there is no analyst {name!r}")
    _write(path, analysts)


def whose(analysts: dict[str, str], token: str) -> str:
    """The name, "" = nobody's. Every hash is compared, so that time tells nothing."""
    hashed, found = _hash(token), ""
    for name, known in analysts.items():
        if hmac.compare_digest(hashed, known):
            found = name
    return found


def _hash(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()


def _write(path: Path, analysts: dict[str, str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    partial = path.with_name(path.name + ".partial")
    descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as file:
        json.dump(analysts, file, indent=1)
    partial.replace(path)
