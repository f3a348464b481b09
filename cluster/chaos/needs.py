"""What a fault needs of the machine, and the reason why this one does not give it. Each need is tried for real."""

from __future__ import annotations

import contextlib
import functools
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path

from cluster.chaos import memory, shim
from cluster.chaos.faults.kinds import Need
from cluster.chaos.faults.machine import FAKETIME
from cluster.chaos.network import NetworkError, open_network
from cluster.chaos.volumes import VolumeError, open_volume


def _prometheus() -> str:
    return "" if shutil.which("prometheus") else "prometheus is not installed"


def _missing_programs(*programs: str) -> str:
    missing = [program for program in programs if shutil.which(program) is None]
    return f"not installed: {', '.join(missing)}" if missing else ""


def _network(*, with_hub: bool = False) -> str:
    if os.geteuid() != 0:
        return "networks of their own need root"
    missing = _missing_programs("ip", "nft", "nsenter")
    if missing:
        return missing
    try:
        with tempfile.TemporaryDirectory() as folder, open_network(Path(folder), with_hub=with_hub) as network:
            network.cut("n1", "n2")
    except (NetworkError, OSError) as error:
        return f"network: {error}"
    return ""


def _shim() -> str:
    try:
        with tempfile.TemporaryDirectory() as folder:
            shim.build(Path(folder))
    except shim.ShimError as error:
        return f"the preload shim: {error}"
    return ""


def _volumes() -> str:
    if os.geteuid() != 0:
        return "loop file systems need root"
    missing = _missing_programs("mkfs.ext4", "mount")
    if missing:
        return missing
    try:
        with contextlib.ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
            stack.enter_context(open_volume(folder / "image", folder / "mounted")).cut_power()
    except (VolumeError, OSError) as error:
        return f"volumes: {error}"
    return ""


def _strace() -> str:
    """Permission to look into another process is not had everywhere."""
    missing = _missing_programs("strace")
    if missing:
        return missing
    command = ["strace", "-qq", "-o", os.devnull, "-e", "inject=fsync:error=EIO", "true"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return f"strace: {done.stderr.strip()}" if done.returncode else ""


def _faketime() -> str:
    return "" if FAKETIME.exists() else f"libfaketime is not installed ({FAKETIME})"


_PROBES: dict[Need, Callable[[], str]] = {
    "prometheus": _prometheus,
    "network": _network,
    "hub": lambda: _network(with_hub=True),
    "shim": _shim,
    "strace": _strace,
    "volumes": _volumes,
    "faketime": _faketime,
    "cgroup": memory.problem,
}


@functools.cache
def _reason(need: Need) -> str:
    return _PROBES[need]()


def forbidden(needs: Iterable[Need]) -> list[str]:
    """The reasons, none when everything is there. Each need is tried once in a process."""
    return [reason for need in needs if (reason := _reason(need))]
