"""How fraud's kernels are compiled. Numba's cache knows a function by its own file alone, and these have functions of
other files compiled into them; so the cache lies in a folder named after every file with kernels in it."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numba

from node.ledger.compiled import njit as _ledger_njit  # noqa: F401 - sets the ledger's folder, which the digest names

_FOLDER = Path(__file__).parent


def _sources_digest() -> str:
    digest = hashlib.sha256(str(numba.config.CACHE_DIR).encode())  # which names the ledger's sources
    for path in sorted(_FOLDER.rglob("*.py")):
        source = path.read_bytes()
        if b"@njit" in source:
            digest.update(path.name.encode() + b"\0" + source)
    return digest.hexdigest()[:16]


_CACHE = str(_FOLDER / "__pycache__" / f"kernels-{_sources_digest()}")


def njit(function: Callable[..., Any]) -> Any:
    before = numba.config.CACHE_DIR
    numba.config.CACHE_DIR = _CACHE
    try:
        return numba.njit(cache=True, nogil=True, error_model="numpy")(function)
    finally:
        numba.config.CACHE_DIR = before
