"""Three real processes over mutual TLS and synced LMDB; the leader is killed with -9 in the middle of proposals."""

from __future__ import annotations

import json
import os
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.consensus.certs import Authority

ROOT = Path(__file__).parents[2]
IDS = ("n1", "n2", "n3")


class NodeProcess:
    def __init__(self, node_id: str, folder: Path, peers: dict[str, str]) -> None:
        settings = json.dumps({"node_id": node_id, "folder": str(folder), "peers": peers})
        environment = dict(os.environ, PYTHONPATH=f"{ROOT}:{ROOT / 'proto/gen'}", GRPC_VERBOSITY="NONE")
        self.answers: queue.Queue[dict[str, Any]] = queue.Queue()
        self.acknowledged: set[str] = set()
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.consensus.node_process", settings],
            cwd=ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def ask(self, **command: object) -> dict[str, Any]:
        self.tell(**command)
        return self.answers.get(timeout=30)

    def tell(self, **command: object) -> None:
        if self._process.stdin is None:
            raise RuntimeError("no stdin")
        self._process.stdin.write(json.dumps(command) + "\n")
        self._process.stdin.flush()

    def kill(self) -> None:
        self._process.send_signal(signal.SIGKILL)
        self.end()

    def end(self) -> None:
        """Ask it to stop by closing its input; or take note that it is dead."""
        try:
            if self._process.stdin is not None:
                self._process.stdin.close()
        except BrokenPipeError:
            pass
        self._process.wait(timeout=30)
        self._reader.join(timeout=30)
        if self._process.stdout is not None:
            self._process.stdout.close()

    def _read(self) -> None:
        for line in self._process.stdout or ():
            answer = json.loads(line)
            if answer.get("outcome") == "applied":
                self.acknowledged.add(answer["proposed"])
            elif "outcome" not in answer:
                self.answers.put(answer)


class Nodes:
    def __init__(self, folder: Path) -> None:
        authority = Authority(folder)
        for node_id in IDS:
            authority.issue("node", node_id)
        self._folder = folder
        self._peers = {node_id: f"127.0.0.1:{port}" for node_id, port in zip(IDS, free_ports(len(IDS)), strict=True)}
        self.running: dict[str, NodeProcess] = {}
        self.acknowledged: set[str] = set()
        for node_id in IDS:
            self.start(node_id)

    def start(self, node_id: str) -> None:
        self.running[node_id] = NodeProcess(node_id, self._folder, self._peers)

    def kill(self, node_id: str) -> None:
        node = self.running.pop(node_id)
        node.kill()
        self.acknowledged |= node.acknowledged

    def end(self) -> None:
        for node in self.running.values():
            node.end()

    def leader(self) -> str:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            for node_id, node in self.running.items():
                if node.ask(status=1)["ready"]:
                    return node_id
            time.sleep(0.02)
        raise RuntimeError("no leader")

    def wait_until_all_applied(self) -> None:
        deadline = time.monotonic() + 30
        while time.monotonic() < deadline:
            if len({node.ask(status=1)["applied"] for node in self.running.values()}) == 1:
                return
            time.sleep(0.02)
        raise RuntimeError("the nodes do not agree on how much is applied")


def free_ports(count: int) -> list[int]:
    sockets = [socket.socket() for _ in range(count)]
    for item in sockets:
        item.bind(("127.0.0.1", 0))
    ports = [int(item.getsockname()[1]) for item in sockets]
    for item in sockets:
        item.close()
    return ports


@pytest.fixture
def nodes(tmp_path: Path) -> Iterator[Nodes]:
    made = Nodes(tmp_path)
    yield made
    made.end()


def test_kill_of_the_leader_loses_nothing_acknowledged(nodes: Nodes) -> None:
    for turn in range(3):
        leader = nodes.leader()
        node = nodes.running[leader]
        for number in range(300):
            node.tell(propose=f"{turn}-{number}")
        while len(node.acknowledged) < 100:
            time.sleep(0.001)
        nodes.kill(leader)  # with proposals on their way
        nodes.leader()
        nodes.start(leader)
    leader = nodes.leader()
    assert nodes.running[leader].ask(read=1)["read"] > 0
    nodes.wait_until_all_applied()
    histories = [node.ask(rows=1)["rows"] for node in nodes.running.values()]
    assert histories[0] == histories[1] == histories[2]
    texts = [text for _, _, text in histories[0] if text]
    acknowledged = nodes.acknowledged.union(*(node.acknowledged for node in nodes.running.values()))
    assert len(acknowledged) >= 300
    assert acknowledged <= set(texts)
    assert len(texts) == len(set(texts))
