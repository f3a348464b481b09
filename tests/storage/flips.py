"""Flips single bits in a stopped node's databases, each in a copy of its own, and says what came of each.

A process of its own, which forks for every flip: LMDB may end a process that reads a damaged page.
    python -m tests.storage.flips FOLDER FLIPS SEED      FOLDER holds ledger/ and raft/
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import shutil
import sys
from collections import Counter
from pathlib import Path

from node.storage.damage import STORAGE_FAILURES
from node.storage.ledger_db import ForeignDataError
from node.storage.ledger_store import LedgerStore, StoreConfig
from node.storage.log_identity import IDENTITY, NOTE
from node.storage.raft_log import RaftLog, RaftLogError
from node.storage.scrub import SEALED, Scrubber

MAP_BYTES = 1 << 28
FOUND, SAME, SILENT = 10, 11, 12


def read_all(store: LedgerStore, log: RaftLog) -> bytes:
    """A digest of everything that can be read: every item of every database, every entry, term, vote and member."""
    digest = hashlib.blake2b()
    with store.database.read() as (txn, databases):
        for name in (*SEALED, "ids"):
            with txn.cursor(databases[name]) as cursor:
                for key, value in cursor.iternext():
                    digest.update(bytes(key) + bytes(value))
    digest.update(repr([log.term, log.voted_for, log.base_index, log.last_index, log.member.peers]).encode())
    for index in range(log.base_index + 1, log.last_index + 1):
        digest.update(repr(log.read(index, 1, 1)).encode())
    return digest.digest()


def judge(folder: Path, expected: bytes) -> int:
    """FOUND: the start or verify says so. SAME: the bit was in bytes that mean nothing. SILENT: neither."""
    try:
        log = RaftLog(folder / "raft", cluster_id="test", node_id="n1", segment_bytes=1 << 16)
        store = LedgerStore(folder / "ledger", StoreConfig("test", "n1", map_bytes=MAP_BYTES))
        report = store.verify()
        if not report.ok:
            return FOUND
        Scrubber(store.database, log).run_pass()
        return SAME if read_all(store, log) == expected else SILENT
    except (*STORAGE_FAILURES, RaftLogError, ForeignDataError, Exception):
        return FOUND


def journal_files(folder: Path) -> list[Path]:
    return [path for path in sorted(folder.iterdir()) if path.suffix == ".log"] * 4 + [folder / IDENTITY, folder / NOTE]


def flip(folder: Path, chance: random.Random) -> str:
    name = chance.choice(["ledger", "ledger", "raft"])
    path = folder / name / "data.mdb" if name == "ledger" else chance.choice(journal_files(folder / name))
    size = path.stat().st_size
    if name == "raft":
        size = min(size, len(path.read_bytes().rstrip(b"\0")) + 100)  # what follows is empty
    bit = chance.randrange(size * 8)
    with path.open("r+b") as file:
        file.seek(bit // 8)
        byte = file.read(1)[0]
        file.seek(bit // 8)
        file.write(bytes([byte ^ 1 << bit % 8]))
    return f"{name}/{path.name} byte {bit // 8} (page {bit // 8 // 4096}, {bit // 8 % 4096}) bit {bit % 8}"


def in_child(folder: Path, expected: bytes) -> int:
    child = os.fork()
    if not child:
        os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
        os._exit(judge(folder, expected))
    status = os.waitpid(child, 0)[1]
    return FOUND if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)  # what kills the node is found


def main() -> None:
    folder, flips, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    copy = folder.parent / "copy"
    log = RaftLog(folder / "raft", cluster_id="test", node_id="n1", segment_bytes=1 << 16)
    store = LedgerStore(folder / "ledger", StoreConfig("test", "n1", map_bytes=MAP_BYTES))
    sound = store.verify().ok  # the kernels are loaded now, so that no child has to
    expected, chance = read_all(store, log), random.Random(seed)
    store.close()
    log.close()
    if not sound:
        raise SystemExit("the books are not right to begin with")
    found: Counter[str] = Counter()
    silent: list[str] = []
    for _ in range(flips):
        shutil.rmtree(copy, ignore_errors=True)
        shutil.copytree(folder, copy)
        what = flip(copy, chance)
        verdict = in_child(copy, expected)
        found[{FOUND: "found", SAME: "same", SILENT: "silent"}.get(verdict, f"exit {verdict}")] += 1
        if verdict not in (FOUND, SAME):
            silent.append(what)
    print(json.dumps({"found": found["found"], "same": found["same"], "silent": silent}))


if __name__ == "__main__":
    main()
