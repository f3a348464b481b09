"""Every state that a node's files can be in after a crash while it receives and installs a snapshot, opened and judged.

    python -m tests.chaos.install_images

A start must find the state from before or the snapshot, whole, with the log that belongs to it; and only the snapshot
once the node had promised to install it.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from kibubu.raft.v1 import raft_pb2

from cluster.chaos import shim
from cluster.chaos.images import Image, Kind, Step, images, read_trace
from node.ledger.entry import encode_entry
from node.ledger.records import TRANSFER
from node.storage.damage import SET_ASIDE
from node.storage.data_folder import DataFolder, open_data_folder
from node.storage.ledger_store import LedgerStore, StoreConfig
from node.storage.raft_log import RaftLog
from node.storage.snapshot_files import SnapshotFiles
from tests.chaos.crash_images import ROOT, Tally
from tests.chaos.crash_workload import MAP_BYTES, SEGMENT_BYTES, Entry

TERM = 3
PIECE_BYTES = 40_000
OLD_ENTRIES, NEW_ENTRIES = 3, 12
NODE = "n2"


RaftLog.__init__.__kwdefaults__["segment_bytes"] = SEGMENT_BYTES  # type: ignore[index]  # each image has all of them


def config(node_id: str) -> StoreConfig:
    return StoreConfig("crash", node_id, map_bytes=MAP_BYTES)


def entry(position: int) -> bytes:
    """Accounts first, then transfers between them: the same for every node."""
    if position == 1:
        new = [
            raft_pb2.Command(
                request_id=number.to_bytes(16, "big"),
                create_account=raft_pb2.CreateAccount(ledger=404, kind=11, name=f"account {number}"),
            )
            for number in (1, 2)
        ]
        return encode_entry(1, commands=raft_pb2.Commands(commands=new).SerializeToString())
    batch = np.zeros(40, TRANSFER)
    batch["id_lo"] = np.arange(position * 100, position * 100 + 40)
    batch["debit_account"], batch["credit_account"], batch["amount_minor"] = 1, 2, 5
    batch["ledger"], batch["code"] = 404, 1_003
    return encode_entry(position * 1_000, transfers=batch.tobytes())


def apply_upto(store: LedgerStore, position: int) -> None:
    for at in range(store.applied_position + 1, position + 1):
        store.apply([Entry(at, entry(at))])
    store.checkpoint(wait=True)


def workload(root: Path, other: Path) -> None:
    """Run under the shim: a node that has little, gets the state of another one, and starts with it."""
    mark = ctypes.CDLL(None).kibubu_shim_mark
    folder = root / NODE
    folder.mkdir()
    data = open_data_folder(folder, config(NODE), alone=False)
    data.log.set_term(1, "")
    for position in range(1, OLD_ENTRIES + 1):
        data.log.append(1, entry(position))
    data.log.set_commit(OLD_ENTRIES)
    data.log.sync()
    apply_upto(data.store, OLD_ENTRIES)
    leader = LedgerStore(other, config("n1"))
    apply_upto(leader, NEW_ENTRIES)
    source = SnapshotFiles(other.with_name("made"), leader.copy_to)
    source.prepare()
    while (info := source.newest()) is None:
        pass
    mark(b'"begin"')
    offset = data.snapshots.received(info)
    while offset < info.size:
        piece = source.read(info, offset, PIECE_BYTES)
        data.snapshots.write(info, offset, piece)
        offset += len(piece)
    if not data.snapshots.complete(info, TERM):
        raise SystemExit("the snapshot does not fit its digest")
    mark(b'"promised"')
    data.store.close()
    data.log.close()
    again = open_data_folder(folder, config(NODE), alone=False)
    mark(b'"installed"')
    again.store.close()
    again.log.close()
    leader.close()


def record(folder: Path) -> list[Step]:
    data = folder / "data"
    data.mkdir()
    one = shim.Shim(shim.build(folder), folder / "control", data)
    environment = {**os.environ, **one.environment(folder / "trace"), "PYTHONPATH": f"{ROOT}:{ROOT / 'proto' / 'gen'}"}
    command = [sys.executable, "-m", "tests.chaos.install_images", "--work", str(data), str(folder / "leader")]
    subprocess.run(command, cwd=ROOT, env=environment, check=True, timeout=300)
    return [step for step in read_trace(folder / "trace") if not step.path.endswith(("lock.mdb", "owner"))]


def judge(steps: Sequence[Step], work: Path, every: int = 1, *, until_bad: bool = False) -> Tally:
    """Every so-manieth image from where the transfer begins."""
    tally, said, passed = Tally(), "", 0
    for number, image in enumerate(images(steps, 1)):
        for step in steps[passed : image.at + 1]:
            said = json.loads(step.data) if step.kind is Kind.MARK else said
        passed = image.at + 1
        if not said or number % every:
            continue
        problem = _problem(image, said, work)
        tally.opened += 1
        if problem:
            tally.bad.append(f"step {image.at} ({image.says}), {said}: {problem}")
        if until_bad and tally.bad:
            break
    return tally


def _problem(image: Image, said: str, work: Path) -> str:
    shutil.rmtree(work, ignore_errors=True)
    for name, content in image.files.items():
        path = work / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    try:
        first = _opened(work / NODE)
        return _judged(first, said) or ("" if _opened(work / NODE) == first else "another start finds something else")
    except Exception as error:
        return f"cannot be opened: {error!r}"


def _opened(folder: Path) -> tuple[int, int, int, bool]:
    """(applied, beginning of the log, end of the log, whether the books are right)"""
    data = open_data_folder(folder, config(NODE), alone=False)
    try:
        ok = data.store.verify().ok and not (folder / SET_ASIDE).exists()
        return data.store.applied_position, data.log.base_index, data.log.last_index, ok
    finally:
        _close(data)


def _close(data: DataFolder) -> None:
    data.store.close()
    data.log.close()


def _judged(found: tuple[int, int, int, bool], said: str) -> str:
    old, new = (OLD_ENTRIES, 0, OLD_ENTRIES, True), (NEW_ENTRIES, NEW_ENTRIES, NEW_ENTRIES, True)
    allowed = (old, new) if said == "begin" else (new,)
    return "" if found in allowed else f"found {found}, allowed {allowed}"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", nargs=2, type=Path, help="be the traced process")
    parser.add_argument("--every", type=int, default=1, help="open only every so-manieth image")
    options = parser.parse_args()
    if options.work:
        workload(*options.work)
        return 0
    with tempfile.TemporaryDirectory() as name, tempfile.TemporaryDirectory(dir="/dev/shm") as memory:
        tally = judge(record(Path(name)), Path(memory) / "image", options.every)
    print("\n".join(tally.bad[:10]))
    print(f"{tally.opened:,} images, {len(tally.bad)} bad")
    return 1 if tally.bad else 0


if __name__ == "__main__":
    sys.exit(main())
