"""The follower's side of replication: what an Append does to the log, and what may be said about it afterwards."""

from __future__ import annotations

from collections.abc import Sequence

from node.consensus.messages import Append, AppendReply
from node.consensus.seams import FatalRaftError, RaftLog


def first_new(log: RaftLog, first: int, entries: Sequence[tuple[int, bytes]]) -> int:
    """How many of the entries the log has already. Only the first one that differs may truncate anything: a late or
    repeated message, shorter than the log, must not take back what was acknowledged since."""
    for offset, (term, _) in enumerate(entries):
        if log.term_at(first + offset) != term:
            return offset
    return len(entries)


def verified_commit(commit_index: int, match_index: int, last_index: int) -> int:
    """The leader's commit says nothing about entries behind those that this very message verified: our tail may be of
    an older term, so `last_index` must not count."""
    return min(commit_index, match_index)


def append_entries(log: RaftLog, message: Append, commit_index: int) -> AppendReply:
    """Compare, truncate on conflict only, append. The reply may leave only after the next sync."""
    prev_index, prev_term, entries = message.prev_index, message.prev_term, message.entries
    match_index = prev_index + len(entries)
    if prev_index < log.base_index:  # everything up to the base is committed, hence the same
        entries = entries[log.base_index - prev_index :]
        prev_index, prev_term = log.base_index, log.term_at(log.base_index) or 0
    if log.term_at(prev_index) != prev_term:
        hint = _hint(log, prev_index, commit_index)
        return AppendReply(message.term, message.read_round, message.prev_index, False, hint)
    known = first_new(log, prev_index + 1, entries)
    entries = entries[known:]
    first = prev_index + 1 + known
    if entries and first <= log.last_index:
        if first <= commit_index:
            raise FatalRaftError(f"the leader of term {message.term} contradicts committed entry {first}")
        log.truncate(first)
    for term, data in entries:
        log.append(term, data)
    return AppendReply(message.term, message.read_round, message.prev_index, True, match_index)


def _hint(log: RaftLog, prev_index: int, commit_index: int) -> int:
    """Where the logs may agree: our end, or before the whole run of the term that differs; never below what is
    committed, which the leader surely has. So a divergent follower is found in few round trips."""
    if prev_index > log.last_index:
        return log.last_index
    return max(commit_index, log.first_index_of_term(prev_index) - 1)
