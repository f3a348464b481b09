"""What a node must remember about membership, in the journal beside term and vote: whether it may vote, since when, how
often it started, and the newest life of each other node that it has seen.

A node whose disk was lost has forgotten its votes and acknowledgements, so it must not vote before it has caught up. A
disk that was put back from a copy has forgotten them too, but does not know it: the others do, because its life is
older than one they have seen.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Mapping
from dataclasses import dataclass, field, replace


class MemberRecordError(Exception):
    """The stored bytes are not what was written."""


@dataclass(frozen=True, slots=True, order=True)
class Life:
    """One run of a node's process; later ones are greater."""

    since: int  # position at which its present disk became a voter's; 0 = it was there from the beginning
    starts: int  # of the process on this disk


@dataclass(frozen=True, slots=True)
class Seen:
    life: Life
    incarnation: int  # random, of the process: tells a reconnection from another process in an equal life


@dataclass(frozen=True, slots=True)
class Member:
    voter: bool = True
    life: Life = Life(0, 0)
    peers: Mapping[str, Seen] = field(default_factory=dict)

    def started(self) -> Member:
        return replace(self, life=Life(self.life.since, self.life.starts + 1))

    def promoted(self, position: int) -> Member:
        return replace(self, voter=True, life=Life(position, self.life.starts))

    def with_peer(self, peer: str, seen: Seen) -> Member:
        return replace(self, peers={**self.peers, peer: seen})

    def is_outdated(self, peer: str, seen: Seen) -> bool:
        """Whether this node has met a later life of that peer: then its data folder went back in time."""
        known = self.peers.get(peer)
        if known is None or seen.life > known.life:
            return False
        return seen.life < known.life or seen.incarnation != known.incarnation


def encode_member(member: Member) -> bytes:
    peers = {peer: [s.life.since, s.life.starts, s.incarnation] for peer, s in sorted(member.peers.items())}
    text = json.dumps([member.voter, member.life.since, member.life.starts, peers]).encode()
    return zlib.crc32(text).to_bytes(4, "little") + text


def decode_member(value: bytes) -> Member:
    text = value[4:]
    if zlib.crc32(text).to_bytes(4, "little") != value[:4]:
        raise MemberRecordError("the membership record does not fit its checksum")
    voter, since, starts, peers = json.loads(text)
    seen = {peer: Seen(Life(at, count), incarnation) for peer, (at, count, incarnation) in peers.items()}
    return Member(bool(voter), Life(since, starts), seen)
