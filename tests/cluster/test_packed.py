"""The load generators' batches and the commands' ids."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from cluster.ids import fixed_id, new_id
from cluster.packed import IdSource, fresh_batch, id_bytes, template


def ids_of(high: int, low: np.ndarray) -> list[int]:
    return [high << 64 | int(word) for word in low]


def test_ids_grow_with_time_and_never_repeat_whoever_takes_them() -> None:
    source = IdSource()
    before_ms = time.time_ns() // 1_000_000
    with ThreadPoolExecutor(8) as many:
        taken = [number for part in many.map(lambda _: ids_of(*source.take(100)), range(50)) for number in part]
    assert len(set(taken)) == 5_000
    assert all(before_ms <= number >> 80 <= time.time_ns() // 1_000_000 for number in taken)
    first, second = ids_of(*source.take(3)), ids_of(*source.take(3))
    assert sorted(first + second) == first + second


def test_a_batch_is_a_copy_with_its_own_ids_and_accounts() -> None:
    form = template(3, amount_minor=5, ledger=404, code=9)
    debit, credit = np.array([1, 2, 3], np.uint64), np.array([4, 5, 6], np.uint64)
    batch = fresh_batch(form, IdSource(), debit, credit)
    assert batch["debit_account"].tolist() == [1, 2, 3]
    assert batch["credit_account"].tolist() == [4, 5, 6]
    assert batch["amount_minor"].tolist() == [5, 5, 5]
    assert not form["id_lo"].any()
    assert int.from_bytes(id_bytes(batch[1]), "big") == int(batch["id_hi"][1]) << 64 | int(batch["id_lo"][1])


def test_fixed_ids_are_always_the_same_and_before_all_others() -> None:
    assert fixed_id("a") == fixed_id("a") != fixed_id("b")
    assert len(fixed_id("a")) == len(new_id()) == 16
    assert fixed_id("a") < new_id()
