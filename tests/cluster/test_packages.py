"""What Debian brings: left out with a clear line where it cannot be installed, and a reason where that fails."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cluster import packages

ROOT = Path(__file__).resolve().parents[2]


def test_on_a_machine_without_apt_one_line_says_what_is_left_out(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "cluster.packages"], cwd=ROOT, env=os.environ | {"PATH": str(tmp_path)},
        capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == [
        f"{program} is not installed and this is not root with apt: going on without it"
        for program in {**packages.DEBIAN_PACKAGES, **packages.TEST_PACKAGES}
    ]


def test_without_root_nothing_is_tried(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tried = apt(tmp_path, "exit 0")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 1_000)
    assert all("not root" in line for line in packages.ensure_packages())
    assert not tried.exists()


def test_what_is_there_is_not_spoken_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for program in packages.DEBIAN_PACKAGES:
        (tmp_path / program).write_text("#!/bin/sh\n", encoding="utf-8")
        (tmp_path / program).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert packages.ensure_packages() == []


def apt(folder: Path, script: str) -> Path:
    """A stand-in for apt-get; the file that it notes its calls in."""
    tried = folder / "tried"
    program = folder / "apt-get"
    program.write_text(f'#!/bin/sh\necho "$@" >> {tried}\n{script}\n', encoding="utf-8")
    program.chmod(0o755)
    return tried


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("exit 0", "installed "),
        ("echo 'E: first' >&2; echo 'E: no network' >&2; exit 100", "(E: no network): going on without"),
        ("exit 1", "(no reason given): going on without"),
    ],
)
def test_apt_installs_or_its_reason_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, script: str, said: str
) -> None:
    tried, policy = apt(tmp_path, script), tmp_path / "policy-rc.d"
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(packages, "_POLICY", policy)
    (line,) = packages.ensure_packages()
    assert said in line
    first, *rest = tried.read_text(encoding="utf-8").splitlines()
    assert first.startswith("update")
    if said == "installed ":
        assert rest[0].startswith("install")
        assert all(package in rest[0] for package in packages.DEBIAN_PACKAGES.values())
    assert not policy.exists()  # it forbids services to start, and only for as long as apt runs
