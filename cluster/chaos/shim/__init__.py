"""The preload shim: built with gcc when it is needed, steered by a small mapped file for each node."""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import subprocess
import tempfile
from pathlib import Path

SOURCE = Path(__file__).with_name("disk.c")
_MAGIC = 0x314D4853
_BUILD_TIMEOUT_S = 120


class ShimError(Exception):
    """The shim cannot be built here; the message has the compiler's reason."""


class Control(ctypes.Structure):
    """`struct control` of disk.c."""

    _fields_ = (
        ("magic", ctypes.c_uint32),
        ("sync_errno", ctypes.c_int32),
        ("write_errno", ctypes.c_int32),
        ("sync_delay_us", ctypes.c_uint32),
        ("write_delay_us", ctypes.c_uint32),
        ("lies", ctypes.c_uint32),
        ("clock_offset_ns", ctypes.c_int64),
        ("syncs", ctypes.c_uint64),
        ("writes", ctypes.c_uint64),
        ("failed", ctypes.c_uint64),
        ("delayed", ctypes.c_uint64),
        ("clock_reads", ctypes.c_uint64),
    )


def build(folder: Path) -> Path:
    """The library, built once for each version of the source. Raises ShimError."""
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:12]
    library = folder / f"kibubu-shim-{digest}.so"
    if library.exists():
        return library
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.NamedTemporaryFile(dir=folder, suffix=".so", delete=False) as fresh:
        command = [
            "gcc",
            "-O2",
            "-Wall",
            "-Wextra",
            "-shared",
            "-fPIC",
            "-o",
            fresh.name,
            str(SOURCE),
            "-ldl",
            "-lpthread",
        ]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=_BUILD_TIMEOUT_S, check=False)
        except OSError as error:
            raise ShimError(f"gcc: {error}") from error
        if done.returncode:
            raise ShimError(f"gcc: {done.stderr.strip()}")
        Path(fresh.name).replace(library)
    return library


class Shim:
    """One node's disk and clock. The file outlives the node's process, so a setting holds across a restart."""

    def __init__(self, library: Path, control_file: Path, root: Path) -> None:
        self._library = library
        self._file = control_file
        self._root = root
        control_file.parent.mkdir(parents=True, exist_ok=True)
        with control_file.open("w+b") as file:
            file.truncate(ctypes.sizeof(Control))
            self._map = mmap.mmap(file.fileno(), ctypes.sizeof(Control))
        self.control = Control.from_buffer(self._map)
        self.control.magic = _MAGIC

    def environment(self, trace: Path | None = None) -> dict[str, str]:
        preloaded = os.environ.get("LD_PRELOAD", "")
        return {
            "LD_PRELOAD": f"{self._library}:{preloaded}" if preloaded else str(self._library),
            "KIBUBU_SHIM_CONTROL": str(self._file),
            "KIBUBU_SHIM_ROOT": str(self._root),
            "KIBUBU_SHIM_TRACE": str(trace or ""),
        }

    def heal(self) -> None:
        control = self.control
        control.sync_errno = control.write_errno = 0
        control.sync_delay_us = control.write_delay_us = 0
        control.clock_offset_ns = 0
        control.lies = 0
