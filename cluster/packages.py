"""What Debian brings: Prometheus, and for tests Redis, Chromium and the tools that hurt a machine. Installed when they
are missing and this is root on a machine with apt; otherwise a clear line says what is left out, and everything else
runs."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

DEBIAN_PACKAGES = {"prometheus": "prometheus"}  # program: package
EDGE_TEST_PACKAGES = {"redis-server": "redis-server", "chromium": "chromium", "chromedriver": "chromium-driver"}
TEST_PACKAGES = {  # above all what `kibubu chaos` uses, and leaves out with a reason where it is not there
    "faketime": "faketime",
    "gcc": "build-essential",
    "ip": "iproute2",
    "mkfs.ext4": "e2fsprogs",
    "nft": "nftables",
    "nsenter": "util-linux",
    "strace": "strace",
    **EDGE_TEST_PACKAGES,
}
_POLICY = Path("/usr/sbin/policy-rc.d")
_APT_TIMEOUT_S = 300


def missing_programs(wanted: Mapping[str, str]) -> list[str]:
    return [program for program in wanted if shutil.which(program) is None]


def ensure_packages(wanted: Mapping[str, str] = DEBIAN_PACKAGES) -> list[str]:
    """Installs what is missing if it may; returns lines to show, none when all is there."""
    missing = missing_programs(wanted)
    if not missing:
        return []
    packages = sorted({wanted[program] for program in missing})
    if os.geteuid() != 0 or shutil.which("apt-get") is None:
        return [f"{name} is not installed and this is not root with apt: going on without it" for name in missing]
    problem = _install(packages)
    if problem:
        return [f"apt could not install {', '.join(packages)} ({problem}): going on without"]
    return [f"installed {', '.join(packages)} with apt"]


def _install(packages: list[str]) -> str:
    """The reason why it failed, or nothing."""
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    commands = (["apt-get", "update", "-qq"], ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *packages])
    with _no_service_starts():
        for command in commands:
            try:
                done = subprocess.run(
                    command, env=environment, capture_output=True, text=True, timeout=_APT_TIMEOUT_S, check=False
                )
            except (OSError, subprocess.TimeoutExpired) as error:
                return str(error)
            if done.returncode:
                return (done.stderr.strip().splitlines() or ["no reason given"])[-1]
    return ""


@contextmanager
def _no_service_starts() -> Iterator[None]:
    """Debian starts a service when its package comes; we run our own process, so none is wanted."""
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n", encoding="utf-8")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink(missing_ok=True)


if __name__ == "__main__":
    for line in ensure_packages({**DEBIAN_PACKAGES, **TEST_PACKAGES}):
        print(line)
