"""Opens every state that the journal and the ledger store can be in after a crash, and judges it.

    python -m tests.chaos.crash_images --steps 200 --seeds 3

A journal must hold exactly what its last finished sync promised, or exactly what the running one was to bring; so must
the ledger and its checkpoint. The journal must reach back to the ledger, and replaying it must succeed.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from cluster.chaos import shim
from cluster.chaos.images import Image, Kind, Step, images, read_trace
from tests.chaos.crash_workload import Entry, journal_state, ledger_state, open_journal, open_ledger

ROOT = Path(__file__).resolve().parents[2]
BAD_SHOWN_MAX = 10
_OPENERS = ("journal", "ledger")
State = dict[str, object]


def record(folder: Path, seed: int, steps: int) -> list[Step]:
    """Runs the workload under the shim; its files are only a by-product."""
    data = folder / "data"
    data.mkdir()
    one = shim.Shim(shim.build(folder), folder / "control", data)
    trace = folder / "trace"
    environment = {**os.environ, **one.environment(trace), "PYTHONPATH": f"{ROOT}:{ROOT / 'proto' / 'gen'}"}
    command = [sys.executable, "-m", "tests.chaos.crash_workload", str(data), str(seed), str(steps)]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=300)
    return [step for step in read_trace(trace) if not step.path.endswith("lock.mdb")]  # of the living only


@dataclass(slots=True)
class Promises:
    """For each part: what is promised, and what a sync under way may bring instead."""

    promised: dict[str, State | None] = field(default_factory=lambda: dict.fromkeys(_OPENERS))
    coming: dict[str, State | None] = field(default_factory=lambda: dict.fromkeys(_OPENERS))

    def take(self, mark: Step) -> None:
        said = json.loads(mark.data)
        if said["what"] == "begin":
            self.coming[said["part"]] = said["state"]
        else:
            self.promised[said["part"]], self.coming[said["part"]] = said["state"], None

    def allow(self, part: str, found: State) -> bool:
        promised = self.promised[part]
        return found == promised or found == self.coming[part] or (promised is None and _is_new(found))


def _is_new(state: State) -> bool:
    return not any(state[name] for name in ("term", "last", "position", "accounts") if name in state)


@dataclass(slots=True)
class Tally:
    opened: int = 0
    bad: list[str] = field(default_factory=list)
    seconds: float = 0.0  # of processor time


def judge(steps: Sequence[Step], seed: int, work: Path, every: int = 1, *, until_bad: bool = False) -> Tally:
    """Every image of the trace, or every so-manieth; to the end, or until one is bad."""
    tally, promises, passed = Tally(), Promises(), 0
    started_s = time.process_time()
    for number, image in enumerate(images(steps, seed)):
        for step in steps[passed : image.at + 1]:
            if step.kind is Kind.MARK:
                promises.take(step)
        passed = image.at + 1
        if number % every:
            continue
        problem = _problem(image, promises, work)
        tally.opened += 1
        if problem:
            tally.bad.append(f"seed {seed}, step {image.at} ({image.says}): {problem}")
        if until_bad and tally.bad:
            break
    tally.seconds = time.process_time() - started_s
    return tally


def _problem(image: Image, promises: Promises, work: Path) -> str:
    shutil.rmtree(work, ignore_errors=True)
    for name, data in image.files.items():
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.name != "lock.mdb":  # LMDB makes it anew when nobody else has the environment open
            path.write_bytes(data)
    try:
        return next(_problems(promises, work), "")
    except Exception as error:
        return f"cannot be opened: {error!r}"


def _problems(promises: Promises, work: Path) -> Iterator[str]:
    log = open_journal(work / "raft")
    try:
        found = journal_state(log)
        if not promises.allow("journal", found):
            yield f"journal is {found}, promised {promises.promised['journal']}, coming {promises.coming['journal']}"
        store = open_ledger(work / "ledger")
        try:
            found = ledger_state(store)
            if not promises.allow("ledger", found):
                yield f"ledger is {found}, promised {promises.promised['ledger']}, coming {promises.coming['ledger']}"
            report = store.verify()
            if not report.ok:
                yield f"ledger does not verify: {report.problems[:3]}"
            if log.base_index > store.applied_position:
                yield f"journal begins behind {log.base_index}, the ledger ends at {store.applied_position}"
            first, count = store.applied_position + 1, log.commit_index - store.applied_position
            if count > 0:
                store.apply([Entry(first + i, data) for i, (_, data) in enumerate(log.read(first, count, 1 << 40))])
        finally:
            store.close()
    finally:
        log.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=150, help="of the workload")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--every", type=int, default=1, help="open only every so-manieth image")
    options = parser.parse_args()
    opened, bad, seconds = 0, [], 0.0
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
            steps = record(Path(name), seed, options.steps)
            tally = judge(steps, seed, Path(memory) / "image", options.every)
        opened, seconds, bad = opened + tally.opened, seconds + tally.seconds, bad + tally.bad
        print(f"seed {seed}: {tally.opened:,} images of {len(steps):,} steps, {len(tally.bad)} bad")
    print("\n".join(bad[:BAD_SHOWN_MAX]))
    print(f"{opened:,} images, {len(bad)} bad, {opened / seconds * 60:,.0f} a minute of one core")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
