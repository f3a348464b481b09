"""The commands that measure and train. Their parts are imported when they run: `kibubu status` stays quick."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import click
from rich.console import Console

from cluster.layout import layout_from_environment
from cluster.temporary import temporary_cluster


@click.command()
@click.option("--table", "table", is_flag=True, help="Every row that has a target (the default).")
@click.option("--quick", is_flag=True, help="A few of them, in about a minute.")
@click.option("--grid", is_flag=True, help="Transfers for each batch size and number of clients instead.")
@click.option("--only", default="", help="Only settings whose name contains this, such as 'payments'.")
@click.option("--seconds", type=click.FloatRange(0.2, 600), default=3.0, show_default=True, help="Of one repeat.")
@click.option("--repeats", type=click.IntRange(1, 50), default=3, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("bench-results"), show_default=True)
def bench(*, table: bool, quick: bool, grid: bool, only: str, seconds: float, repeats: int, output: Path) -> None:
    """Transfers, payments, calls and screens a second on a temporary cluster: a table, a JSON file and plots."""
    from cluster.bench import report
    from cluster.bench.run import Pace, WrongBooksError, measure
    from cluster.bench.settings import settings

    if table + quick + grid > 1:
        raise click.UsageError("--table, --quick and --grid: choose one of them")
    wanted = settings(quick=quick, grid=grid, only=only)
    if not wanted:
        raise click.ClickException(f"--only {only!r}: no setting has this in its name")
    try:
        with temporary_cluster(layout_from_environment(), "bench", click.echo) as layout:
            rows = measure(layout, wanted, Pace(seconds, repeats), click.echo)
    except (WrongBooksError, ValueError) as error:
        raise click.ClickException(str(error)) from error
    Console(width=200).print(report.table(rows))
    for path in report.write(rows, output):
        click.echo(f"written {path}")


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
