"""The client's own definition of the packed forms is the ledger's, byte for byte."""

from __future__ import annotations

import struct
import time

import numpy as np
import pytest

from kibubu_client import id_bytes, new_id, pack_transfer, records
from node.ledger import records as ledger
from node.ledger.statuses import Status


@pytest.mark.parametrize("name", ["TRANSFER", "REPLY"])
def test_the_dtypes_are_the_same(name: str) -> None:
    mine, theirs = getattr(records, name), getattr(ledger, name)
    assert mine.itemsize == theirs.itemsize
    assert mine.fields == theirs.fields


def test_flags_and_maximum_are_the_same() -> None:
    flags = ledger.TransferFlag
    assert (records.LINKED, records.PENDING, records.POST, records.VOID) == (
        flags.LINKED, flags.PENDING, flags.POST, flags.VOID,
    )  # fmt: skip
    assert (records.DUPLICATE, records.HELD) == (ledger.OutcomeFlag.DUPLICATE, ledger.OutcomeFlag.HELD)
    assert (records.HELD_FOR_REVIEW, records.REFUSED_BY_FRAUD_CHECK) == (
        Status.HELD_FOR_REVIEW, Status.REFUSED_BY_FRAUD_CHECK,
    )  # fmt: skip
    assert records.BATCH_TRANSFERS_MAX == ledger.BATCH_TRANSFERS_MAX


def test_every_field_lands_where_the_ledger_reads_it() -> None:
    packed = pack_transfer(
        (2 << 64) | 1, 3, 4, 5, ledger=12, code=13, flags=records.LINKED | records.PENDING, pending_id=(7 << 64) | 6,
        group_id=(9 << 64) | 8, reference=10, timeout_s=11, narrative=b"rent",
    )  # fmt: skip
    record = np.frombuffer(packed, ledger.TRANSFER)[0]
    assert [int(record[name]) for name in ledger.TRANSFER.names[:-1]] == [
        1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 3, 0,
    ]  # fmt: skip
    assert bytes(record["narrative"]).rstrip(b"\0") == b"rent"
    assert records.chain_is_open(packed)
    assert not records.chain_is_open(packed + pack_transfer(1, 2, 3, 4, ledger=1, code=1))


@pytest.mark.parametrize("amount_minor", [1 << 63, -(1 << 63) - 1])
def test_an_amount_that_does_not_fit_is_not_wrapped(amount_minor: int) -> None:
    with pytest.raises(struct.error):
        pack_transfer(1, 2, 3, amount_minor, ledger=404, code=9)


def test_a_long_narrative_is_not_cut() -> None:
    with pytest.raises(ValueError, match="narrative: at most 32 bytes, is 33"):
        pack_transfer(1, 2, 3, 4, ledger=404, code=9, narrative=b"x" * 33)


def test_ids_grow_with_time_and_differ() -> None:
    before_ms = time.time_ns() // 1_000_000
    made = [new_id() for _ in range(1_000)]
    after_ms = time.time_ns() // 1_000_000
    assert len(set(made)) == 1_000
    assert all(before_ms <= number >> 80 <= after_ms for number in made)
    assert len(id_bytes(made[0])) == 16
    assert int.from_bytes(id_bytes(made[0]), "big") == made[0]
