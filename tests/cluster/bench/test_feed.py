"""The generator: every id once and growing, two different known accounts in each transfer, whatever the batch."""

from __future__ import annotations

import numpy as np
import pytest

from cluster.accounts import LEDGER_KES
from cluster.bench.feed import BLOCK_TRANSFERS, TransferFeed
from cluster.packed import IdSource
from cluster.vocabulary import CODE_BENCH
from kibubu_client.records import TRANSFER

ACCOUNTS = [5, 9, 12, 40]


def ids(records: np.ndarray) -> list[int]:
    return [int(high) << 64 | int(low) for high, low in zip(records["id_hi"], records["id_lo"], strict=True)]


@pytest.mark.parametrize("batch", [1, 10, 1_000, BLOCK_TRANSFERS, 8_000])
def test_ids_are_fresh_and_grow_across_batches_and_blocks(batch: int) -> None:
    feed = TransferFeed(ACCOUNTS, batch)
    taken = [feed.take() for _ in range(2 * BLOCK_TRANSFERS // batch + 3)]
    assert {len(packed) for packed in taken} == {batch * TRANSFER.itemsize}
    seen = ids(np.frombuffer(b"".join(taken), TRANSFER))
    assert sorted(set(seen)) == seen


def test_two_generators_never_give_the_same_id() -> None:
    feeds = [TransferFeed(ACCOUNTS, 100) for _ in range(20)]
    seen = [number for feed in feeds for number in ids(np.frombuffer(feed.take(), TRANSFER))]
    assert len(set(seen)) == len(seen)
    shared = IdSource()
    joined = [TransferFeed(ACCOUNTS, 8_000, ids=shared).take() for _ in range(3)]
    assert len(set(ids(np.frombuffer(b"".join(joined), TRANSFER)))) == 24_000


def test_money_moves_between_two_different_known_accounts() -> None:
    records = np.frombuffer(TransferFeed(ACCOUNTS, 8_000).take(), TRANSFER)
    assert set(records["debit_account"].tolist()) == set(ACCOUNTS) == set(records["credit_account"].tolist())
    assert not (records["debit_account"] == records["credit_account"]).any()
    assert set(records["amount_minor"].tolist()) == {1}
    assert set(records["ledger"].tolist()) == {LEDGER_KES}
    assert set(records["code"].tolist()) == {CODE_BENCH}


def test_one_account_is_not_enough() -> None:
    with pytest.raises(ValueError, match="accounts: at least two, is 1"):
        TransferFeed([7], 10)
