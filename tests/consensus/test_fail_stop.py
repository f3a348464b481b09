"""Any error of disk or state machine is the end of the process: at once, with a reason, and not one more word."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SCRIPT = """
import json, os, sys, time
from pathlib import Path
from node.consensus.contract import ProposalStatus
from node.consensus.engine import RaftEngine, exit_at_once
from node.consensus.seams import ConsensusConfig, SystemClock
from node.ledger.entry import encode_entry
from node.storage.ledger_store import LedgerStore, StoreConfig
from node.storage.raft_log import RaftLog
from tests.consensus.harness import SimTransport

folder, fault = Path(sys.argv[1]), sys.argv[2]
failed_at = []

def fail(*_, **__):
    failed_at.append(time.monotonic())
    say(failed=time.monotonic())
    raise OSError(28, "No space left on device")

def say(**what):
    os.write(1, (json.dumps(what) + chr(10)).encode())

log = RaftLog(folder / "raft", cluster_id="c", node_id="a", segment_bytes=1 << 20)
store = LedgerStore(folder / "ledger", StoreConfig("c", "a", map_bytes=1 << 28, checkpoint_interval_s=0.05))
store.on_failure = lambda error: exit_at_once(f"{type(error).__name__}: {error}")
config = ConsensusConfig("a", "c")
engine = RaftEngine(config, log, SimTransport(lambda peer, frame: True), SystemClock(), store)
engine.start()
while not engine.status().ready:
    time.sleep(0.005)

def answered(outcome):
    if outcome.status is ProposalStatus.APPLIED:
        say(applied=outcome.position)

def propose():
    engine.propose(encode_entry(time.time_ns()), answered)

for _ in range(20):
    propose()
    time.sleep(0.01)
match fault:
    case "sync":
        log._write = fail
    case "apply":
        store._apply_one = fail
    case "checkpoint":
        store._db.write = fail
    case "tick":
        store.tick = fail
    case "none":
        pass
for _ in range(100):
    propose()
    time.sleep(0.01)
say(still_here=True)
"""


def run(folder: Path, fault: str) -> tuple[int, str, list[dict[str, float]], float]:
    environment = dict(os.environ, PYTHONPATH=f"{ROOT}:{ROOT / 'proto/gen'}")
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(folder), fault],
        cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    out, err = process.communicate(timeout=60)
    ended_at = time.monotonic()
    return process.returncode, err, [json.loads(line) for line in out.splitlines()], ended_at


@pytest.mark.parametrize("fault", ["sync", "apply", "checkpoint", "tick"])
def test_error_ends_the_process_with_a_reason_and_nothing_is_acknowledged_after(tmp_path: Path, fault: str) -> None:
    code, err, said, ended_at = run(tmp_path, fault)
    assert code == 70
    assert "fatal: OSError: [Errno 28] No space left on device" in err
    at = next(i for i, line in enumerate(said) if "failed" in line)
    print(f"{fault}: ended {1_000 * (ended_at - said[at]['failed']):.0f} ms after the error")
    assert sum("applied" in line for line in said[:at]) >= 10
    assert said[at + 1 :] == []


def test_without_an_error_it_goes_on(tmp_path: Path) -> None:
    code, _, said, _ = run(tmp_path, "none")
    assert said[-1] == {"still_here": True}
    assert code == 0
    assert sum("applied" in line for line in said) >= 110
