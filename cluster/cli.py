"""The `kibubu` command: a local cluster, its money, and the ways to measure and break it."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import click
from kibubu.ledger.v1 import ledger_pb2, ledger_pb2_grpc
from rich.console import Console

from cluster import inspection, lifecycle, processes
from cluster import rolling as rolling_restart
from cluster.accounts import LEDGER_KES, AccountNameError, find_account
from cluster.calls import Caller, CallError, operator_caller
from cluster.certificates import CertificateError
from cluster.cli_account import account
from cluster.cli_bench import bench
from cluster.cli_books import balance, feed, receipt, statement, trial_balance
from cluster.cli_bulk import bulk
from cluster.cli_chaos import chaos
from cluster.cli_config import document, tariff
from cluster.cli_fraud import fraud
from cluster.cli_load import simulate
from cluster.cli_pay import pay, reversal
from cluster.config_files import SERVICE_CODE
from cluster.demo import SeedError
from cluster.ids import new_id
from cluster.layout import NODE_IDS, PROMETHEUS, Layout, LayoutError, layout_from_environment
from cluster.money import AmountError, format_minor, parse_amount_minor
from cluster.vocabulary import CODE_OPERATOR, STATUS_OK

_NODE = click.argument("node", type=click.Choice(NODE_IDS))
_console = Console(width=None if sys.stdout.isatty() else 120)  # a pipe has no width of its own
_EXPECTED = (
    AccountNameError,
    AmountError,
    CallError,
    CertificateError,
    LayoutError,
    SeedError,
    lifecycle.ClusterError,
    processes.ProcessError,
)


@contextlib.contextmanager
def _clear_errors() -> Iterator[None]:
    """An expected error is one line, not a traceback."""
    try:
        yield
    except _EXPECTED as error:
        raise click.ClickException(str(error)) from error


def _layout() -> Layout:
    with _clear_errors():
        return layout_from_environment()


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
def main() -> None:
    """Kibubu: mobile money on three nodes."""


@main.command()
@click.option("--prometheus/--no-prometheus", default=True, help="Start Prometheus too.")
def up(*, prometheus: bool) -> None:
    """Start everything, wait until it is healthy, seed the demo customers. Twice changes nothing."""
    layout = _layout()
    with _clear_errors():
        lifecycle.up(layout, click.echo, with_prometheus=prometheus)
    _print_addresses(layout)


def _print_addresses(layout: Layout) -> None:
    click.echo("\nKibubu is up.")
    click.echo(f"  nodes       {'  '.join(layout.api_addresses)}   (gRPC, mutual TLS)")
    click.echo(f"  USSD edge   http://{layout.edge_address}/ussd/africastalking")
    click.echo(f"  SMS         {layout.sms_file}   (and beside the phone in the browser)")
    has_prometheus = processes.find_process(layout.pid_file(PROMETHEUS)) is not None
    click.echo(f"  a phone     http://{layout.edge_address}/phone   (in the browser; dial {SERVICE_CODE})")
    click.echo(f"  Prometheus  {f'http://{layout.prometheus_address}' if has_prometheus else 'left out'}")
    click.echo(f"  analysts    http://{layout.review_address}/   (`kibubu fraud analyst NAME` makes a login)")
    click.echo(f"  state       {layout.home}")
    click.echo("  customers   Wanjiku 254712000001, Otieno 254712000002, Achieng 254712000003; PIN 2468")
    click.echo("  agents      20001, 20002; till 123456, pay bill 888880; PIN 2468")
    click.echo("\nTry:")
    click.echo(
        f"  curl -s http://{layout.edge_address}/ussd/africastalking -d sessionId=s1 -d serviceCode='{SERVICE_CODE}' "
        "-d phoneNumber=+254712000001 -d networkCode=63902 --data-urlencode 'text=1*0712000002*500*2468'"
    )
    click.echo("  .venv/bin/kibubu transfer 254712000001 254712000002 500")
    if has_prometheus:
        url = f"http://{layout.prometheus_address}/api/v1/query"
        click.echo(f"  curl -s {url} --data-urlencode 'query=kibubu:transfers:rate1m'")


@main.command()
def down() -> None:
    """Stop what `up` started, and nothing else."""
    with _clear_errors():
        if not lifecycle.down(_layout(), click.echo):
            click.echo("nothing was running")


@main.command()
def status() -> None:
    """Role, term, positions, lag, hash and transfers a second of each node; which other processes run."""
    layout = _layout()
    with _clear_errors(), _caller(layout) as caller:
        _console.print(inspection.status_table(layout, caller))
        _console.print(inspection.services_line(layout))


@contextlib.contextmanager
def _caller(layout: Layout) -> Iterator[Caller]:
    if not (layout.certificates / "ca.crt").exists():
        raise click.ClickException(f"there is no cluster in {layout.home}; `kibubu up` makes one")
    with operator_caller(layout) as caller:
        yield caller


@main.command()
@_NODE
def kill(node: str) -> None:
    """Kill a node with -9, as a power cut would."""
    _act(processes.kill, node, "killed")


@main.command()
@_NODE
def pause(node: str) -> None:
    """Stop a node's process where it is (SIGSTOP)."""
    _act(processes.pause, node, "paused")


