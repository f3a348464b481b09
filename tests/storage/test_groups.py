"""The form of a group, and the index of groups against a plain list."""

from __future__ import annotations

import random

import pytest

from node.storage.groups import (
    BLOCK,
    Place,
    State,
    blocks_of,
    damaged_entry,
    decode_group,
    encode_group,
    entries_of,
    measure,
)
from node.storage.log_errors import RaftLogCorruptError
from node.storage.log_index import LogIndex

KEY = bytes(range(32))
STATE = State(7, "n3", 40, 12, 3, b"member record")


def encoded(entries: list[tuple[int, bytes]], place: Place | None = None) -> bytes:
    place = place or Place(100, 9, blocks_of(STATE, entries))
    return b"".join(encode_group(KEY, 105, place, STATE, 41, entries))


@pytest.mark.parametrize(
    "entries",
    [
        [],
        [(7, b"")],
        [(6, b"one"), (7, b""), (7, b"x" * 9_000)],
        [(7, b"%d" % number) for number in range(3_000)],
    ],
)
def test_decoding_is_the_inverse_of_encoding(entries: list[tuple[int, bytes]]) -> None:
    data = encoded(entries)
    assert len(data) % BLOCK == 0
    head, size = measure(data)
    assert size == len(data)
    group = decode_group(KEY, 100, 9, data[:head])  # its head is enough
    assert group is not None
    assert (group.number, group.state, group.first, group.last) == (105, STATE, 41, 40 + len(entries))
    assert damaged_entry(group, data) == 0
    assert entries_of(group, data[head:], 41, group.last) == entries
    assert decode_group(KEY, 100, 9, data[: head - 1]) is None


def test_no_group_elsewhere_or_under_another_key() -> None:
    data = encoded([(7, b"data")])
    for key, segment, block in ((KEY[::-1], 100, 9), (KEY, 101, 9), (KEY, 100, 10)):
        assert decode_group(key, segment, block, data) is None
    for junk in (b"", bytes(BLOCK), data[1:], b"KJL2" + bytes(BLOCK), b"KJL2" + b"\xff" * BLOCK):
        assert decode_group(KEY, 100, 9, junk) is None


def test_every_flipped_bit_of_head_and_entries_is_found() -> None:
    data = encoded([(7, b"some"), (7, b"entries")])
    for bit in range(len(data.rstrip(b"\0")) * 8):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        group = decode_group(KEY, 100, 9, flipped)
        assert group is None or damaged_entry(group, flipped) > 0
        if group is not None:
            with pytest.raises(RaftLogCorruptError, match=r"entry 4[12] does not fit"):
                entries_of(group, flipped[group.head_bytes :], 41, 42)


@pytest.mark.parametrize("seed", range(20))
def test_index_finds_what_a_plain_list_finds(seed: int) -> None:
    chance = random.Random(seed)
    index, plain = LogIndex(), dict[int, tuple[int, Place]]()
    base = last = 0
    for number in range(200):
        first = last + 1 if chance.random() < 0.8 else chance.randrange(base + 1, last + 2)
        count = chance.choice((0, 1, 1, 5))
        place = Place(number // 10 * 10, number % 10 * 8, chance.randrange(1, 8))
        index.cut(first)
        last = first + count - 1
        plain = {entry: found for entry, found in plain.items() if entry < first}
        if count:
            index.add(first, last, place)
            plain |= dict.fromkeys(range(first, last + 1), (first, place))
        if chance.random() < 0.2:
            base = chance.randrange(base, last + 1)
        index.drop(base)
        plain = {entry: found for entry, found in plain.items() if entry > base}
        for entry, (its_first, its_place) in plain.items():
            found = index.find(entry)
            assert (found.place, found.first) == (its_place, its_first)
            assert plain[found.last][0] == its_first
            assert found.last == last or plain[found.last + 1][0] != its_first
        places = {its_place for _, its_place in plain.values()}
        assert len(index) == len(places)
        assert index.bytes == sum(its_place.blocks for its_place in places) * BLOCK
        for entry in (base if not plain else last + 1, last + 1):
            with pytest.raises(KeyError):
                index.find(entry)


def test_group_that_was_cut_and_compacted_in_part() -> None:
    index = LogIndex()
    index.add(1, 10, Place(1, 0, 2))
    index.cut(6)
    index.add(6, 8, Place(1, 2, 1))
    index.drop(3)
    assert index.find(4) == (Place(1, 0, 2), 1, 5)
    assert index.find(6) == (Place(1, 2, 1), 6, 8)
    index.drop(5)
    assert len(index) == 1
    index.drop(8)
    assert (len(index), index.bytes) == (0, 0)
