"""`kibubu statement`, `balance`, `trial-balance`, `receipt`: what the books say, on the screen or as a file."""

from __future__ import annotations

import asyncio
import sys
from datetime import UTC, date, datetime, timedelta
from itertools import groupby
from pathlib import Path

import click
from google.protobuf.json_format import MessageToJson
from kibubu.payments.v1 import payments_pb2, payments_pb2_grpc
from rich.console import Console
from rich.table import Table

from cluster import books
from cluster.accounts import AccountNameError, find_account
from cluster.calls import CallError, operator_caller
from cluster.clients import operator_client
from cluster.layout import Layout, LayoutError, layout_from_environment
from cluster.money import format_minor
from cluster.statement_files import PDF_LINES_MAX, Heading, TooLongError, write_csv, write_pdf
from cluster.vocabulary import AccountKind
from kibubu_client import KibubuError

_EXPECTED = (AccountNameError, CallError, LayoutError, TooLongError, OSError)
_console = Console(width=None if sys.stdout.isatty() else 120)
_DAY = click.DateTime(["%Y-%m-%d"])
_FILE = click.Path(dir_okay=False, writable=True, path_type=Path)


def _layout() -> Layout:
    layout = layout_from_environment()
    if not (layout.certificates / "ca.crt").exists():
        raise CallError(f"there is no cluster in {layout.home}; `kibubu up` makes one")
    return layout


@click.command()
@click.argument("account")
@click.option("--limit", type=click.IntRange(1, 1000), default=20, show_default=True, help="Lines, without a span.")
@click.option("--from", "from_day", type=_DAY, help="First day, as 2026-11-24.")
@click.option("--to", "to_day", type=_DAY, help="Last day.")
@click.option("--csv", "csv_file", type=_FILE, help="Write it there, for programs.")
@click.option("--pdf", "pdf_file", type=_FILE, help="Write it there, for people.")
def statement(
    account: str,
    limit: int,
    from_day: datetime | None,
    to_day: datetime | None,
    csv_file: Path | None,
    pdf_file: Path | None,
) -> None:
    """The transfers of ACCOUNT (a phone number, till:..., #number), newest first."""
    if from_day and to_day and to_day < from_day:
        raise click.ClickException("--to: is before --from")
    if csv_file and pdf_file:
        raise click.ClickException("--csv or --pdf, not both in one call")
    from_ns = books.day_start_ns(from_day.date()) if from_day else 0
    to_ns = books.day_start_ns(to_day.date() + timedelta(days=1)) if to_day else 0
    whole = bool(from_day or to_day or csv_file or pdf_file)
    try:
        with operator_caller(_layout()) as caller:
            found = find_account(caller, account)
            number, name = found.account_number, f"{found.name} (#{found.account_number})"
            currency, exponent = books.currency_of(found.ledger)
            lines = books.statement(caller, number, from_ns, to_ns, None if whole else limit)
            if csv_file:
                click.echo(f"{write_csv(csv_file, lines, exponent):,} lines in {csv_file}")
            elif pdf_file:
                told = [line for line, _ in zip(lines, range(PDF_LINES_MAX + 1), strict=False)]
                opening = books.balance_at(caller, number, from_ns) if from_ns else 0
                closing = books.balance_at(caller, number, to_ns) if to_ns else found.balance_minor
                heading = Heading(found.name, account, currency, _period(from_day, to_day), opening, closing, exponent)
                write_pdf(pdf_file, heading, told)
                click.echo(f"{len(told):,} lines in {pdf_file}")
            else:
                _console.print(_statement_table(name, lines, exponent))
    except _EXPECTED as error:
        raise click.ClickException(str(error)) from error


def _period(from_day: datetime | None, to_day: datetime | None) -> str:
    if not (from_day or to_day):
        return "all transfers"
    first = f"from {from_day:%d/%m/%Y}" if from_day else "from the beginning"
    return f"{first} to {to_day:%d/%m/%Y}" if to_day else f"{first} to now"


def _statement_table(title: str, lines: object, exponent: int) -> Table:
    table = Table(title=title)
    for column in ("time", "position", "id", "in or out", "other", "balance", "note"):
        table.add_column(
            column, justify="right" if column in ("position", "in or out", "balance") else "left", overflow="fold"
        )
    for line in lines:  # type: ignore[attr-defined]
        table.add_row(
            f"{line.time:%d/%m %H:%M:%S}", str(line.position), line.transfer_id,
            format_minor(line.amount_minor, exponent), f"{line.other_name} #{line.other_account}",
            format_minor(line.balance_minor, exponent), line.note,
        )  # fmt: skip
    return table


@click.command()
@click.argument("account")
@click.option("--at", "moment", help="At the beginning of this moment, as 2026-11-24 or '2026-11-24 17:30'.")
def balance(account: str, moment: str | None) -> None:
    """What ACCOUNT has, and what of it is free; or what it had."""
    try:
        at = _moment_ns(moment) if moment else 0
        with operator_caller(_layout()) as caller:
            found = find_account(caller, account)
            had_minor = books.balance_at(caller, found.account_number, at) if at else 0
    except _EXPECTED as error:
        raise click.ClickException(str(error)) from error
    currency, exponent = books.currency_of(found.ledger)
    who = f"{found.name} (#{found.account_number})"
    if at:
        click.echo(f"{who} at {moment}: {currency} {format_minor(had_minor, exponent)}")
    else:
        free = format_minor(found.available_minor, exponent)
        click.echo(f"{who}: {currency} {format_minor(found.balance_minor, exponent)}, available {free}")


