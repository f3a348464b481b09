"""The hash tables against dicts, while they grow."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from node.ledger.kernel import PENDING_FIELDS
from node.ledger.records import TRANSFER_WORDS
from node.ledger.tables import (
    ID_TABLE_MIN,
    PENDING_TABLE_MIN,
    IdTable,
    copy_pending,
    find_pending,
    insert_pending,
    signed_words,
)

# Few words, so that ids collide in one of the two; high bits, so that signs matter.
words = st.sampled_from([0, 1, 2, 3, 1 << 31, (1 << 63) - 1, 1 << 63, (1 << 64) - 1])
ids = st.tuples(words, words).map(lambda pair: pair[1] << 64 | pair[0])
NO_IDS = (0, (1 << 128) - 1)


def as_words(numbers: list[int]) -> np.ndarray:
    batch = np.zeros((len(numbers), TRANSFER_WORDS), dtype=np.int64)
    for i, number in enumerate(numbers):
        batch[i, 0], batch[i, 1] = signed_words(number)
    return batch


def check(table: IdTable, model: dict[int, int], also: list[int]) -> None:
    wanted = [*model, *also]
    found = np.zeros(len(wanted), dtype=np.int64)
    missing = table.find_ids(as_words(wanted), found)
    assert found.tolist() == [model.get(number, 0) for number in wanted]
    assert missing == found.tolist().count(0)
    assert table.count == len(model)


@given(st.lists(st.lists(ids, max_size=12), max_size=8), st.lists(ids, max_size=5))
def test_ids_lead_to_their_first_appearance(batches: list[list[int]], also: list[int]) -> None:
    table, model = IdTable(), {}
    for position, batch in enumerate(batches, start=1):
        known = np.zeros(len(batch), dtype=np.int64)
        new = table.note(as_words(batch), position, known)
        expected_new = []
        for offset, number in enumerate(batch):
            if number in NO_IDS:
                assert known[offset] == 0
            elif number in model:
                assert known[offset] == model[number]
            else:
                assert known[offset] == 0
                model[number] = position << 16 | offset
                expected_new.append(offset)
        assert new.tolist() == expected_new
        check(table, model, [*also, *NO_IDS])


def test_ids_are_kept_while_the_table_grows() -> None:
    table, model = IdTable(), {}
    chance = np.random.default_rng(5)
    for position in range(1, 12):
        numbers = [int(n) << 64 | position for n in chance.integers(0, 1 << 64, 3_000, dtype=np.uint64)]
        table.note(as_words(numbers), position, np.zeros(len(numbers), dtype=np.int64))
        for offset, number in enumerate(numbers):
            model.setdefault(number, position << 16 | offset)
    assert len(table.slots) > ID_TABLE_MIN
    assert 2 * table.count <= len(table.slots)
    check(table, model, [number ^ 1 for number in list(model)[:500]])
    stored, refs = table.recorded()
    assert refs.tolist() == list(model.values())
    assert stored[:, 0].tolist() == [number & (1 << 64) - 1 for number in model]
    assert table.successor().count == 0


def test_pending_rows_are_found_and_kept_by_state() -> None:
    keys = np.zeros((PENDING_TABLE_MIN, 2), dtype=np.int64)
    rows = np.zeros((PENDING_TABLE_MIN, PENDING_FIELDS), dtype=np.int64)
    numbers = [n << 64 | 3 for n in range(PENDING_TABLE_MIN // 2)]
    for n, number in enumerate(numbers):
        at = insert_pending(keys, rows, *signed_words(number))
        rows[at] = n
        rows[at, 0] = 1 + n % 2
    for n, number in enumerate(numbers):
        assert rows[find_pending(keys, rows, *signed_words(number)), 1] == n
    assert find_pending(keys, rows, *signed_words(1 << 127)) == -1
    new_keys, new_rows = np.zeros_like(keys), np.zeros_like(rows)
    assert copy_pending(keys, rows, new_keys, new_rows, 1) == len(numbers) // 2
    kept = [find_pending(new_keys, new_rows, *signed_words(number)) >= 0 for number in numbers]
    assert kept == [n % 2 == 0 for n in range(len(numbers))]
