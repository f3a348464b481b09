"""What nodes say to each other. Every message carries its term, and every answer says which question it answers, so
that late, duplicated or foreign ones can be told apart and dropped. node/consensus/frames.py packs them."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Hello:
    """First frame of a stream, in both directions."""

    cluster_id: str
    node_id: str
    target_id: str
    incarnation: int  # of the sending process
    epoch: int  # of the stream, within the process
    since: int = 0  # this and the next: node.storage.member.Life of the sender
    starts: int = 0
    voter: bool = True


@dataclass(frozen=True, slots=True)
class PreVote:
    """Would you vote for me in this term? Changes nothing at either end."""

    term: int  # one above the asker's own
    last_index: int
    last_term: int


@dataclass(frozen=True, slots=True)
class PreVoteGrant:
    term: int  # of the PreVote that is answered


@dataclass(frozen=True, slots=True)
class TimeoutNow:
    """The leader of this term has the receiver stand for election at once."""

    term: int


@dataclass(frozen=True, slots=True)
class RequestVote:
    term: int
    last_index: int
    last_term: int
    handed_over: bool = False  # the leader itself wants it: who hears that leader may vote all the same


@dataclass(frozen=True, slots=True)
class Vote:
    term: int


@dataclass(frozen=True, slots=True)
class TermHint:
    """The answer to a message of an older term, so that its sender does not go on in vain."""

    term: int


@dataclass(frozen=True, slots=True)
class Append:
    term: int
    read_round: int
    prev_index: int
    prev_term: int
    commit_index: int
    safe_index: int  # every configured node has stored the log up to here
    entries: list[tuple[int, bytes]]  # (term, data)


@dataclass(frozen=True, slots=True)
class AppendReply:
    term: int
    read_round: int  # of the Append that is answered
    prev_index: int  # of the Append that is answered
    success: bool
    match_index: int  # success: verified up to here; otherwise a hint where the logs may still agree
    voter: bool = True  # False: its disk was lost and it has not caught up, so this acknowledgement must not count
    room: int = 0  # seams.Room of its disk
    sync_us: int = 0  # its usual time of a sync


@dataclass(frozen=True, slots=True)
class Promote:
    """The receiver may vote again: it has everything that was committed when it joined."""

    term: int
    position: int


@dataclass(frozen=True, slots=True)
class SnapshotOffer:
    """The leader no longer has the entries that the receiver lacks, but the state that they led to."""

    term: int
    position: int
    position_term: int  # of the entry at that position
    size: int
    digest: bytes  # 32: names the snapshot, and proves its bytes


@dataclass(frozen=True, slots=True)
class SnapshotRequest:
    term: int
    digest: bytes
    offset: int


@dataclass(frozen=True, slots=True)
class SnapshotChunk:
    term: int
    digest: bytes
    offset: int
    data: bytes


Message = (
    PreVote
    | PreVoteGrant
    | TimeoutNow
    | RequestVote
    | Vote
    | TermHint
    | Append
    | AppendReply
    | Promote
    | SnapshotOffer
    | SnapshotRequest
    | SnapshotChunk
)
