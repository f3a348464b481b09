"""`kibubu fraud`: the model's commands and the analyst's. Their parts are imported when they run."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TextIO

import click
from rich.console import Console
from rich.table import Table

from cluster.calls import CallError, operator_caller
from cluster.certificates import CertificateError
from cluster.layout import LayoutError, layout_from_environment

_EXPECTED = (CallError, CertificateError, LayoutError)


@click.group()
def fraud() -> None:
    """The fraud model."""


@fraud.command("evaluate")
@click.option("--data", type=click.Path(path_type=Path), help="A history (Parquet); without it one is simulated.")
@click.option("--customers", type=click.IntRange(200, 1_000_000), default=10_000, show_default=True, help="Simulated.")
@click.option("--days", type=click.IntRange(10, 3_650), default=60, show_default=True, help="Simulated.")
@click.option("--seed", type=int, default=11, show_default=True)
@click.option("--leave-one-out/--no-leave-one-out", default=True, help="Train once more without each kind of fraud.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("fraud-report"), show_default=True)
def evaluate_model(
    *, data: Path | None, customers: int, days: int, seed: int, leave_one_out: bool, output: Path
) -> None:
    """The model against rules alone, logistic regression and LightGBM, on the same days: a table and an HTML report."""
    from fraud.commands import evaluate

    try:
        header, *rows = evaluate(data, customers, days, seed, output, click.echo, leave_one_out=leave_one_out)
    except ValueError as error:
        raise click.ClickException(str(error)) from error
    table = Table(*header)
    for row in rows:
        table.add_row(*row)
    Console(width=120).print(table)


@fraud.command("simulate")
@click.option("--customers", type=click.IntRange(200, 5_000_000), default=20_000, show_default=True)
@click.option("--days", type=click.IntRange(10, 3_650), default=60, show_default=True)
@click.option("--seed", type=int, default=7, show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("history.parquet"), show_default=True)
def simulate_town(*, customers: int, days: int, seed: int, output: Path) -> None:
    """A town of mobile-money users with ten kinds of fraud in it, as Parquet for `train` and `evaluate`."""
    from fraud.commands import simulate_to

    try:
        simulate_to(output, customers, days, seed, click.echo)
    except (ValueError, OSError) as error:
        raise click.ClickException(str(error)) from error


@fraud.command("train")
@click.option("--data", type=click.Path(path_type=Path), help="A history to learn from; without it one is simulated.")
@click.option("--format", "form", type=click.Choice(["kibubu", "paysim"]), default="kibubu", show_default=True)
@click.option("--output", type=click.Path(path_type=Path), default=Path("fraud-model"), show_default=True)
@click.option("--seed", type=int, default=7, show_default=True)
@click.option("--customers", type=click.IntRange(200, 1_000_000), default=40_000, show_default=True, help="Simulated.")
@click.option("--days", type=click.IntRange(10, 3_650), default=60, show_default=True, help="Simulated.")
@click.option("--trials", type=click.IntRange(0, 1_000), default=0, help="So many settings more, drawn by the seed.")
@click.option("--tune-minutes", type=click.FloatRange(0, 10_000), default=0.0, help="Try settings for so long.")
@click.option("--allow-leaky", is_flag=True, help="Train although one feature alone gives fraud away.")
def train_model(
    *,
    data: Path | None,
    form: str,
    output: Path,
    seed: int,
    customers: int,
    days: int,
    trials: int,
    tune_minutes: float,
    allow_leaky: bool,
) -> None:
    """Learn from the earlier time, report on the later, write the model with its card.

    Without --data the history is simulated; the defaults make the shipped model again."""
    from fraud.commands import Search, train_kibubu, train_paysim

    search = Search(trials, tune_minutes)
    try:
        if form == "paysim":
            if data is None:
                raise click.UsageError("--format paysim needs --data FILE")
            train_paysim(data, output, seed, click.echo, search, allow_leaky=allow_leaky)
        else:
            train_kibubu(data, customers, days, seed, output, click.echo, search, allow_leaky=allow_leaky)
    except ValueError as error:
        raise click.ClickException(str(error)) from error


@fraud.command()
@click.option("--size", type=click.IntRange(1, 500), default=50, show_default=True)
def queue(*, size: int) -> None:
    """The payments that are held, oldest first."""
    from cluster import review

    try:
        with operator_caller(layout_from_environment()) as caller:
            table, total = review.queue(caller, size)
    except _EXPECTED as error:
        raise click.ClickException(str(error)) from error
    Console(width=180).print(table)
    click.echo(f"{total} waiting")


@fraud.command()
@click.argument("payment")
def show(*, payment: str) -> None:
    """A held payment: why it is held, and what both accounts did before."""
    from cluster import review

    try:
        with operator_caller(layout_from_environment()) as caller:
            shown = review.show(caller, review.payment_id_of(payment))
    except _EXPECTED as error:
        raise click.ClickException(str(error)) from error
    Console(width=140).print(shown, highlight=False, markup=False)


@fraud.command()
@click.argument("payment")
@click.option("--analyst", help="Who decides; without it the user's name.")
@click.option("--comment", default="", help="Why, in a few words; kept in the ledger.")
def release(*, payment: str, analyst: str | None, comment: str) -> None:
    """Let a held payment go where it was sent."""
    _decide(payment, analyst, comment, release=True)


@fraud.command()
@click.argument("payment")
@click.option("--analyst", help="Who decides; without it the user's name.")
@click.option("--comment", default="", help="Why, in a few words; kept in the ledger.")
def refuse(*, payment: str, analyst: str | None, comment: str) -> None:
    """Leave a held payment's money with the payer."""
    _decide(payment, analyst, comment, release=False)


