"""What pysyncobj's constructor wants: a transport, a journal, settings, each reduced to what SafeRaft leaves to it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from node.consensus.contract import StateMachine
from node.consensus.pinned import Journal, SyncObjConf, Transport
from node.consensus.seams import ConsensusConfig, FatalRaftError, RaftLog


class CoreTransport(Transport):  # type: ignore[misc]  # the library has no types
    """Where pysyncobj's own messages go; frames come in through SafeRaft.step."""

    ready = True

    def __init__(self, promise: Callable[[str, dict[str, Any]], None]) -> None:
        super().__init__(None, None, [])
        self._promise = promise

    def send(self, node: Any, message: dict[str, Any]) -> bool:
        self._promise(node.id, message)
        return True


class JournalView(Journal):  # type: ignore[misc]  # the library has no types
    """The few journal calls that are left to pysyncobj, on our log."""

    def __init__(self, log: RaftLog) -> None:
        self._log = log

    def __len__(self) -> int:
        return 1  # never empty: the log needs no base entry

    def getCurrentTerm(self) -> int:  # noqa: N802
        return self._log.term

    def getVotedForNodeId(self) -> str | None:  # noqa: N802
        return self._log.voted_for or None

    def getRaftCommitIndex(self) -> int:  # noqa: N802
        return self._log.commit_index

    def setCurrentTerm(self, term: int, voted_for: str | None) -> None:  # noqa: N802
        self._log.set_term(term, voted_for or "")

    def setRaftCommitIndex(self, index: int) -> None:  # noqa: N802
        self._log.set_commit(index)


def conf_of(config: ConsensusConfig, log: RaftLog) -> SyncObjConf:
    return SyncObjConf(
        autoTick=False,
        raftMinTimeout=config.election_timeout_min_s,
        raftMaxTimeout=config.election_timeout_max_s,
        appendEntriesPeriod=config.heartbeat_s,
        leaderFallbackTimeout=config.quorum_timeout_s,
        connectionTimeout=max(3.5, config.election_timeout_max_s),
        appendEntriesUseBatch=True,  # the other setting makes a pipe per engine that nobody closes
        commandsWaitLeader=False,
        dynamicMembershipChange=False,
        useFork=False,
        journalFile=JournalView(log),
    )


def check_disks(log: RaftLog, state_machine: StateMachine) -> None:
    applied = state_machine.applied_position
    if applied > log.last_index:
        raise FatalRaftError(
            f"the state has applied entry {applied}, but the log ends at {log.last_index}: "
            "these two folders do not belong together (was one of them replaced or restored?)"
        )
    if applied < log.base_index:
        raise FatalRaftError(
            f"the state has applied only entry {applied}, but the log starts behind {log.base_index}: "
            "entries in between are gone, so this state cannot be continued"
        )
