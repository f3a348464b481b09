"""A stored batch: what goes in comes out; what does not fit its own lengths is broken history."""

from __future__ import annotations

import numpy as np
import pytest

from node.ledger.entry import encode_entry
from node.ledger.history import AppliedBatch, BrokenHistoryError
from node.storage.batch_codec import chain_hash_of, decode_batch, encode_batch, open_batch
from tests.ledger.building import transfer


def batch(transfers: int = 2, expired: tuple[int, ...] = (5, 1 << 40)) -> AppliedBatch:
    packed = b"".join(transfer(n + 1, 1, 2, 3).tobytes() for n in range(transfers))
    outcomes = np.arange(transfers * 8, dtype=np.int64).reshape(transfers, 8)
    entry = encode_entry(9, commands=b"odd", transfers=packed)
    return AppliedBatch(77, 9, entry, outcomes, expired, b"h" * 32)


@pytest.mark.parametrize("transfers", [0, 1, 3])
@pytest.mark.parametrize("expired", [(), (5,), (5, 1 << 40)])
def test_round_trip(transfers: int, expired: tuple[int, ...]) -> None:
    one = batch(transfers, expired)
    value = encode_batch(one)
    other = decode_batch(value)
    for name in ("position", "timestamp_ns", "entry", "expired", "chain_hash"):
        assert getattr(other, name) == getattr(one, name), name
    assert np.array_equal(other.outcomes, one.outcomes)
    assert chain_hash_of(value) == one.chain_hash
    opened = open_batch(other)
    assert [int(opened.words(n)[0]) for n in range(transfers)] == [n + 1 for n in range(transfers)]
    assert opened.outcome_records()["original"].tolist() == [8 * n + 7 for n in range(transfers)]


def test_a_no_op_holds_no_transfers() -> None:
    none = np.zeros((0, 8), dtype=np.int64)
    value = encode_batch(AppliedBatch(4, 9, b"", none, (), b"h" * 32))
    assert decode_batch(value).entry == b""
    with pytest.raises(BrokenHistoryError, match="no-op"):
        open_batch(decode_batch(value))


def test_every_truncation_and_extension_is_broken_history() -> None:
    value = encode_batch(batch())
    for length in range(len(value)):
        with pytest.raises(BrokenHistoryError):
            decode_batch(value[:length])
    with pytest.raises(BrokenHistoryError, match="lengths"):
        decode_batch(value + b"\0")


@pytest.mark.parametrize("at", [0, 1, 2, 3, 4, 24, 28])  # version, zero, expired, entry's length, outcomes
def test_a_damaged_header_is_broken_history(at: int) -> None:
    value = bytearray(encode_batch(batch()))
    value[at] ^= 2
    with pytest.raises(BrokenHistoryError, match="stored batch"):
        decode_batch(bytes(value))
