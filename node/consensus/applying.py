"""What every role does with the log: hand what is committed to the state machine, and cut off what nobody needs."""

from __future__ import annotations

from node.consensus.contract import LogEntry
from node.consensus.leading import Leading
from node.consensus.seams import FatalRaftError

COMMIT_NOTICE_S = 0.01
APPLY_ENTRIES_MAX = 1_024


class Applying(Leading):
    def _SyncObj__applyLogEntries(self) -> bool:  # noqa: N802
        first = self.applied_index() + 1
        last = min(self.commit_index(), self.log.durable_index)
        if first > last:
            return False
        if self.is_leader():
            self._notice_at = self._notice_at or self.clock.monotonic() + COMMIT_NOTICE_S
        rows = self.log.read(first, min(last - first + 1, APPLY_ENTRIES_MAX), self.config.apply_bytes_max)
        entries = [LogEntry(first + offset, term, data) for offset, (term, data) in enumerate(rows)]
        results = self.state_machine.apply(entries)
        applied = entries[-1].position
        if len(results) != len(entries) or self.state_machine.applied_position != applied:
            raise FatalRaftError(f"state machine applied up to {self.state_machine.applied_position}, not {applied}")
        self._SyncObj__raftLastApplied = applied
        self.proposals.applied(entries, results)
        return False

    def _SyncObj__tryLogCompaction(self) -> None:  # noqa: N802
        """Only what this node's state holds durably, and, within bounds, nobody will ask for."""
        now = self.clock.monotonic()
        if now < self._compact_at:
            return
        self._compact_at = now + self.config.compact_every_s
        upto = min(self.state_machine.durable_position, self._needed_from(now)) - self._trailing_entries()
        if upto - self.log.base_index >= self.config.compact_entries_min:
            self.log.compact(upto)

    def _trailing_entries(self) -> int:
        average_bytes = self.log.bytes_total // max(1, self.log.last_index - self.log.base_index)
        return min(self.config.log_trailing_entries, self.config.log_trailing_bytes_max // max(1, average_bytes))

    def _needed_from(self, now: float) -> int:
        """The lowest position behind which somebody needs the log: a node that is away, unless that takes too much, or
        one that is receiving a snapshot."""
        needed = self.commit_index()
        if self.snapshot_sender is None or self.log.bytes_total < self.config.log_kept_bytes_max:
            needed = min(needed, self.replicator.safe_index)
        floor = self.snapshot_sender.floor(now) if self.snapshot_sender is not None else None
        if floor is not None and self.log.bytes_total < self.config.log_bytes_max // 2:
            needed = min(needed, floor)
        return needed
