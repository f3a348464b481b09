"""What becomes of each proposal, said honestly and once: the engine's promises to its callers.

A proposal is DISCARDED only when another entry was applied at its index. Losing the lead proves nothing: callers wait a
moment longer for a sure outcome, then hear UNKNOWN.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from node.consensus.contract import LogEntry, ProposalCallback, ProposalOutcome, ProposalStatus


@dataclass(slots=True)
class Proposal:
    data: bytes
    callback: ProposalCallback
    size: int
    term: int = 0
    deadline: float = 0.0  # 0 = none: this node leads

    def finish(self, status: ProposalStatus, position: int = 0, result: object = None) -> None:
        self.callback(ProposalOutcome(status, position, result))


class Proposals:
    """Appended and not yet decided, by log index. One index may hold several: of an older lead and of this one."""

    def __init__(self, unknown_after_s: float) -> None:
        self._unknown_after_s = unknown_after_s
        self._pending: dict[int, list[Proposal]] = {}
        self._deadline = 0.0
        self.finished_count = 0
        self.finished_bytes = 0

    @property
    def deadline(self) -> float:
        """When the next proposal becomes UNKNOWN; 0 = none."""
        return self._deadline

    def appended(self, proposal: Proposal, index: int, term: int) -> None:
        proposal.term = term
        proposal.data = b""
        self._pending.setdefault(index, []).append(proposal)

    def refuse(self, proposals: Iterable[Proposal], status: ProposalStatus) -> None:
        for proposal in proposals:
            self._finish(proposal, status)

    def applied(self, entries: Sequence[LogEntry], results: Sequence[object]) -> None:
        if not self._pending:
            return
        for entry, result in zip(entries, results, strict=True):
            for proposal in self._pending.pop(entry.position, ()):
                if proposal.term == entry.term:
                    self._finish(proposal, ProposalStatus.APPLIED, entry.position, result)
                else:
                    self._finish(proposal, ProposalStatus.DISCARDED)

    def lead_lost(self, now: float) -> None:
        """Nothing is decided by this: the entries may be committed by the next leader, or not."""
        deadline = now + self._unknown_after_s
        for proposals in self._pending.values():
            for proposal in proposals:
                proposal.deadline = proposal.deadline or deadline
        if self._pending:
            self._deadline = self._deadline or deadline

    def expire(self, now: float) -> None:
        if not self._deadline or now < self._deadline:
            return
        self._deadline = 0.0
        for index, proposals in list(self._pending.items()):
            for proposal in list(proposals):
                if proposal.deadline and now >= proposal.deadline:
                    proposals.remove(proposal)
                    self._finish(proposal, ProposalStatus.UNKNOWN)
                elif proposal.deadline:
                    self._deadline = min(self._deadline or proposal.deadline, proposal.deadline)
            if not proposals:
                del self._pending[index]

    def stop(self) -> None:
        pending, self._pending = self._pending, {}
        for proposals in pending.values():
            self.refuse(proposals, ProposalStatus.UNKNOWN)

    def _finish(self, proposal: Proposal, status: ProposalStatus, position: int = 0, result: object = None) -> None:
        self.finished_count += 1
        self.finished_bytes += proposal.size
        proposal.finish(status, position, result)
