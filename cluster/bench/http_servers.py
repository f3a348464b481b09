"""`python -m cluster.bench.http_servers`: which server answers USSD steps at the least cost, the real edge on each.

A server that is not installed is left out. What counts is the server's CPU per step: on two cores that it shares with
the load, steps a second say as much about the neighbours.
"""

from __future__ import annotations

import asyncio
import importlib.util
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlencode

import click
import psutil

from cluster.bench.http_app import CERTIFICATES_VARIABLE
from cluster.certificates import ensure_certificates
from cluster.config_files import SERVICE_CODE
from cluster.health import answers_http
from cluster.layout import LOOPBACK, PROJECT_ROOT, free_port_base
from cluster.processes import kill_group, wait_ended

APP = "cluster.bench.http_app:app"
START_TIMEOUT_S = 30.0
WARM_UP_S = 0.5
_FORM = urlencode({"sessionId": "s1", "serviceCode": SERVICE_CODE, "phoneNumber": "+254712000001", "text": ""}).encode()
_REQUEST = (
    b"POST /ussd/africastalking HTTP/1.1\r\nHost: edge\r\nContent-Type: application/x-www-form-urlencoded\r\n"
    b"Content-Length: " + str(len(_FORM)).encode() + b"\r\n\r\n" + _FORM
)
_LAST_LINE = b"0 Exit"  # of the main menu, and so of each answer


def commands(port: int) -> dict[str, list[str]]:
    """One worker each, no access log: as the edge would run."""
    at = f"{LOOPBACK}:{port}"
    loop = ["--loop", "uvloop"]
    uvicorn = ["--host", LOOPBACK, "--port", str(port), "--no-access-log", "--log-level", "warning", *loop]
    granian = [
        "--interface",
        "asgi",
        "--host",
        LOOPBACK,
        "--port",
        str(port),
        "--workers",
        "1",
        "--log-level",
        "warning",
    ]
    return {
        "uvicorn": ["-m", "uvicorn", *uvicorn, "--http", "httptools", APP],
        "granian": ["-m", "granian", *granian, "--log-level", "warning", *loop, APP],
        "hypercorn": ["-m", "hypercorn", "--bind", at, "--worker-class", "uvloop", "--log-level", "warning", APP],
    }


@contextmanager
def running(command: list[str], port: int, certificates: Path) -> Iterator[psutil.Process]:
    """Raises RuntimeError when it does not come up."""
    environment = {**os.environ, CERTIFICATES_VARIABLE: str(certificates)}
    child = subprocess.Popen([sys.executable, *command], cwd=PROJECT_ROOT, env=environment, start_new_session=True)
    process = psutil.Process(child.pid)
    try:
        end_s = time.monotonic() + START_TIMEOUT_S
        while not answers_http(f"http://{LOOPBACK}:{port}/livez"):
            if child.poll() is not None or time.monotonic() > end_s:
                raise RuntimeError(f"{' '.join(command)} does not come up")
            time.sleep(0.05)
        yield process
    finally:
        kill_group(process)
        wait_ended(process, START_TIMEOUT_S)
        child.wait()


@dataclass(frozen=True, slots=True)
class Load:
    steps: int
    seconds: float
    latencies_ms: list[float]


async def load(port: int, connections: int, seconds: float) -> Load:
    """Each connection stays open and asks again as soon as it is answered."""
    latencies_ms: list[float] = []
    started_s = time.perf_counter()

    async def phone() -> None:
        reader, writer = await asyncio.open_connection(LOOPBACK, port)
        while (sent_s := time.perf_counter()) < started_s + seconds:
            writer.write(_REQUEST)
            await reader.readuntil(_LAST_LINE)
            latencies_ms.append((time.perf_counter() - sent_s) * 1_000)
        writer.close()

    await asyncio.gather(*(phone() for _ in range(connections)))
    return Load(len(latencies_ms), time.perf_counter() - started_s, latencies_ms)


def tree(process: psutil.Process) -> list[psutil.Process]:
    return [process, *process.children(recursive=True)]


def cpu_s(process: psutil.Process) -> float:
    return sum(times.user + times.system for times in (one.cpu_times() for one in tree(process)))


def measure(process: psutil.Process, port: int, connections: int, seconds: float, repeats: int) -> str:
    asyncio.run(load(port, connections, WARM_UP_S))
    costs_us, rates, latencies_ms = [], [], []
    for _ in range(repeats):
        before_s = cpu_s(process)
        done = asyncio.run(load(port, connections, seconds))
        costs_us.append((cpu_s(process) - before_s) / done.steps * 1e6)
        rates.append(done.steps / done.seconds)
        latencies_ms += done.latencies_ms
    quantiles = statistics.quantiles(latencies_ms, n=100)
    return (
        f"{statistics.median(costs_us):7.1f} us CPU a step ({min(costs_us):.1f}..{max(costs_us):.1f}), "
        f"{statistics.median(rates):7,.0f} steps/s, p50 {quantiles[49]:.2f} ms, p99 {quantiles[98]:.2f} ms, "
        f"{sum(one.memory_info().rss for one in tree(process)) >> 20} MiB"
    )


@click.command()
@click.option("--seconds", type=click.FloatRange(0.2, 600), default=3.0, show_default=True, help="Of one repeat.")
@click.option("--repeats", type=click.IntRange(1, 50), default=5, show_default=True)
@click.option("--connections", type=click.IntRange(1, 1_000), default=64, show_default=True)
def main(*, seconds: float, repeats: int, connections: int) -> None:
    """The cost of a USSD step on each installed HTTP server."""
    compare(seconds, repeats, connections, click.echo)


def compare(seconds: float, repeats: int, connections: int, say: Callable[[str], object]) -> None:
    port = free_port_base()
    with tempfile.TemporaryDirectory(prefix="kibubu-http-") as folder:
        ensure_certificates(Path(folder), [("edge", "edge")])
        for name, command in commands(port).items():
            if importlib.util.find_spec(name) is None:
                say(f"{name:10} is not installed")
                continue
            with running(command, port, Path(folder)) as process:
                say(f"{name:10} {measure(process, port, connections, seconds, repeats)}")


if __name__ == "__main__":
    main()
