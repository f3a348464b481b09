"""`kibubu bench`. Its parts are imported when it runs: `kibubu status` stays quick."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import Any

import click
from rich.console import Console

from cluster.layout import layout_from_environment
from cluster.temporary import temporary_cluster

ACCOUNTS_MAX = 20_000_000
STORED_MAX = 1_000_000_000
_console = Console(width=200)
_MODES = ("compare", "peer", "restart", "overload", "fraud_cost")


@click.command()
@click.option("--table", is_flag=True, help="Every row that has a target (the default).")
@click.option("--quick", is_flag=True, help="A few of them, in about a minute.")
@click.option("--grid", is_flag=True, help="Each batch size with each number of clients, and payments, instead.")
@click.option("--only", default="", help="Only settings whose name contains this, such as 'payments'.")
@click.option("--seconds", type=click.FloatRange(0.2, 600), default=3.0, show_default=True, help="Of one repeat.")
@click.option("--repeats", type=click.IntRange(1, 50), default=3, show_default=True)
@click.option("--accounts", type=click.IntRange(2, ACCOUNTS_MAX), default=10_000, show_default=True)
@click.option(
    "--stored",
    type=click.IntRange(0, STORED_MAX),
    multiple=True,
    help="Transfers that the ledger holds before; given again, everything is measured at each size.",
)
@click.option("--restart", is_flag=True, help="Also the time from kill -9 of all nodes to the first transfer.")
@click.option("--overload", is_flag=True, help="Each setting again with 10 and 100 times the callers.")
@click.option("--fraud-cost", is_flag=True, help="Payments with the fraud check and without it, and its call alone.")
@click.option("--peer", type=click.Choice(["postgresql"]), help="The same work on another database, side by side.")
@click.option(
    "--peer-acks", type=click.IntRange(1, 2), default=2, show_default=True, help="Standbys that must have it."
)
@click.option("--compare", nargs=2, help="No run: two JSON files, or 'previous' and 'last'.", metavar="BEFORE AFTER")
@click.option("--output", type=click.Path(path_type=Path), default=Path("bench-results"), show_default=True)
def bench(
    *,
    table: bool,
    quick: bool,
    grid: bool,
    only: str,
    compare: tuple[str, str] | None,
    peer: str,
    **options: Any,
) -> None:
    """Transfers, payments, calls and screens a second on a temporary cluster: a table, a JSON file and plots."""
    from cluster.bench.settings import settings

    options |= {"compare": compare, "peer": peer}
    if table + quick + grid > 1:
        raise click.UsageError("--table, --quick and --grid: choose one of them")
    modes = [f"--{name.replace('_', '-')}" for name in _MODES if options[name]]
    if len(modes) > 1:
        raise click.UsageError(f"{' and '.join(modes)}: choose one of them")
    if compare is not None:
        _compare(*compare, options["output"])
        return
    if peer:
        _beside_peer(only, options)
        return
    if options["fraud_cost"]:
        _fraud_cost(options)
        return
    wanted = settings(quick=quick, grid=grid, only=only)
    if not wanted:
        raise click.ClickException(f"--only {only!r}: no setting has this in its name")
    _measure(wanted, options)


def _measure(wanted: list[Any], options: dict[str, Any]) -> None:
    from cluster.bench import report
    from cluster.bench.overload import overloads, with_overload
    from cluster.bench.people import Size
    from cluster.bench.run import Pace, WrongBooksError, measure

    chosen = wanted
    if options["overload"]:
        wanted = with_overload(chosen)
        if not wanted:
            raise click.ClickException("--overload: none of the chosen settings can be overloaded")
    size = Size(options["accounts"], tuple(sorted(set(options["stored"]))) or (0,))
    pace = Pace(options["seconds"], options["repeats"])
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was started is stopped then, too
    try:
        with temporary_cluster(layout_from_environment(), "bench", click.echo) as layout:
            found = measure(layout, wanted, pace, click.echo, size=size, restart=options["restart"])
    except (WrongBooksError, ValueError, RuntimeError) as error:
        raise click.ClickException(str(error)) from error
    _console.print(report.table(found.rows))
    more = overloads(chosen, found.rows) if options["overload"] else []
    for line in [*(one.line() for one in more), *report.size_lines(found.rows)]:
        click.echo(line)
    paths = report.write(
        found.rows,
        options["output"],
        memory=[one.as_json() for one in found.memory],
        restarts=[one.as_json() for one in found.restarts],
        overload=[one.as_json() for one in more],
    )
    for path in paths:
        click.echo(f"written {path}")


def _compare(before_name: str, after_name: str, folder: Path) -> None:
    from cluster.bench import compare

    try:
        before, after = compare.read(before_name, folder), compare.read(after_name, folder)
        found = compare.changes(before, after)
    except compare.ComparisonError as error:
        raise click.ClickException(str(error)) from error
    _console.print(compare.table(before, after, found))
    marked = [one for one in found if one.verdict != "within the noise"]
    click.echo(f"{len(marked)} of {len(found)} figures changed beyond the noise")


def _fraud_cost(options: dict[str, Any]) -> None:
    from cluster.bench import report
    from cluster.bench.fraud_cost import measure_fraud_cost
    from cluster.bench.people import Size
    from cluster.bench.run import Pace, WrongBooksError
    from cluster.lifecycle import ClusterError

    pace = Pace(options["seconds"], options["repeats"])
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was started is stopped then, too
    try:
        with temporary_cluster(layout_from_environment(), "bench", click.echo) as layout:
            calls, turns = measure_fraud_cost(layout, pace, Size(), click.echo)
    except (WrongBooksError, ClusterError, ValueError, RuntimeError) as error:
        raise click.ClickException(str(error)) from error
    more = {"calls": [one.as_json() for one in calls], "fraud_cost": turns.as_json()}
    for path in report.write([], options["output"], **more):
        click.echo(f"written {path}")


def _beside_peer(only: str, options: dict[str, Any]) -> None:
    from cluster.bench import peer_run, report
    from cluster.bench.postgresql import PeerError
    from cluster.bench.run import Pace, WrongBooksError

    wanted = [setting for setting in peer_run.SETTINGS if only in setting.name]
    if not wanted:
        raise click.ClickException(f"--only {only!r}: no setting has this in its name")
    pace = Pace(options["seconds"], options["repeats"])
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # so that what was started is stopped then, too
    try:
        with temporary_cluster(layout_from_environment(), "bench", click.echo) as layout:
            rows = peer_run.measure(layout, wanted, pace, options["accounts"], options["peer_acks"], click.echo)
    except (PeerError, WrongBooksError, ValueError, RuntimeError) as error:
        raise click.ClickException(str(error)) from error
    _console.print(report.table(rows))
    ratios = peer_run.ratios(rows)
    for one in ratios:
        click.echo(one.line())
    for path in report.write(rows, options["output"], peer=[one.as_json() for one in ratios]):
        click.echo(f"written {path}")
