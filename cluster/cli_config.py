"""`kibubu tariff` and `kibubu document`: what all nodes have agreed on, and the prices that follow from it."""

from __future__ import annotations

import getpass
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
from kibubu.config.v1 import config_pb2, config_pb2_grpc
from rich.console import Console
from rich.table import Table

from cluster.calls import Caller, CallError, operator_caller
from cluster.ids import new_id
from cluster.layout import LayoutError, layout_from_environment
from node.ledger.currencies import CURRENCIES, Currency

_console = Console(width=None if sys.stdout.isatty() else 120)
_DAY = click.DateTime(["%Y-%m-%d", "%Y-%m-%dT%H:%M:%S"])
_FILE = click.Path(exists=True, dir_okay=False, path_type=Path)
_AUTHOR = click.option("--author", default=getpass.getuser, help="Who answers for it; by default, you.")
_CURRENCY = click.option("--currency", type=click.Choice(list(CURRENCIES)), default="KES", show_default=True)
_AT = click.option("--at", "at", type=_DAY, help="Another moment than now (UTC), as 2027-01-01.")
_DONE = (0, 1)  # CommandStatus: ok, exists


@contextmanager
def _caller() -> Iterator[Caller]:
    try:
        layout = layout_from_environment()
        if not (layout.certificates / "ca.crt").exists():
            raise CallError(f"there is no cluster in {layout.home}; `kibubu up` makes one")
        with operator_caller(layout) as caller:
            yield caller
    except (CallError, LayoutError) as error:
        raise click.ClickException(str(error)) from error


def _ask(caller: Caller, method: str, request: Any) -> Any:
    of: Callable[[Any], Any] = lambda channel: getattr(config_pb2_grpc.ConfigServiceStub(channel), method)  # noqa: E731
    return caller.leader(of, request)


def _put(kind: str, key: str, file: Path, author: str) -> None:
    request = config_pb2.PutDocumentRequest(
        request_id=new_id(), kind=kind, key=key, body=file.read_bytes(), author=author
    )
    with _caller() as caller:
        answer = _ask(caller, "PutDocument", request)
    if answer.status not in _DONE:
        raise click.ClickException(f"refused: {answer.status_name}")
    click.echo(f"{kind} {answer.key} version {answer.version} is in force, position {answer.position}")


def _time_ns(at: datetime | None) -> int:
    return int(at.replace(tzinfo=UTC).timestamp()) * 1_000_000_000 if at else 0


@click.group()
def tariff() -> None:
    """Prices: dated, agreed on by all nodes, with every version kept."""


@tariff.command()
@click.argument("file", type=_FILE)
@_AUTHOR
def load(file: Path, author: str) -> None:
    """Put the tariff in FILE (TOML) in force, from its own effective_date on."""
    _put("tariff", "", file, author)


@tariff.command("show")
@_CURRENCY
@_AT
def show_tariff(currency: str, at: datetime | None) -> None:
    """What each kind of payment costs."""
    with _caller() as caller:
        found = _ask(caller, "GetTariff", config_pb2.GetTariffRequest(currency=currency, time_ns=_time_ns(at)))
    if not found.found:
        raise click.ClickException(f"no tariff in {currency} is in force then")
    click.echo(f"{found.name}, {found.tariff_version}, excise {found.excise_percent} %: {found.source}")
    for priced in found.tables:
        _console.print(_priced(priced, CURRENCIES[currency]))


def _priced(priced: config_pb2.TariffTable, currency: Currency) -> Table:
    what = "commission" if priced.is_commission else "payer's fee"
    table = Table(title=f"{priced.kind}, {currency.letters}", title_justify="left")
    for title in ("above", "up to", what, *([] if priced.is_commission else ["payee's fee"])):
        table.add_column(title, justify="right")
    above = f"from {currency.text(priced.minimum_minor)}"
    for band in priced.bands:
        amounts = [band.upto_minor, band.payer_fee_minor, band.payee_fee_minor]
        cells = [currency.text(minor) for minor in amounts[: 2 if priced.is_commission else 3]]
        table.add_row(above, *cells)
        above = cells[0]
    return table


@tariff.command()
@click.argument("kind")
@click.argument("amount")
@_CURRENCY
@_AT
def quote(kind: str, amount: str, currency: str, at: datetime | None) -> None:
    """What a payment of AMOUNT costs: KIND is send_money, pay_bill, cash_out, ..."""
    money = CURRENCIES[currency]
    try:
        amount_minor = money.minor(amount)
    except ValueError as error:
        raise click.ClickException(f"AMOUNT: {error}") from error
    request = config_pb2.QuoteTariffRequest(
        kind=kind, currency=currency, amount_minor=amount_minor, time_ns=_time_ns(at)
    )
    with _caller() as caller:
        found = _ask(caller, "QuoteTariff", request)
    if not found.found:
        raise click.ClickException(f"{kind} of {currency} {amount}: the tariff has no price for it then")
    payer, payee = money.text(found.payer_fee_minor), money.text(found.payee_fee_minor)
    click.echo(f"{kind} of {currency} {money.text(amount_minor)} by tariff {found.tariff_version}:")
    click.echo(f"  payer's fee {payer}, of it excise {money.text(found.payer_excise_minor)}")
    click.echo(f"  payee's fee {payee}, of it excise {money.text(found.payee_excise_minor)}")
    click.echo(f"  commission  {money.text(found.commission_minor)}")


@click.group()
def document() -> None:
    """Configuration in the log: tariffs, tiers, rates and whatever else all nodes agree on."""


@document.command()
@click.argument("kind")
@click.argument("file", type=_FILE)
@click.option("--key", default="", help="Where the body does not say it.")
@_AUTHOR
def put(kind: str, file: Path, key: str, author: str) -> None:
    """A new version of a document, from FILE; the older ones stay."""
    _put(kind, key, file, author)


@document.command("show")
@click.argument("kind")
@click.argument("key")
@click.option("--version", type=click.IntRange(1), default=None, help="Another than the one in force.")
def show_document(kind: str, key: str, version: int | None) -> None:
    """The body of a document, as it was put."""
    request = config_pb2.GetDocumentRequest(kind=kind, key=key, version=version or 0)
    with _caller() as caller:
        found = _ask(caller, "GetDocument", request)
    if not found.found:
        raise click.ClickException(f"there is no {kind} {key}" + (f" version {version}" if version else ""))
    click.echo(found.document.body.decode(errors="replace"), nl=False)


@document.command("list")
@click.argument("kind")
@click.argument("key", default="")
def list_documents(kind: str, key: str) -> None:
    """What is in force of a KIND; with KEY, all versions of it."""
    table = Table(title=f"{kind} {key}".strip(), title_justify="left")
    for title in ("key", "version", "bytes", "position", "since (UTC)", "author"):
        table.add_column(title, justify="right" if title in ("version", "bytes", "position") else "left")
    token, first = "", True
    with _caller() as caller:
        while first or token:
            request = config_pb2.ListDocumentsRequest(kind=kind, key=key, page_token=token)
            page = _ask(caller, "ListDocuments", request)
            for one in page.documents:
                since = datetime.fromtimestamp(one.timestamp_ns // 1_000_000_000, UTC)
                cells = (one.version, one.body_bytes, one.position)
                table.add_row(one.key, *map(str, cells), f"{since:%Y-%m-%d %H:%M:%S}", one.author)
            token, first = page.next_page_token, False
    _console.print(table)
