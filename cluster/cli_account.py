"""`kibubu account`: registers people, and what an operator does with an account: tier, freezing, PIN, SIM swap."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any

import click
from kibubu.ledger.v1 import ledger_pb2, ledger_pb2_grpc

from cluster.accounts import AccountNameError, find_account
from cluster.calls import Caller, CallError, operator_caller
from cluster.ids import fixed_id, new_id
from cluster.layout import LayoutError, layout_from_environment
from cluster.vocabulary import COMMAND_EXISTS, COMMAND_OK, DEBITS_MUST_NOT_EXCEED_CREDITS, AccountKind
from node.ledger.columns import AccountFlag
from node.ledger.currencies import BY_NUMBER, CURRENCIES

_AT = click.DateTime(["%Y-%m-%dT%H:%M:%S", "%Y-%m-%dT%H:%M", "%Y-%m-%d"])
_ACCOUNT = click.argument("account")
_DONE = (COMMAND_OK, COMMAND_EXISTS)


@contextmanager
def _caller() -> Iterator[Caller]:
    try:
        layout = layout_from_environment()
        if not (layout.certificates / "ca.crt").exists():
            raise CallError(f"there is no cluster in {layout.home}; `kibubu up` makes one")
        with operator_caller(layout) as caller:
            yield caller
    except (AccountNameError, CallError, LayoutError) as error:
        raise click.ClickException(str(error)) from error


@click.group()
def account() -> None:
    """People's accounts: register, tier, freeze, PIN, SIM swap."""


@account.command()
@click.argument("msisdn")
@click.argument("name")
@click.option("--tier", type=click.IntRange(0, 63), default=0, show_default=True, help="0 = without limits.")
@click.option("--currency", type=click.Choice(list(CURRENCIES)), default="KES", show_default=True)
def register(msisdn: str, name: str, tier: int, currency: str) -> None:
    """An account for the phone number MSISDN (254712000001). Its PIN comes with `kibubu account reset-pin`."""
    ledger = CURRENCIES[currency].number
    new = ledger_pb2.NewAccount(
        request_id=fixed_id(f"account {currency} msisdn:{msisdn}"),
        ledger=ledger,
        kind=int(AccountKind.CUSTOMER),
        flags=DEBITS_MUST_NOT_EXCEED_CREDITS,
        name=name,
        tier=tier,
        handles=[ledger_pb2.Handle(key="msisdn", value=msisdn, ledger=ledger)],
    )
    with _caller() as caller:
        answer = caller.leader(
            lambda channel: ledger_pb2_grpc.LedgerServiceStub(channel).CreateAccounts,
            ledger_pb2.CreateAccountsRequest(accounts=[new]),
        )
    (result,) = answer.results
    if result.status not in _DONE:
        raise click.ClickException(f"refused: {result.status_name}")
    click.echo(f"{name} (#{result.account_number}) at position {result.position}")


@account.command()
@_ACCOUNT
def show(account: str) -> None:
    """State, tier, what was used of its limits, the last SIM swap."""
    with _caller() as caller:
        found = find_account(caller, account)
    currency = BY_NUMBER.get(found.ledger)
    letters = currency.letters if currency is not None else str(found.ledger)
    flags = [flag.name.lower().replace("_", " ") for flag in AccountFlag if flag & found.flags and flag.name]
    click.echo(f"{found.name} (#{found.account_number}), {letters}: {', '.join(flags) or 'no flags'}")
    click.echo(f"  PIN         {'set' if found.pin_is_set else 'not set'}")
    if found.sim_swap_time_ns:
        click.echo(
            f"  SIM swap    {datetime.fromtimestamp(found.sim_swap_time_ns // 10**9, UTC):%Y-%m-%d %H:%M:%S} UTC"
        )
    if not found.HasField("usage"):
        click.echo("  tier        0, without limits")
        return
    used = found.usage
    amounts = [currency.text(minor) if currency is not None else f"{minor:,}" for minor in _used(used)]
    click.echo(f"  tier        {used.tier}, {used.tier_name}{', dormant' if used.is_dormant else ''}")
    click.echo(f"  used        day {amounts[0]}, week {amounts[1]}, month {amounts[2]}")
    click.echo(f"  left today  {'no limit' if used.left_today_minor < 0 else amounts[3]}")


def _used(used: ledger_pb2.Usage) -> tuple[int, int, int, int]:
    return used.day_minor, used.week_minor, used.month_minor, used.left_today_minor


@account.command()
@_ACCOUNT
@click.argument("tier", type=click.IntRange(0, 63))
def tier(account: str, tier: int) -> None:
    """Another TIER; 0 = without limits."""
    _update(account, set_tier=tier)


@account.command()
@_ACCOUNT
def freeze(account: str) -> None:
    """Nothing goes in or out."""
    _update_flags(account, add=AccountFlag.FROZEN)


@account.command()
@_ACCOUNT
def thaw(account: str) -> None:
    """The end of freezing."""
    _update_flags(account, remove=AccountFlag.FROZEN)


@account.command()
@_ACCOUNT
def close(account: str) -> None:
    """For ever; only without money in it."""
    _update_flags(account, add=AccountFlag.CLOSED)


@account.command()
@_ACCOUNT
def block(account: str) -> None:
    """As its owner could from any phone: nothing goes out until the PIN is reset."""
    _update(account, block=True)


@account.command("reset-pin")
@_ACCOUNT
@click.password_option("--pin", prompt="Temporary PIN", help="Asked for when left out.")
def reset_pin(account: str, pin: str) -> None:
    """A temporary PIN, good for nothing but choosing another; unlocks and wakes the account."""
    _update(account, reset_pin=pin)


@account.command("sim-swap")
@_ACCOUNT
@click.option("--at", "at", type=_AT, help="When (UTC); now when left out.")
@click.option("--never", is_flag=True, help="It was none.")
def sim_swap(account: str, at: datetime | None, *, never: bool) -> None:
    """Note that the number's SIM was changed: large payments are refused for a while."""
    moment = at.replace(tzinfo=UTC) if at else datetime.now(UTC)
    _update(account, set_sim_swap_time_ns=0 if never else int(moment.timestamp()) * 10**9)


def _update_flags(account: str, *, add: AccountFlag | int = 0, remove: AccountFlag | int = 0) -> None:
    with _caller() as caller:
        found = find_account(caller, account)
        settable = found.flags & ~int(AccountFlag.PIN_TEMPORARY)
        _send(caller, found, account, set_flags=(settable | int(add)) & ~int(remove))


def _update(account: str, **change: Any) -> None:
    with _caller() as caller:
        _send(caller, find_account(caller, account), account, **change)


def _send(caller: Caller, found: ledger_pb2.Account, name: str, **change: Any) -> None:
    update = ledger_pb2.AccountUpdate(request_id=new_id(), account_number=found.account_number, **change)
    answer = caller.leader(
        lambda channel: ledger_pb2_grpc.LedgerServiceStub(channel).UpdateAccounts,
        ledger_pb2.UpdateAccountsRequest(updates=[update]),
    )
    (result,) = answer.results
    if result.status not in _DONE:
        raise click.ClickException(f"refused: {result.status_name}")
    click.echo(f"{found.name or name} (#{found.account_number}) changed at position {result.position}")
