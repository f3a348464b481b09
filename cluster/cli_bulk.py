"""`kibubu bulk`: one person submits a file, another approves it, and then it is paid, once, whatever happens."""

from __future__ import annotations

import csv
import re
import secrets
import sys
from datetime import UTC, datetime
from pathlib import Path

import click
from kibubu.bulk.v1 import bulk_pb2, bulk_pb2_grpc
from rich.console import Console
from rich.table import Table

from cluster import books
from cluster import bulk as batches
from cluster.calls import Caller, CallError
from cluster.cli_person import AS, caller_as
from cluster.config_files import CURRENCY, OPERATOR
from cluster.money import format_minor

_NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,19}", re.ASCII)
_console = Console(width=None if sys.stdout.isatty() else 120)


@click.group()
def bulk() -> None:
    """Many payments from one business: submitted by one person, approved by another."""


@bulk.command()
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--from", "payer", required=True, help="Who pays: till:123456 or paybill:888880.")
@click.option("--id", "batch_id", default="", help="Small letters, digits and -; without it one is made.")
@click.option("--allow-duplicates", is_flag=True, help="The same number may be on more lines than one.")
@AS
def submit(file: Path, payer: str, batch_id: str, person: str, *, allow_duplicates: bool) -> None:
    """FILE is a CSV with the columns phone, amount and reference. Nothing is paid yet."""
    chosen = batch_id or f"{datetime.now(UTC):%Y%m%d}-{secrets.token_hex(3)}"
    with caller_as(person, batches.FileProblemsError) as caller:
        rows = batches.read_rows(file, allow_duplicates=allow_duplicates)
        request = bulk_pb2.SubmitBatchRequest(batch_id=chosen, payer=payer, currency=CURRENCY, rows=rows)
        try:
            answer = caller.leader(lambda c: bulk_pb2_grpc.BulkServiceStub(c).SubmitBatch, request)
        except CallError as error:
            raise click.ClickException(f"{error}\n  to ask again: the same command with --id {chosen}") from error
        if answer.problems:
            said = [f"{f'row {p.row}, ' if p.row else ''}{p.field}: {p.rule}" for p in answer.problems]
            raise batches.FileProblemsError(said)
        batches.check(answer.status)
    _print_batch(answer.batch)
    click.echo(f"somebody else approves it: kibubu bulk approve {chosen} --as NAME")


def _print_batch(batch: bulk_pb2.Batch) -> None:
    click.echo(
        f"{batch.batch_id}: {batch.rows:,} rows, {batch.currency} {format_minor(batch.total_minor)} from {batch.payer},"
        f" {batches.STATES[batch.state]}"
    )
    click.echo(f"  submitted by {batch.maker} on {books.local_time(batch.submit_time_ns):%d/%m/%Y %H:%M:%S}")
    if batch.checker:
        said = batches.STATES[batch.state]
        click.echo(f"  {said} by {batch.checker} on {books.local_time(batch.decide_time_ns):%d/%m/%Y %H:%M:%S}")
    click.echo(f"  digest {batch.digest}")


@bulk.command()
@click.argument("batch_id")
@click.option("--run/--no-run", default=True, help="Pay it at once.")
@AS
def approve(batch_id: str, person: str, *, run: bool) -> None:
    """By somebody else than who submitted it; then pay it."""
    with caller_as(person) as caller:
        _print_batch(_decided(caller, batch_id, approve=True))
        if run:
            _run(caller, batch_id)


@bulk.command()
@click.argument("batch_id")
@AS
def reject(batch_id: str, person: str) -> None:
    """For ever: what is right in it is submitted anew."""
    with caller_as(person) as caller:
        _print_batch(_decided(caller, batch_id, approve=False))


def _decided(caller: Caller, batch_id: str, *, approve: bool) -> bulk_pb2.Batch:
    digest = batches.batch_of(caller, batch_id).digest
    request = bulk_pb2.DecideBatchRequest(batch_id=batch_id, approve=approve, digest=digest)
    answer = caller.leader(lambda c: bulk_pb2_grpc.BulkServiceStub(c).DecideBatch, request)
    batches.check(answer.status)
    return answer.batch


