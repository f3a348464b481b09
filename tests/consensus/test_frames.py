"""Frames: every message comes back as it was, and no rubbish does more than raise MalformedFrameError."""

from __future__ import annotations

import random

import pytest

from node.consensus.frames import ID_BYTES_MAX, MalformedFrameError, decode, decode_hello, encode, encode_hello
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

BIG = 2**64 - 1
MESSAGES: list[Message] = [
    PreVote(1, 2, BIG),
    PreVoteGrant(3),
    TimeoutNow(BIG),
    RequestVote(1, 2, 3),
    RequestVote(BIG, 0, 1, True),
    Vote(BIG),
    TermHint(7),
    AppendReply(1, 2, 3, True, 4),
    AppendReply(BIG, BIG, BIG, False, BIG),
    AppendReply(1, 2, 3, True, 4, False, 2, 77),
    Promote(BIG, 9),
    SnapshotOffer(1, 2, 3, BIG, b"d" * 32),
    SnapshotRequest(1, b"d" * 32, BIG),
    SnapshotChunk(1, b"d" * 32, 5, b"x" * 70_000),
    Append(1, 2, 3, 4, 5, 6, []),
    Append(1, 2, 3, 4, 5, 6, [(1, b""), (2, b"x" * 70_000), (BIG, b"\0")]),
]


@pytest.mark.parametrize("message", MESSAGES)
def test_round_trip(message: Message) -> None:
    assert decode(encode(message)) == message


@pytest.mark.parametrize("message", MESSAGES)
def test_every_cut_and_every_excess_is_refused(message: Message) -> None:
    frame = encode(message)
    for length in {*range(min(len(frame), 100)), len(frame) - 1}:
        with pytest.raises(MalformedFrameError):
            decode(frame[:length])
    with pytest.raises(MalformedFrameError):
        decode(frame + b"\0")


def test_rubbish_is_refused() -> None:
    chance = random.Random(1)
    for _ in range(2_000):
        frame = bytes([chance.randrange(16)]) + chance.randbytes(chance.randrange(80))
        try:
            message = decode(frame)
        except MalformedFrameError:
            continue
        assert decode(encode(message)) == message or isinstance(message, AppendReply)


def test_hello_round_trip() -> None:
    for hello in (Hello("cluster", "n1", "n2", 5, BIG), Hello("c", "a", "b", 1, 2, 3, BIG, False)):
        assert decode_hello(encode_hello(hello)) == hello


@pytest.mark.parametrize("frame", [b"", b"\1", encode(Vote(1)), encode_hello(Hello("c", "a", "b", 1, 1))[:-1]])
def test_malformed_hello(frame: bytes) -> None:
    with pytest.raises(MalformedFrameError):
        decode_hello(frame)


def test_hello_of_another_version_or_not_text() -> None:
    frame = bytearray(encode_hello(Hello("c", "a", "b", 1, 1)))
    frame[1] += 1
    with pytest.raises(MalformedFrameError, match="version"):
        decode_hello(bytes(frame))
    with pytest.raises(MalformedFrameError, match="UTF-8"):
        decode_hello(encode_hello(Hello("c", "a", "b", 1, 1))[:-1] + b"\xff")


def test_id_at_its_maximum_and_one_more() -> None:
    assert decode_hello(encode_hello(Hello("c" * ID_BYTES_MAX, "a", "b", 1, 1))).cluster_id == "c" * ID_BYTES_MAX
    for names in [("c" * (ID_BYTES_MAX + 1), "a", "b"), ("", "a", "b")]:
        with pytest.raises(ValueError, match="bytes"):
            encode_hello(Hello(*names, 1, 1))
