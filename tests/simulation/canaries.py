"""Known bugs by name, each one guard taken out of the honest code: the simulator must find every one of them.

They are switched on in tests only, by `switched_on`, and off again behind it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any
from unittest.mock import patch

from node.consensus import appending, following
from node.consensus.contract import ProposalStatus
from node.consensus.core import SafeRaft
from node.consensus.messages import Append, AppendReply, Vote
from node.consensus.seams import RaftLog as RaftLogSeam
from node.ledger import kernel, usage
from node.ledger.state import LedgerState
from node.ledger.tiers import Tiers
from node.service.admission import Admission
from node.service.reads import ReadBarrier
from node.storage.groups import Place, State
from node.storage.ledger_db import LedgerDb
from node.storage.ledger_store import LedgerStore
from node.storage.member import Member
from node.storage.raft_log import RaftLog
from node.storage.scrub import Scrubber
from node.storage.segments import Segments
from tests.consensus.canaries import (
    AppliesFromTheStart,
    CompactsBeyondDurable,
    CountsEveryVote,
    CountsNonVoters,
    CountsOldAcknowledgements,
    DiscardsAtStepDown,
    KeepsOldProofs,
    PromotesUnproven,
    ReadsWithoutNoop,
    ReadsWithoutQuorum,
    VotesAfterDiskLoss,
)
from tests.simulation.disk import DiskFailedError, SimDisk
from tests.simulation.files import HostFile, HostFolder

Patch = Callable[[ExitStack], None]


class AcknowledgesBeforeSync(SafeRaft):
    def flush(self) -> None:
        early = [promise for promise in self.promises if isinstance(promise[1], AppendReply)]
        self.promises = [promise for promise in self.promises if not isinstance(promise[1], AppendReply)]
        for peer, message in early:
            self.send(peer, message)
        super().flush()


class VotesBeforeSync(SafeRaft):
    def flush(self) -> None:
        early = [promise for promise in self.promises if isinstance(promise[1], Vote)]
        self.promises = [promise for promise in self.promises if not isinstance(promise[1], Vote)]
        for peer, message in early:
            self.send(peer, message)
        super().flush()


class SyncsAfterSend(SafeRaft):
    """One sync at the end of a round, after everything was sent."""

    def flush(self) -> None:
        promises, self.promises = self.promises, []
        for peer, message in promises:
            self.send(peer, message)
        super().flush()


class CommitsOldTerms(SafeRaft):
    """Counts copies of entries of earlier terms (the Raft paper's figure 8)."""

    def _SyncObj__getEntries(  # noqa: N802
        self, first: int, count: int | None = None, bytes_max: int | None = None
    ) -> list[tuple[None, int, int]]:
        return [(None, index, self.term()) for _, index, _ in super()._SyncObj__getEntries(first)]


class ReadyBeforeNoop(SafeRaft):
    def is_ready(self) -> bool:
        return self.is_leader()


class AnswersWhenAppended(SafeRaft):
    """A caller hears that its entry is committed as soon as this node has it."""

    def _settle(self) -> None:
        if self.is_leader() and self.log.last_index > self.commit_index():
            self._SyncObj__raftCommitIndex = self.log.last_index
        super()._settle()


def _patched(owner: Any, name: str, new: Any) -> Patch:
    def enter(stack: ExitStack) -> None:
        stack.enter_context(patch.object(owner, name, new))

    return enter


def _always_truncate(log: RaftLogSeam, first: int, entries: Any) -> int:
    return 0


def _commit_to_last_index(commit_index: int, match_index: int, last_index: int) -> int:
    return min(commit_index, last_index)


_append_entries = appending.append_entries


def _acknowledge_to_last_index(log: RaftLogSeam, message: Append, commit_index: int) -> AppendReply:
    reply = _append_entries(log, message, commit_index)
    if not reply.success:
        return reply
    return AppendReply(reply.term, reply.read_round, reply.prev_index, True, log.last_index)


_state = RaftLog._state


def _forget_vote(log: RaftLog) -> State:
    return _state(log)._replace(voted_for="")


_sync = RaftLog.sync


def _go_on_after_failed_sync(log: RaftLog) -> None:
    try:
        _sync(log)
    except DiskFailedError:
        log._failed = False


def _no_sync(file: Any) -> None:
    pass


_append = Segments.append


def _note_before_sync(files: Segments, *content: Any) -> Place:
    """What is noted as synced is on its way at best: after a crash a torn write looks like damage."""
    files._note.take(files.number + 1)
    return _append(files, *content)


_disk_init = SimDisk.__init__


def _lying_disk(disk: SimDisk, *args: Any) -> None:
    _disk_init(disk, *args)
    disk.unsynced_max = 30


def _disk_that_lies_to_the_leader(disk: SimDisk, *args: Any) -> None:
    _lying_disk(disk, *args)
    disk.lies_to = lambda process: hasattr(process, "engine") and process.engine.core.is_leader()


_error = Admission._error


def _unknown_is_refused(admission: Admission, status: ProposalStatus) -> Callable[[], Exception]:
    known = ProposalStatus.REFUSED_NOT_LEADER if status is ProposalStatus.UNKNOWN else status
    return _error(admission, known)


async def _read_at_once(barrier: ReadBarrier) -> int:
    return barrier._consensus.status().applied_position


def _find_in_memory_only(store: LedgerStore, words: Any, out: Any) -> None:
    if store._flushing is not None:
        store._flushing.ids.find_ids(words, out)


_apply = LedgerState.apply


def _apply_with_own_clock(state: LedgerState, *args: Any) -> Any:
    state.timestamp_ns += id(state) % 3
    return _apply(state, *args)


def _same_bytes(words: Any, i: int, _: int, others: Any, j: int, __: int) -> bool:
    return bool((words[i] == others[j]).all())


def _rows_without_day_limits(tiers: Tiers, timestamp_ns: int) -> Any:
    since_ns, until_ns, rows = _TIER_ROWS(tiers, timestamp_ns)
    rows[:, usage.DAY] = usage.NO_LIMIT
    return since_ns, until_ns, rows


_TIER_ROWS = Tiers._rows


def _no_pending(store: LedgerStore) -> list[tuple[int, bytes]]:
    return []


_write = LedgerDb.write


def _write_without_rows(database: LedgerDb, checkpoint: Any) -> None:
    from dataclasses import replace

    _write(database, replace(checkpoint, row_numbers=checkpoint.row_numbers[:-1], rows=checkpoint.rows[:-1]))


def _install_without_suffix(log: RaftLog, position: int, term: int) -> None:
    """Forgets what follows the snapshot, though it may have been acknowledged."""
    if log.last_index > log.base_index:
        log.truncate(log.base_index + 1)
    _install(log, position, term)


_install = RaftLog.install

CORES: dict[str, type[SafeRaft]] = {
    "acknowledge_before_sync": AcknowledgesBeforeSync,
    "vote_before_sync": VotesBeforeSync,
    "sync_after_send": SyncsAfterSend,
    "acknowledgement_without_term": CountsOldAcknowledgements,
    "duplicate_votes": CountsEveryVote,
    "commit_of_old_terms": CommitsOldTerms,
    "commit_when_appended": AnswersWhenAppended,
    "read_without_quorum": ReadsWithoutQuorum,
    "read_without_noop": ReadsWithoutNoop,
    "compaction_beyond_durable": CompactsBeyondDurable,
    "discard_at_step_down": DiscardsAtStepDown,
    "apply_twice_after_restart": AppliesFromTheStart,
    "ready_before_noop": ReadyBeforeNoop,
    "votes_after_disk_loss": VotesAfterDiskLoss,
    "counts_non_voters": CountsNonVoters,
    "promotes_unproven": PromotesUnproven,
    "keeps_old_proofs": KeepsOldProofs,
}
PATCHES: dict[str, Patch] = {
    "truncate_always": _patched(appending, "first_new", _always_truncate),
    "commit_to_last_index": _patched(following, "verified_commit", _commit_to_last_index),
    "acknowledgement_to_last_index": _patched(following, "append_entries", _acknowledge_to_last_index),
    "vote_not_durable": _patched(RaftLog, "_state", _forget_vote),
    "goes_on_after_failed_sync": _patched(RaftLog, "sync", _go_on_after_failed_sync),
    "journal_data_not_synced": _patched(HostFile, "sync", _no_sync),
    "journal_names_not_synced": _patched(HostFolder, "sync", _no_sync),
    "journal_notes_before_sync": _patched(Segments, "append", _note_before_sync),
    "journal_never_synced": _patched(SimDisk, "__init__", _lying_disk),
    "leader_counts_unsynced": _patched(SimDisk, "__init__", _disk_that_lies_to_the_leader),
    "unknown_is_refused": _patched(Admission, "_error", _unknown_is_refused),
    "read_at_once": _patched(ReadBarrier, "__call__", _read_at_once),
    "ids_forgotten_at_checkpoint": _patched(LedgerStore, "find_ids", _find_in_memory_only),
    "own_clock_in_apply": _patched(LedgerState, "apply", _apply_with_own_clock),
    "checkpoint_without_pending": _patched(LedgerStore, "_waiting_pending", _no_pending),
    "checkpoint_without_a_row": _patched(LedgerDb, "write", _write_without_rows),
    "day_limits_not_judged": _patched(Tiers, "_rows", _rows_without_day_limits),
    "held_is_another_content": _patched(kernel, "same_asked", _same_bytes),
    "snapshot_drops_suffix": _patched(RaftLog, "install", _install_without_suffix),
    "scrubber_never_looks": _patched(Scrubber, "step", lambda scrubber: 1),
    "older_folder_accepted": _patched(Member, "is_outdated", lambda member, peer, seen: False),
}
NAMES = (*CORES, *PATCHES)


@contextmanager
def switched_on(name: str) -> Iterator[type[SafeRaft]]:
    """The engine's core with this bug in it; "" = the honest one."""
    with ExitStack() as stack:
        if name in PATCHES:
            PATCHES[name](stack)
        elif name and name not in CORES:
            raise KeyError(f"there is no canary {name!r}; there are {', '.join(NAMES)}")
        yield CORES.get(name, SafeRaft)
