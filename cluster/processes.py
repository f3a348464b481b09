"""Starts and stops processes, and never touches one that it did not start.

A process id alone proves nothing, since the system gives it to another process later; so the file also holds when the
process started, and both must fit before any signal is sent.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import psutil

STOP_GRACE_S = 10.0
_KILL_WAIT_S = 10.0
_START_TIME_TOLERANCE_S = 0.02  # psutil reads it in clock ticks of 10 ms
_POLL_S = 0.02


class ProcessError(Exception):
    """A process cannot be started or stopped as asked; the message says which and why."""


@dataclass(frozen=True, slots=True)
class Started:
    """What the pid file says of one process."""

    name: str
    pid: int
    create_time_s: float
    command: tuple[str, ...]


def read_pid_file(path: Path) -> Started | None:
    try:
        raw = json.loads(path.read_text(encoding="utf-8"))
        return Started(str(raw["name"]), int(raw["pid"]), float(raw["create_time_s"]), tuple(raw["command"]))
    except (OSError, ValueError, KeyError, TypeError):
        return None


def find_process(path: Path) -> psutil.Process | None:
    """The running process that this pid file was written for; None when it has ended, whoever has its id now."""
    started = read_pid_file(path)
    if started is None:
        return None
    try:
        process = psutil.Process(started.pid)
        if abs(process.create_time() - started.create_time_s) > _START_TIME_TOLERANCE_S:
            return None
        return None if _is_dead(process) else process
    except psutil.NoSuchProcess:
        return None


def _is_dead(process: psutil.Process) -> bool:
    """A zombie that still has threads holds its sockets: its main thread has ended before the others."""
    return process.status() == psutil.STATUS_ZOMBIE and process.num_threads() <= 1


def start(
    name: str,
    command: Sequence[str],
    *,
    pid_file: Path,
    log_file: Path,
    cwd: Path,
    environment: Mapping[str, str] | None = None,
) -> bool:
    """Starts it in a process group of its own, its output appended to the log. False when it runs already."""
    if find_process(pid_file) is not None:
        return False
    for folder in (pid_file.parent, log_file.parent):
        folder.mkdir(parents=True, exist_ok=True)
    with log_file.open("ab") as log:
        try:
            child = subprocess.Popen(
                list(command),
                cwd=cwd,
                env=dict(environment) if environment is not None else None,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise ProcessError(f"{name}: {command[0]} cannot be started: {error}") from error
    create_time_s = psutil.Process(child.pid).create_time()
    _write_pid_file(pid_file, Started(name, child.pid, create_time_s, tuple(command)))
    # The process outlives this object on purpose; without this the interpreter would warn about it.
    child.returncode = 0
    return True


def _write_pid_file(path: Path, started: Started) -> None:
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(asdict(started)), encoding="utf-8")
    temporary.replace(path)


def stop(pid_file: Path, *, grace_s: float = STOP_GRACE_S) -> bool:
    """Asks the process to end, then forces it. False when it did not run. The pid file is gone afterwards."""
    process = find_process(pid_file)
    if process is None:
        pid_file.unlink(missing_ok=True)
        return False
    _signal(process, signal.SIGCONT)  # a paused one would not hear the next
    _signal(process, signal.SIGTERM)
    if not wait_ended(process, grace_s):
        kill_group(process)
        if not wait_ended(process, _KILL_WAIT_S):
            raise ProcessError(f"process {process.pid} does not end, not even by SIGKILL")
    pid_file.unlink(missing_ok=True)
    return True


def kill(pid_file: Path) -> bool:
    """kill -9: no goodbye, as a power cut. False when it did not run."""
    process = find_process(pid_file)
    if process is None:
        return False
    kill_group(process)
    wait_ended(process, _KILL_WAIT_S)
    pid_file.unlink(missing_ok=True)
    return True


def pause(pid_file: Path) -> bool:
    process = find_process(pid_file)
    return process is not None and _signal(process, signal.SIGSTOP)


def resume(pid_file: Path) -> bool:
    process = find_process(pid_file)
    return process is not None and _signal(process, signal.SIGCONT)


def _signal(process: psutil.Process, number: signal.Signals) -> bool:
    try:
        process.send_signal(number)  # psutil checks the start time once more
    except psutil.NoSuchProcess:
        return False
    return True


def kill_group(process: psutil.Process) -> None:
    """SIGKILL to the process and to the children it has in its own group."""
    try:
        if process.is_running() and os.getpgid(process.pid) == process.pid:
            os.killpg(process.pid, signal.SIGKILL)
            return
    except ProcessLookupError:
        return
    _signal(process, signal.SIGKILL)


def wait_ended(process: psutil.Process, timeout_s: float) -> bool:
    """True when it has ended; also reaps it when it is our own child, so that no zombie stays."""
    deadline_s = time.monotonic() + timeout_s
    while True:
        with contextlib.suppress(ChildProcessError):  # somebody else's child: its parent reaps it
            os.waitpid(process.pid, os.WNOHANG)
        try:
            if not process.is_running() or _is_dead(process):
                return True
        except psutil.NoSuchProcess:
            return True
        if time.monotonic() >= deadline_s:
            return False
        time.sleep(_POLL_S)


def cpu_seconds(pid_files: Sequence[Path]) -> float:
    """User and system time of all these processes and their children, for the cost of a transfer."""
    total_s = 0.0
    for path in pid_files:
        process = find_process(path)
        if process is None:
            continue
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        total_s += times.user + times.system + times.children_user + times.children_system
    return total_s


def log_tail(log_file: Path, lines: int = 15) -> str:
    try:
        return "\n".join(log_file.read_text(encoding="utf-8", errors="replace").splitlines()[-lines:])
    except OSError:
        return "(no log)"
