"""The packed records are a format on the wire and on disk: sizes, places and byte order do not move."""

from __future__ import annotations

import numpy as np
import pytest

from node.ledger.records import (
    OUTCOME,
    OUTCOME_WORDS,
    PAYMENT,
    PAYMENT_WORDS,
    REPLY,
    REPLY_WORDS,
    TRANSFER,
    TRANSFER_WORDS,
    id_keys,
    leg_id,
    split_id,
    transfers_from_bytes,
)
from tests.ledger.building import joined, transfer

PLACES = {
    "id_lo": 0, "id_hi": 8, "debit_account": 16, "credit_account": 24, "amount_minor": 32, "pending_id_lo": 40,
    "pending_id_hi": 48, "group_id_lo": 56, "group_id_hi": 64, "reference": 72, "timeout_s": 80, "ledger": 84,
    "code": 88, "flags": 90, "scoring": 92, "narrative": 96,
}  # fmt: skip


def test_the_layout_is_fixed() -> None:
    assert {name: TRANSFER.fields[name][1] for name in TRANSFER.names or ()} == PLACES  # type: ignore[index]
    sizes = ((TRANSFER, TRANSFER_WORDS), (OUTCOME, OUTCOME_WORDS), (REPLY, REPLY_WORDS), (PAYMENT, PAYMENT_WORDS))
    assert [(dtype.itemsize, words * 8) for dtype, words in sizes] == [(128, 128), (64, 64), (64, 64), (128, 128)]
    assert transfer(1, 2, 3, -2).tobytes()[32:40] == (-2).to_bytes(8, "little", signed=True)


@pytest.mark.parametrize("length", [1, 127, 129, 255])
def test_packed_transfers_must_be_whole(length: int) -> None:
    with pytest.raises(ValueError, match="multiple of 128"):
        transfers_from_bytes(bytes(length))
    assert len(transfers_from_bytes(bytes(256))) == 2


def test_id_keys_sort_like_the_ids() -> None:
    ids = [0, 1, 255, 256, 1 << 63, (1 << 64) - 1, 1 << 64, (1 << 127) + 5, (1 << 128) - 1]
    keys = id_keys(joined([transfer(number) for number in ids]))
    parts = [keys[at : at + 16] for at in range(0, len(keys), 16)]
    assert parts == sorted(parts) == [number.to_bytes(16, "big") for number in ids]
    assert [split_id(number) for number in ids[5:7]] == [((1 << 64) - 1, 0), (0, 1)]


def test_legs_have_ids_of_their_own() -> None:
    payment = 0x0192_3456_789A << 80 | 77
    legs = {leg_id(payment, leg) for leg in range(16)}
    assert len(legs) == 16
    assert payment in legs
    assert all(leg & ((1 << 124) - 1) == payment for leg in legs)
    assert np.iinfo(np.int64).max >= (1 << 48 << 14)  # a reference fits a word for a long time
