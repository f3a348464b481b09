"""A control group that limits memory, of version 1 or 2, whichever the machine has."""

from __future__ import annotations

import contextlib
import os
import secrets
import time
from pathlib import Path
from types import TracebackType
from typing import Self

_V1 = Path("/sys/fs/cgroup/memory")
_V2 = Path("/sys/fs/cgroup")
_REMOVE_TRIES_MAX = 50


def _parent() -> tuple[Path, bool]:
    """(folder, version 1)."""
    if (_V1 / "memory.limit_in_bytes").exists() or (_V1 / "memory.usage_in_bytes").exists():
        return _V1, True
    if "memory" in (_V2 / "cgroup.subtree_control").read_text(encoding="utf-8").split():
        return _V2, False
    raise OSError("no control group for memory")


class MemoryLimit:
    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._parent, self._is_v1 = _parent()
        self._folder = self._parent / f"kibubu-{secrets.token_hex(4)}"

    def __enter__(self) -> Self:
        self._folder.mkdir()
        self._write("memory.limit_in_bytes" if self._is_v1 else "memory.max", str(self._limit_bytes))
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        for _ in range(_REMOVE_TRIES_MAX):
            with contextlib.suppress(OSError):
                self._folder.rmdir()
                return
            time.sleep(0.1)  # the last process in it is not reaped yet

    def _write(self, name: str, text: str) -> None:
        (self._folder / name).write_text(text, encoding="utf-8")

    def prefix(self) -> tuple[str, ...]:
        """In front of a command: it joins the group and then becomes the command."""
        script = f'echo $$ > "{self._folder}/cgroup.procs" && exec "$@"'
        return ("sh", "-c", script, "sh")

    def kills(self) -> int:
        """How many processes the kernel has killed for want of memory."""
        text = (self._folder / ("memory.oom_control" if self._is_v1 else "memory.events")).read_text(encoding="utf-8")
        counts = dict(line.split() for line in text.splitlines())
        return int(counts.get("oom_kill", 0))

    def failures(self) -> int:
        """How often the limit was hit."""
        if self._is_v1:
            return int((self._folder / "memory.failcnt").read_text(encoding="utf-8"))
        text = (self._folder / "memory.events").read_text(encoding="utf-8")
        return int(dict(line.split() for line in text.splitlines()).get("max", 0))


def problem() -> str:
    """Why memory cannot be limited here; empty when it can."""
    if os.geteuid() != 0:
        return "memory limits need root"
    try:
        with MemoryLimit(64 << 20):
            return ""
    except OSError as error:
        return f"memory limits: {error}"
