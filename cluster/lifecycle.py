"""Brings a whole cluster up and down. Up twice changes nothing; down stops only what up started."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

from cluster import demo, processes
from cluster.calls import operator_caller
from cluster.config_files import prepare
from cluster.health import checks, listens, wait_healthy
from cluster.layout import EDGE, FRAUD, NODE_IDS, PROJECT_ROOT, PROMETHEUS, REVIEW, SMS, Layout
from cluster.packages import ensure_packages

HEALTHY_TIMEOUT_S = 180.0  # the first start compiles the kernels; later ones load them from the cache
SEED_DEADLINE_S = 30.0
Say = Callable[[str], None]


class ClusterError(Exception):
    """The cluster cannot be brought up; the message says which process and why."""


def up(layout: Layout, say: Say, *, with_prometheus: bool = True, with_sms: bool = True, seed: bool = True) -> None:
    """`with_sms`: also what no payment waits for, the texts and the analysts' page."""
    prepare(layout)
    prometheus = with_prometheus and _prometheus_program(say) is not None
    left_out = ({PROMETHEUS} if not prometheus else set()) | ({SMS, REVIEW} if not with_sms else set())
    names = [name for name in layout.services if name not in left_out]
    for name in names:
        if start_service(layout, name):
            say(f"started {name}")
    with operator_caller(layout, deadline_s=SEED_DEADLINE_S) as caller:
        problems = wait_healthy(
            checks(layout, caller, prometheus=prometheus, sms=with_sms),
            HEALTHY_TIMEOUT_S,
            lambda name: name in names and processes.find_process(layout.pid_file(name)) is None,
        )
        if problems:
            raise ClusterError(_explain(layout, problems))
        if seed:
            demo.seed(caller)


def _explain(layout: Layout, problems: dict[str, str]) -> str:
    parts = []
    for name, reason in problems.items():
        parts.append(f"{name}: {reason}")
        if name in layout.services:
            parts.append(f"  the end of {layout.log_file(name)}:\n{processes.log_tail(layout.log_file(name))}")
    return "\n".join(parts)


def _prometheus_program(say: Say) -> str | None:
    for line in ensure_packages():
        say(line)
    return shutil.which("prometheus")


def start_service(layout: Layout, name: str) -> bool:
    """False when it runs already. Raises ClusterError when somebody else has its address."""
    pid_file = layout.pid_file(name)
    if processes.find_process(pid_file) is not None:
        return False
    for address in addresses(layout, name):
        if listens(address):
            raise ClusterError(
                f"{name}: another process listens on {address}; stop it, or choose other ports with KIBUBU_PORT_BASE"
            )
    layout.data_dir(name).mkdir(parents=True, exist_ok=True, mode=0o700)
    try:
        return processes.start(
            name,
            _prometheus_command(layout) if name == PROMETHEUS else layout.command(name),
            pid_file=pid_file,
            log_file=layout.log_file(name),
            cwd=PROJECT_ROOT,
            environment={**_environment(), **layout.launch(name).environment},
        )
    except processes.ProcessError as error:
        raise ClusterError(str(error)) from error


def addresses(layout: Layout, name: str) -> tuple[str, ...]:
    if name in NODE_IDS:
        return (layout.api_address(name), layout.peer_address(name), layout.metrics_address(name))
    if name == FRAUD:
        return (layout.fraud_address, layout.metrics_address(FRAUD))
    if name == EDGE:
        return (layout.edge_address, layout.metrics_address(EDGE))
    if name == SMS:
        return (layout.metrics_address(SMS),)
    if name == REVIEW:
        return (layout.review_address, layout.metrics_address(REVIEW))
    return (layout.prometheus_address,)


def _environment() -> dict[str, str]:
    paths = [str(PROJECT_ROOT), str(PROJECT_ROOT / "proto" / "gen")]
    if os.environ.get("PYTHONPATH"):
        paths.append(os.environ["PYTHONPATH"])
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "PYTHONUNBUFFERED": "1"}


def _prometheus_command(layout: Layout) -> list[str]:
    program = shutil.which("prometheus")
    if program is None:
        raise ClusterError("prometheus is not installed")
    return [
        program,
        f"--config.file={layout.config_file(PROMETHEUS)}",
        f"--storage.tsdb.path={layout.data_dir(PROMETHEUS)}",
        "--storage.tsdb.retention.time=7d",
        f"--web.listen-address={layout.prometheus_address}",
    ]


def down(layout: Layout, say: Say) -> int:
    """Stops what runs, in the opposite order; returns how many."""
    stopped = 0
    for name in reversed(layout.services):
        if processes.stop(layout.pid_file(name)):
            say(f"stopped {name}")
            stopped += 1
    return stopped


def running(layout: Layout) -> list[str]:
    return [name for name in layout.services if processes.find_process(layout.pid_file(name)) is not None]
