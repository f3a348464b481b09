"""The command that simulates whole clusters; it runs from the source tree."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click


@click.command()
@click.option("--seeds", type=click.IntRange(1, 10_000_000), default=200, show_default=True, help="How many.")
@click.option("--start", type=click.IntRange(0), default=1, show_default=True, help="The first seed.")
@click.option("--jobs", type=click.IntRange(1, 256), default=2, show_default=True, help="Processes.")
def simulate(*, seeds: int, start: int, jobs: int) -> None:
    """Whole clusters in virtual time, with faults; a failing seed is shrunk and can be replayed."""
    root = Path(__file__).resolve().parents[1]
    if not (root / "tests" / "simulation" / "__main__.py").is_file():
        raise click.ClickException(f"{root} holds no tests/simulation: the simulator runs from the source tree only")
    arguments = ["--seeds", str(seeds), "--start", str(start), "--jobs", str(jobs)]
    child = subprocess.run([sys.executable, "-m", "tests.simulation", *arguments], cwd=root, check=False)
    sys.exit(child.returncode)
