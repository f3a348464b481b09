"""The hash of the state: it costs what changed, and finds whatever differs."""

from __future__ import annotations

import numpy as np
import pytest

from node.ledger.state_digest import StateDigest, digest_in_any_order
from tests.ledger.plain_history import PlainLedger
from tests.ledger.test_state import history

NONE = np.zeros(0, dtype=np.int64)


def whole(rows: np.ndarray) -> bytes:
    return StateDigest().update(rows, np.zeros(len(rows), dtype=np.uint8))


@pytest.mark.parametrize("seed", range(5))
def test_what_changed_is_enough(seed: int) -> None:
    chance = np.random.default_rng(seed)
    rows = chance.integers(-(1 << 62), 1 << 62, (300, 48))
    dirty, digest, used = np.zeros(300, dtype=np.uint8), StateDigest(), 3
    for _ in range(40):
        used = min(300, used + int(chance.integers(0, 30)))
        touched = np.unique(chance.integers(0, used, 5))
        rows[touched, int(chance.integers(0, 48))] += 1
        dirty[touched] = 1
        if chance.random() < 0.5:  # a checkpoint takes the marks away
            digest.changed(np.flatnonzero(dirty))
            dirty[:] = 0
        assert digest.update(rows[:used], dirty) == whole(rows[:used])


def test_every_single_bit_and_every_place_count() -> None:
    rows = np.zeros((4, 48), dtype=np.int64)
    rows[1, 0], rows[2, 0] = 1, 2
    seen = {whole(rows), whole(rows[[0, 2, 1, 3]]), whole(rows[:3])}
    for column in (0, 17, 47):
        for bit in range(63):
            flipped = rows.copy()
            flipped[2, column] ^= 1 << bit
            seen.add(whole(flipped))
    assert len(seen) == 3 + 3 * 63


def test_waiting_transfers_have_no_order() -> None:
    rows = np.arange(40, dtype=np.int64).reshape(5, 8)
    numbers = np.array([0, 2, 3])
    assert digest_in_any_order(rows, numbers) == digest_in_any_order(rows[::-1].copy(), np.array([1, 2, 4]))
    assert digest_in_any_order(rows, numbers) != digest_in_any_order(rows, numbers[:2])
    assert digest_in_any_order(rows, NONE) == bytes(16)


def test_hashes_are_kept_at_agreed_positions_and_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("node.ledger.state.STATE_HASHES_MAX", 3)
    ledger = PlainLedger()
    ledger.state.hash_every = 5
    seen = {}
    for data in history(3):
        ledger.apply(data)
        seen[ledger.state.position] = ledger.state.state_hash()
    kept = ledger.state.hashes
    last = ledger.state.position // 5 * 5
    assert list(kept) == [last - 10, last - 5, last]
    assert all(kept[position] == seen[position] for position in kept)
