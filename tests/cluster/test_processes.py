"""Real processes: only what was started is stopped, and a number that went to another process is left alone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from cluster import processes

SLEEP = [sys.executable, "-c", "import time; print('up', flush=True); time.sleep(600)"]
DEAF = [
    sys.executable, "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(600)",
]  # fmt: skip


@pytest.fixture
def pid_file(tmp_path: Path) -> Iterator[Path]:
    path = tmp_path / "run" / "p.json"
    yield path
    processes.kill(path)


def start(pid_file: Path, command: list[str], log: Path | None = None) -> bool:
    log_file = log or pid_file.parents[1] / "logs" / "p.log"
    started = processes.start("p", command, pid_file=pid_file, log_file=log_file, cwd=pid_file.parents[1])
    wait_for(lambda: "up" in processes.log_tail(log_file))
    return started


def wait_for(what: Callable[[], object]) -> None:
    end_s = time.monotonic() + 20
    while not what():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def test_start_and_stop(pid_file: Path) -> None:
    assert start(pid_file, SLEEP)
    process = processes.find_process(pid_file)
    assert process is not None
    assert not start(pid_file, SLEEP)  # it runs already
    assert processes.find_process(pid_file) == process
    assert processes.stop(pid_file)
    assert not psutil.pid_exists(process.pid)
    assert not pid_file.exists()
    assert not processes.stop(pid_file)


def test_a_process_that_does_not_listen_is_forced(pid_file: Path) -> None:
    start(pid_file, DEAF)
    process = processes.find_process(pid_file)
    assert process is not None
    assert processes.stop(pid_file, grace_s=0.1)
    assert not psutil.pid_exists(process.pid)


def test_kill_takes_the_children_along(pid_file: Path) -> None:
    child = "import subprocess, sys, time; c = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(600)'])"
    start(pid_file, [sys.executable, "-c", f"{child}; print('up', flush=True); time.sleep(600)"])
    process = processes.find_process(pid_file)
    assert process is not None
    (grandchild,) = process.children()
    assert processes.kill(pid_file)
    wait_for(lambda: not grandchild.is_running() or grandchild.status() == psutil.STATUS_ZOMBIE)
    assert not processes.kill(pid_file)


def test_pause_and_resume(pid_file: Path) -> None:
    start(pid_file, SLEEP)
    process = processes.find_process(pid_file)
    assert process is not None
    assert processes.pause(pid_file)
    wait_for(lambda: process.status() == psutil.STATUS_STOPPED)
    assert processes.resume(pid_file)
    wait_for(lambda: process.status() != psutil.STATUS_STOPPED)
    assert processes.pause(pid_file)
    assert processes.stop(pid_file, grace_s=10)  # a paused one hears it too
    assert not processes.pause(pid_file)
    assert not processes.resume(pid_file)


def test_a_number_that_went_to_another_process_is_left_alone(pid_file: Path) -> None:
    other = subprocess.Popen(SLEEP, stdout=subprocess.DEVNULL)
    try:
        pid_file.parent.mkdir(parents=True)
        stale = {
            "name": "p",
            "pid": other.pid,
            "create_time_s": psutil.Process(other.pid).create_time() - 5,
            "command": [],
        }
        for act in (processes.stop, processes.kill, processes.pause, processes.resume):
            pid_file.write_text(json.dumps(stale), encoding="utf-8")
            assert processes.find_process(pid_file) is None
            assert not act(pid_file)
        assert other.poll() is None
        assert psutil.Process(other.pid).status() != psutil.STATUS_STOPPED
    finally:
        other.kill()
        other.wait()


@pytest.mark.parametrize("content", ["", "{}", "[1]", '{"pid": "x"}', "null", "\0"])
def test_a_damaged_pid_file_is_nobody(pid_file: Path, content: str) -> None:
    pid_file.parent.mkdir(parents=True)
    pid_file.write_text(content, encoding="utf-8")
    assert processes.read_pid_file(pid_file) is None
    assert not processes.stop(pid_file)


def test_one_that_ended_by_itself_is_not_running(pid_file: Path) -> None:
    start(pid_file, SLEEP)
    process = processes.find_process(pid_file)
    assert process is not None
    os.kill(process.pid, signal.SIGKILL)
    wait_for(lambda: processes.find_process(pid_file) is None)
    assert start(pid_file, SLEEP)


def test_a_program_that_is_not_there_is_named(pid_file: Path, tmp_path: Path) -> None:
    with pytest.raises(processes.ProcessError, match="p: /no/such/program cannot be started"):
        processes.start("p", ["/no/such/program"], pid_file=pid_file, log_file=tmp_path / "l", cwd=tmp_path)
    assert not pid_file.exists()


def test_the_log_is_appended_to_and_its_end_is_shown(pid_file: Path, tmp_path: Path) -> None:
    log = tmp_path / "p.log"
    log.write_text("\n".join(f"line {n}" for n in range(100)) + "\n", encoding="utf-8")
    start(pid_file, SLEEP, log)
    tail = processes.log_tail(log, 3).splitlines()
    assert tail == ["line 98", "line 99", "up"]
    assert processes.log_tail(tmp_path / "none") == "(no log)"


def test_cpu_is_counted_and_the_dead_cost_nothing(pid_file: Path, tmp_path: Path) -> None:
    start(
        pid_file, [sys.executable, "-c", "sum(range(3_000_000)); print('up', flush=True); import time; time.sleep(600)"]
    )
    assert processes.cpu_seconds([pid_file, tmp_path / "none.json"]) > 0
    processes.kill(pid_file)
    assert processes.cpu_seconds([pid_file]) == 0
