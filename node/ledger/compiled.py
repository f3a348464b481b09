"""How the ledger's kernels are compiled: integers and array rows only, so numba need not count references, which cost
more than the work itself (two thirds of a transfer's time in the kernel, measured with perf).

What works on the state keeps the interpreter's lock: other threads read the account rows, and must not see a chain of
transfers halfway that is undone when its last member fails.

Numba's cache knows a function by its own file alone; a kernel that has another file's function compiled into it would
outlive a change there. So the cache lies in a folder named after the content of every file that kernels are made of.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import numba

_FOLDER = Path(__file__).parent


def _sources_digest() -> str:
    digest = hashlib.sha256(numba.__version__.encode())
    for path in sorted(_FOLDER.glob("*.py")):
        digest.update(path.name.encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()[:16]


numba.config.CACHE_DIR = str(_FOLDER / "__pycache__" / f"kernels-{_sources_digest()}")

njit = numba.njit(cache=True, error_model="numpy", _nrt=False)
"""A function of scalars and arrays that allocates nothing."""

unlocked = numba.njit(cache=True, nogil=True, error_model="numpy", _nrt=False)
"""The same for arrays that no other thread looks at: the interpreter goes on meanwhile."""

inlined = numba.njit(cache=True, error_model="numpy", _nrt=False, inline="always")
"""The same, compiled into each caller: a call that passes ten arrays costs more than a transfer's arithmetic."""
