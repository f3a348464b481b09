"""AdminService: status, state hash, verification, export, leadership. Operators only."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

from kibubu.admin.v1 import admin_pb2, admin_pb2_grpc

from node.consensus.contract import Consensus
from node.ledger.history import AppliedBatch
from node.ledger.state import CHAIN_START
from node.service.config import NodeConfig
from node.service.errors import InvalidRequestError
from node.service.guard import Guard
from node.service.leadership import transfer_leadership
from node.service.limits import EXPORT_PAGE_BYTES_MAX
from node.service.metrics import RateMeter
from node.storage.damage import STORAGE_FAILURES
from node.storage.ledger_store import LedgerStore
from node.storage.scrub import Journal, Scrubber
from node.storage.verify import VerifyReport


class AdminServicer(admin_pb2_grpc.AdminServiceServicer):
    def __init__(
        self,
        config: NodeConfig,
        consensus: Consensus,
        store: LedgerStore,
        guard: Guard,
        rate: RateMeter,
        queue_length: Callable[[], int],
        scrubber: Scrubber | None = None,
        journal: Journal | None = None,
    ) -> None:
        self._config = config
        self._consensus = consensus
        self._store = store
        self._guard = guard
        self._rate = rate
        self._queue_length = queue_length
        self._scrubber, self._journal = scrubber, journal
        self._started_at = time.monotonic()

    async def GetStatus(  # noqa: N802
        self, request: admin_pb2.GetStatusRequest, context: Any
    ) -> admin_pb2.GetStatusResponse:
        async with self._guard.call("GetStatus", context):
            status = self._consensus.status()
            # The pair belongs together: read the hash of the very position that is reported.
            position = self._store.applied_position
            return admin_pb2.GetStatusResponse(
                node_id=self._config.node_id,
                cluster_id=self._config.cluster_id,
                role=status.role if status.role != "leader" or status.ready else "candidate",
                term=status.term,
                leader_id=status.leader_id,
                leader_address=self._config.api_address_of(status.leader_id),
                last_index=status.last_index,
                commit_position=status.commit_position,
                applied_position=position,
                durable_position=status.durable_position,
                chain_hash=self._store.chain_hash_at(position) or b"",
                transfers_total=self._store.transfers_total,
                accounts_total=self._store.accounts_total,
                transfers_per_second=self._rate.per_second(),
                queue_length=self._queue_length(),
                peers_connected=status.peers_connected,
                uptime_ms=int((time.monotonic() - self._started_at) * 1_000),
                voter=status.voter,
                storage=status.room,
                log_first_index=status.log_first_index,
                log_bytes=status.log_bytes,
                snapshot_bytes_received=status.snapshot_progress[0],
                snapshot_bytes_total=status.snapshot_progress[1],
                scrub_passes=self._scrubber.passes if self._scrubber is not None else 0,
            )

    async def GetStateHash(  # noqa: N802
        self, request: admin_pb2.GetStateHashRequest, context: Any
    ) -> admin_pb2.GetStateHashResponse:
        async with self._guard.call("GetStateHash", context):
            position = request.position or self._store.applied_position
            found = self._store.chain_hash_at(position)
            hashed_at, state_hash = await asyncio.to_thread(self._store.state_hash_at, position)
            return admin_pb2.GetStateHashResponse(
                position=position,
                chain_hash=found or b"",
                found=found is not None,
                state_hash=state_hash,
                state_hash_position=hashed_at,
            )

    async def Verify(  # noqa: N802
        self, request: admin_pb2.VerifyRequest, context: Any
    ) -> admin_pb2.VerifyResponse:
        async with self._guard.call("Verify", context):
            report = await asyncio.to_thread(self._verify)
            return admin_pb2.VerifyResponse(
                ok=report.ok,
                position=report.position,
                batches=report.batches,
                transfers=report.transfers,
                accounts=report.accounts,
                problems=report.problems,
                chain_hash=report.chain_hash,
                state_hash=report.state_hash,
            )

    def _verify(self) -> VerifyReport:
        """The books by their history, then every stored byte by its checksum."""
        report = self._store.verify()
        try:
            Scrubber(self._store.database, self._journal).run_pass()
        except STORAGE_FAILURES as error:
            report.problem(f"{type(error).__name__}: {error}")
        return report

    async def ExportLog(  # noqa: N802
        self, request: admin_pb2.ExportLogRequest, context: Any
    ) -> AsyncIterator[admin_pb2.ExportLogResponse]:
        async with self._guard.call("ExportLog", context):
            first = request.from_position or 1
            last = min(request.to_position or self._store.applied_position, self._store.applied_position)
            if request.to_position and request.to_position < first:
                raise InvalidRequestError(f"to_position: {request.to_position} is before from_position {first}")
            while first <= last:
                previous = self._store.chain_hash_at(first - 1) if first > 1 else CHAIN_START
                batches = await asyncio.to_thread(self._store.export, first, last, EXPORT_PAGE_BYTES_MAX)
                yield admin_pb2.ExportLogResponse(
                    previous_chain_hash=previous or b"", entries=[_exported(batch) for batch in batches]
                )
                first += len(batches)

    async def TransferLeadership(  # noqa: N802
        self, request: admin_pb2.TransferLeadershipRequest, context: Any
    ) -> admin_pb2.TransferLeadershipResponse:
        async with self._guard.call("TransferLeadership", context):
            target = request.target_node_id
            if target and target not in {peer.node_id for peer in self._config.peers}:
                raise InvalidRequestError(f"target_node_id: {target!r} is no other node of this cluster")
            transferred = await transfer_leadership(self._consensus, target)
            return admin_pb2.TransferLeadershipResponse(
                transferred=transferred, leader_id=self._consensus.status().leader_id
            )


def _exported(batch: AppliedBatch) -> admin_pb2.ExportedEntry:
    return admin_pb2.ExportedEntry(
        position=batch.position,
        timestamp_ns=batch.timestamp_ns,
        entry=batch.entry,
        outcomes=batch.outcomes.tobytes(),
        expired=batch.expired,
        chain_hash=batch.chain_hash,
    )
