"""`kibubu pay`: any kind of payment as a person makes it, with the PIN. `kibubu reversal`: what operators do."""

from __future__ import annotations

import click
from rich.console import Console

from cluster import payments
from cluster.accounts import AccountNameError
from cluster.calls import CallError
from cluster.cli_person import AS, caller_as
from cluster.ids import new_id
from cluster.money import AmountError, parse_amount_minor

_EXPECTED = (AccountNameError, AmountError)


@click.command()
@click.argument("kind", type=click.Choice(list(payments.KINDS)))
@click.argument("payer")
@click.argument("payee", default="")
@click.argument("amount", default="")
@click.option("--pin", prompt=True, hide_input=True, help="Asked for where it is not given.")
@click.option("--reference", default="", help="Bill account.")
@click.option("--original", default="", help="Receipt or id: what is reversed, refunded, redeemed; the request to pay.")
@click.option("--secret", default="", help="Of the voucher.")
@click.option("--to", "to", default="", help="Remittance: the receiver's currency.")
@click.option("--id", "payment_id", default="", help="32 hex digits: ask again for what is unknown under the same id.")
@click.option("--yes", is_flag=True, help="Do not ask after the quote.")
def pay(
    kind: str, payer: str, payee: str, amount: str, pin: str, reference: str, original: str, secret: str, to: str,
    payment_id: str, *, yes: bool,
) -> None:  # fmt: skip
    """PAYER (a number, agent:..., till:..., paybill:...) pays AMOUNT to PAYEE: a quote, then the payment.

    What is reversed, refunded, redeemed or asked for has its payee and amount from there; leave them out."""
    with caller_as("operator", *_EXPECTED) as caller:
        raw_id = payments.id_of(payment_id, "--id") if payment_id else new_id()
        amount_minor = parse_amount_minor(amount) if amount else 0
        payment = payments.payment_of(kind, raw_id, payer, payee, amount_minor, reference, original, to)
        quote = payments.quote(caller, payment)
        click.echo(payments.said(quote, payment))
        if not yes:
            click.confirm("pay", abort=True)
        payment.quote = quote.quote
        try:
            click.echo(payments.pay(caller, payment, pin, secret))
        except CallError as error:
            raise CallError(f"{error}\n  to ask again: the same command with --id {raw_id.hex()}") from error


@click.group()
def reversal() -> None:
    """Payments that are to be taken back: the money is reserved until somebody decides."""


@reversal.command("list")
@AS
def list_(person: str) -> None:
    """What waits, oldest first."""
    with caller_as(person) as caller:
        Console().print(payments.reversals(caller))


@reversal.command()
@click.argument("original")
@click.argument("amount", default="")
@click.option("--return-fee", is_flag=True, help="The payer's fee as well, where all of it goes back.")
@AS
def propose(original: str, amount: str, person: str, *, return_fee: bool) -> None:
    """Of the payment with the id ORIGINAL, AMOUNT or all that is left; another person decides."""
    with caller_as(person, *_EXPECTED) as caller:
        amount_minor = parse_amount_minor(amount) if amount else 0
        original_id = payments.id_of(original, "ORIGINAL")
        click.echo(payments.propose(caller, new_id(), original_id, amount_minor, return_fee=return_fee))


@reversal.command()
@click.argument("payment")
@AS
def approve(payment: str, person: str) -> None:
    """The payer gets the money back. Not by who proposed it."""
    _decide(payment, person, release=True)


@reversal.command()
@click.argument("payment")
@AS
def refuse(payment: str, person: str) -> None:
    """The money stays with the receiver."""
    _decide(payment, person, release=False)


def _decide(payment: str, person: str, *, release: bool) -> None:
    with caller_as(person) as caller:
        click.echo(payments.decide(caller, payments.id_of(payment, "PAYMENT"), release=release))