def _moment_ns(text: str) -> int:
    for form in ("%Y-%m-%d", "%Y-%m-%d %H:%M", "%Y-%m-%d %H:%M:%S"):
        try:
            local = datetime.strptime(text, form).replace(tzinfo=UTC)
        except ValueError:
            continue
        return int((local - books.LOCAL).timestamp()) * 1_000_000_000
    raise click.ClickException(f"--at: must be a date, with a time or without, as '2026-11-24 17:30', is {text!r}")


@click.command("trial-balance")
@click.option("--day", type=_DAY, help="At the end of this day, as 2026-11-24; without it, now.")
def trial_balance(day: datetime | None) -> None:
    """Debits and credits of every ledger by kind of account; they must be equal, and are shown to be."""
    chosen: date | None = day.date() if day else None
    try:
        with operator_caller(_layout()) as caller:
            rows = books.trial_balance(caller, chosen)
    except _EXPECTED as error:
        raise click.ClickException(str(error)) from error
    if not rows:
        click.echo("nothing was posted yet")
    for ledger, of_ledger in groupby(rows, key=lambda row: row.ledger):
        if not _print_ledger(ledger, list(of_ledger), chosen):
            raise click.ClickException(f"ledger {ledger}: debits and credits differ")


def _print_ledger(ledger: int, rows: list[books.TrialRow], day: date | None) -> bool:
    """False = it does not balance."""
    when = f"end of {day:%d/%m/%Y}" if day else "now"
    currency, exponent = books.currency_of(ledger)
    table = Table(title=f"{currency}, {when}", show_footer=True)
    columns = [[getattr(row, name) for row in rows] for name in _COLUMNS]
    totals = [sum(column) for column in columns]
    table.add_column("kind of account", footer="total")
    for title, total in zip(("debits", "credits", "balance", "day's debits", "day's credits"), totals, strict=True):
        table.add_column(title, justify="right", footer=format_minor(total, exponent))
    for row in rows:
        kind = AccountKind(row.kind).name.lower() if row.kind in AccountKind.__members__.values() else str(row.kind)
        table.add_row(kind, *(format_minor(getattr(row, name), exponent) for name in _COLUMNS))
    _console.print(table)
    return bool(totals[0] == totals[1] and totals[3] == totals[4])


_COLUMNS = ("debits_minor", "credits_minor", "balance_minor", "span_debits_minor", "span_credits_minor")


@click.command()
@click.argument("code")
def receipt(code: str) -> None:
    """The payment that a receipt is of."""
    try:
        with operator_caller(_layout()) as caller:
            answer = caller.leader(
                lambda c: payments_pb2_grpc.PaymentsServiceStub(c).LookupPayment,
                payments_pb2.LookupPaymentRequest(receipt=code),
            )
    except _EXPECTED as error:
        raise click.ClickException(str(error)) from error
    if not answer.found:
        raise click.ClickException(f"no payment has the receipt {code}")
    payment, outcome = answer.payment, answer.outcome
    kind = payments_pb2.PaymentKind.Name(payment.kind).removeprefix("PAYMENT_KIND_").lower()
    payee = " ".join(part for part in (payment.payee, outcome.payee_name) if part)
    click.echo(
        f"{outcome.receipt} {kind} of {payment.currency} {format_minor(outcome.amount_minor)} from"
        f" {payment.payer_msisdn or payment.payer} to {payee}{f' for {payment.reference}' if payment.reference else ''}"
        f" on {books.local_time(outcome.timestamp_ns):%d/%m/%Y %H:%M:%S}: {outcome.status_name},"
        f" fee {format_minor(outcome.fee_minor)}, position {outcome.position}, id {payment.payment_id.hex()}"
    )


@click.command()
@click.option("--from", "position", type=click.IntRange(min=1), default=1, show_default=True, help="First position.")
@click.option("--follow", is_flag=True, help="Go on with what comes, until Ctrl-C.")
@click.option("--payments/--transfers", "payments", default=True, show_default=True)
def feed(position: int, *, follow: bool, payments: bool) -> None:
    """The change feed as JSON, a line for each event: what was committed, in order, once."""
    try:
        asyncio.run(_print_feed(_layout(), position, follow=follow, payments=payments))
    except (KibubuError, *_EXPECTED) as error:
        raise click.ClickException(str(error)) from error
    except KeyboardInterrupt:
        return


async def _print_feed(layout: Layout, position: int, *, follow: bool, payments: bool) -> None:
    async with operator_client(layout) as client:
        wanted = {"payments": payments, "transfers": not payments, "only_stored": not follow}
        async for event in client.feed(position, **wanted):
            click.echo(MessageToJson(event, indent=None, preserving_proto_field_name=True))
