"""The form of the journal on disk: one group for each sync, in whole blocks, so that no block with synced bytes is ever
written again.

    header   magic, place (segment, block), size, number, term, commit, base, first entry, lengths; then a digest
    head     vote; membership record; for each entry its term, length and checksum
    entries  their bytes, one behind the other; zeros up to the end of the block

A group says: the log ends before `first`, then these entries follow. It restates the whole small state, so the newest
group is all that is needed of it. The digest covers header and head under the folder's secret key, so what a segment
held before it was recycled, a copy of a group elsewhere, or a payload that looks like one, is no group here.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import blake3

from node.storage.folder import Bytes
from node.storage.log_errors import RaftLogCorruptError

BLOCK = 4_096
MAGIC = b"KJL2"
_HEADER = struct.Struct("<4sIQIIQQQQQQII")
_DIGEST_BYTES = 16
_ROW = struct.Struct("<QII")  # term, bytes, crc32
_CHECKED = struct.Struct("<QQ")
_START = _HEADER.size + _DIGEST_BYTES


class Place(NamedTuple):
    """Where a group lies; `segment` is the number of the first group in its file."""

    segment: int
    block: int
    blocks: int


class State(NamedTuple):
    """All that the journal says apart from entries."""

    term: int
    voted_for: str
    commit_index: int
    base_index: int
    base_term: int
    member: bytes


@dataclass(frozen=True, slots=True)
class Group:
    number: int  # of this sync; counted from 1 in the life of a folder
    place: Place
    state: State
    first: int
    rows: list[tuple[int, int, int]]  # of each entry: term, bytes, crc32
    head_bytes: int

    @property
    def last(self) -> int:
        return self.first + len(self.rows) - 1


def blocks_of(state: State, entries: Sequence[tuple[int, bytes]]) -> int:
    size = _START + len(state.voted_for.encode()) + len(state.member)
    size += sum([len(data) for _, data in entries]) + _ROW.size * len(entries)
    return -(-size // BLOCK)


def encode_group(
    key: bytes, number: int, place: Place, state: State, first: int, entries: Sequence[tuple[int, bytes]]
) -> list[bytes]:
    """The parts to be written, `place.blocks` blocks together."""
    vote = state.voted_for.encode()
    rows = [
        _ROW.pack(term, len(data), crc_of(index, term, data)) for index, (term, data) in enumerate(entries, start=first)
    ]
    header = _HEADER.pack(
        MAGIC, place.blocks, place.segment, place.block, len(vote), number, state.term, state.commit_index,
        state.base_index, state.base_term, first, len(entries), len(state.member),
    )  # fmt: skip
    head = b"".join((vote, state.member, *rows))
    parts = [header + _digest(key, header, head) + head, *[data for _, data in entries if data]]
    parts.append(bytes(place.blocks * BLOCK - sum(map(len, parts))))
    return parts


def measure(block: Bytes) -> tuple[int, int]:
    """Bytes of the head, and of the whole group, that seems to begin in this block; (0, 0) = none does."""
    if len(block) < _START or block[:4] != MAGIC:
        return 0, 0
    fields = _HEADER.unpack_from(block)
    head = _START + int(fields[4]) + int(fields[12]) + _ROW.size * int(fields[11])
    size = int(fields[1]) * BLOCK
    return (head, size) if head <= size else (0, 0)


def decode_group(key: bytes, segment: int, block: int, data: Bytes) -> Group | None:
    """From at least the head. None when it is no group of this folder at this very place."""
    size, _ = measure(data)
    if not size or len(data) < size:
        return None
    (
        _, blocks, its_segment, its_block, vote_bytes, number, term, commit, base_index, base_term, first, count,
        member_bytes,
    ) = _HEADER.unpack_from(data)  # fmt: skip
    view = memoryview(data)
    if (its_segment, its_block) != (segment, block) or bytes(view[_HEADER.size : _START]) != _digest(
        key, view[: _HEADER.size], view[_START:size]
    ):
        return None
    vote, member = bytes(view[_START : _START + vote_bytes]), bytes(view[_START + vote_bytes :][:member_bytes])
    state = State(term, vote.decode(), commit, base_index, base_term, member)
    rows = list(_ROW.iter_unpack(view[size - _ROW.size * count : size]))
    return Group(number, Place(segment, block, blocks), state, first, rows, size)


def entries_of(group: Group, data: Bytes, first: int, last: int) -> list[tuple[int, bytes]]:
    """Entries `first` to `last` from `data`, which begins with the first of them."""
    view, at = memoryview(data), 0
    entries = []
    for index in range(first, last + 1):
        term, size, crc = group.rows[index - group.first]
        entry = bytes(view[at : at + size])
        if len(entry) != size or crc_of(index, term, entry) != crc:
            raise RaftLogCorruptError(f"entry {index} does not fit its checksum")
        entries.append((term, entry))
        at += size
    return entries


def damaged_entry(group: Group, data: Bytes) -> int:
    """The first entry of the whole group in `data` that is not as it was written; 0 = none."""
    view, at = memoryview(data), group.head_bytes
    for index, (term, size, crc) in enumerate(group.rows, start=group.first):
        entry = view[at : at + size]
        if len(entry) != size or crc_of(index, term, entry) != crc:
            return index
        at += size
    return 0


def crc_of(index: int, term: int, data: Bytes) -> int:
    return zlib.crc32(data, zlib.crc32(_CHECKED.pack(index, term)))


def _digest(key: bytes, header: Bytes, head: Bytes) -> bytes:
    digest = blake3.blake3(header, key=key)
    digest.update(head)
    return digest.digest(_DIGEST_BYTES)
