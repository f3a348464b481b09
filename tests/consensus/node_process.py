"""One real engine in a process of its own: LMDB journal, gRPC links, a state machine in memory.

Reads commands as JSON lines ({"propose": text}, {"status": 1}, {"rows": 1}, {"read": 1}) and writes JSON lines.
"""

from __future__ import annotations

import json
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from node.consensus.contract import LogEntry
from node.consensus.engine import RaftEngine
from node.consensus.seams import ConsensusConfig, SystemClock, TlsFiles
from node.consensus.transport import GrpcTransport
from node.storage.raft_log import RaftLog


class MemoryState:
    def __init__(self) -> None:
        self.rows: list[tuple[int, int, bytes]] = []
        self.applied_position = 0
        self.durable_position = 0

    def apply(self, entries: Sequence[LogEntry]) -> list[object]:
        for entry in entries:
            self.rows.append((entry.position, entry.term, entry.data))
            self.applied_position = entry.position
        return [entry.position for entry in entries]

    def tick(self, now_ns: int) -> None:
        pass


def start(settings: dict[str, object], state: MemoryState) -> RaftEngine:
    folder, node_id = Path(str(settings["folder"])), str(settings["node_id"])
    peers = dict(settings["peers"])  # type: ignore[call-overload]
    certificate = folder / f"node-{node_id}"
    tls = TlsFiles(folder / "ca.pem", certificate.with_suffix(".pem"), certificate.with_suffix(".key"))
    config = ConsensusConfig(node_id, "test", peers, peers[node_id], tls)
    log = RaftLog(folder / f"raft-{node_id}", cluster_id="test", node_id=node_id)
    engine = RaftEngine(config, log, GrpcTransport(config), SystemClock(), state)
    engine.start()
    return engine


def main() -> None:
    state = MemoryState()
    engine = start(json.loads(sys.argv[1]), state)
    lock = threading.Lock()

    def say(**answer: object) -> None:
        with lock:
            sys.stdout.write(json.dumps(answer) + "\n")
            sys.stdout.flush()

    for line in sys.stdin:
        command = json.loads(line)
        if "propose" in command:
            text = command["propose"]
            engine.propose(text.encode(), lambda outcome, text=text: say(proposed=text, outcome=outcome.status.value))
        elif "read" in command:
            engine.read_index(lambda position: say(read=position))
        elif "status" in command:
            status = engine.status()
            say(ready=status.ready, applied=status.applied_position, term=status.term, leader=status.leader_id)
        elif "rows" in command:
            say(rows=[(position, term, data.decode()) for position, term, data in list(state.rows)])
    engine.stop()


if __name__ == "__main__":
    main()
