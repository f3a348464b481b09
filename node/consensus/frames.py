"""What nodes say to each other (messages.py), as packed little-endian frames: fixed structs and raw bytes, nothing that
executes."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import fields
from typing import Any

from node.consensus.messages import (
    Append,
    AppendReply,
    Hello,
    Message,
    PreVote,
    PreVoteGrant,
    Promote,
    RequestVote,
    SnapshotChunk,
    SnapshotOffer,
    SnapshotRequest,
    TermHint,
    TimeoutNow,
    Vote,
)
from node.ledger.entry import ENTRY_BYTES_MAX

PROTOCOL_VERSION = 2
FRAME_BYTES_MAX = ENTRY_BYTES_MAX + (4 << 20) + 4_096
ID_BYTES_MAX = 64


class MalformedFrameError(Exception):
    """A peer sent bytes that are no frame of this protocol."""


_HELLO, _REQUEST_VOTE, _VOTE, _TERM_HINT, _APPEND, _APPEND_REPLY = range(1, 7)
_PRE_VOTE, _PRE_VOTE_GRANT, _TIMEOUT_NOW, _PROMOTE = range(7, 11)
_SNAPSHOT_OFFER, _SNAPSHOT_REQUEST, _SNAPSHOT_CHUNK = range(11, 14)
_HELLO_FORM = struct.Struct("<BHQQQQ?BBB")
_PRE_VOTE_FORM = struct.Struct("<BQQQ")
_REQUEST_VOTE_FORM = struct.Struct("<BQQQ?")
_TERM_FORM = struct.Struct("<BQ")
_APPEND_FORM = struct.Struct("<BQQQQQQI")
_ENTRY_FORM = struct.Struct("<QI")
_APPEND_REPLY_FORM = struct.Struct("<BQQQBQI")  # flags: success 1, no voter 2; room from bit 2 on
_PROMOTE_FORM = struct.Struct("<BQQ")
_SNAPSHOT_OFFER_FORM = struct.Struct("<BQQQQ32s")
_SNAPSHOT_REQUEST_FORM = struct.Struct("<BQ32sQ")
_SNAPSHOT_CHUNK_FORM = struct.Struct("<BQ32sQI")  # the last: crc32 of the data behind it
_PLAIN: dict[int, tuple[Callable[..., Message], struct.Struct]] = {  # fixed forms, field after field
    _REQUEST_VOTE: (RequestVote, _REQUEST_VOTE_FORM),
    _VOTE: (Vote, _TERM_FORM),
    _TERM_HINT: (TermHint, _TERM_FORM),
    _PRE_VOTE: (PreVote, _PRE_VOTE_FORM),
    _PRE_VOTE_GRANT: (PreVoteGrant, _TERM_FORM),
    _TIMEOUT_NOW: (TimeoutNow, _TERM_FORM),
    _PROMOTE: (Promote, _PROMOTE_FORM),
    _SNAPSHOT_OFFER: (SnapshotOffer, _SNAPSHOT_OFFER_FORM),
    _SNAPSHOT_REQUEST: (SnapshotRequest, _SNAPSHOT_REQUEST_FORM),
}
_PLAIN_KINDS = {message: (form, kind) for kind, (message, form) in _PLAIN.items()}


def encode_hello(hello: Hello) -> bytes:
    names = [name.encode() for name in (hello.cluster_id, hello.node_id, hello.target_id)]
    if any(not 0 < len(name) <= ID_BYTES_MAX for name in names):
        raise ValueError(f"cluster and node ids have 1 to {ID_BYTES_MAX} bytes")
    lengths = [len(name) for name in names]
    numbers = (hello.incarnation, hello.epoch, hello.since, hello.starts, hello.voter)
    return _HELLO_FORM.pack(_HELLO, PROTOCOL_VERSION, *numbers, *lengths) + b"".join(names)


def decode_hello(frame: bytes) -> Hello:
    kind, version, incarnation, epoch, since, starts, voter, *lengths = _unpack(_HELLO_FORM, frame)
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
    return Hello(names[0], names[1], names[2], incarnation, epoch, since, starts, voter)


def encode(message: Message) -> bytes:
    match message:
        case Append():
            return _encode_append(message)
        case AppendReply(term, read_round, prev_index, success, match_index, voter, room, sync_us):
            flags = success | (not voter) << 1 | room << 2
            return _APPEND_REPLY_FORM.pack(_APPEND_REPLY, term, read_round, prev_index, flags, match_index, sync_us)
        case SnapshotChunk(term, digest, offset, data):
            return _SNAPSHOT_CHUNK_FORM.pack(_SNAPSHOT_CHUNK, term, digest, offset, zlib.crc32(data)) + data
    form, kind = _PLAIN_KINDS[type(message)]
    return form.pack(kind, *(getattr(message, field.name) for field in fields(message)))


def decode(frame: bytes) -> Message:
    kind = frame[0] if frame else 0
    if kind == _APPEND:
        return _decode_append(frame)
    if kind == _APPEND_REPLY:
        _, term, read_round, prev_index, flags, match_index, sync_us = _unpack_whole(_APPEND_REPLY_FORM, frame)
        if flags >> 2 > 2:
            raise MalformedFrameError(f"flags {flags:#x} are unknown")
        return AppendReply(
            term, read_round, prev_index, bool(flags & 1), match_index, not flags & 2, flags >> 2, sync_us
        )
    if kind == _SNAPSHOT_CHUNK:
        _, term, digest, offset, crc = _unpack(_SNAPSHOT_CHUNK_FORM, frame)
        data = frame[_SNAPSHOT_CHUNK_FORM.size :]
        if zlib.crc32(data) != crc:
            raise MalformedFrameError("snapshot chunk does not fit its checksum")
        return SnapshotChunk(term, digest, offset, data)
    plain = _PLAIN.get(kind)
    if plain is None:
        raise MalformedFrameError(f"frame kind {kind} is unknown")
    message, form = plain
    return message(*_unpack_whole(form, frame)[1:])


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


def _unpack(form: struct.Struct, frame: bytes) -> tuple[Any, ...]:
    if len(frame) < form.size:
        raise MalformedFrameError(f"frame of {len(frame)} bytes is shorter than its header")
    return form.unpack_from(frame)


def _unpack_whole(form: struct.Struct, frame: bytes) -> tuple[Any, ...]:
    if len(frame) != form.size:
        raise MalformedFrameError(f"frame of {len(frame)} bytes should have {form.size}")
    return form.unpack(frame)
