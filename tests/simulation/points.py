"""The named moments at which a node can be made to lose power, each with a counter: a run says which it reached and
where it died, and the tests demand that every one of them was the end of some node."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass

_STAGES = {
    "before": "nothing of the transaction is on disk",
    "torn": "some of it is on disk: it survives only if all of it is",
    "after": "it is on disk, but nobody was told",
}
_SYNCS = {
    "journal.entries": "new log entries",
    "journal.truncate": "a truncation of conflicting entries",
    "journal.vote": "a new term or vote",
    "journal.compact": "a compaction",
    "journal.member": "what it knows of its own and its peers' lives",
    "ledger.checkpoint": "a checkpoint of the ledger",
}
_SENDS = {
    "append": "entries to a follower",
    "heartbeat": "an Append without entries",
    "append_reply": "an acknowledgement",
    "vote": "a vote",
    "request_vote": "a request for a vote",
    "term_hint": "the answer to a message of an older term",
    "pre_vote": "the question whether it would be elected",
    "pre_vote_grant": "that it would",
    "timeout_now": "that the other node shall take over",
    "promote": "that the other node may vote again",
    "snapshot_offer": "the offer of a snapshot",
    "snapshot_request": "the request for a piece of a snapshot",
    "snapshot_chunk": "a piece of a snapshot",
}
POINTS: dict[str, str] = {
    **{f"{sync}.{stage}": f"sync of {what}: {how}" for sync, what in _SYNCS.items() for stage, how in _STAGES.items()},
    **{f"send.{kind}.before": f"about to send {what}" for kind, what in _SENDS.items()},
    **{f"send.{kind}.after": f"has sent {what}" for kind, what in _SENDS.items()},
    "lead.begins": "won an election, its first entry is not written",
    "lead.began": "its first entry is synced and on its way",
    "lead.lost": "has just stepped down",
    "apply.before": "entries are committed and not applied",
    "apply.after": "entries are applied, no caller was answered",
    "snapshot.written": "a piece of a snapshot is written, and not synced",
    "snapshot.whole": "a snapshot is here and durable, but not marked",
    "snapshot.marked": "a snapshot is marked to be installed",
    "install.begins": "starting: about to install a snapshot",
    "install.state": "starting: the state is the snapshot's, the journal is still the old one",
    "install.journal": "starting: the journal has followed, the mark is still there",
    "install.done": "starting: the mark is gone",
    "checkpoint.begins": "the state of a checkpoint is taken, nothing is written",
    "propose.before": "a batch is gathered and not proposed",
    "propose.after": "a batch waits in the engine's queue",
    "serve.arrived": "a call has arrived",
    "serve.answers": "a call has its outcome, the answer is not sent",
    "serve.answered": "the answer is on its way",
    "score.asked": "the sidecar was asked",
    "score.answered": "the sidecar has answered, nothing is proposed",
    "expire.proposed": "an entry that ends pending transfers waits in the queue",
    "start.journal": "starting: the journal is open",
    "start.ledger": "starting: the ledger is loaded",
    "start.stepped": "starting: the engine has made its first step",
    "stop.engine": "stopping: the engine has ended",
    "stop.ledger": "stopping: the last checkpoint is written",
}


class PowerCutError(BaseException):
    """The node is gone at this very instruction. No code of a node may catch it and go on."""


@dataclass
class _Armed:
    passes: int  # how often it is still passed
    node: str  # "" = whoever comes
    then: Callable[[], None]


def _nothing() -> None:
    pass


class CrashPoints:
    """One table for the whole cluster: a node that reaches a point that is armed for it dies there."""

    def __init__(self) -> None:
        self.reached: Counter[str] = Counter()
        self.died: Counter[str] = Counter()
        self._armed: dict[str, _Armed] = {}

    def arm(self, point: str, passes: int, node: str = "", then: Callable[[], None] = _nothing) -> None:
        if point not in POINTS:
            raise KeyError(f"there is no crash point {point!r}")
        self._armed[point] = _Armed(passes, node, then)

    def disarm(self) -> None:
        self._armed.clear()

    def reach(self, node: str, point: str, die: Callable[[], None] | None = None) -> None:
        """Raises PowerCutError, or calls `die` where an exception would not end the node."""
        self.reached[point] += 1
        armed = self._armed.get(point)
        if armed is None or armed.node not in ("", node):
            return
        armed.passes -= 1
        if armed.passes >= 0:
            return
        del self._armed[point]
        self.died[point] += 1
        armed.then()
        if die is None:
            raise PowerCutError(point)
        die()
