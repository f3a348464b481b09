"""What a fault needs of the machine, and the reason why this one does not give it."""

from __future__ import annotations

import functools
import shutil
from collections.abc import Callable, Iterable

from cluster.chaos.faults.kinds import Need


def _prometheus() -> str:
    return "" if shutil.which("prometheus") else "prometheus is not installed"


_PROBES: dict[str, Callable[[], str]] = {"prometheus": _prometheus}


@functools.cache
def _reason(need: Need) -> str:
    return _PROBES[need]()


def forbidden(needs: Iterable[Need]) -> list[str]:
    """The reasons, none when everything is there. Each need is tried for real, once in a process."""
    return [reason for need in needs if (reason := _reason(need))]
