"""Compares the nodes' states while they run and are hurt, at the positions where each keeps the hash of its state: so a
node that went another way is found when it does, not when all is over."""

from __future__ import annotations

import asyncio

from kibubu.admin.v1 import admin_pb2, admin_pb2_grpc

from cluster.calls import Caller, CallError
from cluster.health import node_status
from cluster.layout import Layout

EVERY_S = 1.0
_TIMEOUT_S = 1.0  # a node that is being hurt does not answer


class Comparison:
    def __init__(self, layout: Layout, caller: Caller) -> None:
        self._layout, self._caller = layout, caller
        self._seen: dict[int, tuple[str, bytes]] = {}  # position: who told its hash first
        self._stopping = asyncio.Event()
        self._shared: set[int] = set()
        self.problems: list[str] = []

    @property
    def positions(self) -> int:
        """Positions of which more than one node told the state."""
        return len(self._shared)

    def stop(self) -> None:
        self._stopping.set()

    async def run(self) -> None:
        while not self._stopping.is_set():
            await asyncio.to_thread(self._ask_all)
            try:
                await asyncio.wait_for(self._stopping.wait(), EVERY_S)
            except TimeoutError:
                continue

    def _ask_all(self) -> None:
        """Of the newest position that the slowest of those that answer has passed."""
        states = {
            node_id: node_status(self._caller, self._layout.api_address(node_id)) for node_id in self._layout.node_ids
        }
        passed = min((state.applied_position for state in states.values() if state), default=0)
        for node_id, state in states.items():
            if state and passed > 1:
                self._ask(node_id, passed - 1)

    def _ask(self, node_id: str, position: int) -> None:
        try:
            answer = self._caller.one(
                self._layout.api_address(node_id),
                lambda c: admin_pb2_grpc.AdminServiceStub(c).GetStateHash,
                admin_pb2.GetStateHashRequest(position=position),
                timeout_s=_TIMEOUT_S,
            )
        except CallError:
            return
        if answer.state_hash_position:
            self.note(node_id, answer.state_hash_position, answer.state_hash)

    def note(self, node_id: str, position: int, state_hash: bytes) -> None:
        first, known = self._seen.setdefault(position, (node_id, state_hash))
        if first == node_id:
            return
        self._shared.add(position)
        if known != state_hash:
            self.problems.append(f"{node_id} has another state at position {position} than {first}")
