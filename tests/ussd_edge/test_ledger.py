"""The ids under which the edge asks: the same step is the same payment, everything else is another."""

from __future__ import annotations

from ussd_edge.ledger import step_id

BASE = ("africastalking", "s1", "254712000001", 3, "1\x1f0712000002\x1f50000\x1f")


def test_the_same_step_has_the_same_id_and_any_difference_another() -> None:
    assert step_id(*BASE) == step_id(*BASE)
    assert len(step_id(*BASE)) == 16
    others = [
        ("hubtel", *BASE[1:]),
        (BASE[0], "s2", *BASE[2:]),
        (*BASE[:2], "254712000009", *BASE[3:]),
        (*BASE[:3], 4, BASE[4]),
        (*BASE[:4], "1\x1f0712000002\x1f50001\x1f"),
        (*BASE[:4], "balance"),
    ]
    assert len({step_id(*parts) for parts in (BASE, *others)}) == len(others) + 1