@main.command()
@_NODE
def resume(node: str) -> None:
    """Let a paused node go on."""
    _act(processes.resume, node, "resumed")


def _act(action: Callable[[Path], bool], node: str, done: str) -> None:
    if not action(_layout().pid_file(node)):
        raise click.ClickException(f"{node} is not running")
    click.echo(f"{done} {node}")


@main.command()
@_NODE
def start(node: str) -> None:
    """Start a node that was killed."""
    layout = _layout()
    with _clear_errors():
        if not layout.config_file(node).exists():
            raise click.ClickException(f"there is no cluster in {layout.home}; `kibubu up` makes one")
        click.echo(f"started {node}" if lifecycle.start_service(layout, node) else f"{node} runs already")


@main.command()
@click.option("--rolling", is_flag=True, help="All nodes, one after the other, the leader last; payments go on.")
@click.argument("nodes", nargs=-1, type=click.Choice(NODE_IDS))
def restart(nodes: tuple[str, ...], *, rolling: bool) -> None:
    """Restart nodes without a failed request: a leader hands its lead over first."""
    if rolling == bool(nodes):
        raise click.ClickException("name the nodes, or say --rolling for all of them")
    layout = _layout()
    with _clear_errors(), _caller(layout) as caller:
        rolling_restart.restart(layout, caller, nodes or NODE_IDS, click.echo)


@main.command()
@click.argument("debit")
@click.argument("credit")
@click.argument("amount")
@click.option("--id", "transfer_id", default="", help="32 hex digits: send again what is unknown under the same id.")
def transfer(debit: str, credit: str, amount: str, transfer_id: str) -> None:
    """Move AMOUNT shillings from DEBIT to CREDIT (phone numbers, till:..., system:..., #number)."""
    with _clear_errors():
        amount_minor = parse_amount_minor(amount)
    raw_id = _parse_id(transfer_id) if transfer_id else new_id()
    with _clear_errors(), _caller(_layout()) as caller:
        debit_account, credit_account = find_account(caller, debit), find_account(caller, credit)
        request = ledger_pb2.Transfer(
            id=raw_id,
            debit_account=debit_account.account_number,
            credit_account=credit_account.account_number,
            amount_minor=amount_minor,
            ledger=LEDGER_KES,
            code=CODE_OPERATOR,
        )
        try:
            answer = caller.leader(
                lambda c: ledger_pb2_grpc.LedgerServiceStub(c).CreateTransfers,
                ledger_pb2.CreateTransfersRequest(transfers=[request]),
            )
        except CallError as error:
            raise click.ClickException(f"{error}\n  to ask again: the same command with --id {raw_id.hex()}") from error
    result = answer.results[0]
    if result.status != STATUS_OK:
        raise click.ClickException(f"refused: {result.status_name}")
    click.echo(
        f"KES {format_minor(amount_minor)} moved at position {result.position}; {debit} has "
        f"{format_minor(result.debit_balance_minor)}, {credit} has {format_minor(result.credit_balance_minor)}"
    )


def _parse_id(text: str) -> bytes:
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        raw = b""
    if len(raw) != 16:
        raise click.ClickException("--id: 32 hex digits")
    return raw


@main.command()
def verify() -> None:
    """Recompute every balance and the hash chain on every node, and compare the nodes."""
    layout = _layout()
    with _clear_errors(), _caller(layout) as caller:
        verdict = inspection.verify(layout, caller)
    for line in verdict.lines:
        click.echo(line)
    for problem in verdict.problems:
        click.echo(f"PROBLEM {problem}", err=True)
    if not verdict.ok:
        sys.exit(1)
    click.echo("the books are right")


main.add_command(account)
main.add_command(balance)
main.add_command(document)
main.add_command(tariff)
main.add_command(bench)
main.add_command(bulk)
main.add_command(chaos)
main.add_command(feed)
main.add_command(fraud)
main.add_command(pay)
main.add_command(receipt)
main.add_command(reversal)
main.add_command(simulate)
main.add_command(statement)
main.add_command(trial_balance)

if __name__ == "__main__":
    main()