def _decide(payment: str, analyst: str | None, comment: str, *, release: bool) -> None:
    from kibubu.review.v1 import review_pb2

    from cluster import review

    verdict = review_pb2.VERDICT_RELEASE if release else review_pb2.VERDICT_REFUSE
    try:
        with operator_caller(layout_from_environment()) as caller:
            name = review.analyst_name(analyst)
            click.echo(review.decide(caller, review.payment_id_of(payment), verdict, name, comment))
    except _EXPECTED as error:
        raise click.ClickException(str(error)) from error


@fraud.command()
@click.argument("name")
@click.option("--remove", is_flag=True, help="This analyst may no longer log in; open logins end.")
def analyst(*, name: str, remove: bool) -> None:
    """A login to the analysts' page: prints a new token, which is kept nowhere else; an older one ends."""
    from fraud.review_page.analysts import AnalystError, new_token, remove_analyst

    try:
        path = layout_from_environment().analysts_file
        if remove:
            remove_analyst(path, name)
        click.echo(f"{name} may no longer log in" if remove else new_token(path, name))
    except (AnalystError, LayoutError) as error:
        raise click.ClickException(str(error)) from error


@fraud.command("label")
@click.argument("payment")
@click.argument("verdict", type=click.Choice(["fraud", "honest"]))
@click.option("--source", type=click.Choice(["customer_report", "confirmed", "reversal"]), default="customer_report")
@click.option("--comment", default="", help="Kept in the ledger.")
@click.option("--author", help="Who says so; without it the user's name.")
def label_payment(*, payment: str, verdict: str, source: str, comment: str, author: str | None) -> None:
    """Say what a payment turned out to be, whatever was decided at the time."""
    from cluster import labels, review

    try:
        with operator_caller(layout_from_environment()) as caller:
            payment_id, who = review.payment_id_of(payment), review.analyst_name(author)
            click.echo(labels.label(caller, payment_id, verdict, source, comment, who))
    except _EXPECTED as error:
        raise click.ClickException(str(error)) from error


@fraud.command("labels")
@click.option("--mature-days", type=click.IntRange(0, 3_650), default=0, show_default=True, help="Only labels so old.")
@click.option("--output", type=click.File("w"), default="-", help="A CSV file; without it the screen.")
def list_labels(*, mature_days: int, output: TextIO) -> None:
    """What payments turned out to be: analysts' verdicts, and what was said later."""
    from cluster import labels

    until_ns = time.time_ns() - mature_days * labels.DAY_NS if mature_days else 0
    try:
        with operator_caller(layout_from_environment()) as caller:
            count = labels.write_csv(labels.labels(caller, until_ns), output)
    except _EXPECTED as error:
        raise click.ClickException(str(error)) from error
    click.echo(f"{count} labels", err=True)


@fraud.group()
def thresholds() -> None:
    """Costs and thresholds of the fraud check: the same on every node, every version kept."""


@thresholds.command("show")
def show_thresholds() -> None:
    """What is in force, and who set it."""
    from cluster import thresholds as settings

    try:
        with operator_caller(layout_from_environment()) as caller:
            click.echo(settings.show(caller))
    except _EXPECTED as error:
        raise click.ClickException(str(error)) from error


@thresholds.command("set", short_help="Change some, as NAME=NUMBER.")
@click.argument("changes", nargs=-1, required=True, metavar="NAME=NUMBER...")
@click.option("--author", help="Who answers for it; without it the user's name.")
def set_thresholds(*, changes: tuple[str, ...], author: str | None) -> None:
    """Change some, as NAME=NUMBER; the others stay. From the next payment on, on every node."""
    from cluster import review
    from cluster import thresholds as settings

    try:
        with operator_caller(layout_from_environment()) as caller:
            click.echo(settings.change(caller, changes, review.analyst_name(author)))
    except _EXPECTED as error:
        raise click.ClickException(str(error)) from error


@fraud.command("model")
@click.option("--use", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Take this folder's model.")
@click.option("--challenge", type=click.Path(path_type=Path, exists=True, file_okay=False), help="Into the shadow.")
@click.option("--roll-back", is_flag=True, help="Back to the model that was in use before.")
def change_model(*, use: Path | None, challenge: Path | None, roll_back: bool) -> None:
    """Which models the running sidecar has; take another into use, at once and after its checks."""
    from cluster import models

    if (use is not None) + (challenge is not None) + roll_back > 1:
        raise click.UsageError("one of --use, --challenge and --roll-back")
    layout = layout_from_environment()
    try:
        with operator_caller(layout) as caller:
            folder = use or challenge
            if folder is not None:
                models.load(caller, layout.fraud_address, folder, as_challenger=use is None)
            if roll_back:
                models.roll_back(caller, layout.fraud_address)
            click.echo(models.describe(caller, layout.fraud_address))
    except _EXPECTED as error:
        raise click.ClickException(str(error)) from error
