"""`kibubu chaos`: strikes a cluster of its own under load, then judges everything that was said and stored."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path

import click

from cluster.layout import layout_from_environment

_TERMINATED = 128 + signal.SIGTERM
_SAVED = click.Path(exists=True, dir_okay=False, path_type=Path)


@click.command()
@click.option("--scenario", "names", multiple=True, help="What to do, by name (--list); may be given again.")
@click.option("--list", "list_only", is_flag=True, help="List the scenarios and what this machine forbids.")
@click.option("--kills", type=click.IntRange(0, 1_000), help="So many strikes, evenly; alone: kill -9 of the leader.")
@click.option("--seconds", type=click.FloatRange(1, 86_400), default=30.0, show_default=True)
@click.option("--stored", type=click.IntRange(0), default=0, help="Transfers in the ledger before it begins.")
@click.option("--seed", type=int, default=1, show_default=True, help="Of the traffic, the order and the targets.")
@click.option("--keep", is_flag=True, help="Leave the cluster's files for inspection.")
@click.option("--output", type=click.Path(path_type=Path), default=Path("chaos-results"), show_default=True)
@click.option(
    "--check",
    "saved",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Judge a saved history again.",
)
def chaos(
    *, names: tuple[str, ...], list_only: bool, kills: int | None, seconds: float, stored: int, seed: int, keep: bool,
    output: Path, saved: Path | None,
) -> None:  # fmt: skip
    """Hurt a temporary cluster under load in every way that this machine permits, then prove that nothing was lost."""
    if list_only:
        _list()
        return
    if saved is not None:
        _check(saved)
        return
    from cluster.chaos import report as reports
    from cluster.chaos.arena import open_arena
    from cluster.chaos.run import ordeal
    from cluster.chaos.scenarios import Plan, chosen

    click.echo(f"seed {seed}")
    # Asked to end, it still has to take its networks, mounts and processes away.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(_TERMINATED))
    try:
        choice = chosen(names or (("leader-killed",) if kills is not None else ()))
    except KeyError as error:
        raise click.ClickException(f"--scenario {error}: not one of those that --list shows") from error
    for fault, reason in choice.skipped.items():
        click.secho(f"SKIPPED {fault}: {reason}", fg="yellow")
    if not choice.faults:
        raise click.ClickException("nothing is left to do on this machine")
    plan = Plan(choice.faults, seconds, kills or 0)
    with open_arena(layout_from_environment(), choice.needs, click.echo, keep=keep) as arena:
        report, evidence = ordeal(arena, choice.name, plan, seed, click.echo, stored)
    report.skipped = choice.skipped
    for line in report.lines():
        click.echo(line)
    folder = output / f"{choice.name}-seed{seed}-{time.strftime('%Y%m%d-%H%M%S')}"
    for path in reports.write(report, evidence, folder):
        click.echo(f"written {path}")
    _conclude(report.problems)


def _list() -> None:
    from cluster.chaos.needs import forbidden
    from cluster.chaos.scenarios import scenarios

    for scenario in scenarios().values():
        reasons = [reason for fault in scenario.faults for reason in forbidden(fault.needs)]
        click.echo(f"{scenario.name:24} {scenario.says}")
        if reasons and len(scenario.faults) == 1:
            click.echo(f"{'':24} SKIPPED here: {'; '.join(reasons)}")


def _check(saved: Path) -> None:
    from cluster.chaos.report import Report, load
    from cluster.chaos.run import judge

    report = Report("saved history", 0, "")
    judge(load(saved), report)
    click.echo(f"checked at {report.checked_per_second:,.0f} operations a second")
    _conclude(report.problems)


def _conclude(problems: list[str]) -> None:
    from cluster.chaos.report import PROBLEMS_SHOWN_MAX

    for problem in problems[:PROBLEMS_SHOWN_MAX]:
        click.echo(f"PROBLEM {problem}", err=True)
    if problems:
        click.echo(f"{len(problems)} problems", err=True)
        sys.exit(1)
    click.echo("nothing lost, nothing twice, money conserved, hashes agree")