@bulk.command()
@click.argument("batch_id")
@AS
def resume(batch_id: str, person: str) -> None:
    """Pay what is not paid yet. As often as you like: each row is paid once."""
    with caller_as(person) as caller:
        _run(caller, batch_id)


def _run(caller: Caller, batch_id: str) -> None:
    batch = batches.batch_of(caller, batch_id)
    with click.progressbar(length=batch.rows, label="paying") as bar:
        try:
            tally = batches.run(caller, batch, lambda so_far: bar.update(so_far.rows - bar.pos))
        except batches.StoppedError as error:
            raise click.ClickException(f"{error}\n  to go on: kibubu bulk resume {batch_id}") from error
    _print_tally(batch, tally)


def _print_tally(batch: bulk_pb2.Batch, tally: batches.Tally) -> None:
    click.echo(
        f"{tally.paid:,} of {batch.rows:,} rows paid: {batch.currency} {format_minor(tally.paid_minor)} and fees of"
        f" {format_minor(tally.fees_minor)}"
    )
    for status, count in sorted(tally.statuses.items()):
        if status != "ok":
            click.echo(f"  {count:,} {status}")
    if tally.paid < batch.rows:
        click.echo(f"  see which: kibubu bulk show {batch.batch_id} --unpaid FILE.csv")


@bulk.command()
@click.argument("batch_id")
@click.option(
    "--rows", "shown", type=click.IntRange(0, 10_000), default=20, show_default=True, help="How many to show."
)
@click.option("--unpaid", type=click.Path(dir_okay=False, path_type=Path), help="Write what was not paid as a new CSV.")
def show(batch_id: str, shown: int, unpaid: Path | None) -> None:
    """The batch, its progress, and what became of each row."""
    with caller_as(OPERATOR) as caller:
        batch = batches.batch_of(caller, batch_id)
        rows = list(batches.outcomes(caller, batch))
        _print_batch(batch)
        tally = batches.Tally()
        for one in rows:
            tally.add(one)
        _print_tally(batch, tally)
        _console.print(_rows_table(rows[:shown]))
        if unpaid is not None:
            click.echo(f"{_write_unpaid(unpaid, rows):,} rows in {unpaid}")


def _rows_table(rows: list[bulk_pb2.RowOutcome]) -> Table:
    table = Table()
    for title in ("row", "phone", "name", "amount", "reference", "outcome", "receipt"):
        table.add_column(title, justify="right" if title in ("row", "amount") else "left")
    for one in rows:
        outcome = one.outcome.status_name if one.decided else "not paid yet"
        table.add_row(
            str(one.row.row), one.row.payee, one.outcome.payee_name, format_minor(one.row.amount_minor),
            one.row.reference, outcome, one.outcome.receipt,
        )  # fmt: skip
    return table


def _write_unpaid(path: Path, rows: list[bulk_pb2.RowOutcome]) -> int:
    """What was refused for good, to be put right and submitted anew; what is only not paid yet is left to `resume`."""
    refused = [one.row for one in rows if one.decided and not one.outcome.receipt]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("phone", "amount", "reference"))
        for row in refused:
            writer.writerow((row.payee, format_minor(row.amount_minor).replace(",", ""), row.reference))
    return len(refused)


@bulk.command("list")
def list_batches() -> None:
    """All batches, by id."""
    with caller_as(OPERATOR) as caller:
        table, token = Table(), ""
        for title in ("batch", "rows", "total", "from", "state", "maker", "checker"):
            table.add_column(title, justify="right" if title in ("rows", "total") else "left")
        while True:
            request = bulk_pb2.ListBatchesRequest(page_token=token)
            page = caller.leader(lambda c: bulk_pb2_grpc.BulkServiceStub(c).ListBatches, request)
            for one in page.batches:
                total = format_minor(one.total_minor)
                table.add_row(
                    one.batch_id, f"{one.rows:,}", total, one.payer, batches.STATES[one.state], one.maker, one.checker
                )
            token = page.next_page_token
            if not token:
                break
    _console.print(table)
