"""What a sync of the journal costs: bytes written, CPU, time; alone, in groups, and after large entries were compacted.

python -m tests.storage.journal_cost FOLDER      FOLDER is on the disk in question
"""

from __future__ import annotations

import os
import sys
import tempfile
import time
from pathlib import Path

from node.storage.raft_log import RaftLog

SYNCS = 400
ENTRY_BYTES = 250
LARGE_BYTES = 1 << 20


def written_bytes() -> int:
    lines = Path("/proc/self/io").read_text(encoding="ascii").splitlines()
    return int(dict(line.split(": ") for line in lines)["write_bytes"])


def measure(log: RaftLog, what: str, count: int = 1, size: int = ENTRY_BYTES, syncs: int = SYNCS) -> None:
    entries = [os.urandom(size) for _ in range(count)]
    took: list[float] = []
    before, started_s = written_bytes(), time.process_time()
    for _ in range(syncs):
        for entry in entries:
            log.append(log.term, entry)
        begin = time.perf_counter()
        log.sync()
        took.append(time.perf_counter() - begin)
    cpu_us = (time.process_time() - started_s) / syncs * 1e6
    kib, took_us = (written_bytes() - before) / syncs / 1024, sorted(took)[syncs // 2] * 1e6
    print(f"{what}: {kib:.1f} KiB written, {cpu_us:.0f} us CPU, p50 {took_us:.0f} us")


def bare_writes(folder: Path) -> None:
    """The floor: one write and one fdatasync over space that has its place on the disk."""
    descriptor = os.open(folder / "bare", os.O_RDWR | os.O_CREAT)
    os.pwrite(descriptor, bytes(SYNCS << 12), 0)
    os.fsync(descriptor)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
    block, took = os.urandom(1 << 12), []
    started_s = time.process_time()
    for number in range(SYNCS):
        begin = time.perf_counter()
        os.pwrite(descriptor, block, number << 12)
        os.fdatasync(descriptor)
        took.append(time.perf_counter() - begin)
    cpu_us = (time.process_time() - started_s) / SYNCS * 1e6
    print(f"a bare block: 4.0 KiB written, {cpu_us:.0f} us CPU, p50 {sorted(took)[SYNCS // 2] * 1e6:.0f} us")
    os.close(descriptor)


def main(where: Path) -> None:
    with tempfile.TemporaryDirectory(dir=where) as name:
        bare_writes(Path(name))
        log = RaftLog(Path(name) / "raft", cluster_id="c", node_id="n1")
        log.set_term(1, "")
        measure(log, f"one entry of {ENTRY_BYTES} bytes")
        measure(log, f"one entry of {ENTRY_BYTES} bytes, again")
        measure(log, f"16 entries of {ENTRY_BYTES} bytes", count=16)
        measure(log, "1,000 large entries, of 1 MiB each", size=LARGE_BYTES, syncs=1_000)
        log.set_commit(log.last_index)
        log.compact(log.last_index)
        log.sync()
        measure(log, f"one entry of {ENTRY_BYTES} bytes, after they were compacted")
        log.close()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
