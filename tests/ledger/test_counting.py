"""The counts behind the metrics, against counting by hand."""

from __future__ import annotations

from collections import Counter

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from node.ledger.counting import by_kind_and_outcome, count_transfers, new_counts
from node.ledger.records import OUTCOME, OUTCOME_WORDS, TRANSFER, TRANSFER_WORDS, OutcomeFlag, TransferFlag

FLAG = {"single": 0, "pending": TransferFlag.PENDING, "post": TransferFlag.POST, "void": TransferFlag.VOID}
KIND = st.sampled_from(list(FLAG))
STATUS = st.sampled_from([0, 1, 54, 65_535])


@given(st.lists(st.tuples(KIND, st.booleans(), STATUS, st.booleans()), max_size=40))
def test_each_transfer_is_counted_once_under_its_kind_and_its_outcome(
    batch: list[tuple[str, bool, int, bool]],
) -> None:
    transfers, outcomes = np.zeros(len(batch), TRANSFER), np.zeros(len(batch), OUTCOME)
    transfers["code"] = 65_535
    transfers["flags"] = [int(FLAG[kind]) | (int(TransferFlag.LINKED) if linked else 0) for kind, linked, _, _ in batch]
    outcomes["status"] = [status for _, _, status, _ in batch]
    outcomes["flags"] = [int(OutcomeFlag.DUPLICATE) if duplicate else 0 for _, _, _, duplicate in batch]
    counts = new_counts()
    for _ in range(2):  # batches add up
        count_transfers(
            transfers.view(np.int64).reshape(-1, TRANSFER_WORDS), outcomes.view(np.int64).reshape(-1, OUTCOME_WORDS),
            counts,
        )  # fmt: skip
    by_hand = Counter(
        (kind, "duplicate" if duplicate else "refused" if status else "ok") for kind, _, status, duplicate in batch
    )
    assert {key: count for key, count in by_kind_and_outcome(counts).items() if count} == {
        key: 2 * count for key, count in by_hand.items()
    }
