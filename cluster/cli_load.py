"""The commands that measure and train. Their parts are imported when they run: `kibubu status` stays quick."""

from __future__ import annotations

from pathlib import Path

import click
from rich.console import Console

from cluster.layout import layout_from_environment
from cluster.temporary import temporary_cluster


@click.command()
@click.option("--quick", is_flag=True, help="A few settings instead of all, in about a minute.")
@click.option("--seconds", type=click.FloatRange(0.2, 600), default=3.0, show_default=True, help="Of one repeat.")
@click.option("--repeats", type=click.IntRange(1, 50), default=3, show_default=True)
@click.option("--only", default="", help="Only settings whose name contains this, such as 'payments'.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("bench-results"), show_default=True)
def bench(*, quick: bool, seconds: float, repeats: int, only: str, output: Path) -> None:
    """Transfers and payments a second on a temporary cluster: a table, a JSON file and a plot."""
    from cluster.bench import report
    from cluster.bench.run import measure
    from cluster.bench.settings import settings

    wanted = [setting for setting in settings(quick) if only in setting.name]
    if not wanted:
        raise click.ClickException(f"--only {only!r}: no setting has this in its name")
    with temporary_cluster(layout_from_environment(), "bench", click.echo) as layout:
        rows = measure(layout, wanted, seconds, repeats, click.echo)
    Console(width=150).print(report.table(rows))
    for path in report.write(rows, output):
        click.echo(f"written {path}")


@click.group()
def fraud() -> None:
    """The fraud model."""


@fraud.command("train")
@click.option("--customers", type=click.IntRange(200, 1_000_000), default=20_000, show_default=True)
@click.option("--days", type=click.IntRange(10, 3_650), default=60, show_default=True)
@click.option("--seed", type=int, default=7, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("fraud-model"), show_default=True)
def train_model(*, customers: int, days: int, seed: int, output: Path) -> None:
    """Simulate, train, and write the model with its card; the defaults make the shipped model again."""
    from fraud.train import train

    try:
        card = train(customers, days, seed, output)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    report = card["report"]
    click.echo(f"written {output}/model.cbm {card['model_sha256'][:8]} and its card")
    click.echo(f"AUPRC {report['auprc']:.3f} at {report['fraud_share']:.2%} fraud, on days that it never saw")
    click.echo(f"recall at 0.1 % alerts {report['at_alert_rates'][0]['recall']:.3f}")
