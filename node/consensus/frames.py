"""What nodes say to each other, as packed little-endian frames: fixed structs and raw bytes, nothing that executes.

Every message carries its term, and every answer says which question it answers, so that late, duplicated or foreign
ones can be told apart and dropped.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from node.ledger.entry import ENTRY_BYTES_MAX

PROTOCOL_VERSION = 1
FRAME_BYTES_MAX = ENTRY_BYTES_MAX + (4 << 20) + 4_096
ID_BYTES_MAX = 64


class MalformedFrameError(Exception):
    """A peer sent bytes that are no frame of this protocol."""


@dataclass(frozen=True, slots=True)
class Hello:
    """First frame of a stream, in both directions."""

    cluster_id: str
    node_id: str
    target_id: str
    incarnation: int  # of the sending process
    epoch: int  # of the stream, within the process


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


Message = PreVote | PreVoteGrant | TimeoutNow | RequestVote | Vote | TermHint | Append | AppendReply

_HELLO, _REQUEST_VOTE, _VOTE, _TERM_HINT, _APPEND, _APPEND_REPLY, _PRE_VOTE, _PRE_VOTE_GRANT, _TIMEOUT_NOW = range(
    1, 10
)
_HELLO_FORM = struct.Struct("<BHQQBBB")
_PRE_VOTE_FORM = struct.Struct("<BQQQ")
_REQUEST_VOTE_FORM = struct.Struct("<BQQQ?")
_TERM_FORM = struct.Struct("<BQ")
_APPEND_FORM = struct.Struct("<BQQQQQQI")
_ENTRY_FORM = struct.Struct("<QI")
_APPEND_REPLY_FORM = struct.Struct("<BQQQBQ")
_OF_TERM_ONLY: dict[int, Callable[[int], Message]] = {
    _VOTE: Vote,
    _TERM_HINT: TermHint,
    _PRE_VOTE_GRANT: PreVoteGrant,
    _TIMEOUT_NOW: TimeoutNow,
}


def encode_hello(hello: Hello) -> bytes:
    names = [name.encode() for name in (hello.cluster_id, hello.node_id, hello.target_id)]
    if any(not 0 < len(name) <= ID_BYTES_MAX for name in names):
        raise ValueError(f"cluster and node ids have 1 to {ID_BYTES_MAX} bytes")
    lengths = [len(name) for name in names]
    return _HELLO_FORM.pack(_HELLO, PROTOCOL_VERSION, hello.incarnation, hello.epoch, *lengths) + b"".join(names)


def decode_hello(frame: bytes) -> Hello:
    kind, version, incarnation, epoch, *lengths = _unpack(_HELLO_FORM, frame)
    if kind != _HELLO or version != PROTOCOL_VERSION:
        raise MalformedFrameError(f"expected a hello of version {PROTOCOL_VERSION}, got kind {kind}, version {version}")
    if len(frame) != _HELLO_FORM.size + sum(lengths):
        raise MalformedFrameError("hello has the wrong length")
    names, at = [], _HELLO_FORM.size
    for length in lengths:
        try:
            names.append(frame[at : at + length].decode())
        except UnicodeDecodeError as error:
            raise MalformedFrameError("hello is not UTF-8") from error
        at += length
    return Hello(names[0], names[1], names[2], incarnation, epoch)


def encode(message: Message) -> bytes:
    match message:
        case Append():
            return _encode_append(message)
        case AppendReply(term, read_round, prev_index, success, match_index):
            return _APPEND_REPLY_FORM.pack(_APPEND_REPLY, term, read_round, prev_index, success, match_index)
        case PreVote(term, last_index, last_term):
            return _PRE_VOTE_FORM.pack(_PRE_VOTE, term, last_index, last_term)
        case PreVoteGrant(term):
            return _TERM_FORM.pack(_PRE_VOTE_GRANT, term)
        case TimeoutNow(term):
            return _TERM_FORM.pack(_TIMEOUT_NOW, term)
        case RequestVote(term, last_index, last_term, handed_over):
            return _REQUEST_VOTE_FORM.pack(_REQUEST_VOTE, term, last_index, last_term, handed_over)
        case Vote(term):
            return _TERM_FORM.pack(_VOTE, term)
        case TermHint(term):
            return _TERM_FORM.pack(_TERM_HINT, term)


def decode(frame: bytes) -> Message:
    kind = frame[0] if frame else 0
    if kind == _APPEND:
        return _decode_append(frame)
    if kind == _APPEND_REPLY:
        _, term, read_round, prev_index, success, match_index = _unpack_whole(_APPEND_REPLY_FORM, frame)
        return AppendReply(term, read_round, prev_index, bool(success), match_index)
    if kind == _PRE_VOTE:
        return PreVote(*_unpack_whole(_PRE_VOTE_FORM, frame)[1:])
    if kind == _REQUEST_VOTE:
        _, term, last_index, last_term, handed_over = _unpack_whole(_REQUEST_VOTE_FORM, frame)
        return RequestVote(term, last_index, last_term, bool(handed_over))
    if kind in _OF_TERM_ONLY:
        return _OF_TERM_ONLY[kind](_unpack_whole(_TERM_FORM, frame)[1])
    raise MalformedFrameError(f"frame kind {kind} is unknown")


def _encode_append(message: Append) -> bytes:
    head = _APPEND_FORM.pack(
        _APPEND,
        message.term,
        message.read_round,
        message.prev_index,
        message.prev_term,
        message.commit_index,
        message.safe_index,
        len(message.entries),
    )
    parts = [head]
    for term, data in message.entries:
        parts.append(_ENTRY_FORM.pack(term, len(data)))
        parts.append(data)
    return b"".join(parts)


def _decode_append(frame: bytes) -> Append:
    _, term, read_round, prev_index, prev_term, commit_index, safe_index, count = _unpack(_APPEND_FORM, frame)
    entries: list[tuple[int, bytes]] = []
    at, end = _APPEND_FORM.size, len(frame)
    for _ in range(count):
        if at + _ENTRY_FORM.size > end:
            raise MalformedFrameError("append ends inside an entry's header")
        entry_term, length = _ENTRY_FORM.unpack_from(frame, at)
        at += _ENTRY_FORM.size
        if at + length > end:
            raise MalformedFrameError("append ends inside an entry")
        entries.append((entry_term, frame[at : at + length]))
        at += length
    if at != end:
        raise MalformedFrameError("append is longer than its entries")
    return Append(term, read_round, prev_index, prev_term, commit_index, safe_index, entries)


def _unpack(form: struct.Struct, frame: bytes) -> tuple[int, ...]:
    if len(frame) < form.size:
        raise MalformedFrameError(f"frame of {len(frame)} bytes is shorter than its header")
    return form.unpack_from(frame)


def _unpack_whole(form: struct.Struct, frame: bytes) -> tuple[int, ...]:
    if len(frame) != form.size:
        raise MalformedFrameError(f"frame of {len(frame)} bytes should have {form.size}")
    return form.unpack(frame)
